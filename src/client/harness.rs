//! The kube-controller-manager: any list of control loops in one process, with everything around them that is the same for all.
//!
//! All loops share one cache, fed by one informer for each kind. Each has its own client with its own bucket, its queue, its
//! workers, its expectations and its event recorder, as each controller of the real one has. A loop's workers begin when
//! the first list of each of its kinds has arrived. A crash is to drop the [`ControllerManager`] and to build it anew.
//!
//! Leader election has its place between [`Input::Start`] and `lead`; now the process leads from its start.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::cache::Cache;
use super::controller::{Change, Controller};
use super::delivery::{Caller, Delivery, outcome};
use super::expectations::Expectations;
use super::informer::Informers;
use super::plan::{Again, Outcome, Plan};
use super::rate_limit::RateLimit;
use super::recorder::Recorder;
use super::sync::{Aim, Ending, Next, Sync};
use super::tokens;
use super::transport::{Client, Clientset, ClientsetConfig};
use super::view::{Now, View};
use super::work_queue::WorkQueue;
use crate::api::kind::{Kind, REGISTRY};
use crate::api::meta::{Epoch, ObjectKey};
use crate::api::name::Name;
use crate::apiserver::protocol::{ApiMessage, Scope, User};
use crate::engine::process::{Cause, Context, Input, ProcessId, TimerId, Token};
use crate::engine::random::{Seed, Stream};
use crate::engine::time::{SimDuration, SimTime};

/// The timer at which some queue has a key for a worker.
const WAKE: Token = 0;

/// The timers of resyncs: this and the controller's place.
const RESYNC: Token = 1 << 32;

/// The timer with which the pause of a sync ends: this and the number of the sync.
const PAUSE: Token = 1 << 33;

/// What a controller manager is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process's name, as `kube-controller-manager-0`; names its random streams.
    pub name: String,
    /// Who asks.
    pub user: Rc<User>,
    /// The API servers, the one to be preferred first.
    pub api_servers: Vec<ProcessId>,
    /// What ties virtual time to dates.
    pub epoch: Epoch,
    /// The run's seed.
    pub seed: Seed,
    /// Requests a second that each controller may make (`--kube-api-qps`); zero for no limit.
    pub qps: u32,
    /// Requests that each controller may make at once (`--kube-api-burst`).
    pub burst: u32,
    /// From the moment in which an informer sees a change until a worker begins with the key. Measured in a real control plane:
    /// writes follow the change that they react to within 5 to 20 ms, the hops to the API server and etcd included.
    pub reaction: SimDuration,
}

impl Config {
    /// The defaults of kube-controller-manager for one that speaks to these API servers.
    pub fn new(name: impl Into<String>, api_servers: Vec<ProcessId>, epoch: Epoch, seed: Seed) -> Self {
        let user =
            User { name: Name::of("system:kube-controller-manager"), groups: vec![Name::of("system:authenticated")] };
        Config {
            name: name.into(),
            user: Rc::new(user),
            api_servers,
            epoch,
            seed,
            qps: 20,
            burst: 30,
            reaction: SimDuration::from_millis(5),
        }
    }
}

/// A process that runs control loops.
pub struct ControllerManager {
    client: Client<Ticket>,
    informers: Informers,
    cache: Cache,
    loops: Vec<Loop>,
    /// Which loops want to know of changes of a kind.
    watchers: [Vec<u8>; REGISTRY.len()],
    syncs: Vec<Option<Sync>>,
    free_syncs: Vec<u32>,
    epoch: Epoch,
    wake: Option<(SimTime, TimerId)>,
}

/// Which request of which sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ticket {
    sync: u32,
    index: u32,
}

