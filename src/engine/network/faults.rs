//! What breaks, how the processes learn of it, and what happens when it works again.

use super::connection::{Held, Resumption, chance};
use super::{Loss, MachineId, Network, Notice, Patience, Ticket};
use crate::engine::process::ProcessId;
use crate::engine::random::Ratio;
use crate::engine::time::{SimDuration, SimTime};
use std::collections::BTreeSet;

/// Identifies a partition that was made, so that it can be healed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId(pub u32);

/// What a partition between two sets of machines stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Directions {
    /// Everything between the sets.
    Both,
    /// Only what the first set sends to the second.
    FirstToSecond,
}

#[derive(Debug)]
pub(super) struct Partition {
    id: PartitionId,
    first: BTreeSet<MachineId>,
    second: BTreeSet<MachineId>,
    directions: Directions,
}

impl Partition {
    fn stops(&self, from: MachineId, to: MachineId) -> bool {
        let forward = self.first.contains(&from) && self.second.contains(&to);
        let backward = self.second.contains(&from) && self.first.contains(&to);
        from != to && (forward || (backward && self.directions == Directions::Both))
    }
}

impl Network {
    /// Stops all packets between two sets of machines, in one direction or in both. Messages are held back, and connections
    /// break if it lasts longer than the keepalive timeout.
    pub fn partition(
        &mut self,
        now: SimTime,
        first: impl IntoIterator<Item = MachineId>,
        second: impl IntoIterator<Item = MachineId>,
        directions: Directions,
    ) -> PartitionId {
        let id = PartitionId(self.next_partition);
        self.next_partition += 1;
        let (first, second) = (first.into_iter().collect(), second.into_iter().collect());
        self.partitions.push(Partition { id, first, second, directions });
        self.update_links(now);
        self.check_silence(now);
        id
    }

    /// Ends a partition. What was held back goes out with the next retransmission. A partition that was healed before is ignored.
    pub fn heal(&mut self, now: SimTime, id: PartitionId) {
        self.partitions.retain(|partition| partition.id != id);
        self.update_links(now);
        self.resume(now);
    }

