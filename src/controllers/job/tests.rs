//! Jobs as a whole, by stories and by chance.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::api::convert::Convert;
use crate::api::defaults::Defaults;
use crate::api::instance_id::InstanceId;
use crate::api::meta::{Timestamp, Uid};
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::api::pod::{
    ConditionStatus, ContainerState, ContainerStatus, PodCondition, PodConditionType, PodPhase, Terminated, Why,
};
use crate::api::shared::Shared;
use crate::apiserver::protocol::Operation;
use crate::apiserver::status::{Reason, Status};
use crate::controllers::testing::{Server, container_status};
use crate::engine::random::{Seed, Stream};

/// The Job controller and the API server, second by second.
struct Bed {
    server: Server,
    controllers: Vec<Box<dyn Controller>>,
    later: BTreeSet<(u64, usize, ObjectKey)>,
}

impl Bed {
    /// A Job named `j`, created at second 100.
    fn new(spec: Value) -> Bed {
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
        let mut merged = json!({"template": template});
        json_patch::merge(&mut merged, &spec);
        let full =
            json!({"metadata": {"name": "j", "namespace": "default", "uid": Uid(9).to_string()}, "spec": merged});
        let mut full: <Job as Convert>::Full = serde_json::from_value(full).expect("a Job");
        full.set_defaults();
        let mut job = Job::from_full(full).expect("a Job");
        job.generate_selector();
        job.meta.generation = 1;
        let mut bed = Bed { server: Server::at(100), controllers: Vec::new(), later: BTreeSet::new() };
        bed.restart();
        bed.server.put(job.boxed());
        bed.settle();
        bed
    }

    /// A new controller, which remembers nothing.
    fn restart(&mut self) {
        self.controllers = vec![Box::new(JobController::new(&Config::default()))];
    }

    fn settle(&mut self) {
        self.server.settle(&self.controllers, &mut self.later);
    }

    /// Lets time pass.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.server.seconds += 1;
            self.settle();
        }
    }

    fn job(&self) -> Rc<Job> {
        self.server.get::<Job>("default", "j").expect("the Job").clone()
    }

    fn edit(&mut self, change: impl FnOnce(&mut Job)) {
        self.server.edit::<Job>("default", "j", change);
        self.settle();
    }

    fn pods(&self) -> Vec<Rc<Pod>> {
        self.server.all::<Pod>()
    }

    fn active(&self) -> Vec<Rc<Pod>> {
        self.pods().into_iter().filter(|pod| pod.is_active()).collect()
    }

    /// The only container of a pod ends.
    fn end(&mut self, pod: &Pod, code: i32) {
        let now = Timestamp(self.server.seconds as i64);
        let phase = if code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
        self.server.edit::<Pod>("default", &pod.meta.name, |pod| {
            pod.status.phase = phase;
            pod.status.containers = [ended(code, now)].into();
        });
        self.settle();
    }

    /// What the status says: active, succeeded, failed.
    fn counts(&self) -> (i32, i32, i32) {
        let status = &self.job().status;
        (status.active, status.succeeded, status.failed)
    }

    /// The conditions that are true, in their order.
    fn conditions(&self) -> Vec<String> {
        let job = self.job();
        let holds = job.status.conditions.iter().filter(|it| it.status == ConditionStatus::True);
        holds.map(|it| format!("{} {}", it.kind, it.reason)).collect()
    }
}

fn ended(exit_code: i32, at: Timestamp) -> ContainerStatus {
    let end = Terminated {
        exit_code,
        reason: Name::of("Completed"),
        message: None,
        started_at: Some(at),
        finished_at: Some(at),
        container_id: InstanceId::None,
    };
    ContainerStatus { state: ContainerState::Terminated(end.into()), ..container_status("c", 0) }
}

