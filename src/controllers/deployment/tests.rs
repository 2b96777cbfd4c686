//! Deployments as a whole: what a look at one leads to, and rollouts from beginning to end.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::api::int_or_string::IntOrString;
use crate::api::meta::Timestamp;
use crate::api::pod::PodPhase;
use crate::api::shared::Shared;
use crate::apiserver::status::{Reason, Status};
use crate::controllers::replica_set::ReplicaSetController;
use crate::controllers::testing::{self, Server};

fn controller() -> DeploymentController {
    DeploymentController::new(&Config::default())
}

fn key() -> ObjectKey {
    ObjectKey::new(Kind::Deployment, "default", "web")
}

fn server(change: impl FnOnce(&mut Deployment)) -> Server {
    let mut deployment = testing::deployment("web", 10);
    change(&mut deployment);
    let mut server = Server::at(100);
    server.put(Object::Deployment(Rc::new(deployment)));
    server
}

fn web(server: &Server) -> &Rc<Deployment> {
    server.get::<Deployment>("default", "web").expect("it is there")
}

fn reason(server: &Server, kind: &'static str) -> String {
    let condition = status::find(&web(server).status.conditions, Name::of(kind));
    condition.map_or(String::new(), |condition| condition.reason.to_string())
}

/// Sets the image and counts the generation up, as the API server does.
fn set_image(server: &mut Server, image: &str) {
    let template = Rc::new(testing::template("web", image));
    server.edit::<Deployment>("default", "web", |deployment| {
        deployment.spec.template = template;
        deployment.meta.generation += 1;
    });
}

#[test]
fn a_new_deployment_gets_a_replica_set_and_the_second_write_of_its_status_meets_a_conflict() {
    let mut server = server(|_| {});
    let again = server.reconcile(&controller(), &key());
    let set = server.all::<ReplicaSet>()[0].clone();
    let name = set.meta.name.clone();
    assert_eq!(
        server.writes,
        [format!("create replicaset/default/{name}"), "update status of deployment/default/web".to_owned()]
    );
    assert_eq!(server.events, [format!("ScalingReplicaSet Scaled up replica set {name} from 0 to 10")]);
    assert!(matches!(again, Again::BackOff(message) if message.contains("the object has been modified")));
    assert_eq!(reason(&server, "Progressing"), "NewReplicaSetCreated");
    assert_eq!(web(&server).meta.annotations.get(&revision::REVISION).map(|it| it.as_str()), Some("1"));
    let hash = set.meta.labels.get(&template::HASH_LABEL).expect("labelled").clone();
    assert_eq!(name, *format!("web-{hash}"));
    assert!(set.selector.matches(&set.template.labels));
    assert!(!set.selector.matches(&web(&server).spec.template.labels));
    server.reconcile(&controller(), &key());
    assert_eq!(web(&server).status.observed_generation, 1);
    assert_eq!(web(&server).status.unavailable_replicas, 10);
    assert_eq!(reason(&server, "Available"), "MinimumReplicasUnavailable");
}

/// The two controllers and pods that become ready some seconds after their creation and end some seconds after their deletion.
struct World {
    server: Server,
    controllers: Vec<Box<dyn Controller>>,
    later: BTreeSet<(u64, usize, ObjectKey)>,
    start_seconds: u64,
    stop_seconds: u64,
    never_ready: Option<&'static str>,
}

impl World {
    fn new(server: Server) -> World {
        let config = Config::default();
        let controllers: Vec<Box<dyn Controller>> =
            vec![Box::new(DeploymentController::new(&config)), Box::new(ReplicaSetController::new(&config))];
        World { server, controllers, later: BTreeSet::new(), start_seconds: 1, stop_seconds: 1, never_ready: None }
    }

