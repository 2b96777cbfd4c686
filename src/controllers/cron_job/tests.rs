//! CronJobs as a whole.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::api::batch::JobCondition;
use crate::api::convert::Convert;
use crate::api::defaults::Defaults;
use crate::api::meta::{Timestamp, Uid};
use crate::api::object::Resource;
use crate::api::pod::ConditionStatus;
use crate::controllers::testing::Server;

/// The CronJob controller and the API server, second by second; the CronJob is named `c`.
struct Bed {
    server: Server,
    controllers: Vec<Box<dyn Controller>>,
    later: BTreeSet<(u64, usize, ObjectKey)>,
}

impl Bed {
    fn new(spec: Value, created: u64) -> Bed {
        let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
        let job = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"template": pod}});
        let mut merged = json!({"schedule": "* * * * *", "jobTemplate": job});
        json_patch::merge(&mut merged, &spec);
        let full =
            json!({"metadata": {"name": "c", "namespace": "default", "uid": Uid(5).to_string()}, "spec": merged});
        let mut full: <CronJob as Convert>::Full = serde_json::from_value(full).expect("a CronJob");
        full.set_defaults();
        let mut cron_job = CronJob::from_full(full).expect("a CronJob");
        cron_job.meta.created = Timestamp(created as i64);
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(CronJobController::new(&Config::default()))];
        let mut bed = Bed { server: Server::at(created), controllers, later: BTreeSet::new() };
        bed.server.put(cron_job.boxed());
        bed.settle();
        bed
    }

    fn settle(&mut self) {
        self.server.settle(&self.controllers, &mut self.later);
    }

    /// Lets time pass up to a second.
    fn to(&mut self, second: u64) {
        while self.server.seconds < second {
            self.server.seconds += 1;
            self.settle();
        }
    }

    fn end(&mut self, name: &str, kind: &'static str) {
        let now = Timestamp(self.server.seconds as i64);
        self.server.edit::<Job>("default", name, |job| {
            job.status.completion_time = (kind == "Complete").then_some(now);
            job.status.start_time = Some(now);
            job.status.conditions.push(JobCondition {
                kind: Name::of(kind),
                status: ConditionStatus::True,
                reason: Name::EMPTY,
                message: Name::EMPTY,
                last_probe: now,
                last_transition: now,
            });
        });
        self.settle();
    }

    fn jobs(&self) -> Vec<String> {
        self.server.all::<Job>().iter().map(|job| job.meta.name.to_string()).collect()
    }

    fn active(&self) -> usize {
        self.server.get::<CronJob>("default", "c").map_or(0, |cron_job| cron_job.status.active.len())
    }
}

#[test]
fn a_job_is_started_at_each_whole_minute_and_named_after_it() {
    let mut bed = Bed::new(json!({}), 90);
    bed.to(120);
    assert!(bed.jobs().is_empty(), "a tenth of a second later");
    bed.to(121);
    assert_eq!(bed.jobs(), ["c-2"]);
    let job = bed.server.get::<Job>("default", "c-2").expect("the Job").clone();
    let scheduled = job.meta.annotations.get("batch.kubernetes.io/cronjob-scheduled-timestamp");
    assert_eq!(scheduled.map(Name::as_str), Some("1970-01-01T00:02:00Z"));
    assert_eq!(job.meta.labels.get("a").map(Name::as_str), Some("b"));
    bed.to(181);
    assert_eq!((bed.jobs(), bed.active()), (vec!["c-2".to_owned(), "c-3".to_owned()], 2), "both may run");
    let cron_job = bed.server.get::<CronJob>("default", "c").expect("the CronJob");
    assert_eq!(cron_job.status.last_schedule_time, Some(Timestamp(180)));
    assert_eq!(bed.server.events, ["SuccessfulCreate Created job c-2", "SuccessfulCreate Created job c-3"]);
}

