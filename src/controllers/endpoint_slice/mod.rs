//! The EndpointSlice controller: lists the pods behind each Service with a selector.
//!
//! Never writes Endpoints and never touches slices that somebody else manages.
//!
//! - `packing`: which endpoint goes into which slice
//! - `tracker`: which versions of slices the cache must show before it can be trusted
//!
//! Not simulated: hints in proportion to the CPUs of zones (`service.kubernetes.io/topology-mode: Auto`).

pub(super) mod packing;
#[cfg(test)]
mod tests;
pub(super) mod tracker;

use std::net::IpAddr;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::{Common, Labels, Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::network::{Endpoint, EndpointSlice, Hints, Service};
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, EventNote, Outcome, Plan, Step};
use crate::client::view::{Now, View};
use crate::client::work_queue::RetryDelays;
use crate::engine::time::SimDuration;

use super::config::Config;
use super::service_pods::{self, TriggerTimes};
use super::{owner, script};
use packing::{Desired, Packed};
use tracker::Tracker;

pub(super) const MANAGED_BY: Name = Name::of("endpointslice.kubernetes.io/managed-by");
pub(super) const SERVICE_NAME: Name = Name::of("kubernetes.io/service-name");
const CONTROLLER: Name = Name::of("endpointslice-controller.k8s.io");
const ZONE: &str = "topology.kubernetes.io/zone";
/// Annotations that ask for hints, the one that counts if both are there first (`hintsEnabled`).
const TOPOLOGY_MODES: [Name; 2] =
    [Name::of("service.kubernetes.io/topology-aware-hints"), Name::of("service.kubernetes.io/topology-mode")];

/// The EndpointSlice controller.
pub struct EndpointSliceController {
    workers: usize,
    resync: Option<SimDuration>,
    batch_period: SimDuration,
    max_per_slice: usize,
    triggers: TriggerTimes,
    tracker: Rc<Tracker>,
}

impl EndpointSliceController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        EndpointSliceController {
            workers: config.concurrent_endpoint_slice_syncs,
            resync: config.resync,
            batch_period: config.endpoint_slice_batch_period,
            max_per_slice: config.max_endpoints_per_slice.max(1),
            triggers: TriggerTimes::default(),
            tracker: Rc::new(Tracker::default()),
        }
    }

    /// A slice was changed by somebody else, or went without our doing: its Service is looked at again after a second
    /// (`endpointSliceChangeMinSyncDelay`).
    fn slice_changed(
        &self,
        change: Change<'_>,
        slice: &EndpointSlice,
        enqueue: &mut dyn FnMut(ObjectKey, SimDuration),
    ) {
        let delay = self.batch_period.max(SimDuration::from_secs(1));
        let mut enqueue = |slice: &EndpointSlice| {
            if let Some(key) = service_key(slice) {
                enqueue(key, delay);
            }
        };
        let is_managed = |slice: &EndpointSlice| slice.meta.labels.get(&MANAGED_BY) == Some(&CONTROLLER);
        match change {
            Change::Updated { old, .. } => {
                let Some(old) = old.get::<EndpointSlice>() else { return };
                if old.meta.labels.get(&SERVICE_NAME) != slice.meta.labels.get(&SERVICE_NAME) {
                    enqueue(slice);
                    enqueue(old);
                } else if is_managed(old) != is_managed(slice) || is_managed(slice) && self.is_foreign(slice) {
                    enqueue(slice);
                }
            }
            Change::Added(_) if is_managed(slice) && self.is_foreign(slice) => enqueue(slice),
            Change::Deleted(_) if is_managed(slice) => {
                if let Some(key) = service_key(slice)
                    && self.tracker.deleted_by_others(&key, slice)
                {
                    enqueue(slice);
                }
            }
            Change::Added(_) | Change::Deleted(_) => {}
        }
    }

    fn is_foreign(&self, slice: &EndpointSlice) -> bool {
        service_key(slice).is_some_and(|key| self.tracker.is_foreign(&key, slice))
    }

    /// All endpoints that a Service should have, and what is wrong with some pods.
    fn desired(&self, view: &View<'_>, service: &Service, pods: &[&Rc<Pod>]) -> (Vec<Desired>, Option<String>) {
        let mut desired = Vec::with_capacity(pods.len());
        let mut problem = None;
        for pod in pods.iter().filter(|pod| service_pods::is_endpoint(pod, true)) {
            let node = pod.node.as_ref().and_then(|node| view.get::<Node>(&Name::EMPTY, node));
            if node.is_none() && !service_pods::publishes_not_ready(service) {
                let (namespace, name) = (&service.meta.namespace, &service.meta.name);
                let node = pod.node.clone().unwrap_or_default();
                let what =
                    format!("skipping Pod {} for Service {namespace}/{name}: Node {node} Not Found", pod.meta.name);
                problem = problem.or(Some(what));
                desired.push(Desired { ports: service_pods::ports(pod, service, true), endpoint: None, address: None });
                continue;
            }
            desired.push(Desired {
                ports: service_pods::ports(pod, service, true),
                endpoint: Some(endpoint(pod, node.map(|node| &**node), service)),
                address: pod.status.pod_ip,
            });
        }
        (desired, problem)
    }
}

