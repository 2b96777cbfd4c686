//! The Endpoints controller: the older list of the pods behind a Service, one object for each, still kept up to date.
//!
//! Never lists terminating pods, and never more than a thousand addresses.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::{Labels, ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::network::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, new_meta};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, EventNote, Outcome, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::service_pods::{self, TriggerTimes};
use super::subsets::Repacking;
use super::{owner, script};

/// More addresses are not listed (`maxCapacity`).
const MAX_ADDRESSES: usize = 1000;
const MANAGED_BY: Name = Name::of("endpoints.kubernetes.io/managed-by");
const CONTROLLER: Name = Name::of("endpoint-controller");
const OVER_CAPACITY: Name = Name::of("endpoints.kubernetes.io/over-capacity");

/// The Endpoints controller.
pub struct EndpointsController {
    workers: usize,
    resync: Option<SimDuration>,
    batch_period: SimDuration,
    triggers: TriggerTimes,
    replaced: Rc<Replaced>,
}

/// The versions that this controller has replaced: a cache that still shows one is behind
/// (the original keeps them in memory too, `staleEndpointsTracker`).
type Replaced = RefCell<BTreeMap<ObjectKey, (Uid, u64)>>;

impl EndpointsController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        EndpointsController {
            workers: config.concurrent_endpoints_syncs,
            resync: config.resync,
            batch_period: config.endpoints_batch_period,
            triggers: TriggerTimes::default(),
            replaced: Rc::default(),
        }
    }

    /// The Service is gone, and so its Endpoints go.
    fn remove(&self, key: &ObjectKey) -> Plan {
        self.triggers.forget(key);
        self.replaced.borrow_mut().remove(key);
        let endpoints = ObjectKey { kind: Kind::Endpoints, ..key.clone() };
        let operation = Operation::Delete { key: endpoints, options: DeleteOptions::default() };
        Plan::nothing().step(Step::Request(script::tolerant(operation, &[Reason::NotFound])))
    }
}

impl Controller for EndpointsController {
    fn name(&self) -> &'static str {
        "endpoint-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Service, Kind::Pod, Kind::Endpoints]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        if let Object::Endpoints(endpoints) = change.object() {
            if let Change::Deleted(_) = change {
                let meta = &endpoints.meta;
                enqueue(ObjectKey::new(Kind::Service, meta.namespace.clone(), meta.name.clone()), SimDuration::ZERO);
            }
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

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
        let Some(service) = view.get::<Service>(&key.namespace, &key.name) else {
            return self.remove(key);
        };
        let Some(pods) = service_pods::selected(view, service) else {
            return Plan::nothing();
        };
        let trigger = self.triggers.trigger(key, service, &pods);
        let subsets = subsets(service, &pods);
        let present = view.get::<Endpoints>(&key.namespace, &key.name);
        if let Some(present) = present {
            let version = (present.meta.uid, present.meta.revision());
            if self.replaced.borrow().get(key) == Some(&version) {
                let why = format!(
                    "endpoints informer cache is out of date, resource version {} already processed for endpoints {}/{}",
                    version.1, key.namespace, key.name
                );
                return Plan { again: Again::BackOff(why), ..Plan::default() };
            }
            if is_right(present, service, &subsets) {
                return Plan::nothing();
            }
        }
        let meta =
            present.map_or_else(|| new_meta(key.namespace.clone(), key.name.clone()), |present| present.meta.clone());
        let mut endpoints = Endpoints { meta, subsets: [].into() };
        endpoints.meta.labels = labels(service);
        endpoints.meta.annotations = service_pods::with_trigger(&endpoints.meta.annotations, trigger);
        let (subsets, truncated) = truncate(subsets);
        endpoints.meta.annotations = if truncated {
            endpoints.meta.annotations.with(OVER_CAPACITY, "truncated")
        } else {
            endpoints.meta.annotations.without(&OVER_CAPACITY)
        };
        endpoints.subsets = subsets.into();
        self.write(key, service, endpoints, present.map(|present| (present.meta.uid, present.meta.revision())))
    }
}

