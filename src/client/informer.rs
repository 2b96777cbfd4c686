//! Informers: a process's cache kept up to date by list and watch (client-go, `Reflector` and `SharedInformerFactory`).
//!
//! One informer for each kind and process. It lists once, then watches from the list's revision, resumes where a watch
//! ended, and lists anew when the server no longer has the history (410). What was deleted while nobody watched is found by
//! comparing the new list with the cache, and told as a deletion. Changes are told after the cache has them.
//!
//! The reflector of 1.36 reads its first state as a stream (`WatchListClient`): a watch that begins with the objects
//! as of the newest revision and takes no token from the client's bucket. Here the same state comes in one answer: a list as
//! of the newest revision, not older than what was seen at a relist, and without a token. The watch has no time limit of its
//! own (client-go draws 5 to 10 minutes); the server ends it when it likes.

use super::back_off::BackOff;
use super::cache::Cache;
use super::controller::Change;
use super::delivery::{Caller, Delivery, Failure};
use super::tokens;
use super::transport::{Client, Clientset};
use crate::api::kind::Kind;
use crate::api::object::Object;
use crate::apiserver::protocol::{Answer, ApiMessage, ListRevision, Operation, RequestId, Scope, WatchEvent, WatchId};
use crate::apiserver::status::Reason;
use crate::engine::process::{Context, Token};
use crate::engine::random::{Seed, Stream};
use crate::engine::time::{SimDuration, SimTime};

/// A watch that ends sooner than this without a single event counts as failed (client-go, `VeryShortWatchError`).
const VERY_SHORT: SimDuration = SimDuration::from_secs(1);

/// The informers of one process.
pub struct Informers {
    clientset: Clientset,
    reflectors: Vec<Reflector>,
    stream: Stream,
}

struct Reflector {
    scope: Scope,
    state: State,
    /// What the cache shows: the newest revision of a list, an event or a bookmark.
    revision: Option<u64>,
    /// True after the server said that it does not have `revision`, until a list has succeeded.
    revision_unavailable: bool,
    back_off: BackOff,
    watch_began: SimTime,
    /// True once the present watch has brought anything.
    watch_spoke: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Listing(RequestId),
    Watching(WatchId),
    /// Waits to list or, with true, to watch again.
    Waiting(bool),
}

/// Who is told of changes: the change, and the cache that already has it.
pub type Listener<'l> = dyn FnMut(Change<'_>, &Cache) + 'l;

impl Informers {
    /// Informers for these selections, at most one for each kind. `name` is the process's, for its random stream.
    pub fn new(clientset: Clientset, scopes: Vec<Scope>, seed: Seed, name: &str) -> Self {
        let reflectors: Vec<Reflector> = scopes.into_iter().map(Reflector::new).collect();
        for (index, reflector) in reflectors.iter().enumerate() {
            let twice = reflectors[..index].iter().any(|other| other.scope.kind == reflector.scope.kind);
            assert!(!twice, "two informers for {:?}", reflector.scope.kind);
        }
        Informers { clientset, reflectors, stream: seed.stream(name, "informer-back-off") }
    }

    /// Begins to list.
    pub fn start<T: Copy>(&mut self, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        for reflector in &mut self.reflectors {
            reflector.back_off = BackOff::reflector(ctx.now());
            reflector.list(self.clientset, client, ctx);
        }
    }

    /// Begins to list one kind, of which nothing has been read so far.
    pub fn start_one<T: Copy>(&mut self, kind: Kind, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        let mut idle = self.reflectors.iter_mut().filter(|reflector| reflector.state == State::Idle);
        if let Some(reflector) = idle.find(|reflector| reflector.kind() == kind) {
            reflector.back_off = BackOff::reflector(ctx.now());
            reflector.list(self.clientset, client, ctx);
        }
    }

