//! Watches of kinds without a watch cache: each runs on etcd, on a stream of its own (apiserver, storage/etcd3/watcher.go).
//!
//! Kubernetes events have none: they are a great part of all writes, and hardly anybody reads them.
//!
//! A watch that names no revision first reads what is there and tells it as additions. When the connection to a member is
//! lost, the etcd client goes on at another member where the watch stood, and its own client learns nothing of it. History
//! that is gone and a stream that etcd ends are told as an error, after which the watch is over.

use std::collections::BTreeMap;

use crate::api::kind::Kind;
use crate::engine::process::{Context, ProcessId};
use crate::engine::time::SimDuration;
use crate::etcd::error::Error;
use crate::etcd::key::KeyRange;
use crate::etcd::message::Reply as EtcdReply;
use crate::etcd::mvcc::Range;
use crate::etcd::watch::{WatchBody, WatchResponse};

use super::cache::Change;
use super::failure::failure;
use super::protocol::{Answer, ApiMessage, Scope, WatchEvent, WatchId};
use super::selection::Selection;
use super::server::{ApiServer, ServerMessage};
use super::status::{Reason, Status};
use super::storage::Stored;
use super::task::{Reply, Step, Task};
use super::watchers::Watcher;
use super::watching::WATCHES;

/// Whether an API server keeps a watch cache of a kind (kubeapiserver: `DefaultWatchCacheSizes`).
pub fn has_cache(kind: Kind) -> bool {
    kind != Kind::Event
}

/// All kinds of which there is a watch cache.
pub fn cached_kinds() -> impl Iterator<Item = Kind> {
    Kind::all().filter(|kind| has_cache(*kind))
}

/// Whose watch it is.
pub type Owner = (ProcessId, WatchId);

/// All watches that run on etcd.
#[derive(Debug, Default)]
pub struct DirectWatches(BTreeMap<Owner, Direct>);

/// A watch that runs on etcd.
#[derive(Debug)]
struct Direct {
    watcher: Watcher,
    range: KeyRange,
    /// Everything up to this revision has been told; none while the first list is read.
    seen: Option<u64>,
    /// The stream on which it runs, if a member is connected.
    stream: Option<u32>,
}

impl ApiServer {
    /// Begins a client's watch of a kind without a watch cache.
    pub(super) fn begin_direct(
        &mut self,
        task: Task,
        scope: &Scope,
        after: Option<u64>,
        (watch, bookmarks): (WatchId, bool),
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let Reply::Client(client, id) = task.reply else { return };
        let selection = match Selection::of(scope) {
            Ok(selection) => selection,
            Err(status) => return self.finish(task, Err(status), ctx),
        };
        let (range, cost) = (selection.range(), self.config.costs.of_request(0));
        let started = ApiMessage::Response { id, result: Ok(Answer::WatchStarted) };
        ctx.send_after(cost, client, WATCHES, ServerMessage::Api(started));
        let watcher = Watcher::new(client, watch, selection, 0, bookmarks);
        let direct = Direct { watcher, range: range.clone(), seen: after, stream: None };
        self.end_watch(client, watch);
        self.direct.0.insert((client, watch), direct);
        match after {
            Some(_) => self.run_direct((client, watch), ctx),
            None => {
                let task = Task { reply: Reply::Nobody, step: Step::Sync(client, watch), ..task };
                self.ask(task, cost, Range::of(range).into(), ctx);
            }
        }
    }

    /// The first list of a watch has been read, or could not be.
    pub(super) fn direct_listed(
        &mut self,
        owner: Owner,
        result: Result<EtcdReply<Stored>, Error>,
        revision: u64,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let Some(direct) = self.direct.0.get_mut(&owner) else { return };
        match result {
            Ok(EtcdReply::Range(result)) => {
                for object in result.kvs.iter().filter_map(|kv| kv.value.as_ref()?.object()) {
                    direct.watcher.tell_present(object);
                }
                direct.seen = Some(revision);
                self.tell_direct(owner, ctx);
                self.run_direct(owner, ctx);
            }
            Ok(_) => {}
            Err(error) => self.end_direct(owner, failure(error), ctx),
        }
    }

