//! The pods of a StatefulSet, and what its syncs need to know of each: found out once for each version of a pod.

use std::rc::Rc;

use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::pod::{Pod, PodPhase, counts_as_available};
use crate::api::stateful::StatefulSet;
use crate::client::view::{Now, View};

use super::super::census::{Census, Found, Known};
use super::super::owner::{self, Claim};
use super::super::script::{Halt, Script};
use super::{identity, is_member};

/// A pod of a set.
pub(super) type Member = Known<Facts>;

/// What a pod is to its set.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The ordinal; -1 if it has none.
    pub ordinal: i32,
    /// The revision that it was made of.
    pub revision: Option<Name>,
    /// It says of itself who it is.
    pub is_labelled: bool,
    pub phase: PodPhase,
    pub is_deleting: bool,
    /// Since when it is ready; none if it is not.
    pub ready_since: Option<Timestamp>,
}

impl Facts {
    /// Finds out what a pod is to its set.
    pub fn of(pod: &Pod) -> Self {
        Facts {
            ordinal: identity::ordinal(&pod.meta),
            revision: identity::revision_of(&pod.meta).cloned(),
            is_labelled: identity::is_labelled(&pod.meta),
            phase: pod.status.phase,
            is_deleting: pod.meta.is_deleting(),
            ready_since: pod.status.ready_since(),
        }
    }

    /// True if the pod has ended for good.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// True if the pod runs and is ready.
    pub fn is_ready(&self) -> bool {
        self.phase == PodPhase::Running && self.ready_since.is_some()
    }

    /// True if the pod has been ready for as long as the set asks for ([`Pod::is_available`]).
    pub fn is_available(&self, set: &StatefulSet, now: Now) -> bool {
        let is_available = |since| counts_as_available(since, set.spec.min_ready_seconds, now.timestamp());
        self.ready_since.is_some_and(is_available)
    }

    /// True if the pod is not available, or is going (`isUnavailable`).
    pub fn is_unavailable(&self, set: &StatefulSet, now: Now) -> bool {
        self.is_deleting || !self.is_available(set, now)
    }
}

/// Looks for the pods that a sync begins with.
pub(super) fn look(census: &mut Census<Facts>, view: &View<'_>, set: &StatefulSet) -> Found<Facts> {
    let named = view.owned_by::<Pod>(set.meta.uid);
    let could_be = |pod: &&Rc<Pod>| is_member(set, &pod.meta);
    Found {
        own: census.look(set.meta.uid, &set.selector, named, |pod| known(set, pod)),
        orphans: view.orphans::<Pod>(&set.meta.namespace).filter(could_be).cloned().collect(),
    }
}

/// Adopts and releases; returns those that are the set's then.
pub(super) fn claim(script: &mut Script<'_>, set: &StatefulSet, found: &Found<Facts>) -> Result<Rc<Vec<Member>>, Halt> {
    if let Some(pods) = found.settled() {
        return Ok(pods.clone());
    }
    let claimed = owner::claim_all_if(script, set, |pod| is_member(set, pod), &found.candidates(set.meta.uid))?;
    Ok(Rc::new(claimed.into_iter().map(|pod| known(set, pod)).collect()))
}

fn known(set: &StatefulSet, pod: Rc<Pod>) -> Member {
    let claim = owner::claim_if(&set.meta, |pod| is_member(set, pod), &pod.meta);
    Known { is_owned: claim == Claim::Owned, facts: Facts::of(&pod), pod }
}
