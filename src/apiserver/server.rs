//! The API server as a process: its inputs, and which part of it each one concerns.
//!
//! All state is volatile: after a crash a new server fills its caches from etcd.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::kind::{Kind, REGISTRY};
use crate::api::meta::{Epoch, ObjectKey};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::PodSpec;
use crate::engine::hash::{Map, Set};
use crate::engine::process::{Context, Input, Lane, ProcessId, Token};
use crate::engine::random::{Seed, Stream};
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::key::KeyRange;
use crate::etcd::lease::LeaseId;
use crate::etcd::message::{Message as EtcdMessage, Reply as EtcdReply, Request as EtcdRequest, Response};
use crate::etcd::mvcc::{Range, RangeResult, Reader, SharedStore, TxnResult};
use crate::etcd::watch::{WatchBody, WatchResponse};

use super::admission::{Accounts, Chain};
use super::allocation::Allocator;
use super::authorization::{AlwaysAllow, Attributes, Authorizer};
use super::cache::WatchCache;
use super::collection::Collection;
use super::commons::Commons;
use super::costs::Costs;
use super::direct::{DirectWatches, cached_kinds, has_cache};
use super::doubt::Doubt;
use super::heartbeats::Heartbeats;
use super::interruptions::Interruptions;
use super::link::Link;
use super::metrics::Metrics;
use super::protocol::{Answer, ApiMessage, Operation, Request, RequestId, WatchId};
use super::quota::Quotas;
use super::size;
use super::status::{Reason, Status};
use super::storage::{self, Stored};
use super::task::{Reply, Step, Task};
use super::watchers::{Place, Watchers};

/// The lane of answers.
const ANSWERS: Lane = 0;
/// The lane of lists, so that a long one holds no other answer up.
const LISTS: Lane = 2;

/// How often bookmarks are sent and etcd is asked how far its watches have come (cacher: bookmarks about every minute).
const BOOKMARKS: SimDuration = SimDuration::from_secs(60);
/// How often history is compacted (kube-apiserver, `--etcd-compaction-interval`).
const COMPACTION: SimDuration = SimDuration::from_secs(300);
/// How often the objects that every cluster has are tried again.
const BOOTSTRAP: SimDuration = SimDuration::from_secs(1);

/// When a request that is not a watch is given up, if nothing else is said (kube-apiserver, `--request-timeout`).
const REQUEST_TIMEOUT: SimDuration = SimDuration::from_secs(60);

/// What timers mean; from [`DELAYED`] on they name tasks that wait.
pub(super) mod token {
    pub const BOOKMARKS: u64 = 1;
    pub const COMPACTION: u64 = 2;
    pub const RECONNECT: u64 = 3;
    pub const BOOTSTRAP: u64 = 4;
    pub const DEADLINE: u64 = 5;
    pub const PROGRESS: u64 = 6;
    pub const QUOTA: u64 = 7;
    pub const REFILL: u64 = 8;
    /// Trying the first etcd member again; those that follow are for the others.
    pub const CONNECT: u64 = 32;
    pub const DELAYED: u64 = 64;
}

/// What an API server receives and sends.
#[derive(Debug)]
pub enum ServerMessage {
    /// Between it and a client.
    Api(ApiMessage),
    /// Between it and an etcd member.
    Etcd(EtcdMessage<Stored>),
}

/// What an API server is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process's name; names its random streams.
    pub name: String,
    /// The etcd members, the preferred one first.
    pub etcd: Vec<ProcessId>,
    /// What ties virtual time to dates.
    pub epoch: Epoch,
    /// The run's seed.
    pub seed: Seed,
    /// How long requests take.
    pub costs: Costs,
    /// Which service accounts must exist.
    pub accounts: Accounts,
    /// Who may do what.
    pub authorizer: Rc<dyn Authorizer>,
    /// Renewals of leases that did not travel.
    pub heartbeats: Rc<Heartbeats>,
    /// What the metrics APIs answer from.
    pub metrics: Rc<Metrics>,
    /// The store behind etcd, to which the server says what of its history it may still ask for. Without it all history is kept
    /// until it is compacted.
    pub store: Option<SharedStore<Stored>>,
    /// When a request that is not a watch is given up (kube-apiserver, `--request-timeout`).
    pub request_timeout: SimDuration,
}

