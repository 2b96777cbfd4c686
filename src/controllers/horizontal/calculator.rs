//! How many replicas a measure asks for (kubernetes, pkg/controller/podautoscaler/replica_calculator.go). Pure functions; floats as
//! there, in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, Pod, PodConditionType, PodPhase};
use crate::api::quantity::Quantity;
use crate::api::quota::pod_requests;
use crate::client::view::Now;
use crate::engine::time::SimDuration;

/// A measure of a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When it was measured.
    pub timestamp: Timestamp,
    /// Over how long.
    pub window: SimDuration,
    /// In thousandths.
    pub value: i64,
}

/// Measures by pod.
pub type Samples = BTreeMap<Name, Sample>;

/// How far from one the ratio of what is used to what should be may be before anything is done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tolerances {
    /// Below one.
    pub down: f64,
    /// Above one.
    pub up: f64,
}

impl Tolerances {
    fn hold(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What replicas are worked out from besides the measure.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    /// The pods that the target's selector selects.
    pub pods: &'a [Rc<Pod>],
    /// How many replicas the target asks for.
    pub current: i32,
    /// How far the ratio may be from one.
    pub tolerances: Tolerances,
    /// How long CPU of a young pod counts only if it is ready (`--horizontal-pod-autoscaler-cpu-initialization-period`).
    pub cpu_initialization: SimDuration,
    /// How soon after its start a pod that was never ready is known not to have been
    /// (`--horizontal-pod-autoscaler-initial-readiness-delay`).
    pub initial_readiness_delay: SimDuration,
    /// The present.
    pub now: Now,
}

/// The pods by what can be said of them (`groupPods`).
#[derive(Default)]
struct Groups {
    ready: usize,
    unready: BTreeSet<Name>,
    missing: BTreeSet<Name>,
    ignored: BTreeSet<Name>,
}

impl Groups {
    fn of(situation: &Situation<'_>, samples: &Samples, resource: &str) -> Groups {
        let mut groups = Groups::default();
        for pod in situation.pods {
            let name = || pod.meta.name.clone();
            if pod.meta.is_deleting() || pod.status.phase == PodPhase::Failed {
                groups.ignored.insert(name());
            } else if pod.status.phase == PodPhase::Pending {
                groups.unready.insert(name());
            } else if let Some(sample) = samples.get(&pod.meta.name) {
                if resource == "cpu" && is_unready(situation, pod, sample) {
                    groups.unready.insert(name());
                } else {
                    groups.ready += 1;
                }
            } else {
                groups.missing.insert(name());
            }
        }
        groups
    }
}

fn nanos(date: Timestamp) -> i128 {
    i128::from(date.0) * 1_000_000_000
}

/// True if the CPU that a pod uses says nothing of the work that it does.
fn is_unready(situation: &Situation<'_>, pod: &Pod, sample: &Sample) -> bool {
    let (Some(ready), Some(started)) = (pod.status.condition(&PodConditionType::Ready), pod.status.started()) else {
        return true;
    };
    let now = i128::from(situation.now.epoch.0) + i128::from(situation.now.at.as_nanos());
    let is_false = ready.status == ConditionStatus::False;
    let changed = nanos(ready.last_transition);
    if nanos(started) + i128::from(situation.cpu_initialization.as_nanos()) > now {
        return is_false || nanos(sample.timestamp) < changed + i128::from(sample.window.as_nanos());
    }
    is_false && nanos(started) + i128::from(situation.initial_readiness_delay.as_nanos()) > changed
}

/// What a measure asks for, and what the status tells of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// How many replicas.
    pub replicas: i32,
    /// The share of what is requested that is used, in hundredths.
    pub utilization: Option<i32>,
    /// What is used on average, in thousandths.
    pub usage: i64,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

/// How many replicas keep the used share of a resource at a target, in hundredths of what is requested (`GetResourceReplicas`).
pub fn by_utilization(
    situation: &Situation<'_>,
    mut samples: Samples,
    resource: &str,
    container: &str,
    target: i32,
) -> Result<Proposal, String> {
    if situation.pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let groups = Groups::of(situation, &samples, resource);
    samples.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
    if samples.is_empty() {
        return Err(NO_METRICS.to_owned());
    }
    let requests = requests(situation.pods, container, resource)?;
    let (ratio, utilization, usage) = utilization(&samples, &requests, target)?;
    let filler = |pod: &Name| requests.get(pod).copied().unwrap_or(0).saturating_mul(i64::from(target.max(100))) / 100;
    let again = |samples: &Samples| utilization_ratio(samples, &requests, target);
    let replicas = settle(situation, &groups, samples, ratio, &filler, &again)?;
    Ok(Proposal { replicas, utilization: Some(utilization), usage })
}

fn utilization_ratio(samples: &Samples, requests: &BTreeMap<Name, i64>, target: i32) -> Result<f64, String> {
    utilization(samples, requests, target).map(|(ratio, ..)| ratio)
}

/// `GetResourceUtilizationRatio`.
fn utilization(samples: &Samples, requests: &BTreeMap<Name, i64>, target: i32) -> Result<(f64, i32, i64), String> {
    let (mut used, mut requested, mut entries) = (0i64, 0i64, 0i64);
    for (pod, sample) in samples {
        let Some(request) = requests.get(pod) else { continue };
        used = used.saturating_add(sample.value);
        requested = requested.saturating_add(*request);
        entries += 1;
    }
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let share = (used.saturating_mul(100) / requested) as i32;
    Ok((f64::from(share) / f64::from(target), share, used / entries))
}

/// How many replicas keep a measure at a target on average, in thousandths (`calcPlainMetricReplicas`).
pub fn by_average(
    situation: &Situation<'_>,
    mut samples: Samples,
    resource: &str,
    target: i64,
) -> Result<Proposal, String> {
    if situation.pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let groups = Groups::of(situation, &samples, resource);
    samples.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
    if samples.is_empty() {
        return Err(NO_METRICS.to_owned());
    }
    let average = |samples: &Samples| {
        let total = samples.values().fold(0i64, |total, sample| total.saturating_add(sample.value));
        total / samples.len() as i64
    };
    let usage = average(&samples);
    let ratio = usage as f64 / target as f64;
    let again = |samples: &Samples| Ok(average(samples) as f64 / target as f64);
    let replicas = settle(situation, &groups, samples, ratio, &|_| target, &again)?;
    Ok(Proposal { replicas, utilization: None, usage })
}

/// What a ratio asks for. Pods of which nothing is known count as it is least likely to do harm: as using what they should when
/// there would be fewer, as using nothing when there would be more.
fn settle(
    situation: &Situation<'_>,
    groups: &Groups,
    mut samples: Samples,
    ratio: f64,
    filler: &dyn Fn(&Name) -> i64,
    again: &dyn Fn(&Samples) -> Result<f64, String>,
) -> Result<i32, String> {
    let Situation { current, tolerances, .. } = *situation;
    let grows_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !grows_with_unready && groups.missing.is_empty() {
        return Ok(if tolerances.hold(ratio) { current } else { libm::ceil(ratio * groups.ready as f64) as i32 });
    }
    let mut fill = |pod: &Name, value: i64| {
        let sample = Sample { timestamp: Timestamp::default(), window: SimDuration::ZERO, value };
        samples.insert(pod.clone(), sample);
    };
    if ratio < 1.0 {
        groups.missing.iter().for_each(|pod| fill(pod, filler(pod)));
    } else if ratio > 1.0 {
        groups.missing.iter().for_each(|pod| fill(pod, 0));
    }
    if grows_with_unready {
        groups.unready.iter().for_each(|pod| fill(pod, 0));
    }
    let new_ratio = again(&samples)?;
    let turned = (ratio < 1.0 && new_ratio > 1.0) || (ratio > 1.0 && new_ratio < 1.0);
    if tolerances.hold(new_ratio) || turned {
        return Ok(current);
    }
    let replicas = libm::ceil(new_ratio * samples.len() as f64) as i32;
    let against = (new_ratio < 1.0 && replicas > current) || (new_ratio > 1.0 && replicas < current);
    Ok(if against { current } else { replicas })
}

/// What each pod requests of a resource, in thousandths (`calculateRequests`).
fn requests(pods: &[Rc<Pod>], container: &str, resource: &str) -> Result<BTreeMap<Name, i64>, String> {
    // Pods of one template request the same.
    let mut last: Option<(*const crate::api::pod::PodSpec, i64)> = None;
    let mut requests = BTreeMap::new();
    for pod in pods {
        let spec = Rc::as_ptr(&pod.spec);
        let request = match last {
            Some((known, request)) if known == spec => request,
            _ => request(pod, container, resource)?,
        };
        last = Some((spec, request));
        requests.insert(pod.meta.name.clone(), request);
    }
    Ok(requests)
}

fn request(pod: &Pod, container: &str, resource: &str) -> Result<i64, String> {
    let full = &pod.spec.full;
    let name = &pod.meta.name;
    let pod_level = full.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let is_pod_level = pod_level.is_some_and(|list| {
        list.keys().any(|name| name == "cpu" || name == "memory" || name.starts_with("hugepages-"))
    });
    if is_pod_level && container.is_empty() {
        let missing = || format!("missing pod-level request for {resource} in Pod {name}");
        return Ok(pod_requests(full).get(resource).ok_or_else(missing)?.milli_value());
    }
    let sidecars = full.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut sum = 0;
    for one in full.containers.iter().chain(sidecars).filter(|one| container.is_empty() || one.name == container) {
        let list = one.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let amount = list.and_then(|list| Quantity::of(list.get(resource)?).ok());
        let missing = || format!("missing request for {resource} in container {} of Pod {name}", one.name);
        sum += amount.ok_or_else(missing)?.milli_value();
        if one.name == container {
            return Ok(sum);
        }
    }
    match container {
        "" => Ok(sum),
        container => Err(format!("container {container} not found in Pod {name}")),
    }
}

/// How many replicas a ratio asks for that is measured elsewhere (`getUsageRatioReplicaCount`).
pub fn by_ratio(situation: &Situation<'_>, ratio: f64) -> Result<i32, String> {
    if situation.current == 0 {
        return Ok(libm::ceil(ratio) as i32);
    }
    if situation.tolerances.hold(ratio) {
        return Ok(situation.current);
    }
    if situation.pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}"));
    }
    let is_ready = |pod: &&Rc<Pod>| pod.status.phase == PodPhase::Running && pod.status.is_ready();
    let ready = situation.pods.iter().filter(is_ready).count();
    Ok(libm::ceil(ratio * ready as f64) as i32)
}

