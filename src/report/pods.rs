//! `pods.csv`: when each pod was created, scheduled, started, ready, deleted, gone, as the API showed it.
//!
//! A pod is one incarnation: a name that comes again with another UID is another row. All times are those at which the API
//! server learnt that the write which shows it was committed, so they are exact although the API's own dates are cut to seconds.

use std::io;
use std::rc::Rc;

use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, ContainerState, Pod, PodConditionType, PodPhase};
use crate::cluster::news::Write;
use crate::engine::hash::Map;
use crate::engine::time::SimTime;

use super::table;

/// What is known of one pod.
#[derive(Clone, Debug)]
pub struct PodRow {
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
    /// The owner that manages it, as `ReplicaSet/web-5d8f`; none for a bare pod.
    pub owner: Option<(Name, Name)>,
    /// The node to which it was bound.
    pub node: Option<Name>,
    /// When it was created.
    pub created: SimTime,
    /// When it was bound to its node.
    pub scheduled: Option<SimTime>,
    /// When the kubelet told that the last image needed for the start had been pulled or was there. Pods of a stand-in kubelet have none.
    pub pulled: Option<SimTime>,
    /// When all main containers had been started.
    pub started: Option<SimTime>,
    /// When it became ready for the first time.
    pub ready: Option<SimTime>,
    /// When its deletion was asked for.
    pub deleted: Option<SimTime>,
    /// When it was removed from the API.
    pub gone: Option<SimTime>,
    /// How often its containers were started again.
    pub restarts: u32,
    /// Why it was disrupted (the reason of its DisruptionTarget condition), and when that was written.
    pub disrupted: Option<(SimTime, Name)>,
    /// The last phase.
    pub phase: PodPhase,
    /// Whether it is ready now.
    pub is_ready: bool,
}

/// All pods of a run, in the order of their creation.
#[derive(Debug, Default)]
pub struct PodTable {
    rows: Vec<PodRow>,
    places: Map<Uid, usize>,
}

const HEADER: [&str; 15] = [
    "namespace",
    "name",
    "owner",
    "node",
    "created",
    "scheduled",
    "pulled",
    "started",
    "ready",
    "deleted",
    "gone",
    "restarts",
    "disrupted",
    "disruption",
    "phase",
];

impl PodTable {
    /// All rows.
    pub fn rows(&self) -> &[PodRow] {
        &self.rows
    }

    /// Takes a write in; only those of pods and of events about pods matter.
    pub fn write(&mut self, write: &Write) {
        match (&write.old, &write.new) {
            (old, Some(Object::Pod(new))) => {
                let old = old.as_ref().and_then(|old| old.get::<Pod>());
                self.changed(write.at, old, new);
            }
            (Some(Object::Pod(old)), None) => {
                if let Some(row) = self.row(old.meta.uid) {
                    row.gone = Some(write.at);
                    row.is_ready = false;
                    row.deleted = row.deleted.or(Some(write.at));
                }
            }
            (None, Some(Object::Event(event))) if event.class.reason == "Pulled" => {
                if let Some(row) = self.row(event.involved.uid)
                    && (row.started.is_none() || row.pulled.is_none())
                {
                    row.pulled = Some(write.at);
                }
            }
            _ => {}
        }
    }

    fn row(&mut self, uid: Uid) -> Option<&mut PodRow> {
        self.places.get(&uid).map(|place| &mut self.rows[*place])
    }

    fn changed(&mut self, at: SimTime, old: Option<&Rc<Pod>>, new: &Pod) {
        let place = *self.places.entry(new.meta.uid).or_insert_with(|| {
            self.rows.push(PodRow::new(new, at));
            self.rows.len() - 1
        });
        let row = &mut self.rows[place];
        if row.node.is_none() && new.node.is_some() {
            row.node.clone_from(&new.node);
            row.scheduled = Some(at);
        }
        if row.deleted.is_none() && new.meta.is_deleting() {
            row.deleted = Some(at);
        }
        if old.is_some_and(|old| old.status == new.status) {
            return;
        }
        row.phase = new.status.phase;
        row.is_ready = new.status.is_ready();
        if row.started.is_none() && has_started(new) {
            row.started = Some(at);
        }
        if row.ready.is_none() && row.is_ready {
            row.ready = Some(at);
        }
        row.restarts = restarts(new);
        if row.disrupted.is_none()
            && let Some(target) = new.status.condition(&PodConditionType::DisruptionTarget)
            && target.status == ConditionStatus::True
        {
            row.disrupted = Some((at, target.why.reason().unwrap_or_default().into()));
        }
    }

    /// Writes all rows as CSV, times in seconds of virtual time.
    pub fn csv(&self, to: impl io::Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(to);
        csv.write_record(HEADER)?;
        for row in &self.rows {
            let owner = row.owner.as_ref().map(|(kind, name)| format!("{kind}/{name}")).unwrap_or_default();
            let disruption = row.disrupted.as_ref();
            csv.write_record([
                row.namespace.as_str(),
                &row.name,
                owner.as_str(),
                row.node.as_deref().unwrap_or_default(),
                &row.created.to_string(),
                &table::time(row.scheduled),
                &table::time(row.pulled),
                &table::time(row.started),
                &table::time(row.ready),
                &table::time(row.deleted),
                &table::time(row.gone),
                &row.restarts.to_string(),
                &table::time(disruption.map(|(at, _)| *at)),
                disruption.map_or("", |(_, reason)| reason),
                &format!("{:?}", row.phase),
            ])?;
        }
        csv.flush()
    }
}

impl PodRow {
    fn new(pod: &Pod, at: SimTime) -> Self {
        PodRow {
            namespace: pod.meta.namespace.clone(),
            name: pod.meta.name.clone(),
            owner: pod.meta.controller().map(|owner| (owner.kind.clone(), owner.name.clone())),
            node: None,
            created: at,
            scheduled: None,
            pulled: None,
            started: None,
            ready: None,
            deleted: None,
            gone: None,
            restarts: 0,
            disrupted: None,
            phase: pod.status.phase,
            is_ready: false,
        }
    }
}

/// Whether every main container runs or has run.
fn has_started(pod: &Pod) -> bool {
    let containers = &pod.status.containers;
    let has_run = |state: &ContainerState| !matches!(state, ContainerState::Waiting { .. });
    !containers.is_empty() && containers.iter().all(|one| has_run(&one.state) || one.last_state.is_some())
}

/// How often the containers of a pod were started again, all together.
fn restarts(pod: &Pod) -> u32 {
    let all = pod.status.init_containers.iter().chain(pod.status.containers.iter());
    all.map(|container| container.restart_count).sum()
}
