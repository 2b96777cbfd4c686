//! What pods hold of resources while they are resized in place: what the kubelet has set aside for a container, what the
//! container runs with, and what follows for the pod's requests (component-helpers, resource: `PodRequests`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::name::Name;
use super::pod::{Pod, PodConditionType, PodPhase, PodSpec, PodStatus};
use super::quantity::{Format, Quantity};
use super::resources::Resources;

/// CPU that scoring assumes for a container that requests none, in thousandths
/// (kube-scheduler, util/pod_resources: `DefaultMilliCPURequest`).
pub const SCORING_MILLI_CPU: i64 = 100;
/// Memory that scoring assumes for a container that requests none, in bytes
/// (kube-scheduler, util/pod_resources: `DefaultMemoryRequest`).
pub const SCORING_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource name, as the API shows them.
pub type Amounts = Vec<(Name, Quantity)>;

/// What the kubelet reports of the resources of a pod and its containers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reported {
    /// By the name of the container, init containers among them.
    pub containers: BTreeMap<Name, Held>,
    /// Of the pod as a whole.
    pub pod: Held,
}

/// What is reported of one container, or of a pod as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// `allocatedResources`: what is set aside.
    pub allocated: Amounts,
    /// `resources`: what it runs with; none if that is not reported.
    pub actual: Option<Actual>,
}

/// What a container, or a pod as a whole, runs with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Actual {
    pub requests: Amounts,
    pub limits: Amounts,
}

/// What a pod requests, its resizes taken into account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    /// What the scheduler reserves.
    pub requests: Resources,
    /// CPU in thousandths and memory in bytes that the scheduler takes a pod on a node to use when it scores.
    pub scoring: [i64; 2],
}

/// Requests, or limits, by resource. An amount of zero differs from none.
type Requests<'a> = BTreeMap<&'a str, Quantity>;

impl Pod {
    /// What the pod requests if its kubelet reports resources; none if the specification says it all.
    pub fn resized(&self) -> Option<Effective> {
        let reported = self.status.reported.as_deref()?;
        let requests = requests(&self.spec, &self.status, reported, |_| None);
        let assumed = assumed_for_scoring(&self.spec, &requests);
        let scoring = self::requests(&self.spec, &self.status, reported, assumed);
        let of = |name: &str| scoring.get(name).map_or(0, |amount| whole(name, *amount));
        Some(Effective { scoring: [of("cpu"), of("memory")], requests: to_resources(&requests) })
    }

    /// What kubelets that tell of resources say of a pod that was never resized (kubelet_pods.go, `convertToAPIContainerStatuses`,
    /// `convertToAPIPodLevelResourcesStatus`): a container has what it is to have from when it is made, and a running pod's
    /// control group knows of CPU and memory only. None if nothing is told.
    pub fn implied(&self) -> Option<Reported> {
        let statuses = self.status.init_containers.iter().chain(self.status.containers.iter());
        let mut told = statuses.filter(|status| status.detailed).peekable();
        told.peek()?;
        let mut reported = Reported::of(&self.spec, &self.spec);
        let made: Vec<&Name> =
            told.filter(|status| !status.container_id.is_empty()).map(|status| &status.name).collect();
        reported.containers.retain(|name, _| made.contains(&name));
        if self.status.phase != PodPhase::Pending
            && let Some(actual) = &mut reported.pod.actual
        {
            for amounts in [&mut actual.requests, &mut actual.limits] {
                amounts.retain(|(name, _)| matches!(name.as_str(), "cpu" | "memory"));
            }
        }
        Some(reported)
    }
}

