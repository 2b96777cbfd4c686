//! Disruption budgets: how many pods of a set may be away at once by choice.

use std::rc::Rc;

use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::convert::to_time;
use super::meta::{Meta, Timestamp};
use super::selector::Selector;

/// The condition that says whether a budget allows any disruption (policy/v1: `DisruptionAllowedCondition`).
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
/// Its reason while the controller could not work out how many disruptions are allowed (`SyncFailedReason`).
pub const SYNC_FAILED: &str = "SyncFailed";

/// A PodDisruptionBudget; the content carries no metadata.
#[derive(Clone, Debug)]
pub struct PodDisruptionBudget {
    /// Metadata.
    pub meta: Meta,
    /// `spec.selector`, compiled: an absent one selects nothing.
    pub selector: Rc<Selector>,
    /// The budget as the API knows it.
    pub content: Rc<policy::PodDisruptionBudget>,
}

impl PodDisruptionBudget {
    /// `status`, if it was ever written.
    pub fn status(&self) -> Option<&policy::PodDisruptionBudgetStatus> {
        self.content.status.as_ref()
    }

    /// `status.disruptionsAllowed`: how many more pods may go now.
    pub fn disruptions_allowed(&self) -> i32 {
        self.status().and_then(|status| status.disruptions_allowed).unwrap_or(0)
    }

    /// `status.currentHealthy`.
    pub fn current_healthy(&self) -> i32 {
        self.status().and_then(|status| status.current_healthy).unwrap_or(0)
    }

    /// `status.desiredHealthy`.
    pub fn desired_healthy(&self) -> i32 {
        self.status().and_then(|status| status.desired_healthy).unwrap_or(0)
    }

    /// `status.observedGeneration`.
    pub fn observed_generation(&self) -> i64 {
        self.status().and_then(|status| status.observed_generation).unwrap_or(0)
    }

    /// True if the budget already counts a pod as gone (`status.disruptedPods`).
    pub fn counts_as_disrupted(&self, pod: &str) -> bool {
        self.disrupted_at(pod).is_some()
    }

    /// When the eviction of a pod was granted that the controller has not seen to happen yet (`status.disruptedPods`).
    pub fn disrupted_at(&self, pod: &str) -> Option<&Time> {
        self.status()?.disrupted_pods.as_ref()?.get(pod)
    }

    /// The condition DisruptionAllowed.
    pub fn allowance(&self) -> Option<&Condition> {
        self.status()?.conditions.iter().flatten().find(|condition| condition.type_ == DISRUPTION_ALLOWED)
    }

    /// True if the condition says what the count of allowed disruptions does
    /// (component-helpers, apps/poddisruptionbudget: `ConditionsAreUpToDate`).
    pub fn is_allowance_current(&self) -> bool {
        let (status, reason) = allowance(self.disruptions_allowed());
        self.observed_generation() == self.meta.generation
            && self.allowance().is_some_and(|condition| condition.status == status && condition.reason == reason)
    }

    /// The same budget with another status.
    pub fn with_status(&self, status: policy::PodDisruptionBudgetStatus) -> PodDisruptionBudget {
        let content = policy::PodDisruptionBudget { status: Some(status), ..(*self.content).clone() };
        PodDisruptionBudget { content: Rc::new(content), ..self.clone() }
    }
}

/// The status of a budget that nobody has looked at: the API writes its counts though they are zero.
pub fn unseen_status() -> policy::PodDisruptionBudgetStatus {
    policy::PodDisruptionBudgetStatus {
        current_healthy: Some(0),
        desired_healthy: Some(0),
        disruptions_allowed: Some(0),
        expected_pods: Some(0),
        ..policy::PodDisruptionBudgetStatus::default()
    }
}

/// Status and reason of the condition for a number of allowed disruptions.
fn allowance(disruptions_allowed: i32) -> (&'static str, &'static str) {
    if disruptions_allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") }
}

/// Makes the condition say what the count of allowed disruptions does
/// (component-helpers, apps/poddisruptionbudget: `UpdateDisruptionAllowedCondition`).
pub fn tell_allowance(status: &mut policy::PodDisruptionBudgetStatus, now: Timestamp) {
    let (is_allowed, reason) = allowance(status.disruptions_allowed.unwrap_or(0));
    set_allowance(status, is_allowed, reason, String::new(), now);
}

/// Makes the condition say that nothing is allowed because the number of allowed disruptions is not known.
pub fn tell_failure(status: &mut policy::PodDisruptionBudgetStatus, why: &str, now: Timestamp) {
    set_allowance(status, "False", SYNC_FAILED, why.to_owned(), now);
}

/// Sets the condition; its time is that of the last change of its status (apimachinery, api/meta: `SetStatusCondition`).
fn set_allowance(
    status: &mut policy::PodDisruptionBudgetStatus,
    is_allowed: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let observed_generation = status.observed_generation.filter(|generation| *generation != 0);
    let conditions = status.conditions.get_or_insert_default();
    let new = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: is_allowed.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation,
        last_transition_time: to_time(now),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == DISRUPTION_ALLOWED) {
        Some(present) if present.status == new.status => {
            let last_transition_time = present.last_transition_time.clone();
            *present = Condition { last_transition_time, ..new };
        }
        Some(present) => *present = new,
        None => conditions.push(new),
    }
}
