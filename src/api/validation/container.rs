//! Containers: what they are called, what they run, and what they need.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, EphemeralContainer, VolumeMount,
};

use super::error::{ErrorList, FieldError, Path};
use super::{format, one_of, probe, resources, security, text};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// What containers may refer to in their pod.
pub(super) struct Surroundings<'a> {
    pub(super) volumes: BTreeSet<&'a str>,
    pub(super) claims: BTreeSet<&'a str>,
    pub(super) grace: Option<i64>,
}

pub(super) fn containers(containers: &[Container], pod: &Surroundings<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if containers.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let mut names = BTreeSet::new();
    for (position, container) in containers.iter().enumerate() {
        let place = path.index(position);
        common(container, pod, &place, errors);
        if !names.insert(container.name.as_str()) {
            errors.push(FieldError::duplicate(&place.child("name"), &container.name));
        }
        probes(container, pod, &place, errors);
        restart_policy(container, &place, errors);
    }
    host_ports(containers, path, errors);
}

pub(super) fn init_containers(
    containers: &[Container],
    regular: &[Container],
    pod: &Surroundings<'_>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let mut names: BTreeSet<&str> = regular.iter().map(|container| container.name.as_str()).collect();
    for (position, container) in containers.iter().enumerate() {
        let place = path.index(position);
        common(container, pod, &place, errors);
        restart_policy(container, &place, errors);
        if !names.insert(container.name.as_str()) && !container.name.is_empty() {
            errors.push(FieldError::duplicate(&place.child("name"), &container.name));
        }
        host_ports(std::slice::from_ref(container), path, errors);
        if container.restart_policy.as_deref() == Some("Always") {
            probes(container, pod, &place, errors);
            continue;
        }
        let only_sidecars = [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ];
        for (name, _) in only_sidecars.into_iter().filter(|(_, present)| *present) {
            let message = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(&place.child(name), message));
        }
    }
}

/// Checks the names of debug containers; the subresource that adds them checks the rest.
pub(super) fn ephemeral_containers(
    containers: &[EphemeralContainer],
    others: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    for (position, container) in containers.iter().enumerate() {
        let place = path.index(position);
        if container.name.is_empty() {
            errors.push(FieldError::required(&place.child("name"), ""));
        } else if others.contains(container.name.as_str()) {
            errors.push(FieldError::duplicate(&place.child("name"), &container.name));
        }
        if text(&container.image).is_empty() {
            errors.push(FieldError::required(&place.child("image"), ""));
        }
    }
}

fn common(container: &Container, pod: &Surroundings<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let name_path = path.child("name");
    match container.name.as_str() {
        "" => errors.push(FieldError::required(&name_path, "")),
        name => errors.invalid_each(&name_path, name, format::dns_1123_label(name)),
    }
    if text(&container.image).is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    }
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(text(&container.termination_message_policy), &policies, &path.child("terminationMessagePolicy"), errors);
    ports(container.ports.as_deref().unwrap_or_default(), &path.child("ports"), errors);
    environment(container.env.as_deref().unwrap_or_default(), &path.child("env"), errors);
    environment_sources(container.env_from.as_deref().unwrap_or_default(), &path.child("envFrom"), errors);
    mounts(container.volume_mounts.as_deref().unwrap_or_default(), pod, &path.child("volumeMounts"), errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(text(&container.image_pull_policy), &policies, &path.child("imagePullPolicy"), errors);
    if let Some(requirements) = &container.resources {
        resources::requirements(requirements, &pod.claims, &path.child("resources"), errors);
    }
    if let Some(context) = &container.security_context {
        security::container(context, &path.child("securityContext"), errors);
    }
}

fn probes(container: &Container, pod: &Surroundings<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(lifecycle) = &container.lifecycle {
        probe::lifecycle(lifecycle, pod.grace, &path.child("lifecycle"), errors);
    }
    probe::liveness(&container.liveness_probe, &path.child("livenessProbe"), errors);
    probe::readiness(&container.readiness_probe, &path.child("readinessProbe"), errors);
    // A startup probe has the rules of a liveness probe.
    probe::liveness(&container.startup_probe, &path.child("startupProbe"), errors);
}

/// A container's own restart policy and the rules that go before it (`validateContainerRestartPolicy`).
fn restart_policy(container: &Container, path: &Path<'_>, errors: &mut ErrorList) {
    let place = path.child("restartPolicy");
    let policies = ["Always", "Never", "OnFailure"];
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    match container.restart_policy.as_deref() {
        Some(policy) if !policies.contains(&policy) => {
            errors.push(FieldError::not_supported(&place, policy, &policies));
        }
        None if !rules.is_empty() => {
            errors.push(FieldError::required(&place, "must specify restartPolicy when restart rules are used"));
            return;
        }
        _ => {}
    }
    let rules_path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&rules_path, rules.len(), 20));
    }
    for (position, rule) in rules.iter().enumerate() {
        let place = rules_path.index(position);
        let actions = ["Restart", "RestartAllContainers"];
        if !actions.contains(&rule.action.as_str()) {
            errors.push(FieldError::not_supported(&place.child("action"), &rule.action, &actions));
        }
        let codes_path = place.child("exitCodes");
        let Some(codes) = &rule.exit_codes else {
            errors.push(FieldError::required(&codes_path, "must be specified"));
            continue;
        };
        let operators = ["In", "NotIn"];
        if !operators.contains(&codes.operator.as_str()) {
            errors.push(FieldError::not_supported(&codes_path.child("operator"), &codes.operator, &operators));
        }
        let count = codes.values.as_ref().map_or(0, Vec::len);
        if count > 255 {
            errors.push(FieldError::too_many(&codes_path.child("values"), count, 255));
        }
    }
}

