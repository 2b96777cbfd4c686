//! VolumeZone: a node must be in a zone and region of the volumes that the pod's claims are bound to.

use std::collections::BTreeSet;

use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::storage::PersistentVolume;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{NodeFilter, Plugin, Point, PreFilter, Status, Validity};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::storage::Storage;
use crate::scheduler::storage::pod_claims::{claim_names, class_of, not_found, volume_of};

const CONFLICT: Name = Name::of("node(s) had no available volume zone");

const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

/// The labels that say where a volume and a node are, in the order in which they are looked at.
const LABELS: [&str; 4] = [BETA_ZONE, BETA_REGION, ZONE, REGION];

/// The plugin.
pub struct VolumeZone;

/// A label that a node must have, with one of some values.
#[derive(PartialEq, Eq)]
struct Place {
    key: &'static str,
    values: BTreeSet<String>,
}

struct Filter(Vec<Place>);

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn validity(&self, pod: &Pod) -> Validity {
        if claim_names(&pod.spec).next().is_none() { Validity::Node } else { Validity::Cycle }
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[
            ClusterEvent::StorageClassAdd,
            ClusterEvent::NodeAdd,
            ClusterEvent::NodeLabel,
            ClusterEvent::ClaimAdd,
            ClusterEvent::ClaimUpdate,
            ClusterEvent::VolumeAdd,
            ClusterEvent::VolumeUpdate,
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
            (_, Some(Object::StorageClass(class))) => {
                let mode = class.content.volume_binding_mode.as_deref();
                Hint::queue_if(mode == Some("WaitForFirstConsumer"))
            }
            (_, Some(Object::PersistentVolumeClaim(claim))) => {
                let is_own = claim_names(&pod.spec).any(|name| claim.meta.name == *name);
                Hint::queue_if(is_own && claim.meta.namespace == pod.meta.namespace)
            }
            (Some(Object::PersistentVolume(old)), Some(Object::PersistentVolume(new))) => {
                Hint::queue_if(places_of(old) != places_of(new))
            }
            _ => Hint::Queue,
        }
    }

    fn pre_filter(&self, pod: &Pod, cluster: &Cluster) -> PreFilter {
        let mut places = Vec::new();
        for name in claim_names(&pod.spec) {
            match volume_for(cluster.storage(), &pod.meta.namespace, name) {
                Ok(Some(volume)) => places.extend(places_of(&volume)),
                Ok(None) => {}
                Err(reason) => return PreFilter::Reject(Status::unresolvable(reason)),
            }
        }
        if places.is_empty() { PreFilter::Skip } else { PreFilter::all(Filter(places)) }
    }
}

/// The volume that a claim is bound to; none if it waits for the pod to have one (`getPVbyPod`).
fn volume_for(storage: &Storage, namespace: &str, name: &str) -> Result<Option<std::rc::Rc<PersistentVolume>>, String> {
    if name.is_empty() {
        return Err("PersistentVolumeClaim had no name".to_owned());
    }
    let claim = storage.claim(namespace, name).ok_or_else(|| not_found(name))?;
    let volume = volume_of(claim);
    if !volume.is_empty() {
        let found = storage.volume(volume).map(|volume| volume.object.clone());
        return found.map(Some).ok_or_else(|| format!("persistentvolume \"{volume}\" not found"));
    }
    let class = class_of(claim);
    if class.is_empty() {
        return Err("PersistentVolumeClaim had no pv name and storageClass name".to_owned());
    }
    let found = storage.class(class).ok_or_else(|| format!("storageclass.storage.k8s.io \"{class}\" not found"))?;
    match found.content.volume_binding_mode.as_deref() {
        Some("WaitForFirstConsumer") => Ok(None),
        Some(_) => Err("PersistentVolume had no name".to_owned()),
        None => Err(format!("VolumeBindingMode not set for StorageClass \"{class}\"")),
    }
}

/// Where a volume is; labels that cannot be read say nothing (`getPVTopologies`).
fn places_of(volume: &PersistentVolume) -> Vec<Place> {
    let place = |key: &'static str| {
        let zones = volume.meta.labels.get(key)?.split("__").map(str::trim);
        let values: BTreeSet<String> = zones.map(str::to_owned).collect();
        (!values.contains("")).then_some(Place { key, values })
    };
    LABELS.into_iter().filter_map(place).collect()
}

impl NodeFilter for Filter {
    /// A node that does not say where it is takes any volume.
    fn filter(&self, node: &NodeInfo) -> Status {
        let Some(labels) = node.node.as_ref().map(|node| &node.meta.labels) else { return Status::SUCCESS };
        if !LABELS.iter().any(|key| labels.get(key).is_some()) || self.0.iter().all(|place| place.holds(labels)) {
            return Status::SUCCESS;
        }
        Status::unresolvable(CONFLICT)
    }
}

impl Place {
    /// Of a volume's older labels a node may also have those of today.
    fn holds(&self, labels: &Labels) -> bool {
        let today = match self.key {
            BETA_ZONE => ZONE,
            BETA_REGION => REGION,
            key => key,
        };
        let value = labels.get(self.key).or_else(|| labels.get(today));
        value.is_some_and(|value| self.values.contains(value.as_str()))
    }
}
