//! What the metrics APIs answer: how much pods use (metrics.k8s.io), and named measures of pods, of other objects and of things
//! outside the cluster (custom.metrics.k8s.io, external.metrics.k8s.io).
//!
//! Behind the real APIs stand metrics-server, which scrapes every kubelet each 15 s, and adapters of monitoring systems. Here
//! an answer is worked out when somebody asks: from what pods say of their containers, from what the images' models say of
//! usage, and from the scenario's signals, as of the scrapes that would have been made. So nobody pays for scrapes of
//! which nobody hears. metrics-server is a process that can be absent or die (`metrics_server`); it reaches every node that the
//! control plane holds to be ready.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::api::meta::{Epoch, Labels, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, ContainerState, Pod, PodConditionType, PodPhase};
use crate::api::selector::Selector;
use crate::engine::time::{SimDuration, SimTime};

use super::metrics_server::MetricsServer;
use super::status::{Reason, Status};

/// How often metrics-server scrapes the kubelets (`--metric-resolution`).
const SCRAPE: SimDuration = SimDuration::from_secs(15);
/// How long until what a scrape has found is shown: the kubelets' answers are gathered first.
const GATHERING: SimDuration = SimDuration::from_millis(200);
/// How often a kubelet looks at what a container uses (cAdvisor, `--housekeeping-interval`), counted from its start.
const HOUSEKEEPING: SimDuration = SimDuration::from_secs(10);
/// How long the number of pods behind a signal is remembered.
const REMEMBERED: SimDuration = SimDuration::from_secs(120);
const CUSTOM_WINDOW: SimDuration = SimDuration::from_secs(60);

/// What a container uses, from its start on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContainerUse {
    /// CPU in thousandths of a core, from an age on.
    pub milli_cpu: Vec<(SimDuration, u64)>,
    /// Memory in bytes, from an age on.
    pub memory: Vec<(SimDuration, u64)>,
    /// CPU in thousandths of a core for each unit of load that the pod bears.
    pub milli_cpu_per_unit: u64,
    /// Memory in bytes for each unit of load that the pod bears.
    pub memory_per_unit: u64,
}

/// Says what containers use.
pub trait Uses: fmt::Debug {
    /// What a container of an image uses.
    fn of(&self, image: &str, pod: &str, container: &str) -> ContainerUse;

    /// True if load costs any container memory.
    fn load_costs_memory(&self) -> bool {
        false
    }
}

/// What a signal is a measure of.
#[derive(Clone, Debug)]
pub enum Measured {
    /// Of pods: work that the ready ones among those that are selected share. It is a metric of each pod (custom.metrics.k8s.io), and
    /// the load that their images' models speak of.
    Pods(Selector),
    /// Of an object (custom.metrics.k8s.io).
    Object {
        /// Its kind.
        kind: Name,
        /// Its name.
        name: Name,
    },
    /// Of something outside the cluster, told apart by these labels (external.metrics.k8s.io).
    External(Labels),
}

/// A measure that changes over time.
#[derive(Clone, Debug)]
pub struct Signal {
    /// What it is called.
    pub name: Name,
    /// The namespace in which it is known.
    pub namespace: Name,
    /// What it is a measure of.
    pub of: Measured,
    /// Its amount in thousandths, from a time on.
    pub steps: Vec<(SimTime, i64)>,
}

impl Signal {
    fn at(&self, time: SimTime) -> i64 {
        self.steps.iter().rfind(|(from, _)| *from <= time).map_or(0, |(_, amount)| *amount)
    }
}

/// A signal and the pods that share it.
#[derive(Debug)]
struct Kept {
    signal: Signal,
    /// The pods that share it, and their nodes.
    ready: BTreeMap<Uid, Name>,
    /// How many pods shared it, from a time on.
    counts: Vec<(SimTime, u64)>,
}

