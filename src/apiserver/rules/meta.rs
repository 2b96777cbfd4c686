//! Metadata: what a client may set, what the server keeps, and the finalizers by which the garbage collector works.

use crate::api::kind::Kind;
use crate::api::meta::Meta;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::validation::error::{ErrorList, FieldError, Path, go_quote};
use crate::api::validation::format;

use crate::apiserver::protocol::Propagation;
use crate::apiserver::status::Status;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of a kind's dependents if a deletion does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PropagationDefault {
    /// The garbage collector deletes them once their owner is gone.
    Background,
    /// They stay, without their owner (batch/v1, for compatibility with what its Jobs once did).
    Orphan,
    /// The kind takes no part in garbage collection.
    Unsupported,
}

/// Refuses metadata with which nothing can be created (apimachinery, api/validation: `ValidateObjectMeta`).
pub fn check_create(object: &Object) -> Result<(), Box<Status>> {
    let meta = object.meta();
    let kind = object.kind();
    let mut errors = ErrorList::new();
    let metadata = Path::Root.child("metadata");
    if meta.name.is_empty() {
        errors.push(FieldError::required(&metadata.child("name"), "name or generateName is required"));
    } else {
        errors.invalid_each(&metadata.child("name"), &meta.name, complaints(kind, &meta.name));
    }
    if kind.row().namespaced && meta.namespace.is_empty() {
        errors.push(FieldError::required(&metadata.child("namespace"), ""));
    }
    if !kind.row().namespaced && !meta.namespace.is_empty() {
        errors.push(FieldError::forbidden(&metadata.child("namespace"), "not allowed on this type"));
    }
    settle(object, errors)
}

fn complaints(kind: Kind, name: &str) -> Vec<String> {
    let complaints = match kind {
        // Services too, since RelaxedServiceNameValidation (on from 1.36 on).
        Kind::Namespace | Kind::Service => format::dns_1123_label(name),
        // Events are named by their maker: any path segment goes.
        Kind::Event => return Vec::new(),
        _ => format::dns_1123_subdomain(name),
    };
    complaints.into_iter().collect()
}

fn settle(object: &Object, errors: ErrorList) -> Result<(), Box<Status>> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Box::new(Status::invalid(object.kind(), &object.meta().name, &errors)))
}

/// Keeps what no update may change (apiserver, registry/rest: `BeforeUpdate`).
pub fn keep(new: &mut Meta, old: &Meta) {
    new.uid = old.uid;
    new.created = old.created;
    // Writing what is there already would take this version its share in what objects have in common.
    if new.generation != old.generation {
        new.generation = old.generation;
    }
    if new.deletion != old.deletion {
        new.deletion.clone_from(&old.deletion);
    }
    if new.generate_name != old.generate_name {
        new.generate_name.clone_from(&old.generate_name);
    }
    new.resource_version.set(0);
}

/// Refuses new finalizers on an object that is being deleted.
pub fn check_update(new: &Object, old: &Object) -> Result<(), Box<Status>> {
    if !old.meta().is_deleting() {
        return Ok(());
    }
    let had = old.meta().finalizers();
    let added: Vec<String> =
        new.meta().finalizers().iter().filter(|name| !had.contains(name)).map(|name| go_quote(name)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let mut errors = ErrorList::new();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    errors.push(FieldError::forbidden(&Path::Root.child("metadata").child("finalizers"), detail));
    settle(new, errors)
}

/// The finalizers that an object has once its deletion with this propagation was asked for; none if they are right as
/// they are (registry/generic: `deletionFinalizersForGarbageCollection`).
pub fn new_finalizers(meta: &Meta, asked: Option<Propagation>, default: PropagationDefault) -> Option<Vec<Name>> {
    let had = meta.finalizers();
    let has = |name: &str| had.iter().any(|finalizer| *finalizer == *name);
    let (orphan, foreground) = match (default, asked) {
        (PropagationDefault::Unsupported, _) | (_, Some(Propagation::Background)) => (false, false),
        (_, Some(Propagation::Orphan)) => (true, false),
        (_, Some(Propagation::Foreground)) => (false, true),
        (default, None) => {
            let first = had.iter().find(|finalizer| *finalizer == ORPHAN || *finalizer == FOREGROUND);
            let orphan = first.map_or(default == PropagationDefault::Orphan, |finalizer| *finalizer == ORPHAN);
            (orphan, first.is_some_and(|finalizer| *finalizer == FOREGROUND))
        }
    };
    if orphan == has(ORPHAN) && foreground == has(FOREGROUND) {
        return None;
    }
    let others = had.iter().filter(|finalizer| **finalizer != ORPHAN && **finalizer != FOREGROUND).cloned();
    let orphan = orphan.then_some(Name::of(ORPHAN));
    Some(others.chain(orphan).chain(foreground.then_some(Name::of(FOREGROUND))).collect())
}