/// One controller and what it alone has.
struct Loop {
    controller: Box<dyn Controller>,
    clientset: Clientset,
    /// The keys, and those apart ([`Controller::is_apart`]).
    queues: [WorkQueue<ObjectKey>; 2],
    expectations: Expectations,
    recorder: Recorder,
    /// How much longer than they must syncs pause.
    pauses: Stream,
    resync: Option<SimDuration>,
    /// The newest writes about each key that the cache may not show yet.
    written: BTreeMap<ObjectKey, BTreeMap<Kind, u64>>,
    /// True once its workers have begun.
    working: bool,
    /// True if something was put into the queue, or a worker became free, since the queue was last looked at.
    touched: bool,
}

impl ControllerManager {
    /// The process at its beginning; it does nothing before [`Input::Start`].
    pub fn new(config: Config, controllers: Vec<Box<dyn Controller>>) -> Self {
        let mut client = Client::new(config.api_servers.clone());
        let shared = client.add_clientset(clientset_config(&config, "shared-informers", (1, 1)));
        let mut watchers: [Vec<u8>; REGISTRY.len()] = Default::default();
        let mut loops = Vec::new();
        for (place, controller) in controllers.into_iter().enumerate() {
            for kind in controller.watches() {
                watchers[*kind as usize].push(place as u8);
            }
            loops.push(Loop::new(place as u16, controller, &config, &mut client));
        }
        let kinds = Kind::all().filter(|kind| !watchers[*kind as usize].is_empty());
        let scopes = kinds.map(Scope::all).collect();
        ControllerManager {
            informers: Informers::new(shared, scopes, config.seed, &config.name),
            client,
            cache: Cache::default(),
            loops,
            watchers,
            syncs: Vec::new(),
            free_syncs: Vec::new(),
            epoch: config.epoch,
            wake: None,
        }
    }

