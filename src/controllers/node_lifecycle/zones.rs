//! Zones: how many of their nodes are given up, and how fast.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::name::Name;
use crate::api::node::Node;
use crate::engine::time::{SimDuration, SimTime};

use super::super::config::Config;

/// How a zone is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ZoneState {
    Initial,
    Normal,
    PartialDisruption,
    FullDisruption,
}

impl ZoneState {
    pub fn name(self) -> &'static str {
        match self {
            ZoneState::Initial => "Initial",
            ZoneState::Normal => "Normal",
            ZoneState::PartialDisruption => "PartialDisruption",
            ZoneState::FullDisruption => "FullDisruption",
        }
    }

    /// From the numbers of nodes that are ready and that are not (`ComputeZoneState`).
    pub fn of(ready: usize, not_ready: usize, unhealthy_percent: usize) -> ZoneState {
        if ready == 0 && not_ready > 0 {
            ZoneState::FullDisruption
        } else if not_ready > 2 && not_ready * 100 >= unhealthy_percent * (ready + not_ready) {
            ZoneState::PartialDisruption
        } else {
            ZoneState::Normal
        }
    }
}

/// The zone of a node: its region and zone labels; one without name for all that have neither.
pub(super) fn zone_of(node: &Node) -> Name {
    let labels = &node.meta.labels;
    let label =
        |stable: &str, beta: &str| labels.get(stable).or_else(|| labels.get(beta)).map_or("", |value| value.as_str());
    let region = label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region");
    let zone = label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone");
    if region.is_empty() && zone.is_empty() { Name::EMPTY } else { Name::from(format!("{region}:\0:{zone}")) }
}

/// Nodes that are to be tainted NoExecute, oldest first, at a limited rate with a burst of one.
struct Queue {
    /// By when they were added, then by name.
    waiting: BTreeSet<(SimTime, Name)>,
    /// Also those that were taken out and tainted: they are not added again before they were ready.
    known: BTreeSet<Name>,
    /// Nodes per thousand seconds; zero for never.
    rate: u64,
    /// When the next one may go.
    free_at: SimTime,
}

impl Queue {
    fn period(rate: u64) -> SimDuration {
        SimDuration::from_nanos(1_000_000_000_000 / rate.max(1))
    }

    fn may_go(&mut self, now: SimTime) -> bool {
        let may = self.rate > 0 && now >= self.free_at;
        if may {
            self.free_at = now + Queue::period(self.rate);
        }
        may
    }

    /// Another rate begins with a full bucket, unless the old one was empty (`SwapLimiter`).
    fn set_rate(&mut self, rate: u64, now: SimTime) {
        if rate == self.rate {
            return;
        }
        let was_free = self.may_go(now);
        self.rate = rate;
        self.free_at = if was_free || rate == 0 { now } else { now + Queue::period(rate) };
    }

    fn remove(&mut self, name: &Name) {
        if self.known.remove(name) {
            self.waiting.retain(|(_, waiting)| waiting != name);
        }
    }
}

/// A zone.
struct Zone {
    state: ZoneState,
    queue: Queue,
}

/// All zones.
pub(super) struct Zones {
    zones: BTreeMap<Name, Zone>,
    rate: u64,
    secondary_rate: u64,
    large_size: usize,
    unhealthy_percent: usize,
}

/// What a pass over all nodes means for the zones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disruption {
    /// Nothing beyond the zones' own rates.
    AsUsual,
    /// No node is ready any more: all evictions stop and the taints are taken off.
    Entered,
    /// Some node is ready again: every node gets a new grace.
    Left,
}

impl Zones {
    pub fn new(config: &Config) -> Self {
        Zones {
            zones: BTreeMap::new(),
            rate: config.node_eviction_rate,
            secondary_rate: config.secondary_node_eviction_rate,
            large_size: config.large_cluster_size,
            unhealthy_percent: config.unhealthy_zone_percent,
        }
    }

    pub fn state(&self, zone: &Name) -> Option<ZoneState> {
        self.zones.get(zone).map(|zone| zone.state)
    }

