//! Eviction thresholds: which amount of which resource must be left on a node, and what is left of it.
//!
//! Follows the kubelet's eviction package (`ParseThresholdConfig`, `GetThresholdQuantity`, `makeSignalObservations`). Images,
//! containers and volumes share one filesystem, so `nodefs` and `imagefs` show the same.

use crate::api::name::Name;
use crate::api::quantity::{Format, Quantity};
use crate::api::resources::Resources;
use crate::engine::time::SimDuration;
use crate::runtime::interface::NodeUsage;

/// What is watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the kubelet's own words")]
pub enum Signal {
    MemoryAvailable,
    AllocatableMemoryAvailable,
    NodeFsAvailable,
    NodeFsInodesFree,
    ImageFsAvailable,
    ImageFsInodesFree,
    PidAvailable,
}

/// A node condition that says that something runs short.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum Pressure {
    Memory,
    Disk,
    Pid,
}

/// An amount: as a quantity or as a share of what there is.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    /// So much.
    Amount(Quantity),
    /// Such a share of the capacity, as the kubelet holds it.
    Share(f32),
}

/// A threshold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Threshold {
    /// What is watched.
    pub signal: Signal,
    /// How much must be left.
    pub level: Level,
    /// How long less may be left before pods are evicted; zero for a hard threshold.
    pub grace: SimDuration,
    /// How much more than the level must be left before the matter is settled.
    pub reclaim: Option<Level>,
}

/// What is left of a resource, and of how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// What is left.
    pub available: i64,
    /// What there is.
    pub capacity: i64,
}

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Level::Amount(left), Level::Amount(right)) => left.value() == right.value(),
            (Level::Share(left), Level::Share(right)) => left == right,
            _ => false,
        }
    }
}

impl Signal {
    /// The signal of a name in the kubelet's configuration.
    pub fn of(name: &str) -> Option<Signal> {
        Some(match name {
            "memory.available" => Signal::MemoryAvailable,
            "nodefs.available" => Signal::NodeFsAvailable,
            "nodefs.inodesFree" => Signal::NodeFsInodesFree,
            "imagefs.available" => Signal::ImageFsAvailable,
            "imagefs.inodesFree" => Signal::ImageFsInodesFree,
            "pid.available" => Signal::PidAvailable,
            _ => return None,
        })
    }

    /// The resource that runs short (`signalToResource`).
    pub fn resource(self) -> &'static str {
        match self {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => "memory",
            Signal::NodeFsAvailable | Signal::ImageFsAvailable => "ephemeral-storage",
            Signal::NodeFsInodesFree | Signal::ImageFsInodesFree => "inodes",
            Signal::PidAvailable => "pids",
        }
    }

    /// The condition that the node then has (`signalToNodeCondition`).
    pub fn pressure(self) -> Pressure {
        match self {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => Pressure::Memory,
            Signal::NodeFsAvailable | Signal::ImageFsAvailable => Pressure::Disk,
            Signal::NodeFsInodesFree | Signal::ImageFsInodesFree => Pressure::Disk,
            Signal::PidAvailable => Pressure::Pid,
        }
    }
}

impl Pressure {
    /// All of them, in the order in which the kubelet sets them.
    pub const ALL: [Pressure; 3] = [Pressure::Memory, Pressure::Disk, Pressure::Pid];

    /// The condition's type.
    pub const fn condition(self) -> Name {
        Name::of(match self {
            Pressure::Memory => "MemoryPressure",
            Pressure::Disk => "DiskPressure",
            Pressure::Pid => "PIDPressure",
        })
    }
}

impl Level {
    /// Reads an amount: a quantity such as `100Mi`, or a share such as `10%`.
    pub fn parse(text: &str) -> Result<Level, String> {
        let wrong = |why: String| format!("{text:?} is neither a quantity nor a percentage: {why}");
        if let Some(number) = text.strip_suffix('%') {
            let number: f32 = number.trim().parse().map_err(|_| wrong("not a number".to_owned()))?;
            if !(0.0..=100.0).contains(&number) {
                return Err(wrong("expected 0% to 100%".to_owned()));
            }
            return Ok(Level::Share(number / 100.0));
        }
        let amount = Quantity::parse(text).map_err(|error| wrong(error.to_string()))?;
        if amount.is_negative() { Err(wrong("less than nothing".to_owned())) } else { Ok(Level::Amount(amount)) }
    }

