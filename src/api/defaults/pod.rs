//! Defaults of pods, and of the pods that templates describe.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::container::{container, ephemeral_container, resource_list, resource_requirements};
use super::volume::volume;
use super::{Defaults, fill, unset};
use crate::api::quantity::Quantity;

impl Defaults for Pod {
    fn set_defaults(&mut self) {
        if let Some(spec) = &mut self.spec {
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                requests_from_limits(container);
            }
            pod_level_requests(spec);
            spec.enable_service_links.get_or_insert(true);
            if spec.host_network == Some(true) {
                for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                    for port in container.ports.iter_mut().flatten() {
                        super::fill_number(&mut port.host_port, port.container_port);
                    }
                }
            }
            pod_template_defaults(spec);
        }
        // The phase of a new pod is set by the registry, not here.
        self.status.get_or_insert_default();
    }
}

/// The defaults that a pod spec gets wherever it stands. A pod of its own gets more than one inside a template does:
/// requests from limits, service links and host ports.
pub fn pod_template_defaults(spec: &mut PodSpec) {
    fill(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.restart_policy, "Always");
    spec.security_context.get_or_insert_with(PodSecurityContext::default);
    spec.termination_grace_period_seconds.get_or_insert(30);
    fill(&mut spec.scheduler_name, "default-scheduler");
    service_account(spec);
    spec.volumes.iter_mut().flatten().for_each(volume);
    spec.init_containers.iter_mut().flatten().for_each(container);
    spec.containers.iter_mut().for_each(container);
    spec.ephemeral_containers.iter_mut().flatten().for_each(ephemeral_container);
    resource_list(&mut spec.overhead);
    if let Some(resources) = &mut spec.resources {
        resource_requirements(resources);
    }
}

/// The old name of the field for the service account is kept equal to the new one (core/v1 conversion).
fn service_account(spec: &mut PodSpec) {
    if unset(&spec.service_account_name) && !unset(&spec.service_account) {
        spec.service_account_name = spec.service_account.clone();
    }
    if !unset(&spec.service_account_name) {
        spec.service_account = spec.service_account_name.clone();
    }
}

fn requests_from_limits(container: &mut Container) {
    let Some(resources) = &mut container.resources else { return };
    let Some(limits) = &resources.limits else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        if !requests.contains_key(name) {
            requests.insert(name.clone(), limit.clone());
        }
    }
}

/// Resources that can be set for a pod as a whole.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Requests of the whole pod, where only limits are given for it: what its containers request together, else the limits.
fn pod_level_requests(spec: &mut PodSpec) {
    let together = match &spec.resources {
        Some(resources) if resources.limits.as_ref().is_some_and(|limits| !limits.is_empty()) => {
            aggregate_requests(spec)
        }
        _ => return,
    };
    let Some(resources) = &mut spec.resources else { return };
    let mut requests = resources.requests.take().unwrap_or_default();
    for (name, amount) in together {
        if is_pod_level(&name) && !name.starts_with("hugepages-") && !requests.contains_key(&name) {
            requests.insert(name, amount.to_text());
        }
    }
    for (name, limit) in resources.limits.iter().flatten() {
        if is_pod_level(name) && !requests.contains_key(name) {
            requests.insert(name.clone(), limit.clone());
        }
    }
    resources.requests = (!requests.is_empty()).then_some(requests);
}

/// What the containers of a pod request together: the sum of those that run side by side, or what an init container
/// and the sidecars before it request, if that is more (component-helpers, resource).
fn aggregate_requests(spec: &PodSpec) -> BTreeMap<String, Quantity> {
    let mut running: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in &spec.containers {
        add(&mut running, requests(container));
    }
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut starting: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in spec.init_containers.iter().flatten() {
        let mut now = sidecars.clone();
        add(&mut now, requests(container));
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, requests(container));
            sidecars = now.clone();
        }
        at_least(&mut starting, now);
    }
    at_least(&mut running, starting);
    running
}

fn requests(container: &Container) -> impl Iterator<Item = (&String, &Text)> {
    container.resources.iter().flat_map(|resources| resources.requests.iter().flatten())
}

fn add<'a>(sum: &mut BTreeMap<String, Quantity>, amounts: impl Iterator<Item = (&'a String, &'a Text)>) {
    for (name, text) in amounts {
        let entry = sum.entry(name.clone()).or_default();
        *entry = entry.plus(Quantity::of(text).unwrap_or_default());
    }
}

fn at_least(amounts: &mut BTreeMap<String, Quantity>, others: BTreeMap<String, Quantity>) {
    for (name, other) in others {
        let entry = amounts.entry(name).or_default();
        *entry = other.max(*entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, expected: Value) {
        let pod: Result<Pod, _> = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "spec": spec}));
        let mut pod = pod.unwrap_or_default();
        pod.set_defaults();
        assert_eq!(serde_json::to_value(&pod.spec).ok(), Some(expected));
        let once = pod.clone();
        pod.set_defaults();
        assert_eq!(pod, once, "defaults are set once");
    }

    #[test]
    fn a_bare_pod_gets_what_the_api_server_gives_it() {
        check(
            json!({"containers": [{"name": "a", "image": "nginx:1.27", "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}}}], "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "x"}}]}),
            json!({
                "containers": [{
                    "name": "a", "image": "nginx:1.27", "imagePullPolicy": "IfNotPresent", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
                }],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}}],
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
                "schedulerName": "default-scheduler", "securityContext": {}, "enableServiceLinks": true
            }),
        );
    }

    #[test]
    fn requests_come_from_limits_and_host_ports_from_the_host_network() {
        let before = json!({"name": "a", "image": "x", "imagePullPolicy": "Never", "terminationMessagePath": "/t", "terminationMessagePolicy": "File"});
        let mut container = before.clone();
        container["resources"] = json!({"limits": {"cpu": "0.5", "memory": "64Mi"}, "requests": {"cpu": "100m"}});
        container["ports"] = json!([{"containerPort": 80}]);
        let mut expected = before;
        expected["resources"] =
            json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}});
        expected["ports"] = json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]);
        let rest = json!({"restartPolicy": "Never", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 0, "schedulerName": "s", "securityContext": {}, "enableServiceLinks": false, "hostNetwork": true, "serviceAccount": "b"});
        let (mut given, mut wanted) = (rest.clone(), rest);
        given["containers"] = json!([container]);
        wanted["containers"] = json!([expected]);
        wanted["serviceAccountName"] = json!("b");
        check(given, wanted);
    }

    #[test]
    fn requests_of_the_whole_pod_come_from_its_containers() {
        let spec: Result<PodSpec, _> = serde_json::from_value(json!({
            "resources": {"limits": {"cpu": "4", "memory": "1Gi"}},
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "2"}}}
            ],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "500m"}}}]
        }));
        let mut spec = spec.unwrap_or_default();
        pod_level_requests(&mut spec);
        let requests = spec.resources.and_then(|resources| resources.requests);
        assert_eq!(serde_json::to_value(requests).ok(), Some(json!({"cpu": "2100m", "memory": "1Gi"})));
    }
}
