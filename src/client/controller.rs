//! The shape of every control loop.

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::engine::time::SimDuration;

use super::plan::Plan;
use super::view::{Now, View};
use super::work_queue::RetryDelays;

/// A control loop. Level-triggered: it decides from what the cache shows, never from having seen every change.
///
/// The harness around it (informers, work queue, workers, rate limits, back-off, expectations) is the same for all
/// and lives beside this file.
pub trait Controller {
    /// The name by which the controller's requests and events are known, as `deployment-controller`.
    fn name(&self) -> &'static str;

    /// The component that the controller's events name.
    fn event_source(&self) -> &'static str {
        self.name()
    }

    /// How many keys may be worked on at the same time.
    fn workers(&self) -> usize;

    /// The kinds that the controller's cache must hold.
    fn watches(&self) -> &'static [Kind];

    /// Puts into the queue the keys that a change concerns. `enqueue` takes a key and how long to wait first.
    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration));

    /// How often every key is looked at again with no change (`--min-resync-period` and the like); none for never.
    fn resync(&self) -> Option<SimDuration> {
        None
    }

    /// The kinds of which a resync tells.
    fn resynced(&self) -> &'static [Kind] {
        self.watches()
    }

    /// True if `resync` is kept to the nanosecond; else it is stretched at random, lest all controllers resync at once.
    fn resyncs_exactly(&self) -> bool {
        false
    }

    /// A key that comes up again and again, and how often: a monitor loop that is not about one object.
    fn periodic(&self) -> Option<(ObjectKey, SimDuration)> {
        None
    }

    /// True if a key is of a second sort, with a queue and workers of its own, as many as for the others.
    fn is_apart(&self, _key: &ObjectKey) -> bool {
        false
    }

    /// How much more than others the controller may ask: factors on the requests a second and on the burst.
    fn limit_factors(&self) -> (u32, u32) {
        (1, 1)
    }

    /// How long a key that failed waits for its next try.
    fn retry_delays(&self) -> RetryDelays {
        RetryDelays::default()
    }

    /// How long from the moment in which an informer sees a change until a worker begins with the key, if that is less than
    /// for others.
    fn reaction(&self) -> Option<SimDuration> {
        None
    }

    /// After how many tries in a row a failing key is left alone until something changes; none for never.
    fn max_retries(&self) -> Option<u32> {
        None
    }

    /// The kinds of which the cache must show what the controller wrote about a key before it looks at that key again.
    /// A look that comes too early counts as failed and is tried again with back-off
    /// (kube-controller-manager, util/consistency; on for most workload controllers from 1.36 on).
    fn reads_its_writes(&self) -> &'static [Kind] {
        &[]
    }

    /// Decides what to do about a key. Pure: the same view, key and time give the same plan.
    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan;

    /// Asked in place of `reconcile` while the cache has not yet shown what a [`Step::Expect`] of the key announced:
    /// what may be done without counting on it, as writing the status
    /// (kube-controller-manager, ReplicaSet: an unsatisfied expectation stops creations and deletions, not the status).
    ///
    /// [`Step::Expect`]: super::plan::Step::Expect
    fn reconcile_expecting(&self, _view: &View<'_>, _key: &ObjectKey, _now: Now) -> Plan {
        Plan::nothing()
    }
}

/// A change that an informer has seen.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The object is new to the cache.
    Added(&'a Object),
    /// The object was replaced by a newer version; both are the same one at a resync.
    Updated {
        /// What the cache held.
        old: &'a Object,
        /// What it holds now.
        new: &'a Object,
    },
    /// The object is gone; this is its last known state.
    Deleted(&'a Object),
}

impl<'a> Change<'a> {
    /// The newest state known.
    pub fn object(&self) -> &'a Object {
        match self {
            Change::Added(object) | Change::Updated { new: object, .. } | Change::Deleted(object) => object,
        }
    }
}