    /// Lets a watch run on a stream of its own as soon as a member is connected.
    fn run_direct(&mut self, owner: Owner, ctx: &mut dyn Context<ServerMessage>) {
        if let Some(direct) = self.direct.0.get_mut(&owner)
            && let Some(seen) = direct.seen
        {
            direct.stream = self.link.open(direct.range.clone(), seen + 1, ctx);
        }
    }

    /// Lets all watches run on that do not: the connections to members have changed.
    pub(super) fn resume_direct(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        let link = &self.link;
        let stands = |direct: &Direct| !direct.stream.is_some_and(|stream| link.is_open(stream));
        let standing: Vec<Owner> =
            self.direct.0.iter().filter(|(_, direct)| stands(direct)).map(|(owner, _)| *owner).collect();
        for owner in standing {
            self.run_direct(owner, ctx);
        }
    }

    /// Takes what etcd says on a stream that is no watch cache's.
    pub(super) fn direct_watched(&mut self, response: &WatchResponse<Stored>, ctx: &mut dyn Context<ServerMessage>) {
        let runs_here = |direct: &Direct| direct.stream == Some(response.stream);
        let Some(owner) = self.direct.0.iter().find(|(_, direct)| runs_here(direct)).map(|(owner, _)| *owner) else {
            return;
        };
        match &response.body {
            WatchBody::Events(events) => {
                let Some(direct) = self.direct.0.get_mut(&owner) else { return };
                for event in events.iter() {
                    direct.watcher.tell(&Change::of(event, ctx.now()));
                    direct.seen = direct.seen.max(Some(event.kv.modified));
                }
                self.tell_direct(owner, ctx);
            }
            WatchBody::Canceled { .. } => {
                let message = "The resourceVersion for the provided watch is too old.";
                self.end_direct(owner, Box::new(Status::new(Reason::Expired, message)), ctx);
            }
            WatchBody::Closed(error) => self.end_direct(owner, failure(*error), ctx),
            WatchBody::Created | WatchBody::Progress => {}
        }
    }

    /// Sends a watcher what it was told.
    fn tell_direct(&mut self, owner: Owner, ctx: &mut dyn Context<ServerMessage>) {
        let Some(direct) = self.direct.0.get_mut(&owner) else { return };
        if let Some((events, bytes, _)) = direct.watcher.take() {
            let cost = self.config.costs.of_watch_event(bytes);
            let message = ApiMessage::Watch { watch: owner.1, events };
            ctx.send_after(cost, owner.0, WATCHES, ServerMessage::Api(message));
        }
    }

    /// A watch fails: its client is told why.
    pub(super) fn end_direct(&mut self, owner: Owner, why: Box<Status>, ctx: &mut dyn Context<ServerMessage>) {
        if self.forget_direct(owner, ctx) {
            let message = ApiMessage::Watch { watch: owner.1, events: vec![WatchEvent::Error(why)] };
            ctx.send_after(SimDuration::ZERO, owner.0, WATCHES, ServerMessage::Api(message));
        }
    }

    /// Ends a watch without a word to its client; false if there is none.
    pub(super) fn forget_direct(&mut self, owner: Owner, ctx: &mut dyn Context<ServerMessage>) -> bool {
        let Some(direct) = self.direct.0.remove(&owner) else { return false };
        if let Some(stream) = direct.stream {
            self.link.close(stream, ctx);
        }
        true
    }

    /// Ends all watches of a client that is gone.
    pub(super) fn forget_all_direct(&mut self, client: ProcessId, ctx: &mut dyn Context<ServerMessage>) {
        let range = (client, WatchId::MIN)..=(client, WatchId::MAX);
        let gone: Vec<Owner> = self.direct.0.range(range).map(|(owner, _)| *owner).collect();
        for owner in gone {
            self.forget_direct(owner, ctx);
        }
    }
}
