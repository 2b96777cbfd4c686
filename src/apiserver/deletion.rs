//! What a deletion does to an object: grace, finalizers, or its end.
//!
//! Facts: apiserver, registry/rest/delete.go (`BeforeDelete`) and registry/generic/registry/store.go (`Delete`);
//! kubernetes, pkg/registry/core/pod/strategy.go (`CheckGracefulDelete`) and core/namespace/storage.

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Deletion, Timestamp};
use crate::api::object::Object;

use super::protocol::DeleteOptions;
use super::rules::{allows, new_finalizers};
use super::status::{Reason, Status};

/// What a deletion does.
#[derive(Debug)]
pub enum Ending {
    /// The object is already on its way: nothing to do.
    Pending,
    /// The object is marked; it goes at once after that if there is nothing to wait for.
    Mark {
        /// The marked object.
        object: Object,
        /// It goes now.
        then_remove: bool,
    },
    /// The object goes.
    Remove,
}

/// Decides what a deletion does to an object.
pub fn begin(object: &Object, options: &DeleteOptions, now: Timestamp) -> Result<Ending, Box<Status>> {
    check_preconditions(object, options)?;
    if let Object::Namespace(namespace) = object {
        return Ok(end_namespace(object, namespace.finalizers.is_empty(), options, now));
    }
    let rules = allows(object.kind());
    let mut marked = object.clone();
    let graceful = if rules.graceful {
        match grace(object, &mut marked, options, now) {
            Grace::Takes(seconds) => Some(seconds),
            Grace::Over => None,
            Grace::UnderWay => return Ok(Ending::Pending),
        }
    } else {
        None
    };
    if let Some(finalizers) = new_finalizers(object.meta(), options.propagation, rules.propagation) {
        marked.meta_mut().finalizers = finalizers.into();
    }
    let waits = !marked.meta().finalizers().is_empty();
    Ok(match graceful {
        Some(seconds) => Ending::Mark { object: marked, then_remove: seconds <= 0 && !waits },
        None if waits && object.meta().is_deleting() && marked.meta().finalizers == object.meta().finalizers => {
            Ending::Pending
        }
        None if waits => {
            mark(&mut marked, now);
            Ending::Mark { object: marked, then_remove: false }
        }
        None => Ending::Remove,
    })
}

/// Refuses a deletion that means another object or version.
pub fn check_preconditions(object: &Object, options: &DeleteOptions) -> Result<(), Box<Status>> {
    let meta = object.meta();
    let row = object.kind().row();
    let refuse = |field: &str, asked: String, there: String, reason: &str| {
        // Namespaces have a text of their own; for all others the registry names the kind, not the resource.
        let (resource, why) = if object.kind() == Kind::Namespace {
            let both = format!("{field} in precondition: {asked}, {field} in object meta: {there}");
            (row.qualified_plural(), format!("Precondition failed: {both}"))
        } else {
            let resource =
                if row.group.is_empty() { row.name.to_owned() } else { format!("{}.{}", row.name, row.group) };
            let both =
                format!("the {field} in the precondition ({asked}) does not match the {field} in record ({there})");
            (resource, format!("{both}. {reason}"))
        };
        let message = format!("Operation cannot be fulfilled on {resource} \"{}\": {why}", meta.name);
        Err(Box::new(Status::about(Reason::Conflict, object.kind(), &meta.name, message)))
    };
    if let Some(uid) = options.uid.filter(|uid| *uid != meta.uid) {
        let reason = "The object might have been deleted and then recreated";
        return refuse("UID", uid.to_string(), meta.uid.to_string(), reason);
    }
    if let Some(version) = options.resource_version.filter(|version| *version != meta.revision()) {
        let reason = "The object might have been modified";
        return refuse("ResourceVersion", version.to_string(), meta.revision().to_string(), reason);
    }
    Ok(())
}

/// How much time a deletion gives an object.
enum Grace {
    /// So many seconds from now on.
    Takes(i64),
    /// It has had its time: the object goes.
    Over,
    /// It is under way and is not to be shortened.
    UnderWay,
}

