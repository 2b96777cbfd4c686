//! PersistentVolumes and claims to them. Of the sources of volumes those that clusters commonly have are looked into.

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, HostPathVolumeSource, NodeSelector, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeSpec,
};

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope, immutable, same};
use super::pod::changes;
use super::{Validate, format, not_negative, scheduling, selector, text};
use crate::api::quantity::Quantity;

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

impl Validate for PersistentVolume {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Cluster, format::dns_1123_subdomain, &mut errors);
        volume_spec(self.spec.as_ref().unwrap_or(&PersistentVolumeSpec::default()), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        let empty = PersistentVolumeSpec::default();
        let (new, old) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        volume_spec(new, &mut errors);
        let (before, after) = (source_alone(old), source_alone(new));
        if !same(&after, &before) {
            let message = format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                changes("spec", &before, &after)
            );
            errors.push(FieldError::forbidden(&Path::Root.child("spec.persistentvolumesource"), message));
        }
        immutable(&new.volume_mode, &old.volume_mode, &Path::Root.child("volumeMode"), &mut errors);
        if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
            let message = "update from non-nil value to nil is forbidden";
            errors.push(FieldError::forbidden(&Path::Root.child("spec.volumeAttributesClassName"), message));
        }
        errors
    }
}

fn volume_spec(spec: &PersistentVolumeSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    access_modes(spec.access_modes.as_deref(), "", &path, errors);
    capacity(spec, &path, errors);
    let policy = text(&spec.persistent_volume_reclaim_policy);
    let policies = ["Delete", "Recycle", "Retain"];
    let policy_path = path.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.push(FieldError::not_supported(&policy_path, policy, &policies));
    }
    if let Some(affinity) = &spec.node_affinity {
        let place = path.child("nodeAffinity.required");
        match &affinity.required {
            Some(terms) => node_selector(terms, &place, errors),
            None => errors.push(FieldError::required(&place, "must specify required node constraints")),
        }
    }
    source(spec, &path, errors);
    let is_root = |host: &HostPathVolumeSource| host.path.starts_with('/') && host.path.trim_matches('/').is_empty();
    if policy == "Recycle" && spec.host_path.as_ref().is_some_and(is_root) {
        errors.push(FieldError::forbidden(&policy_path, "may not be 'recycle' for a hostPath mount of '/'"));
    }
    class_name(spec.storage_class_name.as_deref(), &path.child("storageClassName"), errors);
    volume_mode(spec.volume_mode.as_deref(), &path, errors);
    if let Some(class) = spec.volume_attributes_class_name.as_deref() {
        let place = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(FieldError::required(&place, "an empty string is disallowed"));
        }
        class_name(Some(class), &place, errors);
        if spec.csi.is_none() {
            let message = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(&path.child("csi"), message));
        }
    }
}

fn access_modes(modes: Option<&[String]>, missing: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let place = path.child("accessModes");
    let modes = modes.unwrap_or(&[]);
    if modes.is_empty() {
        errors.push(FieldError::required(&place, missing));
    }
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(&mode.as_str())) {
        errors.push(FieldError::not_supported(&place, mode, &ACCESS_MODES));
    }
    let exclusive = |mode: &&String| *mode == "ReadWriteOncePod";
    let known = modes.iter().filter(|mode| ACCESS_MODES.contains(&mode.as_str()));
    if modes.iter().any(|mode| exclusive(&mode)) && known.clone().any(|mode| !exclusive(&mode)) {
        errors.push(FieldError::forbidden(&place, "may not use ReadWriteOncePod with other access modes"));
    }
}

fn capacity(spec: &PersistentVolumeSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let place = path.child("capacity");
    let amounts = spec.capacity.iter().flatten();
    let count = amounts.clone().count();
    if count == 0 {
        errors.push(FieldError::required(&place, ""));
    }
    if count > 1 || !amounts.clone().any(|(name, _)| name == "storage") {
        errors.push(FieldError::not_supported(&place, BadValue::json(&spec.capacity), &["storage"]));
    }
    for (name, amount) in amounts {
        let Ok(amount) = Quantity::of(amount) else { continue };
        let place = place.key(name);
        if amount.is_negative() {
            errors.push(FieldError::invalid(&place, amount.value(), "must be a valid resource quantity"));
        }
        positive(amount, &place, errors);
    }
}

