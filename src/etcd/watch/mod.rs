//! Watchers of one member: who is told of which changes, in order, without gaps, and never half a revision.
//!
//! A watcher is *synced* when it has been told of everything that the member has applied; then each write tells it at
//! once. A watcher that begins in the past, or any watcher after its member has received a snapshot, is *unsynced* and is
//! caught up from history by a pass that runs every 100 ms (etcd: mvcc/watchable_store.go).
//!
//! There are no slow watchers here ("victims" in etcd): a member hands its responses to the network, whose links queue
//! them in order and take as long as they take; the channel between store and stream, which can be full in etcd, has no
//! counterpart. What etcd guarantees then, order and completeness, holds without it.

mod index;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use smallvec::SmallVec;

use self::index::{Place, WatchIndex};
use super::error::Error;
use super::key::KeyRange;
use super::mvcc::{KeyValue, View};
use super::value::Value;
use crate::engine::process::ProcessId;
use crate::engine::time::{SimDuration, SimTime};

/// How often unsynced watchers are caught up.
pub const SYNC_PERIOD: SimDuration = SimDuration::from_millis(100);
/// How often a watch that asked for it is told how far it has come.
pub const PROGRESS_PERIOD: SimDuration = SimDuration::from_secs(600);
/// The period of a stream is longer by up to a tenth, so that streams do not all speak at once.
pub const PROGRESS_JITTER: SimDuration = SimDuration::from_secs(60);
/// At most so many watchers are caught up in one pass.
const WATCHERS_PER_PASS: usize = 512;
/// At most so many revisions are sent to a watcher in one pass.
const REVISIONS_PER_BATCH: usize = 1000;

/// A stream of watch responses to one client. A client may have several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId {
    /// The client.
    pub client: ProcessId,
    /// Which of its streams.
    pub stream: u32,
}

/// Names a watch within its stream; the client chooses.
pub type WatchId = u64;

/// Asks for a watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// The name of the watch in its stream.
    pub id: WatchId,
    /// Which keys.
    pub range: KeyRange,
    /// The first revision of interest; zero: whatever comes after the present one.
    pub start: u64,
    /// Leave puts out.
    pub no_puts: bool,
    /// Leave deletions out.
    pub no_deletes: bool,
    /// Send with each change what was there before.
    pub previous: bool,
    /// Say from time to time how far the watch has come, when there is nothing else to say.
    pub progress: bool,
}

impl WatchRequest {
    /// A watch of all changes in a range from a revision on.
    pub fn new(id: WatchId, range: KeyRange, start: u64) -> WatchRequest {
        WatchRequest { id, range, start, no_puts: false, no_deletes: false, previous: false, progress: false }
    }
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchEvent<V> {
    /// The key as the change left it. A deleted one has no value, and only its revision is set.
    pub kv: KeyValue<V>,
    /// What was there before, if asked for and not compacted.
    pub previous: Option<KeyValue<V>>,
}

impl<V> WatchEvent<V> {
    /// Whether the key was deleted.
    pub fn is_delete(&self) -> bool {
        self.kv.value.is_none()
    }
}

/// What a stream sends.
#[derive(Clone, Debug)]
pub struct WatchResponse<V> {
    /// Which stream of the client.
    pub stream: u32,
    /// Which watch; none: all watches of the stream (an answer to a progress request).
    pub watch: Option<WatchId>,
    /// The member's revision. With progress it says that everything up to here has been sent; a response with events may
    /// be one of several on the way there.
    pub revision: u64,
    /// What it says.
    pub body: WatchBody<V>,
}

/// What a watch response says.
#[derive(Clone, Debug)]
pub enum WatchBody<V> {
    /// The watch has begun.
    Created,
    /// The watch could not begin or has ended.
    Canceled {
        /// Why, in etcd's words; empty after a compaction.
        reason: &'static str,
        /// Set if the watch needs revisions that have been compacted: history begins here.
        compact_revision: Option<u64>,
    },
    /// Changes, in order; all changes of each revision that appears.
    Events(Rc<[WatchEvent<V>]>),
    /// Nothing but the revision.
    Progress,
    /// The stream has ended, with all its watches.
    Closed(Error),
}

/// A response and where it goes.
pub type Addressed<V> = (ProcessId, WatchResponse<V>);

#[derive(Debug)]
struct Watcher {
    stream: StreamId,
    request: WatchRequest,
    /// The next revision to be told of.
    next: u64,
    synced: bool,
    /// Had nothing to say since the last progress tick.
    quiet: bool,
}

#[derive(Debug, Default)]
struct Stream {
    watches: BTreeMap<WatchId, Place>,
    progress_at: Option<SimTime>,
    period: SimDuration,
}

/// All watchers of one member.
#[derive(Debug, Default)]
pub struct Watchers {
    list: Vec<Option<Watcher>>,
    free: Vec<Place>,
    streams: BTreeMap<StreamId, Stream>,
    synced: WatchIndex,
    unsynced: BTreeSet<Place>,
}

impl Watchers {
    /// Opens a stream: its progress is spoken of every `period`.
    pub fn open(&mut self, stream: StreamId, period: SimDuration) {
        self.streams.entry(stream).or_default().period = period;
    }

