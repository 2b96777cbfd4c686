//! Revisions: the annotations that number a Deployment's ReplicaSets, and the removal of those that are too old.

use std::rc::Rc;

use crate::api::meta::{Labels, Meta};
use crate::api::name::Name;
use crate::api::workload::{Deployment, ReplicaSet};
use crate::apiserver::protocol::{DeleteOptions, Operation};
use crate::apiserver::status::Reason;

use super::super::owner;
use super::super::script::{Halt, Script};
use super::{budget, oldest_first};

/// The number of the revision that a Deployment or ReplicaSet stands for.
pub const REVISION: Name = Name::of("deployment.kubernetes.io/revision");
/// The revisions that a ReplicaSet stood for before, separated by commas.
pub const REVISION_HISTORY: Name = Name::of("deployment.kubernetes.io/revision-history");
/// The Deployment's size when the ReplicaSet was last sized: tells a scaling from a rollout.
pub const DESIRED_REPLICAS: Name = Name::of("deployment.kubernetes.io/desired-replicas");
/// That size plus the surge.
pub const MAX_REPLICAS: Name = Name::of("deployment.kubernetes.io/max-replicas");
/// Where an old client asked to roll back to.
pub const ROLLBACK_TO: Name = Name::of("deprecated.deployment.rollback.to");
/// What was last applied, written by `kubectl apply`.
pub const LAST_APPLIED: Name = Name::of("kubectl.kubernetes.io/last-applied-configuration");

/// The history of a ReplicaSet's revisions has at most this many characters (`maxRevHistoryLengthInChars`).
const MAX_HISTORY_CHARACTERS: usize = 2000;

/// True for annotations that are not passed from Deployment to ReplicaSet nor back.
pub fn is_skipped(key: &str) -> bool {
    [LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, ROLLBACK_TO].iter().any(|it| it == key)
}

/// The revision of a ReplicaSet: zero if it has none; none if it cannot be read.
pub fn revision(meta: &Meta) -> Option<i64> {
    meta.annotations.get(&REVISION).map_or(Some(0), |text| text.parse().ok())
}

/// The highest revision.
pub fn max_revision(sets: &[Rc<ReplicaSet>]) -> i64 {
    sets.iter().filter_map(|set| revision(&set.meta)).fold(0, i64::max)
}

/// The revision before the highest one; zero if there is none.
pub fn last_revision<'a>(sets: impl IntoIterator<Item = &'a Rc<ReplicaSet>>) -> i64 {
    let mut highest = (0, 0);
    for revision in sets.into_iter().filter_map(|set| revision(&set.meta)) {
        if revision >= highest.0 {
            highest = (revision, highest.0);
        } else if revision > highest.1 {
            highest.1 = revision;
        }
    }
    highest.1
}

/// An annotation that holds a count.
pub fn count(set: &ReplicaSet, key: &Name) -> Option<i32> {
    set.meta.annotations.get(key)?.parse::<u32>().ok().and_then(|count| i32::try_from(count).ok())
}

/// The annotations of the new ReplicaSet once the Deployment's are copied and the revision is raised; none if nothing changes
/// (deployment/util, `SetNewReplicaSetAnnotations`). `exists` is false for a ReplicaSet that is about to be created.
pub fn new_annotations(deployment: &Deployment, annotations: &Labels, revision: i64, exists: bool) -> Option<Labels> {
    let mut result = annotations.clone();
    let mut changed = false;
    for (key, value) in deployment.meta.annotations.pairs() {
        if !is_skipped(key) && result.get(key) != Some(value) {
            result = result.with(key.clone(), value.clone());
            changed = true;
        }
    }
    let old = result.get(&REVISION).cloned();
    let Ok(old_number) = old.as_ref().filter(|old| !old.is_empty()).map_or(Ok(0), |old| old.parse::<i64>()) else {
        // The original returns "unchanged" here and thereby drops what it copied.
        return None;
    };
    if old_number < revision {
        result = result.with(REVISION, revision.to_string());
        changed = true;
        if let Some(old) = old {
            result = with_history(&result, &old);
        }
    }
    if !exists {
        result = with_sizes(&result, deployment);
        changed = true;
    }
    changed.then_some(result)
}

