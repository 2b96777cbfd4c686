//! `trace.pftrace`: a run as Perfetto shows it.
//!
//! Every machine is a group with a track for each of its components, on which every event lies as an instant with arrows from
//! what caused it. Every pod has a track of its own below its node, with a slice for each part of its life. The scenario's
//! steps and the leadership of etcd have a track each.

use std::io;

use crate::cluster::topology::Topology;
use crate::engine::process::ProcessId;
use crate::engine::time::SimTime;
use crate::engine::trace::Trace;
use crate::scenario::outcome::Outcome;

use super::perfetto::{Mark, Note, PerfettoWriter, Track};
use super::pods::PodRow;
use super::record::Recorder;

/// Where the numbers of each sort of track begin; they never meet.
const SCENARIO: Track = 1;
const ETCD: Track = 2;
const UNSCHEDULED: Track = 3;
const MACHINES: Track = 1 << 32;
const COMPONENTS: Track = 2 << 32;
const PODS: Track = 3 << 32;

/// What is drawn.
pub struct Picture<'a> {
    /// Which machines and components there are.
    pub topology: &'a Topology,
    /// Every event.
    pub trace: &'a Trace,
    /// The tables.
    pub recorder: &'a Recorder,
    /// The steps and the end.
    pub outcome: &'a Outcome,
}

impl Picture<'_> {
    /// Writes the whole trace.
    pub fn write(&self, to: impl io::Write) -> io::Result<()> {
        let mut writer = PerfettoWriter::new(to);
        self.steps(&mut writer)?;
        self.leaders(&mut writer)?;
        self.components(&mut writer)?;
        self.events(&mut writer)?;
        writer.track(UNSCHEDULED, None, "pods without node")?;
        for (place, pod) in self.recorder.pods().rows().iter().enumerate() {
            self.pod(PODS + place as u64, pod, &mut writer)?;
        }
        writer.flush()
    }

    fn steps(&self, writer: &mut PerfettoWriter<impl io::Write>) -> io::Result<()> {
        writer.track(SCENARIO, None, "scenario")?;
        for (place, step) in (1 << 16..).zip(&self.outcome.steps) {
            let Some(began) = step.began else { continue };
            // Steps may overlap, so each has a row of its own.
            writer.track(place, Some(SCENARIO), &step.name)?;
            let state = step.state.to_string();
            let notes = [Note::Text("label", &step.label), Note::Text("state", &state)];
            writer.event(place, began.as_nanos(), Mark::Begin(&step.label), &notes)?;
            let ended = step.ended.unwrap_or(self.outcome.ended_at);
            writer.event(place, ended.as_nanos(), Mark::End, &[])?;
        }
        Ok(())
    }

    fn leaders(&self, writer: &mut PerfettoWriter<impl io::Write>) -> io::Result<()> {
        writer.track(ETCD, None, "etcd leader")?;
        let all = self.recorder.etcd().all();
        for (place, one) in all.iter().enumerate() {
            let until = all.get(place + 1).map_or(self.outcome.ended_at, |next| next.at);
            let name = match one.member {
                Some(member) => format!("etcd-{member}, term {}", one.term),
                None => "none".to_owned(),
            };
            writer.event(ETCD, one.at.as_nanos(), Mark::Begin(&name), &[Note::Number("term", one.term)])?;
            writer.event(ETCD, until.as_nanos(), Mark::End, &[])?;
        }
        Ok(())
    }

    fn components(&self, writer: &mut PerfettoWriter<impl io::Write>) -> io::Result<()> {
        for (number, name) in (0..).zip(self.topology.machine_names()) {
            writer.machine(MACHINES + number, number + 1, name)?;
        }
        for number in 0..self.topology.process_count() as u32 {
            let process = ProcessId(number);
            let machine = u64::from(self.topology.machine_of(process).0) + 1;
            let name = self.topology.process_name(process);
            writer.component(COMPONENTS + u64::from(number), machine, u64::from(number) + 1, name)?;
        }
        Ok(())
    }

    /// Every event as an instant. An arrow is known by the number of the event at which it ends.
    fn events(&self, writer: &mut PerfettoWriter<impl io::Write>) -> io::Result<()> {
        let mut process_of: Vec<(u64, ProcessId)> =
            self.trace.events().map(|event| (event.sequence, event.process)).collect();
        process_of.sort_unstable();
        let crosses = |cause: u64, process: ProcessId| {
            let place = process_of.binary_search_by_key(&cause, |(sequence, _)| *sequence);
            place.is_ok_and(|place| process_of[place].1 != process)
        };
        let crossing = self.trace.events().filter(|event| crosses(event.cause.0, event.process));
        let mut arrows: Vec<(u64, u64)> = crossing.map(|event| (event.cause.0, event.sequence)).collect();
        arrows.sort_unstable();
        let mut leaving = Vec::new();
        for event in self.trace.events() {
            let from = arrows.partition_point(|(cause, _)| *cause < event.sequence);
            leaving.clear();
            leaving.extend(arrows[from..].iter().take_while(|(cause, _)| *cause == event.sequence).map(|(_, to)| *to));
            let ending: &[u64] =
                if arrows.binary_search(&(event.cause.0, event.sequence)).is_ok() { &[event.sequence] } else { &[] };
            let track = COMPONENTS + u64::from(event.process.0);
            let notes = [Note::Number("event", event.sequence), Note::Number("cause", event.cause.0)];
            let mark = Mark::Instant(self.trace.kind_name(event.kind));
            writer.event_with_flows(track, event.time.as_nanos(), mark, &notes, &leaving, ending)?;
        }
        Ok(())
    }

    fn pod(&self, track: Track, pod: &PodRow, writer: &mut PerfettoWriter<impl io::Write>) -> io::Result<()> {
        let machine = pod.node.as_ref().and_then(|node| self.topology.machine(node));
        let parent = machine.map_or(UNSCHEDULED, |machine| MACHINES + u64::from(machine.0));
        writer.track(track, Some(parent), &format!("pod {}/{}", pod.namespace, pod.name))?;
        let phases = [
            ("waits for a node", Some(pod.created)),
            ("pulls images", pod.scheduled.filter(|_| pod.pulled.is_some())),
            ("starts", pod.pulled.or(pod.scheduled)),
            ("runs, not ready", pod.started),
            ("ready", pod.ready),
            ("terminates", pod.deleted),
            ("", pod.gone),
        ];
        let mut open: Option<SimTime> = None;
        for (name, at) in phases {
            let Some(at) = at else { continue };
            // What an event says of a pull may become known after the pod has started.
            let at = open.map_or(at, |last| at.max(last));
            if open.is_some() {
                writer.event(track, at.as_nanos(), Mark::End, &[])?;
            }
            open = Some(at);
            if !name.is_empty() {
                writer.event(track, at.as_nanos(), Mark::Begin(name), &[])?;
            }
        }
        if pod.gone.is_none() {
            writer.event(track, self.outcome.ended_at.as_nanos(), Mark::End, &[])?;
        }
        Ok(())
    }
}
