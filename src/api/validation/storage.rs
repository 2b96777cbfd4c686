//! Storage classes, attachments, and what CSI drivers say of nodes and of themselves.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSIDriverSpec, CSINode, CSINodeDriver, CSIStorageCapacity, StorageClass, VolumeAttachment,
};

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{Scope, changed_meta, immutable, new_meta, same};
use super::persistent::{driver_name, volume_count};
use super::{Validate, format, one_of, selector, text};
use crate::api::quantity::Quantity;

/// How many parameters a class may have, and how many bytes they may take.
const PARAMETERS: (usize, usize) = (512, 256 * 1024);

impl Validate for StorageClass {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Cluster);
        class(self, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        class(self, &mut errors);
        immutable(&self.parameters, &old.parameters, &Path::Root.child("parameters"), &mut errors);
        immutable(&self.provisioner, &old.provisioner, &Path::Root.child("provisioner"), &mut errors);
        immutable(&self.reclaim_policy, &old.reclaim_policy, &Path::Root.child("reclaimPolicy"), &mut errors);
        let mode = Path::Root.child("volumeBindingMode");
        immutable(&self.volume_binding_mode, &old.volume_binding_mode, &mode, &mut errors);
        errors
    }
}

fn class(class: &StorageClass, errors: &mut ErrorList) {
    let provisioner = Path::Root.child("provisioner");
    if class.provisioner.is_empty() {
        errors.push(FieldError::required(&provisioner, ""));
    } else {
        let name = class.provisioner.to_lowercase();
        errors.invalid_each(&provisioner, &name, format::label_key(&name));
    }
    parameters(class, errors);
    let policy = text(&class.reclaim_policy);
    if !policy.is_empty() {
        one_of(policy, &["Delete", "Retain"], &Path::Root.child("reclaimPolicy"), errors);
    }
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(text(&class.volume_binding_mode), &modes, &Path::Root.child("volumeBindingMode"), errors);
    topologies(class.allowed_topologies.as_deref().unwrap_or(&[]), errors);
}

fn parameters(class: &StorageClass, errors: &mut ErrorList) {
    let path = Path::Root.child("parameters");
    let (count, bytes) = PARAMETERS;
    if class.parameters.as_ref().is_some_and(|parameters| parameters.len() > count) {
        return errors.push(FieldError::too_long(&path, count));
    }
    let mut size = 0;
    for (key, value) in class.parameters.iter().flatten() {
        if key.is_empty() {
            errors.push(FieldError::invalid(&path, key, "field can not be empty."));
        }
        size += key.len() + value.len();
    }
    if size > bytes {
        errors.push(FieldError::too_long(&path, bytes));
    }
}

fn topologies(terms: &[TopologySelectorTerm], errors: &mut ErrorList) {
    let path = Path::Root.child("allowedTopologies");
    let mut known: Vec<Vec<(&str, BTreeSet<&String>)>> = Vec::new();
    for (position, term) in terms.iter().enumerate() {
        let place = path.index(position);
        let expressions = place.child("matchLabelExpressions");
        let mut keys: Vec<(&str, BTreeSet<&String>)> = Vec::new();
        for (position, expression) in term.match_label_expressions.iter().flatten().enumerate() {
            let place = expressions.index(position);
            let values_path = place.child("values");
            if expression.values.is_empty() {
                errors.push(FieldError::required(&values_path, ""));
            }
            let mut values = BTreeSet::new();
            for (position, value) in expression.values.iter().enumerate() {
                if !values.insert(value) {
                    errors.push(FieldError::duplicate(&values_path.index(position), value));
                }
            }
            errors.invalid_each(&place.child("key"), &expression.key, format::label_key(&expression.key));
            if keys.iter().any(|(key, _)| *key == expression.key) {
                errors.push(FieldError::duplicate(&place.child("key"), &expression.key));
            }
            keys.push((&expression.key, values));
        }
        keys.sort();
        if known.contains(&keys) {
            errors.push(FieldError::duplicate(&expressions, ""));
        }
        known.push(keys);
    }
}

