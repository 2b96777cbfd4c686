//! Pods by those labels that somebody looks for, kept up to date with the cache: so that a disruption budget finds its pods
//! without a look at all pods of its namespace.
//!
//! A key is indexed once a selector has asked for one value of it; most clusters have few such keys.

use std::cmp::Ordering;

use crate::api::meta::Meta;
use crate::api::name::Name;
use crate::api::selector::Selector;
use crate::engine::hash::Map;
use crate::engine::order::Order;

/// Pods by label.
#[derive(Default)]
pub(super) struct ByLabel {
    keys: Vec<Name>,
    places: Map<(Name, Name, Name), Order>,
}

impl ByLabel {
    /// The key that has to be indexed so that a selector's pods are found; none if there is one, or none would help.
    pub fn wanted(&self, selector: &Selector) -> Option<Name> {
        if self.key_of(selector).is_some() {
            return None;
        }
        let keys = selector.requirements().iter().map(|requirement| requirement.key());
        keys.into_iter().find(|key| selector.exact(key).is_some()).map(Name::from)
    }

    /// Indexes a key from now on; the pods that are there have to be added.
    pub fn add_key(&mut self, key: Name) {
        self.keys.push(key);
    }

    /// Adds a pod under a key.
    pub fn add_under(&mut self, key: &Name, meta: &Meta, slot: u32) {
        if let Some(value) = meta.labels.get(key) {
            let place = (meta.namespace.clone(), key.clone(), value.clone());
            self.places.entry(place).or_default().insert(slot);
        }
    }

    /// Adds a pod.
    pub fn add(&mut self, meta: &Meta, slot: u32) {
        for place in 0..self.keys.len() {
            let key = self.keys[place].clone();
            self.add_under(&key, meta, slot);
        }
    }

    /// Takes a pod out.
    pub fn remove(&mut self, meta: &Meta, slot: u32, in_order: impl Fn(u32, u32) -> Ordering + Copy) {
        for key in &self.keys {
            let Some(value) = meta.labels.get(key) else { continue };
            let place = (meta.namespace.clone(), key.clone(), value.clone());
            if let Some(order) = self.places.get_mut(&place) {
                order.remove(slot, in_order);
                if order.is_empty() {
                    self.places.remove(&place);
                }
            }
        }
    }

    /// The pods among which those of a selector are; none if nothing is known.
    pub fn candidates(&self, namespace: &Name, selector: &Selector) -> Option<Option<&Order>> {
        let (key, value) = self.key_of(selector)?;
        Some(self.places.get(&(namespace.clone(), key.clone(), Name::from(value))))
    }

    fn key_of<'s>(&self, selector: &'s Selector) -> Option<(&Name, &'s str)> {
        self.keys.iter().find_map(|key| Some((key, selector.exact(key)?)))
    }
}
