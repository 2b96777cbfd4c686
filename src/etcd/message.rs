//! What clients and members say to a member, and what it answers.
//!
//! A client sends a [`Message::Request`] with a number of its own choice and gets one [`Message::Response`] with the same
//! number, unless the member crashes or the network loses one of them: then a deadline is the client's affair. Watches live on
//! streams: a [`Message::Watch`] opens the stream that it names if need be, and [`Message::Watched`] comes back until the
//! stream ends. Everything between one client and one member should travel on one lane, as on one gRPC connection.

use std::rc::Rc;

use super::error::Error;
use super::lease::LeaseId;
use super::mvcc::{Command, Range, RangeResult, Snapshot, Txn, TxnResult};
use super::raft;
use super::raft::MemberId;
use super::value::Value;
use super::watch::{WatchBody, WatchId, WatchRequest, WatchResponse};
use crate::engine::process::{Cause, Lane, ProcessId};
use crate::engine::time::SimDuration;

/// The lane of requests, answers and watches of one client.
pub const CLIENT_LANE: Lane = 0;
/// The lane of log entries between members (rafthttp's stream for appends).
pub const APPEND_LANE: Lane = 1;
/// The lane of everything else between members (rafthttp's message stream).
pub const PEER_LANE: Lane = 2;
/// The lane of snapshots between members, so that a large one holds nothing else up (rafthttp's pipeline).
pub const SNAPSHOT_LANE: Lane = 3;

/// What a member receives and sends.
#[derive(Clone, Debug)]
pub enum Message<V> {
    /// A client asks for something.
    Request {
        /// The client's number for it.
        id: u64,
        /// What it asks for.
        request: Request<V>,
        /// How long the client waits at most, if it says so (gRPC's `grpc-timeout`): the member does not wait longer.
        timeout: Option<SimDuration>,
    },
    /// The answer to a request.
    Response(Response<V>),
    /// A client speaks on a watch stream.
    Watch {
        /// Which of the client's streams.
        stream: u32,
        /// What it wants.
        command: WatchCommand,
    },
    /// A member speaks on a watch stream.
    Watched(WatchResponse<V>),
    /// Members speak of the log.
    Raft(raft::Message<Logged<V>, StoreSnapshot>),
    /// A member greets another one, to tell that it runs and is reachable.
    Hello {
        /// Whether this answers a greeting.
        answer: bool,
    },
    /// A follower asks the leader to keep a lease alive.
    KeepAlive {
        /// The follower's number for it.
        id: u64,
        /// Which lease.
        lease: LeaseId,
    },
    /// The leader's answer: the time to live in seconds.
    KeptAlive {
        /// The follower's number.
        id: u64,
        /// What the lease has now.
        ttl_s: Result<u64, Error>,
    },
}

/// What a client can ask for.
#[derive(Clone, Debug)]
pub enum Request<V> {
    /// Read keys.
    Range(Box<Range>),
    /// Carry out a transaction; puts and deletes are transactions of one step. The log shares it with who sent it.
    Txn(Rc<Txn<V>>),
    /// Forget the history before a revision.
    Compact(u64),
    /// Grant a lease.
    LeaseGrant {
        /// Its id; none: the member chooses.
        id: Option<LeaseId>,
        /// The wished time to live in seconds. Less than one and a half election timeouts is raised to that.
        ttl_s: u64,
    },
    /// Revoke a lease and delete its keys.
    LeaseRevoke(LeaseId),
    /// Keep a lease alive for its full time.
    LeaseKeepAlive(LeaseId),
    /// Add a member.
    MemberAdd {
        /// Its process.
        member: ProcessId,
        /// As one that only receives the log.
        learner: bool,
    },
    /// Make a learner a voter.
    MemberPromote(ProcessId),
    /// Remove a member.
    MemberRemove(ProcessId),
    /// Hand the leadership over.
    MoveLeader(ProcessId),
    /// Ask a member how it is.
    Status,
}

impl<V> From<Range> for Request<V> {
    fn from(range: Range) -> Self {
        Request::Range(Box::new(range))
    }
}