    /// Lets a second pass.
    fn second(&mut self) {
        self.server.settle(&self.controllers, &mut self.later);
        self.server.seconds += 1;
        let now = self.server.seconds as i64;
        for pod in self.server.all::<Pod>() {
            if let Some(deletion) = &pod.meta.deletion {
                if deletion.timestamp.0 - 30 + self.stop_seconds as i64 <= now {
                    self.server.vanish(&Object::Pod(pod.clone()).key());
                }
                continue;
            }
            let image = pod.spec.full.containers[0].image.as_deref();
            let starts = !pod.status.is_ready() && pod.meta.created.0 + self.start_seconds as i64 <= now;
            if starts && (self.never_ready.is_none() || image != self.never_ready) {
                self.server.edit::<Pod>("default", &pod.meta.name, |pod| {
                    pod.status = testing::ready_pod("x", now).status;
                    pod.node = Some("node-1".into());
                    pod.status.phase = PodPhase::Running;
                });
            }
        }
        self.server.settle(&self.controllers, &mut self.later);
    }

    fn seconds_until(&mut self, limit: u64, mut holds: impl FnMut(&Server) -> bool) -> u64 {
        let begin = self.server.seconds;
        while !holds(&self.server) {
            let passed = self.server.seconds - begin;
            assert!(passed < limit, "not after {passed} s: {:?}", web(&self.server).status);
            self.second();
        }
        self.server.seconds - begin
    }

    /// Pods that count, and those of them that are available.
    fn counts(&self) -> (i32, i32) {
        let min_ready = web(&self.server).spec.min_ready_seconds;
        let today = self.server.now().timestamp();
        let pods = self.server.all::<Pod>();
        let active = pods.iter().filter(|pod| pod.is_active());
        let available = active.clone().filter(|pod| pod.is_available(min_ready, today)).count();
        (active.count() as i32, available as i32)
    }
}

fn is_complete(server: &Server) -> bool {
    let deployment = web(server);
    status::is_complete(deployment, &deployment.status) && reason(server, "Progressing") == NEW
}

const NEW: &str = "NewReplicaSetAvailable";

#[test]
fn a_rolling_update_goes_in_the_recorded_steps() {
    // The recording "a" of a real cluster: 10 replicas, surge 1, unavailability 1, minReadySeconds 10.
    let mut world = World::new(server(|deployment| deployment.spec.min_ready_seconds = 10));
    world.seconds_until(30, is_complete);
    world.server.events.clear();
    set_image(&mut world.server, "img:v2");
    let seconds = world.seconds_until(90, is_complete);
    assert_eq!(seconds, 55, "five steps of eleven seconds");
    let sizes: Vec<_> = world.server.events.iter().filter(|event| event.starts_with("Scaling")).cloned().collect();
    let sizes: Vec<_> = sizes
        .iter()
        .map(|event| {
            let words: Vec<_> = event.split(' ').collect();
            (words[2].to_owned(), words[7].to_owned(), words[9].to_owned())
        })
        .collect();
    let sizes: Vec<_> = sizes.iter().map(|(way, from, to)| (way.as_str(), from.as_str(), to.as_str())).collect();
    let expected = [
        ("up", "0", "1"),
        ("down", "10", "9"),
        ("up", "1", "2"),
        ("down", "9", "7"),
        ("up", "2", "4"),
        ("down", "7", "5"),
        ("up", "4", "6"),
        ("down", "5", "3"),
        ("up", "6", "8"),
        ("down", "3", "1"),
        ("up", "8", "10"),
        ("down", "1", "0"),
    ];
    assert_eq!(sizes, expected);
}

#[test]
fn an_update_that_never_becomes_ready_is_late_after_its_deadline_and_can_be_undone() {
    let mut world = World::new(server(|deployment| deployment.spec.min_ready_seconds = 10));
    world.never_ready = Some("img:bad");
    world.seconds_until(30, is_complete);
    set_image(&mut world.server, "img:bad");
    let seconds = world.seconds_until(90, |server| reason(server, "Progressing") == "ProgressDeadlineExceeded");
    assert!((60..=62).contains(&seconds), "{seconds}");
    let (active, available) = world.counts();
    assert_eq!((active, available), (11, 9));
    assert_eq!(reason(&world.server, "Available"), "MinimumReplicasAvailable");

    let sets = world.server.all::<ReplicaSet>();
    let Ok(kubectl::Undo::Patch(_)) = kubectl::undo(web(&world.server), &sets, 0) else { panic!("nothing to undo") };
    set_image(&mut world.server, "img:v1");
    world.seconds_until(20, is_complete);
    let sets = world.server.all::<ReplicaSet>();
    let old = sets.iter().find(|set| set.replicas == 10).expect("reused");
    assert_eq!(old.meta.annotations.get(&revision::REVISION).map(|it| it.as_str()), Some("3"));
    assert_eq!(old.meta.annotations.get(&revision::REVISION_HISTORY).map(|it| it.as_str()), Some("1"));
    let numbers: Vec<_> = kubectl::history(&sets).iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, [2, 3]);
}

