//! What the stand-in kubelet of the recordings reads from a pod's annotations: `fake/ready-delay`, how long after its start a
//! container becomes ready, and `fake/ready`, which makes it unready while it says `false`.
//!
//! The stand-in has no probes; these take their place.

use crate::api::name::Name;
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::span::Span;

use super::shared::Shared;
use super::worker::{Instance, Worker};

/// Says whether the containers are ready.
const READY: Name = Name::of("fake/ready");
/// Says how long a container takes to become ready.
const READY_DELAY: Name = Name::of("fake/ready-delay");

impl Worker {
    /// Whether the stand-in takes a container that runs for ready.
    pub fn stand_in_ready(&self, index: u16, shared: &Shared, now: SimTime) -> bool {
        if !shared.settings.profile.annotations {
            return true;
        }
        let is_off = self.pod.meta.annotations.get(&READY).is_some_and(|value| *value == "false");
        !is_off && self.stand_in_ready_at(index).is_none_or(|at| at <= now)
    }

    /// When the next container becomes ready by itself, if one does.
    pub fn stand_in_due(&self, shared: &Shared, now: SimTime) -> Option<SimTime> {
        if !shared.settings.profile.annotations {
            return None;
        }
        self.main_indexes().filter_map(|index| self.stand_in_ready_at(index)).filter(|at| *at > now).min()
    }

    fn stand_in_ready_at(&self, index: u16) -> Option<SimTime> {
        let Instance::Running { since, .. } = self.record(index).instance else { return None };
        let delay = self.pod.meta.annotations.get(&READY_DELAY)?;
        Some(since + delay.parse::<Span>().map_or(SimDuration::ZERO, |span| span.0))
    }
}
