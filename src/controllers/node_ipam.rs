//! The node IPAM controller: gives each node that has none a range of pod addresses, a /24 of the cluster's.
//!
//! Never changes or takes back a range that a node has. Which ranges are taken it knows from the nodes that it has seen, in memory
//! as in the original (`rangeAllocator`); the next free one is looked for after the last one that was given.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::rc::Rc;

use serde_json::json;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::apiserver::protocol::{Operation, Part, Patch};
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, EventNote, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::owner;

/// Bits of a node's range (`--node-cidr-mask-size-ipv4`).
const NODE_BITS: u32 = 24;

/// The node IPAM controller.
pub struct NodeIpamController {
    ranges: Option<Rc<RefCell<Ranges>>>,
}

/// The ranges of a cluster.
struct Ranges {
    base: u32,
    count: u32,
    taken: BTreeSet<u32>,
    next: u32,
}

impl Ranges {
    /// The ranges of a cluster CIDR; none if it is not an IPv4 one of 8 to 24 bits.
    fn of(cidr: &str) -> Option<Ranges> {
        let (address, bits) = cidr.split_once('/')?;
        let (address, bits): (Ipv4Addr, u32) = (address.parse().ok()?, bits.parse().ok()?);
        if !(8..=NODE_BITS).contains(&bits) {
            return None;
        }
        let mask = u32::MAX << (32 - bits);
        let base = u32::from(address) & mask;
        Some(Ranges { base, count: 1 << (NODE_BITS - bits), taken: BTreeSet::new(), next: 0 })
    }

    /// The number of a node's range; none if it is not one of ours.
    fn number(&self, cidr: &str) -> Option<u32> {
        let (address, _) = cidr.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let number = u32::from(address).checked_sub(self.base)? >> (32 - NODE_BITS);
        (number < self.count).then_some(number)
    }

    /// Takes the next free range.
    fn allocate(&mut self) -> Option<(u32, String)> {
        let candidates = (0..self.count).map(|step| (self.next + step) % self.count);
        let number = candidates.into_iter().find(|number| !self.taken.contains(number))?;
        self.taken.insert(number);
        self.next = (number + 1) % self.count;
        let address = Ipv4Addr::from(self.base + (number << (32 - NODE_BITS)));
        Some((number, format!("{address}/{NODE_BITS}")))
    }
}

impl NodeIpamController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        NodeIpamController { ranges: Ranges::of(&config.cluster_cidr).map(|ranges| Rc::new(RefCell::new(ranges))) }
    }
}

impl Controller for NodeIpamController {
    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    /// `cidrUpdateWorkers`.
    fn workers(&self) -> usize {
        30
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Node]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let (Some(ranges), Object::Node(node)) = (&self.ranges, change.object()) else {
            return;
        };
        let mut ranges = ranges.borrow_mut();
        let number = node.pod_cidr.as_ref().and_then(|cidr| ranges.number(cidr));
        match (change, number) {
            (Change::Deleted(_), Some(number)) => {
                ranges.taken.remove(&number);
            }
            (Change::Deleted(_), None) => {}
            (_, Some(number)) => {
                ranges.taken.insert(number);
            }
            (_, None) if node.pod_cidr.is_none() => enqueue(owner::key_of(&**node), SimDuration::ZERO),
            (_, None) => {}
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
        let (Some(ranges), Some(node)) = (&self.ranges, view.get::<Node>(&Name::EMPTY, &key.name)) else {
            return Plan::nothing();
        };
        if node.pod_cidr.is_some() || node.meta.is_deleting() {
            return Plan::nothing();
        }
        let Some((number, cidr)) = ranges.borrow_mut().allocate() else {
            let why = "failed to allocate cidr from cluster cidr at idx:0: CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range";
            return failure(node, "CIDRNotAvailable", why);
        };
        let patch = json!({"spec": {"podCIDR": cidr.clone(), "podCIDRs": [cidr]}});
        let patch = Patch::Strategic(Rc::new(patch));
        let operation = Operation::Patch { key: key.clone(), patch, part: Part::Main, dry_run: false };
        let (ranges, node) = (ranges.clone(), node.clone());
        Plan::request(operation).then(move |_, outcomes, _| match outcomes.first() {
            Some(Err(status)) => {
                ranges.borrow_mut().taken.remove(&number);
                failure(&node, "CIDRAssignmentFailed", &status.message)
            }
            _ => Plan::nothing(),
        })
    }
}

/// Says by an event that a node got no range, and tries again.
fn failure(node: &Node, reason: &'static str, why: &str) -> Plan {
    let mut regarding = owner::reference(node);
    regarding.resource_version = 0;
    let message = format!("Node {} status is now: {reason}", node.meta.name);
    let note = EventNote { regarding, kind: EventType::Normal, reason: Name::of(reason), message };
    Plan { again: Again::BackOff(why.to_owned()), ..Plan::default() }.step(Step::Record(note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{self, Server};

    fn wanted(plan: &Plan) -> Option<String> {
        let Step::Request(request) = plan.steps.first()? else { return None };
        let Operation::Patch { patch: Patch::Strategic(patch), .. } = &request.operation else { return None };
        patch["spec"]["podCIDR"].as_str().map(str::to_owned)
    }

    #[test]
    fn nodes_get_the_next_free_range() {
        let controller = NodeIpamController::new(&Config::default());
        let mut server = Server::at(1);
        let mut taken = testing::node("node-0");
        taken.pod_cidr = Some("10.244.0.0/24".into());
        let taken = Object::Node(Rc::new(taken));
        controller.on_change(Change::Added(&taken), &server.cache.view(), &mut |_, _| panic!("it has one"));
        for (name, expected) in [("node-1", "10.244.1.0/24"), ("node-2", "10.244.2.0/24")] {
            server.put(Object::Node(Rc::new(testing::node(name))));
            let key = ObjectKey::new(Kind::Node, "", name);
            let plan = controller.reconcile(&server.cache.view(), &key, server.now());
            assert_eq!(wanted(&plan).as_deref(), Some(expected));
        }
    }

    #[test]
    fn an_exhausted_cluster_says_so() {
        let controller =
            NodeIpamController::new(&Config { cluster_cidr: "10.0.0.0/24".to_owned(), ..Config::default() });
        let mut server = Server::at(1);
        server.put(Object::Node(Rc::new(testing::node("node-1"))));
        let key = ObjectKey::new(Kind::Node, "", "node-1");
        assert!(wanted(&controller.reconcile(&server.cache.view(), &key, server.now())).is_some());
        let plan = controller.reconcile(&server.cache.view(), &key, server.now());
        assert!(
            matches!(&plan.steps[0], Step::Record(note) if note.message == "Node node-1 status is now: CIDRNotAvailable")
        );
        assert!(matches!(plan.again, Again::BackOff(_)));
    }

    #[test]
    fn what_is_no_cluster_range_switches_it_off() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/x", "fd00::/48"] {
            assert!(Ranges::of(text).is_none(), "{text}");
        }
    }
}
