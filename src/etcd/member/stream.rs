//! Watch streams of a member's clients.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use super::{Act, Running, token};
use crate::engine::process::ProcessId;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::error::Error;
use crate::etcd::message::{CLIENT_LANE, Message, WatchCommand};
use crate::etcd::value::Value;
use crate::etcd::watch::{
    PROGRESS_JITTER, PROGRESS_PERIOD, SYNC_PERIOD, StreamId, WatchBody, WatchRequest, WatchResponse, Watchers,
};

/// After so many election timeouts without a leader the streams that require one are ended.
const LEADERLESS_TIMEOUTS: u64 = 3;

/// The watchers of a member, and what its streams need beside them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub watchers: Watchers,
    require_leader: BTreeSet<StreamId>,
    sync_armed: bool,
    /// When the progress timer is set to go off.
    progress_armed: Option<SimTime>,
    monitor_armed: bool,
    /// Since when this member knows of no leader.
    pub leaderless_since: Option<SimTime>,
}

impl Deref for Streams {
    type Target = Watchers;
    fn deref(&self) -> &Watchers {
        &self.watchers
    }
}

impl DerefMut for Streams {
    fn deref_mut(&mut self) -> &mut Watchers {
        &mut self.watchers
    }
}

impl<V: Value> Running<V> {
    /// A client speaks on a stream.
    pub(super) fn watch(&mut self, client: ProcessId, stream: u32, command: WatchCommand, at: &mut Act<'_, V>) {
        let id = StreamId { client, stream };
        let response = match command {
            WatchCommand::Create { request, require_leader } => {
                let response = self.create_watch(id, request, require_leader, at);
                self.arm_watch_sync(at);
                self.arm_progress(at);
                Some(response)
            }
            WatchCommand::Cancel(watch) => self.streams.cancel(id, watch, at.view),
            WatchCommand::Progress => self.streams.progress(id, at.view),
            WatchCommand::Close => {
                self.streams.close(id);
                self.streams.require_leader.remove(&id);
                None
            }
        };
        if let Some(response) = response {
            at.ctx.send_after(at.settings.serve, client, CLIENT_LANE, Message::Watched(response));
        }
    }

    fn create_watch(
        &mut self,
        stream: StreamId,
        request: WatchRequest,
        require_leader: bool,
        at: &mut Act<'_, V>,
    ) -> WatchResponse<V> {
        if !self.streams.is_open(stream) {
            if require_leader && self.leader.is_none() {
                return closed(stream, Error::NoLeader, at);
            }
            if self.is_learner() {
                return closed(stream, Error::NotSupportedForLearner, at);
            }
            let jitter = SimDuration::from_nanos(self.chance.below(PROGRESS_JITTER.as_nanos()));
            self.streams.open(stream, PROGRESS_PERIOD + jitter);
            if require_leader {
                self.streams.require_leader.insert(stream);
            }
        }
        self.streams.create(stream, request, at.view, at.now())
    }

    /// Watches that have to catch up do so at the next tenth of a second of this member.
    pub(super) fn arm_watch_sync(&mut self, at: &mut Act<'_, V>) {
        if self.streams.wants_sync() && !self.streams.sync_armed {
            self.streams.sync_armed = true;
            let next = (at.now() + SimDuration::from_nanos(1)).next_tick(self.started, SYNC_PERIOD);
            at.ctx.set_timer(next, token::WATCH_SYNC);
        }
    }

    pub(super) fn sync_watches(&mut self, at: &mut Act<'_, V>) {
        self.streams.sync_armed = false;
        let (ctx, serve) = (&mut *at.ctx, at.settings.serve);
        self.streams.watchers.sync(at.view, &mut |(client, response)| {
            ctx.send_after(serve, client, CLIENT_LANE, Message::Watched(response));
        });
        self.arm_watch_sync(at);
    }

    fn arm_progress(&mut self, at: &mut Act<'_, V>) {
        let Some(next) = self.streams.next_progress() else { return };
        if self.streams.progress_armed.is_none_or(|armed| armed > next) {
            self.streams.progress_armed = Some(next);
            at.ctx.set_timer(next.max(at.now()), token::WATCH_PROGRESS);
        }
    }

    pub(super) fn watch_progress(&mut self, at: &mut Act<'_, V>) {
        // A timer that was moved to an earlier time goes off at both.
        if self.streams.progress_armed.is_none_or(|armed| armed > at.now()) {
            return;
        }
        self.streams.progress_armed = None;
        let (ctx, serve) = (&mut *at.ctx, at.settings.serve);
        self.streams.watchers.tick_progress(ctx.now(), at.view, &mut |(client, response)| {
            ctx.send_after(serve, client, CLIENT_LANE, Message::Watched(response));
        });
        self.arm_progress(at);
    }

    /// While there is no leader: if there is none for three election timeouts, streams that require one end. etcd counts
    /// full timeouts since its start, so it takes between two and three.
    pub(super) fn arm_leader_monitor(&mut self, at: &mut Act<'_, V>) {
        let Some(since) = self.streams.leaderless_since.filter(|_| !self.streams.monitor_armed) else { return };
        self.streams.monitor_armed = true;
        at.ctx.set_timer(self.leaderless_limit(since, at), token::LEADER_MONITOR);
    }

    /// When the count of those who lost their leader at a moment is full.
    fn leaderless_limit(&self, since: SimTime, at: &Act<'_, V>) -> SimTime {
        let period = at.settings.election_timeout();
        let first = (since + SimDuration::from_nanos(1)).next_tick(self.started, period);
        first + period * (LEADERLESS_TIMEOUTS - 1)
    }

    pub(super) fn monitor_leader(&mut self, at: &mut Act<'_, V>) {
        self.streams.monitor_armed = false;
        let Some(since) = self.streams.leaderless_since else { return };
        if self.leaderless_limit(since, at) > at.now() {
            // There was a leader in between.
            self.arm_leader_monitor(at);
            return;
        }
        for stream in std::mem::take(&mut self.streams.require_leader) {
            if self.streams.is_open(stream) {
                self.streams.close(stream);
                let response = closed(stream, Error::NoLeader, at);
                at.ctx.send(stream.client, CLIENT_LANE, Message::Watched(response));
            }
        }
    }
}

fn closed<V: Value>(stream: StreamId, error: Error, at: &Act<'_, V>) -> WatchResponse<V> {
    let body = WatchBody::Closed(error);
    WatchResponse { stream: stream.stream, watch: None, revision: at.view.revision(), body }
}
