//! What a controller has asked for and its cache has not shown yet (kube-controller-manager,
//! `UIDTrackingControllerExpectations`): without this a control loop would ask for the same pods twice.
//!
//! Kept by the owner's incarnation. Creations are counted, deletions known by uid, so that a graceful deletion, which shows twice,
//! counts once.

use std::collections::BTreeSet;

use super::controller::Change;
use crate::api::meta::Uid;
use crate::api::object::Object;
use crate::engine::hash::Map;
use crate::engine::time::{SimDuration, SimTime};

/// After this time what was expected is forgotten (`ExpectationsTimeout`).
const TIMEOUT: SimDuration = SimDuration::from_secs(300);

/// The expectations of one controller.
#[derive(Default)]
pub(super) struct Expectations {
    by_owner: Map<Uid, Expected>,
}

struct Expected {
    creations: u32,
    deletions: BTreeSet<Uid>,
    since: SimTime,
}

impl Expectations {
    /// Expects from now on these of an owner, and nothing else.
    pub(super) fn expect(&mut self, owner: Uid, creations: u32, deletions: Vec<Uid>, now: SimTime) {
        let expected = Expected { creations, deletions: deletions.into_iter().collect(), since: now };
        if expected.is_fulfilled() {
            self.by_owner.remove(&owner);
        } else {
            self.by_owner.insert(owner, expected);
        }
    }

    /// True if all that was expected of an owner was seen, or it was waited for long enough.
    pub(super) fn satisfied(&self, owner: Uid, now: SimTime) -> bool {
        self.by_owner.get(&owner).is_none_or(|expected| now.since(expected.since) > TIMEOUT)
    }

    /// Takes note of a change that the cache shows.
    pub(super) fn see(&mut self, change: Change<'_>) {
        if self.by_owner.is_empty() {
            return;
        }
        let object = change.object();
        if matches!(change, Change::Deleted(_)) {
            self.by_owner.remove(&object.meta().uid);
        }
        match change {
            Change::Added(new) if !new.meta().is_deleting() => self.lower_creation(new),
            Change::Updated { new, .. } if !new.meta().is_deleting() => {}
            Change::Added(_) | Change::Updated { .. } | Change::Deleted(_) => self.lower_deletion(object),
        }
    }

    /// One creation less is to be expected: it was seen, or will not be.
    pub(super) fn lower_creation(&mut self, object: &Object) {
        self.lower(object, |expected| expected.creations = expected.creations.saturating_sub(1));
    }

    /// This deletion is not to be expected any more: it was seen, or will not be.
    pub(super) fn lower_deletion(&mut self, object: &Object) {
        self.lower(object, |expected| {
            expected.deletions.remove(&object.meta().uid);
        });
    }

    fn lower(&mut self, object: &Object, lower: impl FnOnce(&mut Expected)) {
        let Some(owner) = object.meta().controller().map(|owner| owner.uid) else { return };
        if let Some(expected) = self.by_owner.get_mut(&owner) {
            lower(expected);
            if expected.is_fulfilled() {
                self.by_owner.remove(&owner);
            }
        }
    }
}

impl Expected {
    fn is_fulfilled(&self) -> bool {
        self.creations == 0 && self.deletions.is_empty()
    }
}