    /// Whether a stream is open.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Begins a watch on an open stream and says so, or why not.
    pub fn create<V: Value>(
        &mut self,
        stream: StreamId,
        request: WatchRequest,
        view: &View<V>,
        now: SimTime,
    ) -> WatchResponse<V> {
        let present = view.revision();
        let answer = |id, body| WatchResponse { stream: stream.stream, watch: Some(id), revision: present, body };
        let refuse = |id, reason| answer(id, WatchBody::Canceled { reason, compact_revision: None });
        if request.range.is_empty() {
            return refuse(request.id, "mvcc: watcher range is empty");
        }
        let owner = self.streams.entry(stream).or_default();
        if owner.watches.contains_key(&request.id) {
            return refuse(request.id, "mvcc: duplicate watch ID provided on the WatchStream");
        }
        if request.progress && owner.progress_at.is_none() {
            owner.progress_at = Some(now + owner.period);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            Place::try_from(self.list.len() - 1).expect("fewer than 2^32 watchers")
        });
        owner.watches.insert(request.id, place);
        let id = request.id;
        let synced = request.start == 0 || request.start > present;
        let next = if synced { request.start.max(present + 1) } else { request.start };
        if synced {
            self.synced.insert(place, &request.range);
        } else {
            self.unsynced.insert(place);
        }
        self.list[place as usize] = Some(Watcher { stream, request, next, synced, quiet: true });
        answer(id, WatchBody::Created)
    }

    /// Ends a watch at the client's wish.
    pub fn cancel<V: Value>(&mut self, stream: StreamId, id: WatchId, view: &View<V>) -> Option<WatchResponse<V>> {
        let place = *self.streams.get(&stream)?.watches.get(&id)?;
        self.remove(place);
        let body = WatchBody::Canceled { reason: "", compact_revision: None };
        Some(WatchResponse { stream: stream.stream, watch: Some(id), revision: view.revision(), body })
    }

    /// The connection to a client is gone, and all its streams with it.
    pub fn drop_client(&mut self, client: ProcessId) {
        let streams: Vec<StreamId> = self.streams_of(client).collect();
        for stream in streams {
            self.close(stream);
        }
    }

    /// Ends a stream with all its watches.
    pub fn close(&mut self, stream: StreamId) {
        let places: Vec<Place> =
            self.streams.get(&stream).into_iter().flat_map(|stream| stream.watches.values().copied()).collect();
        for place in places {
            self.remove(place);
        }
        self.streams.remove(&stream);
    }

