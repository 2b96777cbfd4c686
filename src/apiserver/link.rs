//! The conversation with etcd: one member at a time, the next one when the connection is lost.

use crate::api::kind::Kind;
use crate::engine::process::{Context, ProcessId};
use crate::engine::time::SimDuration;
use crate::etcd::key::{Key, KeyRange};
use crate::etcd::message::{CLIENT_LANE, Message, WatchCommand};
use crate::etcd::watch::WatchRequest;

use super::server::ServerMessage;
use super::storage::{self, EtcdRequest};

/// The way to etcd.
#[derive(Debug)]
pub struct Link {
    members: Vec<ProcessId>,
    current: usize,
    /// The number of the next request, apart from what in it tells the member.
    next_id: u64,
    /// The watch stream in use; what older ones still bring is void.
    stream: u32,
}

impl Link {
    /// A link that prefers the first of these members.
    pub fn new(members: Vec<ProcessId>) -> Self {
        assert!(!members.is_empty(), "an API server needs etcd");
        Link { members, current: 0, next_id: 0, stream: 0 }
    }

    /// The member in use.
    pub fn member(&self) -> ProcessId {
        self.members[self.current]
    }

    /// The watch stream in use.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// True if this process is an etcd member.
    pub fn knows(&self, process: ProcessId) -> bool {
        self.members.contains(&process)
    }

    /// True if a request of this number went to a member: answers of a member in use before may still come, and what went
    /// there is lost only with the connection to it.
    pub fn went_to(&self, id: u64, member: ProcessId) -> bool {
        self.members[(id % self.members.len() as u64) as usize] == member
    }

    /// Turns to the next member and opens a new watch stream there.
    pub fn turn(&mut self) {
        self.current = (self.current + 1) % self.members.len();
        self.stream += 1;
    }

    /// Sends a request after some work on it; returns its number.
    pub fn request(&mut self, delay: SimDuration, request: EtcdRequest, ctx: &mut dyn Context<ServerMessage>) -> u64 {
        self.next_id += 1;
        let id = self.next_id * self.members.len() as u64 + self.current as u64;
        ctx.send_after(delay, self.member(), CLIENT_LANE, ServerMessage::Etcd(Message::Request { id, request }));
        id
    }

    /// Watches all objects of a kind from a revision on. The watch is known by the kind.
    pub fn watch(&self, kind: Kind, from: u64, ctx: &mut dyn Context<ServerMessage>) {
        let range = KeyRange::Prefix(Key::new(&storage::prefix(kind)));
        let mut request = WatchRequest::new(kind as u64, range, from);
        request.previous = true;
        self.say(WatchCommand::Create { request, require_leader: true }, ctx);
    }

    /// Asks how far the watches have come.
    pub fn ask_progress(&self, ctx: &mut dyn Context<ServerMessage>) {
        self.say(WatchCommand::Progress, ctx);
    }

    fn say(&self, command: WatchCommand, ctx: &mut dyn Context<ServerMessage>) {
        let message = Message::Watch { stream: self.stream, command };
        ctx.send(self.member(), CLIENT_LANE, ServerMessage::Etcd(message));
    }
}
