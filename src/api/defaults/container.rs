//! Defaults of containers, probes and amounts of resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EphemeralContainer, Lifecycle, Probe, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{fill, fill_number};
use crate::api::quantity::{self, Quantity};

pub(super) fn container(container: &mut Container) {
    fill(&mut container.image_pull_policy, default_pull_policy(container.image.as_deref().unwrap_or_default()));
    fill(&mut container.termination_message_path, "/dev/termination-log");
    fill(&mut container.termination_message_policy, "File");
    ports(&mut container.ports);
    environment(&mut container.env);
    if let Some(resources) = &mut container.resources {
        resource_requirements(resources);
    } else {
        // The field is a struct in Go and so always written.
        container.resources = Some(ResourceRequirements::default());
    }
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(probe);
    lifecycle(&mut container.lifecycle);
}

pub(super) fn ephemeral_container(container: &mut EphemeralContainer) {
    fill(&mut container.image_pull_policy, default_pull_policy(container.image.as_deref().unwrap_or_default()));
    fill(&mut container.termination_message_path, "/dev/termination-log");
    fill(&mut container.termination_message_policy, "File");
    ports(&mut container.ports);
    environment(&mut container.env);
    if container.resources.is_none() {
        container.resources = Some(ResourceRequirements::default());
    }
}

/// `Always` for an image whose tag is `latest` or left out, `IfNotPresent` otherwise, also where the name is malformed.
pub fn default_pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    // A part before the first slash that looks like a host name may have capitals; the rest may not.
    let path = match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => repository,
    };
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._-".contains(&byte);
    let well_formed = !path.is_empty() && path.bytes().all(allowed);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) if well_formed => "Always",
        _ => "IfNotPresent",
    }
}

fn ports(ports: &mut Option<Vec<ContainerPort>>) {
    for port in ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
    }
}

fn environment(variables: &mut Option<Vec<EnvVar>>) {
    for variable in variables.iter_mut().flatten() {
        if let Some(field) = variable.value_from.as_mut().and_then(|source| source.field_ref.as_mut()) {
            fill(&mut field.api_version, "v1");
        }
    }
}

fn probe(probe: &mut Probe) {
    fill_number(&mut probe.timeout_seconds, 1);
    fill_number(&mut probe.period_seconds, 10);
    fill_number(&mut probe.success_threshold, 1);
    fill_number(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        fill(&mut get.path, "/");
        fill(&mut get.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn lifecycle(lifecycle: &mut Option<Lifecycle>) {
    let Some(lifecycle) = lifecycle else { return };
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
        if let Some(get) = &mut handler.http_get {
            fill(&mut get.path, "/");
            fill(&mut get.scheme, "HTTP");
        }
    }
}

pub(super) fn resource_requirements(resources: &mut ResourceRequirements) {
    resource_list(&mut resources.limits);
    resource_list(&mut resources.requests);
}

/// Amounts finer than a thousandth are rounded up to one, and all are written in canonical form.
pub(super) fn resource_list(list: &mut Option<BTreeMap<String, Text>>) {
    for text in list.iter_mut().flat_map(|list| list.values_mut()) {
        // What cannot be read has been refused when the object was decoded.
        let Ok(amount) = Quantity::of(text) else { continue };
        let rounded = Quantity::from_milli(amount.milli_value(), amount.format());
        if rounded > amount && amount.milli_value() != i64::MAX {
            *text = rounded.to_text();
        } else if let Ok(canonical) = quantity::canonical(&text.0) {
            *text = Text(canonical.into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides_how_an_image_is_pulled() {
        let always = ["nginx", "nginx:latest", "localhost:5000/a/b", "Example.com/a"];
        let if_not_present = ["nginx:1.27", "a@sha256:0123", "localhost:5000/a:1", "", "MyImage", "a:latest:b"];
        assert_eq!(always.map(default_pull_policy), ["Always"; 4]);
        assert_eq!(if_not_present.map(default_pull_policy), ["IfNotPresent"; 6]);
    }

    #[test]
    fn amounts_are_rounded_up_to_thousandths() {
        let mut list = Some(BTreeMap::from(
            [("a", "100u"), ("b", "1024Mi"), ("c", "0.5")].map(|(k, v)| (k.to_owned(), Text(v.to_owned()))),
        ));
        resource_list(&mut list);
        let texts: Vec<String> = list.into_iter().flatten().map(|(_, text)| text.0).collect();
        assert_eq!(texts, ["1m", "1Gi", "500m"]);
    }
}
