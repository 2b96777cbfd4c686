//! Which single change would let a pod fit that fits nowhere: found by making the change and asking all plugins again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::convert::compile;
use crate::api::name::Name;
use crate::api::node::{Node, Taint};
use crate::api::pod::{Pod, PodSpec};
use crate::api::resources::Resources;
use crate::scheduler::evaluate;
use crate::scheduler::profile::Profile;

use super::snapshot::Snapshot;

/// The label by which machines are told apart.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Taints with this prefix come and go with a machine's state; a new machine does not have them.
const OF_THE_STATE: &str = "node.kubernetes.io/";
/// At most so many pools are tried.
const POOLS: usize = 50;

/// A change after which the pod fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advice {
    /// What is changed.
    pub change: Change,
    /// The nodes that the pod fits then, by name.
    pub nodes: Vec<Name>,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// One more node like the others of a pool.
    AddNode {
        /// A node of the pool.
        like: Name,
        /// How many nodes the pool has.
        pool: usize,
    },
    /// The pod tolerates a taint, or the nodes that have it lose it.
    Tolerate {
        /// The taint, as `key=value:Effect`.
        taint: String,
        /// How many nodes have it.
        tainted: usize,
    },
    /// Nodes that are cordoned are so no more.
    Uncordon {
        /// How many are cordoned.
        cordoned: usize,
    },
    /// The pod requests less of a resource.
    RequestLess {
        /// The resource.
        resource: Name,
        /// What it requests, and what it would have to request at most.
        amounts: [i64; 2],
    },
    /// The pod does without something that its specification demands.
    Without {
        /// What, as `spec.nodeSelector[disktype]`.
        field: String,
    },
}

/// All single changes of these sorts that help.
pub fn advise(profile: &Profile, snapshot: &mut Snapshot, pod: &Rc<Pod>) -> Vec<Advice> {
    let mut all = Vec::new();
    all.extend(less_of_each_resource(profile, snapshot, pod));
    all.extend(tolerations(profile, snapshot, pod));
    all.extend(demands(profile, snapshot, pod));
    all.extend(more_nodes(profile, snapshot, pod));
    all
}

/// The nodes that a changed pod fits.
fn fits(profile: &Profile, snapshot: &Snapshot, pod: &Pod) -> Vec<Name> {
    let mut names: Vec<Name> = evaluate::feasible_nodes(profile, &snapshot.cluster, pod)
        .into_iter()
        .map(|place| snapshot.cluster.at(place).name.clone())
        .collect();
    names.sort_unstable();
    names
}

fn helps(nodes: Vec<Name>, change: impl FnOnce() -> Change) -> Option<Advice> {
    (!nodes.is_empty()).then(|| Advice { change: change(), nodes })
}

fn with_spec(pod: &Pod, change: impl FnOnce(&mut PodSpec)) -> Pod {
    let mut spec = PodSpec::clone(&pod.spec);
    change(&mut spec);
    Pod { spec: Rc::new(spec), ..pod.clone() }
}

/// The pod with a changed specification; none if that cannot be compiled, which a specification with less in it always can.
fn with_full(pod: &Pod, change: impl FnOnce(&mut core::PodSpec)) -> Option<Pod> {
    let mut full = pod.spec.full.clone();
    change(&mut full);
    let spec = compile("spec", full).ok()?;
    Some(Pod { spec: Rc::new(spec), ..pod.clone() })
}

/// For each resource the least reduction of the pod's request that helps.
fn less_of_each_resource(profile: &Profile, snapshot: &Snapshot, pod: &Pod) -> Vec<Advice> {
    let requests = &pod.spec.requests;
    let scalars = requests.scalars.iter().map(|(name, _)| name.clone());
    let names = [Name::of("cpu"), Name::of("memory"), Name::of("ephemeral-storage")].into_iter().chain(scalars);
    names.filter_map(|name| less_of(profile, snapshot, pod, name)).collect()
}

