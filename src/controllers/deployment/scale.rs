//! Sizing ReplicaSets when the Deployment's size changes: the only active one gets all, several get their share.

use std::cmp::Reverse;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::workload::{Deployment, DeploymentStrategy, ReplicaSet};

use super::super::script::Halt;
use super::sync::{Sets, Sync};
use super::{budget, oldest_first, revision};

impl Sync<'_, '_> {
    /// Scales in proportion, so that a change of size neither hastens nor delays a rollout
    /// (kube-controller-manager, `scale`).
    pub fn scale(&mut self, sets: &Sets) -> Result<(), Halt> {
        let desired = self.deployment.spec.replicas;
        if let Some(only) = active_or_latest(sets) {
            return self.scale_set(&only, desired, false).map(|_| ());
        }
        if sets.new.as_ref().is_some_and(|new| is_saturated(&self.deployment, new)) {
            for set in sets.old.iter().rev().filter(|set| set.replicas > 0) {
                self.scale_set(set, 0, false)?;
            }
            return Ok(());
        }
        if let DeploymentStrategy::RollingUpdate { .. } = self.deployment.spec.strategy {
            // Where nothing is added or removed the original goes through the old ones newest first (`FindActiveOrLatest`).
            let newest_first = sets.old.iter().rev().chain(&sets.new);
            let active: Vec<_> = newest_first.filter(|set| set.replicas > 0).cloned().collect();
            for (set, size) in shares(&self.deployment, active) {
                self.scale_set(&set, size, true)?;
            }
        }
        Ok(())
    }

    /// Gives a ReplicaSet a size. With `force` its size annotations are brought up to date even if the size stays.
    /// Returns whether it was resized, and the ReplicaSet as it is then (`scaleReplicaSet`).
    pub fn scale_set(&mut self, set: &Rc<ReplicaSet>, size: i32, force: bool) -> Result<(bool, Rc<ReplicaSet>), Halt> {
        let resize = set.replicas != size;
        let outdated = force && revision::sizes_differ(set, &self.deployment);
        if !resize && !outdated {
            return Ok((false, set.clone()));
        }
        let mut update = (**set).clone();
        update.replicas = size;
        update.meta.annotations = revision::with_sizes(&set.meta.annotations, &self.deployment);
        let updated = self.update_set(update)?;
        if resize {
            let (before, name) = (set.replicas, &set.meta.name);
            let direction = if before < size { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
            self.script.record(&self.about, EventType::Normal, "ScalingReplicaSet", message);
        }
        Ok((resize, updated))
    }
}

/// The only active ReplicaSet; the newest one if none is active; none if several are (`FindActiveOrLatest`).
fn active_or_latest(sets: &Sets) -> Option<Rc<ReplicaSet>> {
    let mut active = sets.active();
    match (active.next(), active.next()) {
        (Some(_), Some(_)) => None,
        (Some(only), None) => Some(only.clone()),
        (None, _) => sets.new.as_ref().or(sets.old.last()).cloned(),
    }
}

/// True if the new ReplicaSet has all replicas and all are available (`IsSaturated`).
fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let desired = deployment.spec.replicas;
    new.replicas == desired
        && revision::count(new, &revision::DESIRED_REPLICAS) == Some(desired)
        && new.status.available_replicas == desired
}

/// The size of each active ReplicaSet after scaling in proportion, largest first; what rounding leaves goes to the largest.
/// Among equals the newer come first when there is something to add, the older when there is something to remove.
fn shares(deployment: &Deployment, mut active: Vec<Rc<ReplicaSet>>) -> Vec<(Rc<ReplicaSet>, i32)> {
    let allowed = if deployment.spec.replicas > 0 { budget::max_replicas(deployment) } else { 0 };
    let to_add = allowed - budget::wanted(active.iter().map(|set| &**set));
    if to_add > 0 {
        active.sort_by(|left, right| {
            Reverse(left.replicas).cmp(&Reverse(right.replicas)).then(oldest_first(right, left))
        });
    } else if to_add < 0 {
        active.sort_by(|left, right| {
            Reverse(left.replicas).cmp(&Reverse(right.replicas)).then(oldest_first(left, right))
        });
    }
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for set in &active {
        let share = proportion(set, deployment, to_add, added);
        added += share;
        sizes.push(set.replicas + share);
    }
    if let Some(largest) = sizes.first_mut()
        && to_add != 0
    {
        *largest = (*largest + to_add - added).max(0);
    }
    active.into_iter().zip(sizes).collect()
}

/// A ReplicaSet's share of what is to be added or removed (`GetReplicaSetProportion`).
fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let (share, rest) = (fraction(set, deployment), to_add - added);
    if to_add > 0 { share.min(rest) } else { share.max(rest) }
}

/// By how much a ReplicaSet grows if it keeps its part of the whole (`getReplicaSetFraction`): rounded to the nearest,
/// halves away from zero; exact in integers where the original divides floats.
fn fraction(set: &ReplicaSet, deployment: &Deployment) -> i32 {
    if deployment.spec.replicas == 0 {
        return -set.replicas;
    }
    let recorded = revision::count(set, &revision::MAX_REPLICAS).filter(|before| *before != 0);
    let before = i64::from(recorded.unwrap_or(deployment.status.replicas));
    if before <= 0 {
        return 0;
    }
    let product = i64::from(set.replicas) * i64::from(budget::max_replicas(deployment));
    let size = (2 * product + before).div_euclid(2 * before);
    i32::try_from(size).unwrap_or(i32::MAX) - set.replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Timestamp;
    use crate::api::name::Name;
    use crate::controllers::testing;

    /// Old sizes (oldest first) and the annotated maximum before, the new size and surge of the Deployment, new sizes.
    #[test]
    fn a_change_of_size_is_shared_in_proportion() {
        type Row = (&'static [i32], i32, i32, i32, &'static [i32]);
        let table: [Row; 9] = [
            (&[10], 10, 12, 0, &[12]),
            (&[5, 5], 10, 12, 0, &[6, 6]),
            (&[5, 5], 10, 8, 0, &[4, 4]),
            (&[3, 3, 3], 9, 10, 0, &[3, 3, 4]),
            (&[3, 3, 3], 9, 8, 0, &[2, 3, 3]),
            (&[8, 2], 10, 6, 0, &[5, 1]),
            (&[10, 8, 2], 20, 30, 0, &[15, 12, 3]),
            (&[4, 2, 2], 8, 0, 0, &[0, 0, 0]),
            (&[10, 5], 15, 20, 10, &[20, 10]),
        ];
        for (before, annotated, size, surge, after) in table {
            let mut deployment = testing::deployment("web", size);
            testing::set_budget(&mut deployment, surge, 0);
            if surge == 0 {
                testing::set_budget(&mut deployment, 0, 1);
            }
            let sets = before.iter().enumerate().map(|(index, replicas)| {
                let mut set = testing::replica_set(&deployment, index as u32, *replicas);
                set.meta.created = Timestamp(index as i64);
                set.meta.annotations = set.meta.annotations.with(revision::MAX_REPLICAS, annotated.to_string());
                Rc::new(set)
            });
            let mut sets: Vec<(Name, i32)> = shares(&deployment, sets.collect())
                .into_iter()
                .map(|(set, size)| (set.meta.name.clone(), size))
                .collect();
            sets.sort();
            let sizes: Vec<i32> = sets.iter().map(|(_, size)| *size).collect();
            assert_eq!(sizes, after, "{before:?} to {size} with surge {surge}");
        }
    }
}
