//! Renewals of node leases that nobody needs to see travel.
//!
//! A thousand nodes that are well renew a thousand leases every ten seconds. Each renewal is a write like any other: a request,
//! a Raft entry on three disks, watch events, eighteen events of the simulation. All that ever comes of it is that the node
//! monitor sees a newer date. So while nothing disturbs the cluster, a kubelet may note its renewal here and send nothing;
//! whoever asks for the date of a lease is told the newer one of what is stored and what is noted. What is left out is the
//! load that the renewals put on etcd, their revisions, and the few milliseconds until the monitor could see them.
//!
//! The cluster decides when that is allowed: never within a minute of a fault, of its end or of an election, nor while
//! anything is down or cut off. Then every renewal travels, and can fail or be late, as everything else does.

use std::cell::{Cell, RefCell};

use crate::api::meta::MicroTime;
use crate::api::name::Name;
use crate::api::node::Lease;
use crate::api::object::Object;
use crate::engine::hash::Map;
use crate::engine::time::SimTime;

use super::protocol::Answer;

/// The namespace of the nodes' leases.
const NODE_LEASES: &str = "kube-node-lease";

/// The renewals that were noted instead of sent. Without a word from the cluster none may be.
#[derive(Debug)]
pub struct Heartbeats {
    calm_from: Cell<SimTime>,
    renewals: RefCell<Map<Name, MicroTime>>,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Heartbeats { calm_from: Cell::new(SimTime::MAX), renewals: RefCell::default() }
    }
}

impl Heartbeats {
    /// Renewals may be noted from a time on, and must travel before it.
    pub fn set_calm_from(&self, at: SimTime) {
        self.calm_from.set(at);
    }

    /// Notes that a node has renewed its lease. False if the renewal has to travel.
    pub fn note(&self, node: &Name, renewed: MicroTime, now: SimTime) -> bool {
        let calm = now >= self.calm_from.get();
        if calm {
            let mut renewals = self.renewals.borrow_mut();
            match renewals.get_mut(node) {
                Some(known) => *known = renewed,
                None => drop(renewals.insert(node.clone(), renewed)),
            }
        }
        calm
    }

    /// When a node's lease was last renewed, as far as that is stored or noted; none if there is no lease.
    pub fn renewed(&self, node: &str, lease: Option<&Lease>) -> Option<MicroTime> {
        let stored = lease?.renew_time;
        self.renewals.borrow().get(node).copied().max(stored)
    }

    /// Puts the dates that were noted into what the API answers.
    pub(super) fn show(&self, answer: &mut Answer) {
        if self.renewals.borrow().is_empty() {
            return;
        }
        match answer {
            Answer::Object(object) => self.show_in(object),
            Answer::List { items, .. } => items.iter_mut().for_each(|object| self.show_in(object)),
            _ => {}
        }
    }

    fn show_in(&self, object: &mut Object) {
        let Object::Lease(lease) = object else { return };
        if lease.meta.namespace != *NODE_LEASES {
            return;
        }
        let renewed = self.renewed(&lease.meta.name, Some(lease));
        if renewed != lease.renew_time {
            std::rc::Rc::make_mut(lease).renew_time = renewed;
        }
    }
}