    /// Takes a delivery for [`Caller::Informer`]; others are no concern of it.
    pub fn deliver<T: Copy>(
        &mut self,
        delivery: Delivery<T>,
        client: &mut Client<T>,
        cache: &mut Cache,
        ctx: &mut dyn Context<ApiMessage>,
        listener: &mut Listener<'_>,
    ) {
        let Caller::Informer(kind) = delivery.caller() else { return };
        let Some(reflector) = self.reflectors.iter_mut().find(|reflector| reflector.scope.kind == kind) else { return };
        let next = match delivery {
            Delivery::Answered { id, result, .. } if reflector.state == State::Listing(id) => {
                reflector.listed(result, cache, listener)
            }
            Delivery::Answered { id, result, .. } if reflector.state == State::Watching(id) => match result {
                Ok(_) => Next::Nothing,
                Err(failure) => after_watch_failed(&failure),
            },
            Delivery::Events { watch, events, .. } if reflector.state == State::Watching(watch) => {
                let next = reflector.events(events, cache, listener);
                if next != Next::Nothing {
                    client.forget_watch(watch);
                }
                next
            }
            Delivery::WatchEnded { watch, .. } if reflector.state == State::Watching(watch) => {
                reflector.watch_ended(ctx.now())
            }
            _ => Next::Nothing,
        };
        reflector.go_on(next, self.clientset, &mut self.stream, client, ctx);
    }

    /// Takes a timer; false if it is not an informer's.
    pub fn timer<T: Copy>(&mut self, token: Token, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) -> bool {
        let Some(kind) = tokens::informer_timer(token) else { return false };
        if let Some(reflector) = self.reflectors.iter_mut().find(|reflector| reflector.scope.kind == kind)
            && let State::Waiting(resume) = reflector.state
        {
            let next = if resume { Next::Watch } else { Next::List };
            reflector.go_on(next, self.clientset, &mut self.stream, client, ctx);
        }
        true
    }

    /// Up to which revision the cache shows a kind (client-go, `LastStoreSyncResourceVersion`).
    pub fn shown(&self, kind: Kind) -> Option<u64> {
        self.reflectors.iter().find(|reflector| reflector.kind() == kind)?.revision
    }

    /// True once every kind's first list has arrived.
    pub fn have_synced(&self, cache: &Cache) -> bool {
        self.reflectors.iter().all(|reflector| cache.view().has_synced(reflector.scope.kind))
    }
}

/// What a reflector does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    List,
    Watch,
    /// Lists after a back-off.
    ListLater,
    /// Resumes the watch after a back-off.
    WatchLater,
}

impl Reflector {
    fn new(scope: Scope) -> Self {
        Reflector {
            scope,
            state: State::Idle,
            revision: None,
            revision_unavailable: false,
            back_off: BackOff::reflector(SimTime::ZERO),
            watch_began: SimTime::ZERO,
            watch_spoke: false,
        }
    }

    fn kind(&self) -> Kind {
        self.scope.kind
    }

    fn go_on<T: Copy>(
        &mut self,
        next: Next,
        clientset: Clientset,
        stream: &mut Stream,
        client: &mut Client<T>,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        match next {
            Next::Nothing => {}
            Next::List => self.list(clientset, client, ctx),
            Next::Watch => self.watch(clientset, client, ctx),
            Next::ListLater | Next::WatchLater => {
                self.state = State::Waiting(next == Next::WatchLater);
                let at = ctx.now() + self.back_off.next(ctx.now(), stream);
                ctx.set_timer(at, tokens::informer(self.kind()));
            }
        }
    }

    fn list<T: Copy>(&mut self, clientset: Clientset, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        let at = match self.revision {
            Some(revision) if !self.revision_unavailable => ListRevision::NotOlderThan(revision),
            _ => ListRevision::Latest,
        };
        let operation = Operation::List { scope: self.scope.clone(), limit: 0, continue_token: None, at };
        let caller = Caller::Informer(self.kind());
        self.state = State::Listing(client.request_unlimited(clientset, caller, operation, ctx));
    }

    fn watch<T: Copy>(&mut self, clientset: Clientset, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        let caller = Caller::Informer(self.kind());
        self.watch_began = ctx.now();
        self.watch_spoke = false;
        self.state = State::Watching(client.watch(clientset, caller, self.scope.clone(), self.revision, ctx));
    }

    fn listed(&mut self, result: Result<Answer, Failure>, cache: &mut Cache, listener: &mut Listener<'_>) -> Next {
        match result {
            Ok(Answer::List { items, revision, .. }) => {
                self.revision_unavailable = false;
                self.revision = Some(revision);
                replace(self.kind(), items, cache, listener);
                cache.mark_synced(self.kind());
                Next::Watch
            }
            Ok(_) => Next::ListLater,
            Err(failure) if !self.revision_unavailable && revision_is_unavailable(&failure) => {
                self.revision_unavailable = true;
                Next::List
            }
            Err(_) => Next::ListLater,
        }
    }

