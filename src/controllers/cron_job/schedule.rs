//! Which of a CronJob's times was missed, and when it comes next (kube-controller-manager, cronjob/utils).

use crate::api::batch::CronJob;
use crate::api::cron::{NEVER, Schedule, Zone};
use crate::client::view::Now;
use crate::engine::time::SimDuration;

use super::super::time;

const SECOND: i128 = 1_000_000_000;
/// A CronJob is looked at so long after its time, lest the clock be a little behind (`nextScheduleDelta`).
const MARGIN: i128 = SECOND / 10;
/// From so many missed times on something is wrong.
const TOO_MANY: i64 = 100;

/// The latest time that is not in the future, and how many there were since the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// The last time at which a Job was started, or the CronJob's creation.
    pub since: i64,
    /// The latest time; none if it has not come.
    pub latest: Option<i64>,
    /// About how many times there were.
    pub count: i64,
}

/// True if two versions have the same schedule.
pub fn is_same(old: &CronJob, new: &CronJob) -> bool {
    let (old, new) = (&old.spec.full, &new.spec.full);
    old.schedule == new.schedule && old.time_zone == new.time_zone
}

/// The schedule, in the time zone of the CronJob. An unknown zone counts as none.
pub fn parse(cron_job: &CronJob) -> Result<Schedule, String> {
    let spec = &cron_job.spec.full;
    match &spec.time_zone {
        Some(zone) if !spec.schedule.contains("TZ") && Zone::load(zone).is_ok() => {
            Schedule::parse(&format!("TZ={zone} {}", spec.schedule))
        }
        _ => Schedule::parse(&spec.schedule),
    }
}

/// `mostRecentScheduleTime`. Times before the starting deadline count only where they are asked for. The number of missed
/// times is estimated from the distance of the first two.
pub fn missed(cron_job: &CronJob, now: Now, schedule: &Schedule, within_deadline: bool) -> Result<Missed, String> {
    let now = time::nanoseconds(now);
    let mut since = cron_job.status.last_schedule_time.unwrap_or(cron_job.meta.created).0;
    if let Some(deadline) = cron_job.spec.full.starting_deadline_seconds.filter(|_| within_deadline) {
        let earliest = now - i128::from(deadline) * SECOND;
        since = since.max(i64::try_from(earliest.div_euclid(SECOND)).unwrap_or(since));
    }
    let first = schedule.next(since);
    let second = schedule.next(first);
    let is_past = |time: i64| i128::from(time) * SECOND <= now;
    if !is_past(first) {
        return Ok(Missed { since, latest: None, count: 0 });
    }
    if !is_past(second) {
        return Ok(Missed { since, latest: Some(first), count: 0 });
    }
    let between = second.saturating_sub(first);
    if between < 1 {
        return Err("time difference between two schedules is less than 1 second".to_owned());
    }
    let elapsed = i64::try_from((now - i128::from(first) * SECOND) / SECOND).unwrap_or(i64::MAX);
    let count = elapsed / between + 1;
    let mut latest = None;
    let mut next = schedule.next(first + (count - 2) * between);
    while is_past(next) && next != NEVER {
        latest = Some(next);
        next = schedule.next(next);
    }
    Ok(Missed { since, latest, count })
}

impl Missed {
    /// True if there were so many that something is wrong.
    pub fn too_many(self) -> bool {
        self.count > TOO_MANY
    }
}

/// How long until the CronJob is to be looked at again (`nextScheduleTimeDuration`).
pub fn next_look(cron_job: &CronJob, now: Now, schedule: &Schedule) -> SimDuration {
    let at = time::nanoseconds(now);
    let today = i64::try_from(at.div_euclid(SECOND)).unwrap_or(i64::MAX);
    let from = match missed(cron_job, now, schedule, false) {
        Ok(Missed { latest: Some(latest), .. }) => latest,
        Ok(Missed { since, count: 0, .. }) => since,
        Ok(_) | Err(_) => today,
    };
    let left = i128::from(schedule.next(from)) * SECOND + MARGIN - at;
    SimDuration::from_nanos(u64::try_from(left.max(0)).unwrap_or(u64::MAX))
}
