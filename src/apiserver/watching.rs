//! Watches as clients have them: how they begin, what they are told, and how they end.

use crate::api::kind::Kind;
use crate::engine::process::{Context, Lane, ProcessId};

use super::protocol::{Answer, ApiMessage, Scope, WatchEvent, WatchId};
use super::selection::Selection;
use super::server::{ApiServer, ServerMessage};
use super::status::{Details, Reason, Status};
use super::task::{Reply, Task};
use super::watchers::Watcher;

/// The lane of watches.
pub(super) const WATCHES: Lane = 1;

impl ApiServer {
    /// Begins a client's watch.
    pub(super) fn begin_watch(
        &mut self,
        task: &Task,
        scope: &Scope,
        after: Option<u64>,
        (watch, bookmarks): (WatchId, bool),
        ctx: &mut dyn Context<ServerMessage>,
    ) -> Result<(), Box<Status>> {
        let Reply::Client(client, id) = task.reply else { return Ok(()) };
        let selection = Selection::of(scope)?;
        let (kind, cost) = (scope.kind, self.config.costs.of_request(0));
        let cache = &self.caches[kind as usize];
        if !cache.is_ready() {
            let details = Details { retry_after_seconds: 1, ..Default::default() };
            let message = "storage is (re)initializing";
            let status = Status::new(Reason::TooManyRequests, message);
            return Err(Box::new(Status { details: Some(Box::new(details)), ..status }));
        }
        let after = match kind {
            Kind::Lease => after.map(|told| self.config.heartbeats.stands_at(told).min(told.max(cache.revision()))),
            _ => after,
        };
        let mut watcher = Watcher::new(client, watch, selection.clone(), after.unwrap_or(cache.revision()), bookmarks);
        let started = ApiMessage::Response { id, result: Ok(Answer::WatchStarted) };
        match after {
            Some(revision) => match cache.changes_after(revision) {
                Ok(changes) => changes.for_each(|change| watcher.tell(change)),
                Err(status) => {
                    let events = vec![WatchEvent::Error(status)];
                    ctx.send_after(cost, client, WATCHES, ServerMessage::Api(started));
                    let message = ApiMessage::Watch { watch, events };
                    ctx.send_after(cost, client, WATCHES, ServerMessage::Api(message));
                    return Ok(());
                }
            },
            None => {
                for mut object in cache.list(&selection) {
                    self.config.heartbeats.show_in(&mut object);
                    watcher.tell_present(&object);
                }
            }
        }
        ctx.send_after(cost, client, WATCHES, ServerMessage::Api(started));
        if let Some((events, bytes, _)) = watcher.take() {
            let cost = cost + self.config.costs.of_watch_event(bytes);
            ctx.send_after(cost, client, WATCHES, ServerMessage::Api(ApiMessage::Watch { watch, events }));
        }
        self.end_watch(client, watch);
        let place = self.watchers[kind as usize].insert(watcher);
        self.places.insert((client, watch), (kind, place));
        if kind == Kind::Lease {
            self.config.heartbeats.witness_came(&self.config.name, client, watch);
        }
        Ok(())
    }

    /// Ends a client's watch without a word to the client.
    pub(super) fn end_watch(&mut self, client: ProcessId, watch: WatchId) {
        if let Some((kind, place)) = self.places.remove(&(client, watch)) {
            self.watchers[kind as usize].remove(place);
            if kind == Kind::Lease {
                self.config.heartbeats.witness_went(&self.config.name, client, watch);
            }
        }
    }

    /// Sends watchers what they were told.
    pub(super) fn flush(&mut self, kind: Kind, ctx: &mut dyn Context<ServerMessage>) {
        let cause = ctx.cause();
        for place in self.watchers[kind as usize].take_pending() {
            let Some(watcher) = self.watchers[kind as usize].get_mut(place) else { continue };
            let (client, watch) = (watcher.client, watcher.id);
            if let Some((events, bytes, cause)) = watcher.take() {
                ctx.set_cause(cause);
                let cost = self.config.costs.of_watch_event(bytes);
                ctx.send_after(cost, client, WATCHES, ServerMessage::Api(ApiMessage::Watch { watch, events }));
            }
        }
        ctx.set_cause(cause);
    }

    pub(super) fn send_bookmarks(&mut self, kind: Kind, ctx: &mut dyn Context<ServerMessage>) {
        let revision = self.caches[kind as usize].revision();
        for (_, watcher) in self.watchers[kind as usize].iter().filter(|(_, watcher)| watcher.bookmarks) {
            let message = ApiMessage::Watch { watch: watcher.id, events: vec![WatchEvent::Bookmark { revision }] };
            ctx.send(watcher.client, WATCHES, ServerMessage::Api(message));
        }
    }

    /// Ends all watches of a kind: their history is gone.
    pub(super) fn close_watches(&mut self, kind: Kind, ctx: &mut dyn Context<ServerMessage>) {
        for (_, watcher) in std::mem::take(&mut self.watchers[kind as usize]).iter() {
            self.places.remove(&(watcher.client, watcher.id));
            if kind == Kind::Lease {
                self.config.heartbeats.witness_went(&self.config.name, watcher.client, watcher.id);
            }
            let message = ApiMessage::WatchClosed { watch: watcher.id };
            ctx.send(watcher.client, WATCHES, ServerMessage::Api(message));
        }
    }
}