    fn events(&mut self, events: Vec<WatchEvent>, cache: &mut Cache, listener: &mut Listener<'_>) -> Next {
        self.watch_spoke |= !events.is_empty();
        for event in events {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.revision = Some(object.meta().revision());
                    take_in(object, cache, listener);
                }
                WatchEvent::Deleted { object, revision } => {
                    self.revision = Some(revision);
                    if cache.take_out(&object).is_some() {
                        listener(Change::Deleted(&object), cache);
                    }
                }
                WatchEvent::Bookmark { revision } => self.revision = Some(revision),
                WatchEvent::Error(status) if status.reason == Reason::TooManyRequests => return Next::WatchLater,
                WatchEvent::Error(_) => return Next::ListLater,
            }
        }
        Next::Nothing
    }

    fn watch_ended(&self, now: SimTime) -> Next {
        if !self.watch_spoke && now.since(self.watch_began) < VERY_SHORT { Next::ListLater } else { Next::Watch }
    }
}

/// client-go, `isWatchErrorRetriable`: nothing is wrong with the revision if the server cannot be reached or is busy,
/// and after a connection that broke the watch is resumed too; anything else asks for a list.
fn after_watch_failed(failure: &Failure) -> Next {
    match failure {
        Failure::Unreachable | Failure::ConnectionLost | Failure::TimedOut => Next::WatchLater,
        Failure::Refused(status) if status.reason == Reason::TooManyRequests => Next::WatchLater,
        Failure::Refused(_) => Next::ListLater,
    }
}

/// True if the server has no longer, or not yet, the revision that was asked for (client-go, `isExpiredError`,
/// `isTooLargeResourceVersionError`).
fn revision_is_unavailable(failure: &Failure) -> bool {
    let Failure::Refused(status) = failure else { return false };
    matches!(status.reason, Reason::Expired | Reason::Gone)
        || status.reason == Reason::Timeout && status.message.contains("Too large resource version")
}

/// Puts a version into the cache and tells of it. Another incarnation under the same name is a deletion and an addition.
fn take_in(object: Object, cache: &mut Cache, listener: &mut Listener<'_>) {
    match cache.insert(object.clone()) {
        None => listener(Change::Added(&object), cache),
        Some(old) if old.meta().uid == object.meta().uid => {
            listener(Change::Updated { old: &old, new: &object }, cache);
        }
        Some(old) => {
            listener(Change::Deleted(&old), cache);
            listener(Change::Added(&object), cache);
        }
    }
}

/// Makes the cache show exactly `items` of a kind. Versions that it already had are told to nobody
/// (client-go, `sharedIndexInformer.OnUpdate`: an unchanged resourceVersion is a resync).
fn replace(kind: Kind, items: Vec<Object>, cache: &mut Cache, listener: &mut Listener<'_>) {
    let mut gone: Vec<Object> = Vec::new();
    {
        let mut listed: Vec<&Object> = items.iter().collect();
        listed.sort_unstable_by(|left, right| place(left).cmp(&place(right)));
        let mut listed = listed.into_iter().peekable();
        for known in cache.view().objects(kind) {
            while listed.next_if(|next| place(next) < place(known)).is_some() {}
            if listed.peek().is_none_or(|next| place(next) != place(known)) {
                gone.push(known.clone());
            }
        }
    }
    for object in items {
        let known = cache.view().object_at(kind, &object.meta().namespace, &object.meta().name);
        let unchanged = known.is_some_and(|known| {
            let (known, listed) = (known.meta(), object.meta());
            known.uid == listed.uid && known.revision() == listed.revision()
        });
        if !unchanged {
            take_in(object, cache, listener);
        }
    }
    for object in gone {
        cache.take_out(&object);
        listener(Change::Deleted(&object), cache);
    }
}

