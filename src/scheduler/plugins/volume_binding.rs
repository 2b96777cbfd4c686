//! VolumeBinding: a node must be one where the pod's claims have volumes or can have them, and those that wait for a pod get
//! theirs before it is bound.

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::api::quantity::Quantity;
use crate::api::storage::{CSIDriver, CSIStorageCapacity};
use crate::apiserver::protocol::{Operation, Part};
use crate::engine::time::SimDuration;
use crate::scheduler::arguments::{Arguments, VolumeBindingArgs};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{Code, NodeFilter, Placement, Plugin, Point, PreFilter, Progress, Status, Validity};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::storage::Storage;
use crate::scheduler::storage::binder::{Claims, Found, volume_limit};
use crate::scheduler::storage::pod_claims::{check_is_for, claims, not_found, volume_of, volumes};

const UNBOUND: Name = Name::of("pod has unbound immediate PersistentVolumeClaims");

/// `storage.alpha.kubernetes.io/migrated-plugins`: the in-tree plugins for which a node's drivers stand in.
const MIGRATED_PLUGINS: &str = "storage.alpha.kubernetes.io/migrated-plugins";

/// The plugin.
pub struct VolumeBinding {
    /// How long a pod waits for its volumes (`bindTimeoutSeconds`).
    bind_timeout: SimDuration,
}

impl VolumeBinding {
    /// The plugin with its arguments, or with the default ones if these are another plugin's.
    pub fn new(arguments: &Arguments) -> Self {
        let seconds = match arguments {
            Arguments::VolumeBinding(arguments) => arguments.bind_timeout_seconds,
            _ => VolumeBindingArgs::default().bind_timeout_seconds,
        };
        VolumeBinding { bind_timeout: SimDuration::from_secs(u64::try_from(seconds).unwrap_or(0)) }
    }
}

