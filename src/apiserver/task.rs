//! One request on its way through the server.

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::engine::process::{Cause, ProcessId};
use crate::engine::time::SimTime;

use super::allocation::Claim;
use super::change::Then;
use super::eviction::Eviction;
use super::protocol::{Operation, RequestId, WatchId};
use super::reading::Page;

/// Who waits for a request's answer.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// A client.
    Client(ProcessId, RequestId),
    /// A deletion of a whole collection.
    Collection(u64),
    /// A batch of requests that is charged to quotas.
    Quota(u64),
    /// Nobody any more: the time of the request is over, and nothing follows from what it has begun.
    Abandoned,
    /// Nobody: the server itself wanted it.
    Nobody,
}

/// A request in progress.
#[derive(Debug)]
pub struct Task {
    /// Who waits for the answer.
    pub reply: Reply,
    /// The program that asks.
    pub agent: Name,
    /// What is asked.
    pub operation: Operation,
    /// The event in which the request arrived.
    pub cause: Cause,
    /// What it waits for.
    pub step: Step,
    /// What admission had looked up.
    pub looked_up: Vec<(ObjectKey, Option<Object>)>,
    /// How often a made name was taken.
    pub taken_names: u8,
    /// How often etcd could not answer and was asked again.
    pub retries: u8,
    /// How often the etcd client has asked another member, since the server asked last.
    pub attempts: u8,
    /// When the server gives up on it.
    pub deadline: SimTime,
    /// What was allocated for the object and is not stored yet.
    pub claims: Vec<Claim>,
    /// Of an eviction, how far it is.
    pub eviction: Option<Box<Eviction>>,
}

/// What a task waits for.
#[derive(Debug)]
pub enum Step {
    /// For its turn.
    Begin,
    /// For an object that admission wants to see.
    LookUp(ObjectKey),
    /// For a lease; then the object is created.
    Lease(Object),
    /// For the creation of this object.
    Create(Object),
    /// For the newest version of the object that is to change.
    Read,
    /// For one version to take the place of another.
    Replace {
        /// The present one.
        old: Object,
        /// The new one.
        new: Object,
        /// What follows.
        then: Then,
    },
    /// For the object to go.
    Remove {
        /// The last version.
        old: Object,
    },
    /// For one object.
    Get,
    /// For a part of a list: the client's, the members of a collection that is to be deleted, or the disruption budgets of a pod that
    /// is to be evicted.
    List(Page),
    /// For etcd to say which revision is the newest; then the watch cache must show it.
    Newest,
    /// For its watch cache to show this revision.
    Fresh(u64),
    /// For the first list of a client's watch that runs on etcd.
    Sync(ProcessId, WatchId),
}

impl Task {
    /// Who writes an object of a kind on the way, and how: what a budget grants, the server writes into it by itself.
    pub fn author_of(&self, kind: Kind) -> (Name, &'static str) {
        if kind == self.operation.kind() {
            (self.agent.clone(), self.verb())
        } else {
            (Name::of("kube-apiserver"), "update")
        }
    }
}

impl Step {
    /// True if nothing is changed by asking etcd again.
    pub fn is_read(&self) -> bool {
        matches!(self, Step::LookUp(_) | Step::Read | Step::Get | Step::List(_) | Step::Newest)
    }
}
