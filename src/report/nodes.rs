//! `nodes.csv`: when each node came, when it was ready and when not, and what ran on it.

use std::collections::BTreeMap;
use std::io;

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::cluster::news::Write;
use crate::engine::time::{SimDuration, SimTime};

use super::table;

/// What is known of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeRow {
    /// When it was registered.
    pub created: SimTime,
    /// When it became ready for the first time.
    pub ready: Option<SimTime>,
    /// How often it ceased to be ready.
    pub losses: u32,
    /// How long it was not ready after it had been.
    pub not_ready: SimDuration,
    /// When it was removed from the API.
    pub removed: Option<SimTime>,
    /// How many pods were bound to it.
    pub pods_bound: u64,
    /// How many of them were disrupted: evicted, preempted, collected.
    pub pods_disrupted: u64,
    /// How many pods it holds now.
    pub pods: u64,
    /// The most pods that it held at a time.
    pub pods_most: u64,
    /// CPU that its pods request now, in thousandths.
    pub milli_cpu: i64,
    /// The most of it at a time.
    pub milli_cpu_most: i64,
    /// Memory that its pods request now, in bytes.
    pub memory: i64,
    /// The most of it at a time.
    pub memory_most: i64,
    /// What pods may request: CPU in thousandths and memory in bytes.
    pub allocatable: (i64, i64),
    /// Since when it is not ready, if it is not but was.
    lost: Option<SimTime>,
}

/// All nodes of a run by name.
#[derive(Debug, Default)]
pub struct NodeTable {
    rows: BTreeMap<Name, NodeRow>,
}

const HEADER: [&str; 16] = [
    "name",
    "created",
    "ready",
    "losses",
    "not_ready_seconds",
    "removed",
    "pods_bound",
    "pods_disrupted",
    "pods_at_end",
    "pods_most",
    "milli_cpu_at_end",
    "milli_cpu_most",
    "milli_cpu_allocatable",
    "memory_at_end",
    "memory_most",
    "memory_allocatable",
];

impl NodeTable {
    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = (&Name, &NodeRow)> {
        self.rows.iter()
    }

    /// Takes a write in; only those of nodes and pods matter.
    pub fn write(&mut self, write: &Write) {
        match (&write.old, &write.new) {
            (_, Some(Object::Node(node))) => {
                let row = self
                    .rows
                    .entry(node.meta.name.clone())
                    .or_insert_with(|| NodeRow { created: write.at, ..NodeRow::default() });
                row.removed = None;
                row.allocatable = (node.status.allocatable.milli_cpu, node.status.allocatable.memory);
                row.is_ready(node.is_ready(), write.at);
            }
            (Some(Object::Node(node)), None) => {
                if let Some(row) = self.rows.get_mut(&node.meta.name) {
                    row.is_ready(false, write.at);
                    row.removed = Some(write.at);
                }
            }
            (old, new) => self.pod(
                old.as_ref().and_then(|old| old.get::<Pod>()).map(|pod| &**pod),
                new.as_ref().and_then(|new| new.get::<Pod>()).map(|pod| &**pod),
            ),
        }
    }

    /// A pod takes room on its node from its binding until it has ended or is gone.
    fn pod(&mut self, old: Option<&Pod>, new: Option<&Pod>) {
        let holds = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.node.is_some() && !pod.is_terminal());
        let Some(pod) = new.or(old) else { return };
        let Some(row) = pod.node.as_ref().and_then(|node| self.rows.get_mut(node)) else { return };
        if pod.node.is_some() && new.is_some() && old.is_none_or(|old| old.node.is_none()) {
            row.pods_bound += 1;
        }
        let disrupted = |pod: &Pod| {
            pod.status.conditions.iter().any(|one| one.kind == crate::api::pod::PodConditionType::DisruptionTarget)
        };
        if new.is_some_and(disrupted) && !old.is_some_and(disrupted) {
            row.pods_disrupted += 1;
        }
        match (holds(old), holds(new)) {
            (false, true) => row.take(pod, 1),
            (true, false) => row.take(pod, -1),
            _ => {}
        }
    }

    /// Ends the account: nodes that are not ready were so until now.
    pub fn finish(&mut self, at: SimTime) {
        for row in self.rows.values_mut() {
            if let Some(lost) = row.lost {
                row.not_ready += row.removed.unwrap_or(at).since(lost);
                row.lost = None;
            }
        }
    }

    /// Writes all rows as CSV, times in seconds of virtual time.
    pub fn csv(&self, to: impl io::Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(to);
        csv.write_record(HEADER)?;
        for (name, row) in &self.rows {
            let not_ready = SimTime::ZERO + row.not_ready;
            csv.write_record([
                name.as_str(),
                &row.created.to_string(),
                &table::time(row.ready),
                &row.losses.to_string(),
                &not_ready.to_string(),
                &table::time(row.removed),
                &row.pods_bound.to_string(),
                &row.pods_disrupted.to_string(),
                &row.pods.to_string(),
                &row.pods_most.to_string(),
                &row.milli_cpu.to_string(),
                &row.milli_cpu_most.to_string(),
                &row.allocatable.0.to_string(),
                &row.memory.to_string(),
                &row.memory_most.to_string(),
                &row.allocatable.1.to_string(),
            ])?;
        }
        csv.flush()
    }
}

impl NodeRow {
    fn is_ready(&mut self, ready: bool, at: SimTime) {
        match (ready, self.lost) {
            (true, Some(lost)) => {
                self.not_ready += at.since(lost);
                self.lost = None;
            }
            (true, None) => self.ready = self.ready.or(Some(at)),
            (false, None) if self.ready.is_some() => {
                self.losses += 1;
                self.lost = Some(at);
            }
            _ => {}
        }
    }

    fn take(&mut self, pod: &Pod, sign: i64) {
        self.pods = self.pods.saturating_add_signed(sign);
        self.milli_cpu += sign * pod.spec.requests.milli_cpu;
        self.memory += sign * pod.spec.requests.memory;
        self.pods_most = self.pods_most.max(self.pods);
        self.milli_cpu_most = self.milli_cpu_most.max(self.milli_cpu);
        self.memory_most = self.memory_most.max(self.memory);
    }
}