/// The reductions that may matter are those after which some node has just enough; whether one helps, all plugins say. A smaller
/// request never fits fewer nodes, so the smallest that helps is found by halving.
fn less_of(profile: &Profile, snapshot: &Snapshot, pod: &Pod, resource: Name) -> Option<Advice> {
    let wanted = amount(&pod.spec.requests, &resource);
    let missing = |free: i64| (wanted > 0 && free >= 0 && free < wanted).then(|| wanted - free);
    let nodes = snapshot.cluster.nodes();
    let free =
        nodes.map(|node| amount(node.allocatable(), &resource).saturating_sub(amount(&node.requested, &resource)));
    let reductions: Vec<i64> = free.filter_map(missing).collect::<BTreeSet<i64>>().into_iter().collect();
    let reduced = |by: i64| {
        with_spec(pod, |spec| {
            for requests in [&mut spec.requests, &mut spec.scoring_requests] {
                let less = amount(requests, &resource).saturating_sub(by).max(0);
                set_amount(requests, &resource, less);
            }
        })
    };
    let place = reductions.partition_point(|by| fits(profile, snapshot, &reduced(*by)).is_empty());
    let by = *reductions.get(place)?;
    let nodes = fits(profile, snapshot, &reduced(by));
    helps(nodes, || Change::RequestLess { resource: resource.clone(), amounts: [wanted, wanted - by] })
}

fn amount(resources: &Resources, resource: &str) -> i64 {
    match resource {
        "cpu" => resources.milli_cpu,
        "memory" => resources.memory,
        "ephemeral-storage" => resources.ephemeral_storage,
        scalar => resources.scalar(scalar),
    }
}

fn set_amount(resources: &mut Resources, resource: &Name, amount: i64) {
    match resource.as_str() {
        "cpu" => resources.milli_cpu = amount,
        "memory" => resources.memory = amount,
        "ephemeral-storage" => resources.ephemeral_storage = amount,
        _ => resources.set_scalar(resource, amount),
    }
}