    fn streams_of(&self, client: ProcessId) -> impl Iterator<Item = StreamId> + '_ {
        let first = StreamId { client, stream: 0 };
        self.streams.range(first..=StreamId { client, stream: u32::MAX }).map(|(&stream, _)| stream)
    }

    /// The open streams, in order.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }

    /// Tells synced watchers of a revision that the member has just applied.
    pub fn notify<V: Value>(&mut self, view: &View<V>, revision: u64, send: &mut impl FnMut(Addressed<V>)) {
        if self.synced.is_empty() {
            return;
        }
        let mut told: SmallVec<[(Place, WatchEvent<V>); 1]> = SmallVec::new();
        let mut single = true;
        let Watchers { list, synced, .. } = self;
        view.each_change(revision, revision, |written| {
            let matching = synced.matching(written.key());
            if matching.is_empty() {
                return true;
            }
            let Some(kv) = written.after() else { return true };
            let is_delete = kv.value.is_none();
            let mut before = None;
            single &= told.is_empty();
            for place in matching {
                let Some(watcher) = &list[place as usize] else { continue };
                if watcher.next > revision || watcher.request.filters_out(is_delete) {
                    continue;
                }
                let previous = if watcher.request.previous {
                    before.get_or_insert_with(|| written.before()).clone()
                } else {
                    None
                };
                told.push((place, WatchEvent { kv: kv.clone(), previous }));
            }
            true
        });
        if told.is_empty() {
            return;
        }
        if !single {
            // Stable: the changes of each watcher stay in their order.
            told.sort_by_key(|&(place, _)| place);
        }
        self.send_grouped(told, revision, send);
    }

    /// Sends what was collected, one response for each watcher. Neighbours that are told the same share it.
    fn send_grouped<V: Value>(
        &mut self,
        told: SmallVec<[(Place, WatchEvent<V>); 1]>,
        revision: u64,
        send: &mut impl FnMut(Addressed<V>),
    ) {
        let mut rest = told.into_iter().peekable();
        while let Some((place, first)) = rest.next() {
            let events: Rc<[WatchEvent<V>]> = if rest.peek().is_some_and(|&(other, _)| other == place) {
                let mut events = vec![first];
                while let Some((_, event)) = rest.next_if(|&(other, _)| other == place) {
                    events.push(event);
                }
                events.into()
            } else {
                Rc::new([first])
            };
            if let Some(watcher) = &mut self.list[place as usize] {
                watcher.next = revision + 1;
                watcher.quiet = false;
                send(watcher.respond(revision, WatchBody::Events(events)));
            }
        }
    }

    /// Whether a pass over the unsynced watchers is wanted.
    pub fn wants_sync(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Catches unsynced watchers up, each by at most a thousand revisions. A watcher that needs what has been compacted ends.
    pub fn sync<V: Value>(&mut self, view: &View<V>, send: &mut impl FnMut(Addressed<V>)) {
        if view.is_hollow() {
            return;
        }
        let present = view.revision();
        let pass: SmallVec<[Place; 16]> = self.unsynced.iter().copied().take(WATCHERS_PER_PASS).collect();
        for place in pass {
            let Some(watcher) = &mut self.list[place as usize] else { continue };
            let compacted = view.history_begins(&watcher.request.range);
            if watcher.next < compacted {
                let body = WatchBody::Canceled { reason: "", compact_revision: Some(compacted) };
                send(watcher.respond(present, body));
                self.remove(place);
                continue;
            }
            let (events, more) = watcher.collect(view, present);
            watcher.next = more.unwrap_or(watcher.next.max(present + 1));
            if !events.is_empty() {
                watcher.quiet = false;
                send(watcher.respond(present, WatchBody::Events(events.into())));
            }
            if more.is_none() {
                watcher.synced = true;
                self.unsynced.remove(&place);
                self.synced.insert(place, &watcher.request.range);
            }
        }
    }

    /// The member's store was replaced by a snapshot: watchers go on from where they were, by way of history.
    pub fn restore(&mut self) {
        for (place, watcher) in (0..).zip(&mut self.list) {
            let Some(watcher) = watcher.as_mut().filter(|watcher| watcher.synced) else { continue };
            watcher.synced = false;
            self.synced.remove(place, &watcher.request.range);
            self.unsynced.insert(place);
        }
    }

    /// Answers a client's question how far a stream has come. No answer if one of its watches has not come so far;
    /// clients ask again.
    pub fn progress<V: Value>(&self, stream: StreamId, view: &View<V>) -> Option<WatchResponse<V>> {
        let watches = &self.streams.get(&stream)?.watches;
        let present = view.revision();
        let all_there = watches.values().all(|&place| self.has_reached(place, present));
        (all_there && !watches.is_empty()).then_some(WatchResponse {
            stream: stream.stream,
            watch: None,
            revision: present,
            body: WatchBody::Progress,
        })
    }

    /// When the next stream wants to speak of its progress.
    pub fn next_progress(&self) -> Option<SimTime> {
        self.streams.values().filter_map(|stream| stream.progress_at).min()
    }

    /// Speaks of progress on the streams whose time has come: to each watch that asked for it, is synced, and had
    /// nothing else to say since the last time.
    pub fn tick_progress<V: Value>(&mut self, now: SimTime, view: &View<V>, send: &mut impl FnMut(Addressed<V>)) {
        let present = view.revision();
        let mut due: SmallVec<[Place; 16]> = SmallVec::new();
        for stream in self.streams.values_mut() {
            if stream.progress_at.is_some_and(|at| at <= now) {
                stream.progress_at = Some(now + stream.period);
                due.extend(stream.watches.values().copied());
            }
        }
        for place in due {
            let reached = self.has_reached(place, present);
            let Some(watcher) = &mut self.list[place as usize] else { continue };
            if watcher.request.progress && watcher.quiet && reached {
                send(watcher.respond(present, WatchBody::Progress));
            }
            watcher.quiet = true;
        }
    }

    /// Whether a watcher has been told of everything up to the present, and its beginning is not in the future.
    fn has_reached(&self, place: Place, present: u64) -> bool {
        self.list[place as usize].as_ref().is_some_and(|watcher| watcher.synced && watcher.request.start <= present)
    }

    fn remove(&mut self, place: Place) {
        let Some(watcher) = self.list[place as usize].take() else { return };
        if watcher.synced {
            self.synced.remove(place, &watcher.request.range);
        } else {
            self.unsynced.remove(&place);
        }
        if let Some(stream) = self.streams.get_mut(&watcher.stream) {
            stream.watches.remove(&watcher.request.id);
        }
        self.free.push(place);
    }
}

