//! Services. Cluster IPs, node ports and IP families must already have been given, where they are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope};
use super::{Validate, endpoints, format, one_of, probe, text};

impl Validate for Service {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        // Since 1.36 the name may begin with a digit (RelaxedServiceNameValidation).
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_label, &mut errors);
        service_spec(self.spec.as_ref().unwrap_or(&ServiceSpec::default()), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        let empty = ServiceSpec::default();
        let (new, old) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        cluster_ip_update(new, old, &Path::Root.child("spec.clusterIPs"), &mut errors);
        service_spec(new, &mut errors);
        errors
    }
}

fn cluster_ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None") || cluster_ips(spec).first().is_some_and(|ip| ip == "None")
}

fn cluster_ip_update(new: &ServiceSpec, old: &ServiceSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let external = |spec: &ServiceSpec| text(&spec.type_) == "ExternalName";
    if external(new) || external(old) || (is_headless(new) && is_headless(old)) {
        return;
    }
    let (new, old) = (cluster_ips(new), cluster_ips(old));
    if new.is_empty() && !old.is_empty() {
        let message = "primary clusterIP can not be unset";
        return errors.push(FieldError::invalid(&path.index(0), BadValue::json(&new), message));
    }
    for (position, _) in old.iter().zip(new).enumerate().filter(|(_, (old, new))| old != new) {
        errors.push(FieldError::invalid(&path.index(position), BadValue::json(&new), "may not change once set"));
    }
}

fn service_spec(spec: &ServiceSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    let kind = text(&spec.type_);
    let ports = spec.ports.as_deref().unwrap_or_default();
    let ports_path = path.child("ports");
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(FieldError::required(&ports_path, ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let message = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&path.child("clusterIPs").index(0), "None", message));
        }
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    let mut names = BTreeSet::new();
    for (position, port) in ports.iter().enumerate() {
        service_port(port, ports.len() > 1, &mut names, &ports_path.index(position), errors);
    }
    metadata::labels(&spec.selector, &path.child("selector"), errors);
    session_affinity(spec, &path, errors);
    addresses(spec, &path, errors);
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(kind, &kinds, &path.child("type"), errors);
    unique_ports(ports, kind, &ports_path, errors);
    if kind != "LoadBalancer" {
        let only_load_balancers = [
            (
                "LoadBalancerSourceRanges",
                spec.load_balancer_source_ranges.as_ref().is_some_and(|ranges| !ranges.is_empty()),
            ),
            ("allocateLoadBalancerNodePorts", spec.allocate_load_balancer_node_ports.is_some()),
            ("loadBalancerClass", spec.load_balancer_class.is_some()),
        ];
        for (field, _) in only_load_balancers.into_iter().filter(|(_, present)| *present) {
            let message = "may only be used when `type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden(&path.child(field), message));
        }
    }
    traffic_policies(spec, kind, &path, errors);
}

fn external_name(spec: &ServiceSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let present = [
        ("clusterIPs", !cluster_ips(spec).is_empty()),
        ("ipFamilies", spec.ip_families.as_ref().is_some_and(|families| !families.is_empty())),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ];
    for (field, _) in present.into_iter().filter(|(_, present)| *present) {
        errors.push(FieldError::forbidden(&path.child(field), "may not be set for ExternalName services"));
    }
    let name = text(&spec.external_name);
    let name = name.strip_suffix('.').unwrap_or(name);
    match name {
        "" => errors.push(FieldError::required(&path.child("externalName"), "")),
        name => errors.invalid_each(&path.child("externalName"), name, format::dns_1123_subdomain(name)),
    }
}

fn service_port<'p>(
    port: &'p ServicePort,
    name_required: bool,
    names: &mut BTreeSet<&'p str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let name = text(&port.name);
    let name_path = path.child("name");
    if !name.is_empty() {
        errors.invalid_each(&name_path, name, format::dns_1123_label(name));
        if !names.insert(name) {
            errors.push(FieldError::duplicate(&name_path, name));
        }
    } else if name_required {
        errors.push(FieldError::required(&name_path, ""));
    }
    for complaint in format::port_number(port.port) {
        errors.push(FieldError::invalid(&path.child("port"), port.port, complaint));
    }
    one_of(text(&port.protocol), &endpoints::PROTOCOLS, &path.child("protocol"), errors);
    probe::port(port.target_port.as_ref().unwrap_or(&IntOrString::Int(0)), &path.child("targetPort"), errors);
    if let Some(protocol) = &port.app_protocol {
        errors.invalid_each(&path.child("appProtocol"), protocol, format::label_key(protocol));
    }
}

