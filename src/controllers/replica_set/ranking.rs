//! Which pods of a ReplicaSet go first when there are too many.

use std::cmp::Ordering;
use std::rc::Rc;

use crate::api::meta::{Timestamp, Uid};
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, ContainerRole, ContainerStatus, Pod, PodConditionType, PodPhase};
use crate::api::workload::Replicated;
use crate::client::view::{Now, View};
use crate::engine::hash::Map;

use super::super::time;

/// How many active pods each node has of the ReplicaSets with the same owner; the empty name stands for no node.
pub(super) type Neighbours = Map<Name, u32>;

/// An annotation by which users say what a pod's deletion costs; zero if it is not set.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Counts the pods of all ReplicaSets of the same Deployment by node
/// (kube-controller-manager, `getIndirectlyRelatedPods`: the original lists by selector, which finds the same pods
/// unless somebody else's match too). A ReplicaSet without owner has none.
pub(super) fn neighbours<R: Replicated>(view: &View<'_>, set: &R) -> Neighbours {
    let (mut counts, nowhere) = (Neighbours::default(), Name::EMPTY);
    let Some(owner) = set.meta().controller() else {
        return counts;
    };
    let related = view.owned_by::<R>(owner.uid);
    for related in related.filter(|it| it.meta().controller().is_some_and(|it| it.uid == owner.uid)) {
        let pods = view.owned_by::<Pod>(related.meta().uid);
        for pod in pods.filter(|pod| pod.is_active() && related.selector().matches(&pod.meta.labels)) {
            let node = pod.node.as_ref().unwrap_or(&nowhere);
            match counts.get_mut(node) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(node.clone(), 1);
                }
            }
        }
    }
    counts
}

/// The pods that go first: all in the order given if all go, else by rank (`getPodsToDelete`).
pub(super) fn first(pods: &[Rc<Pod>], count: usize, neighbours: &Neighbours, now: Now) -> Vec<Rc<Pod>> {
    if count >= pods.len() {
        return pods.to_vec();
    }
    let ranks: Vec<_> = pods.iter().map(|pod| Rank::of(pod, neighbours, now)).collect();
    let mut order: Vec<u32> = (0..pods.len() as u32).collect();
    merge_sort(&mut order, &mut |left, right| ranks[*left as usize].goes_before(&ranks[*right as usize]));
    order.iter().take(count).map(|place| pods[*place as usize].clone()).collect()
}

/// What decides about a pod, most important first.
struct Rank {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    neighbours: u32,
    ready_since: Option<Timestamp>,
    ready_magnitude: i32,
    restarts: u32,
    sidecar_restarts: u32,
    created: Timestamp,
    created_magnitude: i32,
    uid: Uid,
}

impl Rank {
    fn of(pod: &Pod, neighbours: &Neighbours, now: Now) -> Rank {
        let ready = pod.status.condition(&PodConditionType::Ready).filter(|it| it.status == ConditionStatus::True);
        let ready_since = ready.map(|ready| ready.last_transition);
        let (restarts, sidecar_restarts) = restarts(pod);
        let nowhere = Name::EMPTY;
        let node = pod.node.as_ref().unwrap_or(&nowhere);
        Rank {
            assigned: !node.is_empty(),
            phase: match pod.status.phase {
                PodPhase::Unknown => 1,
                PodPhase::Running => 2,
                _ => 0,
            },
            ready: ready.is_some(),
            cost: deletion_cost(pod),
            neighbours: neighbours.get(node).copied().unwrap_or(0),
            ready_since,
            ready_magnitude: ready_since.map_or(-1, |since| magnitude(since, now)),
            restarts,
            sidecar_restarts,
            created: pod.meta.created,
            created_magnitude: magnitude(pod.meta.created, now),
            uid: pod.meta.uid,
        }
    }

