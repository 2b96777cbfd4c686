//! Stories about control loops in their harness: a keeper of ConfigMaps that wants as many children as its label says.

use std::cell::RefCell;
use std::rc::Rc;

use super::controller::{Change, Controller};
use super::harness::{Config, ControllerManager};
use super::plan::{EventNote, Plan, Request, Step};
use super::script::{Process, Run, SERVER, config_map, millis, writes};
use super::view::{Now, View};
use crate::api::event::{EventType, ObjectReference};
use crate::api::kind::Kind;
use crate::api::meta::{Epoch, Labels, ObjectKey, OwnerReference};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::plain::ConfigMap;
use crate::apiserver::protocol::{ApiMessage, DeleteOptions, Operation, Part, new_meta};
use crate::apiserver::status::{Reason, Status};
use crate::engine::process::{Context, Input};
use crate::engine::random::Seed;
use crate::engine::time::SimDuration;

type Reconcile = Box<dyn Fn(&View<'_>, &ObjectKey, Now) -> Plan>;

/// A control loop over ConfigMaps whose decisions a test writes.
struct Keeper {
    reconcile: Reconcile,
    periodic: Option<(ObjectKey, SimDuration)>,
    resync: Option<SimDuration>,
    watches: &'static [Kind],
    max_retries: Option<u32>,
    /// How often it was asked while something was still expected.
    expecting: Rc<RefCell<u32>>,
}

impl Keeper {
    fn new(reconcile: impl Fn(&View<'_>, &ObjectKey, Now) -> Plan + 'static) -> Self {
        Keeper {
            reconcile: Box::new(reconcile),
            periodic: None,
            resync: None,
            watches: &[Kind::ConfigMap],
            max_retries: None,
            expecting: Rc::default(),
        }
    }
}

impl Controller for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn workers(&self) -> usize {
        2
    }

    fn watches(&self) -> &'static [Kind] {
        self.watches
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let object = change.object();
        let key = match object.meta().controller() {
            Some(owner) => ObjectKey::new(Kind::ConfigMap, object.meta().namespace.clone(), owner.name.clone()),
            None => object.key(),
        };
        enqueue(key, SimDuration::ZERO);
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn periodic(&self) -> Option<(ObjectKey, SimDuration)> {
        self.periodic.clone()
    }

    fn max_retries(&self) -> Option<u32> {
        self.max_retries
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        (self.reconcile)(view, key, now)
    }

    fn reconcile_expecting(&self, _view: &View<'_>, _key: &ObjectKey, _now: Now) -> Plan {
        *self.expecting.borrow_mut() += 1;
        Plan::nothing().again_after(SimDuration::from_secs(60))
    }
}

impl Process for ControllerManager {
    fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
        ControllerManager::handle(self, input, ctx);
    }
}

fn manager(keeper: Keeper) -> ControllerManager {
    let config = Config::new("kube-controller-manager-0", vec![SERVER], Epoch(0), Seed(1));
    ControllerManager::new(config, vec![Box::new(keeper)])
}

fn run(keeper: Keeper) -> Run<ControllerManager> {
    Run::start(manager(keeper))
}

/// An owner that wants `children`.
fn owner(name: &str, children: u32) -> Object {
    let mut object = config_map(name);
    object.meta_mut().labels = Labels::NONE.with("children", children.to_string());
    object
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::ConfigMap, "default", name)
}

fn child(owner: &Object) -> Object {
    let mut object = config_map("");
    let meta = object.meta_mut();
    meta.generate_name = Some(format!("{}-", owner.meta().name).into());
    meta.owners = [OwnerReference {
        api_version: Name::of("v1"),
        kind: Name::of("ConfigMap"),
        name: owner.meta().name.clone(),
        uid: owner.meta().uid,
        controller: true,
        block_owner_deletion: true,
    }]
    .into();
    object
}

