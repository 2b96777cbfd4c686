//! Who owns what: controller references, adoption and release of objects by label selector.

use std::rc::Rc;

use crate::api::event::ObjectReference;
use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey, OwnerReference};
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::api::selector::Selector;
use crate::apiserver::protocol::{Answer, Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::view::View;

use super::script::{Halt, Script};

/// The `apiVersion` of a kind as a name that costs no allocation.
pub fn api_version(kind: Kind) -> Name {
    match kind.row().group {
        "" => Name::of(kind.row().version),
        "apps" => Name::of("apps/v1"),
        "batch" => Name::of("batch/v1"),
        _ => Name::from(kind.row().api_version()),
    }
}

/// The reference that an event carries to the object that it is about.
pub fn reference<R: Resource>(object: &R) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: api_version(R::KIND),
        kind: Name::of(R::KIND.row().name),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid,
        resource_version: meta.revision(),
        field_path: Name::EMPTY,
    }
}

/// The reference that makes an object the controller of another one.
pub fn controller_reference<R: Resource>(owner: &R) -> OwnerReference {
    OwnerReference {
        api_version: api_version(R::KIND),
        kind: Name::of(R::KIND.row().name),
        name: owner.meta().name.clone(),
        uid: owner.meta().uid,
        controller: true,
        block_owner_deletion: true,
    }
}

/// The object that a controller reference means, if it is of this kind and still the same incarnation
/// (kube-controller-manager: looked up by name, then compared by UID).
pub fn resolve<'a, R: Resource>(view: &View<'a>, namespace: &Name, owner: &OwnerReference) -> Option<&'a Rc<R>> {
    if owner.kind != *R::KIND.row().name {
        return None;
    }
    view.get::<R>(namespace, &owner.name).filter(|found| found.meta().uid == owner.uid)
}

/// What an owner has to do about an object that it could own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Nothing: it is the owner's, as it should be.
    Owned,
    /// Nothing: it is none of the owner's business.
    Foreign,
    /// The owner's labels do not select it any more.
    Release,
    /// Nobody's, and the owner selects it.
    Adopt,
}

/// Decides who owns an object (kube-controller-manager, `ClaimObject`).
pub fn claim(owner: &Meta, selector: &Selector, object: &Meta) -> Claim {
    claim_if(owner, |object| selector.matches(&object.labels), object)
}

/// The same where more than a selector says what could be the owner's.
pub fn claim_if(owner: &Meta, matches: impl Fn(&Meta) -> bool, object: &Meta) -> Claim {
    match object.controller() {
        Some(controller) if controller.uid != owner.uid => Claim::Foreign,
        Some(_) if matches(object) => Claim::Owned,
        Some(_) if owner.is_deleting() => Claim::Foreign,
        Some(_) => Claim::Release,
        None if owner.is_deleting() || object.is_deleting() || !matches(object) => Claim::Foreign,
        None => Claim::Adopt,
    }
}

/// Adopts and releases, and returns what is the owner's then, in the order given. All are tried before a failure counts.
/// Before the first adoption the owner is read from the API server itself, lest one that is being deleted adopts.
pub fn claim_all<O: Resource, R: Resource>(
    script: &mut Script<'_>,
    owner: &O,
    selector: &Selector,
    objects: &[Rc<R>],
) -> Result<Vec<Rc<R>>, Halt> {
    claim_with(script, owner, |object| selector.matches(&object.labels), objects, None)
}

/// The same where more than a selector says what could be the owner's.
pub fn claim_all_if<O: Resource, R: Resource>(
    script: &mut Script<'_>,
    owner: &O,
    matches: impl Fn(&Meta) -> bool,
    objects: &[Rc<R>],
) -> Result<Vec<Rc<R>>, Halt> {
    claim_with(script, owner, matches, objects, None)
}

/// The same, and what is adopted gets a finalizer, which goes when it is released.
pub fn claim_tracked<O: Resource, R: Resource>(
    script: &mut Script<'_>,
    owner: &O,
    selector: &Selector,
    objects: &[Rc<R>],
    finalizer: &Name,
) -> Result<Vec<Rc<R>>, Halt> {
    claim_with(script, owner, |object| selector.matches(&object.labels), objects, Some(finalizer))
}