impl Kept {
    /// What one pod had of it between two times: thousandths times nanoseconds.
    fn share_between(&self, from: SimTime, to: SimTime) -> i128 {
        let changes = self.signal.steps.iter().map(|(at, _)| *at).chain(self.counts.iter().map(|(at, _)| *at));
        let mut bounds: Vec<SimTime> = changes.filter(|at| from < *at && *at < to).collect();
        bounds.extend([from, to]);
        bounds.sort_unstable();
        let piece =
            |pair: &[SimTime]| i128::from(self.share_at(pair[0])) * i128::from(pair[1].since(pair[0]).as_nanos());
        bounds.windows(2).map(piece).sum()
    }

    /// What one pod has of it at a time, in thousandths.
    fn share_at(&self, time: SimTime) -> i64 {
        let pods = self.counts.iter().rfind(|(from, _)| *from <= time).map_or(0, |(_, count)| *count);
        if pods == 0 { 0 } else { self.signal.at(time) / pods as i64 }
    }

    fn concerns(&self, pod: &Pod) -> bool {
        matches!(&self.signal.of, Measured::Pods(selector) if selector.matches(&pod.meta.labels))
            && pod.meta.namespace == self.signal.namespace
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum MetricsQuery {
    /// What pods use: `pods.metrics.k8s.io`.
    Resources,
    /// A measure of each pod: `pods/*/NAME`.
    Pods {
        /// Its name.
        metric: Name,
    },
    /// A measure of an object.
    Object {
        /// The object's kind.
        kind: Name,
        /// The object's name.
        name: Name,
        /// The measure's name.
        metric: Name,
    },
    /// A measure of something outside the cluster.
    External {
        /// Its name.
        metric: Name,
        /// Of those with that name, which.
        selector: Rc<Selector>,
    },
}

/// What a container uses, as metrics-server tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerMetrics {
    /// The container.
    pub name: Name,
    /// CPU in thousandths of a core, on average over the window.
    pub milli_cpu: i64,
    /// Memory in bytes at the end of the window.
    pub memory: i64,
}

/// A measure of a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodMetrics {
    /// The pod.
    pub pod: Name,
    /// When it was measured.
    pub timestamp: Timestamp,
    /// Over how long.
    pub window: SimDuration,
    /// What its containers use; empty for other measures.
    pub containers: Vec<ContainerMetrics>,
    /// The measure in thousandths, for other measures.
    pub value: i64,
}

/// What a metrics API answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Measures {
    /// Of pods.
    Pods(Vec<PodMetrics>),
    /// Of anything else, in thousandths.
    Values(Vec<i64>),
}

/// All that metrics are worked out from, shared by all API servers.
#[derive(Debug)]
pub struct Metrics {
    uses: Rc<dyn Uses>,
    signals: RefCell<BTreeMap<Name, Kept>>,
    /// The process that scrapes.
    pub server: MetricsServer,
    /// Pods whose load may have changed, with their nodes; kept only if load costs memory.
    changed: RefCell<BTreeMap<Uid, Name>>,
    keeps_changed: bool,
}

/// Why an API does not answer at all: nobody has registered it where there is nothing that it could tell of. Its client finds
/// that out before it asks (custom_metrics, discovery.go), or by asking (external_metrics, client.go).
fn unserved(query: &MetricsQuery, signals: &BTreeMap<Name, Kept>) -> Option<String> {
    let is_external = |kept: &Kept| matches!(kept.signal.of, Measured::External(_));
    match query {
        MetricsQuery::Pods { .. } | MetricsQuery::Object { .. } if signals.values().all(is_external) => {
            Some("no custom metrics API (custom.metrics.k8s.io) registered".to_owned())
        }
        MetricsQuery::External { metric, .. } if !signals.values().any(is_external) => {
            Some(format!("the server could not find the requested resource (get {metric}.external.metrics.k8s.io)"))
        }
        _ => None,
    }
}

/// Containers of which nothing is known use nothing.
#[derive(Debug)]
struct Nothing;

