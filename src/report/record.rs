//! Takes the news of a cluster in their order and keeps what is reported of a run.
//!
//! What grows with the run (`writes.jsonl`, `events.csv`, `scheduling.jsonl`) is written as it comes, if files are wanted; what is kept in memory
//! grows with the number of pods, nodes and rollouts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::api::kind::Kind;
use crate::api::meta::Epoch;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::cluster::Cluster;
use crate::cluster::news::{self, News};
use crate::cluster::topology::Topology;
use crate::cluster::truth::Truth;
use crate::engine::process::{Cause, ProcessId};
use crate::engine::time::SimTime;
use crate::engine::trace::Trace;
use crate::scenario::Observer;
use crate::scenario::outcome::{Outcome, StepRecord};
use crate::scheduler::record::Decided;

use super::causes::{Causes, Names};
use super::decisions;
use super::etcd::Leaderships;
use super::events::EventRows;
use super::folder::OutputFolder;
use super::nodes::NodeTable;
use super::pods::PodTable;
use super::rollouts::Rollouts;
use super::sketch::Sketcher;
use super::summary::Summary;
use super::tracks::Picture;
use super::twins::Overlaps;
use super::writes;

/// Bytes of trace after which it is looked through for events that led to nothing.
const PRUNE_AFTER: usize = 32 << 20;

/// What is kept of a run.
#[derive(Default)]
pub struct Recorder {
    pods: PodTable,
    nodes: NodeTable,
    rollouts: Rollouts,
    etcd: Leaderships,
    overlaps: Overlaps,
    by_kind: BTreeMap<Kind, u64>,
    by_agent: BTreeMap<Name, u64>,
    files: Option<Files>,
}

/// Files that are written while the run goes on.
struct Files {
    folder: OutputFolder,
    writes: BufWriter<File>,
    decisions: BufWriter<File>,
    sketcher: Sketcher,
    events: EventRows<BufWriter<File>>,
    /// Whether every event is wanted, for Perfetto.
    whole_trace: bool,
    /// Whether the first step has begun: what is there by then was there from the beginning.
    begun: bool,
    /// The events in which something was written that is reported.
    causes: Vec<Cause>,
    /// When the trace has this many bytes, it is looked through.
    prune_at: usize,
    /// The first thing that went wrong.
    error: Option<io::Error>,
}

impl Recorder {
    /// A recorder that writes no files.
    pub fn new() -> Self {
        Recorder::default()
    }

    /// A recorder that leaves files in a folder; with `whole_trace` also `trace.pftrace`. Fails if the folder cannot be written.
    pub fn with_files(target: &Path, epoch: Epoch, whole_trace: bool) -> io::Result<Self> {
        let folder = OutputFolder::create(target)?;
        let mut files = Files {
            writes: folder.file("writes.jsonl")?,
            decisions: folder.file("scheduling.jsonl")?,
            sketcher: Sketcher::default(),
            events: EventRows::new(folder.file("events.csv")?)?,
            folder,
            whole_trace,
            begun: false,
            causes: Vec::new(),
            prune_at: PRUNE_AFTER,
            error: None,
        };
        files.line(&writes::beginning(epoch));
        Ok(Recorder { files: Some(files), ..Recorder::default() })
    }

    /// Whether the cluster has to record its trace for this recorder.
    pub fn wants_trace(&self) -> bool {
        self.files.is_some()
    }

    /// Notes what is there when the first step begins: the cluster has come up by itself, as it had before a recording.
    pub(super) fn begin(&mut self, at: SimTime, truth: &Truth) {
        let Some(files) = self.files.as_mut().filter(|files| !files.begun) else { return };
        files.begun = true;
        let mut there: Vec<&Object> = Kind::all().flat_map(|kind| truth.list(kind)).collect();
        there.sort_by_key(|object| object.meta().revision());
        for object in there {
            files.line(&writes::initial(at, object));
        }
    }

    /// Takes a piece of news that came at this moment.
    pub fn take(&mut self, at: SimTime, news: &News) {
        match news {
            News::Write(write) => self.write(write),
            News::EtcdLeader { member, term } => self.etcd.changed(at, *member, *term),
            News::Decided(decided) => self.decided(decided),
            News::Twins(twins) => {
                self.overlaps.changed(at, twins);
                if let Some(files) = &mut self.files {
                    files.causes.push(twins.cause);
                }
            }
            News::Answer { .. } | News::Alarm { .. } | News::Violation(_) => {}
        }
    }

    fn write(&mut self, write: &news::Write) {
        *self.by_kind.entry(write.key.kind).or_default() += 1;
        match self.by_agent.get_mut(&write.agent) {
            Some(count) => *count += 1,
            None => {
                self.by_agent.insert(write.agent.clone(), 1);
            }
        }
        match write.key.kind {
            Kind::Pod => {
                self.pods.write(write);
                self.nodes.write(write);
            }
            Kind::Event => self.pods.write(write),
            Kind::Node => self.nodes.write(write),
            Kind::Deployment => self.rollouts.write(write),
            _ => {}
        }
        if let Some(files) = &mut self.files {
            files.write(write);
        }
    }

    fn decided(&mut self, decided: &Decided) {
        if let Some(files) = &mut self.files {
            files.decided(decided);
        }
    }

