//! The templates that a DaemonSet had: the present one is kept as the newest revision, and the oldest ones are forgotten.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Common, Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::api::revision::{ControllerRevision, RevisionData};
use crate::api::workload::DaemonSet;
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::view::View;

use super::super::deployment::template;
use super::super::history::{self, REVISION_LABEL};
use super::super::owner;
use super::super::script::{Halt, Script};
use super::nodes::Nodes;

/// A DaemonSet's revisions.
pub(super) struct Revisions {
    /// That of its template.
    pub current: Rc<ControllerRevision>,
    old: Vec<Rc<ControllerRevision>>,
}

/// Finds the revision of the template, or makes it; it is the newest (`constructHistory`).
pub(super) fn construct(script: &mut Script<'_>, set: &Rc<DaemonSet>) -> Result<Revisions, Halt> {
    let all = script.see(|view| Rc::new(list(view, set)));
    let mut current = Vec::new();
    let mut old = Vec::new();
    for mut revision in owner::claim_all(script, &**set, &set.selector, &all)? {
        if revision.meta.labels.get(&REVISION_LABEL).is_none() {
            revision = label(script, &revision)?;
        }
        let is_current = revision.template().is_some_and(|kept| kept.template.says_the_same(&set.template));
        if is_current { &mut current } else { &mut old }.push(revision);
    }
    let number = old.iter().map(|revision| revision.revision).max().unwrap_or(0).max(0) + 1;
    let current = match current.as_slice() {
        [] => snapshot(script, set, number)?,
        _ => {
            let kept = deduplicate(script, set, current)?;
            if kept.revision < number { history::renumber(script, &kept, number)? } else { kept }
        }
    };
    Ok(Revisions { current, old })
}

/// Those that are the set's, and those that are nobody's and selected by it.
fn list(view: &View<'_>, set: &DaemonSet) -> Vec<Rc<ControllerRevision>> {
    let own = view.owned_by::<ControllerRevision>(set.meta.uid);
    let orphans = view.orphans::<ControllerRevision>(&set.meta.namespace);
    own.chain(orphans.filter(|revision| set.selector.matches(&revision.meta.labels))).cloned().collect()
}

/// Gives a revision the label by which its pods are known.
fn label(script: &mut Script<'_>, revision: &Rc<ControllerRevision>) -> Result<Rc<ControllerRevision>, Halt> {
    let mut labelled = ControllerRevision::clone(revision);
    labelled.meta.labels = labelled.meta.labels.with(REVISION_LABEL, labelled.meta.name.clone());
    let labelled = Rc::new(labelled);
    let object = Object::ControllerRevision(labelled.clone());
    let written = script.write(Operation::Update { object, part: Part::Main, dry_run: false })?;
    Ok(written.as_ref().and_then(ControllerRevision::of).cloned().unwrap_or(labelled))
}

