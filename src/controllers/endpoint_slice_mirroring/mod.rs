//! The EndpointSlice mirroring controller: writes the Endpoints that somebody made for a Service without selector as slices, one for each
//! group of ports and family of addresses (kube-controller-manager, pkg/controller/endpointslicemirroring).
//!
//! Never touches slices that it did not make, and never Endpoints. That an address is none does not come up: the API server refuses it.
//!
//! - `mirror`: what the slices should be, and the writes that make them so

mod mirror;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::network::{EndpointSlice, Endpoints, Service};
use crate::api::object::Object;
use crate::apiserver::protocol::{DeleteOptions, Operation};
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::client::work_queue::RetryDelays;
use crate::engine::time::SimDuration;

use super::config::Config;
use super::endpoint_slice::tracker::Tracker;
use super::endpoint_slice::{MANAGED_BY, SERVICE_NAME};
use super::owner;
use super::script::{self, Halt};
use mirror::Mirror;

const CONTROLLER: Name = Name::of("endpointslicemirroring-controller.k8s.io");
/// Says that Endpoints are not to be mirrored (`LabelSkipMirror`).
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that only say who leads (`LeaderElectionRecordAnnotationKey`).
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// The mirroring controller. Its keys are Endpoints.
pub struct MirroringController {
    workers: usize,
    resync: Option<SimDuration>,
    batch_period: SimDuration,
    max_per_subset: usize,
    tracker: Rc<Tracker>,
    /// The names of the slices that are mirrors of Endpoints.
    mirrors: RefCell<BTreeMap<ObjectKey, BTreeSet<Name>>>,
}

impl MirroringController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        MirroringController {
            workers: config.mirroring_concurrent_syncs,
            resync: config.resync,
            batch_period: config.mirroring_batch_period,
            max_per_subset: config.mirroring_max_endpoints_per_subset.max(1),
            tracker: Rc::new(Tracker::default()),
            mirrors: RefCell::default(),
        }
    }

    /// Keeps in mind whose mirror a slice is, or was.
    fn follow(&self, change: Change<'_>) {
        let mut mirrors = self.mirrors.borrow_mut();
        let of = |object: &Object| {
            let slice = object.get::<EndpointSlice>().filter(|slice| is_managed(slice))?;
            Some((endpoints_key(slice)?, slice.meta.name.clone()))
        };
        if let Change::Updated { old, .. } | Change::Deleted(old) = change
            && let Some((key, name)) = of(old)
            && let Some(names) = mirrors.get_mut(&key)
        {
            names.remove(&name);
            if names.is_empty() {
                mirrors.remove(&key);
            }
        }
        if let Change::Added(new) | Change::Updated { new, .. } = change
            && let Some((key, name)) = of(new)
        {
            mirrors.entry(key).or_default().insert(name);
        }
    }

    /// The slices that are mirrors of Endpoints, whether these are still there or not, by name.
    fn mirrors_of(&self, view: &View<'_>, key: &ObjectKey) -> Vec<Rc<EndpointSlice>> {
        let mirrors = self.mirrors.borrow();
        let names = mirrors.get(key).into_iter().flatten();
        names.filter_map(|name| view.get::<EndpointSlice>(&key.namespace, name).cloned()).collect()
    }

    /// A slice was changed by somebody else, or went without our doing.
    fn slice_changed(
        &self,
        change: Change<'_>,
        slice: &EndpointSlice,
        enqueue: &mut dyn FnMut(ObjectKey, SimDuration),
    ) {
        let mut enqueue = |slice: &EndpointSlice| {
            if let Some(key) = endpoints_key(slice) {
                enqueue(key, self.batch_period);
            }
        };
        let is_foreign = |slice: &EndpointSlice| {
            is_managed(slice) && endpoints_key(slice).is_some_and(|key| self.tracker.is_foreign(&key, slice))
        };
        match change {
            Change::Updated { old, .. } => {
                let Some(old) = old.get::<EndpointSlice>() else { return };
                if old.meta.labels.get(&SERVICE_NAME) != slice.meta.labels.get(&SERVICE_NAME) {
                    enqueue(slice);
                    enqueue(old);
                } else if is_managed(old) != is_managed(slice) || is_foreign(slice) {
                    enqueue(slice);
                }
            }
            Change::Added(_) if is_foreign(slice) => enqueue(slice),
            Change::Deleted(_) if is_managed(slice) => {
                if let Some(key) = endpoints_key(slice)
                    && self.tracker.deleted_by_others(&key, slice)
                {
                    enqueue(slice);
                }
            }
            Change::Added(_) | Change::Deleted(_) => {}
        }
    }
}

