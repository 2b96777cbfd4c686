//! NodeVolumeLimits: a node attaches so many volumes of each CSI driver and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use k8s_openapi::api::core::v1::Volume;

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::storage::{CSINode, PersistentVolumeClaim};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{Code, NodeFilter, Plugin, Point, PreFilter, Status, Validity};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::storage::Storage;
use crate::scheduler::storage::migration::{self, InTree};
use crate::scheduler::storage::pod_claims::{check_is_for, claim_of, claims, class_of, not_found, volume_of, volumes};

const EXCEEDED: Name = Name::of("node(s) exceed max volume count");

/// The plugin.
pub struct NodeVolumeLimits;

struct Filter {
    pod: Rc<Pod>,
    storage: Rc<Storage>,
}

/// A volume as its driver knows it: the driver's name and the volume's handle. Volumes that are not there yet have a handle
/// that no driver gives.
type Attachable = (String, String);

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn validity(&self, pod: &Pod) -> Validity {
        if volumes(&pod.spec).iter().any(may_count) { Validity::Cycle } else { Validity::Node }
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[
            ClusterEvent::CsiNodeAdd,
            ClusterEvent::CsiNodeUpdate,
            ClusterEvent::AssignedPodDelete,
            ClusterEvent::ClaimAdd,
            ClusterEvent::AttachmentDelete,
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
            (Some(Object::CSINode(old)), Some(Object::CSINode(new))) => Hint::queue_if(has_more(old, new)),
            (Some(Object::Pod(gone)), None) => {
                let was_on_node = gone.node.is_some() || gone.status.nominated_node.is_some();
                Hint::queue_if(was_on_node && volumes(&gone.spec).iter().any(may_count))
            }
            (None, Some(Object::PersistentVolumeClaim(claim))) => {
                let is_own = claims(pod).any(|own| own.name == claim.meta.name);
                Hint::queue_if(is_own && claim.meta.namespace == pod.meta.namespace)
            }
            (Some(Object::VolumeAttachment(gone)), None) => {
                let attacher = &gone.content.spec.attacher;
                Hint::queue_if(volumes(&pod.spec).iter().any(|volume| {
                    let is_of_driver = |kind: InTree| kind.driver_name() == attacher;
                    volume.persistent_volume_claim.is_some() || InTree::of_inline(volume).is_some_and(is_of_driver)
                }))
            }
            _ => Hint::Queue,
        }
    }

    fn pre_filter(&self, pod: &Pod, cluster: &Cluster) -> PreFilter {
        if !volumes(&pod.spec).iter().any(may_count) {
            return PreFilter::Skip;
        }
        PreFilter::all(Filter { pod: Rc::new(pod.clone()), storage: cluster.storage().clone() })
    }
}

/// True for volumes that a driver may have to attach.
fn may_count(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() || InTree::of_inline(volume).is_some()
}

/// True if a driver can attach more volumes to a node than before.
fn has_more(old: &CSINode, new: &CSINode) -> bool {
    let limit = |node: &CSINode, driver: &str| {
        let found = node.content.spec.drivers.iter().find(|known| known.name == driver);
        found.and_then(|driver| driver.allocatable.as_ref()?.count).unwrap_or(0)
    };
    new.content.spec.drivers.iter().any(|driver| limit(new, &driver.name) > limit(old, &driver.name))
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        let drivers = self.storage.csi_node(&node.name).map(Rc::as_ref);
        let mut new = BTreeSet::new();
        if let Err(status) = self.collect(&self.pod, drivers, true, &mut new) {
            return status;
        }
        let limits = limits(drivers);
        if new.is_empty() || limits.is_empty() {
            return Status::SUCCESS;
        }
        let mut attached = BTreeSet::new();
        for other in &node.pods_with_volumes {
            if let Err(status) = self.collect(other, drivers, false, &mut attached) {
                return status;
            }
        }
        // A volume that another pod has there counts once.
        new.retain(|volume| !attached.contains(volume));
        attached.extend(self.attached_already(&node.name));
        let count =
            |volumes: &BTreeSet<Attachable>, driver: &str| volumes.iter().filter(|(of, _)| of == driver).count() as i64;
        let is_exceeded = |(driver, limit): (&&str, &i64)| {
            let wanted = count(&new, driver);
            wanted > 0 && count(&attached, driver) + wanted > *limit
        };
        if limits.iter().any(is_exceeded) { Status::unschedulable(EXCEEDED) } else { Status::SUCCESS }
    }
}

