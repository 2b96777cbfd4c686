//! Disruption budgets as preemption sees them.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::api::policy::PodDisruptionBudget;

/// All disruption budgets.
#[derive(Default)]
pub struct Budgets {
    by_namespace: BTreeMap<Name, BTreeMap<Name, Rc<PodDisruptionBudget>>>,
    version: u64,
}

impl Budgets {
    /// Moves with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes in a version of a budget.
    pub fn set(&mut self, budget: &Rc<PodDisruptionBudget>) {
        let in_namespace = self.by_namespace.entry(budget.meta.namespace.clone()).or_default();
        in_namespace.insert(budget.meta.name.clone(), budget.clone());
        self.version += 1;
    }

    /// Takes in that a budget is gone.
    pub fn remove(&mut self, budget: &PodDisruptionBudget) {
        if let Some(in_namespace) = self.by_namespace.get_mut(&budget.meta.namespace) {
            in_namespace.remove(&budget.meta.name);
        }
        self.version += 1;
    }

    /// True if there is none.
    pub fn are_none(&self) -> bool {
        self.by_namespace.values().all(BTreeMap::is_empty)
    }

    /// Says of each pod, in this order, whether its going would break a budget, those before it being gone
    /// (kube-scheduler, `filterPodsWithPDBViolation`).
    pub fn violated_by(&self, pods: &[Rc<Pod>]) -> Vec<bool> {
        if self.are_none() {
            return vec![false; pods.len()];
        }
        let mut left: BTreeMap<(&Name, &Name), i64> = BTreeMap::new();
        let mut is_violated = |pod: &Pod| {
            // A pod without labels is in no budget, whatever the budget selects.
            if pod.meta.labels.is_empty() {
                return false;
            }
            let mut violated = false;
            for (name, budget) in self.by_namespace.get(&pod.meta.namespace).into_iter().flatten() {
                // An empty selector is in no pod's way either.
                let selector = &budget.selector;
                let selects = !selector.is_everything() && selector.matches(&pod.meta.labels);
                if !selects || budget.counts_as_disrupted(&pod.meta.name) {
                    continue;
                }
                let left = left
                    .entry((&budget.meta.namespace, name))
                    .or_insert_with(|| i64::from(budget.disruptions_allowed()));
                *left -= 1;
                violated |= *left < 0;
            }
            violated
        };
        pods.iter().map(|pod| is_violated(pod)).collect()
    }
}
