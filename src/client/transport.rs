//! The way to the API server: requests and watches of one process, held back by token buckets, retried where client-go
//! retries, moved to another server when the connection is lost.
//!
//! It never decides what a failure means; it hands every answer to the caller who asked. It sets no timer for a request
//! that finds a token: only requests that wait for one, retries, and one watchdog for those with a time limit need timers. That
//! nobody is there any more at the other end of a connection is what the network finds out (its keepalive); a server that is there may take
//! as long as it likes.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::delivery::{Caller, Delivery, Failure};
use super::rate_limit::RateLimit;
use super::requests::Requests;
use super::tokens::{self, ClientTimer};
use crate::api::name::Name;
use crate::apiserver::protocol::{Answer, ApiMessage, Operation, Request, RequestId, Scope, User, WatchEvent, WatchId};
use crate::apiserver::status::Status;
use crate::engine::process::{Cause, Context, Input, Lane, ProcessId, TimerId};
use crate::engine::time::{SimDuration, SimTime};

/// How often a request is sent again (client-go, `rest.Request`: `maxRetries`).
const MAX_RETRIES: u8 = 10;

/// After how long a read whose connection broke is sent again (client-go, `retryAfterResponse`).
const RETRY_LOST: SimDuration = SimDuration::from_secs(1);

/// One of a process's clients: who it is, and its bucket. Several share a process's way to the API server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clientset(u8);

/// What a clientset is made of.
#[derive(Clone, Debug)]
pub struct ClientsetConfig {
    /// Who asks.
    pub user: Rc<User>,
    /// The program that asks, as its user agent says.
    pub agent: Name,
    /// The bucket; none for no limit.
    pub limit: Option<RateLimit>,
    /// How long a request may take, waiting for a token included; none for as long as the server takes.
    pub timeout: Option<SimDuration>,
    /// The connection: requests of one lane keep their order.
    pub lane: Lane,
}

/// The clients of one process, and what they have under way.
pub struct Client<T> {
    servers: Vec<ProcessId>,
    /// The server in use, by its place in `servers`.
    current: usize,
    /// True once the server in use has said anything.
    connected: bool,
    clientsets: Vec<ClientsetState>,
    pending: Requests<Pending<T>>,
    watches: BTreeMap<WatchId, (Caller<T>, Lane)>,
    /// How many of `pending` are with the server.
    sent: usize,
    next_id: RequestId,
    watchdog: Option<(SimTime, TimerId)>,
    inbox: VecDeque<Delivery<T>>,
}

struct ClientsetState {
    config: ClientsetConfig,
    /// Requests that wait for a token, first come first served, and when it is there.
    waiting: VecDeque<(SimTime, RequestId)>,
}

struct Pending<T> {
    caller: Caller<T>,
    clientset: Clientset,
    operation: Operation,
    retries: u8,
    place: Place,
    /// When the caller gives up.
    deadline: SimTime,
    cause: Cause,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Waits for a token, or for the time of the next try.
    Here,
    /// With the server.
    Sent,
}

impl<T: Copy> Client<T> {
    /// A client that prefers the first of `servers` and moves to the next when a connection is lost.
    pub fn new(servers: Vec<ProcessId>) -> Self {
        assert!(!servers.is_empty(), "a client needs an API server");
        Client {
            servers,
            current: 0,
            connected: false,
            clientsets: Vec::new(),
            pending: Requests::new(),
            watches: BTreeMap::new(),
            sent: 0,
            next_id: 0,
            watchdog: None,
            inbox: VecDeque::new(),
        }
    }

    /// Adds a clientset.
    pub fn add_clientset(&mut self, config: ClientsetConfig) -> Clientset {
        assert!(self.clientsets.len() < 255, "a process has few clientsets");
        self.clientsets.push(ClientsetState { config, waiting: VecDeque::new() });
        Clientset(self.clientsets.len() as u8 - 1)
    }

