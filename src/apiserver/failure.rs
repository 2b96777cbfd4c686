//! Errors of etcd: which of them the server asks again about, and how it tells its clients of the others.

use crate::etcd::error::Error;

use super::status::{Reason, Status};

/// True if asking again cannot do a thing twice: for writes only what etcd surely has not begun (etcd3retry).
pub fn may_retry(error: Error, is_read: bool) -> bool {
    match error {
        Error::LeaderChanged | Error::NoLeader | Error::ProposalDropped => true,
        // The real list has "possible due to connection lost", which etcd never says.
        Error::Timeout | Error::TimeoutLeaderFail | Error::TimeoutWaitApplied | Error::Stopped => is_read,
        _ => false,
    }
}

/// True if what was asked may still be done, or may have been.
pub fn leaves_doubt(error: Error) -> bool {
    matches!(
        error,
        Error::Timeout
            | Error::TimeoutLeaderFail
            | Error::TimeoutConnectionLost
            | Error::TimeoutWaitApplied
            | Error::Stopped
            | Error::LeaderChanged
            | Error::DeadlineExceeded
    )
}

/// An error of etcd as the API says it.
pub fn failure(error: Error) -> Box<Status> {
    Box::new(match error {
        Error::DeadlineExceeded => {
            Status::timeout("request did not complete within requested timeout - context deadline exceeded", 0)
        }
        other => Status::new(Reason::InternalError, other.text()),
    })
}