impl Reported {
    /// What there is to report of a pod for which one specification is set aside while its containers run with another.
    pub fn of(allocated: &PodSpec, actual: &PodSpec) -> Reported {
        let amounts = |list: Option<&BTreeMap<String, Text>>| to_requests(list).into_iter().map(named).collect();
        let held = |(allocated, actual): (&core::Container, &core::Container)| {
            let (name, allocated, actual) = (&allocated.name, allocated.resources.as_ref(), actual.resources.as_ref());
            let held = Held {
                allocated: amounts(allocated.and_then(|resources| resources.requests.as_ref())),
                actual: Some(Actual {
                    requests: amounts(actual.and_then(|resources| resources.requests.as_ref())),
                    limits: amounts(actual.and_then(|resources| resources.limits.as_ref())),
                }),
            };
            (Name::from(name), held)
        };
        let pod = Held {
            allocated: total_requests(allocated),
            actual: Some(Actual { requests: total_requests(actual), limits: total_limits(actual) }),
        };
        Reported { containers: containers(allocated).zip(containers(actual)).map(held).collect(), pod }
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &core::Container> {
    spec.full.init_containers.iter().flatten().chain(&spec.full.containers)
}

fn named((name, amount): (&str, Quantity)) -> (Name, Quantity) {
    (Name::from(name), amount)
}

/// `PodRequests`, by specification alone.
fn total_requests(spec: &PodSpec) -> Amounts {
    let nothing = Reported::default();
    let requests = requests(spec, &PodStatus::default(), &nothing, |_| None);
    requests.into_iter().map(named).collect()
}

/// `PodLimits`: overhead counts only where there is a limit.
fn total_limits(spec: &PodSpec) -> Amounts {
    let mut total =
        together(spec, |container, _| to_requests(container.resources.as_ref().and_then(|r| r.limits.as_ref())));
    total.extend(pod_level(spec.full.resources.as_ref().and_then(|resources| resources.limits.as_ref())));
    for (name, amount) in to_requests(spec.full.overhead.as_ref()) {
        if let Some(total) = total.get_mut(name).filter(|total| !total.is_zero()) {
            *total = total.plus(amount);
        }
    }
    total.into_iter().map(named).collect()
}

/// What scoring assumes of a resource for each container that does not request it. With requests for the pod as a whole it is
/// nothing where anybody requests the resource (kube-scheduler, `getNonMissingContainerRequests`).
fn assumed_for_scoring<'a>(spec: &PodSpec, requests: &'a Requests<'_>) -> impl Fn(&str) -> Option<Quantity> + 'a {
    let for_pod = pod_level_requests(spec).next().is_some();
    move |name: &str| match name {
        _ if for_pod && requests.contains_key(name) => None,
        "cpu" => Some(Quantity::from_milli(SCORING_MILLI_CPU, Format::DecimalSi)),
        "memory" => Some(Quantity::from_value(SCORING_MEMORY, Format::BinarySi)),
        _ => None,
    }
}

fn to_resources(requests: &Requests<'_>) -> Resources {
    let mut resources = Resources::default();
    for (name, amount) in requests {
        let amount = whole(name, *amount);
        match *name {
            "cpu" => resources.milli_cpu = amount,
            "memory" => resources.memory = amount,
            "ephemeral-storage" => resources.ephemeral_storage = amount,
            "pods" => resources.pods = amount,
            _ => resources.set_scalar(&Name::from(*name), amount),
        }
    }
    resources
}

/// `PodRequests`, with the reported resources in use; `assumed` is what counts for a container that names a resource not at all.
fn requests<'a>(
    spec: &'a PodSpec,
    status: &PodStatus,
    reported: &'a Reported,
    assumed: impl Fn(&str) -> Option<Quantity>,
) -> Requests<'a> {
    let infeasible = is_infeasible(status);
    let of = |container: &'a core::Container, may_resize: bool| {
        let mut wanted = of_container(container);
        if may_resize && let Some(held) = reported.containers.get(container.name.as_str()) {
            wanted = effective(wanted, held, infeasible);
        }
        for name in ["cpu", "memory"] {
            if let Some(amount) = assumed(name) {
                wanted.entry(name).or_insert(amount);
            }
        }
        wanted
    };
    let mut total = together(spec, of);
    let for_pod: Requests<'a> = pod_level_requests(spec).collect();
    let held = reported.pod.actual.is_some().then(|| effective(for_pod.clone(), &reported.pod, infeasible));
    for (name, amount) in for_pod {
        let amount = held.as_ref().map_or(amount, |held| held.get(name).copied().unwrap_or_default());
        total.insert(name, amount);
    }
    add(&mut total, &to_requests(spec.full.overhead.as_ref()));
    total
}

/// What containers have together: main containers and sidecars, or, if that is more, an init container beside the sidecars started before
/// it. `of` is told whether the container may be resized.
fn together<'a>(spec: &'a PodSpec, of: impl Fn(&'a core::Container, bool) -> Requests<'a>) -> Requests<'a> {
    let mut total = Requests::new();
    spec.full.containers.iter().for_each(|container| add(&mut total, &of(container, true)));
    let (mut sidecars, mut starting) = (Requests::new(), Requests::new());
    for container in spec.full.init_containers.iter().flatten() {
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        let mut wanted = of(container, is_sidecar);
        if is_sidecar {
            add(&mut total, &wanted);
            add(&mut sidecars, &wanted);
            wanted = sidecars.clone();
        } else {
            add(&mut wanted, &sidecars);
        }
        raise(&mut starting, &wanted);
    }
    raise(&mut total, &starting);
    total
}