impl Validate for CSINode {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Cluster);
        node_drivers(&self.spec.drivers, &mut errors);
        errors
    }

    /// A driver may only change how many volumes it can attach.
    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        node_drivers(&self.spec.drivers, &mut errors);
        let path = Path::Root.child("spec.drivers");
        let fixed = |driver: &CSINodeDriver| CSINodeDriver { allocatable: None, ..driver.clone() };
        for old in &old.spec.drivers {
            for new in self.spec.drivers.iter().filter(|new| new.name == old.name) {
                immutable(&fixed(new), &fixed(old), &path, &mut errors);
            }
        }
        errors
    }
}

fn node_drivers(drivers: &[CSINodeDriver], errors: &mut ErrorList) {
    let path = Path::Root.child("spec.drivers");
    let mut names = BTreeSet::new();
    for (position, driver) in drivers.iter().enumerate() {
        let place = path.index(position);
        driver_name(&driver.name, &place.child("name"), errors);
        let id = place.child("nodeID");
        match driver.node_id.len() {
            0 => errors.push(FieldError::required(&id, "")),
            1..=256 => {}
            _ => errors.push(FieldError::invalid(&id, &driver.node_id, "must be 256 characters or less")),
        }
        let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
        volume_count(count, &place.child("allocatable.count"), errors);
        if !names.insert(&driver.name) {
            errors.push(FieldError::duplicate(&place.child("name"), &driver.name));
        }
        let mut keys = BTreeSet::new();
        for key in driver.topology_keys.iter().flatten() {
            if key.is_empty() {
                errors.push(FieldError::required(&place, ""));
            }
            if !keys.insert(key) {
                errors.push(FieldError::duplicate(&place, key));
            }
            errors.invalid_each(&place, key, format::label_key(key));
        }
    }
}

impl Validate for CSIDriver {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Cluster);
        driver(&self.spec, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        driver(&self.spec, &mut errors);
        let (new, old) = (&self.spec, &old.spec);
        immutable(&new.attach_required, &old.attach_required, &Path::Root.child("spec.attachedRequired"), &mut errors);
        let modes = Path::Root.child("spec.volumeLifecycleModes");
        immutable(&new.volume_lifecycle_modes, &old.volume_lifecycle_modes, &modes, &mut errors);
        errors
    }
}

fn driver(spec: &CSIDriverSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    if let Some(policy) = spec.fs_group_policy.as_deref().filter(|policy| !policies.contains(policy)) {
        errors.push(FieldError::not_supported(&path.child("fsGroupPolicy"), policy, &policies));
    }
    token_requests(spec, &path.child("tokenRequests"), errors);
    let modes = ["Persistent", "Ephemeral"];
    for mode in spec.volume_lifecycle_modes.iter().flatten().filter(|mode| !modes.contains(&mode.as_str())) {
        errors.push(FieldError::not_supported(&path.child("volumeLifecycleModes"), mode, &modes));
    }
    if let Some(period) = spec.node_allocatable_update_period_seconds.filter(|period| *period < 10) {
        let place = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(FieldError::invalid(&place, period, "must be greater than or equal to 10 seconds"));
    }
    let no_requests = spec.token_requests.as_ref().is_none_or(Vec::is_empty);
    if let Some(in_secrets) = spec.service_account_token_in_secrets.filter(|_| no_requests) {
        let message = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(FieldError::invalid(&path.child("serviceAccountTokenInSecrets"), in_secrets, message));
    }
}

