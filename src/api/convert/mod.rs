//! Between the compact objects and those of the Kubernetes API: `k8s_openapi` types and JSON, for the edges of the
//! program (manifests, patches, reports).

mod batch;
mod event;
mod meta;
mod network;
mod node;
mod plain;
mod pod;
mod quota;
mod resize;
mod revision;
mod selected;
mod shown;
mod spec;
mod stateful;
mod workload;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::kind::{Kind, each_kind};
use super::name::Name;
use super::object::{Object, Resource};
use super::pod::ConditionStatus;

pub use meta::{from_label_selector, to_label_selector, to_time};
pub use revision::template_patch;
pub use spec::compile;

/// A kind whose objects can be written as those of the Kubernetes API and read from them.
pub trait Convert: Resource {
    /// The type of the Kubernetes API.
    type Full: Serialize + DeserializeOwned + Clone;

    /// The object as the API knows it.
    fn to_full(&self) -> Self::Full;

    /// The compact object. The full one need not be defaulted, but should be: what is absent becomes what the API
    /// server's defaults say where that is a constant, and empty elsewhere.
    fn from_full(full: Self::Full) -> Result<Self, ConvertError>;
}

/// Why an object of the API has no compact form: a value that the API's types allow but its rules do not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConvertError {
    /// Where the value stands, as `spec.containers[0].resources.limits[cpu]`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for ConvertError {}

impl ConvertError {
    fn new(path: impl Into<String>, message: impl fmt::Display) -> Self {
        ConvertError { path: path.into(), message: message.to_string() }
    }
}

macro_rules! convert_all {
    ($($kind:ident in $module:ident),* $(,)?) => {
        impl Object {
            /// The object as JSON, with `apiVersion` and `kind`, as the API server shows it.
            pub fn to_json(&self) -> Value {
                let mut value = match self { $(Object::$kind(object) => plain_json(&object.to_full())),* };
                let row = self.kind().row();
                shown::complete(row.kind, &mut value);
                if let Value::Object(fields) = &mut value {
                    fields.insert("apiVersion".to_owned(), row.api_version().into());
                    fields.insert("kind".to_owned(), row.name.into());
                }
                value
            }

            /// Reads JSON as an object of a kind. Unknown fields are ignored; `kind` and `apiVersion` are not looked at.
            pub fn from_json(kind: Kind, value: Value) -> Result<Object, ConvertError> {
                Ok(match kind { $(Kind::$kind => super::$module::$kind::from_full(decode(value)?)?.boxed()),* })
            }
        }
    };
}

each_kind!(convert_all);

/// Serializes; the API's types hold nothing that JSON has not.
fn plain_json<T: Serialize>(full: &T) -> Value {
    serde_json::to_value(full).unwrap_or(Value::Null)
}

fn decode<T: DeserializeOwned>(value: Value) -> Result<T, ConvertError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        ConvertError::new(path, error.into_inner())
    })
}

/// An optional name as an optional string.
fn text(name: &Option<Name>) -> Option<String> {
    name.as_ref().map(String::from)
}

/// A name as an optional string, absent if it is empty.
fn nonempty(name: &Name) -> Option<String> {
    (!name.is_empty()).then(|| String::from(name))
}

/// An optional string as an optional name.
fn name(text: Option<String>) -> Option<Name> {
    text.map(Name::from)
}

/// An optional string as a name, empty if it is absent.
fn name_or_empty(text: Option<String>) -> Name {
    text.map(Name::from).unwrap_or_default()
}

/// A vector, absent if it is empty.
fn some_unless_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

/// A number, absent if it is zero.
fn nonzero<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}