/// For each taint that keeps pods away, and for cordons: the pod tolerates it.
fn tolerations(profile: &Profile, snapshot: &Snapshot, pod: &Pod) -> Vec<Advice> {
    let mut taints: BTreeMap<String, (Taint, usize)> = BTreeMap::new();
    let mut cordoned = 0;
    for node in snapshot.cluster.nodes() {
        cordoned += usize::from(node.node.as_ref().is_some_and(|node| node.unschedulable));
        for taint in node.taints().iter().filter(|taint| taint.effect.as_str() != "PreferNoSchedule") {
            taints.entry(words(taint)).or_insert_with(|| (taint.clone(), 0)).1 += 1;
        }
    }
    let tolerant =
        |toleration: core::Toleration| with_full(pod, |full| full.tolerations.get_or_insert_default().push(toleration));
    let mut all = Vec::new();
    for (words, (taint, tainted)) in taints {
        let nodes = tolerant(core::Toleration {
            key: Some(taint.key.to_string()),
            operator: Some("Equal".to_owned()),
            value: Some(taint.value.to_string()),
            effect: Some(taint.effect.as_str().to_owned()),
            toleration_seconds: None,
        })
        .map(|pod| fits(profile, snapshot, &pod))
        .unwrap_or_default();
        all.extend(helps(nodes, || Change::Tolerate { taint: words, tainted }));
    }
    if cordoned > 0 {
        let nodes = tolerant(core::Toleration {
            key: Some("node.kubernetes.io/unschedulable".to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoSchedule".to_owned()),
            ..core::Toleration::default()
        })
        .map(|pod| fits(profile, snapshot, &pod))
        .unwrap_or_default();
        all.extend(helps(nodes, || Change::Uncordon { cordoned }));
    }
    all
}

/// A taint as kubectl writes it.
fn words(taint: &Taint) -> String {
    let effect = taint.effect.as_str();
    if taint.value.is_empty() {
        format!("{}:{effect}", taint.key)
    } else {
        format!("{}={}:{effect}", taint.key, taint.value)
    }
}

type Demand = (String, Box<dyn Fn(&mut core::PodSpec)>);

/// Everything that the specification demands of a node, each left out in turn.
fn demands(profile: &Profile, snapshot: &Snapshot, pod: &Pod) -> Vec<Advice> {
    let all = demands_of(&pod.spec.full);
    let without = all.into_iter().filter_map(|(field, leave_out)| {
        let changed = with_full(pod, |full| leave_out(full))?;
        helps(fits(profile, snapshot, &changed), || Change::Without { field })
    });
    without.collect()
}

fn demands_of(full: &core::PodSpec) -> Vec<Demand> {
    let mut all: Vec<Demand> = Vec::new();
    for key in full.node_selector.iter().flat_map(BTreeMap::keys).cloned() {
        all.push((
            format!("spec.nodeSelector[{key}]"),
            Box::new(move |full| drop(full.node_selector.as_mut().and_then(|labels| labels.remove(&key)))),
        ));
    }
    let affinity = full.affinity.as_ref();
    if affinity.is_some_and(|one| {
        one.node_affinity
            .as_ref()
            .is_some_and(|node| node.required_during_scheduling_ignored_during_execution.is_some())
    }) {
        all.push((
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution".to_owned(),
            Box::new(|full| {
                if let Some(node) = full.affinity.as_mut().and_then(|affinity| affinity.node_affinity.as_mut()) {
                    node.required_during_scheduling_ignored_during_execution = None;
                }
            }),
        ));
    }
    let terms = |of: Option<&Vec<core::PodAffinityTerm>>| of.map_or(0, Vec::len);
    let wanted = affinity.and_then(|one| one.pod_affinity.as_ref());
    for term in 0..terms(wanted.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref())) {
        all.push((
            format!("spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[{term}]"),
            Box::new(move |full| {
                let one = full.affinity.as_mut().and_then(|affinity| affinity.pod_affinity.as_mut());
                remove(one.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_mut()), term);
            }),
        ));
    }
    let shunned = affinity.and_then(|one| one.pod_anti_affinity.as_ref());
    for term in 0..terms(shunned.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref())) {
        all.push((
            format!("spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[{term}]"),
            Box::new(move |full| {
                let one = full.affinity.as_mut().and_then(|affinity| affinity.pod_anti_affinity.as_mut());
                remove(one.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_mut()), term);
            }),
        ));
    }
    for (place, constraint) in full.topology_spread_constraints.iter().flatten().enumerate() {
        if constraint.when_unsatisfiable == "DoNotSchedule" {
            all.push((
                format!("spec.topologySpreadConstraints[{place}]"),
                Box::new(move |full| remove(full.topology_spread_constraints.as_mut(), place)),
            ));
        }
    }
    for (container, place, port) in host_ports(full) {
        all.push((
            format!("spec.containers[{container}].ports[{place}].hostPort ({port})"),
            Box::new(move |full| {
                let ports = full.containers.get_mut(container).and_then(|container| container.ports.as_mut());
                remove(ports, place);
            }),
        ));
    }
    all
}

fn host_ports(full: &core::PodSpec) -> Vec<(usize, usize, i32)> {
    let mut all = Vec::new();
    for (container, one) in full.containers.iter().enumerate() {
        for (place, port) in one.ports.iter().flatten().enumerate() {
            all.extend(port.host_port.filter(|port| *port > 0).map(|port| (container, place, port)));
        }
    }
    all
}

fn remove<T>(list: Option<&mut Vec<T>>, place: usize) {
    if let Some(list) = list.filter(|list| place < list.len()) {
        list.remove(place);
    }
}