impl Uses for Nothing {
    fn of(&self, _image: &str, _pod: &str, _container: &str) -> ContainerUse {
        ContainerUse::default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new(Rc::new(Nothing), Vec::new(), false)
    }
}

impl Metrics {
    /// Metrics of containers and signals, with metrics-server or without.
    pub fn new(uses: Rc<dyn Uses>, signals: Vec<Signal>, has_server: bool) -> Self {
        let keep = |signal: Signal| (signal.name.clone(), Kept { signal, ready: BTreeMap::new(), counts: Vec::new() });
        Metrics {
            keeps_changed: uses.load_costs_memory(),
            uses,
            signals: RefCell::new(signals.into_iter().map(keep).collect()),
            server: MetricsServer::new(has_server),
            changed: RefCell::default(),
        }
    }

    /// The times at which the load of pods changes by itself, if that matters to their containers.
    pub fn load_steps(&self) -> Vec<SimTime> {
        let signals = self.signals.borrow();
        let of_pods = signals.values().filter(|kept| self.keeps_changed && matches!(kept.signal.of, Measured::Pods(_)));
        of_pods.flat_map(|kept| kept.signal.steps.iter().map(|(at, _)| *at)).collect()
    }

    /// The load of all pods may have changed.
    pub fn load_changed(&self) {
        if self.keeps_changed {
            let signals = self.signals.borrow();
            self.changed.borrow_mut().extend(signals.values().flat_map(|kept| kept.ready.clone()));
        }
    }

    /// The pods whose load may have changed since this was last asked: the node, the pod, and its load in thousandths of a unit.
    pub fn take_loads(&self, now: SimTime) -> Vec<(Name, Uid, u64)> {
        if self.changed.borrow().is_empty() {
            return Vec::new();
        }
        let signals = self.signals.borrow();
        let load = |pod: Uid| {
            let shared = signals.values().filter(|kept| kept.ready.contains_key(&pod));
            shared.fold(0u64, |sum, kept| sum.saturating_add(u64::try_from(kept.share_at(now)).unwrap_or(0)))
        };
        std::mem::take(&mut *self.changed.borrow_mut()).into_iter().map(|(pod, node)| (node, pod, load(pod))).collect()
    }

    /// Changes the amount of a signal from now on; false if there is none of this name.
    pub fn set(&self, name: &str, amount: i64, now: SimTime) -> bool {
        let mut signals = self.signals.borrow_mut();
        let Some(kept) = signals.get_mut(name) else { return false };
        kept.signal.steps.retain(|(from, _)| *from <= now);
        kept.signal.steps.push((now, amount));
        if self.keeps_changed {
            self.changed.borrow_mut().extend(kept.ready.clone());
        }
        true
    }

    /// Notes that a pod was written: whether it shares in a signal may have changed.
    pub fn note(&self, old: Option<&Object>, new: Option<&Object>, now: SimTime) {
        let (Some(Object::Pod(pod)), signals) = (new.or(old), &self.signals) else { return };
        let mut signals = signals.borrow_mut();
        for kept in signals.values_mut().filter(|kept| kept.concerns(pod)) {
            let shares = new.is_some() && pod.status.is_ready() && !pod.is_terminal();
            let node = pod.node.clone().unwrap_or_default();
            let changed = match shares {
                true => kept.ready.insert(pod.meta.uid, node.clone()).is_none(),
                false => kept.ready.remove(&pod.meta.uid).is_some(),
            };
            if !changed {
                continue;
            }
            if self.keeps_changed {
                let mut all = self.changed.borrow_mut();
                all.insert(pod.meta.uid, node);
                all.extend(kept.ready.clone());
            }
            let count = kept.ready.len() as u64;
            kept.counts.retain(|(at, _)| *at != now);
            kept.counts.push((now, count));
            // The last one before those that are remembered still counts.
            let old = kept.counts.partition_point(|(at, _)| *at + REMEMBERED < now);
            kept.counts.drain(..old.saturating_sub(1));
        }
    }

