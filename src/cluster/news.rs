//! What the cluster tells whoever drives it: the scenario, the report, the invariants.

use std::fmt;
use std::rc::Rc;

use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::apiserver::protocol::Answer;
use crate::apiserver::status::Status;
use crate::engine::process::{Cause, Token};
use crate::engine::time::SimTime;
use crate::scheduler::record::Decided;

/// Something that whoever drives the cluster may want to know. Drained after each event.
#[derive(Clone, Debug)]
pub enum News {
    /// A write to the API was committed by etcd.
    Write(Rc<Write>),
    /// A request of the operator was answered.
    Answer {
        /// Which.
        request: OperatorRequest,
        /// What came of it.
        result: Result<Answer, Box<Status>>,
    },
    /// The scheduler has decided about a pod. Told only where a trace is recorded, and at the cost of nothing else.
    Decided(Box<Decided>),
    /// An alarm is due.
    Alarm {
        /// What was written on it.
        token: Token,
    },
    /// Another etcd member leads, or none does.
    EtcdLeader {
        /// The member's place, if there is a leader.
        member: Option<u32>,
        /// The Raft term.
        term: u64,
    },
    /// More pods of one name run at once than before, or fewer.
    Twins(Box<Twins>),
    /// An invariant does not hold: the run is over.
    Violation(Violation),
}

/// Pods of one name whose containers run at once: an old one, deleted from the API, on a node that nobody reaches, and the one
/// that took its place. What should be there once (a member of a StatefulSet, a lock's holder) is there twice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Twins {
    /// The name of the pods.
    pub key: ObjectKey,
    /// Those whose containers run, oldest first, each with its node; fewer than two if it is over.
    pub alive: Vec<(Uid, Name)>,
    /// The event since when this is so.
    pub cause: Cause,
}

/// A write to the API, as etcd committed it.
#[derive(Clone, Debug)]
pub struct Write {
    /// When the API server learnt of it. If it does not: when it was committed and the server was in doubt about it or dead, or
    /// when a later write showed it.
    pub at: SimTime,
    /// The revision: the object's resourceVersion from then on.
    pub revision: u64,
    /// The object's place.
    pub key: ObjectKey,
    /// What was there before; none for a creation.
    pub old: Option<Object>,
    /// What is there now; none for a deletion.
    pub new: Option<Object>,
    /// Who wrote: the client's user agent.
    pub agent: Name,
    /// `create`, `update`, `patch`, `delete`, ...
    pub verb: &'static str,
    /// The event in which that became known.
    pub cause: Cause,
}

/// A request that the operator (the scenario's kubectl) sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperatorRequest(pub u64);

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: String,
    /// What was seen.
    pub message: String,
    /// In which event.
    pub cause: Cause,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (event {})", self.invariant, self.message, self.cause.0)
    }
}