/// One more node of each pool. Nodes are of one pool if they differ in nothing but what is each node's own.
fn more_nodes(profile: &Profile, snapshot: &mut Snapshot, pod: &Pod) -> Vec<Advice> {
    let mut all = Vec::new();
    for pool in pools(snapshot).into_iter().take(POOLS) {
        let Some(like) = pool.first() else { continue };
        let fresh = another(like);
        let name = fresh.meta.name.clone();
        snapshot.cluster.set_node(Rc::new(fresh));
        snapshot.cluster.refresh();
        let nodes = fits(profile, snapshot, pod);
        snapshot.cluster.remove_node(&name);
        snapshot.cluster.refresh();
        let (like, pool) = (like.meta.name.clone(), pool.len());
        all.extend(helps(nodes, || Change::AddNode { like, pool }));
    }
    all
}

/// The nodes of each pool by name; the pools in the order of their first nodes.
fn pools(snapshot: &Snapshot) -> Vec<Vec<Rc<Node>>> {
    let mut nodes: Vec<Rc<Node>> = snapshot.cluster.nodes().filter_map(|info| info.node.clone()).collect();
    nodes.sort_by(|left, right| left.meta.name.cmp(&right.meta.name));
    let mut labels: BTreeMap<(&Name, &Name), usize> = BTreeMap::new();
    for (key, value) in nodes.iter().flat_map(|node| node.meta.labels.pairs()) {
        *labels.entry((key, value)).or_default() += 1;
    }
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut pools: Vec<Vec<Rc<Node>>> = Vec::new();
    for node in &nodes {
        let own = |(key, value): &&(Name, Name)| labels.get(&(key, value)).is_some_and(|count| *count > 1);
        let shared: Vec<&(Name, Name)> = node.meta.labels.pairs().iter().filter(own).collect();
        let taints: Vec<String> = lasting(node).map(words).collect();
        let likeness = format!("{shared:?} {taints:?} {:?}", node.status.allocatable);
        let place = *places.entry(likeness).or_insert_with(|| {
            pools.push(Vec::new());
            pools.len() - 1
        });
        pools[place].push(node.clone());
    }
    pools
}

/// The taints that a new node of the same pool would have.
fn lasting(node: &Node) -> impl Iterator<Item = &Taint> {
    node.taints.iter().filter(|taint| !taint.key.starts_with(OF_THE_STATE))
}

/// A new node like another one: empty, not cordoned, with a name of its own.
fn another(like: &Node) -> Node {
    let mut node = like.clone();
    let name = Name::from(format!("{}-new", like.meta.name));
    node.meta.labels = node.meta.labels.with(HOSTNAME, name.clone());
    node.meta.name = name;
    node.unschedulable = false;
    node.taints = lasting(like).cloned().collect();
    node.status.images = Rc::new([]);
    node
}

/// An amount of a resource as Kubernetes writes it, exactly.
pub fn quantity(resource: &str, amount: i64) -> String {
    match resource {
        "cpu" if amount % 1000 == 0 => (amount / 1000).to_string(),
        "cpu" => format!("{amount}m"),
        "memory" | "ephemeral-storage" if amount != 0 => {
            let units = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
            let unit = units.into_iter().find(|(unit, _)| amount % unit == 0);
            unit.map_or_else(|| amount.to_string(), |(unit, name)| format!("{}{name}", amount / unit))
        }
        _ => amount.to_string(),
    }
}

/// In a sentence without its full stop, as `it requested 300m cpu less: 1500m instead of 1800m`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = |count: usize| if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
        match self {
            Change::AddNode { like, pool: 1 } => write!(f, "there were one more node like {like}"),
            Change::AddNode { like, pool } => write!(f, "there were one more node like {like} (a pool of {pool})"),
            Change::Tolerate { taint, tainted } => write!(f, "it tolerated the taint {taint} of {}", nodes(*tainted)),
            Change::Uncordon { cordoned } => write!(f, "{} were uncordoned", nodes(*cordoned)),
            Change::RequestLess { resource, amounts: [wanted, enough] } => write!(
                f,
                "it requested {} {resource} less: {} instead of {}",
                quantity(resource, wanted - enough),
                quantity(resource, *enough),
                quantity(resource, *wanted)
            ),
            Change::Without { field } => write!(f, "it did without {field}"),
        }
    }
}