/// What a ReplicaSet does, with ConfigMaps.
fn keep(view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
    let Some(owner) = view.object(key) else { return Plan::nothing() };
    let wanted = owner.meta().labels.get("children").and_then(|text| text.parse().ok()).unwrap_or(0);
    let children: Vec<&Rc<ConfigMap>> = view.owned_by::<ConfigMap>(owner.meta().uid).collect();
    if children.len() < wanted {
        let missing = wanted - children.len();
        let request = || {
            let mut request = Request::new(Operation::Create { object: child(owner), dry_run: false });
            request.on_success = Some(Box::new(note(owner, "SuccessfulCreate", "Created {name}")));
            request.on_failure = Some(Box::new(note(owner, "FailedCreate", "Error creating: {error}")));
            request
        };
        let expect = Step::Expect { creations: missing as u32, deletions: Vec::new() };
        let create = Step::SlowStart(std::iter::repeat_with(request).take(missing).collect());
        return Plan::nothing().step(expect).step(create);
    }
    let surplus = &children[wanted..];
    if surplus.is_empty() {
        return Plan::nothing();
    }
    let uids = surplus.iter().map(|child| child.meta.uid).collect();
    let delete = |child: &&Rc<ConfigMap>| {
        let key = key_of(&child.meta.name);
        let operation = Operation::Delete { key, options: DeleteOptions::default() };
        Request { tolerate: &[Reason::NotFound], ..Request::new(operation) }
    };
    let expect = Step::Expect { creations: 0, deletions: uids };
    Plan::nothing().step(expect).step(Step::Parallel(surplus.iter().map(delete).collect()))
}

fn key_of(name: &Name) -> ObjectKey {
    ObjectKey::new(Kind::ConfigMap, "default", name.clone())
}

fn note(owner: &Object, reason: &'static str, message: &str) -> EventNote {
    let regarding = ObjectReference {
        kind: Name::of("ConfigMap"),
        namespace: owner.meta().namespace.clone(),
        name: owner.meta().name.clone(),
        uid: owner.meta().uid,
        ..ObjectReference::default()
    };
    EventNote { regarding, kind: EventType::Normal, reason: Name::of(reason), message: message.to_owned() }
}

fn creations(run: &Run<ControllerManager>) -> Vec<u64> {
    let created = |line: &(u64, String)| line.1.starts_with("create configmap");
    writes(&run.server).into_iter().filter(created).map(|(at, _)| at).collect()
}

fn children(run: &Run<ControllerManager>) -> usize {
    let objects = run.server.objects.values();
    objects.filter(|object| object.kind() == Kind::ConfigMap && object.meta().controller().is_some()).count()
}

#[test]
fn creations_start_slowly_five_milliseconds_after_the_change_and_each_is_made_once() {
    let mut run = run(Keeper::new(keep));
    run.until(millis(100));
    run.write(owner("web", 10));
    run.pass(SimDuration::from_secs(10));
    // Seen at 101, begun at 106, at the server at 107; each batch waits for the answers to the one before.
    assert_eq!(creations(&run), [107, 109, 109, 111, 111, 111, 111, 113, 113, 113]);
    assert_eq!(children(&run), 10);
    assert_eq!(run.process.backlog("keeper"), Some(0));
}

#[test]
fn creations_and_events_share_a_bucket_of_thirty_and_twenty_a_second() {
    let mut run = run(Keeper::new(keep));
    run.write(owner("web", 100));
    run.pass(SimDuration::from_secs(60));
    assert_eq!(children(&run), 100);
    let times: Vec<u64> = writes(&run.server).iter().map(|(at, _)| *at).collect();
    let events = times.len() - 100;
    assert!((1..=25).contains(&events), "{events} events");
    // Of n requests n - 30 wait for a token. While they do, tokens never lie idle; before, less than one comes back.
    let took = times[times.len() - 1] - times[0];
    let expected = (times.len() as u64 - 30) * 50;
    assert!((expected - 50..=expected).contains(&took), "{took} ms for {} requests", times.len());
    let first_second = times.iter().filter(|at| **at < times[0] + 1_000).count();
    assert!((49..=50).contains(&first_second), "{first_second} in the first second");
}

#[test]
fn deletions_are_made_once_each_and_all_at_once() {
    let mut run = run(Keeper::new(keep));
    run.write(owner("web", 8));
    run.pass(SimDuration::from_secs(5));
    run.write(owner("web", 3));
    run.pass(SimDuration::from_secs(5));
    assert_eq!(children(&run), 3);
    let writes = writes(&run.server);
    let deletions: Vec<u64> = writes.iter().filter(|(_, line)| line.starts_with("delete")).map(|(at, _)| *at).collect();
    assert_eq!(deletions, [5_007; 5]);
}

