//! NodeResourcesFit: a node must have what the pod requests, and one with more left is better, or as the arguments say.

use std::rc::Rc;

use super::allocation::{Counted, Strategy, uses};
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::api::resources::Resources;
use crate::api::validation::resources::is_extended;
use crate::scheduler::arguments::{Arguments, NodeResourcesFitArgs};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{Code, NodeFilter, NodeScore, Plugin, Point, PreFilter, PreScore, Status};
use crate::scheduler::node_info::NodeInfo;

/// The plugin.
pub struct Fit {
    arguments: NodeResourcesFitArgs,
    scoring: Rc<Scoring>,
}

/// How nodes are scored.
struct Scoring {
    resources: Vec<Counted>,
    strategy: Strategy,
}

struct Compiled {
    spec: Rc<PodSpec>,
    /// What is said of each extended resource that a node lacks, in the order of the requests; none if it is ignored.
    lacking: Vec<Option<Name>>,
}

struct Score {
    scoring: Rc<Scoring>,
    /// What the pod is taken to request of each resource that counts.
    wanted: Vec<i64>,
}

impl Fit {
    /// The plugin with these arguments; with the default ones if they are another plugin's.
    pub fn new(arguments: &Arguments) -> Self {
        let arguments = match arguments {
            Arguments::NodeResourcesFit(arguments) => arguments.clone(),
            _ => return Fit::new(&Arguments::of_plugin("NodeResourcesFit")),
        };
        let strategy = arguments.scoring_strategy.clone().unwrap_or_default();
        let scoring = Scoring { resources: Counted::all(&strategy.resources), strategy: Strategy::of(&strategy) };
        Fit { arguments, scoring: Rc::new(scoring) }
    }

    /// True if the filter does not look at a resource.
    fn ignores(&self, resource: &str) -> bool {
        let group = resource.split('/').next().unwrap_or_default();
        is_extended(resource)
            && (self.arguments.ignored_resources.iter().any(|ignored| ignored == resource)
                || self.arguments.ignored_resource_groups.iter().any(|ignored| ignored == group))
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[
            ClusterEvent::AssignedPodDelete,
            ClusterEvent::PodScaleDown,
            ClusterEvent::NodeAdd,
            ClusterEvent::NodeAllocatable,
        ])
    }

    fn hint(
        &self,
        pod: &Pod,
        _event: ClusterEvent,
        old: Option<&Object>,
        new: Option<&Object>,
        _cluster: &Cluster,
    ) -> Hint {
        match (old, new) {
            (Some(Object::Pod(gone)), None) => {
                Hint::queue_if(gone.node.is_some() || gone.status.nominated_node.is_some())
            }
            (Some(Object::Pod(old)), Some(Object::Pod(new))) => Hint::queue_if(frees(pod, old, new, pod.meta.uid)),
            (old, Some(Object::Node(new))) => {
                let old = old.and_then(|old| old.get::<Node>());
                let increased = |old: &Rc<Node>| has_more(&pod.spec.requests, old, new);
                Hint::queue_if(fits_alone(&pod.spec, new) && old.is_none_or(increased))
            }
            _ => Hint::Queue,
        }
    }

    fn unprepared(&self) -> Option<Name> {
        Some(Name::of("error reading \"PreFilterNodeResourcesFit\" from cycleState: not found"))
    }

    fn pre_filter(&self, pod: &Pod, _cluster: &Cluster) -> PreFilter {
        let lacking = |name: &Name| (!self.ignores(name)).then(|| format!("Insufficient {name}").into());
        let lacking = pod.spec.requests.scalars.iter().map(|(name, _)| lacking(name)).collect();
        PreFilter::all(Compiled { spec: pod.spec.clone(), lacking })
    }

    fn pre_score(&self, pod: &Pod, _cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        let wanted = self.scoring.resources.iter().map(|resource| resource.of(&pod.spec.scoring_requests));
        PreScore::Score(Box::new(Score { scoring: self.scoring.clone(), wanted: wanted.collect() }))
    }
}

impl NodeFilter for Compiled {
    fn filter(&self, node: &NodeInfo) -> Status {
        let (wanted, has, used) = (&self.spec.requests, node.allocatable(), &node.requested);
        let mut status = Status::SUCCESS;
        if node.pods.len() as i64 + 1 > has.pods {
            refuse(&mut status, Name::of("Too many pods"), false);
        }
        let mut check = |wanted: i64, has: i64, used: i64, reason: &Name| {
            if wanted > 0 && wanted > has.wrapping_sub(used) {
                refuse(&mut status, reason.clone(), wanted > has);
            }
        };
        check(wanted.milli_cpu, has.milli_cpu, used.milli_cpu, &Name::of("Insufficient cpu"));
        check(wanted.memory, has.memory, used.memory, &Name::of("Insufficient memory"));
        let storage = Name::of("Insufficient ephemeral-storage");
        check(wanted.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage, &storage);
        for ((name, wanted), reason) in wanted.scalars.iter().zip(&self.lacking) {
            if let Some(reason) = reason {
                check(*wanted, has.scalar(name), used.scalar(name), reason);
            }
        }
        status
    }
}

