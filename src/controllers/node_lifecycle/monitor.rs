//! The pass over all nodes: who is silent, who is to be tainted, whose pods are not ready (`monitorNodeHealth`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::event::{EventType, ObjectReference};
use crate::api::meta::{Labels, Uid};
use crate::api::name::Name;
use crate::api::node::{Lease, Node};
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod};
use crate::apiserver::heartbeats::Heartbeats;
use crate::apiserver::protocol::{Answer, Operation, Part};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::hash::Map;
use crate::engine::time::{SimDuration, SimTime};

use super::super::config::Config;
use super::super::owner;
use super::super::script::{self, Halt, Script};
use super::health::{self, Health};
use super::zones::{self, Disruption, Zones};
use super::{mark_not_ready, taints};

/// The namespace of the nodes' leases.
const LEASES: Name = Name::of("kube-node-lease");
/// A node with this label does not count for its zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// How often the status of a node is written if somebody else writes it too (`NodeHealthUpdateRetry`).
const TRIES: usize = 5;

/// How many nodes are worked on at the same time (`UpdateWorkerSize`): the pods of each are written one after the other.
const WORKERS: usize = 8;

/// What is remembered from pass to pass, and lost with the process.
pub(super) struct Monitor {
    pub zones: Zones,
    /// Nodes that the cache shows as not ready: while there are any, the tainting pass goes on.
    pub not_ready: BTreeSet<Name>,
    /// When the last tainting pass that had something to do was over.
    pub tainted: SimTime,
    /// When the next one is, if one is planned.
    pub next_taint: Option<SimTime>,
    /// Nodes of which not all pods could be called not ready.
    pub retry: BTreeSet<Name>,
    known: Map<Name, Known>,
    health: Map<Name, Health>,
    heartbeats: Rc<Heartbeats>,
    grace: SimDuration,
    startup_grace: SimDuration,
}

/// A node that was there at the last pass, and what follows from its labels: nodes are many, and their labels rarely change.
struct Known {
    uid: Uid,
    labels: Labels,
    place: Place,
}

/// Where a node counts.
#[derive(Clone)]
struct Place {
    zone: Name,
    /// False if the node does not count for its zone.
    counts: bool,
}

impl Place {
    fn of(node: &Node) -> Place {
        Place { zone: zones::zone_of(node), counts: node.meta.labels.get(EXCLUDED).is_none() }
    }
}

impl Monitor {
    pub fn new(config: &Config) -> Self {
        Monitor {
            zones: Zones::new(config),
            not_ready: BTreeSet::new(),
            tainted: SimTime::ZERO,
            next_taint: None,
            retry: BTreeSet::new(),
            known: Map::default(),
            health: Map::default(),
            heartbeats: Rc::clone(&config.heartbeats),
            grace: config.node_monitor_grace_period,
            startup_grace: config.node_startup_grace_period,
        }
    }

    /// What the Ready condition of a node said when there was a sign of life with it.
    pub fn last_seen_ready(&self, node: &str) -> Option<ConditionStatus> {
        self.health.get(node)?.ready.map(|(_, _, status)| status)
    }

    /// Looks at a node and says what has to be done about it, if anything.
    fn look(&mut self, view: &View<'_>, node: &Rc<Node>, now: Now) -> Option<Work> {
        let name = &node.meta.name;
        let lease = view.get::<Lease>(&LEASES, name);
        let before = self.health.get(name).copied();
        let renewed = self.heartbeats.renewed(name, lease.map(|lease| &**lease));
        let health = Health::observe(before, node, renewed, now);
        match self.health.get_mut(name) {
            Some(known) => *known = health,
            None => {
                self.health.insert(name.clone(), health);
            }
        }
        let ready = node.condition("Ready");
        let grace = if ready.is_some() { self.grace } else { self.startup_grace };
        let silent = health.is_silent(grace, now.at) && health::silent_conditions(node, now.timestamp()).1;
        let observed = ready.map_or(ConditionStatus::Unknown, |ready| ready.status);
        let current = if silent { ConditionStatus::Unknown } else { observed };
        if silent {
            let ready =
                ready.map_or((node.meta.created, now.timestamp()), |ready| (ready.last_heartbeat, now.timestamp()));
            self.health
                .insert(name.clone(), Health { ready: Some((ready.0, ready.1, ConditionStatus::Unknown)), ..health });
        }
        let posted = silent || node.condition("Ready").is_some();
        if let Some(health) = self.health.get_mut(name) {
            health.judged = posted.then_some(current);
        }
        let tainted = taints::any_no_execute(node);
        if posted && current == ConditionStatus::True && !tainted && !self.retry.contains(name) {
            self.zones.dequeue(node);
            return None;
        }
        if !posted {
            return None;
        }
        let fell = current != ConditionStatus::True && observed == ConditionStatus::True;
        let retries = self.retry.contains(name) && observed != ConditionStatus::True;
        Some(Work { node: node.clone(), silent, current, fell, marks_pods: fell || retries })
    }