#[test]
fn recreate_waits_until_every_old_pod_is_gone() {
    let mut world = World::new(server(|deployment| deployment.spec.strategy = DeploymentStrategy::Recreate));
    world.stop_seconds = 7;
    world.seconds_until(30, is_complete);
    set_image(&mut world.server, "img:v2");
    let seconds = world.seconds_until(60, |server| {
        let pods = server.all::<Pod>();
        let new = |pod: &&Rc<Pod>| pod.spec.full.containers[0].image.as_deref() == Some("img:v2");
        assert!(pods.iter().filter(new).count() == 0 || pods.iter().all(|pod| new(&pod)), "old beside new");
        is_complete(server)
    });
    assert!((8..=10).contains(&seconds), "{seconds}");
}

#[test]
fn a_paused_deployment_is_scaled_but_not_rolled() {
    let mut world = World::new(server(|_| {}));
    world.seconds_until(30, is_complete);
    world.server.edit::<Deployment>("default", "web", |deployment| {
        deployment.spec.paused = true;
        deployment.spec.replicas = 14;
        deployment.spec.template = Rc::new(testing::template("web", "img:v2"));
        deployment.meta.generation += 1;
    });
    world.seconds_until(30, |server| web(server).status.available_replicas == 14);
    assert_eq!(world.server.all::<ReplicaSet>().len(), 1);
    assert_eq!(reason(&world.server, "Progressing"), "DeploymentPaused");
    world.server.edit::<Deployment>("default", "web", |deployment| {
        deployment.spec.paused = false;
        deployment.meta.generation += 1;
    });
    world.server.settle(&world.controllers, &mut world.later);
    assert_eq!(world.server.all::<ReplicaSet>().len(), 2);
    world.seconds_until(60, is_complete);
}

#[test]
fn old_replica_sets_beyond_the_limit_are_removed_oldest_first() {
    let mut world = World::new(server(|deployment| {
        deployment.spec.revision_history_limit = 2;
        deployment.spec.replicas = 1;
    }));
    for version in ["img:v1", "img:v2", "img:v3", "img:v4", "img:v5"] {
        set_image(&mut world.server, version);
        world.second();
        world.seconds_until(60, is_complete);
        world.second();
    }
    let numbers: Vec<_> = kubectl::history(&world.server.all::<ReplicaSet>()).iter().map(|it| it.number).collect();
    assert_eq!(numbers, [3, 4, 5]);
}

#[test]
fn a_hash_that_is_taken_is_counted_and_another_one_tried() {
    let mut server = server(|_| {});
    let deployment = web(&server).clone();
    let mut taken = testing::replica_set(&deployment, 1, 0);
    taken.meta.name = template::replica_set_name("web", &template::hash(&deployment.spec.template, None)).into();
    taken.meta.owners = Shared::NONE;
    taken.meta.labels = crate::api::meta::Labels::NONE.with("app", "foreign");
    taken.template = Rc::new(testing::template("web", "img:other"));
    server.put(Object::ReplicaSet(Rc::new(taken)));
    let again = server.reconcile(&controller(), &key());
    assert!(matches!(again, Again::BackOff(message) if message.contains("already exists")));
    assert_eq!(web(&server).status.collision_count, Some(1));
    server.reconcile(&controller(), &key());
    assert_eq!(server.all::<ReplicaSet>().len(), 2);
}