fn limits(drivers: Option<&CSINode>) -> BTreeMap<&str, i64> {
    let all = drivers.into_iter().flat_map(|node| &node.content.spec.drivers);
    all.filter_map(|driver| Some((driver.name.as_str(), i64::from(driver.allocatable.as_ref()?.count?)))).collect()
}

impl Filter {
    /// Collects the volumes of a pod that drivers attach (`filterAttachableVolumes`).
    fn collect(
        &self,
        pod: &Pod,
        drivers: Option<&CSINode>,
        is_new: bool,
        found: &mut BTreeSet<Attachable>,
    ) -> Result<(), Status> {
        let failed = |message: String| Status { code: Code::Error, reasons: vec![message.into()] };
        for volume in volumes(&pod.spec) {
            let Some(used) = claim_of(pod, volume) else {
                found.extend(inline(volume, drivers).map_err(failed)?);
                continue;
            };
            if used.name.is_empty() {
                return Err(failed("PersistentVolumeClaim had no name".to_owned()));
            }
            let namespace = &pod.meta.namespace;
            let Some(claim) = self.storage.claim(namespace, &used.name) else {
                if is_new {
                    let missing = not_found(&used.name);
                    return Err(Status::unresolvable(format!("looking up PVC {namespace}/{}: {missing}", used.name)));
                }
                continue;
            };
            if used.is_ephemeral {
                check_is_for(pod, claim).map_err(failed)?;
            }
            found.extend(self.of_claim(claim, drivers));
        }
        Ok(())
    }

    /// The volume of a claim as its driver knows it (`getCSIDriverInfo`).
    fn of_claim(&self, claim: &PersistentVolumeClaim, drivers: Option<&CSINode>) -> Option<Attachable> {
        let Some(volume) = self.storage.volume(volume_of(claim)) else { return self.of_class(claim, drivers) };
        let spec = volume.spec();
        let (driver, handle) = match &spec.csi {
            Some(csi) => (csi.driver.clone(), csi.volume_handle.clone()),
            None => {
                let kind = InTree::of_persistent(spec).filter(|kind| drivers.is_some() && kind.is_migrated())?;
                let handle = migration::persistent_handle(&volume.object.meta.labels, spec).ok()?;
                (kind.driver_name().to_owned(), handle)
            }
        };
        (!driver.is_empty() && !handle.is_empty()).then_some((driver, handle))
    }

    /// A volume that is to be made for a claim will be one of the class's provisioner (`getCSIDriverInfoFromSC`).
    fn of_class(&self, claim: &PersistentVolumeClaim, drivers: Option<&CSINode>) -> Option<Attachable> {
        let class = Some(class_of(claim)).filter(|class| !class.is_empty())?;
        let provisioner = self.storage.class(class)?.content.provisioner.as_str();
        let driver = match InTree::of_plugin(provisioner) {
            Some(kind) => Some(kind).filter(|kind| drivers.is_some() && kind.is_migrated())?.driver_name(),
            None => provisioner,
        };
        let handle = format!("\u{0}/{}/{}", claim.meta.namespace, claim.meta.name);
        (!driver.is_empty()).then(|| (driver.to_owned(), handle))
    }

    /// The volumes that are attached to a node, whatever pods say (`getNodeVolumeAttachmentInfo`).
    fn attached_already(&self, node: &str) -> impl Iterator<Item = Attachable> {
        self.storage.attachments(node).filter_map(|attachment| {
            let spec = &attachment.content.spec;
            let volume = self.storage.volume(spec.source.persistent_volume_name.as_deref()?)?;
            let handle = volume.spec().csi.as_ref()?.volume_handle.clone();
            (!spec.attacher.is_empty()).then(|| (spec.attacher.clone(), handle))
        })
    }
}

/// A volume that a pod names itself, if a driver attaches it (`checkAttachableInlineVolume`).
fn inline(volume: &Volume, drivers: Option<&CSINode>) -> Result<Option<Attachable>, String> {
    let Some(kind) = InTree::of_inline(volume).filter(|kind| drivers.is_some() && kind.is_migrated()) else {
        return Ok(None);
    };
    let handle = migration::inline_handle(volume)
        .map_err(|error| format!("converting volume({}) from inline to csi: {error}", volume.name))?;
    Ok(Some((kind.driver_name().to_owned(), handle)))
}
