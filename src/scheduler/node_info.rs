//! What the scheduler knows of one node: the node, and the sums over the pods on it.

use std::rc::Rc;

use super::plugins::fit::scoring_use;
use super::storage::migration::InTree;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::node::{Node, Taint};
use crate::api::pod::{HostPort, Pod, PodSpec};
use crate::api::resources::Resources;

/// A node and what its pods use.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The name.
    pub name: Name,
    /// The node; none while pods say that they are on it, but it is not known.
    pub node: Option<Rc<Node>>,
    /// What its pods request.
    pub requested: Resources,
    /// CPU that its pods request, 100m for each container that names none.
    pub scoring_milli_cpu: i64,
    /// Memory that its pods request, 200Mi for each container that names none.
    pub scoring_memory: i64,
    /// The pods on it, assumed ones included; in the order in which they came, but the last one takes the place of one that goes
    /// (kube-scheduler, `NodeInfo.Pods`). An assumed pod is as it was when it was scheduled: its `node` is not set.
    pub pods: Vec<Rc<Pod>>,
    /// Those of them that have affinity or anti-affinity to other pods.
    pub pods_with_affinity: Vec<Rc<Pod>>,
    /// Those of them that require anti-affinity to other pods.
    pub pods_with_required_anti_affinity: Vec<Rc<Pod>>,
    /// Those of them that have volumes, apart from such as every node can give.
    pub pods_with_volumes: Vec<Rc<Pod>>,
    /// How many pods there are of each priority, lowest first.
    pub priorities: Vec<(i32, u32)>,
    /// Host ports in use, one entry for each pod and port.
    pub ports: Vec<HostPort>,
    /// The images that it reports, sorted by name, with what was known of each when the node last changed.
    pub images: Vec<ImageOnNode>,
}

/// An image's name on a node (kube-scheduler, `ImageStateSummary`).
#[derive(Clone, Debug)]
pub struct ImageOnNode {
    /// The name.
    pub name: Name,
    /// Where the cluster keeps account of it.
    pub state: u32,
    /// The size that the first node with this name reported.
    pub size_bytes: i64,
    /// On how many nodes it was when this node last changed.
    pub nodes: u32,
}

impl NodeInfo {
    /// A node of which only the name is known.
    pub fn new(name: Name) -> Self {
        NodeInfo {
            name,
            node: None,
            requested: Resources::default(),
            scoring_milli_cpu: 0,
            scoring_memory: 0,
            pods: Vec::new(),
            pods_with_affinity: Vec::new(),
            pods_with_required_anti_affinity: Vec::new(),
            pods_with_volumes: Vec::new(),
            priorities: Vec::new(),
            ports: Vec::new(),
            images: Vec::new(),
        }
    }

    /// What pods may use of the node.
    pub fn allocatable(&self) -> &Resources {
        const NOTHING: &Resources =
            &Resources { milli_cpu: 0, memory: 0, ephemeral_storage: 0, pods: 0, scalars: Vec::new() };
        self.node.as_ref().map_or(NOTHING, |node| &node.status.allocatable)
    }

    /// The taints.
    pub fn taints(&self) -> &[Taint] {
        self.node.as_ref().map_or(&[], |node| &node.taints)
    }

    /// What is known of an image on this node, if it is there.
    pub fn image(&self, name: &str) -> Option<&ImageOnNode> {
        let place = self.images.binary_search_by(|image| image.name.as_str().cmp(name)).ok()?;
        Some(&self.images[place])
    }