    /// Answers a question about these pods of a namespace, or about something else in it.
    pub fn answer(
        &self,
        query: &MetricsQuery,
        namespace: &Name,
        pods: &mut dyn Iterator<Item = &Rc<Pod>>,
        epoch: Epoch,
        now: SimTime,
    ) -> Result<Measures, Box<Status>> {
        let missing = |what: String| Box::new(Status::new(Reason::NotFound, what));
        let signals = self.signals.borrow();
        if let Some(why) = unserved(query, &signals) {
            return Err(missing(why));
        }
        match query {
            MetricsQuery::Resources => {
                let since = self.server.scrapes_since(now)?;
                let resources = |pod: &Rc<Pod>| self.resources(pod, &signals, epoch, (since, now));
                Ok(Measures::Pods(pods.filter_map(resources).collect()))
            }
            MetricsQuery::Pods { metric } => {
                let kept = signals
                    .get(metric)
                    .filter(|kept| matches!(kept.signal.of, Measured::Pods(_)) && kept.signal.namespace == *namespace);
                let Some(kept) = kept else {
                    return Err(missing(format!("the server could not find the metric {metric} for pods")));
                };
                let timestamp = epoch.timestamp(now);
                let of = |pod: &Rc<Pod>| PodMetrics {
                    pod: pod.meta.name.clone(),
                    timestamp,
                    window: CUSTOM_WINDOW,
                    containers: Vec::new(),
                    value: kept.share_at(now),
                };
                Ok(Measures::Pods(pods.filter(|pod| kept.ready.contains_key(&pod.meta.uid)).map(of).collect()))
            }
            MetricsQuery::Object { kind, name, metric } => {
                let is_meant = |kept: &&Kept| {
                    kept.signal.namespace == *namespace
                        && matches!(&kept.signal.of, Measured::Object { kind: k, name: n } if k == kind && n == name)
                };
                match signals.get(metric).filter(is_meant) {
                    Some(kept) => Ok(Measures::Values(vec![kept.signal.at(now)])),
                    None => {
                        let resource = kind.to_ascii_lowercase();
                        Err(missing(format!("the server could not find the metric {metric} for {resource}s {name}")))
                    }
                }
            }
            MetricsQuery::External { metric, selector } => {
                let is_meant = |kept: &&Kept| {
                    kept.signal.namespace == *namespace
                        && matches!(&kept.signal.of, Measured::External(labels) if selector.matches(labels))
                };
                Ok(Measures::Values(
                    signals.get(metric).filter(is_meant).map(|kept| kept.signal.at(now)).into_iter().collect(),
                ))
            }
        }
    }

    /// What metrics-server tells of a pod; none as long as it has not looked at each of its containers twice.
    fn resources(
        &self,
        pod: &Pod,
        signals: &BTreeMap<Name, Kept>,
        epoch: Epoch,
        (since, now): (SimTime, SimTime),
    ) -> Option<PodMetrics> {
        if pod.status.phase != PodPhase::Running {
            return None;
        }
        let mut containers = Vec::new();
        let mut windows: Vec<(SimTime, SimTime)> = Vec::new();
        let statuses = pod.status.containers.iter().chain(pod.status.init_containers.iter());
        for status in statuses {
            let ContainerState::Running { started_at } = status.state else { continue };
            let started = epoch.sim_time(started_at);
            let (from, to) = seen(started, since, now)?;
            let used = self.uses.of(&status.image, &pod.meta.name, &status.name);
            let (busy, load) = self.load(pod, &used, signals, epoch, (from, to));
            let window = to.since(from).as_nanos().max(1);
            let own = integral(&used.milli_cpu, from.since(started), to.since(started));
            let average = (own + busy) / i128::from(window);
            let compiled = pod.spec.containers.iter().find(|container| container.name == status.name);
            let limit = compiled.map(|container| container.limits.milli_cpu).filter(|limit| *limit > 0);
            let milli_cpu = i64::try_from(average).unwrap_or(i64::MAX);
            let age = to.since(started);
            let memory = used.memory.iter().rfind(|(from, _)| *from <= age).map_or(0, |(_, bytes)| *bytes);
            containers.push(ContainerMetrics {
                name: status.name.clone(),
                milli_cpu: limit.map_or(milli_cpu, |limit| milli_cpu.min(limit)),
                memory: i64::try_from(memory.saturating_add(load)).unwrap_or(i64::MAX),
            });
            windows.push((from, to));
        }
        let (from, to) = windows.into_iter().min_by_key(|(_, to)| *to)?;
        Some(PodMetrics {
            pod: pod.meta.name.clone(),
            timestamp: epoch.timestamp(to),
            window: to.since(from),
            containers,
            value: 0,
        })
    }

