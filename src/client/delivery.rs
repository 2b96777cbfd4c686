//! What a [`Client`](super::transport::Client) hands to the process that it is part of: answers, watch events, failures.

use crate::api::kind::Kind;
use crate::apiserver::protocol::{Answer, RequestId, WatchEvent, WatchId};
use crate::apiserver::status::{Reason, Status};

use super::plan::Outcome;

/// Who, within a process, made a request. `T` is the process's own way to know its requests again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller<T> {
    /// The informer of a kind.
    Informer(Kind),
    /// One of the process's event recorders, by its number.
    Recorder(u16),
    /// The process itself.
    Process(T),
}

/// Something for one of the callers.
#[derive(Debug)]
pub enum Delivery<T> {
    /// What came of a request. For a watch: whether it has begun.
    Answered {
        /// Who asked.
        caller: Caller<T>,
        /// The request.
        id: RequestId,
        /// What came of it.
        result: Result<Answer, Failure>,
    },
    /// Events of a watch, in order.
    Events {
        /// Who watches.
        caller: Caller<T>,
        /// The watch.
        watch: WatchId,
        /// The events.
        events: Vec<WatchEvent>,
    },
    /// A watch that had begun is over: closed by the server or lost with the connection. The caller may resume it.
    WatchEnded {
        /// Who watched.
        caller: Caller<T>,
        /// The watch.
        watch: WatchId,
    },
}

impl<T: Copy> Delivery<T> {
    /// Whom it is for.
    pub fn caller(&self) -> Caller<T> {
        match self {
            Delivery::Answered { caller, .. }
            | Delivery::Events { caller, .. }
            | Delivery::WatchEnded { caller, .. } => *caller,
        }
    }
}

/// Why a request has no good answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Failure {
    /// The server says no.
    Refused(Box<Status>),
    /// No connection came about: the request was not done.
    Unreachable,
    /// The connection broke while the request was under way: it may have been done.
    ConnectionLost,
    /// The client's own time for the request ran out: it may have been done.
    TimedOut,
}

impl Failure {
    /// True if the server answered; what it refused it will refuse again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Failure::Refused(_))
    }

    /// The server's reason, if it answered.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Failure::Refused(status) => Some(status.reason),
            _ => None,
        }
    }

    /// The failure as a status, with the text that Go's HTTP client has for what no server said.
    pub fn into_status(self) -> Box<Status> {
        let text = match self {
            Failure::Refused(status) => return status,
            Failure::Unreachable => "dial tcp: connect: connection refused",
            Failure::ConnectionLost => "http2: client connection lost",
            Failure::TimedOut => "context deadline exceeded",
        };
        Box::new(Status::new(Reason::ServiceUnavailable, text))
    }
}

/// A result as control loops take it, where what no server said is a status too.
pub fn outcome(result: Result<Answer, Failure>) -> Outcome {
    result.map_err(Failure::into_status)
}