    /// Takes what happened to the process.
    pub fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
        match self.client.handle(input, ctx) {
            Some(Input::Start) => self.lead(ctx),
            Some(Input::Timer { token }) => self.timer(token, ctx),
            Some(Input::Message { .. } | Input::DiskDone { .. } | Input::ConnectionLost { .. }) | None => {}
        }
        while let Some(delivery) = self.client.next_delivery() {
            self.deliver(delivery, ctx);
        }
        self.work(ctx);
    }

    /// What the process knows of the cluster.
    pub fn view(&self) -> View<'_> {
        self.cache.view()
    }

    /// How many keys of a controller wait or are being worked on: what "settled" means for it.
    pub fn backlog(&self, controller: &str) -> Option<usize> {
        let it = self.loops.iter().find(|it| it.controller.name() == controller)?;
        Some(it.queues.iter().map(|queue| queue.len() + queue.processing()).sum())
    }

    fn lead(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        self.informers.start(&mut self.client, ctx);
        self.start_workers(ctx);
        for (place, it) in self.loops.iter().enumerate() {
            if let Some(period) = it.resync {
                ctx.set_timer(ctx.now() + period, RESYNC + place as Token);
            }
        }
    }

    fn timer(&mut self, token: Token, ctx: &mut dyn Context<ApiMessage>) {
        if token == WAKE {
            self.wake = None;
            self.loops.iter_mut().for_each(|it| it.touched = true);
        } else if let Some(number) = tokens::recorder_timer(token) {
            if let Some(it) = self.loops.get_mut(usize::from(number)) {
                it.recorder.timer(&mut self.client, ctx);
            }
        } else if token >= tokens::CLIENT_TOKENS {
            self.informers.timer(token, &mut self.client, ctx);
        } else if token >= PAUSE {
            self.resume((token - PAUSE) as u32, ctx);
        } else {
            self.resync((token - RESYNC) as usize, ctx);
        }
    }

    fn deliver(&mut self, delivery: Delivery<Ticket>, ctx: &mut dyn Context<ApiMessage>) {
        match (delivery.caller(), delivery) {
            (Caller::Informer(kind), delivery) => self.inform(kind, delivery, ctx),
            (Caller::Recorder(number), Delivery::Answered { result, .. }) => {
                if let Some(it) = self.loops.get_mut(usize::from(number)) {
                    it.recorder.answered(result, &mut self.client, ctx);
                }
            }
            (Caller::Process(ticket), Delivery::Answered { result, .. }) => {
                self.answered(ticket, outcome(result), ctx);
            }
            // Only informers watch.
            (_, Delivery::Events { .. } | Delivery::WatchEnded { .. }) => {}
        }
    }

    /// Lets a kind's informer take news, and the loops that watch the kind hear of them.
    fn inform(&mut self, kind: Kind, delivery: Delivery<Ticket>, ctx: &mut dyn Context<ApiMessage>) {
        let (now, cause) = (ctx.now(), ctx.cause());
        let (loops, watchers) = (&mut self.loops, &self.watchers[kind as usize]);
        let synced = self.cache.view().has_synced(kind);
        let mut listener = |change: Change<'_>, cache: &Cache| {
            for place in watchers {
                loops[usize::from(*place)].hear(change, &cache.view(), now, cause);
            }
        };
        self.informers.deliver(delivery, &mut self.client, &mut self.cache, ctx, &mut listener);
        if !synced && self.cache.view().has_synced(kind) {
            self.start_workers(ctx);
        }
    }

    /// Lets the workers of all loops begin whose kinds have all arrived.
    fn start_workers(&mut self, ctx: &dyn Context<ApiMessage>) {
        for it in &mut self.loops {
            let synced = |kind: &Kind| self.cache.view().has_synced(*kind);
            if !it.working && it.controller.watches().iter().all(synced) {
                it.working = true;
                it.touched = true;
                if let Some((key, _)) = it.controller.periodic() {
                    it.queue(&key).add(key, ctx.now(), ctx.cause());
                }
            }
        }
    }

    /// Tells a loop of every object of the kinds that it resyncs as if it had been updated.
    fn resync(&mut self, place: usize, ctx: &mut dyn Context<ApiMessage>) {
        let Some(it) = self.loops.get_mut(place) else { return };
        let view = self.cache.view();
        for kind in it.controller.resynced() {
            for object in view.objects(*kind) {
                it.hear(Change::Updated { old: object, new: object }, &view, ctx.now(), ctx.cause());
            }
        }
        if let Some(period) = it.resync {
            ctx.set_timer(ctx.now() + period, RESYNC + place as Token);
        }
    }

    /// Gives free workers what is ready, and sees to it that the process wakes when more is.
    fn work(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        let mut wake = SimTime::MAX;
        for place in 0..self.loops.len() {
            if !std::mem::replace(&mut self.loops[place].touched, false) || !self.loops[place].working {
                continue;
            }
            while let Some((key, cause)) = self.loops[place].take(ctx.now()) {
                self.begin(place, key, cause, ctx);
            }
            self.loops[place].touched = false;
            wake = wake.min(self.loops[place].next_time().unwrap_or(SimTime::MAX));
        }
        if wake < self.wake.map_or(SimTime::MAX, |(at, _)| at) {
            if let Some((_, timer)) = self.wake {
                ctx.cancel_timer(timer);
            }
            self.wake = Some((wake, ctx.set_timer(wake, WAKE)));
        }
    }

    /// A worker begins with a key.
    fn begin(&mut self, place: usize, key: ObjectKey, cause: Cause, ctx: &mut dyn Context<ApiMessage>) {
        let here = ctx.cause();
        ctx.set_cause(cause);
        let now = Now { at: ctx.now(), epoch: self.epoch };
        if !self.loops[place].shows_its_writes(&key, &self.informers) {
            self.loops[place].finish(&key, Ending::Failed, now.at, cause);
            ctx.set_cause(here);
            return;
        }
        let plan = self.loops[place].plan(&self.cache.view(), &key, now);
        if plan.steps.is_empty() && plan.then.is_none() {
            self.loops[place].finish(&key, Ending::Done(plan.again), now.at, cause);
        } else {
            let sync = Sync::new(place, key, cause, plan);
            let number = self.free_syncs.pop().unwrap_or_else(|| {
                self.syncs.push(None);
                self.syncs.len() as u32 - 1
            });
            self.go_on(number, sync, ctx);
        }
        ctx.set_cause(here);
    }

    /// Carries a sync on until it waits for answers or ends.
    fn go_on(&mut self, number: u32, mut sync: Sync, ctx: &mut dyn Context<ApiMessage>) {
        let now = Now { at: ctx.now(), epoch: self.epoch };
        let it = &mut self.loops[sync.controller];
        loop {
            match sync.next() {
                Next::Send(operation, index) => {
                    let caller = Caller::Process(Ticket { sync: number, index: index as u32 });
                    self.client.request(it.clientset, caller, operation, ctx);
                }
                Next::Record(note) => it.recorder.record(note, &mut self.client, ctx),
                Next::LookAgain(delay) => {
                    it.touched = true;
                    it.queue(&sync.key).add_after(sync.key.clone(), delay, now.at, sync.cause);
                }
                Next::Pause(least, more) => {
                    let pause = least + SimDuration::from_nanos(it.pauses.below(more.as_nanos().max(1)));
                    ctx.set_timer(now.at + pause, PAUSE + Token::from(number));
                }
                Next::Expect(creations, deletions) => {
                    if let Some(owner) = self.cache.view().object(&sync.key) {
                        it.expectations.expect(owner.meta().uid, creations, deletions, now.at);
                    }
                }
                Next::Continue(then, outcomes) => sync.follow(then(&self.cache.view(), &outcomes, now)),
                Next::Wait => {
                    self.syncs[number as usize] = Some(sync);
                    return;
                }
                Next::End(ending) => {
                    it.finish(&sync.key, ending, now.at, sync.cause);
                    self.free_syncs.push(number);
                    return;
                }
            }
        }
    }

    /// The pause of a sync is over.
    fn resume(&mut self, number: u32, ctx: &mut dyn Context<ApiMessage>) {
        let Some(mut sync) = self.syncs.get_mut(number as usize).and_then(Option::take) else { return };
        sync.resume();
        self.go_on(number, sync, ctx);
    }

    fn answered(&mut self, ticket: Ticket, outcome: Outcome, ctx: &mut dyn Context<ApiMessage>) {
        let Some(mut sync) = self.syncs.get_mut(ticket.sync as usize).and_then(Option::take) else { return };
        let effects = sync.answered(ticket.index as usize, outcome);
        let it = &mut self.loops[sync.controller];
        for aim in effects.not_to_expect {
            match aim {
                Aim::Creation(object) => it.expectations.lower_creation(&object),
                Aim::Deletion(key) => {
                    if let Some(object) = self.cache.view().object(&key) {
                        it.expectations.lower_deletion(object);
                    }
                }
                Aim::Other => {}
            }
        }
        if let Some((kind, revision)) = effects.wrote {
            it.wrote(&sync.key, kind, revision);
        }
        if let Some(note) = effects.record {
            it.recorder.record(note, &mut self.client, ctx);
        }
        self.go_on(ticket.sync, sync, ctx);
    }
}