    /// The lowest priority of its pods.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.priorities.first().map(|(priority, _)| *priority)
    }

    /// Adds a pod.
    pub fn add(&mut self, pod: &Rc<Pod>) {
        let spec = &pod.spec;
        put(&mut self.pods, pod);
        if has_affinity(spec) {
            put(&mut self.pods_with_affinity, pod);
        }
        if requires_anti_affinity(spec) {
            put(&mut self.pods_with_required_anti_affinity, pod);
        }
        if has_volumes(spec) {
            put(&mut self.pods_with_volumes, pod);
        }
        match self.priorities.binary_search_by_key(&spec.priority, |(priority, _)| *priority) {
            Ok(place) => self.priorities[place].1 += 1,
            Err(place) => {
                // Most nodes have pods of one priority only.
                if self.priorities.is_empty() {
                    self.priorities.reserve_exact(1);
                }
                self.priorities.insert(place, (spec.priority, 1));
            }
        }
        self.account(pod, i64::wrapping_add);
        self.ports.extend(spec.host_ports.iter().cloned());
    }

    /// Puts another version of a pod in the place of the one that is there; both are of one specification.
    pub fn replace(&mut self, pod: &Rc<Pod>) {
        let lists = [
            &mut self.pods,
            &mut self.pods_with_affinity,
            &mut self.pods_with_required_anti_affinity,
            &mut self.pods_with_volumes,
        ];
        for list in lists {
            if let Some(place) = place_of(list, pod.meta.uid) {
                list[place] = pod.clone();
            }
        }
    }

    /// The same, as if the pod had gone and come again: it is the last one after that.
    pub fn put_last(&mut self, pod: &Rc<Pod>) {
        let lists = [
            &mut self.pods,
            &mut self.pods_with_affinity,
            &mut self.pods_with_required_anti_affinity,
            &mut self.pods_with_volumes,
        ];
        for list in lists {
            if take(list, pod.meta.uid).is_some() {
                list.push(pod.clone());
            }
        }
    }

    /// Removes a pod; false if it is not there.
    pub fn remove(&mut self, pod: Uid) -> bool {
        let Some(gone) = take(&mut self.pods, pod) else { return false };
        let spec = &gone.spec;
        if has_affinity(spec) {
            take(&mut self.pods_with_affinity, pod);
        }
        if requires_anti_affinity(spec) {
            take(&mut self.pods_with_required_anti_affinity, pod);
        }
        if has_volumes(spec) {
            take(&mut self.pods_with_volumes, pod);
        }
        if let Ok(place) = self.priorities.binary_search_by_key(&spec.priority, |(priority, _)| *priority) {
            self.priorities[place].1 -= 1;
            if self.priorities[place].1 == 0 {
                self.priorities.remove(place);
            }
        }
        self.account(&gone, i64::wrapping_sub);
        for port in &spec.host_ports {
            if let Some(place) = self.ports.iter().position(|used| used == port) {
                self.ports.swap_remove(place);
            }
        }
        true
    }

    /// Sums wrap as Go's do, so that any pod can be taken back exactly.
    fn account(&mut self, pod: &Pod, combine: fn(i64, i64) -> i64) {
        let resized = pod.resized();
        let (requests, [milli_cpu, memory]) = match &resized {
            Some(effective) => (&effective.requests, effective.scoring),
            None => (&pod.spec.requests, scoring_use(&pod.spec)),
        };
        let (sum, pod) = (&mut self.requested, requests);
        sum.milli_cpu = combine(sum.milli_cpu, pod.milli_cpu);
        sum.memory = combine(sum.memory, pod.memory);
        sum.ephemeral_storage = combine(sum.ephemeral_storage, pod.ephemeral_storage);
        for (name, amount) in &pod.scalars {
            sum.set_scalar(name, combine(sum.scalar(name), *amount));
        }
        self.scoring_milli_cpu = combine(self.scoring_milli_cpu, milli_cpu);
        self.scoring_memory = combine(self.scoring_memory, memory);
    }
}

/// True if a pod has volumes that matter for where it can run: claims, and disks of its own.
pub fn has_volumes(spec: &PodSpec) -> bool {
    spec.full.volumes.iter().flatten().any(|volume| {
        volume.persistent_volume_claim.is_some()
            || volume.ephemeral.is_some()
            || volume.iscsi.is_some()
            || volume.rbd.is_some()
            || InTree::of_inline(volume).is_some()
    })
}

/// True if a pod has affinity or anti-affinity to other pods (kube-scheduler, `podWithAffinity`).
pub fn has_affinity(spec: &PodSpec) -> bool {
    let affinity = spec.full.affinity.as_ref();
    affinity.is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some())
}

/// True if a pod requires anti-affinity to other pods (kube-scheduler, `podWithRequiredAntiAffinity`).
pub fn requires_anti_affinity(spec: &PodSpec) -> bool {
    let anti = spec.full.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_some_and(|terms| !terms.is_empty())
}

/// Adds a pod to a list. Many lists have a single one, for which a vector would reserve four times the room.
fn put(list: &mut Vec<Rc<Pod>>, pod: &Rc<Pod>) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.push(pod.clone());
}

fn take(list: &mut Vec<Rc<Pod>>, pod: Uid) -> Option<Rc<Pod>> {
    let place = place_of(list, pod)?;
    Some(list.swap_remove(place))
}

/// Where a pod is in a list. What changes is mostly what came last.
fn place_of(list: &[Rc<Pod>], pod: Uid) -> Option<usize> {
    list.iter().rposition(|there| there.meta.uid == pod)
}