#[test]
fn a_job_runs_its_pods_in_waves_and_counts_each_before_it_lets_it_go() {
    let mut bed = Bed::new(json!({"completions": 3, "parallelism": 2}));
    assert_eq!(bed.counts(), (2, 0, 0));
    let pods = bed.active();
    assert!(pods.iter().all(|pod| pod.is_tracked() && Rc::ptr_eq(&pod.spec, &bed.job().spec.pod_spec)));
    pods.iter().for_each(|pod| bed.end(pod, 0));
    bed.server.writes.clear();
    bed.pass(1);
    let status = "update status of job/default/j".to_owned();
    let patches: Vec<String> = pods.iter().map(|pod| format!("patch pod/default/{}", pod.meta.name)).collect();
    let expected = ["create pod/default/j-00003".to_owned(), status.clone()].into_iter().chain(patches).chain([status]);
    assert_eq!(bed.server.writes, expected.collect::<Vec<_>>());
    assert_eq!(bed.counts(), (1, 2, 0));
    bed.active().iter().for_each(|pod| bed.end(pod, 0));
    bed.pass(1);
    assert_eq!(bed.counts(), (0, 3, 0));
    assert_eq!(bed.conditions(), ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]);
    assert_eq!(bed.job().status.completion_time, Some(Timestamp(102)));
    assert_eq!(bed.server.events.last().map(String::as_str), Some("Completed Job completed"));
    assert!(bed.pods().iter().all(|pod| !pod.is_tracked()));
    let writes = bed.server.writes.len();
    bed.pass(5);
    assert_eq!(bed.server.writes.len(), writes, "a Job that has ended is left alone");
}

