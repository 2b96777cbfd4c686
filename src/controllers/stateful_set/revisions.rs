//! Which revision the pods of a StatefulSet have, and which they are to have.

use std::rc::Rc;

use crate::api::revision::{ControllerRevision, RevisionData};
use crate::api::stateful::StatefulSet;

use super::super::history;
use super::super::script::{Halt, Script};

/// The two revisions of a set.
pub(super) struct Revisions {
    /// The one that the pods had before the present update, and have below its partition.
    pub current: Rc<ControllerRevision>,
    /// The one that the set asks for.
    pub update: Rc<ControllerRevision>,
    /// How often a revision's name was taken.
    pub collision_count: i32,
}

/// Finds both. A template that is new becomes a revision; one that was there before becomes the newest again, its number raised
/// (kube-controller-manager, `getStatefulSetRevisions`). Expects the revisions sorted.
pub(super) fn find(
    script: &mut Script<'_>,
    set: &StatefulSet,
    revisions: &[Rc<ControllerRevision>],
) -> Result<Revisions, Halt> {
    let mut collision_count = set.status.collision_count.unwrap_or(0);
    let is_asked_for = |revision: &&Rc<ControllerRevision>| says(&revision.data, set);
    let update = match revisions.last() {
        Some(newest) if is_asked_for(&newest) => newest.clone(),
        _ => {
            let number = history::next_number(revisions);
            match revisions.iter().rev().find(is_asked_for) {
                Some(older) => history::renumber(script, older, number)?,
                None => {
                    let annotations = set.meta.annotations.clone();
                    let new = history::new(set, &set.template, annotations, number, Some(collision_count));
                    history::create(script, set, new, &mut collision_count)?
                }
            }
        }
    };
    let current = revisions.iter().find(|revision| revision.meta.name == set.status.current_revision);
    Ok(Revisions { current: current.unwrap_or(&update).clone(), update, collision_count })
}

fn says(data: &RevisionData, set: &StatefulSet) -> bool {
    match data {
        RevisionData::Template(kept) => kept.template.says_the_same(&set.template),
        RevisionData::Other(_) => false,
    }
}
