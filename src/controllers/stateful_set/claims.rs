//! The volume claims of a StatefulSet's pods: what is missing, and whom each belongs to, so that it goes when it shall.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::convert::{Convert, to_label_selector};
use crate::api::meta::{Meta, OwnerReference, Uid};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::api::stateful::StatefulSet;
use crate::api::storage::PersistentVolumeClaim;
use crate::apiserver::protocol::{Operation, Part};
use crate::client::view::View;

use super::super::owner;
use super::identity;

/// The claims that the cache shows for a set's pods, by name.
pub(super) struct Claims(BTreeMap<Name, Rc<PersistentVolumeClaim>>);

/// A pod as its claims see it.
#[derive(Clone, Copy)]
pub(super) struct Holder<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its incarnation, once it exists.
    pub uid: Option<Uid>,
    /// It is to exist no longer.
    pub is_condemned: bool,
}

impl Claims {
    /// Looks for the claims of all pods that a set has or is to have.
    pub fn look<'a>(view: &View<'_>, set: &StatefulSet, pods: impl Iterator<Item = &'a Rc<Pod>> + Clone) -> Self {
        let mut found = BTreeMap::new();
        if set.spec.claim_templates.is_empty() {
            return Claims(found);
        }
        let first = set.first_ordinal();
        let place = |pod: &Rc<Pod>| identity::place(set, identity::ordinal(&pod.meta));
        let places = 0..identity::places(set, pods.clone().filter_map(place)) as i32;
        let wanted = places.map(|place| identity::pod_name(set, first.saturating_add(place)));
        let surplus = pods.filter(|pod| place(pod).is_none()).map(|pod| pod.meta.name.clone());
        for pod in wanted.chain(surplus) {
            for template in &set.spec.claim_templates {
                let name = identity::claim_name(template, &pod);
                if let Some(claim) = view.get::<PersistentVolumeClaim>(&set.meta.namespace, &name) {
                    found.insert(claim.meta.name.clone(), claim.clone());
                }
            }
        }
        Claims(found)
    }

    /// The claims of a pod that the cache shows.
    fn of<'a>(&'a self, set: &'a StatefulSet, pod: &'a str) -> impl Iterator<Item = &'a Rc<PersistentVolumeClaim>> {
        let templates = set.spec.claim_templates.iter();
        templates.filter_map(move |template| self.0.get(identity::claim_name(template, pod).as_str()))
    }

    /// The claims of a pod that do not exist. An error if one of those that do is going (`createPersistentVolumeClaims`).
    pub fn missing(&self, set: &StatefulSet, pod: &str) -> (Vec<PersistentVolumeClaim>, Option<String>) {
        let going = self.of(set, pod).find(|claim| claim.meta.is_deleting());
        let going = going.map(|claim| format!("pvc {} is being deleted", claim.meta.name));
        let absent = |template: &&k8s_openapi::api::core::v1::PersistentVolumeClaim| {
            !self.0.contains_key(identity::claim_name(template, pod).as_str())
        };
        let templates = set.spec.claim_templates.iter().filter(absent);
        (templates.filter_map(|template| new_claim(set, template, pod)).collect(), going)
    }

    /// True if a claim still belongs to a pod of this name that is gone: it will go too, and a new pod must wait for a new one
    /// (`PodClaimIsStale`).
    pub fn are_stale(&self, set: &StatefulSet, pod: Holder<'_>) -> bool {
        set.spec.retention.delete_when_scaled && self.of(set, pod.name).any(|claim| has_stale_owner(&claim.meta, pod))
    }

    /// The claims of a pod whose owners are not what the set's retention policy says, with the owners that they are to have
    /// (`UpdatePodClaimForRetentionPolicy`).
    pub fn to_own(&self, set: &StatefulSet, pod: Holder<'_>) -> Vec<Operation> {
        let wrong = self.of(set, pod.name).filter(|claim| !is_owned_rightly(&claim.meta, set, pod));
        let updated = wrong.map(|claim| {
            let mut meta = claim.meta.clone();
            meta.owners = right_owners(&meta, set, pod).into();
            PersistentVolumeClaim { meta, content: claim.content.clone() }
        });
        updated.map(|claim| Operation::Update { object: claim.boxed(), part: Part::Main, dry_run: false }).collect()
    }

    /// The claims of a pod that belong to somebody else besides: the policy cannot hold for them.
    pub fn in_conflict(&self, set: &StatefulSet, pod: Holder<'_>) -> Vec<Name> {
        let in_conflict = self.of(set, pod.name).filter(|claim| has_unexpected_controller(&claim.meta, set, pod));
        in_conflict.map(|claim| claim.meta.name.clone()).collect()
    }
}

