//! Everything that processes say to one another.

use crate::apiserver::protocol::{Answer, ApiMessage};
use crate::apiserver::status::Reason;
use crate::apiserver::storage::Stored;
use crate::apiserver::{ServerMessage, size};
use crate::etcd;

/// What etcd members say and are told.
pub type EtcdMessage = etcd::message::Message<Stored>;

/// A message between two processes of a cluster.
#[derive(Debug)]
pub enum Message {
    /// Between a client and an API server.
    Api(ApiMessage),
    /// Between an API server and an etcd member, or between members.
    Etcd(EtcdMessage),
}

/// What the trace calls its events: first those of [`super::event::Event`], then messages by what they say; last what came
/// later.
pub const TRACE_KINDS: &[&str] = &[
    "starts",
    "message",
    "timer",
    "written to disk",
    "connection lost",
    "network check",
    "container runtime",
    "scenario",
    "API request",
    "API answer",
    "watch events",
    "watch closed",
    "etcd request",
    "etcd answer",
    "etcd watch",
    "etcd watch events",
    "Raft message",
    "etcd lease",
    "etcd greeting",
    "power",
    "load",
];

impl Message {
    /// Bytes on the network.
    pub fn wire_bytes(&self) -> u64 {
        match self {
            Message::Api(message) => size::of_message(message),
            Message::Etcd(message) => message.size_bytes(),
        }
    }

    /// The number of this kind of message in [`TRACE_KINDS`].
    pub fn trace_kind(&self) -> u16 {
        match self {
            Message::Api(ApiMessage::Request(_) | ApiMessage::StopWatch { .. }) => 8,
            Message::Api(ApiMessage::Response { .. }) => 9,
            Message::Api(ApiMessage::Watch { .. }) => 10,
            Message::Api(ApiMessage::WatchClosed { .. }) => 11,
            Message::Etcd(message) => match message {
                EtcdMessage::Request { .. } => 12,
                EtcdMessage::Response(_) => 13,
                EtcdMessage::Watch { .. } => 14,
                EtcdMessage::Watched(_) => 15,
                EtcdMessage::Raft(_) => 16,
                EtcdMessage::KeepAlive { .. } | EtcdMessage::KeptAlive { .. } => 17,
                EtcdMessage::Hello { .. } => 18,
            },
        }
    }

    /// One number about a message: a request's id and operation, an answer's id, how many events, a revision.
    pub fn trace_detail(&self) -> u64 {
        match self {
            Message::Api(ApiMessage::Request(request)) => request.id << 8 | request.operation.kind() as u64,
            Message::Api(ApiMessage::StopWatch { watch } | ApiMessage::WatchClosed { watch }) => *watch,
            Message::Api(ApiMessage::Response { id, result }) => {
                let revision = match result {
                    Ok(Answer::Object(object)) => object.meta().revision(),
                    _ => 0,
                };
                if revision == 0 { *id } else { revision }
            }
            Message::Api(ApiMessage::Watch { events, .. }) => events.len() as u64,
            Message::Etcd(EtcdMessage::Request { id, .. }) => *id,
            Message::Etcd(EtcdMessage::Response(response)) => response.revision,
            Message::Etcd(_) => 0,
        }
    }

    /// Whether it tells a client that the object which it wanted to write had changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Message::Api(ApiMessage::Response { result: Err(status), .. }) if status.reason == Reason::Conflict)
    }

    /// As what API clients understand.
    #[inline]
    pub fn api(self) -> Option<ApiMessage> {
        match self {
            Message::Api(message) => Some(message),
            Message::Etcd(_) => None,
        }
    }

    /// As what etcd members understand.
    #[inline]
    pub fn etcd(self) -> Option<EtcdMessage> {
        match self {
            Message::Etcd(message) => Some(message),
            Message::Api(_) => None,
        }
    }

    /// As what API servers understand: everything.
    #[inline]
    pub fn server(self) -> Option<ServerMessage> {
        Some(match self {
            Message::Api(message) => ServerMessage::Api(message),
            Message::Etcd(message) => ServerMessage::Etcd(message),
        })
    }
}

impl From<ServerMessage> for Message {
    fn from(message: ServerMessage) -> Self {
        match message {
            ServerMessage::Api(message) => Message::Api(message),
            ServerMessage::Etcd(message) => Message::Etcd(message),
        }
    }
}
