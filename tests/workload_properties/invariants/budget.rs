//! Evictions through the API never break a disruption budget.

use std::collections::VecDeque;

use kubesim::api::meta::ObjectKey;
use kubesim::api::pod::{Pod, PodConditionType};
use kubesim::api::policy::PodDisruptionBudget;
use kubesim::engine::time::SimTime;

use super::super::watch::Scene;
use super::Invariant;

/// Pods that have ceased to be healthy by other causes, of which a budget may not know yet.
#[derive(Default)]
pub struct Evictions {
    lost: VecDeque<(SimTime, ObjectKey, String)>,
    judged: usize,
}

impl Invariant for Evictions {
    fn look(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        let Some((Some(old), new)) = scene.change::<Pod>() else { return Ok(()) };
        let is_healthy = |pod: &Pod| pod.status.is_ready() && !pod.meta.is_deleting();
        if !is_healthy(old) || new.is_some_and(is_healthy) {
            return Ok(());
        }
        let target = old.status.condition(&PodConditionType::DisruptionTarget);
        let is_marked = target.is_some_and(|target| target.why.reason() == Some("EvictionByEvictionAPI"));
        let is_evicted = is_marked && scene.is_by("kubectl");
        let budgets = scene.objects.all::<PodDisruptionBudget>();
        for budget in budgets.filter(|budget| budget.selector.matches(&old.meta.labels)) {
            if !is_evicted {
                self.lost.push_back((scene.now, scene.write.key.clone(), budget.meta.name.to_string()));
                continue;
            }
            self.judged += 1;
            let pods = scene.objects.all::<Pod>().filter(|pod| budget.selector.matches(&pod.meta.labels));
            let left = pods.filter(|pod| is_healthy(pod)).count();
            let from = scene.seen_from();
            let lost = self.lost.iter().filter(|(at, _, of)| *at >= from && *of == *budget.meta.name).count();
            let needed = usize::try_from(budget.desired_healthy()).unwrap_or(0);
            if left + lost < needed && !scene.circumstances.control_plane_fails {
                return Err(format!("{left} healthy pods are left, of {needed}"));
            }
            if !budget.counts_as_disrupted(&old.meta.name) && lost == 0 && !scene.circumstances.control_plane_fails {
                return Err(format!("{} is evicted and its budget does not count it", old.meta.name));
            }
        }
        Ok(())
    }

    fn judged(&self) -> usize {
        self.judged
    }
}