impl EndpointsController {
    fn write(&self, key: &ObjectKey, service: &Rc<Service>, endpoints: Endpoints, old: Option<(Uid, u64)>) -> Plan {
        let endpoints = Rc::new(endpoints);
        let object = Object::Endpoints(endpoints.clone());
        let operation = match old {
            None => Operation::Create { object, dry_run: false },
            Some(_) => Operation::Update { object, part: Part::Main, dry_run: false },
        };
        let (replaced, key, service) = (self.replaced.clone(), key.clone(), service.clone());
        let then = move |_: &View<'_>, outcomes: &[Outcome], _: Now| match outcomes.first() {
            Some(Ok(Answer::Object(written))) => {
                if let Some(old) = old.filter(|old| written.meta().revision() != old.1) {
                    replaced.borrow_mut().insert(key, old);
                }
                Plan::nothing()
            }
            Some(Err(status)) if old.is_none() && status.is_namespace_terminating() => Plan::nothing(),
            Some(Err(status)) => {
                let (namespace, name) = (&service.meta.namespace, &service.meta.name);
                let (reason, message) = match old {
                    None => (
                        "FailedToCreateEndpoint",
                        format!("Failed to create endpoint for service {namespace}/{name}: {status}"),
                    ),
                    Some(_) => {
                        ("FailedToUpdateEndpoint", format!("Failed to update endpoint {namespace}/{name}: {status}"))
                    }
                };
                let regarding = owner::reference(&*endpoints);
                let note = EventNote { regarding, kind: EventType::Warning, reason: Name::of(reason), message };
                Plan { again: Again::BackOff(status.message.clone()), ..Plan::default() }.step(Step::Record(note))
            }
            Some(Ok(_)) | None => Plan::nothing(),
        };
        Plan::request(operation).then(then)
    }
}

/// The labels of a Service's Endpoints.
fn labels(service: &Service) -> Labels {
    let labels = if service_pods::is_headless(service) {
        service.meta.labels.with(service_pods::HEADLESS, Name::EMPTY)
    } else {
        service.meta.labels.without(&service_pods::HEADLESS)
    };
    labels.with(MANAGED_BY, CONTROLLER)
}

/// True if nothing has to be written. Labels are compared without the headless one, and truncated Endpoints are never right.
fn is_right(present: &Endpoints, service: &Service, subsets: &[EndpointSubset]) -> bool {
    let others = |labels: &Labels| {
        let others = labels.pairs().iter().filter(|(key, _)| *key != service_pods::HEADLESS && *key != MANAGED_BY);
        others.cloned().collect::<Labels>()
    };
    let addresses = |subset: &EndpointSubset| subset.addresses.len() + subset.not_ready_addresses.len();
    *present.subsets == *subsets
        && present.meta.labels.get(&MANAGED_BY) == Some(&CONTROLLER)
        && others(&present.meta.labels) == others(&service.meta.labels)
        && present.subsets.iter().map(addresses).sum::<usize>() <= MAX_ADDRESSES
        && present.meta.annotations.get(&OVER_CAPACITY).is_none()
}

/// The addresses of a Service's pods under the ports that they serve.
fn subsets(service: &Service, pods: &[&Rc<Pod>]) -> Vec<EndpointSubset> {
    let publish = service_pods::publishes_not_ready(service);
    let portless = service.spec.ports.as_ref().is_none_or(Vec::is_empty);
    let mut repacking = Repacking::default();
    for pod in pods.iter().filter(|pod| service_pods::is_endpoint(pod, publish)) {
        let Some(ip) = pod.status.pod_ip.filter(|ip| fits(service, *ip)) else {
            continue;
        };
        let ports: Vec<Option<EndpointPort>> = if !portless {
            service_pods::ports(pod, service, false).into_iter().map(Some).collect()
        } else if service.spec.cluster_ip.as_deref() == Some("None") {
            vec![None]
        } else {
            Vec::new()
        };
        let address = EndpointAddress {
            ip,
            hostname: service_pods::hostname(pod, service),
            node_name: Some(pod.node.clone().unwrap_or_default()),
            target: Some(service_pods::target(pod)),
        };
        repacking.add(address, publish || pod.status.is_ready(), ports);
    }
    repacking.subsets()
}

/// True if an address is of the family that the Service prefers.
fn fits(service: &Service, ip: IpAddr) -> bool {
    let family = service.spec.ip_families.iter().flatten().next();
    match (family, service.spec.cluster_ip.as_deref()) {
        (Some(family), _) => ip.is_ipv6() == (family == "IPv6"),
        (None, Some(address)) if !address.is_empty() && address != "None" => ip.is_ipv6() == address.contains(':'),
        _ => true,
    }
}

