//! The TTL-after-finished controller: deletes Jobs, in the foreground, some time after they have ended
//! (kube-controller-manager, pkg/controller/ttlafterfinished).

use crate::api::batch::Job;
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::object::{Object, Resource};
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Propagation};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::script::{self, Halt};
use super::{owner, time};

/// The TTL-after-finished controller.
pub struct TtlAfterFinishedController {
    workers: usize,
    resync: Option<SimDuration>,
}

impl TtlAfterFinishedController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        TtlAfterFinishedController { workers: config.concurrent_ttl_after_finished_syncs, resync: config.resync }
    }
}

impl Controller for TtlAfterFinishedController {
    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Job]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        if let Change::Added(Object::Job(job)) | Change::Updated { new: Object::Job(job), .. } = change
            && ttl(job).is_some()
        {
            enqueue(owner::key_of(&**job), SimDuration::ZERO);
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let job = view.get::<Job>(&key.namespace, &key.name);
        let Some(wait) = job.and_then(|job| left(job, now)) else {
            return Plan::nothing();
        };
        if wait > SimDuration::ZERO {
            return Plan::nothing().again_after(wait);
        }
        let key = key.clone();
        // The cache may be behind: what counts is what the API server says.
        script::run(view, now, move |script| {
            let fresh = match script.ask(Operation::Get { key: key.clone() })? {
                Ok(Answer::Object(object)) => object,
                Err(status) if status.reason != Reason::NotFound => return Err(Halt::Failed(status.message)),
                _ => return Ok(Again::OnChange),
            };
            match Job::of(&fresh).and_then(|job| left(job, script.now())) {
                None => Ok(Again::OnChange),
                Some(SimDuration::ZERO) => {
                    let options = DeleteOptions {
                        uid: Some(fresh.meta().uid),
                        propagation: Some(Propagation::Foreground),
                        ..DeleteOptions::default()
                    };
                    Err(script.finish(Operation::Delete { key: key.clone(), options }, Again::OnChange))
                }
                Some(wait) => Ok(Again::After(wait)),
            }
        })
    }
}

/// The seconds after which an ended Job goes, if it is not going already.
fn ttl(job: &Job) -> Option<i64> {
    let ttl = job.spec.full.ttl_seconds_after_finished.filter(|_| !job.meta.is_deleting());
    job.status.finished().and(ttl).map(i64::from)
}

/// How long an ended Job still has.
fn left(job: &Job, now: Now) -> Option<SimDuration> {
    let ended = job.status.finished()?.last_transition;
    Some(time::until(now, ended, ttl(job)?).left())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::convert::Convert;
    use crate::controllers::testing::Server;
    use serde_json::json;

    fn server(finished: bool) -> Server {
        let condition = json!({"type": "Complete", "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"});
        let conditions = if finished { json!([condition]) } else { json!([]) };
        let job = json!({
            "metadata": {"name": "j", "namespace": "default"},
            "spec": {"ttlSecondsAfterFinished": 10, "template": {"spec": {"containers": []}}},
            "status": {"conditions": conditions}
        });
        let job = Job::from_full(serde_json::from_value(job).expect("a Job")).expect("a Job");
        let mut server = Server::at(103);
        server.put(job.boxed());
        server
    }

    #[test]
    fn a_job_goes_in_the_foreground_when_its_time_has_come_and_not_before() {
        let controller = TtlAfterFinishedController::new(&Config::default());
        let key = ObjectKey::new(Kind::Job, "default", "j");
        let mut server = server(true);
        assert_eq!(server.reconcile(&controller, &key), Again::After(SimDuration::from_secs(7)));
        server.seconds = 110;
        assert_eq!(server.reconcile(&controller, &key), Again::OnChange);
        assert_eq!(server.writes, ["delete job/default/j in the foreground"]);
        let mut running = self::server(false);
        running.seconds = 200;
        assert_eq!(running.reconcile(&controller, &key), Again::OnChange);
        assert!(running.writes.is_empty());
    }
}