    /// True if this pod is to go before the other (kube-controller-manager, `ActivePodsWithRanks`).
    ///
    /// Times count by their order of magnitude only, so that the youngest do not always go first; among pods of the same
    /// magnitude the UID decides, which is as good as chance and the same in every run. The relation is not transitive
    /// where some times are equal and others merely similar; hence a sort that does not mind.
    fn goes_before(&self, other: &Rank) -> bool {
        let differing = self
            .assigned
            .cmp(&other.assigned)
            .then(self.phase.cmp(&other.phase))
            .then(self.ready.cmp(&other.ready))
            .then(self.cost.cmp(&other.cost))
            .then(other.neighbours.cmp(&self.neighbours));
        if differing != Ordering::Equal {
            return differing == Ordering::Less;
        }
        if self.ready && other.ready && self.ready_since != other.ready_since {
            return self.ready_magnitude.cmp(&other.ready_magnitude).then(self.uid.cmp(&other.uid)) == Ordering::Less;
        }
        let restarts = other.restarts.cmp(&self.restarts).then(other.sidecar_restarts.cmp(&self.sidecar_restarts));
        if restarts != Ordering::Equal {
            return restarts == Ordering::Less;
        }
        if self.created != other.created {
            return self.created_magnitude.cmp(&other.created_magnitude).then(self.uid.cmp(&other.uid))
                == Ordering::Less;
        }
        // The original leaves these in the order of a Go map, which is random; the UID stands for it.
        self.uid < other.uid
    }
}

/// The binary order of magnitude of the time since a date, in nanoseconds; -1 if it is not past (`logarithmicRankDiff`).
fn magnitude(date: Timestamp, now: Now) -> i32 {
    let elapsed = time::nanoseconds(now) - i128::from(date.0) * 1_000_000_000;
    elapsed.checked_ilog2().map_or(-1, |magnitude| magnitude as i32)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let Some(text) = pod.meta.annotations.get(DELETION_COST) else {
        return 0;
    };
    // Plus signs and leading zeros are not taken, as in the original.
    let plain = !text.starts_with('+') && (text.as_str() == "0" || !text.trim_start_matches('-').starts_with('0'));
    if plain { text.parse().unwrap_or(0) } else { 0 }
}

/// The most restarts of a main container and of a sidecar.
fn restarts(pod: &Pod) -> (u32, u32) {
    let most =
        |counts: &mut dyn Iterator<Item = &ContainerStatus>| counts.map(|it| it.restart_count).max().unwrap_or(0);
    let is_sidecar = |status: &&ContainerStatus| {
        let containers = pod.spec.containers.iter();
        containers.clone().any(|it| it.role == ContainerRole::Sidecar && it.name == status.name)
    };
    let main = most(&mut pod.status.containers.iter());
    (main, most(&mut pod.status.init_containers.iter().filter(is_sidecar)))
}