/// Cuts the subsets to the largest number of addresses, each in proportion, those that are not ready first
/// (`truncateEndpoints`; shares are rounded up, exact in integers). Says whether anything was cut.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let ready: usize = subsets.iter().map(|subset| subset.addresses.len()).sum();
    let not_ready: usize = subsets.iter().map(|subset| subset.not_ready_addresses.len()).sum();
    if ready + not_ready <= MAX_ADDRESSES {
        return (subsets, false);
    }
    let cuts_ready = ready > MAX_ADDRESSES;
    let (most, total) = if cuts_ready { (MAX_ADDRESSES, ready) } else { (MAX_ADDRESSES - ready, not_ready) };
    let mut left = most;
    for subset in &mut subsets {
        let list = if cuts_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.truncate((list.len() * most).div_ceil(total).min(left));
        left -= list.len();
        if cuts_ready {
            subset.not_ready_addresses.clear();
        }
    }
    (subsets, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{self, Server};

    fn key() -> ObjectKey {
        ObjectKey::new(Kind::Service, "default", "web")
    }

    fn server(pods: u8) -> Server {
        let mut server = Server::at(100);
        server.put(Object::Service(Rc::new(testing::service("web", "web", 8080))));
        for number in 0..pods {
            server.put(Object::Pod(Rc::new(testing::endpoint_pod("web", number))));
        }
        server
    }

    #[test]
    fn pods_are_listed_by_readiness_under_the_port_they_serve() {
        let mut server = server(3);
        server.edit::<Pod>("default", "web-1", |pod| pod.status.conditions = [].into());
        let controller = EndpointsController::new(&Config::default());
        assert_eq!(server.reconcile(&controller, &key()), Again::OnChange);
        let endpoints = server.get::<Endpoints>("default", "web").expect("created");
        assert_eq!(endpoints.subsets.len(), 1);
        let subset = &endpoints.subsets[0];
        assert_eq!((subset.addresses.len(), subset.not_ready_addresses.len()), (2, 1));
        assert_eq!(subset.ports[0].port, Some(8080));
        assert_eq!(endpoints.meta.labels.get(&MANAGED_BY), Some(&CONTROLLER));
        let before = server.writes.len();
        server.reconcile(&controller, &key());
        assert_eq!(server.writes.len(), before, "nothing changed");
    }

    #[test]
    fn terminating_pods_are_not_listed_and_a_service_takes_its_endpoints_along() {
        let mut server = server(2);
        let controller = EndpointsController::new(&Config::default());
        server.reconcile(&controller, &key());
        server
            .apply(&Operation::Delete {
                key: ObjectKey::new(Kind::Pod, "default", "web-0"),
                options: DeleteOptions::default(),
            })
            .expect("deleted");
        server.reconcile(&controller, &key());
        let subset = server.get::<Endpoints>("default", "web").expect("there").subsets[0].clone();
        assert_eq!((subset.addresses.len(), subset.not_ready_addresses.len()), (1, 0));
        server.vanish(&key());
        server.reconcile(&controller, &key());
        assert!(server.get::<Endpoints>("default", "web").is_none());
    }

    #[test]
    fn a_cache_that_shows_a_replaced_version_is_waited_for() {
        let mut server = server(1);
        let controller = EndpointsController::new(&Config::default());
        server.reconcile(&controller, &key());
        let old = server.get::<Endpoints>("default", "web").expect("there").clone();
        server.put(Object::Pod(Rc::new(testing::endpoint_pod("web", 7))));
        server.reconcile(&controller, &key());
        server.cache.insert(Object::Endpoints(old));
        let again = server.reconcile(&controller, &key());
        assert!(matches!(again, Again::BackOff(why) if why.starts_with("endpoints informer cache is out of date")));
    }

    #[test]
    fn more_than_a_thousand_addresses_are_cut_in_proportion_ready_ones_last() {
        let address = |number: usize| EndpointAddress {
            ip: IpAddr::from([10, 0, (number / 250) as u8, (number % 250) as u8]),
            hostname: None,
            node_name: None,
            target: None,
        };
        let subset = |ready: usize, not_ready: usize| EndpointSubset {
            addresses: (0..ready).map(address).collect(),
            not_ready_addresses: (0..not_ready).map(address).collect(),
            ports: Vec::new(),
        };
        let sizes = |subsets: Vec<EndpointSubset>| {
            let (subsets, cut) = truncate(subsets);
            (subsets.iter().map(|it| (it.addresses.len(), it.not_ready_addresses.len())).collect::<Vec<_>>(), cut)
        };
        assert_eq!(sizes(vec![subset(900, 100)]), (vec![(900, 100)], false));
        assert_eq!(sizes(vec![subset(900, 200)]), (vec![(900, 100)], true));
        assert_eq!(sizes(vec![subset(1500, 20), subset(500, 0)]), (vec![(750, 0), (250, 0)], true));
        assert_eq!(sizes(vec![subset(400, 300), subset(500, 100)]), (vec![(400, 75), (500, 25)], true));
    }
}
