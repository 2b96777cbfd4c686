//! How many bytes an object takes on the wire and on disk: an estimate from its shape, made without encoding anything.
//!
//! Figures are those of typical objects in the API's protobuf encoding; they only set delays, never outcomes.

use crate::api::meta::Meta;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec, PodTemplate};

use super::protocol::{Answer, ApiMessage, Operation, Patch, WatchEvent};

/// Uid, timestamps, managed fields of two writers.
const META: u64 = 320;
const OWNER: u64 = 110;
const CONDITION: u64 = 90;
const CONTAINER: u64 = 420;
const CONTAINER_STATUS: u64 = 330;

/// The bytes of an object.
pub fn of(object: &Object) -> u64 {
    let body = match object {
        Object::Pod(pod) => of_pod(pod),
        Object::ReplicaSet(set) => of_template(&set.template) + 120 + CONDITION * set.status.conditions.len() as u64,
        Object::ReplicationController(it) => {
            of_template(&it.template) + 120 + CONDITION * it.status.conditions.len() as u64
        }
        Object::Deployment(deployment) => {
            of_template(&deployment.spec.template) + 180 + 2 * CONDITION * deployment.status.conditions.len() as u64
        }
        Object::DaemonSet(set) => of_template(&set.template) + 200,
        Object::Node(node) => {
            let status = &node.status;
            let images: usize = status.images.iter().map(|image| 16 + 90 * image.names.len()).sum();
            900 + 2 * CONDITION * status.conditions.len() as u64 + images as u64 + 60 * node.taints.len() as u64
        }
        Object::EndpointSlice(slice) => 80 + 190 * slice.endpoints.len() as u64,
        Object::Endpoints(endpoints) => endpoints
            .subsets
            .iter()
            .map(|subset| 40 + 170 * (subset.addresses.len() + subset.not_ready_addresses.len()) as u64)
            .sum(),
        Object::Event(event) => 260 + event.message.len() as u64,
        Object::Lease(_) => 90,
        Object::Service(_) => 260,
        Object::Namespace(_) => 40,
        Object::ConfigMap(map) => {
            let text = map.content.data.iter().flatten().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            let bytes = map.content.binary_data.iter().flatten().map(|(key, value)| key.len() + value.0.len());
            (text + bytes.sum::<usize>()) as u64
        }
        Object::Secret(secret) => {
            let bytes = secret.content.data.iter().flatten().map(|(key, value)| key.len() + value.0.len());
            bytes.sum::<usize>() as u64
        }
        Object::ServiceAccount(_) | Object::PriorityClass(_) => 80,
        Object::ControllerRevision(_) => 600,
        Object::PersistentVolume(_) | Object::PersistentVolumeClaim(_) => 350,
        Object::StorageClass(_) | Object::CSIDriver(_) | Object::CSIStorageCapacity(_) => 120,
        Object::CSINode(node) => 40 + 90 * node.content.spec.drivers.len() as u64,
        Object::VolumeAttachment(_) => 160,
        Object::PodDisruptionBudget(_) => 260,
        Object::StatefulSet(set) => 400 + of_template(&set.template) + 250 * set.spec.claim_templates.len() as u64,
        Object::Job(job) => {
            let status = &job.status;
            let uncounted = status.uncounted.as_ref().map_or(0, |it| it.succeeded.len() + it.failed.len());
            let indexes = status.completed_indexes.len() + status.failed_indexes.as_ref().map_or(0, |it| it.len());
            of_template(&job.spec.template)
                + 160
                + CONDITION * status.conditions.len() as u64
                + (38 * uncounted + indexes) as u64
        }
        Object::CronJob(it) => of_template(&it.spec.job.template) + 120 + OWNER * it.status.active.len() as u64,
        Object::ResourceQuota(quota) => {
            let lists = [&quota.wanted, &quota.hard, &quota.used];
            40 + 32 * lists.iter().map(|list| list.names().count() as u64).sum::<u64>()
        }
        Object::LimitRange(range) => 160 * range.content.spec.as_ref().map_or(0, |spec| spec.limits.len() as u64),
        Object::RuntimeClass(_) => 120,
        Object::HorizontalPodAutoscaler(_) => 700,
    };
    of_meta(object.meta()) + body
}

fn of_meta(meta: &Meta) -> u64 {
    let pairs = meta.labels.pairs().iter().chain(meta.annotations.pairs());
    let text: usize = pairs.map(|(key, value)| key.len() + value.len() + 6).sum();
    META + (meta.name.len() + meta.namespace.len() + text) as u64 + OWNER * meta.owners().len() as u64
}

fn of_pod(pod: &Pod) -> u64 {
    let status = &pod.status;
    let containers = status.containers.len() + status.init_containers.len();
    // The term of the node affinity that names the node.
    let pinned = if pod.only_node.is_some() { 60 } else { 0 };
    of_spec(&pod.spec) + pinned + CONDITION * status.conditions.len() as u64 + CONTAINER_STATUS * containers as u64
}

fn of_template(template: &PodTemplate) -> u64 {
    let pairs = template.labels.pairs().iter().chain(template.annotations.pairs());
    of_spec(&template.spec) + pairs.map(|(key, value)| (key.len() + value.len() + 6) as u64).sum::<u64>()
}

fn of_spec(spec: &PodSpec) -> u64 {
    300 + CONTAINER * spec.containers.len() as u64
}

/// The bytes of what clients and servers say to one another, with the framing of HTTP/2 and its headers.
pub fn of_message(message: &ApiMessage) -> u64 {
    const FRAME: u64 = 120;
    let of_event = |event: &WatchEvent| match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted { object, .. } => {
            of(object) + 16
        }
        WatchEvent::Bookmark { .. } => 90,
        WatchEvent::Error(_) => 300,
    };
    FRAME
        + match message {
            ApiMessage::Request(request) => match &request.operation {
                Operation::Create { object, .. } | Operation::Update { object, .. } => of(object),
                Operation::Patch { patch: Patch::Typed(_), .. } => 600,
                Operation::Patch { .. } => 400,
                _ => 60,
            },
            ApiMessage::Response { result: Ok(Answer::Object(object)), .. } => of(object),
            ApiMessage::Response { result: Ok(Answer::List { items, .. }), .. } => items.iter().map(of).sum(),
            ApiMessage::Response { .. } => 120,
            ApiMessage::Watch { events, .. } => events.iter().map(of_event).sum(),
            ApiMessage::StopWatch { .. } | ApiMessage::WatchClosed { .. } => 16,
        }
}