/// Shortens the grace of a deletion that is under way (`BeforeDelete`). The end never moves into the past; a grace that
/// has run out already becomes one second, so that the object is still ended by whoever looks after it.
fn shorten(deletion: &Deletion, marked: &mut Object, options: &DeleteOptions, now: Timestamp) -> Grace {
    let existing = match deletion.grace_seconds {
        None | Some(0) => return Grace::Over,
        Some(existing) => existing.max(1),
    };
    let Some(asked) = options.grace_seconds.map(|asked| if asked < 0 { 1 } else { asked }) else {
        return Grace::UnderWay;
    };
    if asked >= existing {
        return Grace::UnderWay;
    }
    let mut timestamp = Timestamp(deletion.timestamp.0 - existing + asked);
    let mut seconds = asked;
    if timestamp < now {
        timestamp = now;
        seconds = asked.min(1);
    }
    marked.meta_mut().deletion = Some(Box::new(Deletion { timestamp, grace_seconds: Some(seconds) }));
    Grace::Takes(seconds)
}

/// Sets deletion time and grace of an object that ends gracefully.
fn grace(object: &Object, marked: &mut Object, options: &DeleteOptions, now: Timestamp) -> Grace {
    if let Some(deletion) = &object.meta().deletion {
        return shorten(deletion, marked, options, now);
    }
    let seconds = match object {
        Object::Pod(pod) => {
            let asked = options.grace_seconds.unwrap_or(pod.spec.grace_seconds);
            let ends_at_once = pod.node.is_none() || pod.is_terminal();
            match asked {
                _ if ends_at_once => 0,
                ..0 => 1,
                asked => asked,
            }
        }
        _ => options.grace_seconds.unwrap_or(0),
    };
    let meta = marked.meta_mut();
    meta.deletion =
        Some(Box::new(Deletion { timestamp: Timestamp(now.0.saturating_add(seconds)), grace_seconds: Some(seconds) }));
    if meta.generation > 0 {
        meta.generation += 1;
    }
    Grace::Takes(seconds)
}

/// Marks an object that has no grace but finalizers (`markAsDeleting`).
fn mark(object: &mut Object, now: Timestamp) {
    let meta = object.meta_mut();
    if meta.deletion.is_none() {
        meta.deletion = Some(Box::new(Deletion { timestamp: now, grace_seconds: Some(0) }));
        if meta.generation > 0 {
            meta.generation += 1;
        }
    }
}

/// A namespace is Terminating until its content is gone and its finalizers with it.
fn end_namespace(object: &Object, is_empty: bool, options: &DeleteOptions, now: Timestamp) -> Ending {
    if object.meta().is_deleting() {
        let free = is_empty && object.meta().finalizers().is_empty();
        return if free { Ending::Remove } else { Ending::Pending };
    }
    let mut marked = object.clone();
    let default = allows(Kind::Namespace).propagation;
    if let Some(finalizers) = new_finalizers(object.meta(), options.propagation, default) {
        marked.meta_mut().finalizers = finalizers.into();
    }
    if let Object::Namespace(namespace) = &mut marked {
        let namespace = Rc::make_mut(namespace);
        namespace.meta.deletion = Some(Box::new(Deletion { timestamp: now, grace_seconds: None }));
        namespace.terminating = true;
    }
    Ending::Mark { object: marked, then_remove: false }
}

/// True if an update has taken away the last thing that a deletion waited for (`ShouldDeleteDuringUpdate`).
pub fn ends_with_update(new: &Object, old: &Object) -> bool {
    let Some(deletion) = &old.meta().deletion else { return false };
    if let (Object::Namespace(new), Object::Namespace(old)) = (new, old) {
        let had = !old.finalizers.is_empty() || !old.meta.finalizers().is_empty();
        return had && new.finalizers.is_empty() && new.meta.finalizers().is_empty();
    }
    let no_grace = deletion.grace_seconds.unwrap_or(0) == 0;
    new.meta().finalizers().is_empty() && no_grace
}