#[test]
fn failures_are_made_good_after_ten_seconds_then_twenty_until_there_were_too_many() {
    let mut bed = Bed::new(json!({"backoffLimit": 2}));
    for wait in [10, 20] {
        bed.active().iter().for_each(|pod| bed.end(pod, 1));
        bed.pass(wait - 1);
        assert_eq!(bed.active().len(), 0);
        bed.pass(1);
        assert_eq!(bed.active().len(), 1, "after {wait} s");
    }
    bed.active().iter().for_each(|pod| bed.end(pod, 1));
    bed.pass(1);
    assert_eq!(bed.conditions(), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
    assert_eq!(bed.counts(), (0, 0, 3));
    let last = "BackoffLimitExceeded Job has reached the specified backoff limit";
    assert_eq!(bed.server.events.last().map(String::as_str), Some(last));
}

#[test]
fn each_pod_of_an_indexed_job_has_an_index_of_its_own() {
    let mut bed = Bed::new(json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed"}));
    let pods = bed.active();
    let hostnames: Vec<_> = pods.iter().filter_map(|pod| pod.hostname()).collect();
    assert_eq!(hostnames, ["j-0", "j-1", "j-2"]);
    assert_eq!(pods[1].meta.labels.get("batch.kubernetes.io/job-completion-index").map(Name::as_str), Some("1"));
    assert_eq!(pods[1].meta.generate_name.as_deref(), Some("j-1-"));
    let variables = pods[1].spec.full.containers[0].env.as_ref().map(|env| env[0].name.as_str());
    assert_eq!(variables, Some("JOB_COMPLETION_INDEX"));
    bed.end(&pods[0], 0);
    bed.end(&pods[2], 0);
    bed.pass(1);
    assert_eq!(bed.job().status.completed_indexes.as_str(), "0,2");
    assert_eq!(bed.job().status.uncounted.as_ref().map(|it| it.succeeded.len()), Some(0), "the index is enough");
    bed.active().iter().for_each(|pod| bed.end(pod, 0));
    bed.pass(1);
    assert_eq!((bed.job().status.completed_indexes.as_str(), bed.counts()), ("0-3", (0, 4, 0)));
}

#[test]
fn an_index_that_fails_too_often_is_given_up_and_the_others_go_on() {
    let spec = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1});
    let mut bed = Bed::new(spec);
    let pods = bed.active();
    bed.end(&pods[0], 1);
    bed.pass(2);
    // The failed pod stays until its replacement knows how often its index has failed.
    assert!(bed.pods()[0].is_tracked());
    bed.pass(9);
    let again = bed.active().into_iter().find(|pod| pod.completion_index() == Some(0)).expect("a replacement");
    let failures = again.meta.annotations.get("batch.kubernetes.io/job-index-failure-count");
    assert_eq!(failures.map(Name::as_str), Some("1"));
    bed.pass(1);
    assert_eq!(bed.counts(), (2, 0, 1));
    bed.end(&again, 1);
    bed.pass(1);
    assert_eq!(bed.job().status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(bed.conditions(), Vec::<String>::new());
    bed.end(&pods[1], 0);
    bed.pass(1);
    assert_eq!(bed.conditions(), ["FailureTarget FailedIndexes", "Failed FailedIndexes"]);
    assert_eq!(bed.counts(), (0, 1, 2));
}

#[test]
fn the_failure_policy_ignores_disruptions_and_ends_the_job_at_a_fatal_code() {
    let rules = json!([
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]);
    let mut bed = Bed::new(json!({"backoffLimit": 0, "podFailurePolicy": {"rules": rules}}));
    let pod = bed.active().remove(0);
    bed.end(&pod, 1);
    bed.server.edit::<Pod>("default", &pod.meta.name, |pod| {
        pod.status.conditions.push(PodCondition {
            kind: PodConditionType::DisruptionTarget,
            status: ConditionStatus::True,
            why: Why::NONE,
            last_transition: Timestamp(100),
            observed_generation: 0,
        });
    });
    bed.pass(11);
    assert_eq!(bed.counts(), (1, 0, 0), "what is ignored does not count, but is waited for");
    let pod = bed.active().remove(0);
    bed.end(&pod, 42);
    bed.pass(1);
    assert_eq!(bed.conditions(), ["FailureTarget PodFailurePolicy", "Failed PodFailurePolicy"]);
    let why = format!(
        "Container c for pod default/{} failed with exit code 42 matching FailJob rule at index 1",
        pod.meta.name
    );
    assert_eq!(bed.job().status.condition("Failed").map(|it| it.message.as_str().to_owned()), Some(why));
}

#[test]
fn a_suspended_job_loses_its_pods_and_begins_anew_when_it_is_resumed() {
    let suspend = |job: &mut Job, suspend: bool| {
        Rc::make_mut(&mut job.spec).full.suspend = Some(suspend);
        job.meta.generation += 1;
    };
    let mut bed = Bed::new(json!({"parallelism": 2, "completions": 2, "activeDeadlineSeconds": 8}));
    bed.pass(5);
    bed.edit(|job| suspend(job, true));
    assert_eq!((bed.counts(), bed.job().status.terminating), ((0, 0, 0), Some(2)));
    assert_eq!((bed.conditions(), bed.job().status.start_time), (vec!["Suspended JobSuspended".to_owned()], None));
    assert!(bed.pods().iter().all(|pod| pod.meta.is_deleting() && !pod.is_tracked()), "nobody counts them");
    bed.pods().iter().for_each(|pod| bed.server.vanish(&owner::key_of(&**pod)));
    bed.pass(20);
    bed.edit(|job| suspend(job, false));
    assert_eq!((bed.counts(), bed.job().status.start_time), ((2, 0, 0), Some(Timestamp(125))));
    bed.pass(8);
    assert_eq!(bed.conditions(), ["FailureTarget DeadlineExceeded"], "its pods are still about");
    bed.pods().iter().for_each(|pod| bed.server.vanish(&owner::key_of(&**pod)));
    bed.pass(1);
    assert_eq!(bed.conditions(), ["FailureTarget DeadlineExceeded", "Failed DeadlineExceeded"]);
    assert_eq!(bed.counts(), (0, 0, 2));
}

#[test]
fn a_success_policy_ends_the_job_before_all_indexes_are_done() {
    let rules = json!([{"succeededIndexes": "0,2-3", "succeededCount": 1}]);
    let spec =
        json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "successPolicy": {"rules": rules}});
    let mut bed = Bed::new(spec);
    let pods = bed.active();
    bed.end(&pods[1], 0);
    bed.pass(1);
    assert_eq!(bed.conditions(), Vec::<String>::new());
    bed.end(&pods[2], 0);
    bed.pass(1);
    assert_eq!(bed.conditions(), ["SuccessCriteriaMet SuccessPolicy"]);
    assert!(bed.active().is_empty(), "the others are not needed");
    let leaving = bed.pods().into_iter().filter(|pod| pod.meta.is_deleting());
    leaving.for_each(|pod| bed.server.vanish(&owner::key_of(&*pod)));
    bed.pass(1);
    assert_eq!(bed.conditions(), ["SuccessCriteriaMet SuccessPolicy", "Complete SuccessPolicy"]);
    assert_eq!(
        bed.job().status.condition("Complete").map(|it| it.message.as_str().to_owned()),
        Some("Matched rules at index 0".to_owned())
    );
}

