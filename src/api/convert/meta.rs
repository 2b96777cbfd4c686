//! Metadata, dates, label selectors, amounts.

use std::cell::Cell;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use k8s_openapi::jiff;

use super::{ConvertError, name, name_or_empty, nonempty, nonzero, some_unless_empty, text};
use crate::api::event::ObjectReference;
use crate::api::meta::{Common, Deletion, Labels, Meta, MicroTime, OwnerReference, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::quantity::{Format, Quantity};
use crate::api::resources::Resources;
use crate::api::selector::{Operator, Selector};

/// A date. One beyond the years that the API can write becomes 1970.
pub fn to_time(date: Timestamp) -> metav1::Time {
    metav1::Time(jiff::Timestamp::from_second(date.0).unwrap_or_default())
}

pub fn from_time(date: metav1::Time) -> Timestamp {
    Timestamp(date.0.as_second())
}

/// A date, absent if it is not set.
pub fn to_time_unless_zero(date: Timestamp) -> Option<metav1::Time> {
    (date != Timestamp::default()).then(|| to_time(date))
}

pub fn to_micro(date: MicroTime) -> metav1::MicroTime {
    metav1::MicroTime(jiff::Timestamp::from_microsecond(date.0).unwrap_or_default())
}

pub fn from_micro(date: metav1::MicroTime) -> MicroTime {
    MicroTime(date.0.as_microsecond())
}

pub fn to_labels(labels: &Labels) -> Option<BTreeMap<String, String>> {
    let pairs: BTreeMap<_, _> = labels.pairs().iter().map(|(key, value)| (key.into(), value.into())).collect();
    (!pairs.is_empty()).then_some(pairs)
}

pub fn from_labels(labels: Option<BTreeMap<String, String>>) -> Labels {
    labels.unwrap_or_default().into_iter().map(|(key, value)| (Name::from(key), Name::from(value))).collect()
}

pub fn to_meta(meta: &Meta) -> metav1::ObjectMeta {
    metav1::ObjectMeta {
        name: nonempty(&meta.name),
        generate_name: text(&meta.generate_name),
        namespace: nonempty(&meta.namespace),
        uid: nonzero(meta.uid).map(|uid| uid.to_string()),
        resource_version: nonzero(meta.revision()).map(|revision| revision.to_string()),
        generation: nonzero(meta.generation),
        creation_timestamp: to_time_unless_zero(meta.created),
        deletion_timestamp: meta.deletion.as_deref().map(|deletion| to_time(deletion.timestamp)),
        deletion_grace_period_seconds: meta.deletion.as_deref().and_then(|deletion| deletion.grace_seconds),
        labels: to_labels(&meta.labels),
        annotations: to_labels(&meta.annotations),
        owner_references: some_unless_empty(meta.owners().iter().map(to_owner).collect()),
        finalizers: some_unless_empty(meta.finalizers().iter().map(String::from).collect()),
        ..metav1::ObjectMeta::default()
    }
}

pub fn from_meta(full: metav1::ObjectMeta) -> Result<Meta, ConvertError> {
    let owners = full.owner_references.unwrap_or_default();
    let owners = owners.into_iter().map(from_owner).collect::<Result<Vec<_>, _>>()?;
    let finalizers: Vec<Name> = full.finalizers.unwrap_or_default().into_iter().map(Name::from).collect();
    let revision = match full.resource_version.as_deref() {
        None | Some("") => 0,
        Some(text) => text.parse().map_err(|_| {
            ConvertError::new("metadata.resourceVersion", format!("Invalid value: \"{text}\": must be a number"))
        })?,
    };
    Ok(Meta {
        name: name_or_empty(full.name),
        uid: uid("metadata.uid", full.uid.as_deref())?,
        resource_version: Cell::new(revision),
        created: full.creation_timestamp.map(from_time).unwrap_or_default(),
        common: Common {
            generate_name: name(full.generate_name).filter(|prefix| !prefix.is_empty()),
            namespace: name_or_empty(full.namespace),
            labels: from_labels(full.labels),
            annotations: from_labels(full.annotations),
            owners: owners.into(),
            finalizers: finalizers.into(),
            generation: full.generation.unwrap_or(0),
            deletion: full.deletion_timestamp.map(|timestamp| {
                let timestamp = from_time(timestamp);
                Box::new(Deletion { timestamp, grace_seconds: full.deletion_grace_period_seconds })
            }),
        }
        .into(),
    })
}

fn uid(path: &str, text: Option<&str>) -> Result<Uid, ConvertError> {
    match text {
        None | Some("") => Ok(Uid::default()),
        Some(text) => {
            Uid::parse(text).ok_or_else(|| ConvertError::new(path, format!("Invalid value: \"{text}\": not a UUID")))
        }
    }
}

fn to_owner(owner: &OwnerReference) -> metav1::OwnerReference {
    metav1::OwnerReference {
        api_version: String::from(&owner.api_version),
        kind: String::from(&owner.kind),
        name: String::from(&owner.name),
        uid: owner.uid.to_string(),
        controller: owner.controller.then_some(true),
        block_owner_deletion: owner.block_owner_deletion.then_some(true),
    }
}

fn from_owner(full: metav1::OwnerReference) -> Result<OwnerReference, ConvertError> {
    Ok(OwnerReference {
        uid: uid("metadata.ownerReferences.uid", Some(&full.uid))?,
        api_version: Name::from(full.api_version),
        kind: Name::from(full.kind),
        name: Name::from(full.name),
        controller: full.controller.unwrap_or(false),
        block_owner_deletion: full.block_owner_deletion.unwrap_or(false),
    })
}

pub fn to_reference(reference: &ObjectReference) -> core::ObjectReference {
    core::ObjectReference {
        api_version: nonempty(&reference.api_version),
        kind: nonempty(&reference.kind),
        namespace: nonempty(&reference.namespace),
        name: nonempty(&reference.name),
        uid: nonzero(reference.uid).map(|uid| uid.to_string()),
        resource_version: nonzero(reference.resource_version).map(|revision| revision.to_string()),
        field_path: nonempty(&reference.field_path),
    }
}

pub fn from_reference(full: core::ObjectReference) -> ObjectReference {
    ObjectReference {
        api_version: name_or_empty(full.api_version),
        kind: name_or_empty(full.kind),
        namespace: name_or_empty(full.namespace),
        name: name_or_empty(full.name),
        uid: full.uid.as_deref().and_then(Uid::parse).unwrap_or_default(),
        resource_version: full.resource_version.and_then(|text| text.parse().ok()).unwrap_or(0),
        field_path: name_or_empty(full.field_path),
    }
}

/// Compiles a label selector. An empty one selects everything.
pub fn from_label_selector(path: &str, full: &metav1::LabelSelector) -> Result<Selector, ConvertError> {
    Selector::compile(Some(full)).map_err(|message| ConvertError::new(path, message))
}

/// Writes a selector: requirements of one equal value as `matchLabels`, the others as `matchExpressions`.
pub fn to_label_selector(selector: &Selector) -> metav1::LabelSelector {
    let mut full = metav1::LabelSelector::default();
    for requirement in selector.requirements() {
        let key = requirement.key().to_owned();
        let values: Vec<String> = requirement.values().map(str::to_owned).collect();
        let operator = match requirement.operator() {
            Operator::Equals | Operator::DoubleEquals => {
                full.match_labels.get_or_insert_default().insert(key, values.concat());
                continue;
            }
            Operator::In => "In",
            Operator::NotIn | Operator::NotEquals => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            Operator::GreaterThan => "Gt",
            Operator::LessThan => "Lt",
        };
        full.match_expressions.get_or_insert_default().push(metav1::LabelSelectorRequirement {
            key,
            operator: operator.to_owned(),
            values: some_unless_empty(values),
        });
    }
    full
}

/// Reads amounts by resource name.
pub fn from_quantities(
    path: &str,
    amounts: Option<&BTreeMap<String, QuantityText>>,
) -> Result<Resources, ConvertError> {
    let mut resources = Resources::default();
    for (resource, amount) in amounts.into_iter().flatten() {
        let quantity = Quantity::of(amount).map_err(|error| {
            ConvertError::new(format!("{path}[{resource}]"), format!("Invalid value: \"{}\": {error}", amount.0))
        })?;
        match resource.as_str() {
            "cpu" => resources.milli_cpu = quantity.milli_value(),
            "memory" => resources.memory = quantity.value(),
            "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
            "pods" => resources.pods = quantity.value(),
            _ => resources.set_scalar(&Name::from(resource), quantity.value()),
        }
    }
    Ok(resources)
}

/// Writes amounts by resource name; what is zero is absent.
pub fn to_quantities(resources: &Resources) -> Option<BTreeMap<String, QuantityText>> {
    let mut amounts = BTreeMap::new();
    let mut put = |resource: &str, quantity: Quantity| {
        if !quantity.is_zero() {
            amounts.insert(resource.to_owned(), quantity.to_text());
        }
    };
    put("cpu", Quantity::from_milli(resources.milli_cpu, Format::DecimalSi));
    put("memory", Quantity::from_value(resources.memory, Format::BinarySi));
    put("ephemeral-storage", Quantity::from_value(resources.ephemeral_storage, Format::BinarySi));
    put("pods", Quantity::from_value(resources.pods, Format::DecimalSi));
    for (resource, amount) in &resources.scalars {
        put(resource, Quantity::from_value(*amount, Format::DecimalSi));
    }
    (!amounts.is_empty()).then_some(amounts)
}
