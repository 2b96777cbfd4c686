//! For tests: one process and one API server that keeps objects in memory, with faults on demand.

use std::collections::BTreeMap;

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Uid};
use crate::api::object::{Object, Resource};
use crate::api::plain::ConfigMap;
use crate::apiserver::protocol::{Answer, ApiMessage, Operation, Request, WatchEvent, WatchId, new_meta};
use crate::apiserver::status::{Details, Reason, Status};
use crate::engine::process::{Cause, Context, Input, Lane, ProcessId, TimerId, Token};
use crate::engine::time::{SimDuration, SimTime};

/// The server of all tests.
pub const SERVER: ProcessId = ProcessId(1);
/// One way between process and server.
pub const HOP: SimDuration = SimDuration::from_millis(1);

/// What a test runs.
pub trait Process {
    /// As a component does.
    fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>);
}

/// The process, its server, and what is under way between them.
pub struct Run<P> {
    pub process: P,
    pub server: Server,
    pub desk: Desk,
}

/// The process's context, and all events to come.
pub struct Desk {
    pub now: SimTime,
    events: BTreeMap<(SimTime, u64), Event>,
    timers: BTreeMap<u64, (SimTime, u64)>,
    sequence: u64,
    cause: Cause,
    pub timers_fired: u64,
    /// The server to which something was sent last; all servers are one and the same, and it answers as this one.
    pub addressed: ProcessId,
}

enum Event {
    ToServer(Cause, ApiMessage),
    ToProcess(Input<ApiMessage>),
    Timer(Token),
}

/// Says which requests fail, and how.
pub type Refusal = Box<dyn FnMut(&Operation) -> Option<Status>>;

/// An API server in memory: one revision for all kinds, the whole history, no validation.
#[derive(Default)]
pub struct Server {
    pub objects: BTreeMap<ObjectKey, Object>,
    history: Vec<(u64, Kind, WatchEvent)>,
    pub revision: u64,
    compacted: u64,
    watches: BTreeMap<WatchId, Kind>,
    /// What came, when, and what for.
    pub requests: Vec<(SimTime, Cause, Request)>,
    /// Answers in place of what would be answered, first come first served.
    pub refusals: Vec<Refusal>,
    /// Nothing is answered while this is set.
    pub dead: bool,
    /// Watchers hear of nothing while this is set; what they miss they find when they watch anew.
    pub mute: bool,
    created: u64,
    outbox: Vec<ApiMessage>,
}

impl Context<ApiMessage> for Desk {
    fn now(&self) -> SimTime {
        self.now
    }

    fn send_after(&mut self, delay: SimDuration, to: ProcessId, _lane: Lane, message: ApiMessage) {
        self.addressed = to;
        let at = self.now + delay + HOP;
        let cause = self.cause;
        self.schedule(at, Event::ToServer(cause, message));
    }

    fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId {
        assert!(at >= self.now, "a timer in the past");
        let sequence = self.schedule(at, Event::Timer(token));
        self.timers.insert(sequence, (at, sequence));
        TimerId(sequence)
    }

    fn cancel_timer(&mut self, id: TimerId) {
        if let Some(place) = self.timers.remove(&id.0) {
            self.events.remove(&place);
        }
    }

    fn write_and_sync(&mut self, _bytes: u64, _token: Token) {
        unreachable!("clients have no disk");
    }

    fn cause(&self) -> Cause {
        self.cause
    }

    fn set_cause(&mut self, cause: Cause) {
        self.cause = cause;
    }
}

impl Desk {
    fn schedule(&mut self, at: SimTime, event: Event) -> u64 {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
        self.sequence
    }
}

impl<P: Process> Run<P> {
    /// Starts a process.
    pub fn start(process: P) -> Self {
        let desk = Desk {
            now: SimTime::ZERO,
            events: BTreeMap::new(),
            timers: BTreeMap::new(),
            sequence: 0,
            cause: Cause::NONE,
            timers_fired: 0,
            addressed: SERVER,
        };
        let mut run = Run { process, server: Server::default(), desk };
        run.desk.schedule(SimTime::ZERO, Event::ToProcess(Input::Start));
        run
    }

