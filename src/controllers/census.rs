//! What control loops find out about the pods of an owner, kept from one look to the next.
//!
//! A pod is judged once for each of its versions. The next look passes over those whose version is the same, which it sees without
//! touching them; so that a control loop that has to weigh all pods of an owner goes through a list of facts, and searches no labels.
//! Lost with the process, and then made anew.

use std::rc::Rc;

use crate::api::meta::Uid;
use crate::api::pod::Pod;
use crate::api::selector::Selector;
use crate::engine::hash::Map;

/// A pod, and what was found out about this version of it.
#[derive(Clone, Debug)]
pub struct Known<F> {
    /// The pod.
    pub pod: Rc<Pod>,
    /// It is its owner's, as it should be: there is nothing to adopt or to release (`Claim::Owned`).
    pub is_owned: bool,
    /// What else was found out.
    pub facts: F,
}

/// The pods that a sync begins with.
pub struct Found<F> {
    /// Those of the owner, by name.
    pub own: Rc<Vec<Known<F>>>,
    /// Those that nobody owns and that could be the owner's, by name.
    pub orphans: Vec<Rc<Pod>>,
}

impl<F> Found<F> {
    /// All of them, if there is nothing to adopt or to release, which is the rule.
    pub fn settled(&self) -> Option<&Rc<Vec<Known<F>>>> {
        let is_settled = self.orphans.is_empty() && self.own.iter().all(|known| known.is_owned);
        is_settled.then_some(&self.own)
    }

    /// Those to be claimed.
    pub fn candidates(&self, owner: Uid) -> Vec<Rc<Pod>> {
        let is_own = |pod: &&Rc<Pod>| pod.meta.controller().is_some_and(|controller| controller.uid == owner);
        self.own.iter().map(|known| &known.pod).filter(is_own).chain(&self.orphans).cloned().collect()
    }
}

/// The pods of all owners that were looked at.
pub struct Census<F> {
    by_owner: Map<Uid, Owned<F>>,
}

/// The pods of one owner, by name.
struct Owned<F> {
    /// By which they were judged.
    selector: Rc<Selector>,
    pods: Rc<Vec<Known<F>>>,
}

impl<F> Default for Census<F> {
    fn default() -> Self {
        Census { by_owner: Map::default() }
    }
}

impl<F: Clone> Census<F> {
    /// Looks at the pods that name an owner, which come by name, and judges those that are new. What is found out must follow from
    /// the pod, the owner's incarnation and its selector alone.
    pub fn look<'a>(
        &mut self,
        owner: Uid,
        selector: &Rc<Selector>,
        pods: impl Iterator<Item = &'a Rc<Pod>>,
        judge: impl Fn(Rc<Pod>) -> Known<F>,
    ) -> Rc<Vec<Known<F>>> {
        let begin = || Owned { selector: selector.clone(), pods: Rc::default() };
        let owned = self.by_owner.entry(owner).or_insert_with(begin);
        if !Rc::ptr_eq(&owned.selector, selector) {
            *owned = begin();
        }
        // Nobody else holds them, unless a sync of the same owner is still under way.
        let known = Rc::make_mut(&mut owned.pods);
        let mut place = 0;
        for pod in pods {
            if known.get(place).is_none_or(|known| !Rc::ptr_eq(&known.pod, pod)) {
                take_in(known, place, pod, &judge);
            }
            place += 1;
        }
        known.truncate(place);
        owned.pods.clone()
    }

    /// An owner is gone, or will not be looked at again.
    pub fn forget(&mut self, owner: Uid) {
        self.by_owner.remove(&owner);
    }
}

/// Puts a pod at its place in a list by name: instead of another version of it, and of those that came before and are gone.
fn take_in<F>(known: &mut Vec<Known<F>>, place: usize, pod: &Rc<Pod>, judge: impl Fn(Rc<Pod>) -> Known<F>) {
    let name = &pod.meta.name;
    let gone = known[place..].iter().take_while(|known| known.pod.meta.name < *name).count();
    known.drain(place..place + gone);
    match known.get_mut(place) {
        Some(same) if Rc::ptr_eq(&same.pod, pod) => {}
        Some(old) if old.pod.meta.name == *name => *old = judge(pod.clone()),
        _ => known.insert(place, judge(pod.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::ready_pod;
    use crate::engine::random::Seed;
    use std::cell::Cell;
    use std::collections::BTreeMap;

    /// Which version of a pod this is: pods of the test are ready since then.
    fn version(pod: &Pod) -> i64 {
        pod.status.conditions[0].last_transition.0
    }

    #[test]
    fn each_version_of_a_pod_is_judged_once_and_what_is_known_is_what_a_new_look_finds() {
        let mut chance = Seed(5).stream("census", "test");
        let (mut census, selector) = (Census::default(), Rc::new(Selector::everything()));
        let mut pods: BTreeMap<String, Rc<Pod>> = BTreeMap::new();
        let (mut newest, judged) = (0, Cell::new(0));
        for _ in 0..3_000 {
            let mut changed = 0;
            for _ in 0..chance.below(4) {
                let name = format!("pod-{}", chance.below(12));
                if chance.ratio(1, 3) {
                    pods.remove(&name);
                } else {
                    (newest, changed) = (newest + 1, changed + 1);
                    pods.insert(name.clone(), Rc::new(ready_pod(&name, newest)));
                }
            }
            judged.set(0);
            let judge = |pod: Rc<Pod>| {
                judged.set(judged.get() + 1);
                Known { is_owned: true, facts: version(&pod), pod }
            };
            let known = census.look(Uid(1), &selector, pods.values(), judge);
            assert!(judged.get() <= changed, "{} were judged, {changed} changed", judged.get());
            assert!(known.iter().map(|known| Rc::as_ptr(&known.pod)).eq(pods.values().map(Rc::as_ptr)));
            assert!(known.iter().all(|known| known.facts == version(&known.pod)));
        }
    }

    #[test]
    fn what_was_found_out_does_not_outlive_the_selector_nor_the_owner() {
        let pods = ["a", "b"].map(|name| Rc::new(ready_pod(name, 1)));
        let (one, other) = (Rc::new(Selector::everything()), Rc::new(Selector::everything()));
        let mut census = Census::default();
        let mut look = |selector: &Rc<Selector>, forget: bool, facts: i64| {
            if forget {
                census.forget(Uid(1));
            }
            let known = census.look(Uid(1), selector, pods.iter(), |pod| Known { pod, is_owned: true, facts });
            known.iter().map(|known| known.facts).collect::<Vec<_>>()
        };
        assert_eq!([look(&one, false, 1), look(&one, false, 2)], [[1, 1], [1, 1]]);
        assert_eq!([look(&other, false, 3), look(&other, true, 4)], [[3, 3], [4, 4]]);
    }
}