fn ports(ports: &[ContainerPort], path: &Path<'_>, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for (position, port) in ports.iter().enumerate() {
        let place = path.index(position);
        let name = text(&port.name);
        if !name.is_empty() {
            let name_path = place.child("name");
            let complaints = format::port_name(name);
            if complaints.is_empty() && !names.insert(name) {
                errors.push(FieldError::duplicate(&name_path, name));
            }
            errors.invalid_each(&name_path, name, complaints);
        }
        if port.container_port == 0 {
            errors.push(FieldError::required(&place.child("containerPort"), ""));
        }
        for (field, number) in
            [("containerPort", port.container_port), ("hostPort", port.host_port.unwrap_or_default())]
        {
            for complaint in format::port_number(number).into_iter().filter(|_| number != 0) {
                errors.push(FieldError::invalid(&place.child(field), number, complaint));
            }
        }
        one_of(text(&port.protocol), &PROTOCOLS, &place.child("protocol"), errors);
    }
}

/// Refuses the same port of the node twice.
fn host_ports(containers: &[Container], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (position, container) in containers.iter().enumerate() {
        let container_path = path.index(position);
        let ports_path = container_path.child("ports");
        for (position, port) in container.ports.iter().flatten().enumerate() {
            let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
            let identity = format!("{}/{}/{host_port}", text(&port.protocol), text(&port.host_ip));
            if seen.contains(&identity) {
                let place = ports_path.index(position);
                errors.push(FieldError::duplicate(&place.child("hostPort"), &identity));
            }
            seen.insert(identity);
        }
    }
}

fn environment(variables: &[EnvVar], path: &Path<'_>, errors: &mut ErrorList) {
    for (position, variable) in variables.iter().enumerate() {
        let place = path.index(position);
        match variable.name.as_str() {
            "" => errors.push(FieldError::required(&place.child("name"), "")),
            name => errors.invalid_each(&place.child("name"), name, format::env_var_name(name)),
        }
        if let Some(source) = &variable.value_from {
            value_source(source, text(&variable.value), &place.child("valueFrom"), errors);
        }
    }
}

fn value_source(source: &EnvVarSource, value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        field_reference(&field.field_path, &path.child("fieldRef.fieldPath"), errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        if resource.resource.is_empty() {
            errors.push(FieldError::required(&path.child("resourceFieldRef.resource"), ""));
        }
    }
    if let Some(reference) = &source.config_map_key_ref {
        sources += 1;
        key_reference(&reference.name, &reference.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(reference) = &source.secret_key_ref {
        sources += 1;
        key_reference(&reference.name, &reference.key, &path.child("secretKeyRef"), errors);
    }
    sources += i32::from(source.file_key_ref.is_some());
    let message = match (sources, value.is_empty()) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        (_, false) => "may not be specified when `value` is not empty",
        (1, true) => return,
        (_, true) => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, "", message));
}

fn key_reference(name: &str, key: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    match key {
        "" => errors.push(FieldError::required(&path.child("key"), "")),
        key => errors.invalid_each(&path.child("key"), key, format::config_map_key(key)),
    }
}

fn field_reference(field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    const FIELDS: [&str; 10] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
        "status.qosClass",
    ];
    let subscripted = field.starts_with("metadata.annotations['") || field.starts_with("metadata.labels['");
    if field.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !(FIELDS.contains(&field) || subscripted && field.ends_with("']")) {
        let supported: Vec<&str> = FIELDS.into_iter().filter(|field| *field != "status.qosClass").collect();
        errors.push(FieldError::not_supported(path, field, &supported));
    }
}

fn environment_sources(sources: &[EnvFromSource], path: &Path<'_>, errors: &mut ErrorList) {
    for (position, source) in sources.iter().enumerate() {
        let place = path.index(position);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            errors.invalid_each(&place.child("prefix"), prefix, format::env_var_name(prefix));
        }
        let names = [
            ("configMapRef", source.config_map_ref.as_ref().map(|reference| &reference.name)),
            ("secretRef", source.secret_ref.as_ref().map(|reference| &reference.name)),
        ];
        for (field, name) in names {
            if name.is_some_and(|name| name.is_empty()) {
                errors.push(FieldError::required(&place.child(field).child("name"), ""));
            }
        }
        match names.iter().filter(|(_, name)| name.is_some()).count() {
            0 => errors.push(FieldError::invalid(&place, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(FieldError::invalid(&place, "", "may not have more than one field specified at a time")),
        }
    }
}

fn mounts(mounts: &[VolumeMount], pod: &Surroundings<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut points = BTreeSet::new();
    for (position, mount) in mounts.iter().enumerate() {
        let place = path.index(position);
        let name_path = place.child("name");
        if mount.name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
        }
        if !pod.volumes.contains(mount.name.as_str()) {
            errors.push(FieldError::not_found(&name_path, &mount.name));
        }
        let point_path = place.child("mountPath");
        if mount.mount_path.is_empty() {
            errors.push(FieldError::required(&point_path, ""));
        }
        if !points.insert(mount.mount_path.as_str()) {
            errors.push(FieldError::invalid(&point_path, &mount.mount_path, "must be unique"));
        }
        for (field, inner) in [("subPath", text(&mount.sub_path)), ("subPathExpr", text(&mount.sub_path_expr))] {
            // The original leaves the position out of these two paths.
            if inner.starts_with('/') {
                errors.push(FieldError::invalid(&path.child(field), inner, "must be a relative path"));
            }
            if inner.split('/').any(|step| step == "..") {
                errors.push(FieldError::invalid(&path.child(field), inner, "must not contain '..'"));
            }
        }
        if !text(&mount.sub_path).is_empty() && !text(&mount.sub_path_expr).is_empty() {
            let message = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&place.child("subPathExpr"), text(&mount.sub_path_expr), message));
        }
    }
}