fn positive(amount: Quantity, path: &Path<'_>, errors: &mut ErrorList) {
    if amount.is_negative() || amount.is_zero() {
        errors.push(FieldError::invalid(path, &amount.to_text().0, "must be greater than zero"));
    }
}

fn node_selector(terms: &NodeSelector, path: &Path<'_>, errors: &mut ErrorList) {
    let place = path.child("nodeSelectorTerms");
    if terms.node_selector_terms.is_empty() {
        return errors.push(FieldError::required(&place, "must have at least one node selector term"));
    }
    for (position, term) in terms.node_selector_terms.iter().enumerate() {
        scheduling::node_selector_term(term, true, &place.index(position), errors);
    }
}

/// There must be one source and no more; a flexVolume beside another one is overlooked, as the original does.
fn source(spec: &PersistentVolumeSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let sources = [
        ("hostPath", spec.host_path.is_some()),
        ("gcePersistentDisk", spec.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", spec.aws_elastic_block_store.is_some()),
        ("glusterfs", spec.glusterfs.is_some()),
        ("flocker", spec.flocker.is_some()),
        ("nfs", spec.nfs.is_some()),
        ("rbd", spec.rbd.is_some()),
        ("quobyte", spec.quobyte.is_some()),
        ("cephFS", spec.cephfs.is_some()),
        ("iscsi", spec.iscsi.is_some()),
        ("cinder", spec.cinder.is_some()),
        ("fc", spec.fc.is_some()),
        ("flexVolume", spec.flex_volume.is_some()),
        ("azureFile", spec.azure_file.is_some()),
        ("vsphereVolume", spec.vsphere_volume.is_some()),
        ("photonPersistentDisk", spec.photon_persistent_disk.is_some()),
        ("portworxVolume", spec.portworx_volume.is_some()),
        ("azureDisk", spec.azure_disk.is_some()),
        ("scaleIO", spec.scale_io.is_some()),
        ("local", spec.local.is_some()),
        ("storageos", spec.storageos.is_some()),
        ("csi", spec.csi.is_some()),
    ];
    let mut present = sources.into_iter().filter(|(_, present)| *present).map(|(name, _)| name);
    match present.next() {
        Some(first) => known_source(first, spec, path, errors),
        None => errors.push(FieldError::required(path, "must specify a volume type")),
    }
    for another in present.filter(|name| *name != "flexVolume") {
        errors.push(FieldError::forbidden(&path.child(another), "may not specify more than 1 volume type"));
    }
}

fn known_source(name: &str, spec: &PersistentVolumeSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let place = path.child(name);
    match name {
        "hostPath" => {
            if let Some(host) = &spec.host_path {
                directory(&host.path, &place.child("path"), errors);
            }
        }
        "local" => {
            directory(spec.local.as_ref().map_or("", |local| &local.path), &place.child("path"), errors);
            if spec.node_affinity.is_none() {
                let message = "Local volume requires node affinity";
                errors.push(FieldError::required(&path.child("nodeAffinity"), message));
            }
        }
        "nfs" => {
            let Some(nfs) = &spec.nfs else { return };
            if nfs.server.is_empty() {
                errors.push(FieldError::required(&place.child("server"), ""));
            }
            if nfs.path.is_empty() {
                errors.push(FieldError::required(&place.child("path"), ""));
            }
            if !nfs.path.starts_with('/') {
                errors.push(FieldError::invalid(&place.child("path"), &nfs.path, "must be an absolute path"));
            }
        }
        "csi" => {
            if let Some(source) = &spec.csi {
                csi(source, &place, errors);
            }
        }
        _ => {}
    }
}

fn directory(directory: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if directory.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if directory.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, directory, "must not contain '..'"));
    }
}

fn csi(source: &CSIPersistentVolumeSource, path: &Path<'_>, errors: &mut ErrorList) {
    driver_name(&source.driver, &path.child("driver"), errors);
    if source.volume_handle.is_empty() {
        errors.push(FieldError::required(&path.child("volumeHandle"), ""));
    }
}

