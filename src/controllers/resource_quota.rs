//! The resource quota controller: counts anew what the objects of a namespace use when some of them have gone, when the quota
//! has changed, and every five minutes (kubernetes, pkg/controller/resourcequota).
//!
//! What is used more is charged by the API server with each request; this controller finds out what is used no more, and
//! corrects what was charged in vain.

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Timestamp};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::quota::{self, Amounts, ResourceQuota};
use crate::apiserver::protocol::{Operation, Part};
use crate::client::controller::{Change, Controller};
use crate::client::plan::Plan;
use crate::client::view::{Now, View};
use crate::engine::hash::Map;
use crate::engine::time::SimDuration;

use super::config::Config;
use super::{garbage_collector, owner};

/// The resource quota controller. Its keys are quotas.
pub struct ResourceQuotaController {
    workers: usize,
    period: SimDuration,
}

impl ResourceQuotaController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        ResourceQuotaController {
            workers: config.concurrent_resource_quota_syncs,
            period: config.resource_quota_sync_period,
        }
    }

    /// How long until all quotas are looked at again. The original's clock runs from its start, this one's from that of the run.
    fn until_next_round(&self, now: Now) -> SimDuration {
        let period = self.period.as_nanos().max(1);
        SimDuration::from_nanos(period - now.at.as_nanos() % period)
    }
}

impl Controller for ResourceQuotaController {
    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        garbage_collector::KINDS
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        if let Object::ResourceQuota(quota) = change.object() {
            let same = |old: &Object| old.get::<ResourceQuota>().is_some_and(|old| old.wanted == quota.wanted);
            // Changes of the status come from here or from the API server, which knows what it does.
            if !matches!(change, Change::Updated { old, .. } if same(old)) {
                enqueue(change.object().key(), SimDuration::ZERO);
            }
        }
        let released = match change {
            Change::Added(_) => false,
            Change::Updated { old, new } => quota::would_release(old, new),
            Change::Deleted(_) => true,
        };
        if !released || view.count(Kind::ResourceQuota) == 0 {
            return;
        }
        let object = change.object();
        for quota in view.list_in::<ResourceQuota>(&object.meta().namespace) {
            if quota.tracks(object.kind()) {
                enqueue(owner::key_of(&**quota), SimDuration::ZERO);
            }
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let Some(quota) = view.get::<ResourceQuota>(&key.namespace, &key.name) else { return Plan::nothing() };
        let plan = match counted(quota, view, now.timestamp()) {
            Some(changed) => {
                let object = Object::ResourceQuota(Rc::new(changed));
                Plan::request(Operation::Update { object, part: Part::Status, dry_run: false })
            }
            None => Plan::nothing(),
        };
        plan.again_after(self.until_next_round(now))
    }
}

/// The quota with the status that it should have; none if that is the one it has (`syncResourceQuota`).
fn counted(quota: &ResourceQuota, view: &View<'_>, now: Timestamp) -> Option<ResourceQuota> {
    let mut used = (*quota.used).clone();
    for kind in Kind::all() {
        count(kind, quota, view, now, &mut used);
    }
    let used = used.mask(|name| quota.wanted.get(name).is_some());
    if *quota.hard == *quota.wanted && *quota.used == used {
        return None;
    }
    Some(ResourceQuota { hard: quota.wanted.clone(), used: Rc::new(used), ..quota.clone() })
}

