//! Looks at every committed write while a run goes on, and asks every invariant what it says.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use kubesim::api::kind::Kind;
use kubesim::api::meta::{ObjectKey, Timestamp, Uid};
use kubesim::api::object::{Object, Resource};
use kubesim::api::pod::Pod;
use kubesim::cluster::Cluster;
use kubesim::cluster::news::{News, Twins, Write};
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::scenario::Observer;

use super::history::History;
use super::invariants;

/// What a case does, as far as it decides what may be promised.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Somebody takes pods out of the API without asking their kubelets.
    pub is_forced: bool,
    /// API server, etcd, controllers or scheduler fail.
    pub control_plane_fails: bool,
    /// Anything fails.
    pub nodes_fail: bool,
    /// Pods are deleted by others than their controllers.
    pub pods_go: bool,
}

impl Circumstances {
    /// How much older than the committed state may be what a controller acts upon. Its cache follows within milliseconds; its
    /// requests may wait for the client's rate limit. With the control plane in trouble they may wait as long as a request can.
    pub fn lag(&self) -> SimDuration {
        if self.control_plane_fails { SimDuration::from_secs(150) } else { SimDuration::from_secs(2) }
    }
}

/// All objects, as committed.
#[derive(Default)]
pub struct Objects(BTreeMap<ObjectKey, Object>);

impl Objects {
    /// All of a kind.
    pub fn all<R: Resource>(&self) -> impl Iterator<Item = &R> {
        let all = self.0.range(ObjectKey::new(R::KIND, "", "")..);
        all.map_while(|(_, object)| object.get::<R>().map(|object| &**object))
    }

    pub fn get<R: Resource>(&self, name: &str) -> Option<&R> {
        self.0.get(&ObjectKey::new(R::KIND, "default", name))?.get::<R>().map(|object| &**object)
    }

    /// The pods that an object manages.
    pub fn pods_of(&self, owner: Uid) -> impl Iterator<Item = &Pod> {
        self.all::<Pod>().filter(move |pod| pod.meta.controller().is_some_and(|controller| controller.uid == owner))
    }
}

/// A write and what there is after it.
pub struct Scene<'s> {
    pub now: SimTime,
    pub date: Timestamp,
    pub write: &'s Write,
    pub objects: &'s Objects,
    pub circumstances: Circumstances,
}

impl Scene<'_> {
    /// The object before and after, if it is of a kind.
    pub fn change<R: Resource>(&self) -> Option<(Option<&R>, Option<&R>)> {
        if self.write.key.kind != R::KIND {
            return None;
        }
        let old = self.write.old.as_ref().and_then(Object::get::<R>).map(|object| &**object);
        let new = self.write.new.as_ref().and_then(Object::get::<R>).map(|object| &**object);
        Some((old, new))
    }

    pub fn is_by(&self, writer: &str) -> bool {
        self.write.agent.contains(writer)
    }

    /// The earliest moment at which a writer may have seen what it acted upon.
    pub fn seen_from(&self) -> SimTime {
        let lag = self.circumstances.lag();
        SimTime::from_nanos(self.now.as_nanos().saturating_sub(lag.as_nanos()))
    }
}

/// The values that something had lately.
#[derive(Default)]
pub struct Recent<T>(VecDeque<(SimTime, T)>);

impl<T: Copy + PartialEq> Recent<T> {
    /// It has this value from now on.
    pub fn note(&mut self, now: SimTime, value: T) {
        if self.0.back().is_none_or(|(_, last)| *last != value) {
            self.0.push_back((now, value));
        }
    }

    /// The values that it had at some moment since.
    pub fn since(&self, from: SimTime) -> impl Iterator<Item = T> + '_ {
        let first = self.0.iter().rposition(|(at, _)| *at <= from).unwrap_or(0);
        self.0.iter().skip(first).map(|(_, value)| *value)
    }
}

/// Whoever looks.
pub struct Watcher {
    circumstances: Circumstances,
    objects: Objects,
    invariants: Vec<Box<dyn invariants::Invariant>>,
    history: History,
    /// Writes that were told before an earlier one was.
    waiting: BTreeMap<u64, Rc<Write>>,
    now: SimTime,
    violation: Option<String>,
}

impl Watcher {
    pub fn new(circumstances: Circumstances) -> Self {
        Watcher {
            circumstances,
            objects: Objects::default(),
            invariants: invariants::all(),
            history: History::default(),
            waiting: BTreeMap::new(),
            now: SimTime::ZERO,
            violation: None,
        }
    }

    /// What did not hold first.
    pub fn violation(&self) -> Option<String> {
        self.violation.clone()
    }

    /// How often each invariant was put to the test.
    pub fn judged(&self) -> Vec<usize> {
        self.invariants.iter().map(|invariant| invariant.judged()).collect()
    }

    /// One who looks at nothing but what is told.
    pub fn of_history() -> Self {
        let circumstances =
            Circumstances { is_forced: true, control_plane_fails: true, nodes_fail: true, pods_go: true };
        Watcher { invariants: Vec::new(), ..Watcher::new(circumstances) }
    }

    /// The run is over: something may be wrong that was committed longer ago than the time for which it may be under way.
    pub fn ended(&mut self, cluster: &Cluster, under_way: SimDuration) -> Result<(), String> {
        self.history.ended(cluster, under_way)?;
        while let Some((_, write)) = self.waiting.pop_first() {
            self.look(cluster, &write);
        }
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// Writes are told when their servers learn of them; they are looked at in the order in which etcd made them, which is the
    /// one in which controllers see them.
    fn write(&mut self, cluster: &Cluster, write: &Rc<Write>) {
        if let Err(why) = self.history.told(cluster, write) {
            self.violation.get_or_insert(format!("at {}: {}: {why}", write.at, write.key));
        }
        self.waiting.insert(write.revision, write.clone());
        let known = self.history.complete_before();
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() < known) {
            let write = entry.remove();
            self.look(cluster, &write);
        }
    }

    fn look(&mut self, cluster: &Cluster, write: &Write) {
        if matches!(write.key.kind, Kind::Lease | Kind::Event) {
            return;
        }
        self.now = self.now.max(write.at);
        match &write.new {
            Some(object) => drop(self.objects.0.insert(write.key.clone(), object.clone())),
            None => drop(self.objects.0.remove(&write.key)),
        }
        let (now, objects, circumstances) = (self.now, &self.objects, self.circumstances);
        let scene = Scene { now, date: cluster.epoch().timestamp(now), write, objects, circumstances };
        for invariant in &mut self.invariants {
            if let Err(why) = invariant.look(&scene) {
                let told = format!("at {}, as {} writes {}: {why}", write.at, write.agent, write.key);
                self.violation.get_or_insert(told);
            }
        }
    }

    fn twins(&mut self, cluster: &Cluster, twins: &Twins) {
        if twins.alive.len() > 1 && !self.circumstances.is_forced {
            let told = format!("at {}: {} runs more than once: {:?}", cluster.now(), twins.key, twins.alive);
            self.violation.get_or_insert(told);
        }
    }
}

impl Observer for Watcher {
    fn news(&mut self, cluster: &Cluster, news: &News) {
        match news {
            News::Write(write) => self.write(cluster, write),
            News::Twins(twins) => self.twins(cluster, twins),
            News::Answer { .. } | News::Decided(_) | News::Alarm { .. } | News::EtcdLeader { .. } => {}
            News::Violation(violation) => drop(self.violation.get_or_insert(violation.to_string())),
        }
    }
}