/// Sorts by a relation that need not be transitive; stable where neither goes before the other.
fn merge_sort<T: Clone>(items: &mut [T], goes_before: &mut impl FnMut(&T, &T) -> bool) {
    let middle = items.len() / 2;
    if middle == 0 {
        return;
    }
    merge_sort(&mut items[..middle], goes_before);
    merge_sort(&mut items[middle..], goes_before);
    if !goes_before(&items[middle], &items[middle - 1]) {
        return; // Already in order.
    }
    let left = items[..middle].to_vec();
    let (mut from_left, mut from_right) = (0, middle);
    for place in 0..items.len() {
        let Some(candidate) = left.get(from_left) else {
            return; // The rest is in place.
        };
        if from_right < items.len() && goes_before(&items[from_right], candidate) {
            items[place] = items[from_right].clone();
            from_right += 1;
        } else {
            items[place] = candidate.clone();
            from_left += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{self, now_at};
    use proptest::prelude::*;

    fn pod(uid: u128, change: impl FnOnce(&mut Pod)) -> Rc<Pod> {
        let mut pod = testing::ready_pod("p", 50);
        pod.meta.uid = Uid(uid);
        pod.meta.created = Timestamp(40);
        pod.node = Some(Name::of("node-1"));
        change(&mut pod);
        Rc::new(pod)
    }

    fn order(pods: Vec<Rc<Pod>>, neighbours: &[(&'static str, u32)]) -> Vec<u128> {
        let neighbours = neighbours.iter().map(|(node, count)| (Name::of(node), *count)).collect();
        let count = pods.len() - 1;
        first(&pods, count, &neighbours, now_at(100)).iter().map(|pod| pod.meta.uid.0).collect()
    }

    fn since(pod: &mut Pod, date: i64) {
        for condition in pod.status.conditions.iter_mut() {
            condition.last_transition = Timestamp(date);
        }
    }

    #[test]
    fn each_rule_outweighs_those_after_it() {
        let neighbours = [("node-1", 1), ("node-2", 3)];
        let restarted = |pod: &mut Pod, count| {
            pod.status.containers = [testing::container_status("app", count)].into();
        };
        let pods = vec![
            pod(9, |pod| pod.meta.created = Timestamp(-1_000_000)),
            pod(8, |_| {}),
            pod(7, |pod| restarted(pod, 3)),
            pod(6, |pod| since(pod, 99)),
            pod(5, |pod| pod.node = Some(Name::of("node-2"))),
            pod(4, |pod| {
                pod.meta.annotations = Labels::NONE.with(DELETION_COST, "-1");
            }),
            pod(3, |pod| pod.status.conditions = [].into()),
            pod(2, |pod| {
                pod.status.phase = PodPhase::Pending;
                pod.status.conditions = [].into();
            }),
            pod(1, |pod| {
                pod.node = None;
                pod.status.phase = PodPhase::Pending;
                pod.status.conditions = [].into();
            }),
        ];
        assert_eq!(order(pods, &neighbours), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn similar_ages_are_told_apart_by_uid_alone() {
        // 50 and 40 seconds are within a factor of two, 1 second is not.
        let pods = vec![pod(3, |pod| since(pod, 50)), pod(1, |pod| since(pod, 60)), pod(2, |pod| since(pod, 99))];
        assert_eq!(order(pods, &[]), [2, 1]);
    }

    #[test]
    fn a_deletion_cost_that_is_no_plain_number_counts_as_zero() {
        for (text, cost) in [("5", 5), ("-7", -7), ("0", 0), ("+5", 0), ("05", 0), ("x", 0), ("99999999999", 0)] {
            let pod = pod(1, |pod| pod.meta.annotations = Labels::NONE.with(DELETION_COST, text));
            assert_eq!(deletion_cost(&pod), cost, "{text}");
        }
    }

    use crate::api::meta::Labels;

    proptest! {
        #[test]
        fn the_merge_sort_sorts_and_is_stable(mut items in prop::collection::vec((0u8..5, 0usize..100), 0..60)) {
            for (place, item) in items.iter_mut().enumerate() {
                item.1 = place;
            }
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            merge_sort(&mut items, &mut |left, right| left.0 < right.0);
            prop_assert_eq!(items, expected);
        }

        #[test]
        fn as_many_pods_go_as_are_asked_whatever_they_look_like(
            ages in prop::collection::vec((0i64..200, prop::option::of(0i64..200), 0u32..3), 1..40),
            share in 0usize..40,
        ) {
            let pods: Vec<_> = ages.iter().enumerate().map(|(index, (created, ready, restarts))| pod(index as u128, |pod| {
                pod.meta.created = Timestamp(*created);
                pod.status.containers = [testing::container_status("app", *restarts)].into();
                match ready {
                    Some(date) => since(pod, *date),
                    None => pod.status.conditions = [].into(),
                }
            })).collect();
            let count = share.min(pods.len());
            let chosen = first(&pods, count, &Neighbours::default(), now_at(300));
            let distinct: std::collections::BTreeSet<_> = chosen.iter().map(|pod| pod.meta.uid).collect();
            prop_assert_eq!(distinct.len(), count);
            // A ready pod goes only when all pods that are not ready go.
            if chosen.iter().any(|pod| pod.status.is_ready()) {
                let rest = pods.iter().filter(|pod| !distinct.contains(&pod.meta.uid));
                prop_assert!(rest.into_iter().all(|pod| pod.status.is_ready()));
            }
        }
    }
}
