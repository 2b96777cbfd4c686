//! Deployments, ReplicaSets and what else keeps pods running (kubernetes, pkg/registry/apps, core and policy).

use std::rc::Rc;

use crate::api::convert::to_label_selector;
use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::policy::PodDisruptionBudget;
use crate::api::selector::Selector;
use crate::api::stateful::{StatefulSet, UpdateStrategy};
use crate::api::validation::error::{BadValue, ErrorList, FieldError, Path};
use crate::api::workload::{Deployment, ReplicaSet, ReplicationController};

use crate::apiserver::equality;
use crate::apiserver::protocol::Part;
use crate::apiserver::status::Status;

/// The generation counts changes of the specification.
pub fn update_replica_set(new: &mut ReplicaSet, old: &ReplicaSet, part: Part) -> Result<(), Box<Status>> {
    if part == Part::Status {
        new.replicas = old.replicas;
        new.min_ready_seconds = old.min_ready_seconds;
        new.selector = old.selector.clone();
        new.template = old.template.clone();
        return Ok(());
    }
    new.status = old.status.clone();
    immutable_selector(Kind::ReplicaSet, &new.meta.name, &new.selector, &old.selector)?;
    if !equality::same_set_spec(old, new) {
        new.meta.generation += 1;
    }
    Ok(())
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
    /// The generation counts changes of the specification.
    update_replication_controller: ReplicationController;
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