    /// Makes a node's zone known (`addPodEvictorForNewZone`).
    pub fn add(&mut self, zone: &Name) {
        if !self.zones.contains_key(zone) {
            let (waiting, known) = (BTreeSet::new(), BTreeSet::new());
            let queue = Queue { waiting, known, rate: self.rate, free_at: SimTime::ZERO };
            self.zones.insert(zone.clone(), Zone { state: ZoneState::Initial, queue });
        }
    }

    /// Puts a node into its zone's queue; anew if it has not got the taint yet (`markNodeForTainting`).
    pub fn enqueue(&mut self, node: &Node, is_tainted: bool, now: SimTime) {
        let Some(zone) = self.zones.get_mut(&zone_of(node)) else {
            return;
        };
        if !is_tainted {
            zone.queue.remove(&node.meta.name);
        }
        if zone.queue.known.insert(node.meta.name.clone()) {
            zone.queue.waiting.insert((now, node.meta.name.clone()));
        }
    }

    /// Puts a node back that could not be tainted, unless it was taken out meanwhile.
    pub fn enqueue_again(&mut self, node: &Node, now: SimTime) -> bool {
        match self.zones.get_mut(&zone_of(node)) {
            Some(zone) if zone.queue.known.contains(&node.meta.name) => {
                zone.queue.waiting.insert((now, node.meta.name.clone()))
            }
            _ => false,
        }
    }

    /// Takes a node out of its zone's queue: it is ready.
    pub fn dequeue(&mut self, node: &Node) {
        if self.zones.values().all(|zone| zone.queue.known.is_empty()) {
            return; // All is well, as nearly always.
        }
        if let Some(zone) = self.zones.get_mut(&zone_of(node)) {
            zone.queue.remove(&node.meta.name);
        }
    }

    /// The next node that may be tainted now, of any zone (`RateLimitedTimedQueue.Try`).
    pub fn next_to_taint(&mut self, now: SimTime) -> Option<Name> {
        let mut zones = self.zones.values_mut();
        let zone = zones.find_map(|zone| (!zone.queue.waiting.is_empty() && zone.queue.may_go(now)).then_some(zone))?;
        zone.queue.waiting.pop_first().map(|(_, name)| name)
    }

    /// Judges the zones by how many of their nodes are ready and are not, and sets their rates (`handleDisruption`). When no
    /// node is ready any more, that is left to [`Zones::stop`], after the taints have been taken off.
    pub fn judge(&mut self, counts: &BTreeMap<Name, (usize, usize)>, now: SimTime) -> Disruption {
        let percent = self.unhealthy_percent;
        let of = |(ready, not_ready): (usize, usize)| ZoneState::of(ready, not_ready, percent);
        let all_are_down = counts.values().all(|count| of(*count) == ZoneState::FullDisruption);
        self.zones.retain(|name, _| counts.contains_key(name));
        let all_were_down = self.zones.values().all(|zone| zone.state == ZoneState::FullDisruption);
        if all_are_down {
            return if all_were_down { Disruption::AsUsual } else { Disruption::Entered };
        }
        let (rate, secondary, large) = (self.rate, self.secondary_rate, self.large_size);
        for (name, zone) in &mut self.zones {
            let count = counts.get(name).copied().unwrap_or_default();
            let state = of(count);
            if state != zone.state || all_were_down {
                let partial = if count.0 + count.1 > large { secondary } else { 0 };
                zone.queue.set_rate(if state == ZoneState::PartialDisruption { partial } else { rate }, now);
                zone.state = state;
            }
        }
        if all_were_down { Disruption::Left } else { Disruption::AsUsual }
    }

