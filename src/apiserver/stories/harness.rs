//! A small world for tests: one etcd member, API servers, and clients that wait for one answer at a time.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Epoch, ObjectKey};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::apiserver::Accounts;
use crate::apiserver::costs::Costs;
use crate::apiserver::protocol::{
    Answer, ApiMessage, DeleteOptions, ListRevision, Operation, Part, Patch, Request, Scope, User, WatchEvent, WatchId,
};
use crate::apiserver::server::{ApiServer, CommittedWrite, Config, ServerMessage};
use crate::apiserver::status::Status;
use crate::apiserver::storage::Stored;
use crate::engine::process::{Cause, Context, Input, Lane, ProcessId, TimerId, Token};
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::member::{Member, Settings};
use crate::etcd::message::Message as EtcdMessage;
use crate::etcd::mvcc::SharedStore;

const ETCD: ProcessId = ProcessId(0);
/// The date at which test runs begin: 2026-01-01T00:00:00Z.
pub const EPOCH: Epoch = Epoch(1_767_225_600_000_000_000);

pub type Outcome = Result<Answer, Box<Status>>;

enum Message {
    Api(ApiMessage),
    Etcd(EtcdMessage<Stored>),
}

impl From<ServerMessage> for Message {
    fn from(message: ServerMessage) -> Self {
        match message {
            ServerMessage::Api(message) => Message::Api(message),
            ServerMessage::Etcd(message) => Message::Etcd(message),
        }
    }
}

impl From<EtcdMessage<Stored>> for Message {
    fn from(message: EtcdMessage<Stored>) -> Self {
        Message::Etcd(message)
    }
}

enum Event {
    Arrive { from: ProcessId, to: ProcessId, message: Message },
    Timer { process: ProcessId, incarnation: u32, token: Token },
    DiskDone { process: ProcessId, incarnation: u32, token: Token },
}

struct Handling<M> {
    now: SimTime,
    next_timer: u64,
    sent: Vec<(SimDuration, ProcessId, Lane, M)>,
    timers: Vec<(SimTime, Token, u64)>,
    cancelled: Vec<u64>,
    writes: Vec<Token>,
}

impl<M> Context<M> for Handling<M> {
    fn now(&self) -> SimTime {
        self.now
    }
    fn send_after(&mut self, delay: SimDuration, to: ProcessId, lane: Lane, message: M) {
        self.sent.push((delay, to, lane, message));
    }
    fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId {
        self.next_timer += 1;
        self.timers.push((at.max(self.now), token, self.next_timer));
        TimerId(self.next_timer)
    }
    fn cancel_timer(&mut self, id: TimerId) {
        self.cancelled.push(id.0);
    }
    fn write_and_sync(&mut self, _bytes: u64, token: Token) {
        self.writes.push(token);
    }
    fn cause(&self) -> Cause {
        Cause::NONE
    }
    fn set_cause(&mut self, _cause: Cause) {}
}

/// The world.
pub struct World {
    pub now: SimTime,
    sequence: u64,
    next_timer: u64,
    events: BTreeMap<(SimTime, u64), Event>,
    timers: BTreeMap<u64, (SimTime, u64)>,
    lanes: BTreeMap<(ProcessId, ProcessId, Lane), SimTime>,
    incarnations: BTreeMap<ProcessId, u32>,
    etcd: Member<Stored>,
    servers: BTreeMap<ProcessId, ApiServer>,
    next_request: u64,
    responses: BTreeMap<u64, Outcome>,
    watched: BTreeMap<WatchId, Vec<WatchEvent>>,
    closed: Vec<WatchId>,
    pub writes: Vec<CommittedWrite>,
    /// What servers that start from now on demand.
    pub accounts: Accounts,
    /// The store behind etcd, to which servers say what of its history they may still ask for.
    pub store: SharedStore<Stored>,
    /// Etcd does not get what it is sent; it lies here until then.
    held_up: Option<Vec<(ProcessId, Message)>>,
}

impl World {
    /// One server, ready.
    pub fn new() -> World {
        World::with_servers(1)
    }

    /// Several servers, ready, with namespaces and priority classes there.
    pub fn with_servers(count: u32) -> World {
        let store = SharedStore::new();
        let mut world = World {
            now: SimTime::ZERO,
            sequence: 0,
            next_timer: 0,
            events: BTreeMap::new(),
            timers: BTreeMap::new(),
            lanes: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            etcd: Member::new(ETCD, "etcd-0", &[ETCD], Settings::default(), Seed(7), &store),
            servers: BTreeMap::new(),
            next_request: 0,
            responses: BTreeMap::new(),
            watched: BTreeMap::new(),
            closed: Vec::new(),
            writes: Vec::new(),
            accounts: Accounts::DefaultIsGiven,
            store,
            held_up: None,
        };
        world.deliver(ETCD, Input::Start);
        world.run_for(SimDuration::from_secs(5));
        for place in 1..=count {
            world.start_server(place);
        }
        world.run_for(SimDuration::from_secs(3));
        world
    }