    /// Notes that a step begins.
    pub fn step_begins(&mut self, step: &StepRecord) {
        if let (Some(files), Some(at)) = (&mut self.files, step.began) {
            files.line(&writes::action(at, &step.label));
            files.causes.push(step.cause);
        }
    }

    /// Notes that a step has ended; one that never began is not told of.
    pub fn step_ends(&mut self, step: &StepRecord) {
        if let (Some(files), Some(_), Some(at)) = (&mut self.files, step.began, step.ended) {
            let status = u8::from(step.command_failed);
            files.line(&writes::action(at, &format!("rc={status} {}", step.label)));
        }
    }

    /// Lets the trace forget what led to nothing that is reported, once it has become large. To be called now and then.
    pub fn prune(&mut self, trace: &mut Trace) {
        if let Some(files) = &mut self.files
            && !files.whole_trace
            && trace.bytes() >= files.prune_at
        {
            trace.retain_ancestors(files.causes.iter().copied());
            files.prune_at = PRUNE_AFTER.max(trace.bytes() * 2);
        }
    }

    /// Ends the account when the run has ended.
    pub fn finish(&mut self, at: SimTime) {
        self.nodes.finish(at);
        self.rollouts.finish(at);
    }

    /// Completes the files, if any were wanted, and puts their folder in its place.
    pub fn save(
        mut self,
        summary: &Summary,
        outcome: &Outcome,
        topology: &Topology,
        trace: &mut Trace,
    ) -> io::Result<()> {
        let Some(mut files) = self.files.take() else { return Ok(()) };
        if let Some(error) = files.error.take() {
            return Err(error);
        }
        files.writes.flush()?;
        files.decisions.flush()?;
        files.events.flush()?;
        files.folder.file("summary.json")?.write_all(summary.to_json().as_bytes())?;
        self.pods.csv(files.folder.file("pods.csv")?)?;
        self.nodes.csv(files.folder.file("nodes.csv")?)?;
        if files.whole_trace {
            Picture { topology, trace, recorder: &self, outcome }.write(files.folder.file("trace.pftrace")?)?;
        }
        files.causes.extend(outcome.expectations.iter().map(|expectation| expectation.cause));
        trace.retain_ancestors(files.causes.iter().copied());
        Causes::new(names(topology, trace), trace.events().collect()).write(files.folder.file("causes.bin")?)?;
        files.folder.commit()
    }

    /// The pods.
    pub fn pods(&self) -> &PodTable {
        &self.pods
    }

    /// The nodes.
    pub fn nodes(&self) -> &NodeTable {
        &self.nodes
    }

    /// The rollouts.
    pub fn rollouts(&self) -> &Rollouts {
        &self.rollouts
    }

    /// When pods of one name ran at once.
    pub fn overlaps(&self) -> &Overlaps {
        &self.overlaps
    }

    /// Who led etcd.
    pub fn etcd(&self) -> &Leaderships {
        &self.etcd
    }

    /// How many writes there were to each kind.
    pub fn writes_by_kind(&self) -> impl Iterator<Item = (Kind, u64)> {
        self.by_kind.iter().map(|(kind, count)| (*kind, *count))
    }

    /// How many writes each client made.
    pub fn writes_by_agent(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.by_agent.iter().map(|(agent, count)| (agent, *count))
    }
}

impl Observer for Recorder {
    fn news(&mut self, cluster: &Cluster, news: &News) {
        self.take(cluster.now(), news);
    }

    fn step_began(&mut self, cluster: &Cluster, step: &StepRecord) {
        self.begin(cluster.now(), cluster.truth());
        self.step_begins(step);
    }

    fn step_ended(&mut self, _cluster: &Cluster, step: &StepRecord) {
        self.step_ends(step);
    }
}

impl Files {
    fn write(&mut self, write: &news::Write) {
        if self.begun
            && let Some(line) = writes::line(write, &self.sketcher)
        {
            self.line(&line);
        }
        if let Err(error) = self.events.write(write) {
            self.error.get_or_insert(error);
        }
        // A lease is renewed every few seconds and nothing is ever asked about it.
        if write.key.kind != Kind::Lease {
            self.causes.push(write.cause);
        }
    }

    fn line(&mut self, line: &Value) {
        if let Err(error) = write_line(&mut self.writes, line) {
            self.error.get_or_insert(error);
        }
    }

    fn decided(&mut self, decided: &Decided) {
        if let Err(error) = write_line(&mut self.decisions, &decisions::Line::new(decided)) {
            self.error.get_or_insert(error);
        }
    }
}

fn write_line(mut to: impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut to, line)?;
    to.write_all(b"\n")
}

/// What the numbers in a trace mean.
fn names(topology: &Topology, trace: &Trace) -> Names {
    let processes = || (0..topology.process_count() as u32).map(ProcessId);
    let kinds = (0..).map(|kind| trace.kind_name(kind)).take_while(|name| !name.is_empty());
    Names {
        processes: processes().map(|process| topology.process_name(process).to_owned()).collect(),
        machines: processes().map(|process| topology.machine_name(topology.machine_of(process)).to_owned()).collect(),
        kinds: kinds.map(str::to_owned).collect(),
    }
}
