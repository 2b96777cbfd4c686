//! A small world for members: a list of events, a network with delays that can be cut, disks with a sync time, and a client.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::engine::process::{Cause, Context, Input, Lane, ProcessId, TimerId, Token};
use crate::engine::random::{Seed, Stream};
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::key::Key;
use crate::etcd::member::{Member, Settings};
use crate::etcd::message::{CLIENT_LANE, Message, Request, Response, WatchCommand};
use crate::etcd::mvcc::{Operation, Put, Range, SharedStore, Txn};
use crate::etcd::raft::SafetyChecker;
use crate::etcd::raft::invariants::Down;
use crate::etcd::watch::WatchResponse;

pub type Bytes = Rc<[u8]>;
type Said = Message<Bytes>;

/// The one client of this world.
pub const CLIENT: ProcessId = ProcessId(100);

enum Happening {
    Deliver { from: ProcessId, to: ProcessId, message: Said },
    Timer { token: Token },
    Disk { token: Token },
    Lost { peer: ProcessId },
}

struct Event {
    process: ProcessId,
    life: u64,
    what: Happening,
}

struct Node {
    member: Member<Bytes>,
    life: u64,
    /// When the disk has done what it was asked.
    disk_free: SimTime,
    /// How long a sync takes at most.
    sync: SimDuration,
}

pub struct World {
    pub now: SimTime,
    pub store: SharedStore<Bytes>,
    pub settings: Settings,
    pub seed: Seed,
    pub handled: u64,
    events: BTreeMap<(SimTime, u64), Event>,
    sequence: u64,
    nodes: BTreeMap<ProcessId, Node>,
    lanes: BTreeMap<(ProcessId, ProcessId, Lane), SimTime>,
    cut: BTreeSet<(ProcessId, ProcessId)>,
    chance: Stream,
    delay: (SimDuration, SimDuration),
    checker: SafetyChecker,
    next_request: u64,
    pub asked: BTreeMap<u64, SimTime>,
    pub answers: BTreeMap<u64, (SimTime, Response<Bytes>)>,
    pub watched: Vec<(SimTime, WatchResponse<Bytes>)>,
    /// What each event was ascribed to.
    causes: BTreeMap<u64, Cause>,
    /// The event in which each request arrived, and that of its answer.
    pub arrivals: BTreeMap<u64, Cause>,
    pub answered_by: BTreeMap<u64, Cause>,
}

struct Effects<'a> {
    now: SimTime,
    own: ProcessId,
    life: u64,
    events: &'a mut BTreeMap<(SimTime, u64), Event>,
    sequence: &'a mut u64,
    lanes: &'a mut BTreeMap<(ProcessId, ProcessId, Lane), SimTime>,
    cut: &'a BTreeSet<(ProcessId, ProcessId)>,
    chance: &'a mut Stream,
    delay: (SimDuration, SimDuration),
    disk_free: &'a mut SimTime,
    sync: SimDuration,
    causes: &'a mut BTreeMap<u64, Cause>,
    cause: Cause,
}

impl Effects<'_> {
    fn schedule(&mut self, at: SimTime, event: Event) -> TimerId {
        *self.sequence += 1;
        self.events.insert((at.max(self.now), *self.sequence), event);
        self.causes.insert(*self.sequence, self.cause);
        TimerId(*self.sequence)
    }
}

impl Context<Said> for Effects<'_> {
    fn now(&self) -> SimTime {
        self.now
    }

    fn send_after(&mut self, delay: SimDuration, to: ProcessId, lane: Lane, message: Said) {
        let (least, most) = self.delay;
        let travel = SimDuration::from_nanos(self.chance.between(least.as_nanos(), most.as_nanos()));
        if self.cut.contains(&(self.own, to)) {
            return;
        }
        let last = self.lanes.entry((self.own, to, lane)).or_default();
        let arrival = (self.now + delay + travel).max(*last);
        *last = arrival;
        let what = Happening::Deliver { from: self.own, to, message };
        self.schedule(arrival, Event { process: to, life: 0, what });
    }

    fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId {
        self.schedule(at, Event { process: self.own, life: self.life, what: Happening::Timer { token } })
    }

    fn cancel_timer(&mut self, id: TimerId) {
        self.events.retain(|&(_, sequence), _| sequence != id.0);
    }

    fn write_and_sync(&mut self, _bytes: u64, token: Token) {
        let time = SimDuration::from_nanos(self.chance.between(self.sync.as_nanos() / 2, self.sync.as_nanos()));
        let done = self.now.max(*self.disk_free) + time;
        *self.disk_free = done;
        self.schedule(done, Event { process: self.own, life: self.life, what: Happening::Disk { token } });
    }

    fn cause(&self) -> Cause {
        self.cause
    }

    fn set_cause(&mut self, cause: Cause) {
        self.cause = cause;
    }
}

