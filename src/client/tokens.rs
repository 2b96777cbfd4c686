//! The timers of this folder, told apart by the number written on them. A process's own timers stay below
//! [`CLIENT_TOKENS`].

use crate::api::kind::Kind;
use crate::apiserver::protocol::RequestId;
use crate::engine::process::Token;

/// Timer tokens from here on belong to the client library; a process that uses it keeps its own below.
pub const CLIENT_TOKENS: Token = 1 << 63;

const USE: u32 = 58;
const REST: Token = (1 << USE) - 1;
const BUCKET: Token = 0;
const RETRY: Token = 1;
const WATCHDOG: Token = 2;
const INFORMER: Token = 3;
const RECORDER: Token = 4;

/// A timer of a client.
pub(super) enum ClientTimer {
    /// The bucket of a clientset has a token for the first in line.
    Bucket(u8),
    /// A request is to be sent again.
    Retry(RequestId),
    /// Look for requests without an answer.
    Watchdog,
}

fn token(purpose: Token, rest: u64) -> Token {
    debug_assert!(rest <= REST, "{rest} does not fit beside the purpose");
    CLIENT_TOKENS | purpose << USE | rest & REST
}

/// What a token is for, and the rest of it; none if it is not of this folder.
fn parts(token: Token) -> Option<(Token, u64)> {
    (token >= CLIENT_TOKENS).then_some(((token & !CLIENT_TOKENS) >> USE, token & REST))
}

pub(super) fn bucket(clientset: u8) -> Token {
    token(BUCKET, u64::from(clientset))
}

pub(super) fn retry(id: RequestId) -> Token {
    token(RETRY, id)
}

pub(super) fn watchdog() -> Token {
    token(WATCHDOG, 0)
}

pub(super) fn client_timer(token: Token) -> Option<ClientTimer> {
    match parts(token)? {
        (BUCKET, clientset) => Some(ClientTimer::Bucket(clientset as u8)),
        (RETRY, id) => Some(ClientTimer::Retry(id)),
        (WATCHDOG, _) => Some(ClientTimer::Watchdog),
        _ => None,
    }
}

pub(super) fn informer(kind: Kind) -> Token {
    token(INFORMER, kind as u64)
}

/// The kind whose informer a timer belongs to.
pub(super) fn informer_timer(token: Token) -> Option<Kind> {
    match parts(token)? {
        (INFORMER, kind) => Kind::all().nth(kind as usize),
        _ => None,
    }
}

pub(super) fn recorder(number: u16) -> Token {
    token(RECORDER, u64::from(number))
}

/// The recorder that a timer belongs to.
pub fn recorder_timer(token: Token) -> Option<u16> {
    match parts(token)? {
        (RECORDER, number) => u16::try_from(number).ok(),
        _ => None,
    }
}
