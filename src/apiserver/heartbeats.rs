//! Renewals of node leases that nobody needs to see travel.
//!
//! A thousand nodes that are well renew a thousand leases every ten seconds. Each renewal is a write like any other: a request,
//! a Raft entry on three disks, watch events, eighteen events of the simulation. All that ever comes of it is that the node
//! monitor sees a newer date. So while nothing disturbs the cluster, a kubelet may note its renewal here and send nothing;
//! whoever asks for the date of a lease is told the newer one of what is stored and what is noted. What is left out is the
//! load that the renewals put on etcd, their revisions, and the few milliseconds until the monitor could see them.
//!
//! A renewal travels, and can fail or be late as everything else does,
//!
//! - within a minute of a fault, of its end or of an election, and while anything is down or cut off or loses messages: the
//!   cluster says so;
//! - after one that took long to be answered, or was not: then the next one might too;
//! - if the lease is not in the version that the kubelet knows: somebody has changed or deleted it, and the kubelet is to
//!   meet that;
//! - while anybody but the node monitor watches leases.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use crate::api::meta::MicroTime;
use crate::api::name::Name;
use crate::api::node::Lease;
use crate::api::object::Object;
use crate::engine::hash::Map;
use crate::engine::process::ProcessId;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::mvcc::KeyValue;

use super::cache::Change;
use super::protocol::{Answer, WatchId};
use super::storage::Stored;

/// The namespace of the nodes' leases.
const NODE_LEASES: &str = "kube-node-lease";

/// A renewal that travelled was prompt if it was answered within this time; a tenth of the time between two.
pub const PROMPT: SimDuration = SimDuration::from_secs(1);

/// The renewals that were noted instead of sent. Without a word from the cluster none may be.
#[derive(Debug)]
pub struct Heartbeats {
    calm_from: Cell<SimTime>,
    /// The process of the node monitor, whose watch is no reason to send renewals.
    monitor: Cell<Option<ProcessId>>,
    leases: RefCell<Map<Name, Beat>>,
    /// The newest write of all that is known, and the newest one of a lease.
    newest: Cell<Newest>,
    /// These two when a renewal was noted last.
    at_last_note: Cell<Newest>,
    /// Watches of leases by others, on which API server.
    witnesses: RefCell<BTreeSet<(String, ProcessId, WatchId)>>,
}

/// What is known of a node's lease.
#[derive(Clone, Copy, Default, Debug)]
struct Beat {
    /// The last renewal that was noted.
    noted: Option<MicroTime>,
    /// The revision of the last change of the lease that any API server has seen.
    changed: u64,
}

/// Revisions of the last writes.
#[derive(Clone, Copy, Default, Debug)]
struct Newest {
    write: u64,
    lease: u64,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Heartbeats {
            calm_from: Cell::new(SimTime::MAX),
            monitor: Cell::new(None),
            leases: RefCell::default(),
            newest: Cell::default(),
            at_last_note: Cell::default(),
            witnesses: RefCell::default(),
        }
    }
}

impl Heartbeats {
    /// Renewals may be noted from a time on, and must travel before it.
    pub fn set_calm_from(&self, at: SimTime) {
        self.calm_from.set(at);
    }

    /// Says which process asks here for dates rather than wait for the renewals.
    pub fn set_monitor(&self, process: ProcessId) {
        self.monitor.set(Some(process));
    }

    /// Notes that a node has renewed its lease, of which it knows the version of this revision. False if the renewal has to
    /// travel.
    pub fn note(&self, node: &Name, revision: u64, renewed: MicroTime, now: SimTime) -> bool {
        if now < self.calm_from.get() || !self.witnesses.borrow().is_empty() {
            return false;
        }
        match self.leases.borrow_mut().get_mut(node) {
            Some(beat) if beat.changed == revision => {
                beat.noted = Some(renewed);
                self.at_last_note.set(self.newest.get());
                true
            }
            _ => false,
        }
    }

    /// When a node's lease was last renewed, as far as that is stored or noted; none if there is no lease.
    pub fn renewed(&self, node: &str, lease: Option<&Lease>) -> Option<MicroTime> {
        let stored = lease?.renew_time;
        self.leases.borrow().get(node).and_then(|beat| beat.noted).max(stored)
    }

    /// Something has been written, or has gone, as of this revision.
    pub fn written(&self, revision: u64, is_lease: bool) {
        let Newest { write, lease } = self.newest.get();
        let lease = if is_lease { lease.max(revision) } else { lease };
        self.newest.set(Newest { write: write.max(revision), lease });
    }

    /// Where a watch of leases stands that has been told of everything up to a revision: each renewal that was noted would have
    /// brought it a revision. Without this, a server that begins anew would have to turn it away, as it has no history, when
    /// nearly always the last thing that was written before is a renewal.
    pub(super) fn stands_at(&self, told: u64) -> u64 {
        let Newest { write, lease } = self.at_last_note.get();
        if told >= lease { told.max(write) } else { told }
    }

    /// An API server has learnt of a change of a lease.
    pub(super) fn changed(&self, change: &Change) {
        let Some(Object::Lease(lease)) = change.new.as_ref().or(change.old.as_ref()) else { return };
        if lease.meta.namespace != *NODE_LEASES {
            return;
        }
        let mut leases = self.leases.borrow_mut();
        let beat = match leases.get_mut(&lease.meta.name) {
            Some(beat) => beat,
            None => leases.entry(lease.meta.name.clone()).or_default(),
        };
        if change.revision > beat.changed {
            beat.changed = change.revision;
            if change.new.is_none() {
                beat.noted = None;
            }
        }
    }

    /// An API server has read all leases anew, and may have missed changes before.
    pub(super) fn filled(&self, present: &[KeyValue<Stored>]) {
        let mut leases = self.leases.borrow_mut();
        leases.values_mut().for_each(|beat| beat.changed = 0);
        for object in present.iter().filter_map(|kv| kv.value.as_ref()?.object()) {
            if object.meta().namespace == *NODE_LEASES {
                leases.entry(object.meta().name.clone()).or_default().changed = object.meta().revision();
            }
        }
    }

    /// A client watches leases on an API server.
    pub(super) fn witness_came(&self, server: &str, client: ProcessId, watch: WatchId) {
        if self.monitor.get() != Some(client) {
            self.witnesses.borrow_mut().insert((server.to_owned(), client, watch));
        }
    }

    /// A client no longer watches leases.
    pub(super) fn witness_went(&self, server: &str, client: ProcessId, watch: WatchId) {
        if !self.witnesses.borrow().is_empty() {
            self.witnesses.borrow_mut().remove(&(server.to_owned(), client, watch));
        }
    }

    /// An API server begins, and nobody watches anything on it.
    pub(super) fn server_began(&self, server: &str) {
        self.witnesses.borrow_mut().retain(|(there, ..)| there != server);
    }

    /// Puts the dates that were noted into what the API answers.
    pub(super) fn show(&self, answer: &mut Answer) {
        match answer {
            Answer::Object(object) => self.show_in(object),
            Answer::List { items, .. } => items.iter_mut().for_each(|object| self.show_in(object)),
            _ => {}
        }
    }

    /// Puts the date that was noted into an object, if it is a node's lease.
    pub(super) fn show_in(&self, object: &mut Object) {
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