    /// Makes a request as soon as the clientset's bucket has a token. What comes of it is delivered to `caller`.
    pub fn request(
        &mut self,
        clientset: Clientset,
        caller: Caller<T>,
        operation: Operation,
        ctx: &mut dyn Context<ApiMessage>,
    ) -> RequestId {
        let id = self.fresh_id(ctx);
        self.enter(id, clientset, caller, operation, ctx);
        self.throttle(id, clientset, ctx);
        id
    }

    /// Takes a token for a request that is not simulated, and says when that would be sent.
    pub fn take_token(&mut self, clientset: Clientset, now: SimTime) -> SimTime {
        let limit = self.clientsets[usize::from(clientset.0)].config.limit.as_mut();
        limit.map_or(now, |limit| limit.reserve(now))
    }

    /// Makes a request that takes no token, as the reflector's reads do.
    pub fn request_unlimited(
        &mut self,
        clientset: Clientset,
        caller: Caller<T>,
        operation: Operation,
        ctx: &mut dyn Context<ApiMessage>,
    ) -> RequestId {
        let id = self.fresh_id(ctx);
        self.enter(id, clientset, caller, operation, ctx);
        self.send(id, ctx);
        id
    }

    /// Watches from after a revision. Watches take no token (client-go, `Request.Watch`).
    pub fn watch(
        &mut self,
        clientset: Clientset,
        caller: Caller<T>,
        scope: Scope,
        after: Option<u64>,
        ctx: &mut dyn Context<ApiMessage>,
    ) -> WatchId {
        let watch = self.fresh_id(ctx);
        let operation = Operation::Watch { watch, scope, after, bookmarks: true };
        self.enter(watch, clientset, caller, operation, ctx);
        self.send(watch, ctx);
        watch
    }

    /// Ends a watch. Nothing of it is delivered any more.
    pub fn stop_watch(&mut self, watch: WatchId, ctx: &mut dyn Context<ApiMessage>) {
        if let Some(pending) = self.pending.remove(watch)
            && pending.place != Place::Here
        {
            self.sent -= 1;
        }
        if let Some((_, lane)) = self.watches.remove(&watch) {
            ctx.send(self.servers[self.current], lane, ApiMessage::StopWatch { watch });
        }
    }

    /// Forgets a watch that the server has ended with an error.
    pub fn forget_watch(&mut self, watch: WatchId) {
        self.watches.remove(&watch);
    }

    /// The next thing for a caller. To be asked until there is none after every [`Client::handle`].
    pub fn next_delivery(&mut self) -> Option<Delivery<T>> {
        self.inbox.pop_front()
    }

