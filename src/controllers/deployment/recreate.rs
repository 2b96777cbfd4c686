//! Strategy Recreate: all old pods end before the first new one is created.

use std::rc::Rc;

use crate::api::workload::ReplicaSet;
use crate::client::plan::Again;

use super::super::script::Halt;
use super::sync::{Sets, Sync};
use super::{revision, status};

impl Sync<'_, '_> {
    /// One step of a recreation (kube-controller-manager, `rolloutRecreate`).
    pub fn recreate(&mut self, list: &[Rc<ReplicaSet>]) -> Result<Again, Halt> {
        let mut sets = self.sort_out(list, false)?;
        if self.empty_old(&sets)? || self.old_pods_run(&sets) {
            return self.write_rollout_status(&sets);
        }
        if sets.new.is_none() {
            sets = self.sort_out(list, true)?;
        }
        if let Some(new) = &sets.new {
            self.scale_set(new, self.deployment.spec.replicas, false)?;
        }
        if status::is_complete(&self.deployment, &self.deployment.status) {
            revision::clean_up(self.script, &self.deployment, &sets.old)?;
        }
        self.write_rollout_status(&sets)
    }

    fn empty_old(&mut self, sets: &Sets) -> Result<bool, Halt> {
        let mut scaled = false;
        for set in sets.old.iter().filter(|set| set.replicas > 0) {
            scaled |= self.scale_set(set, 0, false)?.0;
        }
        Ok(scaled)
    }

    /// True while an old ReplicaSet reports pods, or a pod that is not the new one's has not ended (`oldPodsRunning`).
    fn old_pods_run(&self, sets: &Sets) -> bool {
        let is_new = |uid| sets.new.as_ref().is_some_and(|new| new.meta.uid == uid);
        sets.old.iter().any(|set| set.status.replicas > 0) || self.running.iter().any(|uid| !is_new(*uid))
    }
}