#[test]
fn a_conflict_is_tried_again_after_5_10_20_40_milliseconds_with_the_same_cause() {
    let mut run = run(Keeper::new(|view, key, _| {
        let Some(object) = view.object(key) else { return Plan::nothing() };
        let mut stale = object.clone();
        stale.meta_mut().resource_version.set(77);
        Plan::request(Operation::Update { object: stale, part: Part::Main, dry_run: false })
    }));
    run.until(millis(100));
    run.write(config_map("a"));
    run.pass(SimDuration::from_millis(400));
    let at: Vec<u64> = writes(&run.server).iter().map(|(at, _)| *at).collect();
    // Two hops for each try, then the back-off.
    assert_eq!(at, [107, 107 + 7, 107 + 7 + 12, 107 + 7 + 12 + 22, 107 + 7 + 12 + 22 + 42, 272, 434]);
    let causes: Vec<_> = run.server.requests.iter().filter(|r| r.2.operation.verb() == "update").map(|r| r.1).collect();
    assert!(causes.windows(2).all(|pair| pair[0] == pair[1]), "{causes:?}");
}

#[test]
fn a_key_that_failed_too_often_is_left_alone_until_something_changes() {
    let mut keeper = Keeper::new(|_, key, _| {
        Plan::request(Operation::Update { object: config_map(&key.name), part: Part::Main, dry_run: false })
    });
    keeper.max_retries = Some(3);
    let mut run = run(keeper);
    run.write(config_map("a"));
    run.pass(SimDuration::from_secs(3_600));
    assert_eq!(writes(&run.server).len(), 4);
    run.write(config_map("a"));
    run.pass(SimDuration::from_secs(3_600));
    assert_eq!(writes(&run.server).len(), 8);
}

#[test]
fn a_failure_ends_the_slow_start_and_what_was_not_made_is_not_waited_for() {
    let mut run = run(Keeper::new(keep));
    let mut creations_seen = 0;
    run.server.refusals.push(Box::new(move |operation| {
        creations_seen +=
            u32::from(matches!(operation, Operation::Create { object, .. } if object.kind() == Kind::ConfigMap));
        let full = matches!(operation, Operation::Create { .. }) && (2..=3).contains(&creations_seen);
        full.then(|| Status::new(Reason::Forbidden, "exceeded quota"))
    }));
    run.write(owner("web", 10));
    run.pass(SimDuration::from_secs(10));
    let times = creations(&run);
    // 1 made, 2 refused; the rest is not sent. Anew after 5 ms of back-off: 1, 2, 4, and the last 2.
    assert_eq!(times.len(), 3 + 9);
    assert_eq!(times[2] - times[0], 2);
    assert_eq!(children(&run), 10);
}

#[test]
fn that_a_namespace_is_being_deleted_does_not_end_the_slow_start_and_is_not_tried_again_for_five_minutes() {
    let mut run = run(Keeper::new(keep));
    run.server.refusals.push(Box::new(|operation| {
        let mut status = Status::about(Reason::Forbidden, Kind::ConfigMap, "web-1", "it is being terminated");
        let cause = ("NamespaceTerminating".to_owned(), String::new(), "metadata.namespace".to_owned());
        status.details.as_mut().expect("it is about an object").causes.push(cause);
        matches!(operation, Operation::Create { object, .. } if object.kind() == Kind::ConfigMap).then_some(status)
    }));
    run.write(owner("web", 10));
    run.pass(SimDuration::from_secs(10));
    assert_eq!(creations(&run).len(), 10, "each is tried once");
    assert_eq!(writes(&run.server).len(), 10, "and nothing is said");
    assert_eq!(children(&run), 0);
}

#[test]
fn a_key_is_looked_at_again_a_time_after_the_step_however_the_sync_ends() {
    let looks: Rc<RefCell<Vec<u64>>> = Rc::default();
    let log = looks.clone();
    let mut run = run(Keeper::new(move |_, key, now| {
        log.borrow_mut().push(now.at.as_millis());
        // The request takes 2 ms, and fails.
        let missing = Operation::Get { key: self::key("missing") };
        let later = Plan::nothing().step(Step::LookAgain(SimDuration::from_millis(3)));
        if key.name == "a" && log.borrow().len() == 1 { later.step(Step::request(missing)) } else { Plan::nothing() }
    }));
    run.until(millis(100));
    run.write(owner("a", 1));
    run.pass(SimDuration::from_secs(10));
    assert_eq!(looks.borrow().iter().map(|at| at - looks.borrow()[0]).collect::<Vec<_>>(), [0, 3]);
}