impl Watcher {
    fn respond<V>(&self, revision: u64, body: WatchBody<V>) -> Addressed<V> {
        let response = WatchResponse { stream: self.stream.stream, watch: Some(self.request.id), revision, body };
        (self.stream.client, response)
    }

    /// The events from the next revision to the present, and where to go on if there were too many.
    fn collect<V: Value>(&self, view: &View<V>, present: u64) -> (Vec<WatchEvent<V>>, Option<u64>) {
        let (mut events, mut more) = (Vec::new(), None);
        let (mut revisions, mut last) = (0, 0);
        view.each_change(self.next, present, |written| {
            if !self.request.range.contains(written.key()) {
                return true;
            }
            let Some(kv) = written.after() else { return true };
            if self.request.filters_out(kv.value.is_none()) {
                return true;
            }
            if written.revision() != last {
                if revisions == REVISIONS_PER_BATCH {
                    more = Some(written.revision());
                    return false;
                }
                (last, revisions) = (written.revision(), revisions + 1);
            }
            let previous = if self.request.previous { written.before() } else { None };
            events.push(WatchEvent { kv, previous });
            true
        });
        (events, more)
    }
}

impl WatchRequest {
    fn filters_out(&self, is_delete: bool) -> bool {
        if is_delete { self.no_deletes } else { self.no_puts }
    }
}