/// Counts what objects of a kind use of what the quota names of them.
fn count(kind: Kind, quota: &ResourceQuota, view: &View<'_>, now: Timestamp, used: &mut Amounts) {
    let tracked: Vec<&Name> = quota.wanted.names().filter(|name| quota::is_tracked_by(kind, name)).collect();
    if tracked.is_empty() {
        return;
    }
    let mut sum = Amounts::default();
    tracked.iter().for_each(|name| sum.set_count((*name).clone(), 0));
    // Pods of one template use the same: how many there are of each kind of them.
    let mut alike: Map<(usize, bool), (&Object, i64)> = Map::default();
    let mut order = Vec::new();
    for object in view.objects_in(kind, &quota.meta.namespace) {
        match object {
            Object::Pod(pod) if pod.status.reported.is_none() && !pod.meta.is_deleting() => {
                let like = (Rc::as_ptr(&pod.spec) as usize, pod.is_terminal());
                let entry = alike.entry(like).or_insert_with(|| {
                    order.push(like);
                    (object, 0)
                });
                entry.1 += 1;
            }
            _ if quota::matches_scopes(quota, object) => sum.add(&quota::usage(object, now)),
            _ => {}
        }
    }
    for (object, times) in order.iter().filter_map(|like| alike.get(like)) {
        if quota::matches_scopes(quota, object) {
            sum.add_times(&quota::usage(object, now), *times);
        }
    }
    for name in tracked {
        if let Some(amount) = sum.get(name) {
            used.set(name.clone(), amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Server;
    use serde_json::{Value, json};

    fn object(kind: Kind, value: Value) -> Object {
        Object::from_json(kind, value).expect("an object")
    }

    fn quota(spec: Value) -> Object {
        object(Kind::ResourceQuota, json!({"metadata": {"name": "q", "namespace": "a"}, "spec": spec}))
    }

    fn pod(name: &str, phase: &str, requests: Value) -> Object {
        let container = json!({"name": "c", "image": "i", "resources": {"requests": requests}});
        object(
            Kind::Pod,
            json!({
                "metadata": {"name": name, "namespace": "a"}, "spec": {"containers": [container]},
                "status": {"phase": phase}
            }),
        )
    }

    fn look(server: &mut Server) -> Option<String> {
        let key = ObjectKey::new(Kind::ResourceQuota, "a", "q");
        server.reconcile(&ResourceQuotaController::new(&Config::default()), &key);
        Some(server.get::<ResourceQuota>("a", "q")?.used.to_string())
    }

    #[test]
    fn what_runs_is_counted_and_what_has_ended_is_not() {
        let mut server = Server::at(100);
        server.put(quota(json!({"hard": {"requests.cpu": "10", "pods": "5", "count/pods": "9", "secrets": "1"}})));
        server.put(pod("one", "Running", json!({"cpu": "500m"})));
        server.put(pod("two", "Pending", json!({"cpu": "1"})));
        server.put(pod("three", "Succeeded", json!({"cpu": "4"})));
        let mut elsewhere = pod("four", "Running", json!({"cpu": "4"}));
        elsewhere.meta_mut().namespace = Name::of("b");
        server.put(elsewhere);
        assert_eq!(look(&mut server).as_deref(), Some("count/pods=3,pods=2,requests.cpu=1500m,secrets=0"));
        assert_eq!(server.writes, ["update status of resourcequota/a/q"]);
        look(&mut server);
        assert_eq!(server.writes.len(), 1, "nothing has changed");
    }

    #[test]
    fn replicas_that_share_a_specification_are_counted_each() {
        let mut server = Server::at(100);
        server.put(quota(json!({"hard": {"requests.memory": "1Ti", "pods": "500"}})));
        let first = pod("pod", "Running", json!({"memory": "3Gi"}));
        for number in 0..40 {
            let mut copy = first.clone();
            copy.meta_mut().name = format!("pod-{number}").into();
            server.put(copy);
        }
        assert_eq!(look(&mut server).as_deref(), Some("pods=40,requests.memory=120Gi"));
    }

    #[test]
    fn scopes_narrow_down_what_is_counted() {
        let mut server = Server::at(100);
        server.put(quota(json!({"hard": {"pods": "5"}, "scopes": ["BestEffort"]})));
        server.put(pod("one", "Running", json!({"cpu": "500m"})));
        server.put(pod("two", "Running", json!({})));
        assert_eq!(look(&mut server).as_deref(), Some("pods=1"));
    }

    #[test]
    fn what_has_gone_puts_those_quotas_into_the_queue_that_count_it() {
        let mut server = Server::at(100);
        server.put(quota(json!({"hard": {"pods": "5"}})));
        look(&mut server);
        let controller = ResourceQuotaController::new(&Config::default());
        let (view, mut queued) = (server.cache.view(), Vec::new());
        let mut enqueue = |key: ObjectKey, _: SimDuration| queued.push(key);
        let (running, ended) = (pod("one", "Running", json!({})), pod("one", "Succeeded", json!({})));
        let secret = object(Kind::Secret, json!({"metadata": {"name": "s", "namespace": "a"}}));
        controller.on_change(Change::Added(&running), &view, &mut enqueue);
        controller.on_change(Change::Updated { old: &running, new: &running }, &view, &mut enqueue);
        controller.on_change(Change::Deleted(&secret), &view, &mut enqueue);
        controller.on_change(Change::Updated { old: &running, new: &ended }, &view, &mut enqueue);
        controller.on_change(Change::Deleted(&ended), &view, &mut enqueue);
        assert_eq!(queued.len(), 2);
    }
}
