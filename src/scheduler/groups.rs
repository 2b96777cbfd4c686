//! Pods that no other pod can tell apart: of one namespace, with the same labels but for those that are each pod's own
//! (`individual`), all or none of them being deleted, and with the same affinity to other pods. What a plugin thinks of one of
//! them it thinks of all, so that it need not look at each; unless it asks for labels that are each pod's own: then it has to.
//!
//! Every pod that comes to a node or leaves it is one entry in a log, from which whoever keeps counts can catch up.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::individual;
use super::node_info::has_affinity;
use super::terms::Terms;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::pod::{Pod, PodSpec};
use crate::api::selector::{Requirement, Selector};
use crate::engine::hash::Map;

/// So many entries of a log are kept.
const KEPT: usize = 8192;

/// So many groups without a pod are kept before all such are forgotten.
const EMPTY: usize = 1024;

/// Not a group: the entry says that a node changed in itself.
pub const NO_GROUP: u32 = u32::MAX;

/// Pods that are alike.
pub struct Group {
    /// Their namespace.
    pub namespace: Name,
    /// Their labels, without those that are each pod's own.
    pub labels: Labels,
    /// True if they are being deleted.
    pub is_deleting: bool,
    /// Their affinity to other pods, if they have any.
    pub terms: Option<Terms>,
    /// How many are on each node, by the node's slot.
    on: Map<u32, u32>,
    pods: u32,
}

/// An entry of the log.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The slot of the node.
    pub slot: u32,
    /// The group of the pod that came or went, or [`NO_GROUP`].
    pub group: u32,
    /// One for a pod that came, minus one for one that went.
    pub count: i32,
    /// True if the pod is on the node before and after, and nothing but its labels is another.
    pub stays: bool,
}

/// All groups, and the log.
#[derive(Default)]
pub struct Groups {
    all: Vec<Group>,
    by_key: Map<Key, u32>,
    empty: usize,
    /// Those with terms, in order.
    with_terms: Vec<u32>,
    /// Those with each label, in order.
    by_label: Map<(Name, Name), Vec<u32>>,
    /// True once there was a group whose terms tell the pods of one workload apart.
    tell_individuals: bool,
    /// Moves when groups get other numbers.
    version: u64,
    log: Log<Change>,
    /// The pod that was assumed last: many of one kind come after one another.
    last_assumed: Option<(Like, u32)>,
}

/// What makes pods be of one group, as they share it in memory.
struct Like {
    namespace: Name,
    labels: Labels,
    is_deleting: bool,
    spec: Rc<PodSpec>,
}

/// The last entries of a log that goes on for ever.
pub struct Log<T> {
    entries: VecDeque<T>,
    /// The number of the first entry that is still known.
    first: u64,
    /// So many entries are kept.
    kept: usize,
}

impl<T: Copy> Default for Log<T> {
    fn default() -> Self {
        Log::of(KEPT)
    }
}

impl<T: Copy> Log<T> {
    /// A log of which so many entries are kept.
    pub(super) fn of(kept: usize) -> Self {
        Log { entries: VecDeque::new(), first: 0, kept }
    }