impl ConditionStatus {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
    }

    /// From what the API writes; anything but True and False is Unknown.
    pub fn of(text: &str) -> Self {
        match text {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::pod::Pod;

    fn check(kind: Kind, full: Value) {
        let object = Object::from_json(kind, full.clone()).unwrap();
        assert_eq!(object.to_json(), full);
        let again = Object::from_json(kind, object.to_json()).unwrap();
        assert_eq!(again.to_json(), full);
    }

    #[test]
    fn a_running_pod_comes_back_as_it_was() {
        check(
            Kind::Pod,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "web-1", "namespace": "a", "uid": "3f0fe55c-39b6-426e-bdd0-d93ef8a9b7ef",
                    "resourceVersion": "2645", "generation": 1, "creationTimestamp": "2026-11-20T18:32:17Z",
                    "labels": {"app": "web"}, "finalizers": ["example.com/wait"],
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "controller": true,
                        "uid": "0d90d7f3-9bd1-4a0c-8f72-e37fd6cf044c", "blockOwnerDeletion": true
                    }]
                },
                "spec": {
                    "nodeName": "node-3", "restartPolicy": "Always",
                    "containers": [{"name": "app", "image": "fake/app:v1", "resources": {"requests": {"cpu": "100m"}}, "volumeMounts": [
                        {"name": "d", "mountPath": "/d", "readOnly": true}, {"name": "e", "mountPath": "/e"}]}]
                },
                "status": {
                    "resources": {"requests": {"cpu": "100m"}}, "allocatedResources": {"cpu": "100m"},
                    "phase": "Running", "qosClass": "Burstable", "observedGeneration": 1,
                    "hostIP": "10.0.0.4", "hostIPs": [{"ip": "10.0.0.4"}],
                    "podIP": "10.244.3.2", "podIPs": [{"ip": "10.244.3.2"}], "startTime": "2026-11-20T18:32:17Z",
                    "conditions": [{
                        "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-20T18:32:18Z",
                        "lastProbeTime": null, "observedGeneration": 1
                    }],
                    "containerStatuses": [{
                        "name": "app", "image": "fake/app:v1", "imageID": "sha256:1", "containerID": "containerd://c",
                        "ready": true, "started": true, "restartCount": 1,
                        "resources": {"requests": {"cpu": "100m"}}, "allocatedResources": {"cpu": "100m"},
                        "state": {"running": {"startedAt": "2026-11-20T18:32:18Z"}},
                        "lastState": {"terminated": {
                            "exitCode": 3, "reason": "Error", "startedAt": null, "finishedAt": null}},
                        "volumeMounts": [
                            {"name": "d", "mountPath": "/d", "readOnly": true, "recursiveReadOnly": "Disabled"},
                            {"name": "e", "mountPath": "/e"}
                        ]
                    }]
                }
            }),
        );
    }

    /// A running pod of one container with resources, whose kubelet tells what it has.
    fn detailed(resources: Value) -> Value {
        let mounts = json!([{"name": "d", "mountPath": "/d"}]);
        json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": resources, "volumeMounts": mounts}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "c", "image": "i", "imageID": "", "containerID": "containerd://c", "ready": true,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-11-20T18:32:18Z"}}, "volumeMounts": mounts}]}})
    }

    #[test]
    fn a_kubelet_tells_what_resources_a_container_and_its_pod_have() {
        let resources = json!({
            "requests": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "1Gi"},
            "limits": {"memory": "128Mi"},
        });
        let object = Object::from_json(Kind::Pod, detailed(resources.clone())).unwrap();
        let shown = object.to_json();
        let container = &shown["status"]["containerStatuses"][0];
        assert_eq!(container["resources"], resources);
        assert_eq!(container["allocatedResources"], resources["requests"]);
        assert_eq!(shown["status"]["allocatedResources"], resources["requests"]);
        let of_a_group = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}});
        assert_eq!(shown["status"]["resources"], of_a_group, "a control group knows of no ephemeral storage");
        let again = Object::from_json(Kind::Pod, shown.clone()).unwrap();
        assert_eq!(again.to_json(), shown);
        assert!(again.get::<Pod>().unwrap().status.reported.is_none(), "it takes no memory");
    }

    #[test]
    fn resources_are_told_of_containers_that_were_made_and_by_kubelets_that_tell_details() {
        let mut pod = detailed(json!({}));
        let shown = Object::from_json(Kind::Pod, pod.clone()).unwrap().to_json();
        assert_eq!(shown["status"]["resources"], json!({}));
        assert_eq!(shown["status"]["containerStatuses"][0]["resources"], json!({}));
        pod["status"]["containerStatuses"][0]["containerID"] = Value::Null;
        let shown = Object::from_json(Kind::Pod, pod.clone()).unwrap().to_json();
        assert_eq!(shown["status"]["resources"], json!({}));
        assert_eq!(shown["status"]["containerStatuses"][0]["resources"], Value::Null);
        pod["status"]["containerStatuses"][0]["volumeMounts"] = Value::Null;
        let shown = Object::from_json(Kind::Pod, pod).unwrap().to_json();
        assert_eq!(shown["status"]["resources"], Value::Null);
    }

    #[test]
    fn what_is_asked_for_anew_is_not_yet_told_to_be_there() {
        let asked = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let mut pod = Object::from_json(Kind::Pod, detailed(asked("1"))).unwrap().to_json();
        pod["spec"]["containers"][0]["resources"] = asked("2");
        let shown = Object::from_json(Kind::Pod, pod).unwrap().to_json();
        assert_eq!(shown["status"]["containerStatuses"][0]["resources"], asked("1"));
        assert_eq!(shown["status"]["allocatedResources"], asked("1")["requests"]);
    }

    #[test]
    fn what_the_api_never_leaves_out_is_shown_empty() {
        let show = |kind: Kind, value: Value| Object::from_json(kind, value).unwrap().to_json();
        let spec =
            json!({"containers": [{"name": "c", "image": "i"}], "initContainers": [{"name": "d", "image": "i"}]});
        let meta = json!({"name": "n", "namespace": "a"});
        let ended = json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137}}});
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [ended]});
        let pod = show(Kind::Pod, json!({"metadata": meta, "spec": spec, "status": status}));
        assert_eq!(pod["spec"]["containers"][0]["resources"], json!({}));
        assert_eq!(pod["spec"]["initContainers"][0]["resources"], json!({}));
        assert!(pod["status"]["conditions"][0].as_object().unwrap().contains_key("lastProbeTime"));
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!((ended.get("startedAt"), ended.get("finishedAt")), (Some(&Value::Null), Some(&Value::Null)));
        let template = json!({"spec": spec});
        let set = show(Kind::DaemonSet, json!({"metadata": meta, "spec": {"selector": {}, "template": template}}));
        assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["resources"], json!({}));
        let job = json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}});
        let job = show(Kind::CronJob, json!({"metadata": meta, "spec": job}));
        assert_eq!(job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["resources"], json!({}));
        let slice = show(Kind::EndpointSlice, json!({"metadata": meta, "addressType": "IPv4", "endpoints": []}));
        assert_eq!((slice.get("endpoints"), slice.get("ports")), (Some(&Value::Null), Some(&Value::Null)));
        let service = show(Kind::Service, json!({"metadata": meta, "spec": {}}));
        assert_eq!(service["status"], json!({"loadBalancer": {}}));
        let quota = show(Kind::ResourceQuota, json!({"metadata": meta, "spec": {}}));
        assert_eq!(quota["status"], json!({}));
        let target = json!({"kind": "Deployment", "name": "d"});
        let scaler = json!({"metadata": meta, "spec": {"maxReplicas": 1, "scaleTargetRef": target}});
        let scaler = show(Kind::HorizontalPodAutoscaler, scaler);
        assert_eq!(scaler["status"], json!({"currentMetrics": null, "desiredReplicas": 0}));
        let event = show(Kind::Event, json!({"metadata": meta, "involvedObject": {}}));
        assert_eq!(event.get("eventTime"), Some(&Value::Null));
    }

    #[test]
    fn the_token_volume_stands_beside_the_shared_specification() {
        let mut object = Object::from_json(
            Kind::Pod,
            json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "image": "i"}]}}),
        )
        .unwrap();
        let Object::Pod(pod) = &mut object else { panic!("a pod") };
        std::rc::Rc::make_mut(pod).token_volume = Some(*b"abcde");
        let json = object.to_json();
        assert_eq!(json["spec"]["volumes"][0]["name"], "kube-api-access-abcde");
        let again = Object::from_json(Kind::Pod, json).unwrap();
        let pod = again.get::<Pod>().unwrap();
        assert_eq!(pod.token_volume, Some(*b"abcde"));
        assert_eq!(pod.spec.full.volumes, None);
    }

    #[test]
    fn requests_take_sidecars_and_the_largest_init_container_into_account() {
        let container = |name: &str, cpu: &str, restart: Value| json!({"name": name, "image": "i", "restartPolicy": restart, "resources": {"limits": {"cpu": cpu}}});
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [container("side", "100m", "Always".into()), container("init", "1", Value::Null)],
            "containers": [container("main", "500m", Value::Null)],
            "overhead": {"cpu": "10m"}
        }});
        let object = Object::from_json(Kind::Pod, pod).unwrap();
        let spec = &object.get::<Pod>().unwrap().spec;
        assert_eq!(spec.requests.milli_cpu, 1110);
        assert_eq!(spec.scoring_requests.memory, 400 * 1024 * 1024);
    }

    #[test]
    fn an_amount_that_is_none_is_refused_with_its_place() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "lots"}}}]}});
        let error = Object::from_json(Kind::Pod, pod).unwrap_err();
        assert_eq!(error.path, "spec.containers[0].resources.limits[cpu]");
    }
}