/// The annotations with one more revision in the history; the oldest ones make room.
fn with_history(annotations: &Labels, old: &str) -> Labels {
    let history = annotations.get(&REVISION_HISTORY).map_or("", |history| history.as_str());
    if history.is_empty() {
        return annotations.with(REVISION_HISTORY, old);
    }
    let mut rest = history;
    while rest.len() + old.len() + 1 > MAX_HISTORY_CHARACTERS {
        match rest.split_once(',') {
            Some((_, newer)) => rest = newer,
            None => return annotations.clone(),
        }
    }
    annotations.with(REVISION_HISTORY, format!("{rest},{old}"))
}

/// The annotations with the Deployment's present sizes.
pub fn with_sizes(annotations: &Labels, deployment: &Deployment) -> Labels {
    annotations
        .with(DESIRED_REPLICAS, deployment.spec.replicas.to_string())
        .with(MAX_REPLICAS, budget::max_replicas(deployment).to_string())
}

/// True if the annotations do not say the Deployment's present sizes.
pub fn sizes_differ(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let says = |key: &Name, size: i32| set.meta.annotations.get(key).is_some_and(|text| **text == size.to_string());
    !says(&DESIRED_REPLICAS, deployment.spec.replicas) || !says(&MAX_REPLICAS, budget::max_replicas(deployment))
}

/// Deletes empty ReplicaSets beyond the history that is to be kept, the oldest first
/// (kube-controller-manager, `cleanupDeployment`).
pub(super) fn clean_up(script: &mut Script<'_>, deployment: &Deployment, old: &[Rc<ReplicaSet>]) -> Result<(), Halt> {
    let limit = deployment.spec.revision_history_limit;
    if limit == i32::MAX {
        return Ok(());
    }
    let mut sets: Vec<_> = old.iter().filter(|set| !set.meta.is_deleting()).collect();
    let surplus = sets.len().saturating_sub(limit.max(0) as usize);
    if surplus == 0 {
        return Ok(());
    }
    sets.sort_by(|left, right| match (revision(&left.meta), revision(&right.meta)) {
        (Some(one), Some(two)) if one != two => one.cmp(&two),
        _ => oldest_first(left, right),
    });
    for set in &sets[..surplus] {
        let unseen = set.meta.generation > set.status.observed_generation;
        if set.status.replicas != 0 || set.replicas != 0 || unseen {
            continue;
        }
        let key = owner::key_of(&***set);
        let options = DeleteOptions::default();
        if let Err(status) = script.ask(Operation::Delete { key, options })?
            && status.reason != Reason::NotFound
        {
            return Err(Halt::Failed(status.message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing;

    #[test]
    fn a_reused_replica_set_remembers_what_it_stood_for() {
        let deployment = testing::deployment("web", 10);
        let first = new_annotations(&deployment, &Labels::NONE, 1, false).expect("new");
        assert_eq!(first.get(&REVISION).map(|it| it.as_str()), Some("1"));
        assert_eq!(first.get(&DESIRED_REPLICAS).map(|it| it.as_str()), Some("10"));
        assert_eq!(first.get(&REVISION_HISTORY), None);
        assert_eq!(new_annotations(&deployment, &first, 1, true), None);
        let again = new_annotations(&deployment, &first, 3, true).expect("raised");
        assert_eq!(again.get(&REVISION_HISTORY).map(|it| it.as_str()), Some("1"));
        let third = new_annotations(&deployment, &again, 7, true).expect("raised");
        assert_eq!(third.get(&REVISION_HISTORY).map(|it| it.as_str()), Some("1,3"));
        assert_eq!(new_annotations(&deployment, &third, 2, true), None, "never lowered");
    }

    #[test]
    fn the_deployments_own_annotations_are_copied_but_for_the_skipped_ones() {
        let mut deployment = testing::deployment("web", 1);
        deployment.meta.annotations = deployment.meta.annotations.with("team", "blue").with(LAST_APPLIED, "{}");
        let first = new_annotations(&deployment, &Labels::NONE, 1, false).expect("new");
        assert_eq!(first.get("team").map(|it| it.as_str()), Some("blue"));
        assert_eq!(first.get(&LAST_APPLIED), None);
    }

    #[test]
    fn a_long_history_forgets_its_beginning() {
        let mut annotations = Labels::NONE.with(REVISION_HISTORY, vec!["1000"; 399].join(","));
        annotations = with_history(&annotations, "2000");
        assert_eq!(annotations.get(&REVISION_HISTORY).map(|it| it.len()), Some(1999));
        annotations = with_history(&annotations, "3000");
        let history = annotations.get(&REVISION_HISTORY).expect("kept");
        assert_eq!(history.len(), 1999);
        assert!(history.ends_with("1000,2000,3000"));
    }
}
