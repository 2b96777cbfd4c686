//! The node lifecycle as a whole: silence, taints, pods, zones, return.

use std::collections::BTreeSet;

use super::*;
use crate::api::meta::{MicroTime, Timestamp};
use crate::api::node::Lease;
use crate::client::plan::Outcome;
use crate::controllers::testing::{self, Server};

struct World {
    server: Server,
    controllers: Vec<Box<dyn Controller>>,
    later: BTreeSet<(u64, usize, ObjectKey)>,
    /// Nodes that renew their leases.
    alive: Vec<String>,
}

impl World {
    fn new(nodes: usize) -> World {
        let mut server = Server::at(1000);
        let alive: Vec<_> = (0..nodes).map(|number| format!("node-{number}")).collect();
        for name in &alive {
            server.put(Object::Node(Rc::new(testing::node(name))));
        }
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(NodeLifecycleController::new(&Config::default()))];
        let mut world = World { server, controllers, later: BTreeSet::new(), alive };
        world.pass(2);
        world
    }

    fn renew(&mut self) {
        for name in &self.alive {
            let lease = Lease {
                meta: crate::apiserver::protocol::new_meta("kube-node-lease", name),
                holder: None,
                duration_seconds: Some(40),
                acquire_time: None,
                renew_time: Some(MicroTime(self.server.seconds as i64 * 1_000_000)),
                transitions: None,
            };
            self.server.put(Object::Lease(Rc::new(lease)));
        }
    }

    /// Lets some monitor passes go by, five seconds each.
    fn pass(&mut self, count: u64) {
        for _ in 0..count * 5 {
            if self.server.seconds.is_multiple_of(10) {
                self.renew();
            }
            if self.server.seconds.is_multiple_of(5) {
                self.server.reconcile(&*self.controllers[0], &monitor_key());
            }
            self.server.settle(&self.controllers, &mut self.later);
            self.server.seconds += 1;
        }
    }

    /// Lets a minute go by in which only these nodes are heard, and begins a monitor pass.
    fn pass_after_silence(&mut self, alive: &[&str]) -> Plan {
        self.alive = alive.iter().map(|name| (*name).to_owned()).collect();
        self.server.seconds += 60;
        self.renew();
        self.controllers[0].reconcile(&self.server.cache.view(), &monitor_key(), self.server.now())
    }

    /// Answers the requests of a plan's first steps, and carries it on to its end.
    fn finish(&mut self, plan: Plan) {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for step in plan.steps {
            if let Step::Parallel(requests) = step {
                outcomes.extend(requests.iter().map(|request| self.server.apply(&request.operation)));
            }
        }
        let then = plan.then.expect("it waits for answers");
        let plan = then(&self.server.cache.view(), &outcomes, self.server.now());
        self.server.carry_out(plan);
    }

    fn node(&self, name: &str) -> Rc<Node> {
        self.server.get::<Node>("", name).expect("there").clone()
    }

    fn taints(&self, name: &str) -> Vec<(String, TaintEffect)> {
        let node = self.node(name);
        let short = |key: &str| key.trim_start_matches("node.kubernetes.io/").to_owned();
        node.taints.iter().map(|taint| (short(&taint.key), taint.effect)).collect()
    }

    fn no_execute_count(&self) -> usize {
        let nodes = self.server.all::<Node>();
        nodes.iter().filter(|node| node.taints.iter().any(|taint| taint.effect == TaintEffect::NoExecute)).count()
    }
}

fn pod_on(node: &str) -> Pod {
    let mut pod = testing::ready_pod("web", 50);
    pod.node = Some(node.into());
    pod
}

#[test]
fn a_silent_node_becomes_unknown_is_tainted_and_its_pods_are_not_ready() {
    let mut world = World::new(4);
    world.server.put(Object::Pod(Rc::new(pod_on("node-1"))));
    world.pass(2);
    world.alive.retain(|name| name != "node-1");
    let silent_since = world.server.seconds;
    while world.node("node-1").is_ready() {
        world.pass(1);
        assert!(world.server.seconds - silent_since < 70);
    }
    let waited = world.server.seconds - silent_since;
    assert!((45..=65).contains(&waited), "{waited}");
    let ready = world.node("node-1").condition("Ready").cloned().expect("there");
    assert_eq!((&*ready.reason, &*ready.message), ("NodeStatusUnknown", "Kubelet stopped posting node status."));
    let both =
        [("unreachable".to_owned(), TaintEffect::NoSchedule), ("unreachable".to_owned(), TaintEffect::NoExecute)];
    assert_eq!(world.taints("node-1"), both);
    assert!(!world.server.get::<Pod>("default", "web").expect("there").status.is_ready());
    assert!(world.server.events.contains(&"NodeNotReady Node is not ready".to_owned()));
    assert!(world.server.events.contains(&"NodeNotReady Node node-1 status is now: NodeNotReady".to_owned()));

    world.server.edit::<Node>("", "node-1", |node| {
        *node = Node { taints: node.taints.clone(), ..testing::node("node-1") };
        node.status.conditions[0].last_heartbeat = Timestamp(5000);
    });
    world.alive.push("node-1".to_owned());
    world.pass(1);
    assert_eq!(world.taints("node-1"), []);
}

