//! Deployments, ReplicaSets and what else keeps pods running (kubernetes, pkg/registry/apps, core and policy).

use std::rc::Rc;

use crate::api::convert::to_label_selector;
use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::policy::PodDisruptionBudget;
use crate::api::selector::Selector;
use crate::api::stateful::{StatefulSet, UpdateStrategy};
use crate::api::validation::error::{BadValue, ErrorList, FieldError, Path};
use crate::api::workload::{DaemonSet, Deployment, ReplicaSet, Replicated, ReplicationController};

use crate::apiserver::equality;
use crate::apiserver::protocol::Part;
use crate::apiserver::status::Status;

/// The generation counts changes of the specification.
pub fn update_replica_set(new: &mut ReplicaSet, old: &ReplicaSet, part: Part) -> Result<(), Box<Status>> {
    if part != Part::Status {
        immutable_selector(Kind::ReplicaSet, &new.meta.name, &new.selector, &old.selector)?;
    }
    update_replicated(new, old, part);
    Ok(())
}

/// The generation counts changes of the specification; the selector may change.
pub fn update_replication_controller(new: &mut ReplicationController, old: &ReplicationController, part: Part) {
    update_replicated(new, old, part);
}

fn update_replicated<R: Replicated>(new: &mut R, old: &R, part: Part) {
    if part == Part::Status {
        return new.take_spec(old);
    }
    new.status_mut().clone_from(old.status());
    if !equality::same_set_spec(old, new) {
        new.meta_mut().generation += 1;
    }
}

/// The generation counts changes of the specification and of annotations, which are copied to ReplicaSets.
pub fn update_deployment(new: &mut Deployment, old: &Deployment, part: Part) -> Result<(), Box<Status>> {
    if part == Part::Status {
        new.spec = old.spec.clone();
        new.meta.labels = old.meta.labels.clone();
        return Ok(());
    }
    new.status = old.status.clone();
    immutable_selector(Kind::Deployment, &new.meta.name, &new.spec.selector, &old.spec.selector)?;
    if equality::counts_as_new(old, new) {
        new.meta.generation += 1;
    }
    Ok(())
}

/// Counts the changes of a DaemonSet's template, which pods carry as a label: an annotation since the field is gone
/// (kubernetes, pkg/apis/apps/v1/conversion.go and pkg/registry/apps/daemonset/strategy.go).
const TEMPLATE_GENERATION: Name = Name::of("deprecated.daemonset.template.generation");

fn template_generation(set: &DaemonSet) -> i64 {
    set.meta.annotations.get(&TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A new DaemonSet has its first template.
pub fn create_daemon_set(set: &mut DaemonSet) {
    set.status = Default::default();
    let generation = template_generation(set).max(1);
    set.meta.annotations = set.meta.annotations.with(TEMPLATE_GENERATION, generation.to_string());
}

/// The generation counts changes of the specification, an annotation those of the template.
pub fn update_daemon_set(new: &mut DaemonSet, old: &DaemonSet, part: Part) -> Result<(), Box<Status>> {
    if part == Part::Status {
        new.selector = old.selector.clone();
        new.template = old.template.clone();
        new.strategy = old.strategy.clone();
        new.min_ready_seconds = old.min_ready_seconds;
        new.revision_history_limit = old.revision_history_limit;
        return Ok(());
    }
    new.status.clone_from(&old.status);
    immutable_selector(Kind::DaemonSet, &new.meta.name, &new.selector, &old.selector)?;
    let is_new_template = !equality::same_template(&old.template, &new.template);
    let generation = template_generation(old) + i64::from(is_new_template);
    if template_generation(new) != generation {
        new.meta.annotations = new.meta.annotations.with(TEMPLATE_GENERATION, generation.to_string());
    }
    if is_new_template || !equality::same_daemon_spec(old, new) {
        new.meta.generation += 1;
    }
    Ok(())
}

/// A new set has no status, and no field of a feature that is off by default.
pub fn create_stateful_set(set: &mut StatefulSet) {
    set.status = Default::default();
    drop_max_unavailable(set);
}

/// The generation counts changes of the specification.
pub fn update_stateful_set(new: &mut StatefulSet, old: &StatefulSet, part: Part) {
    if part == Part::Status {
        new.selector = old.selector.clone();
        new.template = old.template.clone();
        new.spec = old.spec.clone();
        return;
    }
    new.status = old.status.clone();
    drop_max_unavailable(new);
    if !equality::same_stateful_set_spec(old, new) {
        new.meta.generation += 1;
    }
}

/// The feature MaxUnavailableStatefulSet is beta in 1.36 and off (kubernetes, pkg/registry/apps/statefulset:
/// `dropStatefulSetDisabledFields`).
fn drop_max_unavailable(set: &mut StatefulSet) {
    if let UpdateStrategy::RollingUpdate(Some(rolling)) = &set.spec.strategy
        && rolling.max_unavailable.is_some()
    {
        let spec = Rc::make_mut(&mut set.spec);
        if let UpdateStrategy::RollingUpdate(Some(rolling)) = &mut spec.strategy {
            rolling.max_unavailable = None;
        }
    }
}

macro_rules! update_spec_or_status {
    ($(#[$doc:meta] $name:ident: $kind:ty;)*) => {$(
        #[$doc]
        pub fn $name(new: &mut $kind, old: &$kind, part: Part) {
            let content = Rc::make_mut(&mut new.content);
            if part == Part::Status {
                content.spec.clone_from(&old.content.spec);
                new.selector = old.selector.clone();
                return;
            }
            content.status.clone_from(&old.content.status);
            if content.spec != old.content.spec {
                new.meta.generation += 1;
            }
        }
    )*};
}

update_spec_or_status!(
    /// The generation counts changes of the specification.
    update_budget: PodDisruptionBudget;
);

fn immutable_selector(kind: Kind, name: &Name, new: &Selector, old: &Selector) -> Result<(), Box<Status>> {
    if new == old {
        return Ok(());
    }
    let path = Path::Root.child("spec");
    let shown = BadValue::json(&to_label_selector(new));
    let error = FieldError::invalid(&path.child("selector"), shown, "field is immutable");
    Err(Box::new(Status::invalid(kind, name, &ErrorList(vec![error]))))
}