impl Controller for EndpointSliceController {
    fn name(&self) -> &'static str {
        "endpoint-slice-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Service, Kind::Pod, Kind::EndpointSlice, Kind::Node]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        if let Object::EndpointSlice(slice) = change.object() {
            self.slice_changed(change, slice, enqueue);
        } else {
            service_pods::on_change(change, view, self.batch_period, enqueue);
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn max_retries(&self) -> Option<u32> {
        Some(15)
    }

    fn retry_delays(&self) -> RetryDelays {
        RetryDelays { first: SimDuration::from_secs(1), last: SimDuration::from_secs(1000), overall: true }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
        let Some(service) = view.get::<Service>(&key.namespace, &key.name) else {
            self.triggers.forget(key);
            self.tracker.forget(key);
            return Plan::nothing();
        };
        let Some(pods) = service_pods::selected(view, service) else {
            return Plan::nothing();
        };
        let slices = slices_of(view, service);
        if self.tracker.is_stale(key, &slices) {
            let again = Again::BackOff("EndpointSlice informer cache is out of date".to_owned());
            return Plan { again, ..Plan::default() };
        }
        let trigger = self.triggers.trigger(key, service, &pods);
        let (desired, problem) = self.desired(view, service, &pods);
        let mut writes = Writes::default();
        for address_type in address_types(service) {
            let of_type = slices.iter().filter(|slice| slice.address_type == address_type).cloned().collect();
            writes.add(reconcile_type(service, &address_type, of_type, &desired, self.max_per_slice));
        }
        let unsupported = slices.iter().filter(|slice| !address_types(service).contains(&slice.address_type));
        writes.delete.extend(unsupported.cloned());
        let finished = Finished { service: service.clone(), key: key.clone(), tracker: self.tracker.clone(), problem };
        writes.plan(service, trigger, finished)
    }
}

/// The Service that a slice belongs to.
fn service_key(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.meta.labels.get(&SERVICE_NAME).filter(|name| !name.is_empty())?;
    Some(ObjectKey::new(Kind::Service, slice.meta.namespace.clone(), name.clone()))
}

/// The slices that this controller made for a Service. Found by owner, which finds those of the present incarnation and is
/// cheaper than by label; slices of a former one are left to the garbage collector.
fn slices_of(view: &View<'_>, service: &Service) -> Vec<Rc<EndpointSlice>> {
    let ours = |slice: &&Rc<EndpointSlice>| {
        slice.meta.labels.get(&SERVICE_NAME) == Some(&service.meta.name)
            && slice.meta.labels.get(&MANAGED_BY) == Some(&CONTROLLER)
            && !slice.meta.is_deleting()
    };
    view.owned_by::<EndpointSlice>(service.meta.uid).filter(ours).cloned().collect()
}

/// The kinds of addresses that a Service has (`getAddressTypesForService`).
fn address_types(service: &Service) -> Vec<Name> {
    let families = service.spec.ip_families.iter().flatten().map(Name::from);
    let mut types: Vec<Name> = families.filter(|family| *family == "IPv4" || *family == "IPv6").collect();
    types.sort();
    types.dedup();
    if !types.is_empty() {
        return types;
    }
    match service.spec.cluster_ip.as_deref() {
        Some(address) if !address.is_empty() && address != "None" => {
            vec![Name::of(if address.contains(':') { "IPv6" } else { "IPv4" })]
        }
        _ => vec![Name::of("IPv4"), Name::of("IPv6")],
    }
}