#[test]
fn a_sync_that_pauses_keeps_its_key_and_goes_on_after_a_time_of_chance() {
    let looks: Rc<RefCell<Vec<u64>>> = Rc::default();
    let log = looks.clone();
    let mut run = run(Keeper::new(move |_, _, now| {
        log.borrow_mut().push(now.at.as_millis());
        let log = log.clone();
        let pause = Step::Pause(SimDuration::from_millis(100), SimDuration::from_millis(100));
        Plan::nothing().step(pause).then(move |_, outcomes, now| {
            assert!(outcomes.is_empty());
            log.borrow_mut().push(now.at.as_millis());
            Plan::nothing()
        })
    }));
    run.until(millis(100));
    run.write(owner("a", 1));
    run.pass(SimDuration::from_millis(50));
    run.write(owner("a", 2));
    run.pass(SimDuration::from_secs(10));
    let looks = looks.borrow();
    assert_eq!(looks.len(), 4, "what changes meanwhile is looked at afterwards: {looks:?}");
    assert!((100..200).contains(&(looks[1] - looks[0])) && looks[2] >= looks[1], "{looks:?}");
}

#[test]
fn while_the_cache_has_not_shown_what_was_made_nothing_more_is_made_for_five_minutes() {
    let keeper = Keeper::new(|view, key, now| keep(view, key, now).again_after(SimDuration::from_secs(1)));
    let expecting = keeper.expecting.clone();
    let mut run = run(keeper);
    run.until(millis(100));
    run.write(owner("web", 3));
    run.until(millis(102));
    run.server.mute = true;
    run.pass(SimDuration::from_secs(290));
    assert_eq!(children(&run), 3);
    assert_eq!(*expecting.borrow(), 5, "asked after a second, then every minute");
    run.pass(SimDuration::from_secs(9));
    assert_eq!(children(&run), 3);
    run.pass(SimDuration::from_secs(60));
    assert_eq!(children(&run), 6, "after five minutes it does not wait any longer");
}

#[test]
fn a_continuation_sees_the_results_of_its_own_plan_tolerated_failures_among_them() {
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let log = seen.clone();
    let mut run = run(Keeper::new(move |_, key, _| {
        if key.name != "a" {
            return Plan::nothing();
        }
        let (log, again) = (log.clone(), log.clone());
        let keys = vec![crate::api::meta::ObjectKey::new(Kind::ConfigMap, "default", "a"), self::key("missing")];
        Plan::read(keys, move |view, outcomes, _| {
            let found = outcomes.iter().map(|outcome| outcome.is_ok().to_string()).collect::<Vec<_>>();
            log.borrow_mut().push(format!("{} of {}", found.join(","), view.count(Kind::ConfigMap)));
            Plan::request(Operation::Create { object: config_map("a"), dry_run: false }).then(move |_, outcomes, _| {
                let reasons: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().err().map(|s| s.reason)).collect();
                again.borrow_mut().push(format!("{reasons:?}"));
                Plan::nothing()
            })
        })
    }));
    run.write(config_map("a"));
    run.pass(SimDuration::from_secs(10));
    assert_eq!(
        *seen.borrow(),
        ["true,false of 1", "[AlreadyExists]"],
        "a failure that was taken care of is not retried"
    );
}

#[test]
fn workers_begin_when_the_last_of_their_kinds_has_arrived() {
    let mut keeper = Keeper::new(keep);
    keeper.watches = &[Kind::ConfigMap, Kind::Secret];
    let mut run = run(keeper);
    run.server.write(owner("web", 1));
    run.server.refusals.push(Box::new(|operation| {
        (operation.kind() == Kind::Secret).then(|| Status::new(Reason::InternalError, "not now"))
    }));
    run.pass(SimDuration::from_secs(30));
    assert_eq!(children(&run), 0);
    run.server.refusals.clear();
    run.pass(SimDuration::from_secs(60));
    assert_eq!(children(&run), 1);
}

#[test]
fn a_monitor_loop_comes_at_once_and_then_a_period_after_each_end() {
    let times: Rc<RefCell<Vec<u64>>> = Rc::default();
    let log = times.clone();
    let mut keeper = Keeper::new(move |_, key, now| {
        log.borrow_mut().push(now.at.as_millis());
        Plan::read(vec![key.clone()], |_, _, _| Plan::nothing())
    });
    keeper.periodic = Some((key("monitor"), SimDuration::from_secs(5)));
    let mut run = run(keeper);
    run.pass(SimDuration::from_secs(16));
    assert_eq!(*times.borrow(), [7, 5_009, 10_011, 15_013]);
}