/// Makes the revision of the template. Another one of the same name makes the number of collisions grow, and the next sync
/// finds another name.
fn snapshot(script: &mut Script<'_>, set: &Rc<DaemonSet>, number: i64) -> Result<Rc<ControllerRevision>, Halt> {
    let hash = template::hash(&set.template, set.status.collision_count);
    let meta = Meta {
        name: Name::from(format!("{}-{hash}", set.meta.name)),
        common: Common {
            namespace: set.meta.namespace.clone(),
            labels: set.template.labels.with(REVISION_LABEL, hash),
            annotations: set.meta.annotations.clone(),
            owners: [owner::controller_reference(&**set)].into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    let revision = ControllerRevision { meta, revision: number, data: Rc::new(RevisionData::of(set.template.clone())) };
    let key = owner::key_of(&revision);
    let revision = Rc::new(revision);
    let object = Object::ControllerRevision(revision.clone());
    let refused = match script.ask(Operation::Create { object, dry_run: false })? {
        Ok(Answer::Object(Object::ControllerRevision(created))) => return Ok(created),
        Ok(_) => return Ok(revision),
        Err(status) if status.reason == Reason::AlreadyExists => status,
        Err(status) => return Err(Halt::Failed(failed(&status.message))),
    };
    let there = script.write(Operation::Get { key })?;
    if let Some(there) = there.as_ref().and_then(ControllerRevision::of)
        && there.data == revision.data
    {
        return Ok(there.clone());
    }
    let fresh = script.write(Operation::Get { key: owner::key_of(&**set) })?;
    let Some(fresh) = fresh.as_ref().and_then(DaemonSet::of) else {
        return Err(Halt::Failed(failed(&refused.message)));
    };
    let (known, found) = (set.status.collision_count, fresh.status.collision_count);
    if known != found {
        let message = format!(
            "found a stale collision count ({}, expected {}) of DaemonSet \"{}\" while processing; will retry until it \
             is updated",
            known.unwrap_or(0),
            found.unwrap_or(0),
            set.meta.name
        );
        return Err(Halt::Failed(failed(&message)));
    }
    let mut counted = DaemonSet::clone(fresh);
    counted.status.collision_count = Some(found.unwrap_or(0) + 1);
    script.write(Operation::Update { object: counted.boxed(), part: Part::Status, dry_run: false })?;
    Err(Halt::Failed(failed(&refused.message)))
}

fn failed(why: &str) -> String {
    format!("failed to construct revisions of DaemonSet: {why}")
}

/// Of several revisions of the same template the newest stays; pods of the others become pods of it (`dedupCurHistories`).
fn deduplicate(
    script: &mut Script<'_>,
    set: &Rc<DaemonSet>,
    current: Vec<Rc<ControllerRevision>>,
) -> Result<Rc<ControllerRevision>, Halt> {
    let mut all = current.iter();
    let Some(first) = all.next() else { return Err(Halt::Failed(failed("there is none"))) };
    let kept = all.fold(first, |kept, next| if next.revision >= kept.revision { next } else { kept }).clone();
    if current.len() == 1 {
        return Ok(kept);
    }
    let hash = kept.meta.labels.get(&REVISION_LABEL).cloned().unwrap_or_default();
    let pods = script.see(|view| Rc::new(view.owned_by::<Pod>(set.meta.uid).cloned().collect::<Vec<_>>()));
    for pod in pods.iter().filter(|pod| pod.meta.labels.get(&REVISION_LABEL) != Some(&hash)) {
        let patch = TypedPatch::Metadata {
            uid: None,
            resource_version: 0,
            owners: None,
            finalizers: None,
            labels: vec![(REVISION_LABEL, Some(hash.clone()))],
            annotations: Vec::new(),
        };
        let (key, patch) = (owner::key_of(&**pod), Patch::Typed(Box::new(patch)));
        script.write(Operation::Patch { key, patch, part: Part::Main, dry_run: false })?;
    }
    for revision in current.iter().filter(|revision| revision.meta.name != kept.meta.name) {
        delete(script, revision)?;
    }
    Ok(kept)
}

/// Deletes the oldest revisions of which there are no pods until no more than the limit are left (`cleanupHistory`).
pub(super) fn clean_up(
    script: &mut Script<'_>,
    set: &DaemonSet,
    revisions: &Revisions,
    nodes: &Nodes,
) -> Result<bool, Halt> {
    let limit = usize::try_from(set.revision_history_limit).unwrap_or(0);
    let surplus = revisions.old.len().saturating_sub(limit);
    if surplus == 0 {
        return Ok(false);
    }
    // Pods at settled nodes are of the present revision.
    let pods = nodes.open.iter().flat_map(|node| &node.pods).chain(&nodes.leaving);
    let live: BTreeSet<&Name> = pods.filter_map(|pod| pod.meta.labels.get(&REVISION_LABEL)).collect();
    let mut old = revisions.old.clone();
    old.sort_by_key(|revision| revision.revision);
    let is_live =
        |revision: &ControllerRevision| revision.meta.labels.get(&REVISION_LABEL).is_some_and(|it| live.contains(it));
    let doomed: Vec<_> = old.iter().filter(|revision| !is_live(revision)).take(surplus).collect();
    for revision in &doomed {
        delete(script, revision)?;
    }
    Ok(!doomed.is_empty())
}

fn delete(script: &mut Script<'_>, revision: &ControllerRevision) -> Result<(), Halt> {
    let (namespace, name) = (revision.meta.namespace.clone(), revision.meta.name.clone());
    let key = ObjectKey { kind: Kind::ControllerRevision, namespace, name };
    script.write(Operation::Delete { key, options: DeleteOptions::default() }).map(|_| ())
}
