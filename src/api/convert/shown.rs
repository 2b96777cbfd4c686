//! What the API server shows although nothing is in it: structures that its types have in place, not behind a pointer, and fields that
//! its encoder never leaves out.

use serde_json::{Map, Value, json};

use crate::api::kind::Kind;

/// Adds what is shown empty to an object that was written without it.
pub(super) fn complete(kind: Kind, object: &mut Value) {
    match kind {
        Kind::Pod => {
            containers(object, "/spec");
            for condition in elements(object, "/status/conditions") {
                show(condition, "lastProbeTime", Value::Null);
                show(condition, "lastTransitionTime", Value::Null);
            }
            for list in ["/status/containerStatuses", "/status/initContainerStatuses"] {
                elements(object, list).for_each(ends);
            }
        }
        Kind::ReplicaSet
        | Kind::Deployment
        | Kind::StatefulSet
        | Kind::ReplicationController
        | Kind::DaemonSet
        | Kind::Job => containers(object, "/spec/template/spec"),
        Kind::ControllerRevision => containers(object, "/data/spec/template/spec"),
        Kind::CronJob => containers(object, "/spec/jobTemplate/spec/template/spec"),
        Kind::Event => {
            for field in ["eventTime", "firstTimestamp", "lastTimestamp"] {
                show(object, field, Value::Null);
            }
        }
        Kind::EndpointSlice => {
            for field in ["endpoints", "ports"] {
                if let Some(list) = object.get_mut(field).filter(|list| list.as_array().is_some_and(Vec::is_empty)) {
                    *list = Value::Null;
                }
            }
        }
        Kind::Node => show(object, "spec", json!({})),
        Kind::ResourceQuota => show(object, "status", json!({})),
        Kind::HorizontalPodAutoscaler => {
            show(object, "status", json!({}));
            if let Some(status) = object.get_mut("status") {
                show(status, "currentMetrics", Value::Null);
                show(status, "desiredReplicas", 0.into());
            }
        }
        Kind::Service => {
            if let Some(status) = object.get_mut("status") {
                show(status, "loadBalancer", json!({}));
            }
        }
        _ => {}
    }
}

/// Shows the resources of the containers of a pod's specification.
fn containers(object: &mut Value, spec: &str) {
    let Some(spec) = object.pointer_mut(spec) else { return };
    for list in ["/containers", "/initContainers", "/ephemeralContainers"] {
        for container in elements(spec, list) {
            show(container, "resources", Value::Object(Map::new()));
        }
    }
}

/// Shows when the present and the last instance of a container began and ended, known or not.
fn ends(status: &mut Value) {
    for state in ["/state/terminated", "/lastState/terminated"] {
        if let Some(end) = status.pointer_mut(state) {
            show(end, "startedAt", Value::Null);
            show(end, "finishedAt", Value::Null);
        }
    }
}

fn elements<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn show(object: &mut Value, field: &str, nothing: Value) {
    if let Value::Object(fields) = object {
        fields.entry(field).or_insert(nothing);
    }
}