/// What a pod is as an endpoint (`podToEndpoint`).
fn endpoint(pod: &Pod, node: Option<&Node>, service: &Service) -> Endpoint {
    let serving = pod.status.is_ready();
    let terminating = pod.meta.is_deleting();
    let ready = service_pods::publishes_not_ready(service) || serving && !terminating;
    let zone = node.and_then(|node| node.meta.labels.get(ZONE)).filter(|zone| !zone.is_empty());
    Endpoint {
        addresses: pod.status.pod_ip.iter().map(|address| Name::from(address.to_string())).collect(),
        ready: Some(ready),
        serving: Some(serving),
        terminating: Some(terminating),
        hostname: service_pods::hostname(pod, service),
        node_name: pod.node.clone(),
        zone: zone.cloned(),
        hints: if ready { hints(service, pod.node.as_ref(), zone).map(Rc::new) } else { None },
        target: Some(service_pods::target(pod)),
    }
}

/// Who is to use a ready endpoint, if the Service says whom it prefers: the clients of its zone or its node
/// (endpointslice/trafficdist: `preferCloseHeuristic`).
fn hints(service: &Service, node: Option<&Name>, zone: Option<&Name>) -> Option<Hints> {
    let by_node = match service.spec.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    // The older way to ask for hints goes before.
    let mode = TOPOLOGY_MODES.iter().find_map(|key| service.meta.annotations.get(key));
    if mode.is_some_and(|mode| *mode == "Auto" || *mode == "auto") {
        return None;
    }
    let nodes = node.filter(|_| by_node).into_iter().cloned().collect();
    let hints = Hints { zones: zone.into_iter().cloned().collect(), nodes };
    (hints != Hints::default()).then_some(hints)
}

/// The labels of a Service's slices: its own and three of ours. Also says whether a slice's labels must change for it;
/// a change of the three alone does not count (`setEndpointSliceLabels`).
fn slice_labels(service: &Service, present: &Labels) -> (Labels, bool) {
    let is_reserved = |key: &Name| [SERVICE_NAME, MANAGED_BY, service_pods::HEADLESS].contains(key);
    let own = |labels: &Labels| labels.pairs().iter().filter(|(key, _)| !is_reserved(key)).cloned().collect::<Labels>();
    let wanted = own(&service.meta.labels);
    let changed = own(present) != wanted;
    let mut labels = wanted.with(SERVICE_NAME, service.meta.name.clone()).with(MANAGED_BY, CONTROLLER);
    if service_pods::is_headless(service) {
        labels = labels.with(service_pods::HEADLESS, Name::EMPTY);
    }
    (labels, changed)
}