    /// What the load that a pod bears costs a container: thousandths of CPU times nanoseconds in a span, and bytes at its end.
    fn load(
        &self,
        pod: &Pod,
        used: &ContainerUse,
        signals: &BTreeMap<Name, Kept>,
        epoch: Epoch,
        (from, to): (SimTime, SimTime),
    ) -> (i128, u64) {
        if used.milli_cpu_per_unit == 0 && used.memory_per_unit == 0 {
            return (0, 0);
        }
        let Some(ready) = pod.status.condition(&PodConditionType::Ready) else { return (0, 0) };
        let since = epoch.sim_time(ready.last_transition).clamp(from, to);
        let (from, to) = if ready.status == ConditionStatus::True { (since, to) } else { (from, since) };
        let (mut cpu, mut memory) = (0, 0);
        for kept in signals.values().filter(|kept| kept.concerns(pod)) {
            cpu += kept.share_between(from, to) * i128::from(used.milli_cpu_per_unit) / 1000;
            let share = if ready.status == ConditionStatus::True { kept.share_at(to).max(0) as u64 } else { 0 };
            memory += share.saturating_mul(used.memory_per_unit) / 1000;
        }
        (cpu, memory)
    }
}

/// The two moments between which metrics-server knows what a container used. Each scrape finds what the kubelet last looked at. A
/// container that is younger than the scrape's period counts from its start (metrics-server, pkg/storage/pod.go). The first scrape was
/// made when it began.
fn seen(started: SimTime, since: SimTime, now: SimTime) -> Option<(SimTime, SimTime)> {
    let shown = now.as_nanos().checked_sub(GATHERING.as_nanos())?;
    let scraping = shown.checked_sub(since.as_nanos())?;
    let last = SimTime::from_nanos(shown - scraping % SCRAPE.as_nanos());
    let looks_before =
        |time: SimTime| (time >= started).then(|| time.since(started).as_nanos() / HOUSEKEEPING.as_nanos());
    let look = |number: u64| started + HOUSEKEEPING * number;
    let latest = looks_before(last).filter(|looks| *looks > 0)?;
    if latest == 1 {
        return Some((started, look(1)));
    }
    let before = SimTime::from_nanos(last.as_nanos().checked_sub(SCRAPE.as_nanos())?);
    if before < since {
        return None;
    }
    let previous = looks_before(before).filter(|looks| *looks > 0)?;
    (previous < latest).then(|| (look(previous), look(latest)))
}