pub fn ms(ms: u64) -> SimDuration {
    SimDuration::from_millis(ms)
}

pub fn member(number: u32) -> ProcessId {
    ProcessId(number)
}

impl World {
    /// A cluster of so many members, not started.
    pub fn new(members: u32, seed: u64, settings: Settings) -> World {
        let mut world = World {
            now: SimTime::ZERO,
            store: SharedStore::new(),
            settings,
            seed: Seed(seed),
            handled: 0,
            events: BTreeMap::new(),
            sequence: 0,
            nodes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            cut: BTreeSet::new(),
            chance: Seed(seed).stream("world", "network"),
            delay: (SimDuration::from_micros(100), SimDuration::from_micros(300)),
            checker: SafetyChecker::new(),
            next_request: 0,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            watched: Vec::new(),
            causes: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            answered_by: BTreeMap::new(),
        };
        let voters: Vec<ProcessId> = (1..=members).map(member).collect();
        for &own in &voters {
            let name = format!("etcd-{}", own.0);
            let node = Member::new(own, &name, &voters, world.settings.clone(), world.seed, &world.store);
            world.add(own, node);
        }
        world
    }

    /// A cluster that has a leader.
    pub fn ready(members: u32, seed: u64) -> World {
        World::ready_with(members, seed, Settings::default())
    }

    pub fn ready_with(members: u32, seed: u64, settings: Settings) -> World {
        let mut world = World::new(members, seed, settings);
        (1..=members).for_each(|number| world.start(member(number)));
        world.run_for(ms(4000));
        assert!(world.leader().is_some(), "four seconds are enough for a first election");
        world
    }

    fn add(&mut self, own: ProcessId, member: Member<Bytes>) {
        let sync = SimDuration::from_micros(500);
        self.nodes.insert(own, Node { member, life: 0, disk_free: SimTime::ZERO, sync });
    }

    /// A further member that will join.
    pub fn add_joining(&mut self, own: ProcessId) {
        let first: Vec<ProcessId> = self.nodes.keys().copied().collect();
        let name = format!("etcd-{}", own.0);
        let node = Member::new(own, &name, &first, self.settings.clone(), self.seed, &self.store);
        self.add(own, node);
    }

    pub fn member(&self, own: ProcessId) -> &Member<Bytes> {
        &self.nodes[&own].member
    }

    pub fn start(&mut self, own: ProcessId) {
        self.input(own, Input::Start, Cause::NONE);
    }

    pub fn crash(&mut self, own: ProcessId) {
        let node = self.nodes.get_mut(&own).expect("a member");
        if !node.member.is_running() {
            return;
        }
        node.life += 1;
        node.member.crash(self.now);
        let down = Down {
            id: crate::etcd::member::member_id(own),
            disk: node.member.disk().expect("it does not run"),
            applied: node.member.view().applied_index(),
            configuration: node.member.configuration(),
        };
        self.checker.observe_crash(&down).expect("safe");
        let others: Vec<ProcessId> = self.nodes.keys().copied().filter(|&other| other != own).collect();
        for other in others {
            let life = self.nodes[&other].life;
            self.sequence += 1;
            let event = Event { process: other, life, what: Happening::Lost { peer: own } };
            self.events.insert((self.now + ms(1), self.sequence), event);
        }
    }

    pub fn hang_disk(&mut self, own: ProcessId, sync: SimDuration) {
        self.nodes.get_mut(&own).expect("a member").sync = sync;
    }

    /// Cuts a group of members off from the others; the client still reaches all.
    pub fn partition(&mut self, group: &[ProcessId]) {
        let others: Vec<ProcessId> = self.nodes.keys().copied().filter(|other| !group.contains(other)).collect();
        for &inside in group {
            for &outside in &others {
                self.cut.insert((inside, outside));
                self.cut.insert((outside, inside));
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn leader(&self) -> Option<ProcessId> {
        let leaders = self.nodes.iter().filter(|(_, node)| node.member.is_leader());
        // A deposed leader may not know yet: the one of the latest term counts.
        leaders.max_by_key(|(_, node)| node.member.core().map_or(0, |core| core.term())).map(|(&own, _)| own)
    }

    pub fn followers(&self) -> Vec<ProcessId> {
        let leader = self.leader();
        self.nodes.keys().copied().filter(|&own| Some(own) != leader).collect()
    }

    /// The client asks a member for something. What comes back lies in `answers` under the number.
    pub fn ask(&mut self, to: ProcessId, request: Request<Bytes>) -> u64 {
        self.ask_within(to, request, None)
    }

    /// Asks, and says how long it waits.
    pub fn ask_within(&mut self, to: ProcessId, request: Request<Bytes>, timeout: Option<SimDuration>) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        self.asked.insert(id, self.now);
        self.say(to, Message::Request { id, request, timeout });
        id
    }

    pub fn watch(&mut self, to: ProcessId, stream: u32, command: WatchCommand) {
        self.say(to, Message::Watch { stream, command });
    }

    fn say(&mut self, to: ProcessId, message: Said) {
        let (mut free, sync) = (SimTime::ZERO, SimDuration::ZERO);
        let mut effects = self.effects(CLIENT, 0, &mut free, sync, Cause::NONE);
        effects.send(to, CLIENT_LANE, message);
    }

    fn effects<'a>(
        &'a mut self,
        own: ProcessId,
        life: u64,
        free: &'a mut SimTime,
        sync: SimDuration,
        cause: Cause,
    ) -> Effects<'a> {
        Effects {
            now: self.now,
            own,
            life,
            events: &mut self.events,
            sequence: &mut self.sequence,
            lanes: &mut self.lanes,
            cut: &self.cut,
            chance: &mut self.chance,
            delay: self.delay,
            disk_free: free,
            sync,
            causes: &mut self.causes,
            cause,
        }
    }

