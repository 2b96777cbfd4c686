//! What an object uses of a quota (kubernetes, pkg/quota/v1/evaluator/core, and apiserver, pkg/quota/v1/generic).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{Amounts, is_terminating};
use crate::api::kind::Kind;
use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::network::Service;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::quantity::{Format, Quantity};
use crate::api::storage::PersistentVolumeClaim;
use crate::api::validation::resources;

/// What quotas count of pods besides their number as objects (`podResources`).
const OF_PODS: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
const OF_SERVICES: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// What stands between a storage class and what is counted of it (`storageClassSuffix`).
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// What every container must ask for if a quota speaks of it: a mistake of the first days, kept for compatibility
/// (`validationSet`).
const REQUIRED: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

/// True if quotas can count objects of a kind: all that live in namespaces except events.
pub fn is_counted(kind: Kind) -> bool {
    kind.row().namespaced && kind != Kind::Event
}

/// `count/deployments.apps`.
fn object_count(kind: Kind) -> String {
    format!("count/{}", kind.row().qualified_plural())
}

/// The older name under which objects of a kind are counted (`legacyObjectCountAliases`).
fn alias(kind: Kind) -> Option<&'static str> {
    matches!(kind, Kind::ConfigMap | Kind::ResourceQuota | Kind::ReplicationController | Kind::Secret)
        .then_some(kind.row().plural)
}

/// True if a resource of a quota is counted over objects of a kind (`MatchingResources`).
pub fn is_tracked_by(kind: Kind, resource: &str) -> bool {
    if let Some(counted) = resource.strip_prefix("count/") {
        let row = kind.row();
        let bare = counted.strip_prefix(row.plural);
        return is_counted(kind)
            && bare.is_some_and(|rest| {
                if row.group.is_empty() { rest.is_empty() } else { rest.strip_prefix('.') == Some(row.group) }
            });
    }
    match kind {
        Kind::Pod => {
            OF_PODS.contains(&resource)
                || resource.starts_with("hugepages-")
                || resource.starts_with("requests.hugepages-")
                || is_extended_request(resource)
        }
        Kind::Service => OF_SERVICES.contains(&resource),
        Kind::PersistentVolumeClaim => {
            let of_class = |counted: &str| resource.strip_suffix(counted).is_some_and(|rest| rest.ends_with(OF_CLASS));
            OF_CLAIMS.contains(&resource) || OF_CLAIMS.into_iter().any(of_class)
        }
        kind => alias(kind) == Some(resource),
    }
}

/// `isExtendedResourceNameForQuota`.
fn is_extended_request(resource: &str) -> bool {
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    let by_class = resource.starts_with("requests.deviceclass.resource.kubernetes.io/");
    (!native || by_class) && resource.starts_with("requests.")
}

/// Which part of an object a change is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// The object itself.
    Whole,
    /// What containers of a pod get (the resize subresource).
    Resize,
    /// Another subresource.
    Other,
}

/// True if a change may use more of a quota (`Handles`): a creation always, and what the quotas' own rules name of updates.
pub fn charges(old: Option<&Object>, new: &Object, extent: Extent) -> bool {
    let main_part = extent == Extent::Whole;
    match (old, new) {
        (None, _) => main_part,
        (Some(Object::Pod(_)), Object::Pod(_)) if extent == Extent::Resize => true,
        (Some(Object::Pod(old)), Object::Pod(new)) => main_part && is_terminating(old) != is_terminating(new),
        (Some(Object::Service(_)), _) => main_part,
        (Some(Object::PersistentVolumeClaim(old)), Object::PersistentVolumeClaim(new)) => {
            main_part || requires_recount(old, new)
        }
        _ => false,
    }
}

/// True if a change may leave more of a quota to others (`DefaultUpdateFilter`). A pod that becomes overdue without a change is
/// found out when all is counted anew; one that is deleted without grace is so at once.
pub fn would_release(old: &Object, new: &Object) -> bool {
    match (old, new) {
        (Object::Pod(old), Object::Pod(new)) => {
            let resized = match (&old.status.reported, &new.status.reported) {
                (Some(old), Some(new)) => old != new,
                (None, None) => false,
                // The statuses of containers that were not there before are not compared.
                _ => !old.status.containers.is_empty(),
            };
            let is_over = |pod: &Pod| {
                pod.is_terminal() || pod.meta.deletion.as_deref().is_some_and(|it| it.grace_seconds == Some(0))
            };
            resized || is_terminating(old) != is_terminating(new) || (!is_over(old) && is_over(new))
        }
        (Object::Service(old), Object::Service(new)) => counted_type(old) != counted_type(new),
        (Object::PersistentVolumeClaim(old), Object::PersistentVolumeClaim(new)) => requires_recount(old, new),
        _ => false,
    }
}