/// More than the node has at all is a no that preemption does not change.
fn refuse(status: &mut Status, reason: Name, unresolvable: bool) {
    status.reasons.push(reason);
    if unresolvable {
        status.code = Code::UnschedulableAndUnresolvable;
    } else if status.code == Code::Success {
        status.code = Code::Unschedulable;
    }
}

impl NodeScore for Score {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.scoring.strategy.score(uses(&self.scoring.resources, &self.wanted, node, true))
    }
}

/// True if a pod would fit a node on which nothing runs.
fn fits_alone(spec: &Rc<PodSpec>, node: &Rc<Node>) -> bool {
    let empty = NodeInfo { node: Some(node.clone()), ..NodeInfo::new(Name::EMPTY) };
    let lacking = vec![Some(Name::EMPTY); spec.requests.scalars.len()];
    Compiled { spec: spec.clone(), lacking }.filter(&empty).is_success()
}

/// True if a node has more pods or more of a requested resource than before.
fn has_more(wanted: &Resources, old: &Node, new: &Node) -> bool {
    let (old, new) = (&old.status.allocatable, &new.status.allocatable);
    let scalar = |(name, amount): &(Name, i64)| *amount != 0 && new.scalar(name) > old.scalar(name);
    new.pods > old.pods
        || wanted.milli_cpu > 0 && new.milli_cpu > old.milli_cpu
        || wanted.memory > 0 && new.memory > old.memory
        || wanted.ephemeral_storage > 0 && new.ephemeral_storage > old.ephemeral_storage
        || wanted.scalars.iter().any(scalar)
}

/// True if a change of a pod's requests frees something that the waiting pod requests.
fn frees(waiting: &Pod, old: &Pod, new: &Pod, own: Uid) -> bool {
    if new.meta.uid == own {
        return true;
    }
    let wanted = &waiting.spec.requests;
    let (old_resized, new_resized) = (old.resized(), new.resized());
    let old_requests = old_resized.as_ref().map_or(&old.spec.requests, |effective| &effective.requests);
    let new_requests = new_resized.as_ref().map_or(&new.spec.requests, |effective| &effective.requests);
    let of = |resources: &Resources| [resources.milli_cpu, resources.memory, resources.ephemeral_storage];
    let less = of(wanted).into_iter().zip(of(old_requests)).zip(of(new_requests));
    let scalar = |(name, amount): &(Name, i64)| *amount != 0 && old_requests.scalar(name) > new_requests.scalar(name);
    new.node.is_some()
        && (less.into_iter().any(|((wanted, old), new)| wanted != 0 && old > new) || wanted.scalars.iter().any(scalar))
}

/// What the scheduler takes a pod that is on a node to use of CPU and memory when it scores: pod-level requests count
/// here, although they do not for the pod that is to be placed, and where there are any, nothing is assumed for containers of what
/// somebody requests (kube-scheduler, `calculateResource`, `NewFit`).
pub(in crate::scheduler) fn scoring_use(spec: &PodSpec) -> [i64; 2] {
    let for_pod = spec.full.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let counts = |name: &String| matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-");
    let Some(for_pod) = for_pod.filter(|requests| requests.keys().any(counts)) else {
        return [spec.scoring_requests.milli_cpu, spec.scoring_requests.memory];
    };
    let is_requested = |resource: &str| {
        let containers = spec.full.containers.iter().chain(spec.full.init_containers.iter().flatten());
        let of_containers = containers.filter_map(|container| container.resources.as_ref());
        let mut amounts = of_containers.flat_map(|resources| [&resources.requests, &resources.limits]).flatten();
        for_pod.contains_key(resource)
            || amounts.any(|amounts| amounts.contains_key(resource))
            || spec.full.overhead.as_ref().is_some_and(|overhead| overhead.contains_key(resource))
    };
    let cpu = if is_requested("cpu") { spec.requests.milli_cpu } else { spec.scoring_requests.milli_cpu };
    let memory = if is_requested("memory") { spec.requests.memory } else { spec.scoring_requests.memory };
    [cpu, memory]
}
