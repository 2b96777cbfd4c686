//! The pods behind a Service: which they are, which port they serve, and which of their changes matter.
//! Shared by the controllers of EndpointSlices and Endpoints; it writes nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::int_or_string::IntOrString;
use crate::api::kind::Kind;
use crate::api::meta::{Labels, ObjectKey, Timestamp};
use crate::api::name::Name;
use crate::api::network::{EndpointPort, Service, Target};
use crate::api::object::Object;
use crate::api::pod::{Pod, PodConditionType};
use crate::client::controller::Change;
use crate::client::view::View;
use crate::engine::time::SimDuration;

/// When the change happened that led to the newest endpoints.
pub const LAST_CHANGE_TRIGGER_TIME: Name = Name::of("endpoints.kubernetes.io/last-change-trigger-time");
/// Marks what belongs to a Service without cluster address.
pub const HEADLESS: Name = Name::of("service.kubernetes.io/headless");

/// Puts Services into the queue: one that changed at once, those of a changed pod after the batch period.
pub fn on_change(
    change: Change<'_>,
    view: &View<'_>,
    batch_period: SimDuration,
    enqueue: &mut dyn FnMut(ObjectKey, SimDuration),
) {
    match change.object() {
        Object::Service(service) => {
            enqueue(
                ObjectKey::new(Kind::Service, service.meta.namespace.clone(), service.meta.name.clone()),
                SimDuration::ZERO,
            );
        }
        Object::Pod(pod) => {
            let (labels, former) = match change {
                Change::Updated { old, .. } => {
                    let Some(old) = old.get::<Pod>() else { return };
                    if old.meta.revision() == pod.meta.revision() {
                        return; // A resync; that of the Services does.
                    }
                    let relabelled = old.meta.labels != pod.meta.labels;
                    let changed = endpoint_changed(old, pod);
                    if !relabelled && !changed {
                        return;
                    }
                    (&pod.meta.labels, relabelled.then_some((&old.meta.labels, changed)))
                }
                _ => (&pod.meta.labels, None),
            };
            for service in view.list_in::<Service>(&pod.meta.namespace) {
                if concerns(service, labels, former) {
                    let key = ObjectKey::new(Kind::Service, service.meta.namespace.clone(), service.meta.name.clone());
                    enqueue(key, batch_period);
                }
            }
        }
        _ => {}
    }
}

/// True if a Service selects the pod's labels, or selected its former ones. A pod that only changed its labels does not
/// concern the Services that select it before and after.
fn concerns(service: &Service, labels: &Labels, former: Option<(&Labels, bool)>) -> bool {
    let Some(selector) = &service.selector else {
        return false;
    };
    let now = selector.matches(labels);
    match former {
        None => now,
        Some((former, true)) => now || selector.matches(former),
        Some((former, false)) => now != selector.matches(former),
    }
}

/// True if a change of a pod may change its endpoint (endpointslice/util, `podEndpointsChanged`): any change of a pod that is being
/// deleted, because the original compares the addresses of the dates. A pod that ends without having been ready stays an
/// endpoint until something else happens.
fn endpoint_changed(old: &Pod, new: &Pod) -> bool {
    old.meta.is_deleting()
        || new.meta.is_deleting()
        || old.status.is_ready() != new.status.is_ready()
        || old.status.pod_ip != new.status.pod_ip
}

/// The pods that a Service selects, by name; none if it has no selector or is an alias (`ExternalName`).
pub fn selected<'a>(view: &View<'a>, service: &'a Service) -> Option<Vec<&'a Rc<Pod>>> {
    let selector = service.selector.as_ref()?;
    if service.spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let pods = view.list_in::<Pod>(&service.meta.namespace);
    Some(pods.filter(|pod| selector.matches(&pod.meta.labels)).collect())
}

/// True if a pod can be an endpoint: it has an address and has not ended (`ShouldPodBeInEndpoints`).
pub fn is_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    !pod.is_terminal() && pod.status.pod_ip.is_some() && (with_terminating || !pod.meta.is_deleting())
}

/// `publishNotReadyAddresses`.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.publish_not_ready_addresses == Some(true)
}

/// True if the Service has no cluster address.
pub fn is_headless(service: &Service) -> bool {
    service.spec.cluster_ip.as_deref().is_none_or(|address| address.is_empty() || address == "None")
}

/// The object that an endpoint refers to.
pub fn target(pod: &Pod) -> Target {
    Target {
        kind: Name::of("Pod"),
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid,
    }
}

/// The pod's host name, if the Service is the one that its subdomain names (`ShouldSetHostname`).
pub fn hostname(pod: &Pod, service: &Service) -> Option<Name> {
    let hostname = pod.hostname()?;
    let subdomain = pod.spec.full.subdomain.as_deref();
    (subdomain == Some(service.meta.name.as_str())).then(|| Name::from(hostname))
}

