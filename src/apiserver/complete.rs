//! Defaults and validation, as the API server does them, on the full form of objects.
//!
//! What a component sends again and again is looked at once: a pod whose specification was admitted before, and leases and
//! events, which components make by a fixed pattern.

use std::rc::Rc;

use crate::api::convert::Convert;
use crate::api::defaults::Defaults;
use crate::api::kind::each_kind;
use crate::api::object::Object;
use crate::api::validation::Validate;
use crate::api::validation::error::ErrorList;

use super::status::{Reason, Status};

/// Defaults a new object.
pub fn default(object: &mut Object) -> Result<(), Box<Status>> {
    if matches!(object, Object::Lease(_) | Object::Event(_)) {
        return Ok(());
    }
    let name = object.meta().name.clone();
    let kind = object.kind();
    let failed = |error: crate::api::convert::ConvertError| {
        Box::new(Status::about(Reason::Invalid, kind, &name, error.to_string()))
    };
    macro_rules! defaulted {
        ($($kind:ident in $module:ident),* $(,)?) => {
            match &*object { $(Object::$kind(object) => defaulted(object).map_err(failed)?),* }
        };
    }
    let defaulted = each_kind!(defaulted);
    if let Some(defaulted) = defaulted {
        *object = defaulted;
    }
    Ok(())
}

/// The defaulted object, if defaults changed anything; what did not change stays shared.
fn defaulted<R>(object: &Rc<R>) -> Result<Option<Object>, crate::api::convert::ConvertError>
where
    R: Convert,
    R::Full: Defaults + PartialEq,
{
    let full = object.to_full();
    let mut complete = full.clone();
    complete.set_defaults();
    if complete == full { Ok(None) } else { R::from_full(complete).map(|object| Some(object.boxed())) }
}

/// Refuses a new object that is not valid.
pub fn validate(object: &Object) -> Result<(), Box<Status>> {
    if matches!(object, Object::Lease(_) | Object::Event(_)) {
        return Ok(());
    }
    macro_rules! validated {
        ($($kind:ident in $module:ident),* $(,)?) => {
            match object { $(Object::$kind(object) => object.to_full().validate()),* }
        };
    }
    let errors = each_kind!(validated);
    settle(object, &errors)
}

fn settle(object: &Object, errors: &ErrorList) -> Result<(), Box<Status>> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Box::new(Status::invalid(object.kind(), &object.meta().name, errors)))
}

fn update_errors<R>(new: &R, old: &R) -> ErrorList
where
    R: Convert,
    R::Full: Validate,
{
    new.to_full().validate_update(&old.to_full())
}

/// Defaults the new version of an object and refuses it if it is not valid.
pub fn update(new: &mut Object, old: &Object) -> Result<(), Box<Status>> {
    if matches!(new, Object::Lease(_) | Object::Event(_)) {
        return Ok(());
    }
    default(new)?;
    // What the server keeps whatever the client says is not the client's mistake.
    let mut seen = new.clone();
    let meta = seen.meta_mut();
    let kept = old.meta();
    meta.uid = kept.uid;
    meta.created = kept.created;
    if meta.deletion != kept.deletion || meta.generation != kept.generation {
        (meta.deletion, meta.generation) = (kept.deletion.clone(), kept.generation);
    }
    meta.resource_version.set(kept.revision());
    macro_rules! compare {
        ($($kind:ident in $module:ident),* $(,)?) => {
            match (&seen, old) {
                $((Object::$kind(new), Object::$kind(old)) => update_errors(&**new, &**old),)*
                _ => ErrorList::new(),
            }
        };
    }
    let errors = each_kind!(compare);
    settle(new, &errors)
}
