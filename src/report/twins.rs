//! When pods of one name ran at once: the identity was there twice.

use std::collections::BTreeMap;

use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::cluster::news::Twins;
use crate::engine::process::Cause;
use crate::engine::time::SimTime;

/// A time during which more than one pod of a name ran.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlap {
    /// The pods' name.
    pub key: ObjectKey,
    /// The nodes on which they ran, in the order in which their pods came.
    pub nodes: Vec<Name>,
    /// How many ran at most.
    pub most: usize,
    /// Since when.
    pub began: SimTime,
    /// Until when; none if they ran to the end of the run.
    pub ended: Option<SimTime>,
    /// The event with which it began.
    pub cause: Cause,
}

/// All such times of a run, in the order in which they began.
#[derive(Debug, Default)]
pub struct Overlaps {
    all: Vec<Overlap>,
    open: BTreeMap<ObjectKey, (usize, Vec<Uid>)>,
}

impl Overlaps {
    /// Takes the news in.
    pub fn changed(&mut self, at: SimTime, twins: &Twins) {
        if twins.alive.len() < 2 {
            if let Some((place, _)) = self.open.remove(&twins.key) {
                self.all[place].ended = Some(at);
            }
            return;
        }
        let (place, known) = self.open.entry(twins.key.clone()).or_insert_with(|| {
            let (key, cause) = (twins.key.clone(), twins.cause);
            self.all.push(Overlap { key, nodes: Vec::new(), most: 0, began: at, ended: None, cause });
            (self.all.len() - 1, Vec::new())
        });
        let overlap = &mut self.all[*place];
        overlap.most = overlap.most.max(twins.alive.len());
        for (uid, node) in &twins.alive {
            if !known.contains(uid) {
                known.push(*uid);
                overlap.nodes.push(node.clone());
            }
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Overlap] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;

    #[test]
    fn a_third_pod_of_a_name_belongs_to_the_same_time() {
        let key = ObjectKey::new(Kind::Pod, "default", "db-0");
        let twins = |pods: &[(u128, &'static str)]| {
            let alive = pods.iter().map(|(uid, node)| (Uid(*uid), Name::of(node))).collect();
            Twins { key: key.clone(), alive, cause: Cause(7) }
        };
        let at = |second: u64| SimTime::from_nanos(second * 1_000_000_000);
        let mut overlaps = Overlaps::default();
        overlaps.changed(at(10), &twins(&[(1, "a"), (2, "b")]));
        overlaps.changed(at(20), &twins(&[(1, "a"), (2, "b"), (3, "c")]));
        overlaps.changed(at(30), &twins(&[(3, "c")]));
        overlaps.changed(at(40), &twins(&[(3, "c"), (4, "d")]));
        let [first, second] = overlaps.all() else { panic!("{overlaps:?}") };
        assert_eq!((first.began, first.ended, first.most), (at(10), Some(at(30)), 3));
        assert_eq!(first.nodes, ["a", "b", "c"]);
        assert_eq!((second.began, second.ended, second.most), (at(40), None, 2));
    }
}