    /// Handles all events until a time, that time included.
    pub fn until(&mut self, time: SimTime) {
        while let Some((&(at, sequence), _)) = self.desk.events.first_key_value()
            && at <= time
        {
            let Some((_, event)) = self.desk.events.pop_first() else { return };
            self.desk.now = at;
            self.desk.cause = Cause(sequence);
            match event {
                Event::ToProcess(input) => self.process.handle(input, &mut self.desk),
                Event::Timer(token) => {
                    self.desk.timers.remove(&sequence);
                    self.desk.timers_fired += 1;
                    self.process.handle(Input::Timer { token }, &mut self.desk);
                }
                Event::ToServer(cause, message) if !self.server.dead => self.server.take(at, cause, message),
                Event::ToServer(..) => {}
            }
            self.deliver();
        }
        self.desk.now = self.desk.now.max(time);
    }

    /// Handles all events of some time from now.
    pub fn pass(&mut self, time: SimDuration) {
        self.until(self.desk.now + time);
    }

    /// Changes something at the server; watchers hear of it.
    pub fn write(&mut self, object: Object) {
        self.server.write(object);
        self.deliver();
    }

    /// Deletes an object at the server; watchers hear of it.
    pub fn delete(&mut self, key: &ObjectKey) {
        self.server.delete(key);
        self.deliver();
    }

    /// Starts the process anew, its timers gone.
    pub fn restart(&mut self) {
        self.desk.events.retain(|_, event| !matches!(event, Event::Timer(_)));
        self.desk.timers.clear();
        let now = self.desk.now;
        self.desk.schedule(now, Event::ToProcess(Input::Start));
    }

    /// Breaks the connection: what is under way is lost, watches end. Not heard of after a hop, but at once.
    pub fn break_connection(&mut self) {
        let lost = |event: &Event| matches!(event, Event::ToServer(..) | Event::ToProcess(Input::Message { .. }));
        self.desk.events.retain(|_, event| !lost(event));
        self.server.watches.clear();
        self.server.outbox.clear();
        let (now, peer) = (self.desk.now, self.desk.addressed);
        self.desk.schedule(now, Event::ToProcess(Input::ConnectionLost { peer }));
    }

    fn deliver(&mut self) {
        for message in std::mem::take(&mut self.server.outbox) {
            let (at, from) = (self.desk.now + HOP, self.desk.addressed);
            self.desk.schedule(at, Event::ToProcess(Input::Message { from, message }));
        }
    }
}

impl Server {
    /// Stores a version of an object.
    pub fn write(&mut self, mut object: Object) -> Object {
        self.revision += 1;
        let key = object.key();
        let known = self.objects.get(&key);
        let meta = object.meta_mut();
        meta.resource_version.set(self.revision);
        if meta.uid == Uid::default() {
            self.created += 1;
            meta.uid = known.map_or(Uid(u128::from(self.created)), |known| known.meta().uid);
        }
        let event = if known.is_some() { WatchEvent::Modified } else { WatchEvent::Added };
        self.objects.insert(key.clone(), object.clone());
        self.tell(key.kind, event(object.clone()));
        object
    }

    /// Deletes an object, if it is there.
    pub fn delete(&mut self, key: &ObjectKey) -> Option<Object> {
        let object = self.objects.remove(key)?;
        self.revision += 1;
        self.tell(key.kind, WatchEvent::Deleted { object: object.clone(), revision: self.revision });
        Some(object)
    }