#[test]
fn forbid_waits_until_the_old_job_has_ended_and_then_starts_at_once() {
    let mut bed = Bed::new(json!({"concurrencyPolicy": "Forbid"}), 90);
    bed.to(190);
    assert_eq!(bed.jobs(), ["c-2"]);
    let forbidden =
        "JobAlreadyActive Not starting job because prior execution is running and concurrency policy is Forbid";
    assert_eq!(bed.server.events.last().map(String::as_str), Some(forbidden));
    bed.end("c-2", "Complete");
    assert_eq!((bed.jobs(), bed.active()), (vec!["c-2".to_owned(), "c-3".to_owned()], 1));
    assert_eq!(
        bed.server.events[2..],
        ["SawCompletedJob Saw completed job: c-2, condition: Complete", "SuccessfulCreate Created job c-3"]
    );
}

#[test]
fn replace_deletes_the_old_job_and_starts_the_new_one() {
    let mut bed = Bed::new(json!({"concurrencyPolicy": "Replace"}), 90);
    bed.to(181);
    assert_eq!((bed.jobs(), bed.active()), (vec!["c-3".to_owned()], 1));
    assert_eq!(bed.server.events[1..], ["SuccessfulDelete Deleted job c-2", "SuccessfulCreate Created job c-3"]);
}

#[test]
fn old_jobs_are_kept_only_up_to_the_limits() {
    let mut bed = Bed::new(json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}), 90);
    for (minute, kind) in [(2, "Complete"), (3, "Failed"), (4, "Complete"), (5, "Complete")] {
        bed.to(minute * 60 + 1);
        bed.end(&format!("c-{minute}"), kind);
    }
    assert_eq!((bed.jobs(), bed.active()), (vec!["c-5".to_owned()], 0));
    let cron_job = bed.server.get::<CronJob>("default", "c").expect("the CronJob");
    assert_eq!(cron_job.status.last_successful_time, Some(Timestamp(301)));
}

#[test]
fn times_that_were_missed_are_made_good_once_unless_it_is_too_late() {
    let suspend = |bed: &mut Bed, suspend: bool| {
        bed.server.edit::<CronJob>("default", "c", |it| Rc::make_mut(&mut it.spec).full.suspend = Some(suspend));
        bed.settle();
    };
    let mut bed = Bed::new(json!({"suspend": true, "schedule": "*/10 * * * *"}), 0);
    bed.to(1900);
    suspend(&mut bed, false);
    assert_eq!(bed.jobs(), ["c-30"], "only the latest");
    let mut late = Bed::new(json!({"suspend": true, "schedule": "*/10 * * * *", "startingDeadlineSeconds": 60}), 0);
    late.to(1900);
    suspend(&mut late, false);
    assert!(late.jobs().is_empty());
    let mut many = Bed::new(json!({"suspend": true}), 0);
    many.to(6_200);
    suspend(&mut many, false);
    let told = "TooManyMissedTimes too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
    assert_eq!((many.jobs(), many.server.events[0].as_str()), (vec!["c-103".to_owned()], told));
}

#[test]
fn a_time_zone_moves_the_times() {
    let mut bed = Bed::new(json!({"schedule": "30 5 * * *", "timeZone": "Asia/Kolkata"}), 0);
    bed.to(101);
    assert_eq!(bed.jobs(), Vec::<String>::new(), "half past five was at midnight UTC, just before");
    bed.to(86_401);
    let job = bed.server.get::<Job>("default", "c-1440").expect("the next day's");
    let scheduled = job.meta.annotations.get("batch.kubernetes.io/cronjob-scheduled-timestamp");
    assert_eq!(scheduled.map(Name::as_str), Some("1970-01-02T05:30:00+05:30"));
}

#[test]
fn a_new_schedule_is_waited_for_and_not_applied_to_the_past() {
    let mut bed = Bed::new(json!({"schedule": "0 0 1 1 *"}), 0);
    bed.to(1000);
    bed.server.edit::<CronJob>("default", "c", |it| {
        Rc::make_mut(&mut it.spec).full.schedule = "*/5 * * * *".to_owned();
    });
    bed.settle();
    bed.to(1200);
    assert!(bed.jobs().is_empty());
    bed.to(1201);
    assert_eq!(bed.jobs(), ["c-20"]);
}