    /// Takes what happened to the process; gives back what does not concern the client.
    pub fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) -> Option<Input<ApiMessage>> {
        match input {
            Input::Message { from, message } => return self.message(from, message, ctx),
            Input::Timer { token } => match tokens::client_timer(token) {
                Some(ClientTimer::Bucket(clientset)) => self.token_is_there(Clientset(clientset), ctx),
                Some(ClientTimer::Retry(id)) => self.retry(id, ctx),
                Some(ClientTimer::Watchdog) => self.end_overdue(ctx),
                None => return Some(Input::Timer { token }),
            },
            Input::ConnectionLost { peer } if self.servers.contains(&peer) => {
                if peer == self.servers[self.current] {
                    self.connection_lost(ctx);
                }
            }
            other => return Some(other),
        }
        None
    }

    fn message(
        &mut self,
        from: ProcessId,
        message: ApiMessage,
        ctx: &mut dyn Context<ApiMessage>,
    ) -> Option<Input<ApiMessage>> {
        if from != self.servers[self.current] {
            // A server that was left behind: its answers were given up when the connection was.
            return if self.servers.contains(&from) { None } else { Some(Input::Message { from, message }) };
        }
        self.connected = true;
        match message {
            ApiMessage::Watch { watch, events } => self.events(watch, events),
            ApiMessage::Response { id, result } => self.answer(id, result, ctx),
            ApiMessage::WatchClosed { watch } => self.watch_ended(watch),
            ApiMessage::Request(_) | ApiMessage::StopWatch { .. } => return Some(Input::Message { from, message }),
        }
        None
    }

    fn events(&mut self, watch: WatchId, events: Vec<WatchEvent>) {
        if let Some(&(caller, _)) = self.watches.get(&watch) {
            self.inbox.push_back(Delivery::Events { caller, watch, events });
        }
    }

    fn watch_ended(&mut self, watch: WatchId) {
        if let Some((caller, _)) = self.watches.remove(&watch) {
            self.inbox.push_back(Delivery::WatchEnded { caller, watch });
        }
    }

    /// A new number. Numbers begin with the time of the first one, so that those of a process that crashed and began
    /// anew differ from the ones it had before.
    fn fresh_id(&mut self, ctx: &dyn Context<ApiMessage>) -> RequestId {
        self.next_id = self.next_id.max(ctx.now().as_nanos()) + 1;
        self.next_id
    }

    fn enter(
        &mut self,
        id: RequestId,
        clientset: Clientset,
        caller: Caller<T>,
        operation: Operation,
        ctx: &dyn Context<ApiMessage>,
    ) {
        let deadline = match self.clientsets[usize::from(clientset.0)].config.timeout {
            Some(timeout) => ctx.now() + timeout,
            None => SimTime::MAX,
        };
        let cause = ctx.cause();
        let pending = Pending { caller, clientset, operation, retries: 0, place: Place::Here, deadline, cause };
        self.pending.push(id, pending);
    }

    /// Sends a request if the bucket has a token, or puts it in line.
    fn throttle(&mut self, id: RequestId, clientset: Clientset, ctx: &mut dyn Context<ApiMessage>) {
        let now = ctx.now();
        let state = &mut self.clientsets[usize::from(clientset.0)];
        let ready = state.config.limit.as_mut().map_or(now, |limit| limit.reserve(now));
        if ready <= now && state.waiting.is_empty() {
            return self.send(id, ctx);
        }
        state.waiting.push_back((ready, id));
        if state.waiting.len() == 1 {
            ctx.set_timer(ready, tokens::bucket(clientset.0));
        }
    }

    fn token_is_there(&mut self, clientset: Clientset, ctx: &mut dyn Context<ApiMessage>) {
        let now = ctx.now();
        while let Some(&(ready, id)) = self.clientsets[usize::from(clientset.0)].waiting.front() {
            if ready > now {
                ctx.set_timer(ready, tokens::bucket(clientset.0));
                break;
            }
            self.clientsets[usize::from(clientset.0)].waiting.pop_front();
            self.send(id, ctx);
        }
    }

    fn send(&mut self, id: RequestId, ctx: &mut dyn Context<ApiMessage>) {
        let now = ctx.now();
        let Some(pending) = self.pending.get_mut(id) else { return };
        if pending.deadline <= now {
            let caller = pending.caller;
            self.pending.remove(id);
            self.inbox.push_back(Delivery::Answered { caller, id, result: Err(Failure::TimedOut) });
            return;
        }
        let config = &self.clientsets[usize::from(pending.clientset.0)].config;
        let operation = pending.operation.clone();
        let request = Request { id, user: config.user.clone(), agent: config.agent.clone(), operation };
        let due = pending.deadline;
        pending.place = Place::Sent;
        self.sent += 1;
        let here = ctx.cause();
        ctx.set_cause(pending.cause);
        ctx.send(self.servers[self.current], config.lane, ApiMessage::Request(Box::new(request)));
        ctx.set_cause(here);
        if let Operation::Watch { watch, .. } = pending.operation {
            self.watches.insert(watch, (pending.caller, config.lane));
        }
        self.guard(due, ctx);
    }

    fn answer(&mut self, id: RequestId, result: Result<Answer, Box<Status>>, ctx: &mut dyn Context<ApiMessage>) {
        let Some(pending) = self.pending.get_mut(id) else { return };
        if pending.place == Place::Here {
            return;
        }
        self.sent -= 1;
        if let Err(status) = &result
            && pending.retries < MAX_RETRIES
            && let Some(wait) = retry_after(status)
        {
            self.try_again(id, wait, ctx);
        } else {
            let caller = pending.caller;
            let is_watch = matches!(pending.operation, Operation::Watch { .. });
            self.pending.remove(id);
            if is_watch && result.is_err() {
                self.watches.remove(&id);
            }
            self.inbox.push_back(Delivery::Answered { caller, id, result: result.map_err(Failure::Refused) });
        }
        self.unguard(ctx);
    }

    /// Will send a request once more after a wait, and after taking a token for that (client-go, `withRetry.Before`).
    fn try_again(&mut self, id: RequestId, wait: SimDuration, ctx: &mut dyn Context<ApiMessage>) {
        if let Some(pending) = self.pending.get_mut(id) {
            pending.retries += 1;
            pending.place = Place::Here;
            self.watches.remove(&id);
            ctx.set_timer(ctx.now() + wait, tokens::retry(id));
        }
    }

    fn retry(&mut self, id: RequestId, ctx: &mut dyn Context<ApiMessage>) {
        if let Some(pending) = self.pending.get(id) {
            let clientset = pending.clientset;
            self.throttle(id, clientset, ctx);
        }
    }

    /// Moves to the next server. Reads that were under way are tried again, writes fail, watches end:
    /// client-go tries again after a broken connection only what cannot have changed anything.
    fn connection_lost(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        let was_connected = std::mem::replace(&mut self.connected, false);
        self.current = (self.current + 1) % self.servers.len();
        let sent = self.pending.iter().filter(|(_, pending)| pending.place != Place::Here);
        let sent: Vec<RequestId> = sent.map(|(id, _)| id).collect();
        self.sent = 0;
        for id in sent {
            let Some(pending) = self.pending.get(id) else { continue };
            self.watches.remove(&id);
            let is_read = matches!(pending.operation.verb(), "get" | "list" | "watch");
            if was_connected && is_read && pending.retries < MAX_RETRIES {
                self.try_again(id, RETRY_LOST, ctx);
                continue;
            }
            let caller = pending.caller;
            self.pending.remove(id);
            let failure = if was_connected { Failure::ConnectionLost } else { Failure::Unreachable };
            self.inbox.push_back(Delivery::Answered { caller, id, result: Err(failure) });
        }
        for (watch, (caller, _)) in std::mem::take(&mut self.watches) {
            self.inbox.push_back(Delivery::WatchEnded { caller, watch });
        }
        self.unguard(ctx);
    }

    /// Sees to it that the watchdog looks at a time at the latest.
    fn guard(&mut self, due: SimTime, ctx: &mut dyn Context<ApiMessage>) {
        match self.watchdog {
            _ if due == SimTime::MAX => return,
            Some((at, _)) if at <= due => return,
            Some((_, timer)) => ctx.cancel_timer(timer),
            None => {}
        }
        self.watchdog = Some((due, ctx.set_timer(due, tokens::watchdog())));
    }

    /// Sends the watchdog away if there is nothing to watch over.
    fn unguard(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        if self.sent == 0
            && let Some((_, timer)) = self.watchdog.take()
        {
            ctx.cancel_timer(timer);
        }
    }

    /// Gives up the requests whose time is over.
    fn end_overdue(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        self.watchdog = None;
        let now = ctx.now();
        let overdue = |pending: &Pending<T>| pending.place == Place::Sent && pending.deadline <= now;
        let late: Vec<RequestId> = self.pending.iter().filter(|(_, p)| overdue(p)).map(|(id, _)| id).collect();
        for id in late {
            let Some(pending) = self.pending.remove(id) else { continue };
            self.sent -= 1;
            self.inbox.push_back(Delivery::Answered { caller: pending.caller, id, result: Err(Failure::TimedOut) });
        }
        let sent = self.pending.iter().filter(|(_, pending)| pending.place == Place::Sent);
        if let Some(due) = sent.map(|(_, pending)| pending.deadline).min() {
            self.guard(due, ctx);
        }
    }
}

/// How long to wait before the same request is worth another try: what the server said, where its answer is 429 or 5xx
/// (client-go, `checkWait`).
fn retry_after(status: &Status) -> Option<SimDuration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    let code = status.reason.code();
    (seconds > 0 && (code == 429 || code >= 500)).then(|| SimDuration::from_secs(u64::from(seconds)))
}