impl Config {
    /// The defaults.
    pub fn new(name: impl Into<String>, etcd: Vec<ProcessId>, epoch: Epoch, seed: Seed) -> Self {
        let (costs, accounts) = (Costs::default(), Accounts::default());
        let (authorizer, heartbeats, request_timeout) = (Rc::new(AlwaysAllow), Rc::default(), REQUEST_TIMEOUT);
        let (name, metrics, store) = (name.into(), Rc::default(), None);
        Config { name, etcd, epoch, seed, costs, accounts, authorizer, heartbeats, metrics, store, request_timeout }
    }
}

/// The word that a server gives on the history of a kind that it caches.
fn reader_of(kind: Kind, config: &Config) -> Option<Reader> {
    let store = config.store.as_ref().filter(|_| has_cache(kind))?;
    Some(store.reader(storage::prefix(kind)))
}

/// A write that etcd has made.
#[derive(Clone, Debug)]
pub struct CommittedWrite {
    /// Its revision.
    pub revision: u64,
    /// The object's place.
    pub key: ObjectKey,
    /// The version before; none for a creation.
    pub old: Option<Object>,
    /// The version after; none for a deletion.
    pub new: Option<Object>,
    /// The program that asked for it.
    pub agent: Name,
    /// `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
}

/// A lease shared by events (etcd3 store: `leaseManager`).
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedLease {
    pub(super) id: LeaseId,
    pub(super) reuse_until: SimTime,
    pub(super) uses: u32,
}

/// A pod specification that was defaulted and found valid.
#[derive(Debug)]
pub(super) struct KnownSpec {
    /// As it came; kept alive so that its address stays its own.
    #[expect(dead_code, reason = "it holds the address")]
    pub(super) given: Rc<PodSpec>,
    /// With its defaults.
    pub(super) completed: Rc<PodSpec>,
    /// What admission made of that when it was found valid.
    pub(super) admitted: Rc<PodSpec>,
}

/// The API server.
pub struct ApiServer {
    pub(super) config: Config,
    pub(super) link: Link,
    pub(super) caches: Vec<WatchCache>,
    pub(super) watchers: Vec<Watchers>,
    pub(super) places: BTreeMap<(ProcessId, WatchId), (Kind, Place)>,
    pub(super) direct: DirectWatches,
    pub(super) chain: Chain,
    /// What waits for etcd's answer, by the request's number.
    pub(super) tasks: Map<u64, Task>,
    /// Lists that fill caches.
    fills: Map<u64, Kind>,
    /// What waits for a time.
    pub(super) delayed: BTreeMap<Token, Task>,
    next_token: Token,
    pub(super) names: Stream,
    pub(super) uids: Stream,
    pub(super) allocator: Allocator,
    /// Spreads the waits of the etcd client.
    pub(super) jitter: Stream,
    pub(super) lease: Option<SharedLease>,
    pub(super) lease_request: Option<u64>,
    pub(super) lease_waiters: Vec<Task>,
    pub(super) collections: BTreeMap<u64, Collection>,
    pub(super) next_collection: u64,
    pub(super) quotas: Quotas,
    /// Pod specifications that were defaulted and found valid, by the address of what was given.
    pub(super) known_specs: Map<usize, KnownSpec>,
    pub(super) commons: Commons,
    pub(super) writes: Vec<CommittedWrite>,
    pub(super) doubts: Vec<Doubt>,
    /// The version of the key on which servers agree, and the revision seen at the last round.
    compaction: (u64, u64),
    compaction_request: Option<u64>,
    latest_revision: u64,
    /// The timer of deadlines is set.
    pub(super) deadline_armed: bool,
    /// Etcd was asked how far its watches have come, because somebody waits for it.
    /// When etcd may be asked again how far the watch of a kind has come.
    pub(super) progress: BTreeMap<Kind, SimTime>,
    pub(super) progress_armed: bool,
    /// The next answer to that is the time for bookmarks of these kinds.
    bookmarks_due: Set<Kind>,
    pub(super) interruptions: Interruptions,
    bootstrapping: Set<ObjectKey>,
}