fn session_affinity(spec: &ServiceSpec, path: &Path<'_>, errors: &mut ErrorList) {
    one_of(text(&spec.session_affinity), &["ClientIP", "None"], &path.child("sessionAffinity"), errors);
    let place = path.child("sessionAffinityConfig");
    let seconds = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    match (text(&spec.session_affinity), seconds) {
        ("ClientIP", None) => {
            errors.push(FieldError::required(&place, "when session affinity type is ClientIP"));
        }
        ("ClientIP", Some(seconds)) if !(1..=86_400).contains(&seconds) => {
            let message = "must be greater than 0 and less than 86400";
            errors.push(FieldError::invalid(&place.child("clientIP.timeoutSeconds"), seconds, message));
        }
        ("None", _) if spec.session_affinity_config.is_some() => {
            errors.push(FieldError::forbidden(&place, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn addresses(spec: &ServiceSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let ips_path = path.child("clusterIPs");
    for (position, ip) in cluster_ips(spec).iter().enumerate() {
        if !ip.is_empty() && ip != "None" && ip.parse::<IpAddr>().is_err() {
            let message = "must be empty, 'None', or a valid IP address";
            errors.push(FieldError::invalid(&ips_path.index(position), ip, message));
        }
    }
    if let (Some(first), Some(ip)) = (cluster_ips(spec).first(), &spec.cluster_ip)
        && first != ip
    {
        let message = "first value must match `clusterIP`";
        errors.push(FieldError::invalid(&ips_path, BadValue::json(&cluster_ips(spec)), message));
    }
    let external_path = path.child("externalIPs");
    for (position, ip) in spec.external_ips.iter().flatten().enumerate() {
        endpoints::address(ip, &external_path.index(position), errors);
    }
}

fn unique_ports(ports: &[ServicePort], kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let given = |port: &&ServicePort| port.node_port.unwrap_or_default() != 0;
    if kind == "ClusterIP" {
        for (position, _) in ports.iter().enumerate().filter(|(_, port)| given(port)) {
            let place = path.index(position);
            let message = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(&place.child("nodePort"), message));
        }
    }
    let mut seen = BTreeSet::new();
    for (position, port) in ports.iter().enumerate().filter(|(_, port)| given(port)) {
        let number = port.node_port.unwrap_or_default();
        if !seen.insert((text(&port.protocol), number)) {
            let place = path.index(position);
            errors.push(FieldError::duplicate(&place.child("nodePort"), number));
        }
    }
    let mut seen = BTreeSet::new();
    for (position, port) in ports.iter().enumerate() {
        if !seen.insert((text(&port.protocol), port.port)) {
            let protocol = text(&port.protocol);
            // The original shows its internal struct, whose fields have capitals.
            let shown = InternalPort { protocol, port: port.port, target_port: 0, ..InternalPort::default() };
            errors.push(FieldError::duplicate(&path.index(position), BadValue::json(&shown)));
        }
    }
}

#[derive(serde::Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct InternalPort<'a> {
    name: &'a str,
    protocol: &'a str,
    app_protocol: Option<&'a str>,
    port: i32,
    target_port: i32,
    node_port: i32,
}

fn traffic_policies(spec: &ServiceSpec, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let external = text(&spec.external_traffic_policy);
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    let accessible = matches!(kind, "LoadBalancer" | "NodePort") || (kind == "ClusterIP" && has_external_ips);
    let place = path.child("externalTrafficPolicy");
    match (accessible, external) {
        (true, _) => one_of(external, &["Cluster", "Local"], &place, errors),
        (false, "") => {}
        (false, _) => {
            errors.push(FieldError::invalid(&place, external, "may only be set for externally-accessible services"));
        }
    }
    let place = path.child("internalTrafficPolicy");
    match spec.internal_traffic_policy.as_deref() {
        None if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.push(FieldError::required(&place, ""));
        }
        Some(policy) if !matches!(policy, "Cluster" | "Local") => {
            errors.push(FieldError::not_supported(&place, policy, &["Cluster", "Local"]));
        }
        _ => {}
    }
    const PREFERENCES: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(preferred) = spec.traffic_distribution.as_deref().filter(|it| !PREFERENCES.contains(it)) {
        let place = path.child("trafficDistribution");
        errors.push(FieldError::not_supported(&place, preferred, &PREFERENCES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::defaults::Defaults;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        let metadata = json!({"name": "web", "namespace": "x", "resourceVersion": "1"});
        let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        let mut service: Service = serde_json::from_value(value).unwrap_or_default();
        service.set_defaults();
        service
    }

    fn check(spec: Value, expected: &[&str]) {
        let found: Vec<String> = service(spec).validate().0.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn services_are_refused_with_the_real_texts() {
        check(json!({"ports": [{"port": 80}], "selector": {"app": "web"}}), &[]);
        check(json!({"clusterIP": "None"}), &[]);
        check(json!({}), &["spec.ports: Required value"]);
        check(
            json!({"ports": [{"port": 80}], "trafficDistribution": "PreferFar"}),
            &[
                "spec.trafficDistribution: Unsupported value: \"PreferFar\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
            ],
        );
        check(
            json!({"ports": [{"port": 0}, {"port": 80, "name": "a", "nodePort": 30000}, {"port": 80, "name": "a"}]}),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[2].name: Duplicate value: \"a\"",
                "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                "spec.ports[2]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
            ],
        );
        check(
            json!({"type": "Loadbalancer", "ports": [{"port": 80}], "externalIPs": ["127.0.0.1"]}),
            &[
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "spec.type: Unsupported value: \"Loadbalancer\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        );
    }

    #[test]
    fn a_cluster_ip_stays() {
        let with = |ip: &str| service(json!({"ports": [{"port": 80}], "clusterIP": ip, "clusterIPs": [ip]}));
        assert_eq!(
            with("10.0.0.2").validate_update(&with("10.0.0.1")).to_string(),
            "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"
        );
    }
}