/// The name of a CSI driver, in any case of letters.
pub(super) fn driver_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    errors.invalid_each(path, name, format::dns_1123_subdomain(&name.to_lowercase()));
}

fn class_name(name: Option<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        errors.invalid_each(path, name, format::dns_1123_subdomain(name));
    }
}

fn volume_mode(mode: Option<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(mode) = mode.filter(|mode| !VOLUME_MODES.contains(mode)) {
        errors.push(FieldError::not_supported(&path.child("volumeMode"), mode, &VOLUME_MODES));
    }
}

/// The specification without what is not the source of the volume.
fn source_alone(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    PersistentVolumeSpec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..spec.clone()
    }
}

impl Validate for PersistentVolumeClaim {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        let empty = PersistentVolumeClaimSpec::default();
        claim_spec(self.spec.as_ref().unwrap_or(&empty), &Path::Root.child("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        let empty = PersistentVolumeClaimSpec::default();
        let (new, before) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        claim_spec(new, &Path::Root.child("spec"), &mut errors);
        let annotation = |claim: &PersistentVolumeClaim| {
            claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CLASS_ANNOTATION).cloned())
        };
        let spec_path = Path::Root.child("spec");
        let compared = kept_alike(self, old, annotation(old));
        if !same(&compared, before) {
            let message = format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
                changes("spec", before, &compared)
            );
            errors.push(FieldError::forbidden(&spec_path, message));
        }
        let (size, had) = (size(new), size(before));
        let capacity = old.status.as_ref().and_then(|status| status.capacity.as_ref());
        let capacity = capacity.and_then(|capacity| Quantity::of(capacity.get("storage")?).ok()).unwrap_or_default();
        if size < had && size <= capacity {
            let message = "field can not be less than status.capacity";
            errors.push(FieldError::forbidden(&spec_path.child("resources.requests.storage"), message));
        }
        immutable(&new.volume_mode, &before.volume_mode, &Path::Root.child("volumeMode"), &mut errors);
        errors
    }
}

fn size(spec: &PersistentVolumeClaimSpec) -> Quantity {
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.and_then(|requests| Quantity::of(requests.get("storage")?).ok()).unwrap_or_default()
}

/// The new specification of a claim with what may change put back as it was.
fn kept_alike(
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
    class: Option<String>,
) -> PersistentVolumeClaimSpec {
    let mut compared = new.spec.clone().unwrap_or_default();
    let before = old.spec.clone().unwrap_or_default();
    // The volume may be named once, and a claim without a class may be given one.
    if text(&before.volume_name).is_empty() {
        compared.volume_name.clone_from(&before.volume_name);
    }
    let may_be_given = class.is_none() || class == compared.storage_class_name;
    if before.storage_class_name.is_none() && may_be_given {
        compared.storage_class_name = None;
    }
    let is_bound = new.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"));
    if is_bound {
        if let Some(requests) = compared.resources.as_mut().and_then(|resources| resources.requests.as_mut()) {
            let size = before.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage"));
            size.map(|size| requests.insert("storage".to_owned(), size.clone()));
        }
        compared.volume_attributes_class_name.clone_from(&before.volume_attributes_class_name);
    }
    compared
}

/// Checks what a claim asks for, or that for a pod's ephemeral volume.
pub(super) fn claim_spec(spec: &PersistentVolumeClaimSpec, path: &Path<'_>, errors: &mut ErrorList) {
    if spec.access_modes.as_ref().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    if let Some(labels) = &spec.selector {
        selector::label_selector(labels, &path.child("selector"), errors);
    }
    if spec.access_modes.as_ref().is_some_and(|modes| !modes.is_empty()) {
        access_modes(spec.access_modes.as_deref(), "", path, errors);
    }
    let resources = path.child("resources");
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        Some(size) => {
            if let Ok(size) = Quantity::of(size) {
                positive(size, &resources.key("storage"), errors);
            }
        }
        None => errors.push(FieldError::required(&resources.key("storage"), "")),
    }
    class_name(spec.storage_class_name.as_deref(), &path.child("storageClassName"), errors);
    volume_mode(spec.volume_mode.as_deref(), path, errors);
    data_source(spec, path, errors);
    class_name(spec.volume_attributes_class_name.as_deref(), &path.child("volumeAttributesClassName"), errors);
}

