//! What holds for all StatefulSets, whatever users, kubelets and faults do.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::*;
use crate::api::meta::{Deletion, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::api::pod::{PodPhase, PodStatus};
use crate::api::stateful::{RollingUpdate, UpdateStrategy};
use crate::controllers::testing::{self, Server};
use crate::engine::random::{Seed, Stream};

/// A set, its controller, and what really runs.
struct World {
    server: Server,
    controllers: Vec<Box<dyn Controller>>,
    later: BTreeSet<(u64, usize, ObjectKey)>,
    chance: Stream,
    /// The incarnations whose containers run, by pod name, and whether the object was force-deleted.
    live: BTreeMap<Name, BTreeMap<Uid, bool>>,
    images: u32,
    /// How often a pod came while an old incarnation ran that was force-deleted.
    doubles: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Seed(seed).stream("stateful-set", "properties");
        let mut set = testing::stateful_set("db", chance.below(6) as i32);
        let spec = Rc::make_mut(&mut set.spec);
        spec.is_parallel = chance.ratio(1, 3);
        spec.min_ready_seconds = if chance.ratio(1, 3) { chance.below(10) as i32 } else { 0 };
        spec.start = chance.ratio(1, 4).then(|| chance.below(4) as i32);
        spec.revision_history_limit = chance.below(4) as i32;
        spec.strategy = strategy(&mut chance);
        let mut server = Server::at(100);
        server.put(set.boxed());
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(StatefulSetController::new(&Config::default()))];
        let (later, live) = (BTreeSet::new(), BTreeMap::new());
        World { server, controllers, later, chance, live, images: 1, doubles: 0 }
    }

    fn set(&self) -> Rc<StatefulSet> {
        self.server.get::<StatefulSet>("default", "db").expect("the set").clone()
    }

    fn pods(&self) -> Vec<Rc<Pod>> {
        let mut pods = self.server.all::<Pod>();
        pods.sort_by_key(|pod| identity::ordinal(&pod.meta));
        pods
    }

    /// Lets the controller work and checks what it did.
    fn settle(&mut self) {
        let before = self.pods();
        self.server.settle(&self.controllers, &mut self.later);
        let set = self.set();
        for pod in self.pods() {
            if before.iter().any(|known| known.meta.uid == pod.meta.uid) {
                continue;
            }
            let others = self.live.entry(pod.meta.name.clone()).or_default();
            assert!(others.values().all(|forced| *forced), "{} runs twice", pod.meta.name);
            self.doubles += u32::from(!others.is_empty());
            others.insert(pod.meta.uid, false);
            if !set.spec.is_parallel {
                let lower = set.first_ordinal()..identity::ordinal(&pod.meta);
                for ordinal in lower {
                    let name = identity::pod_name(&set, ordinal);
                    let below = before.iter().find(|pod| pod.meta.name == name);
                    let below = below.unwrap_or_else(|| panic!("{} came before {name} was there", pod.meta.name));
                    let is_waited_for = below.meta.is_deleting() || !Facts::of(below).is_ready();
                    assert!(!is_waited_for, "{} came before {name} was ready", pod.meta.name);
                }
            }
        }
        self.check_counts(&before);
    }

    /// In order, at most one pod goes at a time through the controller's doing.
    fn check_counts(&self, before: &[Rc<Pod>]) {
        if self.set().spec.is_parallel {
            return;
        }
        let went = |pod: &&Rc<Pod>| {
            pod.meta.is_deleting() && before.iter().any(|old| old.meta.uid == pod.meta.uid && !old.meta.is_deleting())
        };
        assert!(self.pods().iter().filter(went).count() <= 1, "two pods were deleted at once");
    }

    fn pick(&mut self) -> Option<Rc<Pod>> {
        let pods = self.pods();
        if pods.is_empty() { None } else { Some(pods[self.chance.below(pods.len() as u64) as usize].clone()) }
    }

    fn make_ready(&mut self, pod: &Pod) {
        let status = testing::ready_pod(&pod.meta.name, self.server.seconds as i64).status;
        self.server.edit::<Pod>("default", &pod.meta.name, |pod| pod.status = status);
    }

    fn take_away(&mut self, pod: &Pod) {
        self.server.vanish(&owner::key_of(pod));
    }

    /// The kubelet has ended a pod's containers and takes the object away.
    fn end(&mut self, pod: &Pod) {
        if let Some(of_name) = self.live.get_mut(&pod.meta.name) {
            of_name.remove(&pod.meta.uid);
        }
        self.take_away(pod);
    }

    fn edit(&mut self, change: impl FnOnce(&mut StatefulSet)) {
        self.server.edit::<StatefulSet>("default", "db", |set| {
            set.meta.generation += 1;
            change(set);
        });
    }

    /// One thing that a user, a kubelet or a fault does.
    fn disturb(&mut self) {
        let what = self.chance.below(12);
        match (what, self.pick()) {
            (0..=3, Some(pod)) if !pod.meta.is_deleting() => self.make_ready(&pod),
            (4, Some(pod)) => {
                let status = PodStatus { phase: PodPhase::Running, ..PodStatus::default() };
                self.server.edit::<Pod>("default", &pod.meta.name, |pod| pod.status = status);
            }
            (5, Some(pod)) => {
                let status = PodStatus { phase: PodPhase::Failed, ..PodStatus::default() };
                self.server.edit::<Pod>("default", &pod.meta.name, |pod| pod.status = status);
            }
            (6, Some(pod)) if !pod.meta.is_deleting() => {
                let deletion = Deletion { timestamp: Timestamp(0), grace_seconds: Some(30) };
                self.server.edit::<Pod>("default", &pod.meta.name, |pod| pod.meta.deletion = Some(Box::new(deletion)));
            }
            (7, Some(pod)) if self.chance.ratio(1, 2) => {
                // Force-deleted: the object goes, the containers do not.
                if let Some(forced) = self.live.get_mut(&pod.meta.name).and_then(|it| it.get_mut(&pod.meta.uid)) {
                    *forced = true;
                }
                self.take_away(&pod);
            }
            (8, _) => {
                let replicas = self.chance.below(6) as i32;
                self.edit(|set| Rc::make_mut(&mut set.spec).replicas = replicas);
            }
            (9, _) => {
                // Often back to an image that was there before.
                self.images = 1 + (self.images + self.chance.below(3) as u32) % 4;
                let template = Rc::new(testing::template("db", &format!("img:v{}", self.images)));
                self.edit(|set| set.template = template);
            }
            (10, _) => {
                let strategy = strategy(&mut self.chance);
                self.edit(|set| Rc::make_mut(&mut set.spec).strategy = strategy);
            }
            (11, _) => self.server.seconds += self.chance.below(8),
            (_, Some(pod)) if pod.meta.is_deleting() => self.end(&pod),
            _ => {}
        }
    }

    /// Kubelets do what they are told until nothing moves any more.
    fn calm_down(&mut self) {
        for _ in 0..200 {
            let pods = self.pods();
            let mut moved = false;
            for pod in pods {
                if pod.meta.is_deleting() {
                    self.end(&pod);
                    moved = true;
                } else if !pod.is_terminal() && !Facts::of(&pod).is_ready() {
                    self.make_ready(&pod);
                    moved = true;
                }
            }
            self.server.seconds += 20;
            self.settle();
            if !moved && self.pods().iter().all(|pod| Facts::of(pod).is_ready() && !pod.meta.is_deleting()) {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.set().status);
    }

    /// What has settled is what the set asks for.
    fn check_end(&self) {
        let (set, pods) = (self.set(), self.pods());
        let names: Vec<_> = pods.iter().map(|pod| pod.meta.name.clone()).collect();
        let first = set.first_ordinal();
        let wanted: Vec<_> = (0..set.spec.replicas).map(|place| identity::pod_name(&set, first + place)).collect();
        assert_eq!(names, wanted);
        let update = &set.status.update_revision;
        let bound = match &set.spec.strategy {
            UpdateStrategy::OnDelete => set.spec.replicas,
            UpdateStrategy::RollingUpdate(rolling) => rolling.as_ref().map_or(0, |rolling| rolling.partition),
        };
        for (place, pod) in pods.iter().enumerate().filter(|(place, _)| *place as i32 >= bound) {
            assert_eq!(identity::revision_of(&pod.meta), Some(update), "place {place}");
            assert!(Rc::ptr_eq(&pod.spec, &pods[pods.len() - 1].spec), "pods of a revision share their specification");
        }
        let status = &set.status;
        assert_eq!((status.replicas, status.ready_replicas), (set.spec.replicas, set.spec.replicas));
        assert_eq!(status.available_replicas, set.spec.replicas);
        assert_eq!(status.observed_generation, set.meta.generation);
        let in_use: BTreeSet<_> = pods
            .iter()
            .filter_map(|pod| identity::revision_of(&pod.meta))
            .chain([update, &status.current_revision])
            .collect();
        let revisions = self.server.all::<ControllerRevision>();
        let unused = revisions.iter().filter(|revision| !in_use.contains(&revision.meta.name)).count();
        assert!(unused as i32 <= set.spec.revision_history_limit, "{unused} old revisions are kept");
    }
}

fn strategy(chance: &mut Stream) -> UpdateStrategy {
    match chance.below(6) {
        0 => UpdateStrategy::OnDelete,
        1 => UpdateStrategy::RollingUpdate(None),
        2 => UpdateStrategy::RollingUpdate(Some(RollingUpdate {
            partition: chance.below(4) as i32,
            max_unavailable: None,
        })),
        _ => UpdateStrategy::RollingUpdate(Some(RollingUpdate::default())),
    }
}

#[test]
fn no_ordinal_lives_twice_unless_forced_and_no_pod_comes_before_the_one_below_is_ready_and_the_end_is_as_desired() {
    let mut doubles = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        world.settle();
        for _ in 0..60 {
            world.disturb();
            world.settle();
        }
        world.calm_down();
        world.check_end();
        doubles += world.doubles;
    }
    assert!(doubles > 10, "force deletions were tried, with their consequence: {doubles}");
}
