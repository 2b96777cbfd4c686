//! The order in which nodes are tried: in turns over the zones, so that a part of the list has nodes of all of them
//! (kube-scheduler, `backend/cache/node_tree.go`).

use std::rc::Rc;

use crate::api::name::Name;
use crate::api::node::Node;

/// A region and a zone.
type Zone = (Name, Name);

/// Nodes by zone, zones in the order in which they were first seen.
#[derive(Default)]
pub struct NodeTree {
    zones: Vec<(Rc<Zone>, Vec<u32>)>,
    /// The zone of each node, by its number.
    zone_of: Vec<Option<Rc<Zone>>>,
}

impl NodeTree {
    /// Takes a node in under its number; true if it is new or its zone changed.
    pub fn set(&mut self, number: u32, node: &Node) -> bool {
        let zone = zone(node);
        let place = number as usize;
        if self.zone_of.get(place).and_then(Option::as_deref) == Some(&zone) {
            return false;
        }
        self.remove(number);
        let known = self.zones.iter().position(|(there, _)| **there == zone);
        let known = known.unwrap_or_else(|| {
            self.zones.push((Rc::new(zone), Vec::new()));
            self.zones.len() - 1
        });
        let (zone, nodes) = &mut self.zones[known];
        nodes.push(number);
        if self.zone_of.len() <= place {
            self.zone_of.resize(place + 1, None);
        }
        self.zone_of[place] = Some(zone.clone());
        true
    }

    /// Takes a node out.
    pub fn remove(&mut self, number: u32) {
        let Some(zone) = self.zone_of.get_mut(number as usize).and_then(Option::take) else { return };
        if let Some((_, nodes)) = self.zones.iter_mut().find(|(there, _)| *there == zone) {
            nodes.retain(|node| *node != number);
        }
        self.zones.retain(|(_, nodes)| !nodes.is_empty());
    }

    /// All nodes: the first of each zone, the second of each zone, and so on.
    pub fn list(&self) -> Vec<u32> {
        let longest = self.zones.iter().map(|(_, nodes)| nodes.len()).max().unwrap_or(0);
        let round = |index: usize| self.zones.iter().filter_map(move |(_, nodes)| nodes.get(index).copied());
        (0..longest).flat_map(round).collect()
    }
}

/// A node's region and zone; the labels of old win (component-helpers, `GetZoneKey`).
fn zone(node: &Node) -> Zone {
    let label = |old: &str, new: &str| {
        let labels = &node.meta.labels;
        labels.get(old).or_else(|| labels.get(new)).cloned().unwrap_or_default()
    };
    (
        label("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        label("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    )
}