#[test]
fn a_pass_looks_at_a_node_when_one_of_its_eight_workers_comes_to_it() {
    let mut world = World::new(10);
    let plan = world.pass_after_silence(&[]);
    // While the first eight are written, the ninth is heard again.
    world.alive.push("node-8".to_owned());
    world.renew();
    world.finish(plan);
    let ready: Vec<_> = world.server.all::<Node>().iter().filter(|node| node.is_ready()).cloned().collect();
    assert_eq!(ready.iter().map(|node| &*node.meta.name).collect::<Vec<_>>(), ["node-8"]);
}

#[test]
fn a_node_that_writes_its_status_before_it_is_called_lost_is_not_lost() {
    let mut world = World::new(4);
    let plan = world.pass_after_silence(&["node-0", "node-2", "node-3"]);
    let date = Timestamp(world.server.seconds as i64);
    world.server.edit::<Node>("", "node-1", |node| node.status.conditions[0].last_heartbeat = date);
    world.finish(plan);
    assert!(world.node("node-1").is_ready());
    assert!(!world.server.events.iter().any(|event| event.starts_with("NodeNotReady")));
}

#[test]
fn a_node_that_says_it_is_not_ready_is_tainted_by_the_next_pass() {
    let mut world = World::new(4);
    world.server.edit::<Node>("", "node-2", |node| node.status.conditions[0].status = ConditionStatus::False);
    world.server.settle(&world.controllers, &mut world.later);
    assert_eq!(world.taints("node-2"), [("not-ready".to_owned(), TaintEffect::NoSchedule)]);
    world.pass(2);
    assert_eq!(world.taints("node-2")[1], ("not-ready".to_owned(), TaintEffect::NoExecute));
}

#[test]
fn a_zone_is_judged_by_what_its_nodes_say_now_also_if_their_heartbeat_is_of_the_same_second() {
    let mut server = Server::at(1000);
    let controller = NodeLifecycleController::new(&Config::default());
    server.put(Object::Node(Rc::new(testing::node("node-0"))));
    let mut zone = |ready: ConditionStatus| {
        server.edit::<Node>("", "node-0", |node| node.status.conditions[0].status = ready);
        server.reconcile(&controller, &monitor_key());
        controller.zone_state(server.get::<Node>("", "node-0").expect("there"))
    };
    assert_eq!(zone(ConditionStatus::False), Some("FullDisruption"));
    assert_eq!(zone(ConditionStatus::True), Some("Normal"));
    assert_eq!(zone(ConditionStatus::False), Some("FullDisruption"));
}

#[test]
fn conditions_and_cordons_show_as_taints() {
    let mut world = World::new(1);
    world.server.edit::<Node>("", "node-0", |node| {
        node.unschedulable = true;
        let pressure =
            crate::api::node::NodeCondition { kind: "MemoryPressure".into(), ..node.status.conditions[0].clone() };
        node.status.conditions.push(pressure);
    });
    world.server.settle(&world.controllers, &mut world.later);
    let expected = ["memory-pressure", "unschedulable"].map(|key| (key.to_owned(), TaintEffect::NoSchedule));
    assert_eq!(world.taints("node-0"), expected);
    world.server.edit::<Node>("", "node-0", |node| {
        node.unschedulable = false;
        node.status.conditions.pop();
    });
    world.server.settle(&world.controllers, &mut world.later);
    assert_eq!(world.taints("node-0"), []);
}

#[test]
fn six_of_ten_nodes_lost_stop_the_evictions() {
    let mut world = World::new(10);
    world.alive.truncate(9);
    world.pass(5);
    world.alive.truncate(4);
    world.pass(40);
    let unready = world.server.all::<Node>().iter().filter(|node| !node.is_ready()).count();
    assert_eq!(unready, 6);
    assert!(world.no_execute_count() < 6, "{}", world.no_execute_count());
}

#[test]
fn when_all_nodes_are_lost_no_execute_taints_are_taken_off() {
    let mut world = World::new(3);
    world.alive.truncate(2);
    world.pass(20);
    assert_eq!(world.no_execute_count(), 1);
    world.alive.clear();
    world.pass(20);
    assert_eq!(world.no_execute_count(), 0);
    assert!(world.server.all::<Node>().iter().all(|node| !node.is_ready()));
}

#[test]
fn a_node_that_never_posted_a_status_is_given_a_minute() {
    let mut world = World::new(2);
    let mut node = testing::node("late");
    node.status.conditions.clear();
    node.meta.created = Timestamp(world.server.seconds as i64);
    world.server.put(Object::Node(Rc::new(node)));
    world.pass(12);
    assert!(world.node("late").status.conditions.is_empty());
    world.pass(2);
    assert_eq!(
        world.node("late").condition("Ready").map(|it| it.reason.to_string()).as_deref(),
        Some("NodeStatusNeverUpdated")
    );
}

#[test]
fn nodes_are_registered_and_removed_by_name() {
    let mut world = World::new(1);
    assert_eq!(world.server.events[0], "RegisteredNode Node node-0 event: Registered Node node-0 in Controller");
    world.server.vanish(&ObjectKey::new(Kind::Node, "", "node-0"));
    world.pass(1);
    assert!(
        world
            .server
            .events
            .contains(&"RemovingNode Node node-0 event: Removing Node node-0 from Controller".to_owned())
    );
}

#[test]
fn the_older_labels_follow_the_newer_ones() {
    let mut world = World::new(1);
    world
        .server
        .edit::<Node>("", "node-0", |node| node.meta.labels = node.meta.labels.with("kubernetes.io/os", "linux"));
    world.server.settle(&world.controllers, &mut world.later);
    assert_eq!(world.node("node-0").meta.labels.get("beta.kubernetes.io/os").map(|it| it.as_str()), Some("linux"));
}