    /// The number that the next entry gets.
    pub fn position(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The entries since a position; none if some of them are no longer known.
    pub fn since(&self, position: u64) -> Option<impl Iterator<Item = T>> {
        let skip = usize::try_from(position.checked_sub(self.first)?).ok()?;
        Some(self.entries.range(skip.min(self.entries.len())..).copied())
    }

    /// Adds an entry.
    pub(super) fn note(&mut self, entry: T) {
        if self.entries.len() == self.kept {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(entry);
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    namespace: Name,
    labels: Labels,
    is_deleting: bool,
    /// Specifications with affinity are told apart by where they are; the key keeps them there.
    spec: Option<SameSpec>,
}

#[derive(Clone)]
struct SameSpec(Rc<PodSpec>);

impl PartialEq for SameSpec {
    fn eq(&self, other: &SameSpec) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SameSpec {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.namespace.hash(state);
        self.labels.pairs().hash(state);
        self.is_deleting.hash(state);
    }
}

impl Key {
    fn of(pod: &Pod) -> Self {
        Key {
            namespace: pod.meta.namespace.clone(),
            labels: individual::without(&pod.meta.labels),
            is_deleting: pod.meta.is_deleting(),
            spec: has_affinity(&pod.spec).then(|| SameSpec(pod.spec.clone())),
        }
    }
}

impl Like {
    fn is_like(&self, pod: &Pod) -> bool {
        Rc::ptr_eq(&self.spec, &pod.spec)
            && self.labels.same(&pod.meta.labels)
            && self.is_deleting == pod.meta.is_deleting()
            && self.namespace == pod.meta.namespace
    }
}

impl Group {
    /// How many of its pods are on each node, by slot, in no order.
    pub fn on(&self) -> impl Iterator<Item = (u32, u32)> {
        self.on.iter().map(|(slot, pods)| (*slot, *pods))
    }
}

impl Groups {
    /// All groups; some may be empty.
    pub fn all(&self) -> &[Group] {
        &self.all
    }

    /// The numbers of those whose pods have terms, in order.
    pub fn with_terms(&self) -> impl Iterator<Item = usize> {
        self.with_terms.iter().map(|number| *number as usize)
    }

    /// The numbers of all whose pods a selector may match, in order.
    pub fn candidates(&self, selector: &Selector) -> impl Iterator<Item = usize> {
        let exact = |requirement: &Requirement| {
            let key = requirement.key();
            Some((Name::from(key), Name::from(selector.exact(key)?)))
        };
        let label = selector.requirements().iter().find_map(exact);
        let (all, with_label) = match label {
            Some(label) => (0, self.by_label.get(&label).map_or(&[][..], Vec::as_slice)),
            None => (self.all.len(), &[][..]),
        };
        (0..all).chain(with_label.iter().map(|number| *number as usize))
    }

    /// True once there was a pod with a term that tells the pods of one workload apart.
    pub fn tell_individuals(&self) -> bool {
        self.tell_individuals
    }

    /// Moves when groups get other numbers.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The number that the next entry of the log gets.
    pub fn position(&self) -> u64 {
        self.log.position()
    }

    /// The entries since a position; none if some of them are no longer known.
    pub fn since(&self, position: u64) -> Option<impl Iterator<Item = Change>> {
        self.log.since(position)
    }

    /// The group of a pod that is assumed to be on a node, made if there is none.
    pub(super) fn of_assumed(&mut self, pod: &Pod) -> u32 {
        if let Some((like, number)) = &self.last_assumed
            && like.is_like(pod)
        {
            return *number;
        }
        let number = self.of(pod);
        let (namespace, labels) = (pod.meta.namespace.clone(), pod.meta.labels.clone());
        let like = Like { namespace, labels, is_deleting: pod.meta.is_deleting(), spec: pod.spec.clone() };
        self.last_assumed = Some((like, number));
        number
    }

    /// The group of a pod, made if there is none.
    pub(super) fn of(&mut self, pod: &Pod) -> u32 {
        let key = Key::of(pod);
        if let Some(number) = self.by_key.get(&key) {
            return *number;
        }
        let number = self.all.len() as u32;
        let terms = key.spec.as_ref().map(|spec| Terms::compile(&spec.0, &key.namespace));
        self.tell_individuals |= terms.as_ref().is_some_and(Terms::tell_individuals);
        self.all.push(Group {
            namespace: key.namespace.clone(),
            labels: key.labels.clone(),
            is_deleting: key.is_deleting,
            terms,
            on: Map::default(),
            pods: 0,
        });
        self.by_key.insert(key, number);
        self.index(number);
        self.empty += 1;
        number
    }

    fn index(&mut self, number: u32) {
        let group = &self.all[number as usize];
        if group.terms.is_some() {
            self.with_terms.push(number);
        }
        for label in group.labels.pairs() {
            self.by_label.entry(label.clone()).or_default().push(number);
        }
    }

    /// A pod of a group came to a node.
    pub(super) fn add(&mut self, number: u32, slot: u32) {
        self.count(number, slot);
        self.log.note(Change { slot, group: number, count: 1, stays: false });
    }

    /// A pod that stays on its node is of another group than before. True as [`Groups::remove`] says.
    pub(super) fn swap(&mut self, old: u32, new: u32, slot: u32) -> bool {
        self.count(new, slot);
        self.log.note(Change { slot, group: new, count: 1, stays: true });
        self.log.note(Change { slot, group: old, count: -1, stays: true });
        self.uncount(old, slot)
    }

    /// A pod of a group left a node. True if there are now so many groups without pods that they had better be forgotten.
    pub(super) fn remove(&mut self, number: u32, slot: u32) -> bool {
        self.log.note(Change { slot, group: number, count: -1, stays: false });
        self.uncount(number, slot)
    }

    fn count(&mut self, number: u32, slot: u32) {
        let group = &mut self.all[number as usize];
        *group.on.entry(slot).or_default() += 1;
        self.empty -= usize::from(group.pods == 0);
        group.pods += 1;
    }

    fn uncount(&mut self, number: u32, slot: u32) -> bool {
        let group = &mut self.all[number as usize];
        if let Some(pods) = group.on.get_mut(&slot) {
            *pods -= 1;
            if *pods == 0 {
                group.on.remove(&slot);
            }
        }
        group.pods -= 1;
        self.empty += usize::from(group.pods == 0);
        self.empty > EMPTY && self.empty * 2 > self.all.len()
    }

    /// A node changed in itself.
    pub(super) fn node_changed(&mut self, slot: u32) {
        self.log.note(Change { slot, group: NO_GROUP, count: 0, stays: false });
    }

    /// Forgets groups without pods; says which number each old one has now.
    pub(super) fn forget_empty(&mut self) -> Vec<u32> {
        let mut new = 0..;
        let numbers: Vec<u32> =
            self.all.iter().map(|group| if group.pods == 0 { NO_GROUP } else { new.next().unwrap_or(0) }).collect();
        self.all.retain(|group| group.pods > 0);
        self.with_terms.clear();
        self.by_label.clear();
        (0..self.all.len() as u32).for_each(|number| self.index(number));
        self.by_key.retain(|_, number| {
            *number = numbers[*number as usize];
            *number != NO_GROUP
        });
        self.empty = 0;
        self.version += 1;
        self.last_assumed = None;
        numbers
    }
}