    /// Starts a server, or starts it anew without its state.
    pub fn start_server(&mut self, place: u32) {
        let process = ProcessId(place);
        *self.incarnations.entry(process).or_default() += 1;
        let config = Config::new(format!("kube-apiserver-{place}"), vec![ETCD], EPOCH, Seed(7));
        let (costs, accounts, store) = (Costs::nothing(), self.accounts, Some(self.store.clone()));
        self.servers.insert(process, ApiServer::new(Config { costs, accounts, store, ..config }));
        self.deliver(ETCD, Input::ConnectionLost { peer: process });
        self.deliver(process, Input::Start);
    }

    /// From now on etcd gets nothing of what servers send.
    pub fn hold_etcd_up(&mut self) {
        self.held_up = Some(Vec::new());
    }

    /// Etcd gets everything that it was not given.
    pub fn let_etcd_go_on(&mut self) {
        for (from, message) in self.held_up.take().unwrap_or_default() {
            self.deliver(ETCD, Input::Message { from, message });
        }
    }

    fn deliver(&mut self, to: ProcessId, input: Input<Message>) {
        let input = match (&mut self.held_up, input) {
            (Some(held), Input::Message { from, message }) if to == ETCD => {
                held.push((from, message));
                return;
            }
            (_, input) => input,
        };
        if to == ETCD {
            let Some(input) = narrow(input, |message| match message {
                Message::Etcd(message) => Some(message),
                Message::Api(_) => None,
            }) else {
                return;
            };
            let mut handling = self.handling();
            self.etcd.handle(input, &mut handling);
            self.carry_out(to, handling);
        } else if let Some(mut server) = self.servers.remove(&to) {
            let input = narrow(input, |message| {
                Some(match message {
                    Message::Api(message) => ServerMessage::Api(message),
                    Message::Etcd(message) => ServerMessage::Etcd(message),
                })
            });
            let mut handling = self.handling();
            if let Some(input) = input {
                server.handle(input, &mut handling);
            }
            self.writes.extend(server.take_writes());
            self.servers.insert(to, server);
            self.carry_out(to, handling);
        } else if let Input::Message { message: Message::Api(message), .. } = input {
            self.client_message(message);
        }
    }

    fn handling<M>(&self) -> Handling<M> {
        let (now, next_timer) = (self.now, self.next_timer);
        Handling { now, next_timer, sent: vec![], timers: vec![], cancelled: vec![], writes: vec![] }
    }

    fn client_message(&mut self, message: ApiMessage) {
        match message {
            ApiMessage::Response { id, result } => {
                assert!(self.responses.insert(id, result).is_none(), "one answer for each request");
            }
            ApiMessage::Watch { watch, events } => self.watched.entry(watch).or_default().extend(events),
            ApiMessage::WatchClosed { watch } => self.closed.push(watch),
            ApiMessage::Request(_) | ApiMessage::StopWatch { .. } => panic!("servers do not ask clients"),
        }
    }

    fn carry_out<M: Into<Message>>(&mut self, process: ProcessId, handling: Handling<M>) {
        self.next_timer = handling.next_timer;
        let incarnation = self.incarnations.get(&process).copied().unwrap_or(0);
        for (delay, to, lane, message) in handling.sent {
            let last = self.lanes.entry((process, to, lane)).or_default();
            *last = (*last).max(self.now + delay + SimDuration::from_micros(100));
            let at = *last;
            self.schedule(at, Event::Arrive { from: process, to, message: message.into() });
        }
        for (at, token, id) in handling.timers {
            let place = self.schedule(at, Event::Timer { process, incarnation, token });
            self.timers.insert(id, place);
        }
        for id in handling.cancelled {
            if let Some(place) = self.timers.remove(&id) {
                self.events.remove(&place);
            }
        }
        for token in handling.writes {
            self.schedule(self.now + SimDuration::from_micros(500), Event::DiskDone { process, incarnation, token });
        }
    }

