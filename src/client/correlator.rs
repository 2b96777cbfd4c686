//! Which events are written, which counted on an earlier one, which dropped (client-go, `tools/record/events_cache.go`).
//!
//! Three tables: how many different messages an object has had for a reason (ten in ten minutes make one combined
//! event), which event was seen before (it is counted up), and how many events an object may have of a component
//! (25 at once, then one in five minutes). Keys are hashes of the fields that client-go joins to a text.

use std::collections::BTreeMap;

use super::rate_limit::RateLimit;
use super::recent::{Recent, digest};
use super::recorder::{Draft, Stamp};
use crate::engine::time::{SimDuration, SimTime};

/// Different messages for one reason from which on they are combined (`defaultAggregateMaxEvents`).
const COMBINE_FROM: usize = 10;

/// After how long without one, messages are counted anew (`defaultAggregateIntervalInSeconds`).
const COMBINE_WITHIN: SimDuration = SimDuration::from_secs(600);

/// Events of one type that a component may write about one object at once, and in how much time it may write one more
/// (`defaultSpamBurst`, `defaultSpamQPS`).
const SPAM_BURST: u32 = 25;
const SPAM_REFILL: SimDuration = SimDuration::from_secs(300);

/// What a component has said so far.
#[derive(Default)]
pub(super) struct Correlator {
    similar: Recent<Similar>,
    /// Hashes of messages where there are several, the oldest first, at most ten; by the key of the similar ones.
    several: BTreeMap<u64, Vec<u64>>,
    seen: Recent<Seen>,
    /// When the bucket of an object would be full again.
    spam: Recent<SimTime>,
}

/// The different messages of late. Mostly there is one. Packed, because every kubelet keeps some for each of its pods.
#[derive(Clone, Copy)]
#[repr(Rust, packed(4))]
struct Similar {
    /// The hash of the first message.
    message: u64,
    /// When the last one came.
    last: SimTime,
    /// There were others.
    has_several: bool,
}

/// An event that was made: how often since, and when it was first, which is in its name too. Packed for the same reason.
#[derive(Clone, Copy)]
#[repr(Rust, packed(4))]
struct Seen {
    count: i32,
    first: Stamp,
}

impl Correlator {
    /// What becomes of an event: counted and named as it is to be written, or none if it is spam.
    /// `stamp` names a combined event.
    pub(super) fn correlate(&mut self, mut draft: Box<Draft>, now: SimTime, stamp: Stamp) -> Option<Box<Draft>> {
        let about = &draft.note.regarding;
        let fields = [&about.kind, &about.namespace, &about.name, &about.api_version].map(|field| field.as_str());
        let uid = [(about.uid.0 >> 64) as u64, about.uid.0 as u64, draft.note.kind as u64];
        let spam_key = digest(fields, &uid);
        let similar_key = digest(fields.into_iter().chain([draft.note.reason.as_str()]), &uid);
        let message = digest([draft.note.message.as_str()], &[]);
        let mut key = digest([about.field_path.as_str()], &[similar_key, message]);

        if self.is_one_of_many(similar_key, message, now) {
            key = similar_key;
            draft.note.message.insert_str(0, "(combined from similar events): ");
            draft.several = true;
            draft.first = stamp;
            draft.last = stamp;
        }
        let seen = self.seen.entry(key, || Seen { count: 0, first: draft.first });
        seen.count = seen.count.saturating_add(1);
        (draft.count, draft.first) = (seen.count, seen.first);

        self.spam.sweep(|full_at| *full_at > now);
        let full_at = self.spam.entry(spam_key, SimTime::default);
        let mut limit = RateLimit::every(SPAM_REFILL, SPAM_BURST).full_at(*full_at);
        let allowed = limit.try_take(now);
        *full_at = limit.is_full_at();
        allowed.then_some(draft)
    }

    /// Forgets what is as good as forgotten.
    pub(super) fn tidy(&mut self, now: SimTime) {
        self.spam.tidy(|full_at| *full_at > now);
        self.similar.tidy(|similar| similar.is_recent(now));
        self.several.retain(|key, _| self.similar.get(*key).is_some_and(|similar| similar.has_several));
    }

    /// Counts different messages; true if there are too many to write each.
    fn is_one_of_many(&mut self, key: u64, message: u64, now: SimTime) -> bool {
        self.similar.sweep(|similar| similar.is_recent(now));
        let similar = self.similar.entry(key, || Similar { message, last: now, has_several: false });
        if !similar.is_recent(now) {
            (similar.message, similar.has_several) = (message, false);
        }
        similar.last = now;
        let first = similar.message;
        if !similar.has_several {
            if first == message {
                return false;
            }
            similar.has_several = true;
            self.several.insert(key, vec![first]);
        }
        let messages = self.several.entry(key).or_default();
        if !messages.contains(&message) {
            messages.push(message);
        }
        if messages.len() < COMBINE_FROM {
            return false;
        }
        messages.remove(0);
        true
    }
}

impl Similar {
    fn is_recent(&self, now: SimTime) -> bool {
        now.since(self.last) <= COMBINE_WITHIN
    }
}