/// The ports at which a pod serves a Service; ports that the pod does not have are left out. With `named`, an unnamed port
/// has the empty name rather than none.
pub fn ports(pod: &Pod, service: &Service, named: bool) -> Vec<EndpointPort> {
    let ports = service.spec.ports.iter().flatten();
    let ports = ports.filter_map(|port| {
        let name = port.name.as_deref().unwrap_or("");
        Some(EndpointPort {
            name: (named || !name.is_empty()).then(|| Name::from(name)),
            port: Some(find_port(pod, port)?),
            protocol: Name::from(protocol(port.protocol.as_ref())),
            app_protocol: port.app_protocol.as_deref().map(Name::from),
        })
    });
    ports.collect()
}

fn protocol(protocol: Option<&String>) -> &str {
    protocol.map_or("TCP", String::as_str)
}

/// The number of a Service's target port in a pod: a named one is looked up in the main containers and the sidecars (`FindPort`).
fn find_port(pod: &Pod, port: &core::ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
        None => return Some(port.port),
    };
    let is_sidecar = |container: &&core::Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = pod.spec.full.init_containers.iter().flatten().filter(is_sidecar);
    let mut ports =
        pod.spec.full.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let wanted = protocol(port.protocol.as_ref());
    let fits = |it: &&core::ContainerPort| it.name.as_ref() == Some(name) && protocol(it.protocol.as_ref()) == wanted;
    ports.find(fits).map(|port| port.container_port)
}

/// What was seen of a Service: its creation, and the last transition of each pod by name.
type Seen = (Timestamp, Vec<(Name, Timestamp)>);

/// Remembers when the pods of each Service last became ready or unready, to tell what triggered a change.
///
/// The real controllers keep this in memory too and lose it on a restart (endpointslice/util, `TriggerTimeTracker`);
/// it decides about an annotation only.
#[derive(Default)]
pub struct TriggerTimes {
    services: RefCell<BTreeMap<ObjectKey, Seen>>,
}

impl TriggerTimes {
    /// The date to write into the annotation, if any: the earliest change since the last call. For a new Service its creation.
    /// `pods` must be sorted by name.
    pub fn trigger(&self, key: &ObjectKey, service: &Service, pods: &[&Rc<Pod>]) -> Option<Timestamp> {
        let mut services = self.services.borrow_mut();
        let known = services.get(key);
        let mut earliest: Option<Timestamp> = None;
        let mut note = |date: Timestamp| earliest = Some(earliest.map_or(date, |other| other.min(date)));
        let mut times = Vec::with_capacity(pods.len());
        for pod in pods {
            let Some(ready) = pod.status.condition(&PodConditionType::Ready) else {
                continue;
            };
            let date = ready.last_transition;
            let before = known.and_then(|(_, times)| {
                times.binary_search_by(|(name, _)| name.cmp(&pod.meta.name)).ok().map(|index| times[index].1)
            });
            if before.is_none_or(|before| date > before) {
                note(date);
            }
            times.push((pod.meta.name.clone(), date));
        }
        let created = service.meta.created;
        if known.is_some_and(|(before, _)| created > *before) {
            note(created);
        }
        let is_new = known.is_none();
        services.insert(key.clone(), (created, times));
        if is_new { Some(created) } else { earliest }
    }

    /// Forgets a Service.
    pub fn forget(&self, key: &ObjectKey) {
        self.services.borrow_mut().remove(key);
    }
}

/// The annotations with the trigger's date, or without it.
pub fn with_trigger(annotations: &Labels, trigger: Option<Timestamp>) -> Labels {
    let date = trigger.and_then(|date| jiff::Timestamp::from_second(date.0).ok());
    match date {
        Some(date) => annotations.with(LAST_CHANGE_TRIGGER_TIME, date.to_string()),
        None => annotations.without(&LAST_CHANGE_TRIGGER_TIME),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Deletion;
    use crate::api::pod::{ConditionStatus, PodPhase, PodStatus};
    use crate::controllers::testing;

    #[test]
    fn a_pod_that_ends_unready_stays_an_endpoint_and_any_change_of_one_that_goes_counts() {
        let ready = testing::endpoint_pod("web", 1);
        let with = |change: &dyn Fn(&mut Pod)| {
            let mut pod = ready.clone();
            change(&mut pod);
            pod
        };
        let unready = with(&|pod| pod.status.conditions[0].status = ConditionStatus::False);
        let failed = Pod { status: PodStatus { phase: PodPhase::Failed, ..unready.status.clone() }, ..unready.clone() };
        let going = with(&|pod| {
            pod.meta.deletion = Some(Box::new(Deletion { timestamp: Timestamp(90), grace_seconds: Some(30) }))
        });
        assert!(endpoint_changed(&ready, &unready));
        assert!(!endpoint_changed(&unready, &failed));
        assert!(endpoint_changed(&ready, &going) && endpoint_changed(&going, &going));
        assert!(!endpoint_changed(&ready, &with(&|pod| pod.status.phase = PodPhase::Unknown)));
        assert!(endpoint_changed(&ready, &with(&|pod| pod.status.pod_ip = None)));
    }
}