/// An empty slice of a Service (`newEndpointSlice`).
fn new_slice(service: &Service, address_type: &Name, ports: Rc<[crate::api::network::EndpointPort]>) -> EndpointSlice {
    let meta = Meta {
        common: Common {
            generate_name: Some(Name::from(format!("{}-", service.meta.name))),
            namespace: service.meta.namespace.clone(),
            labels: slice_labels(service, &Labels::NONE).0,
            owners: [owner::controller_reference(service)].into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    EndpointSlice { meta, address_type: address_type.clone(), endpoints: Vec::new(), ports }
}

/// The writes that make the slices of one address type right (`reconcileByAddressType`).
fn reconcile_type(
    service: &Service,
    address_type: &Name,
    slices: Vec<Rc<EndpointSlice>>,
    desired: &[Desired],
    max_per_slice: usize,
) -> Writes {
    let existing = slices.len();
    let fits = |address: IpAddr| address.is_ipv6() == (*address_type == "IPv6");
    let groups = packing::group(desired, fits);
    let mut writes = Writes::default();
    let mut rest = slices;
    for (ports, endpoints) in groups {
        let key = packing::port_key(&ports);
        let (of_group, others) = rest.into_iter().partition(|slice| packing::port_key(&slice.ports) == key);
        rest = others;
        let ports: Rc<[_]> = ports.into();
        let fresh = || new_slice(service, address_type, ports.clone());
        let labels = |slice: &EndpointSlice| slice_labels(service, &slice.meta.labels);
        let Packed { create, update, delete } = packing::pack(of_group, endpoints, max_per_slice, fresh, labels);
        writes.create.extend(create);
        writes.update.extend(update);
        writes.delete.extend(delete);
    }
    writes.delete.extend(rest);
    if existing == writes.delete.len() && writes.create.is_empty() {
        // There is always a slice, if only an empty one.
        let placeholder = new_slice(service, address_type, [].into());
        match &writes.delete[..] {
            [only] if is_placeholder(only, &placeholder) => writes.delete.clear(),
            _ => writes.create.push(placeholder),
        }
    }
    writes.reuse();
    writes
}

fn is_placeholder(slice: &EndpointSlice, placeholder: &EndpointSlice) -> bool {
    slice.endpoints.is_empty() && slice.ports.is_empty() && slice.meta.labels == placeholder.meta.labels
}

/// Slices to create, replace and delete.
#[derive(Default)]
struct Writes {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<Rc<EndpointSlice>>,
}

/// What remains to be done when the writes have been made.
struct Finished {
    service: Rc<Service>,
    key: ObjectKey,
    tracker: Rc<Tracker>,
    problem: Option<String>,
}

impl Writes {
    fn add(&mut self, other: Writes) {
        self.create.extend(other.create);
        self.update.extend(other.update);
        self.delete.extend(other.delete);
    }

    /// Turns creations into replacements of slices that would be deleted (`finalize`).
    fn reuse(&mut self) {
        while let Some(old) = self.delete.first() {
            let Some(new) = self.create.pop() else { return };
            // The new content under the old name, and without a version: whatever is there is replaced.
            let meta = Meta { name: old.meta.name.clone(), uid: old.meta.uid, ..new.meta };
            self.update.push(EndpointSlice { meta, ..new });
            self.delete.remove(0);
        }
    }

    /// One request after the other; the first failure ends the sync.
    fn plan(self, service: &Service, trigger: Option<crate::api::meta::Timestamp>, finished: Finished) -> Plan {
        let mut steps = Vec::new();
        let annotated = |mut slice: EndpointSlice| {
            slice.meta.annotations = service_pods::with_trigger(&slice.meta.annotations, trigger);
            Object::EndpointSlice(Rc::new(slice))
        };
        if !service.meta.is_deleting() {
            for slice in self.create {
                steps.push(Step::request(Operation::Create { object: annotated(slice), dry_run: false }));
            }
        }
        for slice in self.update {
            let operation = Operation::Update { object: annotated(slice), part: Part::Main, dry_run: false };
            steps.push(Step::request(operation));
        }
        let mut deleted = Vec::new();
        for slice in self.delete {
            let operation = Operation::Delete { key: owner::key_of(&*slice), options: DeleteOptions::default() };
            steps.push(Step::Request(script::tolerant(operation, &[Reason::NotFound])));
            deleted.push(slice);
        }
        let creations_and_updates = steps.len() - deleted.len();
        if steps.is_empty() && finished.problem.is_none() {
            return Plan::nothing();
        }
        Plan { steps, ..Plan::default() }
            .then(move |_, outcomes, _| finished.plan(outcomes, creations_and_updates, &deleted))
    }
}

impl Finished {
    /// Notes what was written, and says what went wrong.
    fn plan(self, outcomes: &[Outcome], creations_and_updates: usize, deleted: &[Rc<EndpointSlice>]) -> Plan {
        let mut problem = self.problem;
        for (index, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(Answer::Object(Object::EndpointSlice(slice))) if index < creations_and_updates => {
                    self.tracker.wrote(&self.key, slice);
                }
                Ok(_) => {
                    if let Some(slice) = deleted.get(index.wrapping_sub(creations_and_updates)) {
                        self.tracker.deletes(&self.key, slice);
                    }
                }
                Err(status) if index >= creations_and_updates && status.reason == Reason::NotFound => {}
                Err(status) if status.is_namespace_terminating() => return Plan::nothing(),
                Err(status) => problem = Some(status.message.clone()),
            }
        }
        let Some(problem) = problem else {
            return Plan::nothing();
        };
        let (namespace, name) = (&self.service.meta.namespace, &self.service.meta.name);
        let note = EventNote {
            regarding: owner::reference(&*self.service),
            kind: EventType::Warning,
            reason: Name::of("FailedToUpdateEndpointSlices"),
            message: format!("Error updating Endpoint Slices for Service {namespace}/{name}: {problem}"),
        };
        Plan { again: Again::BackOff(problem), ..Plan::default() }.step(Step::Record(note))
    }
}
