//! The TTL controller: writes on each node for how many seconds its kubelet may believe what it has read of ConfigMaps and Secrets,
//! the longer the larger the cluster (kube-controller-manager, pkg/controller/ttl).
//!
//! Never looks at more than one node: it counts them as they come and go. A node learns of another size of the cluster when something
//! else of it changes, as with the original.

use std::cell::Cell;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::apiserver::protocol::{Operation, Part, Patch, TypedPatch};
use crate::client::controller::{Change, Controller};
use crate::client::plan::Plan;
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::owner;

/// The annotation (`ObjectTTLAnnotationKey`).
const TTL: Name = Name::of("node.alpha.kubernetes.io/ttl");

/// Sizes of a cluster that are treated alike. Neighbours overlap, lest a cluster between them is changed to and fro.
struct Step {
    /// With fewer nodes the step below counts.
    fewest: usize,
    /// With more nodes the step above counts.
    most: usize,
    seconds: i64,
}

/// The steps (`ttlBoundaries`).
const STEPS: [Step; 5] = [
    Step { fewest: 0, most: 100, seconds: 0 },
    Step { fewest: 90, most: 500, seconds: 15 },
    Step { fewest: 450, most: 1000, seconds: 30 },
    Step { fewest: 900, most: 2000, seconds: 60 },
    Step { fewest: 1800, most: usize::MAX, seconds: 300 },
];

/// The TTL controller.
pub struct TtlController {
    resync: Option<SimDuration>,
    nodes: Cell<usize>,
    /// Which of the steps counts.
    step: Cell<usize>,
}

impl TtlController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        TtlController { resync: config.resync, nodes: Cell::new(0), step: Cell::new(0) }
    }

    /// Counts a node that came: at most one step up.
    fn grow(&self) {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > STEPS[self.step.get()].most {
            self.step.set(self.step.get() + 1);
        }
    }

    /// Counts a node that went: at most one step down.
    fn shrink(&self) {
        self.nodes.set(self.nodes.get().saturating_sub(1));
        if self.nodes.get() < STEPS[self.step.get()].fewest {
            self.step.set(self.step.get() - 1);
        }
    }
}

impl Controller for TtlController {
    fn name(&self) -> &'static str {
        "ttl-controller"
    }

    /// As many as it is started with; there is no option.
    fn workers(&self) -> usize {
        5
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Node]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let Object::Node(node) = change.object() else { return };
        match change {
            Change::Added(_) => self.grow(),
            Change::Updated { .. } => {}
            Change::Deleted(_) => return self.shrink(),
        }
        enqueue(owner::key_of(&**node), SimDuration::ZERO);
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
        let Some(node) = view.get::<Node>(&Name::EMPTY, &key.name) else {
            return Plan::nothing();
        };
        let wanted = STEPS[self.step.get()].seconds;
        // What is no number is as good as nothing.
        if node.meta.annotations.get(&TTL).and_then(|seconds| seconds.parse::<i64>().ok()) == Some(wanted) {
            return Plan::nothing();
        }
        let patch = TypedPatch::Metadata {
            uid: None,
            resource_version: 0,
            owners: None,
            finalizers: None,
            labels: Vec::new(),
            annotations: vec![(TTL, Some(Name::from(wanted.to_string())))],
        };
        let patch = Patch::Typed(Box::new(patch));
        Plan::request(Operation::Patch { key: key.clone(), patch, part: Part::Main, dry_run: false })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use super::*;
    use crate::controllers::testing::{self, Server};

    /// Lets a cluster have so many nodes, one after the other.
    fn resize(server: &mut Server, nodes: usize) {
        let present = server.cache.view().count(Kind::Node);
        for number in present..nodes {
            server.put(Object::Node(Rc::new(testing::node(&format!("node-{number}")))));
        }
        for number in nodes..present {
            server.vanish(&ObjectKey::new(Kind::Node, "", format!("node-{number}")));
        }
    }

    /// What is written on a node.
    fn written(server: &Server, name: &str) -> Option<String> {
        let node = server.get::<Node>("", name).expect("it exists");
        node.meta.annotations.get(&TTL).map(|seconds| seconds.to_string())
    }

    #[test]
    fn the_time_follows_the_size_of_the_cluster_and_stays_between_two_steps() {
        let (controller, mut server) = (TtlController::new(&Config::default()), Server::at(1));
        let sizes = [
            (100, 0),
            (101, 15),
            (90, 15),
            (89, 0),
            (100, 0),
            (500, 15),
            (501, 30),
            (450, 30),
            (449, 15),
            (1000, 30),
            (1001, 60),
            (2000, 60),
            (2001, 300),
            (1800, 300),
            (1799, 60),
            (899, 30),
            (0, 0),
        ];
        for (nodes, seconds) in sizes {
            resize(&mut server, nodes);
            server.tell(&controller);
            assert_eq!(STEPS[controller.step.get()].seconds, seconds, "{nodes} nodes");
        }
    }

    #[test]
    fn a_node_is_written_once_and_again_when_it_changes_in_a_cluster_of_another_size() {
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(TtlController::new(&Config::default()))];
        let mut server = Server::at(1);
        let mut later = BTreeSet::new();
        resize(&mut server, 100);
        server.settle(&controllers, &mut later);
        assert_eq!(server.writes.len(), 100);
        assert_eq!(server.writes[0], "patch node/node-0");
        assert_eq!(written(&server, "node-7").as_deref(), Some("0"));

        resize(&mut server, 101);
        server.settle(&controllers, &mut later);
        assert_eq!(server.writes.len(), 101, "nobody looks at the others");
        assert_eq!(written(&server, "node-100").as_deref(), Some("15"));
        assert_eq!(written(&server, "node-7").as_deref(), Some("0"));

        server.edit::<Node>("", "node-7", |node| node.unschedulable = true);
        server.settle(&controllers, &mut later);
        assert_eq!(written(&server, "node-7").as_deref(), Some("15"));
    }

    #[test]
    fn what_somebody_else_wrote_is_put_right() {
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(TtlController::new(&Config::default()))];
        let mut server = Server::at(1);
        for wrong in ["soon", "30", ""] {
            let mut node = testing::node("node-1");
            node.meta.annotations = node.meta.annotations.with(TTL, Name::from(wrong)).with("kept", "yes");
            server.put(Object::Node(Rc::new(node)));
            server.settle(&controllers, &mut BTreeSet::new());
            assert_eq!(written(&server, "node-1").as_deref(), Some("0"), "{wrong:?}");
            let node = server.get::<Node>("", "node-1").expect("it exists");
            assert!(node.meta.annotations.get("kept").is_some());
        }
    }
}
