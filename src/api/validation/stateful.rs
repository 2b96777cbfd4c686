//! StatefulSets and ReplicationControllers.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimVolumeSource, PodTemplateSpec, ReplicationController, ReplicationControllerSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope, same};
use super::workload::selector_and_template;
use super::{Validate, format, not_negative, text};

impl Validate for StatefulSet {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        stateful_set_spec(self.spec.as_ref().unwrap_or(&StatefulSetSpec::default()), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        let empty = StatefulSetSpec::default();
        let (new, old) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        stateful_set_spec(new, &mut errors);
        // What may change is taken over before the rest is compared.
        let kept = StatefulSetSpec {
            replicas: new.replicas,
            template: new.template.clone(),
            update_strategy: new.update_strategy.clone(),
            min_ready_seconds: new.min_ready_seconds,
            ordinals: new.ordinals.clone(),
            revision_history_limit: new.revision_history_limit,
            persistent_volume_claim_retention_policy: new.persistent_volume_claim_retention_policy.clone(),
            ..old.clone()
        };
        if !same(new, &kept) {
            let message = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                           'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                           'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden(&Path::Root.child("spec"), message));
        }
        errors
    }
}

fn stateful_set_spec(spec: &StatefulSetSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    either(text(&spec.pod_management_policy), ["OrderedReady", "Parallel"], &path.child("podManagementPolicy"), errors);
    let strategy = spec.update_strategy.as_ref();
    let strategy_path = path.child("updateStrategy");
    let kind = strategy.map(|strategy| text(&strategy.type_)).unwrap_or_default();
    either(kind, ["RollingUpdate", "OnDelete"], &strategy_path, errors);
    if let Some(rolling) = strategy.and_then(|strategy| strategy.rolling_update.as_ref()) {
        let rolling_path = strategy_path.child("rollingUpdate");
        if kind == "OnDelete" {
            let message = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(&rolling_path, BadValue::json(rolling), message));
        } else {
            not_negative(rolling.partition.unwrap_or_default().into(), &rolling_path.child("partition"), errors);
        }
    }
    not_negative(spec.replicas.unwrap_or_default().into(), &path.child("replicas"), errors);
    not_negative(spec.min_ready_seconds.unwrap_or_default().into(), &path.child("minReadySeconds"), errors);
    if let Some(start) = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start) {
        not_negative(start.into(), &path.child("ordinals.start"), errors);
    }
    let service = text(&spec.service_name);
    if !service.is_empty() {
        errors.invalid_each(&path.child("serviceName"), service, format::dns_1123_label(service));
    }
    selector_and_template(&spec.selector, &with_claims(spec), &path, errors);
}

/// One of two words.
fn either(value: &str, words: [&str; 2], path: &Path<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !words.contains(&value) {
        errors.push(FieldError::invalid(path, value, format!("must be '{}' or '{}'", words[0], words[1])));
    }
}

/// The template with the volumes that each pod will have of the claims made for it.
fn with_claims(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let Some(pod) = &mut template.spec else { return template };
    let names: Vec<&str> =
        spec.volume_claim_templates.iter().flatten().map(|claim| text(&claim.metadata.name)).collect();
    let volumes = pod.volumes.get_or_insert_default();
    volumes.retain(|volume| !names.contains(&volume.name.as_str()));
    volumes.extend(names.iter().map(|name| Volume {
        name: (*name).to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: (*name).to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    }));
    template
}

impl Validate for ReplicationController {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        controller_spec(self.spec.as_ref().unwrap_or(&ReplicationControllerSpec::default()), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        controller_spec(self.spec.as_ref().unwrap_or(&ReplicationControllerSpec::default()), &mut errors);
        errors
    }
}

fn controller_spec(spec: &ReplicationControllerSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    not_negative(spec.min_ready_seconds.unwrap_or_default().into(), &path.child("minReadySeconds"), errors);
    not_negative(spec.replicas.unwrap_or_default().into(), &path.child("replicas"), errors);
    let Some(template) = &spec.template else {
        return errors.push(FieldError::required(&path.child("template"), ""));
    };
    // The selector is a plain map; the same rules hold as for one that names labels only.
    let labels = LabelSelector { match_labels: spec.selector.clone(), ..LabelSelector::default() };
    selector_and_template(&labels, template, &path, errors);
}
