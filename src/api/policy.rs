//! Disruption budgets: how many pods of a set may be away at once by choice.

use std::rc::Rc;

use k8s_openapi::api::policy::v1 as policy;

use super::meta::Meta;
use super::selector::Selector;

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
    /// `status.disruptionsAllowed`: how many more pods may go now.
    pub fn disruptions_allowed(&self) -> i32 {
        self.content.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)
    }

    /// True if the budget already counts a pod as gone (`status.disruptedPods`).
    pub fn counts_as_disrupted(&self, pod: &str) -> bool {
        let disrupted = self.content.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
        disrupted.is_some_and(|pods| pods.contains_key(pod))
    }
}
