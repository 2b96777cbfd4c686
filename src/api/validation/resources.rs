//! Amounts of resources that containers request and nodes offer.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::error::{ErrorList, FieldError, Path};
use super::format;
use crate::api::quantity::Quantity;

/// Checks requests and limits of a container, and one against the other.
pub(super) fn requirements(
    resources: &ResourceRequirements,
    claims: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let empty = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&empty);
    let requests = resources.requests.as_ref().unwrap_or(&empty);
    for (name, amount) in limits {
        let place = limits_path.key(name);
        container_resource_name(name, &place, errors);
        quantity(name, amount, &place, errors);
    }
    for (name, request) in requests {
        let place = requests_path.key(name);
        container_resource_name(name, &place, errors);
        quantity(name, request, &place, errors);
        match limits.get(name) {
            Some(limit) => compare(name, request, limit, &requests_path, errors),
            None if !may_overcommit(name) => {
                let message = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(&limits_path, message));
            }
            None => {}
        }
    }
    let names = || limits.keys().chain(requests.keys());
    let has_huge_pages = names().any(|name| is_huge_page(name));
    if has_huge_pages && !names().any(|name| name == "cpu" || name == "memory") {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
    claim_names(resources, claims, &path.child("claims"), errors);
}

fn compare(name: &str, request: &Text, limit: &Text, path: &Path<'_>, errors: &mut ErrorList) {
    let (Ok(wanted), Ok(allowed)) = (Quantity::of(request), Quantity::of(limit)) else { return };
    let relation = match wanted.cmp(&allowed) {
        std::cmp::Ordering::Equal => return,
        _ if !may_overcommit(name) => "must be equal to",
        std::cmp::Ordering::Greater => "must be less than or equal to",
        std::cmp::Ordering::Less => return,
    };
    errors.push(FieldError::invalid(path, &request.0, format!("{relation} {name} limit of {}", limit.0)));
}

fn claim_names(resources: &ResourceRequirements, known: &BTreeSet<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    for (position, claim) in resources.claims.iter().flatten().enumerate() {
        let place = path.index(position);
        if claim.name.is_empty() {
            errors.push(FieldError::required(&place, ""));
        } else if !known.contains(claim.name.as_str()) {
            let message = "must be one of the names in pod.spec.resourceClaims";
            errors.push(FieldError { detail: message.to_owned(), ..FieldError::not_found(&place, &claim.name) });
        }
    }
}

/// Checks one amount: not negative, and whole where the resource comes in pieces.
pub(super) fn quantity(name: &str, amount: &Text, path: &Path<'_>, errors: &mut ErrorList) {
    let Ok(value) = Quantity::of(amount) else {
        let message = crate::api::quantity::QuantityError::Format.to_string();
        return errors.push(FieldError::invalid(path, &amount.0, message));
    };
    if value.is_negative() {
        errors.push(FieldError::invalid(path, &amount.0, "must be greater than or equal to 0"));
    }
    if comes_in_pieces(name) && !value.is_whole() {
        errors.push(FieldError::invalid(path, &amount.0, "must be an integer"));
    }
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Names without a domain, and those of Kubernetes itself.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether more may be promised than there is.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// True for the name of a resource that is not Kubernetes' own (`IsExtendedResourceName`).
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && format::label_key(&format!("requests.{name}")).is_empty()
}

fn comes_in_pieces(name: &str) -> bool {
    let counted = [
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ];
    counted.contains(&name) || is_extended(name)
}

pub(super) fn container_resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let complaints = format::label_key(name);
    if !complaints.is_empty() {
        return errors.invalid_each(path, name, complaints);
    }
    if !name.contains('/') {
        let for_containers = matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name);
        let quota = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "requests.storage", "storage"];
        if !for_containers && !comes_in_pieces(name) && !quota.contains(&name) {
            errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
        }
        if !for_containers {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}