/// How many replicas a total asks for of which each should bear so much; and what each bears now (`GetExternalPerPodMetricReplicas`).
pub fn by_share(situation: &Situation<'_>, present: i32, total: i64, target: i64) -> (i32, i64) {
    let ratio = total as f64 / (target as f64 * f64::from(present));
    let replicas = match situation.tolerances.hold(ratio) {
        true => present,
        false => libm::ceil(total as f64 / target as f64) as i32,
    };
    (replicas, libm::ceil(total as f64 / f64::from(present)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;
    use crate::api::meta::Epoch;
    use crate::api::object::Object;
    use crate::engine::time::SimTime;
    use serde_json::{Value, json};

    /// How a pod is, and what it uses; none if nothing is known.
    #[derive(Clone, Copy)]
    enum Is {
        Ready(i64),
        /// Not ready since its start, which was long ago.
        NeverReady(i64),
        /// Just started, not ready.
        Young(i64),
        Pending,
        Missing,
        Deleting(i64),
        Failed,
    }

    fn pod(number: usize, is: Is, requests: Value) -> Rc<Pod> {
        let date = |seconds: i64| jiff::Timestamp::from_second(seconds).expect("a date").to_string();
        let (phase, ready, started) = match is {
            Is::Pending => ("Pending", "False", 990),
            Is::Failed => ("Failed", "False", 10),
            Is::NeverReady(_) => ("Running", "False", 100),
            Is::Young(_) => ("Running", "False", 990),
            _ => ("Running", "True", 100),
        };
        let mut value = json!({
            "metadata": {"name": format!("pod-{number}"), "namespace": "a"},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]},
            "status": {
                "phase": phase, "startTime": date(started),
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": date(started)}]
            }
        });
        if let Is::Deleting(_) = is {
            value["metadata"]["deletionTimestamp"] = date(999).into();
        }
        Object::from_json(Kind::Pod, value).expect("a pod").get::<Pod>().expect("a pod").clone()
    }

    struct Case {
        pods: Vec<Rc<Pod>>,
        samples: Samples,
        current: i32,
    }

    fn case(pods: &[Is]) -> Case {
        let made = pods.iter().enumerate().map(|(number, is)| pod(number, *is, json!({"cpu": "1"})));
        let sample = |(number, is): (usize, &Is)| match is {
            Is::Ready(value) | Is::NeverReady(value) | Is::Young(value) | Is::Deleting(value) => {
                let (timestamp, window) = (Timestamp(995), SimDuration::from_secs(20));
                Some((Name::from(format!("pod-{number}")), Sample { timestamp, window, value: *value }))
            }
            _ => None,
        };
        let samples = pods.iter().enumerate().filter_map(sample).collect();
        Case { pods: made.collect(), samples, current: pods.len() as i32 }
    }

    impl Case {
        fn situation(&self) -> Situation<'_> {
            Situation {
                pods: &self.pods,
                current: self.current,
                tolerances: Tolerances { down: 0.1, up: 0.1 },
                cpu_initialization: SimDuration::from_secs(300),
                initial_readiness_delay: SimDuration::from_secs(30),
                now: Now { at: SimTime::ZERO + SimDuration::from_secs(1000), epoch: Epoch(0) },
            }
        }

        fn cpu(&self, target: i32) -> Result<(i32, Option<i32>, i64), String> {
            by_utilization(&self.situation(), self.samples.clone(), "cpu", "", target)
                .map(|proposal| (proposal.replicas, proposal.utilization, proposal.usage))
        }

        fn measure(&self, target: i64) -> Result<i32, String> {
            by_average(&self.situation(), self.samples.clone(), "", target).map(|proposal| proposal.replicas)
        }
    }

    #[test]
    fn replicas_follow_what_is_used() {
        use Is::Ready;
        let busy = case(&[Ready(300), Ready(500), Ready(700)]);
        assert_eq!(busy.cpu(30), Ok((5, Some(50), 500)));
        assert_eq!(busy.cpu(50), Ok((3, Some(50), 500)), "all is as it should be");
        assert_eq!(busy.cpu(46), Ok((3, Some(50), 500)), "within the tolerance");
        assert_eq!(busy.cpu(45), Ok((4, Some(50), 500)), "and just outside of it");
        assert_eq!(busy.cpu(100), Ok((2, Some(50), 500)));
        assert_eq!(busy.measure(250), Ok(6));
    }

    #[test]
    fn pods_that_have_no_measure_count_so_that_nothing_is_overdone() {
        use Is::{Missing, Ready};
        // Without the third pod's measure four would be asked for: it counts as idle.
        assert_eq!(case(&[Ready(1000), Ready(1000), Missing]).cpu(50).map(|all| all.0), Ok(4));
        assert_eq!(
            case(&[Ready(600), Ready(600), Missing]).cpu(50).map(|all| all.0),
            Ok(3),
            "the direction would turn"
        );
        // It counts as using all that it requests when there would be fewer.
        assert_eq!(case(&[Ready(100), Ready(100), Missing]).cpu(50).map(|all| all.0), Ok(3));
        assert_eq!(case(&[Ready(10), Ready(10), Ready(10), Ready(10), Missing]).cpu(50).map(|all| all.0), Ok(2));
    }

    #[test]
    fn pods_that_are_not_ready_do_not_count_as_busy() {
        use Is::{NeverReady, Pending, Ready, Young};
        assert_eq!(case(&[Ready(1000), Pending]).cpu(50).map(|all| all.0), Ok(2), "1000 of 2000 is what should be");
        assert_eq!(case(&[Ready(2000), Young(900)]).cpu(50).map(|all| all.0), Ok(4));
        assert_eq!(case(&[Ready(2000), NeverReady(900)]).cpu(50).map(|all| all.0), Ok(4));
        assert_eq!(
            case(&[Ready(100), Pending, Pending]).cpu(50).map(|all| all.0),
            Ok(1),
            "when there will be fewer they are left out"
        );
        assert_eq!(case(&[Young(900), Pending]).cpu(50), Err(NO_METRICS.to_owned()));
    }

    #[test]
    fn pods_that_go_or_have_failed_do_not_count_at_all() {
        use Is::{Deleting, Failed, Ready};
        assert_eq!(case(&[Ready(800), Deleting(1000), Failed]).cpu(40).map(|all| all.0), Ok(2));
    }

    #[test]
    fn a_share_needs_requests() {
        let mut case = case(&[Is::Ready(1)]);
        case.pods = vec![pod(0, Is::Ready(1), json!({"memory": "1Gi"}))];
        assert_eq!(case.cpu(50), Err("missing request for cpu in container c of Pod pod-0".to_owned()));
        let other = by_utilization(&case.situation(), case.samples.clone(), "memory", "d", 50);
        assert_eq!(other, Err("container d not found in Pod pod-0".to_owned()));
    }

    #[test]
    fn measures_from_elsewhere_ask_by_ratio_or_by_share() {
        let case = case(&[Is::Ready(1), Is::Ready(1), Is::Pending]);
        assert_eq!(by_ratio(&case.situation(), 2.0), Ok(4), "two are ready");
        assert_eq!(by_ratio(&case.situation(), 1.05), Ok(3));
        assert_eq!(by_share(&case.situation(), 3, 8600, 2150), (4, 2867));
        assert_eq!(by_share(&case.situation(), 3, 6600, 2150), (3, 2200));
    }

    #[test]
    fn a_tolerance_of_ones_own_may_differ_upwards_and_downwards() {
        let case = case(&[Is::Ready(550), Is::Ready(550)]);
        let mut situation = case.situation();
        situation.tolerances = Tolerances { down: 0.3, up: 0.0 };
        let ask = |target| by_utilization(&situation, case.samples.clone(), "cpu", "", target).map(|it| it.replicas);
        assert_eq!(ask(54), Ok(3));
        assert_eq!(ask(75), Ok(2));
    }
}