/// The claim that a template makes for a pod (`getPersistentVolumeClaims`).
fn new_claim(
    set: &StatefulSet,
    template: &k8s_openapi::api::core::v1::PersistentVolumeClaim,
    pod: &str,
) -> Option<PersistentVolumeClaim> {
    let mut full = template.clone();
    full.metadata.name = Some(identity::claim_name(template, pod));
    full.metadata.namespace = Some(String::from(&set.meta.namespace));
    let labels = full.metadata.labels.get_or_insert_default();
    labels.extend(to_label_selector(&set.selector).match_labels.unwrap_or_default());
    // A template was compiled when the set was stored; metadata is all that a claim keeps apart.
    PersistentVolumeClaim::from_full(full).ok()
}

/// The request that creates a claim.
pub(super) fn creation(claim: PersistentVolumeClaim) -> Operation {
    Operation::Create { object: Object::PersistentVolumeClaim(Rc::new(claim)), dry_run: false }
}

fn means_set(reference: &OwnerReference, set: &StatefulSet) -> bool {
    reference.kind == "StatefulSet" && reference.api_version == "apps/v1" && reference.name == set.meta.name
}

fn means_pod(reference: &OwnerReference, pod: Holder<'_>) -> bool {
    reference.kind == "Pod" && reference.api_version == "v1" && reference.name == *pod.name
}

fn is_owner(claim: &Meta, uid: Option<Uid>) -> bool {
    claim.owners().iter().any(|owner| Some(owner.uid) == uid)
}

/// The pod of this name that owns the claim is another one.
fn has_stale_owner(claim: &Meta, pod: Holder<'_>) -> bool {
    claim.owners().iter().find(|owner| means_pod(owner, pod)).is_some_and(|owner| Some(owner.uid) != pod.uid)
}

fn has_stale_set(claim: &Meta, set: &StatefulSet) -> bool {
    claim.owners().iter().find(|owner| means_set(owner, set)).is_some_and(|owner| owner.uid != set.meta.uid)
}

/// Somebody else manages the claim, or an earlier incarnation of set or pod does (`hasUnexpectedController`).
fn has_unexpected_controller(claim: &Meta, set: &StatefulSet, pod: Holder<'_>) -> bool {
    let retention = set.spec.retention;
    if !retention.delete_when_scaled && !retention.delete_when_deleted {
        return false; // Nothing is to be owned, so there is no conflict.
    }
    claim.owners().iter().any(|owner| {
        if means_set(owner, set) {
            owner.uid != set.meta.uid
        } else if means_pod(owner, pod) {
            Some(owner.uid) != pod.uid
        } else {
            owner.controller
        }
    })
}

/// Whether set and pod are to own the claim: a claim that goes when its pod is scaled away belongs to the pod from then on, and
/// one that goes with the set belongs to the set unless it is to go with its pod.
fn wanted_owners(set: &StatefulSet, pod: Holder<'_>) -> (bool, bool) {
    let retention = set.spec.retention;
    let by_pod = retention.delete_when_scaled && pod.is_condemned;
    (retention.delete_when_deleted && !by_pod, by_pod)
}

/// True if the claim's owners are what the policy says, or if it must not be touched (`isClaimOwnerUpToDate`).
fn is_owned_rightly(claim: &Meta, set: &StatefulSet, pod: Holder<'_>) -> bool {
    if has_stale_set(claim, set) || has_stale_owner(claim, pod) {
        return true;
    }
    let (by_set, by_pod) = (is_owner(claim, Some(set.meta.uid)), is_owner(claim, pod.uid));
    if has_unexpected_controller(claim, set, pod) {
        return !by_set && !by_pod;
    }
    let is_ours = |owner: &OwnerReference| owner.uid == set.meta.uid || Some(owner.uid) == pod.uid;
    if claim.owners().iter().any(|owner| is_ours(owner) && !owner.controller) {
        return false;
    }
    (by_set, by_pod) == wanted_owners(set, pod)
}