fn place(object: &Object) -> (&str, &str) {
    let meta = object.meta();
    (&meta.namespace, &meta.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::ObjectKey;
    use crate::api::name::Name;
    use crate::apiserver::protocol::User;
    use crate::apiserver::status::Status;
    use crate::client::script::{Process, Run, SERVER, busy, config_map, millis};
    use crate::client::transport::ClientsetConfig;
    use crate::engine::process::Input;
    use std::rc::Rc;

    /// A process that only watches ConfigMaps, and writes down what it is told.
    struct Watcher {
        client: Client<()>,
        informers: Informers,
        cache: Cache,
        told: Vec<String>,
    }

    impl Process for Watcher {
        fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
            match self.client.handle(input, ctx) {
                Some(Input::Start) => self.informers.start(&mut self.client, ctx),
                Some(Input::Timer { token }) => assert!(self.informers.timer(token, &mut self.client, ctx)),
                _ => {}
            }
            while let Some(delivery) = self.client.next_delivery() {
                let told = &mut self.told;
                let mut listener = |change: Change<'_>, cache: &Cache| {
                    let object = change.object();
                    let shown = cache.view().object(&object.key()).map(|shown| shown.meta().revision());
                    let what = match change {
                        Change::Added(_) => "added",
                        Change::Updated { .. } => "updated",
                        Change::Deleted(_) => "deleted",
                    };
                    told.push(format!("{what} {} {shown:?}", object.meta().name));
                };
                self.informers.deliver(delivery, &mut self.client, &mut self.cache, ctx, &mut listener);
            }
        }
    }

    fn watcher(seed: u64) -> Run<Watcher> {
        let mut client = Client::new(vec![SERVER]);
        let user = Rc::new(User { name: Name::of("test"), groups: Vec::new() });
        let config = ClientsetConfig { user, agent: Name::of("test"), limit: None, timeout: None, lane: 0 };
        let clientset = client.add_clientset(config);
        let informers = Informers::new(clientset, vec![Scope::all(Kind::ConfigMap)], Seed(seed), "watcher");
        Run::start(Watcher { client, informers, cache: Cache::default(), told: Vec::new() })
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::ConfigMap, "default", name)
    }

    fn told(run: &mut Run<Watcher>) -> Vec<String> {
        std::mem::take(&mut run.process.told)
    }

    fn verbs(run: &Run<Watcher>) -> Vec<(u64, &'static str)> {
        run.server.requests.iter().map(|(at, _, request)| (at.as_millis(), request.operation.verb())).collect()
    }

    #[test]
    fn an_informer_lists_then_watches_and_the_cache_is_ahead_of_its_listeners() {
        let mut run = watcher(1);
        run.server.write(config_map("a"));
        run.until(millis(10));
        assert!(run.process.informers.have_synced(&run.process.cache));
        run.write(config_map("a"));
        run.write(config_map("b"));
        run.delete(&key("a"));
        run.pass(SimDuration::from_secs(1));
        assert_eq!(told(&mut run), ["added a Some(1)", "updated a Some(2)", "added b Some(3)", "deleted a None"]);
        assert_eq!(verbs(&run), [(1, "list"), (3, "watch")]);
    }

    #[test]
    fn a_watch_that_the_server_closed_goes_on_where_it_was() {
        let mut run = watcher(1);
        run.until(millis(10));
        run.write(config_map("a"));
        run.pass(SimDuration::from_secs(60));
        run.server.close_watches();
        run.write(config_map("b"));
        run.pass(SimDuration::from_secs(60));
        assert_eq!(told(&mut run), ["added a Some(1)", "added b Some(2)"]);
        assert_eq!(verbs(&run), [(1, "list"), (3, "watch"), (60_012, "watch")]);
    }

    #[test]
    fn what_was_deleted_while_nobody_watched_is_told_after_the_relist_that_a_410_asks_for() {
        let mut run = watcher(1);
        for name in ["a", "b", "c", "d"] {
            run.server.write(config_map(name));
        }
        run.until(millis(5_000));
        told(&mut run);
        run.server.dead = true;
        run.break_connection();
        run.delete(&key("b"));
        run.write(config_map("c"));
        run.delete(&key("d"));
        run.write(config_map("d"));
        run.server.compact();
        run.pass(SimDuration::from_secs(1));
        assert_eq!(told(&mut run), [""; 0]);
        run.break_connection();
        run.server.dead = false;
        run.pass(SimDuration::from_secs(60));
        assert_eq!(told(&mut run), ["updated c Some(6)", "deleted d Some(8)", "added d Some(8)", "deleted b None",]);
        let verbs = verbs(&run);
        let [(_, "list"), (_, "watch"), (rewatch, "watch"), (relist, "list"), (_, "watch")] = verbs[..] else {
            panic!("{verbs:?}");
        };
        assert!((800..3_200).contains(&(relist - rewatch)), "relisted after {} ms", relist - rewatch);
    }

    #[test]
    fn a_revision_that_the_server_does_not_have_makes_the_informer_ask_for_the_newest() {
        let mut run = watcher(1);
        run.until(millis(10));
        let at = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let seen = at.clone();
        run.server.refusals.push(Box::new(move |operation| match operation {
            Operation::List { at, .. } => {
                seen.borrow_mut().push(*at);
                (*at != ListRevision::Latest)
                    .then(|| Status::new(Reason::Timeout, "Timeout: Too large resource version: 7, current: 5"))
            }
            Operation::Watch { .. } if seen.borrow().is_empty() => {
                Some(Status::new(Reason::Expired, "too old resource version"))
            }
            _ => None,
        }));
        run.server.close_watches();
        run.write(config_map("a"));
        run.pass(SimDuration::from_secs(30));
        assert_eq!(*at.borrow(), [ListRevision::NotOlderThan(0), ListRevision::Latest]);
        assert_eq!(told(&mut run), ["added a Some(1)"]);
    }

    #[test]
    fn a_server_that_refuses_lists_is_asked_less_and_less_often() {
        let mut run = watcher(1);
        run.server.refusals.push(Box::new(|_| Some(Status::new(Reason::InternalError, "etcd is gone"))));
        run.pass(SimDuration::from_secs(300));
        let times: Vec<u64> = verbs(&run).iter().map(|(at, _)| *at).collect();
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!((800..1_700).contains(&gaps[0]) && (1_600..3_300).contains(&gaps[1]), "{gaps:?}");
        assert!(gaps.iter().all(|gap| *gap <= 60_002) && times.len() < 30, "{gaps:?}");
        run.server.refusals.clear();
        run.pass(SimDuration::from_secs(61));
        assert!(run.process.informers.have_synced(&run.process.cache));
    }

    #[test]
    fn a_busy_server_ends_a_watch_but_not_the_informers_place_in_it() {
        let mut run = watcher(1);
        run.until(millis(10));
        let mut times = 0;
        run.server.refusals.push(Box::new(move |operation| {
            times += 1;
            (times <= 2 && operation.verb() == "watch").then(|| busy(0))
        }));
        run.pass(SimDuration::from_secs(2));
        run.server.close_watches();
        run.write(config_map("a"));
        run.pass(SimDuration::from_secs(30));
        assert_eq!(verbs(&run).iter().filter(|(_, verb)| *verb == "list").count(), 1);
        assert_eq!(told(&mut run), ["added a Some(1)"]);
    }

    #[test]
    fn after_any_drops_and_compactions_the_cache_shows_what_the_server_has() {
        for seed in 0..60 {
            let mut run = watcher(seed);
            let mut chance = Seed(seed).stream("test", "faults");
            for _ in 0..200 {
                let name = format!("m{}", chance.below(12));
                match chance.below(20) {
                    0 => run.break_connection(),
                    1 => run.server.close_watches(),
                    2 => run.server.compact(),
                    3 => {
                        run.server.dead = !run.server.dead;
                        run.break_connection();
                    }
                    4..=8 => run.delete(&key(&name)),
                    _ => run.write(config_map(&name)),
                }
                run.pass(SimDuration::from_millis(chance.below(1_500)));
            }
            if std::mem::replace(&mut run.server.dead, false) {
                run.break_connection();
            }
            run.pass(SimDuration::from_secs(200));
            let truth: Vec<_> = run.server.objects.values().map(|o| (o.key(), o.meta().revision())).collect();
            let cached = run.process.cache.view();
            let cached: Vec<_> = cached.objects(Kind::ConfigMap).map(|o| (o.key(), o.meta().revision())).collect();
            assert_eq!(cached, truth, "seed {seed}");
        }
    }
}