/// The sum of what is used between two ages: amounts times nanoseconds.
fn integral(used: &[(SimDuration, u64)], from: SimDuration, to: SimDuration) -> i128 {
    let pieces = used.iter().enumerate().map(|(place, (begin, amount))| {
        let end = used.get(place + 1).map_or(to, |(next, _)| (*next).min(to));
        let begin = (*begin).max(from);
        if end <= begin { 0 } else { i128::from(*amount) * i128::from(end.as_nanos() - begin.as_nanos()) }
    });
    pieces.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;
    use serde_json::json;

    fn at(seconds: u64) -> SimTime {
        SimTime::from_nanos(seconds * 1_000_000_000)
    }

    #[derive(Debug)]
    struct One(ContainerUse);

    impl Uses for One {
        fn of(&self, _image: &str, _pod: &str, _container: &str) -> ContainerUse {
            self.0.clone()
        }
    }

    /// A pod whose container started, and which became ready, 20 s after the beginning.
    fn pod(name: &str, uid: u32) -> Object {
        let date = "1970-01-01T00:00:20Z";
        let value = json!({
            "metadata": {
                "name": name, "namespace": "default", "labels": {"app": "web"},
                "uid": format!("00000000-0000-4000-8000-{uid:012}")
            },
            "spec": {"containers": [{"name": "c", "image": "web:1", "resources": {"limits": {"cpu": "1"}}}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": date}],
                "containerStatuses": [{
                    "name": "c", "image": "web:1", "imageID": "i", "ready": true, "restartCount": 0,
                    "state": {"running": {"startedAt": date}}
                }]
            }
        });
        Object::from_json(Kind::Pod, value).expect("a pod")
    }

    fn usage(metrics: &Metrics, object: &Object, seconds: u64) -> Option<(i64, i64, i64, u64)> {
        let pod = object.get::<Pod>().expect("a pod");
        let mut pods = [pod].into_iter();
        let answer = metrics
            .answer(&MetricsQuery::Resources, &Name::of("default"), &mut pods, Epoch(0), at(seconds))
            .expect("an answer");
        let Measures::Pods(pods) = answer else { panic!("pods") };
        let first = pods.into_iter().next()?;
        let container = &first.containers[0];
        Some((container.milli_cpu, container.memory, first.timestamp.0, first.window.as_secs()))
    }

    #[test]
    fn what_a_container_uses_is_known_after_two_looks_and_one_scrape() {
        let used = ContainerUse {
            milli_cpu: vec![(SimDuration::ZERO, 100), (SimDuration::from_secs(20), 300)],
            memory: vec![(SimDuration::ZERO, 50), (SimDuration::from_secs(20), 70)],
            ..ContainerUse::default()
        };
        let metrics = Metrics::new(Rc::new(One(used)), Vec::new(), true);
        metrics.server.begins(at(0));
        let pod = pod("a", 1);
        assert_eq!(usage(&metrics, &pod, 30), None, "nothing has been scraped that is older than its start");
        // Scraped at 45 s, after one at 30 s: the kubelet had looked at 30 s and at 40 s.
        assert_eq!(usage(&metrics, &pod, 46), Some((100, 70, 40, 10)));
        // Scraped at 60 s, after one at 45 s.
        assert_eq!(usage(&metrics, &pod, 61), Some((300, 70, 60, 20)));
        assert_eq!(usage(&metrics, &pod, 74), Some((300, 70, 60, 20)), "until the next scrape");
    }

    #[test]
    fn a_young_container_counts_from_its_start() {
        assert_eq!(seen(at(20), at(0), at(31)), Some((at(20), at(30))));
        assert_eq!(seen(at(22), at(0), at(46)), None, "at its first scrape it is too old to count from its start");
        assert_eq!(seen(at(17), at(0), at(31)), Some((at(17), at(27))));
        assert_eq!(seen(at(17), at(0), at(46)), Some((at(27), at(37))));
        assert_eq!(seen(at(17), at(0), at(30)), None, "the scrape is not yet gathered");
    }

    #[test]
    fn after_a_new_start_two_scrapes_are_needed() {
        assert_eq!(seen(at(17), at(100), at(112)), None, "it has looked once");
        assert_eq!(seen(at(17), at(100), at(116)), Some((at(97), at(107))), "at 100 s and at 115 s");
        assert_eq!(seen(at(98), at(100), at(116)), Some((at(98), at(108))), "a young container counts from its start");
    }

    #[test]
    fn ready_pods_share_the_load() {
        let signal = Signal {
            name: Name::of("requests"),
            namespace: Name::of("default"),
            of: Measured::Pods(Selector::everything().with("app", "web")),
            steps: vec![(SimTime::ZERO, 100_000), (at(50), 300_000)],
        };
        let used = ContainerUse { milli_cpu_per_unit: 2, memory_per_unit: 10, ..ContainerUse::default() };
        let metrics = Metrics::new(Rc::new(One(used)), vec![signal], true);
        metrics.server.begins(at(0));
        let (a, b) = (pod("a", 1), pod("b", 2));
        metrics.note(None, Some(&a), at(20));
        // Between 40 s and 60 s: 100 units for half of the time, then 300, each at two thousandths of a core.
        assert_eq!(usage(&metrics, &a, 61).map(|all| (all.0, all.1)), Some((400, 3000)));
        metrics.note(None, Some(&b), at(50));
        assert_eq!(usage(&metrics, &a, 61).map(|all| (all.0, all.1)), Some((250, 1500)));
        // Each now bears 150 units; with 3000 in all the limit of a core holds.
        metrics.set("requests", 3_000_000, at(60));
        assert_eq!(usage(&metrics, &a, 91).map(|all| all.0), Some(1000));
        metrics.note(Some(&b), None, at(95));
        assert_eq!(metrics.signals.borrow()["requests"].share_at(at(96)), 3_000_000);
    }

    #[test]
    fn other_measures_are_found_by_name_and_labels() {
        let external = Signal {
            name: Name::of("queue"),
            namespace: Name::of("default"),
            of: Measured::External(Labels::NONE.with("topic", "orders")),
            steps: vec![(SimTime::ZERO, 7_000)],
        };
        let object = Signal {
            name: Name::of("hits"),
            of: Measured::Object { kind: Name::of("Service"), name: Name::of("web") },
            ..external.clone()
        };
        let metrics = Metrics::new(Rc::new(Nothing), vec![external, object], true);
        let ask = |selector: &str| {
            let selector = Rc::new(Selector::parse(selector).expect("a selector"));
            let query = MetricsQuery::External { metric: Name::of("queue"), selector };
            metrics.answer(&query, &Name::of("default"), &mut [].into_iter(), Epoch(0), at(1))
        };
        assert_eq!(ask("topic=orders"), Ok(Measures::Values(vec![7_000])));
        assert_eq!(ask("topic=bills"), Ok(Measures::Values(Vec::new())));
        let query = MetricsQuery::Pods { metric: Name::of("queue") };
        let none = metrics.answer(&query, &Name::of("default"), &mut [].into_iter(), Epoch(0), at(1));
        assert!(none.is_err_and(|status| status.message == "the server could not find the metric queue for pods"));
    }

    #[test]
    fn without_anything_to_tell_of_an_api_is_not_there() {
        let metrics = Metrics::new(Rc::new(Nothing), Vec::new(), true);
        let why = |query: MetricsQuery| {
            let answer = metrics.answer(&query, &Name::of("default"), &mut [].into_iter(), Epoch(0), at(1));
            answer.map_err(|status| status.message.clone())
        };
        let none = Err("no custom metrics API (custom.metrics.k8s.io) registered".to_owned());
        assert_eq!(why(MetricsQuery::Pods { metric: Name::of("rps") }), none);
        let [kind, name, metric] = ["Service", "web", "hits"].map(Name::of);
        assert_eq!(why(MetricsQuery::Object { kind, name, metric }), none);
        let external = MetricsQuery::External { metric: Name::of("queue"), selector: Rc::new(Selector::everything()) };
        let none = "the server could not find the requested resource (get queue.external.metrics.k8s.io)";
        assert_eq!(why(external), Err(none.to_owned()));
    }
}