    /// How many nodes of each zone the last look at each found ready and not ready.
    fn count(&self, nodes: &[Rc<Node>], places: &[Place]) -> BTreeMap<Name, (usize, usize)> {
        let mut counts: BTreeMap<Name, (usize, usize)> = BTreeMap::new();
        for (node, place) in nodes.iter().zip(places).filter(|(_, place)| place.counts) {
            let (ready, not_ready) = counts.entry(place.zone.clone()).or_default();
            let health = self.health.get(&node.meta.name);
            let is_ready = health.and_then(|health| health.judged) == Some(ConditionStatus::True);
            *(if is_ready { ready } else { not_ready }) += 1;
        }
        counts
    }

    /// Judges the zones; when all were down and one is not any more, every node gets a new grace.
    fn judge(&mut self, counts: &BTreeMap<Name, (usize, usize)>, now: SimTime) -> Disruption {
        let disruption = self.zones.judge(counts, now);
        if disruption == Disruption::Left {
            self.health.values_mut().for_each(|health| health.probe = now);
        }
        disruption
    }

    /// Notes which nodes came and went; returns where each counts, and what is to be said about those that came or went.
    fn register(&mut self, nodes: &[&Rc<Node>]) -> (Vec<Place>, Vec<(ObjectReference, &'static str, String)>) {
        let (mut places, mut notes) = (Vec::<Place>::with_capacity(nodes.len()), Vec::new());
        for node in nodes {
            let (name, labels) = (&node.meta.name, &node.meta.labels);
            let place = match self.known.get_mut(name) {
                Some(known) if known.labels.same(labels) => known.place.clone(),
                Some(known) => {
                    (known.labels, known.place) = (labels.clone(), Place::of(node));
                    known.place.clone()
                }
                None => {
                    let place = Place::of(node);
                    let known = Known { uid: node.meta.uid, labels: labels.clone(), place: place.clone() };
                    self.known.insert(name.clone(), known);
                    let message = format!("Node {name} event: Registered Node {name} in Controller");
                    notes.push((reference(name, node.meta.uid), "RegisteredNode", message));
                    place
                }
            };
            if places.last().is_none_or(|last| last.zone != place.zone) {
                self.zones.add(&place.zone);
            }
            places.push(place);
        }
        if self.known.len() > nodes.len() {
            let present: BTreeSet<_> = nodes.iter().map(|node| &node.meta.name).collect();
            let gone: BTreeSet<_> = self.known.keys().filter(|name| !present.contains(name)).cloned().collect();
            for name in gone {
                if let Some(known) = self.known.remove(&name) {
                    let message = format!("Node {name} event: Removing Node {name} from Controller");
                    notes.push((reference(&name, known.uid), "RemovingNode", message));
                }
            }
        }
        (places, notes)
    }
}

/// The reference of an event about a node: no version, as in the original.
fn reference(name: &Name, uid: Uid) -> ObjectReference {
    ObjectReference {
        api_version: Name::of("v1"),
        kind: Name::of("Node"),
        name: name.clone(),
        uid,
        ..ObjectReference::default()
    }
}

/// What has to be done about a node.
struct Work {
    node: Rc<Node>,
    /// Its conditions become Unknown.
    silent: bool,
    /// What its Ready condition says then.
    current: ConditionStatus,
    /// It was ready until now.
    fell: bool,
    /// Its pods are to be called not ready.
    marks_pods: bool,
}

/// One pass.
pub(super) fn pass(monitor: &Rc<RefCell<Monitor>>, view: &View<'_>, now: Now) -> Plan {
    let nodes: Vec<_> = view.list::<Node>().collect();
    let mut state = monitor.borrow_mut();
    // A node that is new to the controller is taken to be reachable until it is seen not to be, also after a restart.
    let new = nodes.iter().filter(|node| !state.known.contains_key(&node.meta.name) && taints::any_no_execute(node));
    let new: Vec<Rc<Node>> = new.map(|node| Rc::clone(node)).collect();
    let (places, notes) = state.register(&nodes);
    let (work, seen) = begin(&mut state, view, &nodes, now);
    let nodes: Vec<_> = nodes.into_iter().cloned().collect();
    if work.is_empty() && notes.is_empty() {
        // The usual case: nothing to write. A zone can only get better by it.
        let counts = state.count(&nodes, &places);
        if state.judge(&counts, now.at) == Disruption::Entered {
            drop(state);
            let monitor = monitor.clone();
            return script::run(view, now, move |script| {
                lift_all(script, &monitor, &nodes)?;
                Ok(Again::OnChange)
            });
        }
        return Plan::nothing();
    }
    drop(state);
    let monitor = monitor.clone();
    script::run(view, now, move |script| {
        for (about, reason, message) in &notes {
            script.record(about, EventType::Normal, reason, message.clone());
        }
        for node in &new {
            lift(script, &monitor, node)?;
        }
        let unseen = &nodes[seen..];
        script.side_by_side(WORKERS, work.len() + unseen.len(), |script, index| match work.get(index) {
            Some(work) => carry_out(script, &monitor, work.clone()),
            None => match look_now(script, &monitor, &unseen[index - work.len()]) {
                Some(work) => carry_out(script, &monitor, work),
                None => Ok(()),
            },
        })?;
        let at = script.now().at;
        let judge = || {
            let mut state = monitor.borrow_mut();
            let counts = state.count(&nodes, &places);
            state.judge(&counts, at)
        };
        if script.once(|| judge() == Disruption::Entered) {
            lift_all(script, &monitor, &nodes)?;
        }
        Ok(Again::OnChange)
    })
}

/// Looks at the nodes until every worker has something to do: at the others they look when they come to them, which may
/// be seconds later. Returns what there is to do, and at how many nodes was looked.
fn begin(state: &mut Monitor, view: &View<'_>, nodes: &[&Rc<Node>], now: Now) -> (Vec<Rc<Work>>, usize) {
    let mut work = Vec::new();
    for (seen, node) in nodes.iter().enumerate() {
        if work.len() == WORKERS {
            return (work, seen);
        }
        work.extend(state.look(view, node, now).map(Rc::new));
    }
    (work, nodes.len())
}

/// Looks at a node as it is now, once.
fn look_now(script: &mut Script<'_>, monitor: &Rc<RefCell<Monitor>>, node: &Rc<Node>) -> Option<Rc<Work>> {
    let now = script.now();
    let work = script.see(|view| Rc::new(monitor.borrow_mut().look(view, node, now).map(Rc::new)));
    (*work).clone()
}

/// Takes the NoExecute taints off all nodes, as far as they had them when the pass began, and gives none any more.
fn lift_all(script: &mut Script<'_>, monitor: &Rc<RefCell<Monitor>>, nodes: &[Rc<Node>]) -> Result<(), Halt> {
    for node in nodes {
        lift(script, monitor, node)?;
    }
    let at = script.now().at;
    script.once(|| {
        monitor.borrow_mut().zones.stop(at);
        true
    });
    Ok(())
}

/// Takes the NoExecute taints off a node, and the node out of its queue (`markNodeAsReachable`).
fn lift(script: &mut Script<'_>, monitor: &Rc<RefCell<Monitor>>, node: &Node) -> Result<(), Halt> {
    for taint in taints::all_no_execute() {
        if !taints::remove(script, node, &[taint])? {
            return Ok(());
        }
    }
    script.once(|| {
        monitor.borrow_mut().zones.dequeue(node);
        true
    });
    Ok(())
}

/// Writes what a node's silence or return asks for. What fails is tried again by the next pass.
fn carry_out(script: &mut Script<'_>, monitor: &Rc<RefCell<Monitor>>, work: Rc<Work>) -> Result<(), Halt> {
    let Some(work) = write_silence(script, monitor, work)? else {
        return Ok(());
    };
    let node = &work.node;
    let pods: Rc<Vec<Rc<Pod>>> = script.see(|view| {
        let pods = view.pods_on(&node.meta.name).filter(|_| work.marks_pods);
        Rc::new(pods.cloned().collect())
    });
    match taints::no_execute(work.current) {
        None => lift(script, monitor, node)?,
        Some((add, opposite)) => {
            if taints::has(node, &opposite) {
                taints::swap(script, node, &[add], &[opposite])?;
            } else {
                let at = script.now().at;
                script.once(|| {
                    monitor.borrow_mut().zones.enqueue(node, taints::has(node, &add), at);
                    true
                });
            }
        }
    }
    if work.fell {
        let name = &node.meta.name;
        let message = format!("Node {name} status is now: NodeNotReady");
        script.record(&reference(name, node.meta.uid), EventType::Normal, "NodeNotReady", message);
    }
    let failed = mark_not_ready(script, &pods)?.is_some();
    script.once(|| {
        let retry = &mut monitor.borrow_mut().retry;
        if failed { retry.insert(node.meta.name.clone()) } else { retry.remove(&node.meta.name) }
    });
    Ok(())
}

/// Writes that a node is silent, if it is. If somebody else wrote it meanwhile, it is looked at anew as it is then: perhaps that
/// was its kubelet. Returns what there is to do after that.
fn write_silence(
    script: &mut Script<'_>,
    monitor: &Rc<RefCell<Monitor>>,
    mut work: Rc<Work>,
) -> Result<Option<Rc<Work>>, Halt> {
    for _ in 0..TRIES {
        if !work.silent {
            return Ok(Some(work));
        }
        let mut update = (*work.node).clone();
        update.status.conditions = health::silent_conditions(&work.node, script.now().timestamp()).0;
        let object = Object::Node(Rc::new(update));
        if script.ask(Operation::Update { object, part: Part::Status, dry_run: false })?.is_ok() {
            return Ok(Some(work));
        }
        let Ok(Answer::Object(Object::Node(fresh))) = script.ask(Operation::Get { key: owner::key_of(&*work.node) })?
        else {
            return Ok(None);
        };
        match look_now(script, monitor, &fresh) {
            Some(next) => work = next,
            None => return Ok(None),
        }
    }
    Ok(None)
}