#[test]
fn a_replica_set_that_cannot_be_created_shows_in_the_conditions() {
    let mut server = server(|_| {});
    server.refuse = Some((Kind::ReplicaSet, Status::new(Reason::Forbidden, "no")));
    assert_eq!(server.reconcile(&controller(), &key()), Again::BackOff("no".to_owned()));
    assert_eq!(reason(&server, "Progressing"), "ReplicaSetCreateError");
    assert!(server.events[0].starts_with("ReplicaSetCreateError Failed to create new replica set \"web-"));
    assert!(server.events[0].ends_with("\": no"));
}

#[test]
fn a_request_to_roll_back_by_annotation_is_fulfilled_and_removed() {
    let mut world = World::new(server(|deployment| deployment.spec.replicas = 1));
    world.seconds_until(30, is_complete);
    set_image(&mut world.server, "img:v2");
    world.seconds_until(30, is_complete);
    world.server.events.clear();
    world.server.edit::<Deployment>("default", "web", |deployment| {
        deployment.meta.annotations = deployment.meta.annotations.with(revision::ROLLBACK_TO, "0");
    });
    world.server.settle(&world.controllers, &mut world.later);
    assert!(
        world.server.events.contains(&"DeploymentRollback Rolled back deployment \"web\" to revision 1".to_owned())
    );
    let deployment = web(&world.server);
    assert_eq!(deployment.meta.annotations.get(&revision::ROLLBACK_TO), None);
    assert_eq!(deployment.spec.template.spec.full.containers[0].image.as_deref(), Some("img:v1"));
}

#[test]
fn a_deployment_that_selects_everything_is_left_alone() {
    let mut server =
        server(|deployment| deployment.spec.selector = crate::api::selector::Selector::everything().into());
    server.reconcile(&controller(), &key());
    assert_eq!(server.writes, ["update status of deployment/default/web"]);
    assert!(server.events[0].starts_with("SelectingAll This deployment is selecting all pods."));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_rolling_update_stays_within_its_budget_and_comes_to_its_end(
        replicas in 1i32..15,
        surge in 0i32..4,
        unavailable in 0i32..4,
        percent in any::<bool>(),
        min_ready in 0i32..4,
        start in 1u64..4,
        stop in 1u64..4,
        updates in prop::collection::vec(0u64..12, 1..4),
    ) {
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        let value = |count: i32| if percent { IntOrString::String(format!("{}%", count * 15)) } else { IntOrString::Int(count) };
        let mut world = World::new(server(|deployment| {
            deployment.spec.replicas = replicas;
            deployment.spec.min_ready_seconds = min_ready;
            let (max_surge, max_unavailable) = (value(surge), value(unavailable));
            deployment.spec.strategy = DeploymentStrategy::RollingUpdate { max_surge, max_unavailable };
        }));
        world.start_seconds = start;
        world.stop_seconds = stop;
        world.seconds_until(60, is_complete);
        let deployment = web(&world.server).clone();
        let most = budget::max_replicas(&deployment);
        let least = replicas - budget::max_unavailable(&deployment);
        for (index, pause) in updates.iter().enumerate() {
            set_image(&mut world.server, &format!("img:update-{index}"));
            for _ in 0..*pause {
                world.second();
                let (active, available) = world.counts();
                prop_assert!(active <= most && available >= least, "{active} of at most {most}, {available} of at least {least}");
            }
        }
        for _ in 0..600 {
            if is_complete(&world.server) {
                break;
            }
            world.second();
            let (active, available) = world.counts();
            prop_assert!(active <= most && available >= least, "{active} of at most {most}, {available} of at least {least}");
        }
        prop_assert!(is_complete(&world.server), "{:?}", web(&world.server).status);
    }
}

#[test]
fn the_progress_deadline_is_looked_at_a_second_after_it_has_passed() {
    let mut world = World::new(server(|_| {}));
    world.never_ready = Some("img:v1");
    world.server.settle(&world.controllers, &mut world.later);
    let progress = status::find(&web(&world.server).status.conditions, status::PROGRESSING).expect("set").last_update;
    let again = world.server.reconcile(&controller(), &key());
    assert_eq!(progress, Timestamp(100));
    assert_eq!(again, Again::After(SimDuration::from_secs(61)));
}
