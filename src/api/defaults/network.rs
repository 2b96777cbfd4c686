//! Defaults of Services, Endpoints and EndpointSlices. IP addresses and their families are given by the registry.

use k8s_openapi::api::core::v1::{ClientIPConfig, Endpoints, Service, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Defaults, fill};

/// How long a client stays with the pod that it was given: three hours.
const CLIENT_IP_SECONDS: i32 = 10_800;

impl Defaults for Service {
    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        fill(&mut spec.session_affinity, "None");
        affinity(spec);
        fill(&mut spec.type_, "ClusterIP");
        for port in spec.ports.iter_mut().flatten() {
            fill(&mut port.protocol, "TCP");
            let untargeted = match &port.target_port {
                None | Some(IntOrString::Int(0)) => true,
                Some(IntOrString::String(name)) => name.is_empty(),
                Some(IntOrString::Int(_)) => false,
            };
            if untargeted {
                port.target_port = Some(IntOrString::Int(port.port));
            }
        }
        let kind = spec.type_.as_deref().unwrap_or_default();
        let (node_port, load_balancer) = (kind == "NodePort", kind == "LoadBalancer");
        let has_external_ip = kind == "ClusterIP" && spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
        if node_port || load_balancer || has_external_ip {
            fill(&mut spec.external_traffic_policy, "Cluster");
        }
        if node_port || load_balancer || kind == "ClusterIP" {
            spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
        }
        if load_balancer {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
            ingress_modes(self);
        }
    }
}

fn affinity(spec: &mut ServiceSpec) {
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let given =
                spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
            let seconds = given.unwrap_or(CLIENT_IP_SECONDS);
            let client_ip = Some(ClientIPConfig { timeout_seconds: Some(seconds) });
            spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
        }
        _ => {}
    }
}

fn ingress_modes(service: &mut Service) {
    let balancer = service.status.as_mut().and_then(|status| status.load_balancer.as_mut());
    for ingress in balancer.into_iter().flat_map(|balancer| balancer.ingress.iter_mut().flatten()) {
        if !super::unset(&ingress.ip) {
            ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
        }
    }
}

impl Defaults for Endpoints {
    fn set_defaults(&mut self) {
        for port in self.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten()) {
            fill(&mut port.protocol, "TCP");
        }
    }
}

impl Defaults for EndpointSlice {
    fn set_defaults(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, expected: Value) {
        let service: Result<Service, _> =
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Service", "spec": spec}));
        let mut service = service.unwrap_or_default();
        service.set_defaults();
        assert_eq!(serde_json::to_value(&service.spec).ok(), Some(expected));
    }

    #[test]
    fn services_lead_to_the_port_of_the_same_number() {
        check(
            json!({"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}),
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "TCP", "targetPort": "web"}], "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"}),
        );
        check(
            json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"}),
            json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true}),
        );
        check(
            json!({"type": "ExternalName", "externalName": "a"}),
            json!({"type": "ExternalName", "externalName": "a", "sessionAffinity": "None"}),
        );
    }
}