    /// A process dies; its machine tells all peers that can be reached.
    pub fn crash(&mut self, now: SimTime, process: ProcessId) {
        let state = &mut self.processes[process.0 as usize];
        if !state.alive {
            return;
        }
        state.alive = false;
        state.epoch += 1;
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            let Some(side) = connection.ends.iter().position(|&end| end == process) else { continue };
            connection.directions[side].knows_at = SimTime::ZERO;
            connection.directions[side].uninformed = false;
            let Some(opened) = connection.opened else { continue };
            self.cut_connection(index);
            if !self.is_alive(self.connections[index].ends[1 - side]) {
                continue;
            }
            if self.link(index, side).blocked {
                self.connections[index].directions[1 - side].uninformed = true;
                self.connections[index].opened = Some(opened);
            } else {
                let at = now + self.fault_latency(index, side);
                self.tell(index, 1 - side, at);
            }
        }
    }

    /// A process begins anew, if its machine is up. Peers that still wait to learn of its death learn it now, one hop later:
    /// its first packets tell them.
    pub fn restart(&mut self, now: SimTime, process: ProcessId) {
        let state = &mut self.processes[process.0 as usize];
        if !self.machines[state.machine.0 as usize] || state.alive {
            return;
        }
        state.alive = true;
        for index in 0..self.connections.len() {
            let Some(side) = self.connections[index].ends.iter().position(|&end| end == process) else { continue };
            if self.knows_at(index, 1 - side) > now && !self.link(index, side).blocked {
                let at = now + self.fault_latency(index, side);
                if at < self.knows_at(index, 1 - side) {
                    self.tell(index, 1 - side, at);
                }
            }
        }
    }

    /// A machine loses power: its processes die, and nobody is told. To its peers it is as if it had been cut off.
    pub fn machine_down(&mut self, now: SimTime, machine: MachineId) {
        if !std::mem::replace(&mut self.machines[machine.0 as usize], false) {
            return;
        }
        self.update_links(now);
        for process in 0..self.processes.len() {
            if self.processes[process].machine == machine {
                self.crash(now, ProcessId(process as u32));
            }
        }
        self.check_silence(now);
    }

    /// Connections that have been cut just now are looked at when the ends have lost patience.
    fn check_silence(&mut self, now: SimTime) {
        let own = self.patience_of.values().map(|patience| patience.silence);
        let timeouts: BTreeSet<SimDuration> = own.chain([self.options.keepalive_timeout]).collect();
        self.notices.extend(timeouts.into_iter().map(|timeout| Notice::CheckAt(now + timeout)));
    }

    /// A machine has power again. Its processes remain dead until [`Network::restart`]; whoever sends to them is refused.
    pub fn machine_up(&mut self, now: SimTime, machine: MachineId) {
        if std::mem::replace(&mut self.machines[machine.0 as usize], true) {
            return;
        }
        self.update_links(now);
        self.resume(now);
    }

    /// Breaks the connections with which the ends have lost patience. To be called when [`Notice::CheckAt`] says so.
    pub fn expire(&mut self, now: SimTime) {
        for index in 0..self.connections.len() {
            let blocked = [0, 1].map(|side| self.link(index, side)).into_iter().filter(|link| link.blocked);
            let Some(since) = blocked.map(|link| link.blocked_since).min() else { continue };
            let Some(opened) = self.connections[index].opened else { continue };
            let Patience { silence, unacknowledged } = self.connections[index].patience;
            let held = [0, 1].into_iter().filter_map(|side| self.oldest_held(index, side)).min();
            let given_up = held.is_some_and(|held| held + unacknowledged <= now);
            if given_up || since.max(opened) + silence <= now {
                self.break_for_both(index, now);
            }
        }
    }

    /// Whether a process learns of a loss at the time named: not if it died since, and not if it has learnt of it already.
    pub fn learns(&self, loss: &Loss) -> bool {
        let (ends, side) =
            if loss.process <= loss.peer { ((loss.process, loss.peer), 0) } else { ((loss.peer, loss.process), 1) };
        let process = &self.processes[loss.process.0 as usize];
        let known = self.connection_of.get(&ends).map(|&index| self.knows_at(index as usize, side));
        process.alive && process.epoch == loss.epoch && known == Some(loss.at)
    }

    /// Whether packets from one machine to another are stopped at present.
    pub fn is_cut(&self, from: MachineId, to: MachineId) -> bool {
        let down = [from, to].iter().any(|machine| !self.machines[machine.0 as usize]);
        down || self.partitions.iter().any(|partition| partition.stops(from, to))
    }

    /// Whether a message of this end must wait. A handshake and a refusal need the way back, too.
    pub(super) fn is_stuck(&self, index: usize, side: usize) -> bool {
        let connection = &self.connections[index];
        let receiver_alive = self.is_alive(connection.ends[1 - side]);
        let one_way = connection.established && receiver_alive && !connection.directions[side].uninformed;
        self.link(index, side).blocked || (self.link(index, 1 - side).blocked && !one_way)
    }

    /// Whether a dead receiver's machine can answer for it.
    pub(super) fn can_be_refused(&self, index: usize, side: usize) -> bool {
        !self.is_alive(self.connections[index].ends[1 - side]) && !self.is_stuck(index, side)
    }

    /// The machine of a dead receiver answers that there is nobody: the sender learns it after one hop there and one back.
    pub(super) fn refuse(&mut self, now: SimTime, index: usize, side: usize, travel: SimDuration) {
        let at = now + travel + self.fault_latency(index, 1 - side);
        let known = self.knows_at(index, side);
        if known <= now || at < known {
            self.tell(index, side, at);
        }
    }

    /// How much later a packet arrives for having been lost, perhaps repeatedly. None if it is lost for longer than the keepalive timeout.
    pub(super) fn retransmission_delay(&mut self, index: usize, side: usize, loss: Ratio) -> Option<SimDuration> {
        let longest = self.connections[index].patience.unacknowledged;
        let chance = chance(self.seed, &self.processes, &mut self.connections[index], side);
        let (mut delay, mut wait) =
            (SimDuration::ZERO, self.options.first_retransmission.max(SimDuration::from_nanos(1)));
        while chance.happens(loss) {
            delay += wait;
            wait = (wait * 2).min(self.options.longest_retransmission);
            if delay >= longest {
                return None;
            }
        }
        Some(delay)
    }

    /// Breaks a connection at both ends, which learn it at `at`.
    pub(super) fn break_for_both(&mut self, index: usize, at: SimTime) {
        self.cut_connection(index);
        self.tell(index, 0, at);
        self.tell(index, 1, at);
    }

    /// All that is under way is lost, and the next message opens the connection anew.
    fn cut_connection(&mut self, index: usize) {
        self.cut_direction(index, 0);
        self.cut_direction(index, 1);
        let connection = &mut self.connections[index];
        (connection.established, connection.opened) = (false, None);
    }

    /// All that one end has sent is lost.
    fn cut_direction(&mut self, index: usize, side: usize) {
        for Held { number, lane, .. } in self.connections[index].directions[side].cut() {
            self.notices.push(Notice::Discard { ticket: Ticket::new(index, side, number, lane) });
        }
    }

    /// The process at one end will know that the connection broke.
    fn tell(&mut self, index: usize, side: usize, at: SimTime) {
        let connection = &mut self.connections[index];
        let (process, peer) = (connection.ends[side], connection.ends[1 - side]);
        let state = &self.processes[process.0 as usize];
        connection.directions[side].uninformed = false;
        if state.alive {
            connection.directions[side].knows_at = at;
            self.notices.push(Notice::Lost(Loss { process, epoch: state.epoch, peer, at }));
        }
    }

    /// The delay of a packet that only a fault makes necessary.
    fn fault_latency(&mut self, index: usize, side: usize) -> SimDuration {
        let profile = self.link(index, side).profile as usize;
        let chance = chance(self.seed, &self.processes, &mut self.connections[index], side);
        self.profiles[profile].latency.sample(chance)
    }

    /// Finds out which links are cut now.
    fn update_links(&mut self, now: SimTime) {
        for number in 0..self.links.len() {
            let blocked = self.is_cut(self.links[number].from, self.links[number].to);
            let link = &mut self.links[number];
            if blocked && !link.blocked {
                link.blocked_since = now;
            }
            link.blocked = blocked;
        }
    }

    /// Gets everything going that no longer needs to wait.
    fn resume(&mut self, now: SimTime) {
        for index in 0..self.connections.len() {
            let blocked = [0, 1].iter().any(|&side| self.link(index, side).blocked);
            for side in [0, 1] {
                let connection = &self.connections[index];
                let gone = connection.directions[side].uninformed || !self.is_alive(connection.ends[1 - side]);
                if gone && !blocked && connection.opened.is_some() {
                    self.reveal(now, index, side);
                }
            }
            for side in [0, 1] {
                if !self.connections[index].directions[side].held().is_empty() && !self.is_stuck(index, side) {
                    self.release(now, index, side);
                }
            }
        }
    }

    /// A sender finds out that the other end is gone: when what it held back is refused, when a new incarnation gets
    /// through to it, or with the keepalive that would have been the last.
    fn reveal(&mut self, now: SimTime, index: usize, side: usize) {
        let refused = self.oldest_held(index, side).map(|since| {
            let back = self.fault_latency(index, 1 - side);
            self.next_attempt(since, now) + self.fault_latency(index, side) + back
        });
        let replaced = self.oldest_held(index, 1 - side).map(|since| {
            let attempt = self.next_attempt(since, now);
            attempt + self.fault_latency(index, 1 - side)
        });
        let since = self.link(index, 0).blocked_since.max(self.link(index, 1).blocked_since);
        let silent = now.max(since + self.connections[index].patience.silence);
        let at = refused.into_iter().chain(replaced).min().unwrap_or(silent);
        self.cut_direction(index, side);
        let connection = &mut self.connections[index];
        connection.established = false;
        if replaced.is_none() {
            connection.opened = None;
        }
        self.tell(index, side, at);
    }

    /// Since when an end has tried in vain to get something through.
    fn oldest_held(&self, index: usize, side: usize) -> Option<SimTime> {
        self.connections[index].directions[side].held().iter().map(|held| held.since).min()
    }

    /// Sends again, lane by lane, what was held back in one direction.
    fn release(&mut self, now: SimTime, index: usize, side: usize) {
        let Some(trouble) = &mut self.connections[index].directions[side].trouble else { return };
        let mut held = std::mem::take(&mut trouble.held);
        held.sort_unstable_by_key(|held| (held.lane, held.number));
        for lane_held in held.chunk_by(|left, right| left.lane == right.lane) {
            self.release_lane(now, index, side, lane_held);
        }
    }

    /// Sends again what was held back on one lane, in order of number. What had been under way arrives one nanosecond before what
    /// had not left, and in between arrives what is still under way: see [`Resumption`].
    fn release_lane(&mut self, now: SimTime, index: usize, side: usize, held: &[Held]) {
        let since = held.iter().map(|held| held.since).min().unwrap_or(now);
        let earliest = self.next_attempt(since, now) + self.fault_latency(index, side);
        let heard = self.knows_at(index, 1 - side);
        let (lane, tick) = (held[0].lane, SimDuration::from_nanos(1));
        let connection = &mut self.connections[index];
        connection.established = true;
        let direction = &mut connection.directions[side];
        let at = direction.push_back(lane, earliest.max(heard)) + tick;
        direction.push_back(lane, at + tick);
        if let Some(last) = held.iter().rfind(|held| held.arrived) {
            let resumed = &mut direction.trouble().resumed;
            resumed.retain(|resumption| resumption.lane != lane);
            resumed.push(Resumption { lane, through: last.number, at });
        }
        for held in held {
            let ticket = Ticket::new(index, side, held.number, lane);
            let at = if held.arrived { at } else { at + tick };
            self.notices.push(Notice::Deliver { ticket, at });
        }
    }

    /// The first attempt not before `now` of a sender that has tried in vain since `since`, waiting longer each time.
    fn next_attempt(&self, since: SimTime, now: SimTime) -> SimTime {
        let longest = self.options.longest_retransmission.max(SimDuration::from_nanos(1));
        let mut wait = self.options.first_retransmission.max(SimDuration::from_nanos(1));
        let mut attempt = since + wait;
        while attempt < now {
            wait = wait * 2;
            if wait >= longest {
                return now.next_tick(attempt + longest, longest);
            }
            attempt += wait;
        }
        attempt
    }
}