impl<V> From<Txn<V>> for Request<V> {
    fn from(txn: Txn<V>) -> Self {
        Request::Txn(Rc::new(txn))
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Response<V> {
    /// The client's number of the request.
    pub id: u64,
    /// The revision at which the member answers: that of the write, or up to which it read.
    pub revision: u64,
    /// What came of it.
    pub result: Result<Reply<V>, Error>,
}

/// What a successful request answers.
#[derive(Clone, Debug)]
pub enum Reply<V> {
    /// Keys were read.
    Range(RangeResult<V>),
    /// A transaction was carried out.
    Txn(TxnResult<V>),
    /// History was forgotten.
    Compacted,
    /// A lease was granted or kept alive.
    Lease {
        /// Which.
        id: LeaseId,
        /// What it has, in seconds.
        ttl_s: u64,
    },
    /// A lease was revoked.
    Revoked,
    /// The membership is now this.
    Members {
        /// Who votes.
        voters: Vec<ProcessId>,
        /// Who only receives the log.
        learners: Vec<ProcessId>,
    },
    /// The leadership has moved.
    Moved,
    /// How the member is.
    Status(Status),
}

/// How a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Whom it follows; itself if it leads.
    pub leader: Option<ProcessId>,
    /// Its term.
    pub term: u64,
    /// The last entry that it knows to be committed.
    pub committed_index: u64,
    /// The last entry that it has applied.
    pub applied_index: u64,
    /// Bytes of its data.
    pub size_bytes: u64,
    /// Whether it only receives the log.
    pub is_learner: bool,
}

/// What a client says on a watch stream.
#[derive(Clone, Debug)]
pub enum WatchCommand {
    /// Begin a watch. The first one opens the stream.
    Create {
        /// What to watch.
        request: WatchRequest,
        /// End the stream when this member has had no leader for three election timeouts, and do not open it without one.
        require_leader: bool,
    },
    /// End a watch.
    Cancel(WatchId),
    /// Ask how far the stream has come.
    Progress,
    /// End the stream.
    Close,
}

/// A command in the log, with who waits for its outcome.
#[derive(Debug)]
pub struct Proposal<V> {
    /// The member that received the request and will answer it.
    pub origin: MemberId,
    /// That member's number for it.
    pub number: u64,
    /// What is to be done.
    pub command: Command<V>,
    /// The event in which that member received the request: what comes of the entry is ascribed to it wherever the entries of
    /// several requests have travelled together.
    pub cause: Cause,
    size_bytes: u64,
}

/// What an entry of the log carries: a proposal, shared by all logs that hold it.
#[derive(Debug)]
pub struct Logged<V>(pub Rc<Proposal<V>>);

impl<V> Clone for Logged<V> {
    fn clone(&self) -> Self {
        Logged(Rc::clone(&self.0))
    }
}

impl<V: Value> Logged<V> {
    /// A command for the log.
    pub(super) fn new(origin: MemberId, number: u64, command: Command<V>, cause: Cause) -> Logged<V> {
        let size_bytes = 16 + command.size_bytes();
        Logged(Rc::new(Proposal { origin, number, command, cause, size_bytes }))
    }
}

impl<V> raft::Command for Logged<V> {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes
    }
}

/// The store as of one entry of the log, as it travels from member to member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreSnapshot {
    /// The position of the store.
    pub at: Snapshot,
    /// How much there is to carry.
    pub size_bytes: u64,
}

/// Bytes of framing and headers around a message.
const FRAME_BYTES: u64 = 64;

impl<V: Value> Message<V> {
    /// Bytes of the message on the network.
    pub fn size_bytes(&self) -> u64 {
        FRAME_BYTES
            + match self {
                Message::Request { request: Request::Txn(txn), .. } => txn.size_bytes(),
                Message::Request { .. } | Message::Hello { .. } => 64,
                Message::Response(response) => response.result.as_ref().map_or(64, reply_bytes),
                Message::Watch { .. } | Message::KeepAlive { .. } | Message::KeptAlive { .. } => 64,
                Message::Watched(response) => match &response.body {
                    WatchBody::Events(events) => events
                        .iter()
                        .map(|event| kv_bytes(&event.kv) + event.previous.as_ref().map_or(0, kv_bytes))
                        .sum(),
                    _ => 16,
                },
                Message::Raft(message) => match &message.body {
                    raft::Body::Append { entries, .. } => entries.iter().map(raft::Entry::size_bytes).sum(),
                    raft::Body::Propose { payloads } => payloads.iter().map(payload_bytes).sum(),
                    raft::Body::Snapshot(snapshot) => snapshot.data.size_bytes,
                    _ => 16,
                },
            }
    }
}

fn payload_bytes<V>(payload: &raft::Payload<Logged<V>>) -> u64 {
    match payload {
        raft::Payload::Normal(logged) => logged.0.size_bytes,
        raft::Payload::Empty | raft::Payload::Configuration(_) => 16,
    }
}

fn kv_bytes<V: Value>(kv: &super::mvcc::KeyValue<V>) -> u64 {
    24 + kv.key.len() as u64 + kv.value.as_ref().map_or(0, Value::size_bytes)
}

fn reply_bytes<V: Value>(reply: &Reply<V>) -> u64 {
    match reply {
        Reply::Range(result) => result.kvs.iter().map(kv_bytes).sum(),
        Reply::Txn(result) => txn_result_bytes(result),
        _ => 32,
    }
}

fn txn_result_bytes<V: Value>(result: &TxnResult<V>) -> u64 {
    use super::mvcc::OperationResult;
    let bytes = |result: &OperationResult<V>| match result {
        OperationResult::Put { previous } => previous.as_ref().map_or(8, kv_bytes),
        OperationResult::Delete { previous, .. } => 8 + previous.iter().map(kv_bytes).sum::<u64>(),
        OperationResult::Range(read) => read.kvs.iter().map(kv_bytes).sum(),
        OperationResult::Txn(within) => txn_result_bytes(within),
    };
    result.results.iter().map(bytes).sum()
}