#[test]
fn pods_of_a_job_that_is_gone_lose_its_finalizer() {
    let mut bed = Bed::new(json!({"parallelism": 2, "completions": 2}));
    bed.server.vanish(&owner::key_of(&*bed.job()));
    bed.settle();
    assert!(bed.pods().iter().all(|pod| !pod.is_tracked()));
}

#[test]
fn the_pods_of_a_job_that_is_gone_are_gone_through_one_by_one_and_once() {
    let mut bed = Bed::new(json!({"parallelism": 3, "completions": 3}));
    let job = bed.job();
    bed.server.vanish(&owner::key_of(&*job));
    bed.server.tell(&*bed.controllers[0]);
    let now = bed.server.now();
    let plan = bed.controllers[0].reconcile(&bed.server.cache.view(), &orphans::all_of(&job), now);
    assert_eq!(plan.steps.len(), 1, "one request at a time");
    bed.server.failing = Some(Box::new(|operation| {
        let Operation::Patch { key, .. } = operation else { return None };
        key.name.ends_with("00002").then(|| Status::new(Reason::InternalError, "not now"))
    }));
    bed.server.writes.clear();
    assert_eq!(bed.server.carry_out(plan), Again::OnChange);
    assert_eq!(bed.server.writes, ["patch pod/default/j-00001", "patch pod/default/j-00003"]);
    assert_eq!(bed.pods().iter().filter(|pod| pod.is_tracked()).count(), 1);
}

#[test]
fn a_job_of_another_controller_is_left_alone() {
    let mut bed = Bed::new(json!({"managedBy": "example.com/queue"}));
    bed.pass(3);
    assert!(bed.server.writes.is_empty());
}

#[test]
fn an_orphan_that_fits_is_adopted_and_counted() {
    let mut bed = Bed::new(json!({"parallelism": 1, "completions": 2}));
    let own = bed.active().remove(0);
    let mut orphan = (*own).clone();
    (orphan.meta.name, orphan.meta.uid) = ("stray".into(), Uid(77));
    (orphan.meta.owners, orphan.meta.finalizers) = (Shared::NONE, Shared::NONE);
    bed.server.put(orphan.boxed());
    bed.end(&own, 0);
    bed.pass(1);
    let stray = bed.server.get::<Pod>("default", "stray").expect("the pod").clone();
    assert!(stray.is_tracked() && stray.meta.controller().is_some_and(|owner| owner.uid == Uid(9)));
    bed.end(&stray, 0);
    bed.pass(1);
    assert_eq!(bed.counts(), (0, 2, 0));
}

/// What may happen to a Job in a second: pods end, are deleted or vanish; requests fail; the controller starts anew.
fn disturb(bed: &mut Bed, chance: &mut Stream) {
    for pod in bed.pods() {
        match chance.below(12) {
            0..3 if pod.is_active() => bed.end(&pod, i32::from(chance.ratio(1, 4))),
            3 if pod.is_active() && chance.ratio(1, 6) => {
                let key = owner::key_of(&*pod);
                let delete = Operation::Delete { key, options: Default::default() };
                assert!(bed.server.apply(&delete).is_ok());
            }
            4..8 if pod.meta.is_deleting() && !pod.is_terminal() => bed.end(&pod, 137),
            4.. if pod.meta.is_deleting() && !pod.is_tracked() => bed.server.vanish(&owner::key_of(&*pod)),
            _ => {}
        }
    }
    if chance.ratio(1, 15) {
        bed.restart();
        bed.server.edit::<Job>("default", "j", |_| {});
    }
    let mut fates = (0..chance.below(6)).map(|_| chance.ratio(1, 2)).collect::<Vec<_>>();
    bed.server.failing = Some(Box::new(move |_| {
        let fails = fates.pop().unwrap_or(false);
        fails.then(|| Status::new(Reason::InternalError, "etcdserver: request timed out"))
    }));
}

