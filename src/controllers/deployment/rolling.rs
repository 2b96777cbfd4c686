//! Strategy RollingUpdate: the new ReplicaSet grows and the old ones shrink, step by step within the budget.

use std::rc::Rc;

use crate::api::workload::ReplicaSet;
use crate::client::plan::Again;

use super::super::script::Halt;
use super::sync::{Sets, Sync};
use super::{budget, revision, status};

impl Sync<'_, '_> {
    /// One step of a rolling update: grow if possible, else shrink if possible (kube-controller-manager, `rolloutRolling`).
    pub fn roll(&mut self, sets: &[Rc<ReplicaSet>]) -> Result<Again, Halt> {
        let sets = self.sort_out(sets, true)?;
        let Some(new) = &sets.new else {
            return Ok(Again::OnChange);
        };
        if self.grow_new(&sets, new)? || self.shrink_old(&sets, new)? {
            return self.write_rollout_status(&sets);
        }
        if status::is_complete(&self.deployment, &self.deployment.status) {
            revision::clean_up(self.script, &self.deployment, &sets.old)?;
        }
        self.write_rollout_status(&sets)
    }

    /// Sizes the new ReplicaSet (`reconcileNewReplicaSet`).
    fn grow_new(&mut self, sets: &Sets, new: &Rc<ReplicaSet>) -> Result<bool, Halt> {
        let desired = self.deployment.spec.replicas;
        if new.replicas == desired {
            return Ok(false);
        }
        let size = if new.replicas > desired {
            desired
        } else {
            budget::new_replicas(&self.deployment, budget::wanted(sets.all()), new.replicas).map_err(Halt::Failed)?
        };
        self.scale_set(new, size, false).map(|(scaled, _)| scaled)
    }

    /// Shrinks old ReplicaSets as far as the pods that are available allow (`reconcileOldReplicaSets`).
    /// A write that fails counts as "not scaled": the original drops the error.
    fn shrink_old(&mut self, sets: &Sets, new: &Rc<ReplicaSet>) -> Result<bool, Halt> {
        let mut old: Vec<_> = sets.old.iter().filter(|set| set.replicas > 0).cloned().collect();
        if old.is_empty() {
            return Ok(false);
        }
        let min_available = self.deployment.spec.replicas - budget::max_unavailable(&self.deployment);
        let new_unavailable = new.replicas - new.status.available_replicas;
        let most = budget::wanted(sets.all()) - min_available - new_unavailable;
        if most <= 0 {
            return Ok(false);
        }
        let shrunk = match self.shrink_unhealthy(&mut old, most) {
            Ok(unhealthy) => self.shrink_available(&old, new, min_available).map(|available| unhealthy + available),
            Err(halt) => Err(halt),
        };
        match shrunk {
            Ok(count) => Ok(count > 0),
            Err(Halt::Failed(_)) => Ok(false),
            Err(halt) => Err(halt),
        }
    }

    /// Takes replicas that are not available away first: they block the rollout and cost nothing
    /// (`cleanupUnhealthyReplicas`).
    fn shrink_unhealthy(&mut self, old: &mut [Rc<ReplicaSet>], most: i32) -> Result<i32, Halt> {
        let mut total = 0;
        for set in old {
            if total >= most {
                break;
            }
            if set.replicas == 0 || set.replicas == set.status.available_replicas {
                continue;
            }
            let count = (most - total).min(set.replicas - set.status.available_replicas);
            if count < 0 {
                let (namespace, name) = (&set.meta.namespace, &set.meta.name);
                let sizes = format!("{} -> {}", set.replicas, set.replicas - count);
                let what = "when cleaning up unhealthy replicas, got invalid request to scale down";
                return Err(Halt::Failed(format!("{what} {namespace}/{name} {sizes}")));
            }
            let (_, updated) = self.scale_set(set, set.replicas - count, false)?;
            *set = updated;
            total += count;
        }
        Ok(total)
    }

    /// Takes as many away as there are available beyond the minimum, the oldest ReplicaSet first
    /// (`scaleDownOldReplicaSetsForRollingUpdate`).
    fn shrink_available(&mut self, old: &[Rc<ReplicaSet>], new: &ReplicaSet, min_available: i32) -> Result<i32, Halt> {
        let available = budget::available(old.iter().map(|set| &**set).chain([new]));
        let most = available - min_available;
        let mut total = 0;
        for set in old {
            if total >= most {
                break;
            }
            if set.replicas == 0 {
                continue;
            }
            let count = set.replicas.min(most - total);
            self.scale_set(set, set.replicas - count, false)?;
            total += count;
        }
        Ok(total)
    }
}