impl ApiServer {
    /// A server without any state. It does nothing before [`Input::Start`].
    pub fn new(config: Config) -> Self {
        let stream = |purpose: &str| config.seed.stream(&config.name, purpose);
        ApiServer {
            link: Link::new(config.etcd.clone(), stream("etcd client")),
            caches: Kind::all().map(|kind| WatchCache::new(kind, reader_of(kind, &config))).collect(),
            watchers: (0..REGISTRY.len()).map(|_| Watchers::default()).collect(),
            places: BTreeMap::new(),
            direct: DirectWatches::default(),
            chain: Chain::new(config.accounts, stream("token volumes")),
            tasks: Map::default(),
            fills: Map::default(),
            delayed: BTreeMap::new(),
            next_token: token::DELAYED,
            names: stream("names"),
            uids: stream("uids"),
            allocator: Allocator::new(stream("cluster addresses"), stream("node ports")),
            jitter: stream("etcd client waits"),
            lease: None,
            lease_request: None,
            lease_waiters: Vec::new(),
            collections: BTreeMap::new(),
            next_collection: 0,
            quotas: Quotas::default(),
            known_specs: Map::default(),
            commons: Commons::default(),
            writes: Vec::new(),
            doubts: Vec::new(),
            compaction: (0, 0),
            compaction_request: None,
            latest_revision: 0,
            deadline_armed: false,
            progress: BTreeMap::new(),
            progress_armed: false,
            bookmarks_due: Set::default(),
            interruptions: Interruptions::default(),
            bootstrapping: Set::default(),
            config,
        }
    }

    /// Takes what happened to the process.
    pub fn handle(&mut self, input: Input<ServerMessage>, ctx: &mut dyn Context<ServerMessage>) {
        match input {
            Input::Start => self.start(ctx),
            Input::Message { from, message: ServerMessage::Api(message) } => self.api_message(from, message, ctx),
            Input::Message { from, message: ServerMessage::Etcd(message) } if self.link.knows(from) => {
                self.etcd_message(message, ctx);
            }
            Input::Message { .. } | Input::DiskDone { .. } => {}
            Input::Timer { token } => self.timer(token, ctx),
            Input::ConnectionLost { peer } if self.link.knows(peer) => {
                let had_watches = !self.link.lost(peer, ctx).is_empty();
                self.connection_lost(peer, ctx);
                self.resume_direct(ctx);
                if had_watches {
                    self.reconnect(ctx);
                }
                self.fill_missing(ctx);
            }
            Input::ConnectionLost { peer } => {
                self.client_lost(peer);
                self.forget_all_direct(peer, ctx);
            }
        }
    }

    /// The writes that etcd has acknowledged since the last call, in the order in which this server learnt of them.
    pub fn take_writes(&mut self) -> Vec<CommittedWrite> {
        std::mem::take(&mut self.writes)
    }

    fn start(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        self.begin_streams(ctx.now());
        self.config.heartbeats.server_began(&self.config.name);
        self.link.connect(ctx);
        for kind in cached_kinds() {
            self.fill(kind, ctx);
        }
        let now = ctx.now();
        ctx.set_timer(now + BOOKMARKS, token::BOOKMARKS);
        ctx.set_timer(now + COMPACTION, token::COMPACTION);
        self.bootstrapping = super::bootstrap::objects().map(|object| object.key()).collect();
        self.bootstrap(ctx);
    }

    /// Every incarnation draws other names and uids: what an earlier one made is in etcd.
    fn begin_streams(&mut self, now: SimTime) {
        let Config { seed, name, accounts, .. } = &self.config;
        let stream = |purpose: &str| seed.stream(name, &format!("{purpose} since {now}"));
        self.chain = Chain::new(*accounts, stream("token volumes"));
        self.names = stream("names");
        self.uids = stream("uids");
        self.allocator = Allocator::new(stream("cluster addresses"), stream("node ports"));
    }