/// What a container asks for; a limit without a request is a request too.
fn of_container(container: &core::Container) -> Requests<'_> {
    let resources = container.resources.as_ref();
    let mut wanted = to_requests(resources.and_then(|resources| resources.requests.as_ref()));
    for (name, amount) in to_requests(resources.and_then(|resources| resources.limits.as_ref())) {
        wanted.entry(name).or_insert(amount);
    }
    wanted
}

fn pod_level_requests(spec: &PodSpec) -> impl Iterator<Item = (&str, Quantity)> {
    pod_level(spec.full.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// Amounts for the pod as a whole, of the resources for which that can be said.
fn pod_level(amounts: Option<&BTreeMap<String, Text>>) -> impl Iterator<Item = (&str, Quantity)> {
    to_requests(amounts)
        .into_iter()
        .filter(|(name, _)| matches!(*name, "cpu" | "memory") || name.starts_with("hugepages-"))
}

/// The largest of what is asked for, set aside and in use; what is asked for does not count if the node can never give it
/// (`determineEffectiveRequests`).
fn effective<'a>(wanted: Requests<'a>, held: &'a Held, infeasible: bool) -> Requests<'a> {
    let Some(actual) = &held.actual else { return wanted };
    let mut largest = if infeasible { Requests::new() } else { wanted };
    for amounts in [&actual.requests, &held.allocated] {
        let amounts = amounts.iter().map(|(name, amount)| (name.as_str(), *amount));
        raise(&mut largest, &amounts.collect());
    }
    largest
}

/// True if the pod's kubelet has said that it can never give what is asked for (`IsPodResizeInfeasible`).
fn is_infeasible(status: &PodStatus) -> bool {
    let is_pending =
        |kind: &PodConditionType| matches!(kind, PodConditionType::Other(name) if *name == "PodResizePending");
    let pending = status.conditions.iter().find(|condition| is_pending(&condition.kind));
    pending.is_some_and(|pending| pending.why.reason() == Some("Infeasible"))
}

fn to_requests(amounts: Option<&BTreeMap<String, Text>>) -> Requests<'_> {
    let amount = |text: &Text| Quantity::of(text).unwrap_or_default();
    amounts.into_iter().flatten().map(|(name, text)| (name.as_str(), amount(text))).collect()
}

fn whole(name: &str, amount: Quantity) -> i64 {
    if name == "cpu" { amount.milli_value() } else { amount.value() }
}

fn add<'a>(sum: &mut Requests<'a>, more: &Requests<'a>) {
    for (name, amount) in more {
        let sum = sum.entry(name).or_default();
        *sum = sum.plus(*amount);
    }
}

fn raise<'a>(largest: &mut Requests<'a>, other: &Requests<'a>) {
    for (name, amount) in other {
        let largest = largest.entry(name).or_insert(*amount);
        *largest = (*largest).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;
    use crate::api::object::Object;
    use serde_json::{Value, json};

    fn resized(spec: Value, status: Value) -> Option<Effective> {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        let object = Object::from_json(Kind::Pod, pod.clone()).expect("a pod");
        let again = object.to_json();
        assert_eq!(again["status"]["containerStatuses"], pod["status"]["containerStatuses"]);
        object.get::<Pod>().expect("a pod").resized()
    }

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "image": "i", "resources": {"requests": {"cpu": cpu}}})
    }

    fn reported(name: &str, allocated: &str, actual: &str) -> Value {
        json!({
            "name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "lastState": {},
            "allocatedResources": {"cpu": allocated}, "resources": {"requests": {"cpu": actual}}
        })
    }

    #[test]
    fn a_pod_that_is_resized_counts_with_the_most_that_it_holds_or_asks_for() {
        let spec = json!({"containers": [container("a", "100m"), container("b", "100m")]});
        let status = |reason: &str| {
            json!({
                "containerStatuses": [reported("a", "300m", "200m")],
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}]
            })
        };
        let cpu = |reason: &str| resized(spec.clone(), status(reason)).map(|found| found.requests.milli_cpu);
        assert_eq!(cpu("Deferred"), Some(400));
        let larger = json!({"containers": [container("a", "1"), container("b", "100m")]});
        let wants_more = |reason: &str| resized(larger.clone(), status(reason)).map(|found| found.requests.milli_cpu);
        assert_eq!((wants_more("Deferred"), wants_more("Infeasible")), (Some(1100), Some(400)));
        assert_eq!(resized(spec.clone(), json!({})), None);
    }

    #[test]
    fn scoring_assumes_something_for_what_nobody_names() {
        let spec = json!({"containers": [container("a", "0"), {"name": "b", "image": "i"}]});
        let status = json!({"containerStatuses": [reported("a", "0", "0")]});
        let found = resized(spec, status).expect("a resize");
        assert_eq!((found.requests.milli_cpu, found.scoring), (0, [100, 2 * SCORING_MEMORY]));
    }
}