    pub fn put(&mut self, to: ProcessId, key: &str, value: u8) -> u64 {
        let put = Put::new(Key::from(key), Rc::from([value]));
        self.ask(to, Txn::one(Operation::Put(put)).into())
    }

    /// A put by a client that waits for so long.
    pub fn put_within(&mut self, to: ProcessId, key: &str, value: u8, timeout: SimDuration) -> u64 {
        let put = Put::new(Key::from(key), Rc::from([value]));
        self.ask_within(to, Txn::one(Operation::Put(put)).into(), Some(timeout))
    }

    pub fn get(&mut self, to: ProcessId, key: &str, serializable: bool) -> u64 {
        self.ask(to, Range { serializable, ..Range::key(Key::from(key)) }.into())
    }

    pub fn run_for(&mut self, time: SimDuration) {
        self.run_until(self.now + time, |_| false);
    }

    /// Runs until a condition holds; false if it does not in the time given.
    pub fn run_until(&mut self, end: SimTime, done: impl Fn(&World) -> bool) -> bool {
        while let Some((&(at, sequence), _)) = self.events.first_key_value()
            && at <= end
        {
            if done(self) {
                return true;
            }
            let event = self.events.remove(&(at, sequence)).expect("it was just seen");
            self.now = at;
            self.happen(event, Cause(sequence));
        }
        if done(self) {
            return true;
        }
        self.now = end;
        false
    }

    /// Runs until a request is answered and says when.
    pub fn answer(&mut self, id: u64) -> (SimDuration, &Response<Bytes>) {
        let end = self.now + SimDuration::from_secs(60);
        assert!(self.run_until(end, |world| world.answers.contains_key(&id)), "request {id} is never answered");
        let (at, response) = &self.answers[&id];
        (at.since(self.asked[&id]), response)
    }

    /// An event, what it was ascribed to, and so on, the latest first.
    pub fn chain(&self, event: Cause) -> impl Iterator<Item = Cause> {
        std::iter::successors(Some(event), |effect| self.causes.get(&effect.0).copied())
    }

    fn happen(&mut self, event: Event, cause: Cause) {
        self.handled += 1;
        let input = match event.what {
            Happening::Deliver { from, to, message } => {
                if to == CLIENT {
                    return self.client_hears(message, cause);
                }
                if self.cut.contains(&(from, to)) {
                    return;
                }
                if let Message::Request { id, .. } = message {
                    self.arrivals.insert(id, cause);
                }
                Input::Message { from, message }
            }
            Happening::Timer { .. } | Happening::Disk { .. } if event.life != self.nodes[&event.process].life => return,
            Happening::Timer { token } => Input::Timer { token },
            Happening::Disk { token } => Input::DiskDone { token },
            Happening::Lost { peer } => Input::ConnectionLost { peer },
        };
        self.input(event.process, input, cause);
    }

    fn client_hears(&mut self, message: Said, cause: Cause) {
        match message {
            Message::Response(response) => {
                self.answered_by.entry(response.id).or_insert(cause);
                self.answers.entry(response.id).or_insert((self.now, response));
            }
            Message::Watched(response) => self.watched.push((self.now, response)),
            _ => panic!("a client is told nothing else"),
        }
    }

    fn input(&mut self, own: ProcessId, input: Input<Said>, cause: Cause) {
        let mut node = self.nodes.remove(&own).expect("a member");
        let (life, sync) = (node.life, node.sync);
        let mut free = node.disk_free;
        let mut effects = self.effects(own, life, &mut free, sync, cause);
        node.member.handle(input, &mut effects);
        node.disk_free = free;
        if let Some(core) = node.member.core() {
            self.checker.observe(core).expect("safe");
        }
        self.nodes.insert(own, node);
    }
}