fn token_requests(spec: &CSIDriverSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let mut audiences = BTreeSet::new();
    for (position, request) in spec.token_requests.iter().flatten().enumerate() {
        let place = path.index(position);
        if !audiences.insert(&request.audience) {
            errors.push(FieldError::duplicate(&place.child("audience"), &request.audience));
            continue;
        }
        let message = match request.expiration_seconds {
            Some(..600) => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        let seconds = request.expiration_seconds.unwrap_or_default();
        errors.push(FieldError::invalid(&place.child("expirationSeconds"), seconds, message));
    }
}

impl Validate for CSIStorageCapacity {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Namespaced);
        capacity(self, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        capacity(self, &mut errors);
        if !same(&self.node_topology, &old.node_topology) {
            let shown = BadValue::json(&self.node_topology);
            errors.push(FieldError::invalid(&Path::Root.child("nodeTopology"), shown, "field is immutable"));
        }
        immutable(
            &self.storage_class_name,
            &old.storage_class_name,
            &Path::Root.child("storageClassName"),
            &mut errors,
        );
        errors
    }
}

fn capacity(capacity: &CSIStorageCapacity, errors: &mut ErrorList) {
    if let Some(labels) = &capacity.node_topology {
        selector::label_selector(labels, &Path::Root.child("nodeTopology"), errors);
    }
    let class = &capacity.storage_class_name;
    errors.invalid_each(&Path::Root.child("storageClassName"), class, format::dns_1123_subdomain(class));
    let left = capacity.capacity.as_ref().and_then(|left| Quantity::of(left).ok());
    if let Some(left) = left.filter(|left| left.is_negative()) {
        let message = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&Path::Root.child("capacity"), &left.to_text().0, message));
    }
}

impl Validate for VolumeAttachment {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Cluster);
        attachment(self, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        attachment(self, &mut errors);
        immutable(&self.spec, &old.spec, &Path::Root.child("spec"), &mut errors);
        errors
    }
}

fn attachment(attachment: &VolumeAttachment, errors: &mut ErrorList) {
    let (spec, path) = (&attachment.spec, Path::Root.child("spec"));
    driver_name(&spec.attacher, &path.child("attacher"), errors);
    let source = path.child("source");
    let either = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&spec.source.inline_volume_spec, spec.source.persistent_volume_name.as_deref()) {
        (None, None) => errors.push(FieldError::required(&source, either)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(&source, either)),
        (None, Some("")) => {
            let message = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required(&source.child("persistentVolumeName"), message));
        }
        _ => {}
    }
    errors.invalid_each(&path.child("nodeName"), &spec.node_name, format::dns_1123_subdomain(&spec.node_name));
    if let Some(name) = spec.source.persistent_volume_name.as_deref() {
        errors.invalid_each(&source.child("persistentVolumeName"), name, format::dns_1123_subdomain(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn check<T: DeserializeOwned + k8s_openapi::Resource + Validate>(mut value: Value, expected: &str) {
        value["apiVersion"] = json!(T::API_VERSION);
        value["kind"] = json!(T::KIND);
        value["metadata"] = json!({"name": "a"});
        let object: T = serde_json::from_value(value).expect("an object");
        assert_eq!(object.validate().to_string(), expected);
    }

    #[test]
    fn a_class_says_who_makes_volumes_and_when() {
        check::<StorageClass>(json!({"provisioner": "d.example.com", "volumeBindingMode": "Immediate"}), "");
        let zone = json!({"key": "zone", "values": ["a", "a"]});
        check::<StorageClass>(
            json!({"provisioner": "", "volumeBindingMode": "Later", "reclaimPolicy": "Recycle", "allowedTopologies": [{"matchLabelExpressions": [zone]}]}),
            "[provisioner: Required value, reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\", volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\", allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"]",
        );
    }

    #[test]
    fn a_driver_is_on_a_node_once() {
        let driver = json!({"name": "d", "nodeID": "n", "allocatable": {"count": -1}});
        check::<CSINode>(
            json!({"spec": {"drivers": [driver, {"name": "d", "nodeID": ""}]}}),
            "[spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0, spec.drivers[1].nodeID: Required value, spec.drivers[1].name: Duplicate value: \"d\"]",
        );
    }

    #[test]
    fn an_attachment_is_of_one_volume() {
        check::<VolumeAttachment>(
            json!({"spec": {"attacher": "d", "nodeName": "n", "source": {}}}),
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        );
    }
}
