//! Whether pods of one name run at once: one that the API has, and older ones that it no longer has but whose containers run on.
//!
//! That can only be where a pod was taken out of the API without its kubelet (forced, by the pod garbage collector, by a
//! finalizer). So only pods that run while they are deleted are remembered, and only what happens on their nodes and on those
//! of their successors is looked at: a run in which no such thing happens pays one question for each deletion.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::process::Cause;

use super::news::{News, Twins, Write};
use super::world::World;

/// A pod that is gone from the API and whose containers ran on.
#[derive(Clone, Debug)]
struct Ghost {
    uid: Uid,
    node: u32,
}

/// The pods that are gone and run on, by name.
#[derive(Debug, Default)]
pub(super) struct Incarnations {
    ghosts: BTreeMap<ObjectKey, Vec<Ghost>>,
    /// The names that what happens on a node concerns.
    concerned: BTreeMap<u32, BTreeSet<ObjectKey>>,
    /// How many of a name ran at the last look, where that was more than one.
    told: BTreeMap<ObjectKey, usize>,
}

impl World {
    /// Takes note of a write of a pod.
    pub(super) fn follow_identity(&mut self, write: &Write) {
        if write.key.kind != Kind::Pod {
            return;
        }
        let of = |object: &Option<Object>| object.as_ref().and_then(Object::get::<Pod>).cloned();
        match (of(&write.old), of(&write.new)) {
            (Some(old), None) => {
                let Some(node) = old.node.as_ref().and_then(|node| self.node_of(node)) else { return };
                if self.nodes[node as usize].runs(old.meta.uid) {
                    let ghost = Ghost { uid: old.meta.uid, node };
                    self.incarnations.ghosts.entry(write.key.clone()).or_default().push(ghost);
                    self.incarnations.concerned.entry(node).or_default().insert(write.key.clone());
                    self.count_lives(&write.key, write.cause);
                }
            }
            (_, Some(new)) if self.incarnations.ghosts.contains_key(&write.key) => {
                if let Some(node) = new.node.as_ref().and_then(|node| self.node_of(node)) {
                    self.incarnations.concerned.entry(node).or_default().insert(write.key.clone());
                    self.count_lives(&write.key, write.cause);
                }
            }
            _ => {}
        }
    }

    /// The place of a node's machine.
    fn node_of(&self, name: &str) -> Option<u32> {
        self.places.get(name).copied()
    }

    /// Something has happened on a node: if containers began or ended, counts again those whom that concerns.
    pub(super) fn look_at_lives(&mut self, node: u32, cause: Cause) {
        let Some(concerned) = self.incarnations.concerned.get(&node) else { return };
        if !self.nodes[node as usize].take_stirred() {
            return;
        }
        for key in concerned.clone() {
            self.count_lives(&key, cause);
        }
    }

    /// Counts how many pods of a name run, forgets those that have ended, and tells if it is another number than before.
    fn count_lives(&mut self, key: &ObjectKey, cause: Cause) {
        let ghosts = self.incarnations.ghosts.remove(key).unwrap_or_default();
        let ghosts: Vec<Ghost> =
            ghosts.into_iter().filter(|ghost| self.nodes[ghost.node as usize].runs(ghost.uid)).collect();
        let mut alive: Vec<(Uid, Name)> =
            ghosts.iter().map(|ghost| (ghost.uid, self.nodes[ghost.node as usize].name().clone())).collect();
        let successor = self.truth.get(Kind::Pod, &key.namespace, &key.name).and_then(Object::get::<Pod>);
        if let Some((pod, node)) = successor.and_then(|pod| Some((pod, pod.node.as_ref()?)))
            && self.node_of(node).is_some_and(|place| self.nodes[place as usize].runs(pod.meta.uid))
        {
            alive.push((pod.meta.uid, node.clone()));
        }
        if ghosts.is_empty() {
            self.incarnations.concerned.retain(|_, keys| {
                keys.remove(key);
                !keys.is_empty()
            });
        } else {
            self.incarnations.ghosts.insert(key.clone(), ghosts);
        }
        let told = self.incarnations.told.get(key).copied().unwrap_or(0);
        let count = if alive.len() > 1 { alive.len() } else { 0 };
        if count == told {
            return;
        }
        match count {
            0 => drop(self.incarnations.told.remove(key)),
            _ => drop(self.incarnations.told.insert(key.clone(), count)),
        }
        self.news.push_back(News::Twins(Box::new(Twins { key: key.clone(), alive, cause })));
    }
}