struct Filter {
    claims: Claims,
    storage: Rc<Storage>,
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    /// It scores only where storage capacity is scored, which is not so by default, and then says that it skips.
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score, Point::Reserve, Point::PreBind]
    }

    fn validity(&self, pod: &Pod) -> Validity {
        if claims(pod).next().is_none() { Validity::Node } else { Validity::Cycle }
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[
            ClusterEvent::StorageClassAdd,
            ClusterEvent::StorageClassUpdate,
            ClusterEvent::ClaimAdd,
            ClusterEvent::ClaimUpdate,
            ClusterEvent::VolumeAdd,
            ClusterEvent::VolumeUpdate,
            ClusterEvent::NodeAdd,
            ClusterEvent::NodeLabel,
            ClusterEvent::CsiNodeAdd,
            ClusterEvent::CsiNodeUpdate,
            ClusterEvent::CsiDriverUpdate,
            ClusterEvent::CapacityAdd,
            ClusterEvent::CapacityUpdate,
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
            (Some(Object::StorageClass(old)), Some(Object::StorageClass(new))) => {
                Hint::queue_if(old.content.allowed_topologies != new.content.allowed_topologies)
            }
            (_, Some(Object::PersistentVolumeClaim(claim))) => {
                let is_own = claims(pod).any(|own| own.name == claim.meta.name);
                Hint::queue_if(is_own && claim.meta.namespace == pod.meta.namespace)
            }
            (Some(Object::CSINode(old)), Some(Object::CSINode(new))) => {
                let migrated = |annotations: &crate::api::meta::Labels| annotations.get(MIGRATED_PLUGINS).cloned();
                Hint::queue_if(migrated(&old.meta.annotations) != migrated(&new.meta.annotations))
            }
            (Some(Object::CSIDriver(old)), Some(Object::CSIDriver(new))) => {
                let tells = |driver: &CSIDriver| driver.content.spec.storage_capacity == Some(true);
                let mut own = volumes(&pod.spec).iter().filter_map(|volume| volume.csi.as_ref());
                Hint::queue_if(tells(old) && !tells(new) && own.any(|volume| new.meta.name == *volume.driver))
            }
            (Some(Object::CSIStorageCapacity(old)), Some(Object::CSIStorageCapacity(new))) => {
                Hint::queue_if(has_more(old, new))
            }
            _ => Hint::Queue,
        }
    }

    fn unprepared(&self) -> Option<Name> {
        Some(Name::of("not found"))
    }

    fn pre_filter(&self, pod: &Pod, cluster: &Cluster) -> PreFilter {
        if claims(pod).next().is_none() {
            return PreFilter::Skip;
        }
        if let Err(reason) = check_claims(pod, cluster.storage()) {
            return PreFilter::Reject(Status::unresolvable(reason));
        }
        match Claims::of(pod, cluster.storage()) {
            Err(error) => PreFilter::Reject(failed(error)),
            Ok(claims) if claims.has_unbound_immediate => PreFilter::Reject(Status::unresolvable(UNBOUND)),
            Ok(claims) => PreFilter::all(Filter { claims, storage: cluster.storage().clone() }),
        }
    }

    fn reserve(&self, placement: &Placement, cluster: &mut Cluster) -> Status {
        let pod = &placement.pod;
        if claims(pod).next().is_none() {
            return Status::SUCCESS;
        }
        let node = cluster.place_of(&placement.node).and_then(|place| cluster.at(place).node.clone());
        let found = Claims::of(pod, cluster.storage()).and_then(|claims| match node {
            Some(node) => claims.find(cluster.storage(), &node),
            None => Err(format!("node \"{}\" not found", placement.node)),
        });
        match found {
            Ok(Found::Volumes(found)) => {
                cluster.storage_mut().assume(pod, &placement.node, found);
                Status::SUCCESS
            }
            Ok(Found::Conflicts(reasons)) => Status { code: Code::Error, reasons },
            Err(error) => failed(error),
        }
    }

    fn unreserve(&self, placement: &Placement, cluster: &mut Cluster) {
        let pod = placement.pod.meta.uid;
        if cluster.storage().reservation(pod).is_some() {
            cluster.storage_mut().revert(pod);
        }
    }

    fn pre_bind(&self, placement: &Placement, cluster: &Cluster) -> Vec<Operation> {
        let Some(reserved) = cluster.storage().reservation(placement.pod.meta.uid) else { return Vec::new() };
        let volumes = reserved.bindings.iter().map(|(volume, _)| volume.object.clone().into_object());
        let claims = reserved.provisions.iter().map(|claim| claim.clone().into_object());
        let update = |object: Object| Operation::Update { object, part: Part::Main, dry_run: false };
        volumes.chain(claims).map(update).collect()
    }

    /// Looks once a second whether the volumes are bound (`BindPodVolumes`).
    fn pre_bind_progress(&self, placement: &Placement, cluster: &Cluster, waited: SimDuration) -> Progress {
        let pod = &placement.pod.meta;
        let Some(reserved) = cluster.storage().reservation(pod.uid) else { return Progress::Done };
        if waited == SimDuration::ZERO {
            return Progress::Wait(SimDuration::from_secs(1));
        }
        if waited > self.bind_timeout {
            return Progress::Failed(failed("binding volumes: context deadline exceeded".to_owned()));
        }
        let node = cluster.place_of(&placement.node).and_then(|place| cluster.at(place).node.clone());
        let settled = match node {
            None => Err(format!("failed to get node \"{}\": node \"{}\" not found", placement.node, placement.node)),
            Some(_) if cluster.node_of(pod.uid).is_none() => {
                let kind = Kind::Pod.row().singular;
                Err(format!("pod does not exist any more: {kind} \"{}\" not found", pod.name))
            }
            Some(node) => cluster.storage().is_settled(reserved, &node),
        };
        match settled {
            Ok(true) => Progress::Done,
            Ok(false) => Progress::Wait(SimDuration::from_secs(1)),
            Err(error) => Progress::Failed(failed(format!("binding volumes: {error}"))),
        }
    }
}

fn failed(error: String) -> Status {
    Status { code: Code::Error, reasons: vec![error.into()] }
}

/// Refuses a pod whose claims are not there or will not be (`podHasPVCs`).
fn check_claims(pod: &Pod, storage: &Storage) -> Result<(), String> {
    for used in claims(pod) {
        let Some(claim) = storage.claim(&pod.meta.namespace, &used.name) else {
            return Err(match used.is_ephemeral {
                true => format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{}\"",
                    used.name
                ),
                false => not_found(&used.name),
            });
        };
        let phase = claim.content.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Lost") {
            let (claim, volume) = (&claim.meta.name, volume_of(claim));
            return Err(format!(
                "persistentvolumeclaim \"{claim}\" bound to non-existent persistentvolume \"{volume}\""
            ));
        }
        if claim.meta.is_deleting() {
            return Err(format!("persistentvolumeclaim \"{}\" is being deleted", claim.meta.name));
        }
        if used.is_ephemeral {
            check_is_for(pod, claim)?;
        }
    }
    Ok(())
}

fn has_more(old: &CSIStorageCapacity, new: &CSIStorageCapacity) -> bool {
    let limit = |capacity: &CSIStorageCapacity| volume_limit(&capacity.content).map(Quantity::value);
    limit(new).is_some_and(|new| limit(old).is_none_or(|old| new > old))
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        let Some(node) = &node.node else { return Status::SUCCESS };
        match self.claims.find(&self.storage, node) {
            Ok(Found::Volumes(_)) => Status::SUCCESS,
            Ok(Found::Conflicts(reasons)) => Status { code: Code::UnschedulableAndUnresolvable, reasons },
            Err(error) => failed(error),
        }
    }
}