impl Loop {
    fn new(number: u16, controller: Box<dyn Controller>, config: &Config, client: &mut Client<Ticket>) -> Self {
        let name = controller.name();
        let clientset = client.add_clientset(clientset_config(config, name, controller.limit_factors()));
        let stream = config.seed.stream(&config.name, &format!("{name}-event-retry"));
        let recorder =
            Recorder::new(number, clientset, Name::of(controller.event_source()), Name::EMPTY, config.epoch, stream);
        // kube-controller-manager, `ResyncPeriod`: `--min-resync-period` times a factor between one and two.
        let mut stream = config.seed.stream(&config.name, &format!("{name}-resync"));
        let stretch = |period: SimDuration| period + SimDuration::from_nanos(stream.below(period.as_nanos().max(1)));
        let queue = || WorkQueue::new(controller.retry_delays(), controller.reaction().unwrap_or(config.reaction));
        Loop {
            queues: [queue(), queue()],
            expectations: Expectations::default(),
            resync: if controller.resyncs_exactly() { controller.resync() } else { controller.resync().map(stretch) },
            controller,
            clientset,
            recorder,
            pauses: config.seed.stream(&config.name, &format!("{name}-pause")),
            written: BTreeMap::new(),
            working: false,
            touched: false,
        }
    }

