//! VolumeRestrictions: disks that only one pod may write, and claims that only one pod may use.

use std::rc::Rc;

use k8s_openapi::api::core::v1::Volume;

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{NodeFilter, Plugin, Point, PreFilter, Status, Validity};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::storage::pod_claims::{claim_names, not_found, volumes};

const DISK_CONFLICT: Name = Name::of("node(s) had no available disk");
const CLAIM_CONFLICT: Name = Name::of(
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
);

/// The plugin.
pub struct VolumeRestrictions;

struct Filter {
    pod: Rc<Pod>,
    /// The names of the pod's claims that only one pod may use.
    exclusive: Vec<String>,
    /// How many of them pods on nodes use.
    in_use: i64,
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn validity(&self, pod: &Pod) -> Validity {
        if volumes(&pod.spec).is_empty() { Validity::Node } else { Validity::Cycle }
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[ClusterEvent::AssignedPodDelete, ClusterEvent::NodeAdd, ClusterEvent::ClaimAdd])
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
                let shares_claim = || claim_names(&gone.spec).any(|name| claim_names(&pod.spec).any(|own| own == name));
                let same_namespace = gone.meta.namespace == pod.meta.namespace;
                Hint::queue_if(same_namespace && (conflicts(pod, gone) || shares_claim()))
            }
            (None, Some(Object::PersistentVolumeClaim(claim))) => {
                let is_own = claim_names(&pod.spec).any(|name| claim.meta.name == *name);
                Hint::queue_if(is_own && claim.meta.namespace == pod.meta.namespace)
            }
            _ => Hint::Queue,
        }
    }

    fn unprepared(&self) -> Option<Name> {
        Some(Name::of("cannot read \"PreFilterVolumeRestrictions\" from cycleState"))
    }

    fn pre_filter(&self, pod: &Pod, cluster: &Cluster) -> PreFilter {
        let (storage, namespace) = (cluster.storage(), &pod.meta.namespace);
        let mut exclusive: Vec<String> = Vec::new();
        for name in claim_names(&pod.spec) {
            let Some(claim) = storage.claim(namespace, name) else {
                return PreFilter::Reject(Status::unresolvable(not_found(name)));
            };
            let modes = claim.content.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or(&[]);
            if modes.iter().any(|mode| mode == "ReadWriteOncePod") && !exclusive.iter().any(|known| known == name) {
                exclusive.push(name.to_owned());
            }
        }
        let in_use = exclusive.iter().filter(|name| storage.is_used(namespace, name)).count() as i64;
        if in_use == 0 && !volumes(&pod.spec).iter().any(is_restricted) {
            return PreFilter::Skip;
        }
        PreFilter::all(Filter { pod: Rc::new(pod.clone()), exclusive, in_use })
    }
}

impl Filter {
    /// How many of the exclusive claims a pod uses, as far as their names say.
    fn uses(&self, pod: &Pod) -> i64 {
        claim_names(&pod.spec).filter(|name| self.exclusive.iter().any(|own| own == name)).count() as i64
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        self.filter_if(node, &[], &[])
    }

    /// The real plugin counts users of claims in other namespaces too, as long as the names are the same.
    fn filter_if(&self, node: &NodeInfo, added: &[Rc<Pod>], removed: &[Rc<Pod>]) -> Status {
        if node.pods_with_volumes.iter().any(|other| conflicts(&self.pod, other)) {
            return Status::unschedulable(DISK_CONFLICT);
        }
        let count = |pods: &[Rc<Pod>]| pods.iter().map(|pod| self.uses(pod)).sum::<i64>();
        if self.in_use + count(added) - count(removed) > 0 {
            return Status::unschedulable(CLAIM_CONFLICT);
        }
        Status::SUCCESS
    }
}

/// True for the disks of which there is something to check (`needsRestrictionsCheck`).
fn is_restricted(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.rbd.is_some()
        || volume.iscsi.is_some()
}

/// True if a pod cannot have its disks beside another pod.
fn conflicts(pod: &Pod, other: &Pod) -> bool {
    let own = volumes(&pod.spec).iter().filter(|volume| is_restricted(volume));
    own.into_iter().any(|own| volumes(&other.spec).iter().any(|other| are_the_same(own, other)))
}

/// True if two volumes are one disk, and not both only read from it where that would do (`isVolumeConflict`).
fn are_the_same(own: &Volume, other: &Volume) -> bool {
    let both_read = |own: Option<bool>, other: Option<bool>| own == Some(true) && other == Some(true);
    if let (Some(own), Some(other)) = (&own.gce_persistent_disk, &other.gce_persistent_disk)
        && own.pd_name == other.pd_name
        && !both_read(own.read_only, other.read_only)
    {
        return true;
    }
    if let (Some(own), Some(other)) = (&own.aws_elastic_block_store, &other.aws_elastic_block_store)
        && own.volume_id == other.volume_id
    {
        return true;
    }
    if let (Some(own), Some(other)) = (&own.iscsi, &other.iscsi)
        && own.iqn == other.iqn
        && !both_read(own.read_only, other.read_only)
    {
        return true;
    }
    if let (Some(own), Some(other)) = (&own.rbd, &other.rbd) {
        let pool = |pool: &Option<String>| pool.clone().unwrap_or_else(|| "rbd".to_owned());
        return own.monitors.iter().any(|monitor| other.monitors.contains(monitor))
            && pool(&own.pool) == pool(&other.pool)
            && own.image == other.image
            && !both_read(own.read_only, other.read_only);
    }
    false
}