fn counted_type(service: &Service) -> &str {
    let counted = service.spec.type_.as_deref().filter(|kind| matches!(*kind, "NodePort" | "LoadBalancer"));
    counted.unwrap_or_default()
}

/// `RequiresQuotaReplenish`.
fn requires_recount(old: &PersistentVolumeClaim, new: &PersistentVolumeClaim) -> bool {
    let status = |claim: &PersistentVolumeClaim| claim.content.status.clone().unwrap_or_default();
    let (old_status, new_status) = (status(old), status(new));
    let class = |claim: &PersistentVolumeClaim| {
        claim.content.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone())
    };
    old_status.allocated_resources != new_status.allocated_resources
        || class(old) != class(new)
        || old_status.current_volume_attributes_class_name != new_status.current_volume_attributes_class_name
}

/// What an object uses.
pub fn usage(object: &Object, now: Timestamp) -> Amounts {
    let kind = object.kind();
    let mut used = Amounts::default();
    used.set_count(object_count(kind), 1);
    match object {
        Object::Pod(pod) => {
            if counts_as_running(pod, now) {
                of_running(pod, &mut used);
            }
        }
        Object::Service(service) => of_service(service, &mut used),
        Object::PersistentVolumeClaim(claim) => of_claim(claim, &mut used),
        _ => {
            if let Some(alias) = alias(kind) {
                used.set_count(alias, 1);
            }
        }
    }
    used
}

/// A pod no longer counts once it has ended, or should long be gone: the user is not charged for a lost node (`QuotaV1Pod`).
/// The present, here cut to a whole second as the dates of objects are, is always somewhat later than that.
fn counts_as_running(pod: &Pod, now: Timestamp) -> bool {
    let overdue = pod.meta.deletion.as_deref().is_some_and(|deletion| {
        deletion.grace_seconds.is_some_and(|grace| now.0 >= deletion.timestamp.0.saturating_add(grace))
    });
    !pod.is_terminal() && !overdue
}

/// `PodUsageFunc`.
fn of_running(pod: &Pod, used: &mut Amounts) {
    let full = &pod.spec.full;
    let (mut requests, mut limits) = (pod_requests(full), pod_limits(full));
    let overhead = Amounts::of_valid(full.overhead.as_ref());
    requests.add(&overhead);
    if let Some(resized) = pod.resized() {
        // What the node holds for it counts if that is more than it asks for.
        let format = |name: &str, default| requests.get(name).map_or(default, Quantity::format);
        let cpu = Quantity::from_milli(resized.requests.milli_cpu, format("cpu", Format::DecimalSi));
        let memory = Quantity::from_value(resized.requests.memory, format("memory", Format::BinarySi));
        for (name, amount) in [("cpu", cpu), ("memory", memory)] {
            if requests.get(name).is_some_and(|asked| asked != amount) {
                requests.set(name, amount);
            }
        }
    }
    limits.add(&overhead.mask(|name| limits.get(name).is_some()));
    used.add(&compute_usage(&requests, &limits));
}

/// What requests and limits mean for a quota (`podComputeUsageHelper`).
fn compute_usage(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::default();
    used.set_count("pods", 1);
    for (name, amount) in requests.iter() {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if plain {
            used.set(name.clone(), amount);
        }
        if plain || resources::is_extended(name) {
            used.set(format!("requests.{name}"), amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            used.set(format!("limits.{name}"), amount);
        }
    }
    used
}

/// What the containers of a pod request at once, without overhead (component-helpers, resource: `PodRequests`).
pub fn pod_requests(full: &core::PodSpec) -> Amounts {
    total(full, |resources| resources.requests.as_ref())
}

/// What the containers of a pod may use at once, without overhead (component-helpers, resource: `PodLimits`).
pub fn pod_limits(full: &core::PodSpec) -> Amounts {
    total(full, |resources| resources.limits.as_ref())
}

type List = BTreeMap<String, Text>;

fn total(full: &core::PodSpec, list: fn(&core::ResourceRequirements) -> Option<&List>) -> Amounts {
    let of = |resources: Option<&core::ResourceRequirements>| Amounts::of_valid(resources.and_then(list));
    let mut sum = Amounts::default();
    for container in &full.containers {
        sum.add(&of(container.resources.as_ref()));
    }
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for container in full.init_containers.iter().flatten() {
        let mut own = of(container.resources.as_ref());
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(&own);
            sidecars.add(&own);
            starting.max(&sidecars);
        } else {
            own.add(&sidecars);
            starting.max(&own);
        }
    }
    sum.max(&starting);
    for (name, amount) in of(full.resources.as_ref()).iter() {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            sum.set(name.clone(), amount);
        }
    }
    sum
}