fn claim_with<O: Resource, R: Resource>(
    script: &mut Script<'_>,
    owner: &O,
    matches: impl Fn(&Meta) -> bool,
    objects: &[Rc<R>],
    finalizer: Option<&Name>,
) -> Result<Vec<Rc<R>>, Halt> {
    // As a rule there is nothing to do; then one look is enough, however often the code is run again.
    let is_settled = script.see(|_| {
        let is_owned = |object: &Rc<R>| claim_if(owner.meta(), &matches, object.meta()) == Claim::Owned;
        Rc::new(objects.iter().all(is_owned))
    });
    if *is_settled {
        return Ok(objects.to_vec());
    }
    let mut owned = Vec::with_capacity(objects.len());
    let mut may_adopt: Option<Result<(), String>> = None;
    let mut failure = None;
    for object in objects {
        let result = match claim_if(owner.meta(), &matches, object.meta()) {
            Claim::Owned => Ok(true),
            Claim::Foreign => Ok(false),
            Claim::Release => release(script, owner, object.as_ref(), finalizer)?,
            Claim::Adopt => {
                if may_adopt.is_none() {
                    may_adopt = Some(recheck(script, owner)?);
                }
                match &may_adopt {
                    Some(Err(why)) => Err(cannot_adopt(object.as_ref(), why)),
                    _ => adopt(script, owner, object.as_ref(), finalizer)?,
                }
            }
        };
        match result {
            Ok(true) => owned.push(object.clone()),
            Ok(false) => {}
            Err(message) => failure = failure.or(Some(message)),
        }
    }
    failure.map_or(Ok(owned), |message| Err(Halt::Failed(message)))
}

/// Where an object is found.
pub fn key_of<R: Resource>(object: &R) -> ObjectKey {
    let meta = object.meta();
    ObjectKey { kind: R::KIND, namespace: meta.namespace.clone(), name: meta.name.clone() }
}

/// The request that gives an object other owners, and finalizers.
pub fn set_owners<R: Resource>(object: &R, owners: Vec<OwnerReference>, finalizers: Option<Vec<Name>>) -> Operation {
    let patch = TypedPatch::Metadata {
        uid: Some(object.meta().uid),
        resource_version: 0,
        owners: Some(owners),
        finalizers,
        labels: Vec::new(),
        annotations: Vec::new(),
    };
    Operation::Patch { key: key_of(object), patch: Patch::Typed(Box::new(patch)), part: Part::Main, dry_run: false }
}

fn cannot_adopt<R: Resource>(object: &R, why: &str) -> String {
    let meta = object.meta();
    format!("can't adopt {} {}/{} ({}): {why}", R::KIND.row().name, meta.namespace, meta.name, meta.uid)
}

/// Reads the owner anew: it must be the same incarnation and not be going.
pub fn recheck<O: Resource>(script: &mut Script<'_>, owner: &O) -> Result<Result<(), String>, Halt> {
    let meta = owner.meta();
    Ok(match script.ask(Operation::Get { key: key_of(owner) })? {
        Ok(Answer::Object(fresh)) => {
            let fresh = fresh.meta();
            if fresh.uid != meta.uid {
                let kind = O::KIND.row().name;
                let place = format!("{}/{}", meta.namespace, meta.name);
                Err(format!("original {kind} {place} is gone: got uid {}, wanted {}", fresh.uid, meta.uid))
            } else if fresh.is_deleting() {
                Err(format!("{}/{} has just been deleted", meta.namespace, meta.name))
            } else {
                Ok(())
            }
        }
        Ok(_) => Ok(()),
        Err(status) => Err(status.message),
    })
}

/// All finalizers of an object but one.
fn other_finalizers<'a, R: Resource>(object: &'a R, finalizer: &Name) -> impl Iterator<Item = Name> + use<'a, R> {
    let finalizer = finalizer.clone();
    object.meta().finalizers().iter().filter(move |it| **it != finalizer).cloned()
}

fn adopt<O: Resource, R: Resource>(
    script: &mut Script<'_>,
    owner: &O,
    object: &R,
    finalizer: Option<&Name>,
) -> Result<Result<bool, String>, Halt> {
    let mut owners: Vec<_> = object.meta().owners().iter().filter(|it| it.uid != owner.meta().uid).cloned().collect();
    owners.push(controller_reference(owner));
    let finalizers = finalizer.map(|it| other_finalizers(object, it).chain([it.clone()]).collect());
    Ok(match script.ask(set_owners(object, owners, finalizers))? {
        Ok(_) => Ok(true),
        Err(status) if status.reason == Reason::NotFound => Ok(false),
        Err(status) => Err(status.message),
    })
}

fn release<O: Resource, R: Resource>(
    script: &mut Script<'_>,
    owner: &O,
    object: &R,
    finalizer: Option<&Name>,
) -> Result<Result<bool, String>, Halt> {
    let owners = object.meta().owners().iter().filter(|it| it.uid != owner.meta().uid).cloned().collect();
    let finalizers = finalizer.map(|it| other_finalizers(object, it).collect());
    Ok(match script.ask(set_owners(object, owners, finalizers))? {
        Ok(_) => Ok(false),
        Err(status) if matches!(status.reason, Reason::NotFound | Reason::Invalid) => Ok(false),
        Err(status) => Err(status.message),
    })
}