impl Controller for MirroringController {
    fn name(&self) -> &'static str {
        "endpointslicemirroring-controller"
    }

    fn event_source(&self) -> &'static str {
        "endpoint-slice-mirroring-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Endpoints, Kind::EndpointSlice, Kind::Service]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let at_once = SimDuration::ZERO;
        match change.object() {
            Object::EndpointSlice(slice) => {
                self.follow(change);
                self.slice_changed(change, slice, enqueue);
            }
            Object::Endpoints(endpoints) => {
                let old = if let Change::Updated { old, .. } = change { old.get::<Endpoints>() } else { None };
                if is_mirrored(endpoints) || old.is_some_and(|old| is_mirrored(old)) {
                    enqueue(owner::key_of(&**endpoints), at_once);
                }
            }
            Object::Service(service) => {
                let old = if let Change::Updated { old, .. } = change { old.get::<Service>() } else { None };
                let is_of_interest = match old {
                    Some(old) => old.selector.is_some() != service.selector.is_some(),
                    None => service.selector.is_none(),
                };
                if is_of_interest {
                    enqueue(ObjectKey { kind: Kind::Endpoints, ..owner::key_of(&**service) }, at_once);
                }
            }
            _ => {}
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn max_retries(&self) -> Option<u32> {
        Some(15)
    }

    /// `defaultSyncBackOff` and `maxSyncBackOff`, a tenth of that of slices with pods.
    fn retry_delays(&self) -> RetryDelays {
        RetryDelays { first: SimDuration::from_secs(1), last: SimDuration::from_secs(100), overall: true }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let slices = self.mirrors_of(view, key);
        let endpoints = view.get::<Endpoints>(&key.namespace, &key.name).filter(|endpoints| is_mirrored(endpoints));
        let service = view.get::<Service>(&key.namespace, &key.name).filter(|service| service.selector.is_none());
        let (Some(endpoints), Some(_)) = (endpoints, service) else {
            self.tracker.forget(key);
            return remove(view, key, slices, now);
        };
        if self.tracker.is_stale(key, &slices) {
            let again = Again::BackOff("EndpointSlice informer cache is out of date".to_owned());
            return Plan { again, ..Plan::default() };
        }
        let mut mirror = Mirror::of(endpoints, self.max_per_subset);
        mirror.compare(slices, key, &self.tracker);
        let tracker = self.tracker.clone();
        script::run(view, now, move |script| mirror.write(script, &tracker))
    }
}

/// True if Endpoints are to be mirrored, as far as they say so themselves (`shouldMirror`).
fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.meta.labels.get(SKIP).is_none_or(|value| *value != "true")
        && endpoints.meta.annotations.get(LEADER).is_none()
}

/// True if a slice was made here.
fn is_managed(slice: &EndpointSlice) -> bool {
    slice.meta.labels.get(&MANAGED_BY) == Some(&CONTROLLER)
}

/// The Endpoints of which a slice is a mirror.
fn endpoints_key(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.meta.labels.get(&SERVICE_NAME).filter(|name| !name.is_empty())?;
    Some(ObjectKey::new(Kind::Endpoints, slice.meta.namespace.clone(), name.clone()))
}

/// Deletes the slices of Endpoints that are gone, or are mirrored no longer. All are tried before a failure counts
/// (`deleteEndpoints`).
fn remove(view: &View<'_>, key: &ObjectKey, slices: Vec<Rc<EndpointSlice>>, now: Now) -> Plan {
    if slices.is_empty() {
        return Plan::nothing();
    }
    let key = key.clone();
    script::run(view, now, move |script| {
        let mut failures = Vec::new();
        for slice in &slices {
            let operation = Operation::Delete { key: owner::key_of(&**slice), options: DeleteOptions::default() };
            if let Err(status) = script.ask(operation)? {
                failures.push(status.message);
            }
        }
        let Some(first) = failures.first() else { return Ok(Again::OnChange) };
        let (failed, all) = (failures.len(), slices.len());
        let place = format!("{}/{}", key.namespace, key.name);
        Err(Halt::Failed(format!(
            "error(s) deleting {failed}/{all} EndpointSlices for {place} Endpoints, including: {first}"
        )))
    })
}