/// Runs one Job by chance until it has ended and checks it at every second.
fn run_by_chance(seed: u64) -> (Rc<Job>, BTreeSet<Uid>, BTreeSet<Uid>) {
    let mut chance = Seed(seed).stream("job", "test");
    let indexed = chance.ratio(1, 3);
    let (completions, parallelism) = (1 + chance.below(12), 1 + chance.below(5));
    let mode = if indexed { "Indexed" } else { "NonIndexed" };
    let mut bed = Bed::new(json!({
        "completions": completions, "parallelism": parallelism, "completionMode": mode, "backoffLimit": 1 + chance.below(6)
    }));
    let (mut succeeded, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..6_000 {
        let before: BTreeSet<Uid> = bed.active().iter().map(|pod| pod.meta.uid).collect();
        disturb(&mut bed, &mut chance);
        for pod in bed.pods().iter().filter(|pod| before.contains(&pod.meta.uid) && !pod.is_active()) {
            let ends = if pod.status.phase == PodPhase::Succeeded { &mut succeeded } else { &mut failed };
            ends.insert(pod.meta.uid);
        }
        bed.pass(1);
        let (job, active) = (bed.job(), bed.active().len() as u64);
        assert!(active <= parallelism, "seed {seed}: {active} pods run");
        let uncounted = job.status.uncounted.clone().unwrap_or_default();
        let counted = job.status.succeeded as usize + uncounted.succeeded.len();
        assert!(counted <= succeeded.len(), "seed {seed}: {counted} counted of {} successes", succeeded.len());
        if job.status.finished().is_some() {
            bed.server.failing = None;
            bed.pass(3);
            assert!(bed.pods().iter().all(|pod| !pod.is_tracked()), "seed {seed}: nothing is held back");
            return (bed.job(), succeeded, failed);
        }
    }
    panic!("seed {seed}: the Job does not end: {:?}", bed.job().status);
}

#[test]
fn a_job_never_runs_more_than_its_parallelism_and_counts_every_pod_exactly_once_whatever_fails() {
    let (mut complete, mut failures) = (0, 0);
    for seed in 0..30 {
        let (job, succeeded, failed) = run_by_chance(seed);
        let indexed = job.spec.is_indexed();
        if job.status.is_true("Complete") {
            complete += 1;
            assert_eq!(Some(job.status.succeeded), job.spec.completions(), "seed {seed}");
        } else {
            failures += 1;
        }
        if !indexed {
            assert_eq!(job.status.succeeded as usize, succeeded.len(), "seed {seed}: {:?}", job.status);
        }
        // Pods that were asked to go when the Job failed count as failed, whatever became of them.
        assert!(job.status.failed as usize >= failed.len(), "seed {seed}: {failed:?} {:?}", job.status);
        assert_eq!((job.status.active, job.status.terminating), (0, Some(0)));
    }
    assert!(complete > 3 && failures > 3, "{complete} complete, {failures} failed");
}

#[test]
fn a_pod_that_was_counted_is_never_looked_at_again() {
    let mut bed = Bed::new(json!({"completions": 400, "parallelism": 40}));
    for _ in 0..10 {
        bed.active().iter().for_each(|pod| bed.end(pod, 0));
        bed.pass(2);
        let unsettled = bed.server.cache.view().unsettled_pods(Uid(9)).count();
        assert!(unsettled <= 40, "{unsettled} of {} pods", bed.pods().len());
    }
    assert_eq!((bed.counts(), bed.pods().len()), ((0, 400, 0), 400));
}