    /// No node is ready, and all taints have been taken off: from now on none is given. A node whose turn it was while they
    /// were taken off keeps the one that it was given then.
    pub fn stop(&mut self, now: SimTime) {
        for zone in self.zones.values_mut() {
            zone.queue.set_rate(0, now);
            zone.state = ZoneState::FullDisruption;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing;

    #[test]
    fn the_state_of_a_zone_follows_from_its_numbers() {
        let table = [
            (10, 0, ZoneState::Normal),
            (0, 0, ZoneState::Normal),
            (0, 1, ZoneState::FullDisruption),
            (0, 10, ZoneState::FullDisruption),
            (1, 2, ZoneState::Normal),
            (2, 3, ZoneState::PartialDisruption),
            (5, 5, ZoneState::Normal),
            (4, 6, ZoneState::PartialDisruption),
            (9, 11, ZoneState::PartialDisruption),
        ];
        for (ready, not_ready, state) in table {
            assert_eq!(ZoneState::of(ready, not_ready, 55), state, "{ready} ready, {not_ready} not");
        }
    }

    fn zones(nodes: usize) -> (Zones, Vec<Node>) {
        let mut zones = Zones::new(&Config::default());
        let nodes: Vec<_> = (0..nodes).map(|number| testing::node(&format!("node-{number}"))).collect();
        nodes.iter().for_each(|node| zones.add(&zone_of(node)));
        (zones, nodes)
    }

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO + SimDuration::from_secs(seconds)
    }

    #[test]
    fn nodes_are_given_up_one_in_ten_seconds() {
        let (mut zones, nodes) = zones(3);
        nodes.iter().for_each(|node| zones.enqueue(node, false, at(100)));
        let mut taken = Vec::new();
        for second in 100..130 {
            while let Some(name) = zones.next_to_taint(at(second)) {
                taken.push((second, name.to_string()));
            }
        }
        let taken: Vec<_> = taken.iter().map(|(second, name)| (*second, name.as_str())).collect();
        assert_eq!(taken, [(100, "node-0"), (110, "node-1"), (120, "node-2")]);
        zones.enqueue(&nodes[0], true, at(140));
        assert_eq!(zones.next_to_taint(at(140)), None, "a tainted node is not given up twice");
        zones.dequeue(&nodes[0]);
        zones.enqueue(&nodes[0], false, at(141));
        assert_eq!(zones.next_to_taint(at(141)).as_deref(), Some("node-0"));
    }

    #[test]
    fn a_small_zone_that_is_partly_down_gives_up_no_node_and_a_large_one_one_in_a_hundred_seconds() {
        for (size, expected) in [(10usize, 0usize), (60, 2)] {
            let (mut zones, nodes) = zones(size);
            let down = size * 6 / 10;
            let counts = BTreeMap::from([(Name::EMPTY, (size - down, down))]);
            assert_eq!(zones.judge(&counts, at(100)), Disruption::AsUsual);
            assert_eq!(zones.state(&Name::EMPTY), Some(ZoneState::PartialDisruption));
            nodes[..down].iter().for_each(|node| zones.enqueue(node, false, at(100)));
            let taken = (100..250).filter(|second| zones.next_to_taint(at(*second)).is_some()).count();
            assert_eq!(taken, expected, "of {size}");
        }
    }

    #[test]
    fn the_loss_of_all_nodes_stops_everything_until_one_is_back() {
        let (mut zones, nodes) = zones(2);
        let judge = |zones: &mut Zones, ready, not_ready, second| {
            zones.judge(&BTreeMap::from([(Name::EMPTY, (ready, not_ready))]), at(second))
        };
        assert_eq!(judge(&mut zones, 2, 0, 1), Disruption::AsUsual);
        assert_eq!(judge(&mut zones, 0, 2, 6), Disruption::Entered);
        zones.stop(at(6));
        zones.enqueue(&nodes[0], false, at(6));
        assert_eq!(judge(&mut zones, 0, 2, 11), Disruption::AsUsual);
        assert_eq!(zones.next_to_taint(at(1000)), None);
        assert_eq!(judge(&mut zones, 1, 1, 1001), Disruption::Left);
        assert_eq!(zones.next_to_taint(at(1001)), None, "the bucket begins empty");
        assert_eq!(zones.next_to_taint(at(1011)).as_deref(), Some("node-0"));
    }
}