    /// Creates what every cluster has and is not there yet.
    fn bootstrap(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        let there = |caches: &[WatchCache], key: &ObjectKey| caches[key.kind as usize].get(key).is_some();
        let missing: Vec<Object> = super::bootstrap::objects()
            .filter(|object| self.bootstrapping.contains(&object.key()))
            .filter(|object| !there(&self.caches, &object.key()))
            .collect();
        self.bootstrapping = missing.iter().map(Object::key).collect();
        if missing.is_empty() {
            return;
        }
        for object in missing {
            let operation = super::protocol::Operation::Create { object, dry_run: false };
            self.begin_own(Reply::Nobody, operation, ctx);
        }
        ctx.set_timer(ctx.now() + BOOTSTRAP, token::BOOTSTRAP);
    }

    /// Begins a request of the server's own.
    pub(super) fn begin_own(
        &mut self,
        reply: Reply,
        operation: super::protocol::Operation,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let agent = Name::of("kube-apiserver");
        self.advance(Task::new(reply, agent, operation, ctx.cause()), ctx);
    }

    /// Lists a kind anew; whoever watches it has to begin anew too (cacher: `startCaching`).
    fn fill(&mut self, kind: Kind, ctx: &mut dyn Context<ServerMessage>) {
        self.close_watches(kind, ctx);
        self.caches[kind as usize].reset();
        let range = Range::of(KeyRange::Prefix(storage::prefix(kind)));
        let id = self.link.request(SimDuration::ZERO, range.into(), SimTime::MAX, ctx);
        self.fills.insert(id, kind);
    }

    fn api_message(&mut self, from: ProcessId, message: ApiMessage, ctx: &mut dyn Context<ServerMessage>) {
        match message {
            ApiMessage::Request(request) => {
                let Request { id, user, agent, operation } = *request;
                let attributes = Attributes::of(&operation);
                let allowed = self.config.authorizer.allows(&user, &attributes);
                let refusal = (!allowed).then(|| Box::new(attributes.forbidden(&user)));
                let deadline = match operation {
                    Operation::Watch { .. } => SimTime::MAX,
                    _ => ctx.now() + self.config.request_timeout,
                };
                let task = Task { deadline, ..Task::new(Reply::Client(from, id), agent, operation, ctx.cause()) };
                self.guard(deadline, ctx);
                match refusal {
                    Some(status) => self.finish(task, Err(status), ctx),
                    None => self.advance(task, ctx),
                }
            }
            ApiMessage::StopWatch { watch } => {
                self.end_watch(from, watch);
                self.forget_direct((from, watch), ctx);
            }
            ApiMessage::Response { .. } | ApiMessage::Watch { .. } | ApiMessage::WatchClosed { .. } => {}
        }
    }

    fn etcd_message(&mut self, message: EtcdMessage<Stored>, ctx: &mut dyn Context<ServerMessage>) {
        match message {
            EtcdMessage::Response(response) => self.etcd_response(response, ctx),
            EtcdMessage::Watched(response) => match self.link.kind_of(response.stream) {
                Some(kind) => self.watched(kind, response, ctx),
                None => self.direct_watched(&response, ctx),
            },
            _ => {}
        }
    }

    fn etcd_response(&mut self, response: Response<Stored>, ctx: &mut dyn Context<ServerMessage>) {
        let Response { id, revision, result } = response;
        self.latest_revision = self.latest_revision.max(revision);
        if self.link.is_greeting(id, ctx) {
            return self.resume_direct(ctx);
        }
        self.link.answered(id);
        if let Some(kind) = self.fills.remove(&id) {
            match result {
                Ok(EtcdReply::Range(result)) => self.filled(kind, &result, revision, ctx),
                _ => self.fill_later(kind, ctx),
            }
        } else if self.compaction_request == Some(id) {
            self.compaction_request = None;
            if let Ok(EtcdReply::Txn(result)) = result {
                self.agreed(&result, ctx);
            }
        } else if self.lease_request == Some(id) {
            self.lease_request = None;
            self.leased(result, ctx);
        } else if let Some(task) = self.tasks.remove(&id) {
            self.resume(task, result, revision, ctx);
        }
    }

