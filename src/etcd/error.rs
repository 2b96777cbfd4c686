//! etcd's errors: the texts and gRPC codes that a client sees (etcd: api/v3rpc/rpctypes/error.go).

use std::fmt;

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A request without a key.
    EmptyKey,
    /// A put that keeps the value or the lease of a key that does not exist.
    KeyNotFound,
    /// A put that keeps the old value and also brings one.
    ValueProvided,
    /// A put that keeps the old lease and also brings one.
    LeaseProvided,
    /// More than 128 operations in a transaction.
    TooManyOperations,
    /// A transaction that changes one key twice.
    DuplicateKey,
    /// The revision has been compacted away.
    Compacted,
    /// The revision does not exist yet on this member.
    FutureRevision,
    /// No such lease.
    LeaseNotFound,
    /// A lease with this id exists.
    LeaseExists,
    /// A time to live above 9,000,000,000 s.
    LeaseTtlTooLarge,
    /// The request is larger than 1.5 MiB.
    RequestTooLarge,
    /// More than 5000 committed entries wait to be applied.
    TooManyRequests,
    /// This member knows of no leader.
    NoLeader,
    /// This member is not the leader.
    NotLeader,
    /// The leader changed while the request waited.
    LeaderChanged,
    /// The member stops, or has nothing to serve yet.
    Stopped,
    /// Not committed within the request timeout.
    Timeout,
    /// Not committed within the request timeout, around a change of leader.
    TimeoutLeaderFail,
    /// Not committed within the request timeout while peers were unreachable.
    TimeoutConnectionLost,
    /// The applied index did not advance far enough in time.
    TimeoutWaitApplied,
    /// Not connected to a quorum.
    Unhealthy,
    /// A request that a learner does not serve.
    NotSupportedForLearner,
    /// The leadership cannot go to this member.
    BadLeaderTransferee,
    /// A member with this id exists.
    MemberExists,
    /// No such member.
    MemberNotFound,
    /// The member to be promoted is no learner.
    MemberNotLearner,
    /// The learner to be promoted has not caught up.
    LearnerNotReady,
    /// There is a learner already.
    TooManyLearners,
    /// The change would leave fewer started members than a quorum.
    NotEnoughStarted,
    /// The leadership did not move in time.
    TimeoutLeaderTransfer,
    /// Raft did not take the proposal: the leadership is moving.
    ProposalDropped,
    /// The deadline of the request passed in a wait that knows only deadlines (blocked in a proposal without a leader).
    DeadlineExceeded,
}

/// The gRPC status code that goes with an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// `UNKNOWN`.
    Unknown,
    /// `INVALID_ARGUMENT`.
    InvalidArgument,
    /// `NOT_FOUND`.
    NotFound,
    /// `RESOURCE_EXHAUSTED`.
    ResourceExhausted,
    /// `FAILED_PRECONDITION`.
    FailedPrecondition,
    /// `OUT_OF_RANGE`.
    OutOfRange,
    /// `UNAVAILABLE`.
    Unavailable,
}

impl Error {
    /// The message, word for word.
    pub const fn text(self) -> &'static str {
        match self {
            Error::EmptyKey => "etcdserver: key is not provided",
            Error::KeyNotFound => "etcdserver: key not found",
            Error::ValueProvided => "etcdserver: value is provided",
            Error::LeaseProvided => "etcdserver: lease is provided",
            Error::TooManyOperations => "etcdserver: too many operations in txn request",
            Error::DuplicateKey => "etcdserver: duplicate key given in txn request",
            Error::Compacted => "etcdserver: mvcc: required revision has been compacted",
            Error::FutureRevision => "etcdserver: mvcc: required revision is a future revision",
            Error::LeaseNotFound => "etcdserver: requested lease not found",
            Error::LeaseExists => "etcdserver: lease already exists",
            Error::LeaseTtlTooLarge => "etcdserver: too large lease TTL",
            Error::RequestTooLarge => "etcdserver: request is too large",
            Error::TooManyRequests => "etcdserver: too many requests",
            Error::NoLeader => "etcdserver: no leader",
            Error::NotLeader => "etcdserver: not leader",
            Error::LeaderChanged => "etcdserver: leader changed",
            Error::Stopped => "etcdserver: server stopped",
            Error::Timeout => "etcdserver: request timed out",
            Error::TimeoutLeaderFail => "etcdserver: request timed out, possibly due to previous leader failure",
            Error::TimeoutConnectionLost => "etcdserver: request timed out, possibly due to connection lost",
            Error::TimeoutWaitApplied => "etcdserver: request timed out, waiting for the applied index took too long",
            Error::Unhealthy => "etcdserver: unhealthy cluster",
            Error::NotSupportedForLearner => "etcdserver: rpc not supported for learner",
            Error::BadLeaderTransferee => "etcdserver: bad leader transferee",
            Error::MemberExists => "etcdserver: member ID already exist",
            Error::MemberNotFound => "etcdserver: member not found",
            Error::MemberNotLearner => "etcdserver: can only promote a learner member",
            Error::LearnerNotReady => "etcdserver: can only promote a learner member which is in sync with leader",
            Error::TooManyLearners => "etcdserver: too many learner members in cluster",
            Error::NotEnoughStarted => "etcdserver: re-configuration failed due to not enough started members",
            Error::TimeoutLeaderTransfer => "etcdserver: request timed out, leader transfer took too long",
            Error::ProposalDropped => "raft proposal dropped",
            Error::DeadlineExceeded => "context deadline exceeded",
        }
    }

    /// The status code that the client sees.
    pub const fn code(self) -> Code {
        match self {
            Error::EmptyKey
            | Error::KeyNotFound
            | Error::ValueProvided
            | Error::LeaseProvided
            | Error::TooManyOperations
            | Error::DuplicateKey
            | Error::RequestTooLarge => Code::InvalidArgument,
            Error::Compacted | Error::FutureRevision | Error::LeaseTtlTooLarge => Code::OutOfRange,
            Error::LeaseNotFound => Code::NotFound,
            Error::TooManyRequests => Code::ResourceExhausted,
            Error::LeaseExists
            | Error::NotLeader
            | Error::NotSupportedForLearner
            | Error::BadLeaderTransferee
            | Error::MemberExists
            | Error::MemberNotLearner
            | Error::LearnerNotReady
            | Error::TooManyLearners
            | Error::NotEnoughStarted => Code::FailedPrecondition,
            Error::MemberNotFound => Code::NotFound,
            Error::NoLeader
            | Error::LeaderChanged
            | Error::Stopped
            | Error::Timeout
            | Error::TimeoutLeaderFail
            | Error::TimeoutConnectionLost
            | Error::TimeoutWaitApplied
            | Error::TimeoutLeaderTransfer
            | Error::Unhealthy => Code::Unavailable,
            Error::DeadlineExceeded | Error::ProposalDropped => Code::Unknown,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}
