//! Namespaces, nodes, priority classes, and the kinds that only carry content (kubernetes, pkg/registry/core).

use std::rc::Rc;

use crate::api::autoscaling::HorizontalPodAutoscaler;
use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::plain::{ConfigMap, Namespace, PriorityClass, Secret};
use crate::api::quota::ResourceQuota;
use crate::api::revision::ControllerRevision;
use crate::api::validation::error::{ErrorList, FieldError, Path};
use crate::api::validation::quota_status;

use crate::apiserver::protocol::Part;
use crate::apiserver::status::Status;

/// A new namespace is active, has the finalizer that keeps it until its content is gone, and is labelled with its name.
pub fn create_namespace(namespace: &mut Namespace) {
    namespace.terminating = false;
    namespace.conditions = Rc::new([]);
    if !namespace.finalizers.iter().any(|finalizer| *finalizer == "kubernetes") {
        namespace.finalizers = namespace.finalizers.iter().cloned().chain([Name::of("kubernetes")]).collect();
    }
    let name = namespace.meta.name.clone();
    namespace.meta.labels = namespace.meta.labels.with(Name::of("kubernetes.io/metadata.name"), name);
}

/// Finalizers change only through the finalize subresource, the status only through the status one.
pub fn update_namespace(new: &mut Namespace, old: &Namespace, part: Part) {
    if part != Part::Finalize {
        new.finalizers = old.finalizers.clone();
    }
    if part != Part::Status {
        new.terminating = old.terminating;
        new.conditions = old.conditions.clone();
    }
    // A namespace is Terminating exactly while it is being deleted (core/validation: `ValidateNamespaceStatusUpdate`).
    new.terminating = old.meta.is_deleting();
}

/// The main part leaves the status alone and the status leaves the specification alone.
pub fn update_node(new: &mut Node, old: &Node, part: Part) -> Result<(), Box<Status>> {
    if part == Part::Status {
        new.pod_cidr.clone_from(&old.pod_cidr);
        new.provider_id.clone_from(&old.provider_id);
        new.unschedulable = old.unschedulable;
        new.taints = old.taints.clone();
        return Ok(());
    }
    new.status = old.status.clone();
    let changed = |old: &Option<Name>, new: &Option<Name>| old.is_some() && old != new;
    let spec = Path::Root.child("spec");
    if changed(&old.pod_cidr, &new.pod_cidr) {
        let error = FieldError::forbidden(
            &spec.child("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        );
        return refuse(Kind::Node, &new.meta.name, error);
    }
    if changed(&old.provider_id, &new.provider_id) {
        let error = FieldError::forbidden(
            &spec.child("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
        return refuse(Kind::Node, &new.meta.name, error);
    }
    Ok(())
}

/// The value of a class never changes, nor its preemption policy.
pub fn update_priority_class(new: &PriorityClass, old: &PriorityClass) -> Result<(), Box<Status>> {
    let mut errors = ErrorList::new();
    if new.content.value != old.content.value {
        let error = FieldError::forbidden(&Path::Root.child("value"), "may not be changed in an update.");
        errors.push(error);
    }
    let policy = |class: &PriorityClass| class.content.preemption_policy.clone();
    if policy(new) != policy(old) {
        let shown = policy(new).unwrap_or_default();
        errors.push(FieldError::invalid(&Path::Root.child("preemptionPolicy"), shown.as_str(), "field is immutable"));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Box::new(Status::invalid(Kind::PriorityClass, &new.meta.name, &errors)))
    }
}

/// A new quota has no status.
pub fn create_quota(quota: &mut ResourceQuota) {
    quota.hard = Rc::default();
    quota.used = Rc::default();
}

/// The specification changes without the status, the status without the specification; what a status says must be amounts.
pub fn update_quota(new: &mut ResourceQuota, old: &ResourceQuota, part: Part) -> Result<(), Box<Status>> {
    if part != Part::Status {
        new.hard = old.hard.clone();
        new.used = old.used.clone();
        return Ok(());
    }
    new.spec = old.spec.clone();
    new.wanted = old.wanted.clone();
    let errors = quota_status(&new.hard, &new.used);
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Box::new(Status::invalid(Kind::ResourceQuota, &new.meta.name, &errors))),
    }
}

/// The specification changes without the status, the status without the specification.
pub fn update_autoscaler(new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler, part: Part) {
    let content = Rc::make_mut(&mut new.content);
    if part == Part::Status {
        content.spec.clone_from(&old.content.spec);
    } else {
        content.status.clone_from(&old.content.status);
    }
}

/// An immutable ConfigMap keeps its data and stays immutable.
pub fn update_config_map(new: &ConfigMap, old: &ConfigMap) -> Result<(), Box<Status>> {
    if old.content.immutable != Some(true) {
        return Ok(());
    }
    let frozen = "field is immutable when `immutable` is set";
    let field = if new.content.immutable != Some(true) {
        "immutable"
    } else if new.content.data != old.content.data {
        "data"
    } else if new.content.binary_data != old.content.binary_data {
        "binaryData"
    } else {
        return Ok(());
    };
    refuse(Kind::ConfigMap, &new.meta.name, FieldError::forbidden(&Path::Root.child(field), frozen))
}

/// A Secret keeps its type; an immutable one keeps its data and stays immutable.
pub fn update_secret(new: &Secret, old: &Secret) -> Result<(), Box<Status>> {
    if new.content.type_ != old.content.type_ {
        let shown = new.content.type_.clone().unwrap_or_default();
        let error = FieldError::invalid(&Path::Root.child("type"), shown.as_str(), "field is immutable");
        return refuse(Kind::Secret, &new.meta.name, error);
    }
    if old.content.immutable != Some(true) {
        return Ok(());
    }
    let frozen = "field is immutable when `immutable` is set";
    let field = if new.content.immutable != Some(true) {
        "immutable"
    } else if new.content.data != old.content.data {
        "data"
    } else {
        return Ok(());
    };
    refuse(Kind::Secret, &new.meta.name, FieldError::forbidden(&Path::Root.child(field), frozen))
}

/// The data of a revision never changes, its number may.
pub fn update_revision(new: &ControllerRevision, old: &ControllerRevision) -> Result<(), Box<Status>> {
    if Rc::ptr_eq(&new.data, &old.data) || new.data == old.data {
        return Ok(());
    }
    let error = FieldError::invalid(&Path::Root.child("data"), "", "field is immutable");
    refuse(Kind::ControllerRevision, &new.meta.name, error)
}

fn refuse(kind: Kind, name: &Name, error: FieldError) -> Result<(), Box<Status>> {
    Err(Box::new(Status::invalid(kind, name, &ErrorList(vec![error]))))
}