/// Says which containers do not ask for what a quota counts, if that is so (`Constraints`).
pub fn missing_requests(pod: &Pod, counted: impl Fn(&str) -> bool) -> Option<String> {
    let full = &pod.spec.full;
    let has_pod_level = full.resources.as_ref().is_some_and(|resources| {
        resources.requests.iter().chain(&resources.limits).flatten().any(|(name, _)| name == "cpu" || name == "memory")
    });
    if has_pod_level {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let containers = full.containers.iter().chain(full.init_containers.iter().flatten());
    for container in containers {
        let resources = container.resources.as_ref();
        let requests = Amounts::of_valid(resources.and_then(|resources| resources.requests.as_ref()));
        let limits = Amounts::of_valid(resources.and_then(|resources| resources.limits.as_ref()));
        let named = compute_usage(&requests, &limits);
        for required in REQUIRED.into_iter().filter(|required| counted(required) && named.get(required).is_none()) {
            missing.entry(required).or_default().insert(&container.name);
        }
    }
    let one = |(resource, containers): (&&str, &BTreeSet<&str>)| {
        let names: Vec<&str> = containers.iter().copied().collect();
        format!("{resource} for: {}", names.join(","))
    };
    (!missing.is_empty()).then(|| format!("must specify {}", missing.iter().map(one).collect::<Vec<_>>().join("; ")))
}

fn of_service(service: &Service, used: &mut Amounts) {
    let spec = &service.spec;
    let ports = spec.ports.iter().flatten();
    let all = ports.clone().count() as i64;
    let (node_ports, balancers) = match counted_type(service) {
        "NodePort" => (all, 0),
        "LoadBalancer" if spec.allocate_load_balancer_node_ports == Some(false) => {
            (ports.filter(|port| port.node_port.unwrap_or(0) != 0).count() as i64, 1)
        }
        "LoadBalancer" => (all, 1),
        _ => (0, 0),
    };
    used.set_count("services", 1);
    used.set_count("services.nodeports", node_ports);
    used.set_count("services.loadbalancers", balancers);
}

fn of_claim(claim: &PersistentVolumeClaim, used: &mut Amounts) {
    let content = &claim.content;
    let spec = content.spec.as_ref();
    // The annotation came before the field and goes before it (component-helpers, `GetPersistentVolumeClaimClass`).
    let class = claim.meta.annotations.get(CLASS_ANNOTATION).map(Name::as_str);
    let class = class.or_else(|| spec?.storage_class_name.as_deref()).filter(|class| !class.is_empty());
    let requested = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    let allocated = content.status.as_ref().and_then(|status| status.allocated_resources.as_ref()?.get("storage"));
    let bytes = |text: Option<&Text>| {
        let amount = Quantity::of(text?).ok()?;
        Some(if amount.is_whole() { amount } else { Quantity::from_value(amount.value(), amount.format()) })
    };
    let storage = bytes(requested).map(|requested| bytes(allocated).map_or(requested, |it| it.max(requested)));
    let one = Quantity::from_value(1, Format::DecimalSi);
    for (name, amount) in [(OF_CLAIMS[0], Some(one)), (OF_CLAIMS[1], storage)] {
        let Some(amount) = amount else { continue };
        used.set(name, amount);
        if let Some(class) = class {
            used.set(Name::from(format!("{class}{OF_CLASS}{name}")), amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(kind: Kind, value: Value, expected: &str) {
        let object = Object::from_json(kind, value).expect("an object");
        assert_eq!(usage(&object, Timestamp(100)).to_string(), expected);
    }

    fn container(requests: Value, limits: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn pods_use_what_they_request_and_may_use() {
        let spec = json!({"containers": [container(json!({"cpu": "1m"}), json!({"cpu": "2m", "memory": "3Gi"}))]});
        check(
            Kind::Pod,
            json!({"metadata": {"name": "p"}, "spec": spec}),
            "count/pods=1,cpu=1m,limits.cpu=2m,limits.memory=3Gi,pods=1,requests.cpu=1m",
        );
        let devices =
            json!({"containers": [container(json!({"example.com/gpu": "3"}), json!({"example.com/gpu": "3"}))]});
        check(
            Kind::Pod,
            json!({"metadata": {"name": "p"}, "spec": devices}),
            "count/pods=1,pods=1,requests.example.com/gpu=3",
        );
    }

    #[test]
    fn an_init_container_counts_if_it_needs_more_than_what_runs_later_and_overhead_counts_always() {
        let spec = json!({
            "initContainers": [container(json!({"cpu": "2", "memory": "1Gi"}), json!({}))],
            "containers": [container(json!({"cpu": "1", "memory": "2Gi"}), json!({"cpu": "4"})), {"name": "d"}],
            "overhead": {"cpu": "500m", "memory": "1Gi"},
        });
        check(
            Kind::Pod,
            json!({"metadata": {"name": "p"}, "spec": spec}),
            "count/pods=1,cpu=2500m,limits.cpu=4500m,memory=3Gi,pods=1,requests.cpu=2500m,requests.memory=3Gi",
        );
    }

    #[test]
    fn a_pod_that_has_ended_or_should_be_gone_counts_as_an_object_only() {
        let spec = json!({"containers": [container(json!({"cpu": "1"}), json!({}))]});
        let ended = json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Succeeded"}});
        check(Kind::Pod, ended, "count/pods=1");
        let leaving = |at: &str, grace: i64| {
            let meta = json!({"name": "p", "deletionTimestamp": at, "deletionGracePeriodSeconds": grace});
            json!({"metadata": meta, "spec": spec})
        };
        let running = "count/pods=1,cpu=1,pods=1,requests.cpu=1";
        check(Kind::Pod, leaving("1970-01-01T00:01:10Z", 30), "count/pods=1");
        check(Kind::Pod, leaving("1970-01-01T00:01:11Z", 30), running);
        check(Kind::Pod, leaving("1970-01-01T00:01:40Z", 0), "count/pods=1");
        let pod = |value: Value| Object::from_json(Kind::Pod, value).expect("a pod");
        let (before, forced) = (leaving("1970-01-01T00:02:10Z", 30), leaving("1970-01-01T00:01:40Z", 0));
        assert!(would_release(&pod(before.clone()), &pod(forced.clone())));
        assert!(!would_release(&pod(forced.clone()), &pod(forced)));
        assert!(!would_release(&pod(json!({"metadata": {"name": "p"}, "spec": spec})), &pod(before)));
    }

    #[test]
    fn services_use_node_ports_and_load_balancers() {
        let service = |spec: Value| json!({"metadata": {"name": "s"}, "spec": spec});
        let used = |balancers: i32, ports: i32| {
            format!("count/services=1,services=1,services.loadbalancers={balancers},services.nodeports={ports}")
        };
        let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30_000}]);
        check(Kind::Service, service(json!({"type": "ClusterIP", "ports": ports})), &used(0, 0));
        check(Kind::Service, service(json!({"type": "NodePort", "ports": ports})), &used(0, 2));
        check(Kind::Service, service(json!({"type": "LoadBalancer", "ports": ports})), &used(1, 2));
        let bare = json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false});
        check(Kind::Service, service(bare), &used(1, 1));
    }

    #[test]
    fn claims_use_storage_in_whole_bytes_of_their_class_too() {
        let spec = json!({"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}});
        check(
            Kind::PersistentVolumeClaim,
            json!({"metadata": {"name": "c"}, "spec": spec}),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2",
        );
    }

    #[test]
    fn each_resource_is_counted_over_objects_of_its_kind() {
        let kinds = |resource: &str| Kind::all().filter(|kind| is_tracked_by(*kind, resource)).collect::<Vec<_>>();
        for (resource, kind) in [
            ("count/deployments.apps", Kind::Deployment),
            ("count/pods", Kind::Pod),
            ("requests.cpu", Kind::Pod),
            ("requests.example.com/gpu", Kind::Pod),
            ("hugepages-2Mi", Kind::Pod),
            ("services.nodeports", Kind::Service),
            ("gold.storageclass.storage.k8s.io/requests.storage", Kind::PersistentVolumeClaim),
            ("configmaps", Kind::ConfigMap),
            ("resourcequotas", Kind::ResourceQuota),
        ] {
            assert_eq!(kinds(resource), [kind], "{resource}");
        }
        for resource in ["count/events", "count/deployments", "count/nodes", "example.com/gpu", "storage"] {
            assert_eq!(kinds(resource), [], "{resource}");
        }
    }
}