    fn hear(&mut self, change: Change<'_>, view: &View<'_>, now: SimTime, cause: Cause) {
        self.expectations.see(change);
        let (controller, queues, touched) = (&*self.controller, &mut self.queues, &mut self.touched);
        self.controller.on_change(change, view, &mut |key, delay| {
            *touched = true;
            queues[usize::from(controller.is_apart(&key))].add_after(key, delay, now, cause);
        });
    }

    /// Remembers a write whose effect the cache must show before the key's next turn.
    fn wrote(&mut self, key: &ObjectKey, kind: Kind, revision: u64) {
        if self.controller.reads_its_writes().contains(&kind) {
            let newest = self.written.entry(key.clone()).or_default().entry(kind).or_default();
            *newest = revision.max(*newest);
        }
    }

    /// True if the cache shows all that was written about a key; then it need not be remembered any longer.
    fn shows_its_writes(&mut self, key: &ObjectKey, informers: &Informers) -> bool {
        let Some(written) = self.written.get(key) else { return true };
        let shown = |(kind, revision): (&Kind, &u64)| informers.shown(*kind).is_some_and(|shown| shown >= *revision);
        if !written.iter().all(shown) {
            return false;
        }
        self.written.remove(key);
        true
    }

    fn queue(&mut self, key: &ObjectKey) -> &mut WorkQueue<ObjectKey> {
        &mut self.queues[usize::from(self.controller.is_apart(key))]
    }

    /// A key for a free worker.
    fn take(&mut self, now: SimTime) -> Option<(ObjectKey, Cause)> {
        let workers = self.controller.workers();
        self.queues.iter_mut().filter(|queue| queue.processing() < workers).find_map(|queue| queue.take(now))
    }

    /// When the next key comes for a worker who is free.
    fn next_time(&self) -> Option<SimTime> {
        let free = self.queues.iter().filter(|queue| queue.processing() < self.controller.workers());
        free.filter_map(WorkQueue::next_time).min()
    }

    fn plan(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let satisfied = view.object(key).is_none_or(|owner| self.expectations.satisfied(owner.meta().uid, now.at));
        if satisfied {
            self.controller.reconcile(view, key, now)
        } else {
            self.controller.reconcile_expecting(view, key, now)
        }
    }

    /// A worker has done with a key.
    fn finish(&mut self, key: &ObjectKey, ending: Ending, now: SimTime, cause: Cause) {
        self.touched = true;
        if let Some((monitor, period)) = self.controller.periodic()
            && monitor == *key
        {
            // A monitor loop comes again after its period, whatever came of it (apimachinery, `wait.Until`).
            self.queue(key).add_after(monitor, period, now, cause);
        } else {
            let failed = !matches!(ending, Ending::Done(Again::OnChange | Again::After(_) | Again::RateLimited));
            let max_retries = self.controller.max_retries();
            let queue = self.queue(key);
            if let Ending::Done(Again::RateLimited) = ending {
                queue.add_rate_limited(key.clone(), now, cause);
            }
            if failed && max_retries.is_none_or(|max| queue.num_requeues(key) < max) {
                queue.add_rate_limited(key.clone(), now, cause);
            } else {
                queue.forget(key);
            }
            if let Ending::Done(Again::After(delay)) = ending {
                queue.add_after(key.clone(), delay, now, cause);
            }
        }
        self.queue(key).done(key, now);
    }
}

fn clientset_config(config: &Config, name: &str, (rate, burst): (u32, u32)) -> ClientsetConfig {
    let limit = (config.qps > 0).then(|| RateLimit::per_second(config.qps * rate, config.burst.max(1) * burst));
    let agent = format!("kube-controller-manager/{name}").into();
    ClientsetConfig { user: config.user.clone(), agent, limit, timeout: None, lane: 0 }
}