    /// How much it is of a capacity (eviction/api: `GetThresholdQuantity`, in the order of its operations).
    pub fn of(self, capacity: i64) -> Quantity {
        match self {
            Level::Amount(amount) => amount,
            Level::Share(share) => Quantity::from_value((capacity as f64 * f64::from(share)) as i64, Format::BinarySi),
        }
    }
}

impl Threshold {
    /// A hard threshold.
    pub fn hard(signal: Signal, level: Level) -> Self {
        Threshold { signal, level, grace: SimDuration::ZERO, reclaim: None }
    }

    /// The hard thresholds that a kubelet has if nobody says anything (eviction, `DefaultEvictionHard`).
    pub fn defaults() -> Vec<Threshold> {
        vec![
            Threshold::hard(Signal::MemoryAvailable, Level::Amount(Quantity::from_value(100 << 20, Format::BinarySi))),
            Threshold::hard(Signal::NodeFsAvailable, Level::Share(10.0 / 100.0)),
            Threshold::hard(Signal::NodeFsInodesFree, Level::Share(5.0 / 100.0)),
            Threshold::hard(Signal::ImageFsAvailable, Level::Share(15.0 / 100.0)),
            Threshold::hard(Signal::ImageFsInodesFree, Level::Share(5.0 / 100.0)),
        ]
    }

    /// True if less is left than must be; with `reclaim` also if not enough more is.
    pub fn is_met(&self, observation: Observation, reclaim: bool) -> bool {
        let mut least = self.level.of(observation.capacity).value();
        if let Some(more) = self.reclaim.filter(|_| reclaim) {
            least = least.saturating_add(more.of(observation.capacity).value());
        }
        least > observation.available
    }
}

/// What a node has of what its capacity does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Processes.
    pub pids: i64,
    /// Inodes of its filesystem.
    pub inodes: i64,
}

/// What is left of a resource on a node of this capacity, of which so much is kept for the system.
pub fn observe(
    signal: Signal,
    usage: &NodeUsage,
    capacity: &Resources,
    reserved: &Resources,
    counts: Counts,
) -> Observation {
    let left = |capacity: i64, used: u64| {
        let used = i64::try_from(used).unwrap_or(i64::MAX);
        Observation { available: capacity.saturating_sub(used).max(0), capacity }
    };
    match signal {
        Signal::MemoryAvailable => left(capacity.memory, usage.memory),
        Signal::AllocatableMemoryAvailable => left(capacity.memory.saturating_sub(reserved.memory), usage.memory),
        Signal::NodeFsAvailable | Signal::ImageFsAvailable => left(capacity.ephemeral_storage, usage.disk),
        Signal::NodeFsInodesFree | Signal::ImageFsInodesFree => left(counts.inodes, usage.inodes),
        Signal::PidAvailable => left(counts.pids, usage.processes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_quantities_or_shares() {
        assert_eq!(Level::parse("100Mi").map(|level| level.of(0).to_string()), Ok("100Mi".to_owned()));
        assert_eq!(Level::parse("10%").map(|level| level.of(1 << 30).value()), Ok(107_374_184));
        for text in ["", "ten", "-1Mi", "101%", "x%"] {
            assert!(Level::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_threshold_is_met_when_less_is_left_and_settled_when_enough_more_is() {
        let level = |text: &str| Level::parse(text).expect("a level");
        let threshold = Threshold { reclaim: Some(level("50")), ..Threshold::hard(Signal::PidAvailable, level("100")) };
        let left = |available| Observation { available, capacity: 1000 };
        assert_eq!([99, 100, 149, 150].map(|rest| threshold.is_met(left(rest), false)), [true, false, false, false]);
        assert_eq!([99, 100, 149, 150].map(|rest| threshold.is_met(left(rest), true)), [true, true, true, false]);
    }
}
