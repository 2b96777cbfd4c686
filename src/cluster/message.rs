//! Everything that processes say to one another.

use crate::apiserver::protocol::ApiMessage;
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

impl Message {
    /// Bytes on the network.
    pub fn wire_bytes(&self) -> u64 {
        match self {
            Message::Api(message) => size::of_message(message),
            Message::Etcd(message) => message.size_bytes(0),
        }
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