    fn schedule(&mut self, at: SimTime, event: Event) -> (SimTime, u64) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
        (at, self.sequence)
    }

    fn step(&mut self) {
        let ((at, _), event) = self.events.pop_first().expect("etcd always ticks");
        self.now = at;
        let current = |world: &World, process| world.incarnations.get(&process).copied().unwrap_or(0);
        match event {
            Event::Arrive { from, to, message } => self.deliver(to, Input::Message { from, message }),
            Event::Timer { process, incarnation, token } if incarnation == current(self, process) => {
                self.deliver(process, Input::Timer { token });
            }
            Event::DiskDone { process, incarnation, token } if incarnation == current(self, process) => {
                self.deliver(process, Input::DiskDone { token });
            }
            Event::Timer { .. } | Event::DiskDone { .. } => {}
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: SimDuration) {
        let end = self.now + duration;
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Sends a request to a server, without waiting.
    pub fn send(&mut self, server: u32, operation: Operation) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        let user = Rc::new(User { name: Name::of("admin"), groups: vec![Name::of("system:masters")] });
        let request = Request { id, user, agent: Name::of("test"), operation };
        let message = Message::Api(ApiMessage::Request(Box::new(request)));
        let client = ProcessId(100);
        self.schedule(self.now, Event::Arrive { from: client, to: ProcessId(server), message });
        id
    }

    /// Waits for the answer to a request.
    pub fn wait(&mut self, id: u64) -> Outcome {
        let limit = self.now + SimDuration::from_secs(120);
        while !self.responses.contains_key(&id) {
            assert!(self.now < limit, "no answer to request {id} within two minutes");
            self.step();
        }
        self.responses.remove(&id).expect("it was just seen")
    }

    /// Asks the first server and waits.
    pub fn ask(&mut self, operation: Operation) -> Outcome {
        let id = self.send(1, operation);
        let outcome = self.wait(id);
        // Long enough for the watch caches to follow.
        self.run_for(SimDuration::from_millis(20));
        outcome
    }

    /// Creates an object and returns it as stored.
    pub fn create(&mut self, object: Object) -> Object {
        object_of(self.ask(Operation::Create { object, dry_run: false }))
    }

    /// Reads an object.
    pub fn get(&mut self, key: &ObjectKey) -> Option<Object> {
        self.ask(Operation::Get { key: key.clone() }).ok().map(|answer| object_of(Ok(answer)))
    }

    /// Replaces an object.
    pub fn update(&mut self, object: Object, part: Part) -> Outcome {
        self.ask(Operation::Update { object, part, dry_run: false })
    }

    /// Applies a JSON merge patch.
    pub fn merge(&mut self, key: &ObjectKey, patch: serde_json::Value) -> Outcome {
        let patch = Patch::Merge(Rc::new(patch));
        self.ask(Operation::Patch { key: key.clone(), patch, part: Part::Main, dry_run: false })
    }

    /// Deletes an object.
    pub fn delete(&mut self, key: &ObjectKey, options: DeleteOptions) -> Outcome {
        self.ask(Operation::Delete { key: key.clone(), options })
    }

    /// Binds a pod.
    pub fn bind(&mut self, pod: &Object, node: &str) -> Outcome {
        let (key, uid) = (pod.key(), pod.meta().uid);
        self.ask(Operation::Bind { key, uid, node: Name::new(node) })
    }

    /// All objects of a kind as etcd has them.
    pub fn list(&mut self, kind: Kind) -> (Vec<Object>, u64) {
        let (scope, at) = (Scope::all(kind), ListRevision::Latest);
        match self.ask(Operation::List { scope, limit: 0, continue_token: None, at }) {
            Ok(Answer::List { items, revision, .. }) => (items, revision),
            other => panic!("not a list: {other:?}"),
        }
    }

    /// Begins a watch at a server.
    pub fn watch(&mut self, server: u32, scope: Scope, after: Option<u64>) -> WatchId {
        let watch = self.next_request + 1;
        let id = self.send(server, Operation::Watch { watch, scope, after, bookmarks: false });
        let outcome = self.wait(id);
        assert!(matches!(outcome, Ok(Answer::WatchStarted)), "{outcome:?}");
        self.run_for(SimDuration::from_millis(20));
        watch
    }

    /// What a watch has said since the last call.
    pub fn seen(&mut self, watch: WatchId) -> Vec<WatchEvent> {
        self.run_for(SimDuration::from_millis(50));
        self.watched.remove(&watch).unwrap_or_default()
    }

    /// What a watch has said since the last call, in words.
    pub fn told(&mut self, watch: WatchId) -> Vec<String> {
        self.seen(watch).iter().map(in_words).collect()
    }
}

fn narrow<M, N>(input: Input<M>, of: impl Fn(M) -> Option<N>) -> Option<Input<N>> {
    Some(match input {
        Input::Start => Input::Start,
        Input::Message { from, message } => Input::Message { from, message: of(message)? },
        Input::Timer { token } => Input::Timer { token },
        Input::DiskDone { token } => Input::DiskDone { token },
        Input::ConnectionLost { peer } => Input::ConnectionLost { peer },
    })
}

fn in_words(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", object.meta().name),
        WatchEvent::Modified(object) => format!("MODIFIED {}", object.meta().name),
        WatchEvent::Deleted { object, .. } => format!("DELETED {}", object.meta().name),
        WatchEvent::Bookmark { .. } => "BOOKMARK".to_owned(),
        WatchEvent::Error(status) => format!("ERROR {} {status}", status.reason.code()),
    }
}

/// The object of an answer.
pub fn object_of(outcome: Outcome) -> Object {
    match outcome {
        Ok(Answer::Object(object)) => object,
        other => panic!("not an object: {other:?}"),
    }
}

/// The code and text of a failure.
pub fn failure(outcome: Outcome) -> String {
    match outcome {
        Err(status) => format!("{} {status}", status.reason.code()),
        Ok(answer) => panic!("not a failure: {answer:?}"),
    }
}

/// An object from JSON.
pub fn object(kind: Kind, value: serde_json::Value) -> Object {
    Object::from_json(kind, value).expect("a test's object is well formed")
}

/// A pod with one container.
pub fn pod(name: &str) -> Object {
    object(
        Kind::Pod,
        serde_json::json!({
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "nginx:1.27"}]},
        }),
    )
}

/// The key of a pod in the default namespace.
pub fn pod_key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Pod, "default", name)
}