    /// Forgets the history so far.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
    }

    /// Ends all watches as a server does after a time.
    pub fn close_watches(&mut self) {
        for (watch, _) in std::mem::take(&mut self.watches) {
            self.outbox.push(ApiMessage::WatchClosed { watch });
        }
    }

    fn tell(&mut self, kind: Kind, event: WatchEvent) {
        self.history.push((self.revision, kind, event.clone()));
        if self.mute {
            return;
        }
        for (watch, _) in self.watches.iter().filter(|(_, watched)| **watched == kind) {
            self.outbox.push(ApiMessage::Watch { watch: *watch, events: vec![event.clone()] });
        }
    }

    fn take(&mut self, at: SimTime, cause: Cause, message: ApiMessage) {
        match message {
            ApiMessage::Request(request) => {
                let refusal = self.refusals.iter_mut().find_map(|refuse| refuse(&request.operation));
                let result = match refusal {
                    Some(status) => Err(Box::new(status)),
                    None => self.answer(&request.operation),
                };
                let id = request.id;
                let watch = match (&request.operation, &result) {
                    (Operation::Watch { watch, scope, after, .. }, Ok(_)) => Some((*watch, scope.kind, *after)),
                    _ => None,
                };
                self.requests.push((at, cause, *request));
                self.outbox.push(ApiMessage::Response { id, result });
                if let Some((watch, kind, after)) = watch {
                    let after = after.unwrap_or(0);
                    let missed = self.history.iter().filter(|(revision, of, _)| *of == kind && *revision > after);
                    let events: Vec<WatchEvent> = missed.map(|(_, _, event)| event.clone()).collect();
                    self.watches.insert(watch, kind);
                    if !events.is_empty() {
                        self.outbox.push(ApiMessage::Watch { watch, events });
                    }
                }
            }
            ApiMessage::StopWatch { watch } => {
                self.watches.remove(&watch);
            }
            other => panic!("no message for a server: {other:?}"),
        }
    }

    fn answer(&mut self, operation: &Operation) -> Result<Answer, Box<Status>> {
        let not_found = |key: &ObjectKey| Box::new(Status::not_found(key.kind, &key.name));
        match operation {
            Operation::Get { key } => self.objects.get(key).cloned().map(Answer::Object).ok_or_else(|| not_found(key)),
            Operation::List { scope, .. } => {
                let items = self.objects.iter().filter(|(key, _)| key.kind == scope.kind);
                let items = items.map(|(_, object)| object.clone()).collect();
                Ok(Answer::List { items, revision: self.revision, continue_token: None, remaining: None })
            }
            Operation::Watch { after, .. } if after.is_some_and(|after| after < self.compacted) => {
                Err(Box::new(Status::new(Reason::Expired, "too old resource version")))
            }
            Operation::Watch { .. } => Ok(Answer::WatchStarted),
            Operation::Create { object, .. } => {
                let mut object = object.clone();
                if object.meta().name.is_empty() {
                    let prefix = object.meta().generate_name.clone().unwrap_or_default();
                    object.meta_mut().name = format!("{prefix}{}", self.revision).into();
                }
                if self.objects.contains_key(&object.key()) {
                    return Err(Box::new(Status::already_exists(object.kind(), &object.meta().name)));
                }
                Ok(Answer::Object(self.write(object)))
            }
            Operation::Update { object, .. } => match self.objects.get(&object.key()) {
                None => Err(not_found(&object.key())),
                Some(known) if known.meta().revision() != object.meta().revision() => {
                    Err(Box::new(Status::conflict(object.kind(), &object.meta().name, "the object has been modified")))
                }
                Some(_) => Ok(Answer::Object(self.write(object.clone()))),
            },
            Operation::Patch { key, .. } => match self.objects.get(key).cloned() {
                None => Err(not_found(key)),
                Some(object) => Ok(Answer::Object(self.write(object))),
            },
            Operation::Delete { key, .. } => self.delete(key).map(Answer::Object).ok_or_else(|| not_found(key)),
            other => panic!("not in these tests: {other:?}"),
        }
    }
}

/// A ConfigMap with no content, in the default namespace.
pub fn config_map(name: &str) -> Object {
    let content = std::rc::Rc::default();
    ConfigMap { meta: new_meta("default", name), content }.boxed()
}

/// The names of all requests that are not about reading, with the times in milliseconds at which they came.
pub fn writes(server: &Server) -> Vec<(u64, String)> {
    let writes =
        server.requests.iter().filter(|(_, _, request)| !matches!(request.operation.verb(), "get" | "list" | "watch"));
    let line = |request: &Request| {
        let name = match &request.operation {
            Operation::Create { object, .. } | Operation::Update { object, .. } => object.meta().name.clone(),
            Operation::Patch { key, .. } | Operation::Delete { key, .. } => key.name.clone(),
            other => panic!("not in these tests: {other:?}"),
        };
        format!("{} {}/{name}", request.operation.verb(), request.operation.kind().row().singular)
    };
    writes.map(|(at, _, request)| (at.as_millis(), line(request))).collect()
}

/// A failure after which the server wants the request again in some seconds.
pub fn busy(seconds: u32) -> Status {
    let details = Details { retry_after_seconds: seconds, ..Details::default() };
    Status { details: Some(Box::new(details)), ..Status::new(Reason::TooManyRequests, "too many requests") }
}

/// A time in milliseconds since the run began.
pub fn millis(ms: u64) -> SimTime {
    SimTime::from_nanos(ms * 1_000_000)
}