    fn filled(
        &mut self,
        kind: Kind,
        result: &RangeResult<Stored>,
        revision: u64,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let cache = &mut self.caches[kind as usize];
        for kv in &result.kvs {
            if let Some(object) = kv.value.as_ref().and_then(Stored::object) {
                cache.fill(object.clone());
            }
        }
        cache.filled(revision);
        if kind == Kind::Lease {
            self.config.heartbeats.filled(&result.kvs);
        }
        self.link.watch(kind, revision + 1, ctx);
        self.serve_fresh(kind, ctx);
    }

    fn watched(&mut self, kind: Kind, response: WatchResponse<Stored>, ctx: &mut dyn Context<ServerMessage>) {
        match response.body {
            WatchBody::Events(events) => {
                let (now, cause) = (ctx.now(), ctx.cause());
                let cache = &mut self.caches[kind as usize];
                for event in events.iter() {
                    if let Some(change) = cache.apply(event, now) {
                        if kind == Kind::Lease {
                            self.config.heartbeats.changed(change);
                        }
                        self.watchers[kind as usize].dispatch(change, cause);
                    }
                }
                self.flush(kind, ctx);
                self.serve_fresh(kind, ctx);
            }
            WatchBody::Progress if self.caches[kind as usize].is_ready() => {
                self.caches[kind as usize].advance(response.revision);
                if response.watch.is_none() && self.bookmarks_due.remove(&kind) {
                    self.send_bookmarks(kind, ctx);
                }
                self.serve_fresh(kind, ctx);
            }
            WatchBody::Canceled { .. } => self.fill(kind, ctx),
            WatchBody::Closed(_) => self.interrupted(kind, ctx),
            _ => {}
        }
    }

    /// Opens all watches again where they ended.
    pub(super) fn reconnect(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        for kind in Kind::all() {
            let cache = &self.caches[kind as usize];
            if cache.is_ready() && !self.link.watches(kind) {
                self.link.watch(kind, cache.revision() + 1, ctx);
            }
        }
    }

    /// Lists what is not filled and is not being filled.
    pub(super) fn fill_missing(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        for kind in cached_kinds() {
            if !self.caches[kind as usize].is_ready() && !self.fills.values().any(|filling| *filling == kind) {
                self.fill(kind, ctx);
            }
        }
    }

    /// The connection to etcd broke. Reads are made again elsewhere; of writes nobody knows what became of them.
    fn connection_lost(&mut self, member: ProcessId, ctx: &mut dyn Context<ServerMessage>) {
        let link = &self.link;
        let is_lost = |id: u64| link.went_to(id, member);
        self.fills.retain(|id, _| !is_lost(*id));
        let mut lost: Vec<u64> = self.tasks.keys().copied().filter(|id| is_lost(*id)).collect();
        lost.sort_unstable();
        let lost: Vec<Task> = lost.iter().filter_map(|id| self.tasks.remove(id)).collect();
        self.compaction_request = self.compaction_request.filter(|id| !is_lost(*id));
        let no_lease = self.lease_request.is_some_and(is_lost);
        for mut task in lost {
            self.leave_in_doubt(&task, &task.step);
            if matches!(task.reply, Reply::Abandoned) {
                self.allocator.release(&task.claims);
            } else if let Step::Sync(client, watch) = task.step {
                let message = "rpc error: code = Unavailable desc = error reading from server: EOF";
                self.end_direct((client, watch), Box::new(Status::new(Reason::InternalError, message)), ctx);
            } else if task.step.is_read() {
                task.step = Step::Begin;
                self.advance(task, ctx);
            } else {
                let message = "rpc error: code = Unavailable desc = error reading from server: EOF";
                self.finish(task, Err(Box::new(Status::new(Reason::InternalError, message))), ctx);
            }
        }
        if no_lease {
            self.lease_request = None;
            for task in std::mem::take(&mut self.lease_waiters) {
                self.advance(Task { step: Step::Begin, ..task }, ctx);
            }
        }
    }