#[test]
fn a_resync_looks_at_every_object_once_in_a_stretched_period() {
    let times: Rc<RefCell<Vec<u64>>> = Rc::default();
    let log = times.clone();
    let mut keeper = Keeper::new(move |_, _, now| {
        log.borrow_mut().push(now.at.as_millis() / 1_000);
        Plan::nothing()
    });
    keeper.resync = Some(SimDuration::from_secs(3_600));
    let mut run = run(keeper);
    run.write(config_map("a"));
    run.write(config_map("b"));
    run.pass(SimDuration::from_secs(4 * 3_600));
    let times = times.borrow();
    assert_eq!(times[..2], [0, 0]);
    assert!(times[2] == times[3] && (3_600..=7_200).contains(&times[2]), "{times:?}");
    assert!(times.len().is_multiple_of(2) && (6..=8).contains(&times.len()), "{times:?}");
}

#[test]
fn keys_that_are_ready_at_the_same_time_need_one_timer() {
    let mut run = run(Keeper::new(|_, _, _| Plan::nothing()));
    run.until(millis(100));
    let before = run.desk.timers_fired;
    for number in 0..50 {
        run.write(config_map(&format!("a{number}")));
    }
    run.pass(SimDuration::from_secs(1));
    assert_eq!(run.desk.timers_fired - before, 1);
}

#[test]
fn whatever_is_dropped_refused_or_crashed_in_the_end_each_owner_has_what_it_wants() {
    for seed in 0..40 {
        let mut run = run(Keeper::new(keep));
        let mut chance = Seed(seed).stream("test", "faults");
        let mut refusing = Seed(seed).stream("test", "refusals");
        run.server.refusals.push(Box::new(move |operation| {
            let refused = refusing.ratio(1, 20) && !matches!(operation.verb(), "list" | "watch");
            refused.then(|| Status::new(Reason::InternalError, "etcd leader changed"))
        }));
        for _ in 0..60 {
            match chance.below(12) {
                0 => run.break_connection(),
                1 => run.server.close_watches(),
                2 => run.server.compact(),
                3 => {
                    run.break_connection();
                    run.server.mute = false;
                    run.process = manager(Keeper::new(keep));
                    run.restart();
                }
                4 | 5 => {
                    let kept: Vec<ObjectKey> = run.server.objects.keys().cloned().collect();
                    let victim = kept.get(chance.below(kept.len().max(1) as u64) as usize).cloned();
                    victim
                        .into_iter()
                        .filter(|victim| victim.name.contains('-'))
                        .for_each(|victim| run.delete(&victim));
                }
                _ => {
                    let name = ["web", "db", "cache"][chance.below(3) as usize];
                    run.write(owner(name, chance.below(9) as u32));
                }
            }
            run.pass(SimDuration::from_millis(chance.below(3_000)));
        }
        run.server.refusals.clear();
        // What was expected and never seen is given up after five minutes, and looked at when something changes.
        run.pass(SimDuration::from_secs(400));
        let owners: Vec<Object> =
            ["web", "db", "cache"].iter().filter_map(|n| run.server.objects.get(&key(n))).cloned().collect();
        owners.iter().for_each(|owner| run.write(owner.clone()));
        run.pass(SimDuration::from_secs(60));
        for owner in owners {
            let wanted: usize = owner.meta().labels.get("children").and_then(|text| text.parse().ok()).unwrap_or(0);
            let owns = |object: &&Object| object.meta().controller().is_some_and(|it| it.uid == owner.meta().uid);
            let has = run.server.objects.values().filter(owns).count();
            assert_eq!(has, wanted, "seed {seed}, {}", owner.meta().name);
        }
    }
}

#[test]
fn an_object_without_namespace_has_its_place_too() {
    let mut object = config_map("a");
    object.meta_mut().namespace = Name::EMPTY;
    let mut cache = super::cache::Cache::default();
    assert!(cache.insert(object.clone()).is_none());
    assert!(cache.view().get::<ConfigMap>("", "a").is_some());
    assert_eq!(cache.view().objects_in(Kind::ConfigMap, "").count(), 1);
    assert_eq!(new_meta("", "a").name, object.meta().name);
}