fn data_source(spec: &PersistentVolumeClaimSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let mut check = |field: &str, group: &Option<String>, kind: &str, name: &str| {
        let place = path.child(field);
        for (field, value) in [("name", name), ("kind", kind)] {
            if value.is_empty() {
                errors.push(FieldError::required(&place.child(field), ""));
            }
        }
        let group = text(group);
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&place, kind, message));
        }
        if !group.is_empty() {
            errors.invalid_each(&place.child("apiGroup"), group, format::dns_1123_subdomain(group));
        }
    };
    if let Some(source) = &spec.data_source {
        check("dataSource", &source.api_group, &source.kind, &source.name);
    }
    if let Some(source) = &spec.data_source_ref {
        check("dataSourceRef", &source.api_group, &source.kind, &source.name);
    }
}

/// Refuses limits of volumes that are negative.
pub(super) fn volume_count(count: Option<i32>, path: &Path<'_>, errors: &mut ErrorList) {
    not_negative(count.unwrap_or_default().into(), path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn object<T: DeserializeOwned>(kind: &str, spec: Value) -> T {
        let mut metadata = json!({"name": "a", "resourceVersion": "1"});
        if kind == "PersistentVolumeClaim" {
            metadata["namespace"] = json!("x");
        }
        serde_json::from_value(json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}))
            .expect("an object")
    }

    fn check_volume(spec: Value, expected: &str) {
        assert_eq!(object::<PersistentVolume>("PersistentVolume", spec).validate().to_string(), expected);
    }

    fn check_claim(spec: Value, expected: &str) {
        assert_eq!(object::<PersistentVolumeClaim>("PersistentVolumeClaim", spec).validate().to_string(), expected);
    }

    #[test]
    fn a_volume_has_a_size_a_mode_and_one_source() {
        let csi = json!({"driver": "d.example.com", "volumeHandle": "v"});
        check_volume(json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "csi": csi}), "");
        check_volume(
            json!({}),
            "[spec.accessModes: Required value, spec.capacity: Required value, spec.capacity: Unsupported value: null: supported values: \"storage\", spec: Required value: must specify a volume type]",
        );
        check_volume(
            json!({"accessModes": ["Both", "ReadWriteOncePod", "ReadWriteMany"], "capacity": {"storage": "0"}, "csi": csi, "nfs": {"server": "s", "path": "/"}}),
            "[spec.accessModes: Unsupported value: \"Both\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\", spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes, spec.capacity[storage]: Invalid value: \"0\": must be greater than zero, spec.csi: Forbidden: may not specify more than 1 volume type]",
        );
        check_volume(
            json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": "/a/../b"}}),
            "[spec.local.path: Invalid value: \"/a/../b\": must not contain '..', spec.nodeAffinity: Required value: Local volume requires node affinity]",
        );
    }

    #[test]
    fn a_claim_asks_for_a_size_and_a_mode() {
        let requests = json!({"requests": {"storage": "1Gi"}});
        check_claim(json!({"accessModes": ["ReadWriteOnce"], "resources": requests, "storageClassName": ""}), "");
        check_claim(
            json!({"volumeMode": "Tape"}),
            "[spec.accessModes: Required value: at least 1 access mode is required, spec.resources[storage]: Required value, spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"]",
        );
    }

    #[test]
    fn a_claim_stays_what_it_was_but_for_its_volume() {
        let spec = |class: &str, volume: Option<&str>| json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class, "volumeName": volume});
        let claim = |class, volume| object::<PersistentVolumeClaim>("PersistentVolumeClaim", spec(class, volume));
        assert_eq!(claim("a", Some("v")).validate_update(&claim("a", None)).to_string(), "");
        assert_eq!(
            claim("b", None).validate_update(&claim("a", None)).to_string(),
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n  spec.storageClassName: \"a\" -> \"b\""
        );
    }
}