/// The claim's owners as the policy says (`updateClaimOwnerRefForSetAndPod`).
fn right_owners(claim: &Meta, set: &StatefulSet, pod: Holder<'_>) -> Vec<OwnerReference> {
    let others = claim.owners().iter().filter(|owner| !means_set(owner, set) && !means_pod(owner, pod));
    let mut owners: Vec<OwnerReference> = others.cloned().collect();
    if has_unexpected_controller(claim, set, pod) {
        return owners;
    }
    let (by_set, by_pod) = wanted_owners(set, pod);
    if by_set && owners.iter().all(|owner| owner.uid != set.meta.uid) {
        owners.push(owner::controller_reference(set));
    }
    if let (true, Some(uid)) = (by_pod, pod.uid)
        && owners.iter().all(|owner| owner.uid != uid)
    {
        owners.push(OwnerReference {
            api_version: Name::of("v1"),
            kind: Name::of(Pod::KIND.row().name),
            name: pod.name.clone(),
            uid,
            controller: true,
            block_owner_deletion: true,
        });
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::stateful::ClaimRetention;
    use crate::apiserver::protocol::new_meta;
    use crate::controllers::testing;

    fn reference(kind: &'static str, name: &str, uid: u128, controller: bool) -> OwnerReference {
        OwnerReference {
            api_version: Name::of(if kind == "Pod" { "v1" } else { "apps/v1" }),
            kind: Name::of(kind),
            name: name.into(),
            uid: Uid(uid),
            controller,
            block_owner_deletion: true,
        }
    }

    /// What becomes of a claim's owners, by kind; none if it is left alone.
    fn check(retention: (bool, bool), is_condemned: bool, owners: &[OwnerReference], expected: Option<&[&str]>) {
        let mut set = testing::stateful_set("db", 3);
        Rc::make_mut(&mut set.spec).retention =
            ClaimRetention { delete_when_deleted: retention.0, delete_when_scaled: retention.1 };
        let (name, uid) = (Name::of("db-1"), Some(Uid(77)));
        let pod = Holder { name: &name, uid, is_condemned };
        let mut claim = new_meta("default", "data-db-1");
        claim.owners = owners.to_vec().into();
        let kinds = |owners: Vec<OwnerReference>| owners.iter().map(|it| it.kind.to_string()).collect::<Vec<_>>();
        let found = (!is_owned_rightly(&claim, &set, pod)).then(|| kinds(right_owners(&claim, &set, pod)));
        assert_eq!(found, expected.map(|it| it.iter().map(|kind| (*kind).to_owned()).collect()));
    }

    #[test]
    fn a_claim_belongs_to_whom_it_is_to_go_with() {
        let (set, pod) = (reference("StatefulSet", "db", 1, true), reference("Pod", "db-1", 77, true));
        let own = std::slice::from_ref::<OwnerReference>;
        check((false, false), false, &[], None);
        check((false, false), false, own(&set), Some(&[]));
        check((true, false), false, &[], Some(&["StatefulSet"]));
        check((true, false), true, own(&set), None);
        check((false, true), false, &[], None);
        check((false, true), true, &[], Some(&["Pod"]));
        check((false, true), false, own(&pod), Some(&[]));
        check((true, true), false, &[], Some(&["StatefulSet"]));
        check((true, true), true, own(&set), Some(&["Pod"]));
        check((true, true), true, own(&pod), None);
    }

    #[test]
    fn what_somebody_else_manages_is_left_to_him() {
        let other = reference("ReplicaSet", "x", 9, true);
        let set = reference("StatefulSet", "db", 1, true);
        check((true, true), false, std::slice::from_ref(&other), None);
        check((true, true), false, &[other, set], Some(&["ReplicaSet"]));
        check((true, true), false, &[reference("StatefulSet", "db", 5, true)], None);
        check((true, true), true, &[reference("Pod", "db-1", 5, true)], None);
        check((true, false), false, &[reference("StatefulSet", "db", 1, false)], Some(&["StatefulSet"]));
    }
}
