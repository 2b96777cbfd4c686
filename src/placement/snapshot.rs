//! The scheduler's picture of a cluster that is given as objects.

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;

/// A cluster at one moment.
#[derive(Default)]
pub struct Snapshot {
    /// What the scheduler takes it to be; up to date.
    pub cluster: Cluster,
    /// Pods that have no node, in the order in which they were given.
    pub pending: Vec<Rc<Pod>>,
}

impl Snapshot {
    /// The cluster that these objects are; pods must have uids by which they can be told apart. Nodes come first, by name: it matters for images that nodes report with different
    /// sizes. Pods that have ended are as good as gone, as the scheduler's informers do not show them.
    pub fn new(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut snapshot = Snapshot::default();
        let (mut nodes, mut pods): (Vec<Rc<Node>>, Vec<Rc<Pod>>) = (Vec::new(), Vec::new());
        for object in objects {
            match object {
                Object::Node(node) => nodes.push(node),
                Object::Pod(pod) => pods.push(pod),
                other => snapshot.cluster.set_object(&other),
            }
        }
        nodes.sort_by(|left, right| left.meta.name.cmp(&right.meta.name));
        nodes.into_iter().for_each(|node| snapshot.cluster.set_node(node));
        for pod in pods.into_iter().filter(|pod| !pod.is_terminal()) {
            match pod.node.clone() {
                Some(node) => snapshot.cluster.see_pod(&pod, &node),
                None => {
                    // Room that was made for a pod is not for others.
                    if let Some(node) = pod.status.nominated_node.as_deref().cloned() {
                        snapshot.cluster.nominate(&pod, &node);
                    }
                    snapshot.pending.push(pod);
                }
            }
        }
        snapshot.cluster.refresh();
        snapshot
    }

    /// Puts a pod on a node.
    pub fn bind(&mut self, pod: &Rc<Pod>, node: &Name) {
        let mut bound = Pod::clone(pod);
        bound.node = Some(node.clone());
        self.cluster.withdraw(pod.meta.uid);
        self.cluster.see_pod(&Rc::new(bound), node);
        self.cluster.refresh();
    }
}

/// The kinds that scheduling reads.
pub fn is_read(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Namespace
            | Kind::Node
            | Kind::Pod
            | Kind::PriorityClass
            | Kind::Service
            | Kind::ReplicationController
            | Kind::ReplicaSet
            | Kind::StatefulSet
            | Kind::PodDisruptionBudget
            | Kind::PersistentVolume
            | Kind::PersistentVolumeClaim
            | Kind::StorageClass
            | Kind::CSINode
            | Kind::CSIDriver
            | Kind::CSIStorageCapacity
            | Kind::VolumeAttachment
    )
}