    fn client_lost(&mut self, client: ProcessId) {
        let range = (client, WatchId::MIN)..=(client, WatchId::MAX);
        let gone: Vec<WatchId> = self.places.range(range).map(|((_, watch), _)| *watch).collect();
        for watch in gone {
            self.end_watch(client, watch);
        }
    }

    fn timer(&mut self, token: Token, ctx: &mut dyn Context<ServerMessage>) {
        match token {
            token::BOOKMARKS => {
                for kind in cached_kinds() {
                    self.bookmarks_due.insert(kind);
                    self.link.ask_progress(kind, ctx);
                }
                ctx.set_timer(ctx.now() + BOOKMARKS, token::BOOKMARKS);
            }
            token::COMPACTION => {
                let (version, revision) = self.compaction;
                let request = storage::agree_on_compaction(version, revision);
                self.compaction_request = Some(self.link.request(SimDuration::ZERO, request, SimTime::MAX, ctx));
                ctx.set_timer(ctx.now() + COMPACTION, token::COMPACTION);
            }
            token::RECONNECT => self.interruption_over(ctx),
            token::REFILL => self.refill(ctx),
            token::BOOTSTRAP => self.bootstrap(ctx),
            token::DEADLINE => self.expire(ctx),
            token::QUOTA => self.quota_timer(ctx),
            token::PROGRESS => {
                self.progress_armed = false;
                self.ask_how_far(ctx);
            }
            connecting if (token::CONNECT..token::DELAYED).contains(&connecting) => {
                self.link.try_member((connecting - token::CONNECT) as usize, ctx);
            }
            waiting => {
                if let Some(task) = self.delayed.remove(&waiting) {
                    ctx.set_cause(task.cause);
                    self.advance(task, ctx);
                }
            }
        }
    }

    /// The servers have agreed, or another one was first: the winner compacts to what was seen a round ago
    /// (etcd3 store: `compact`).
    fn agreed(&mut self, result: &TxnResult<Stored>, ctx: &mut dyn Context<ServerMessage>) {
        let (version, revision) = self.compaction;
        let version = match result.succeeded {
            true => version + 1,
            false => storage::otherwise_found(result).map_or(0, |kv| kv.version),
        };
        self.compaction = (version, self.latest_revision);
        if result.succeeded && revision > 0 {
            self.link.request(SimDuration::ZERO, EtcdRequest::Compact(revision), SimTime::MAX, ctx);
        }
    }

    /// Lets a task wait for a time.
    pub(super) fn delay(&mut self, task: Task, by: SimDuration, ctx: &mut dyn Context<ServerMessage>) {
        self.next_token += 1;
        self.delayed.insert(self.next_token, task);
        ctx.set_timer(ctx.now() + by, self.next_token);
    }

    /// Asks etcd on behalf of a task.
    pub(super) fn ask(
        &mut self,
        task: Task,
        delay: SimDuration,
        request: EtcdRequest<Stored>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let id = self.link.request(delay, request, task.deadline, ctx);
        self.tasks.insert(id, task);
    }

    /// Ends a task with its answer.
    pub(super) fn finish(
        &mut self,
        task: Task,
        mut result: Result<Answer, Box<Status>>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        if let Ok(answer) = &mut result {
            self.config.heartbeats.show(answer);
        }
        self.allocator.release(&task.claims);
        match task.reply {
            Reply::Nobody | Reply::Abandoned => {}
            Reply::Collection(number) => self.collected(&task, number, result, ctx),
            Reply::Quota(number) => self.quota_written(number, result, ctx),
            Reply::Client(client, id) => self.respond(client, id, result, ctx),
        }
    }

    /// Sends an answer.
    pub(super) fn respond(
        &self,
        client: ProcessId,
        id: RequestId,
        result: Result<Answer, Box<Status>>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let (bytes, lane) = match &result {
            Ok(Answer::Object(object)) => (size::of(object), ANSWERS),
            Ok(Answer::List { items, .. }) => (items.iter().map(size::of).sum(), LISTS),
            _ => (0, ANSWERS),
        };
        let cost = self.config.costs.of_answer(bytes);
        ctx.send_after(cost, client, lane, ServerMessage::Api(ApiMessage::Response { id, result }));
    }
}
