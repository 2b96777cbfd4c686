//! What an administrator may say to a kubelet: the fields of a `KubeletConfiguration` that make a difference here.

use crate::api::resources::Resources;
use crate::engine::time::SimDuration;

use super::shutdown::ShutdownGrace;
use super::thresholds::{Counts, Level, Signal, Threshold};

/// For how many bytes of a filesystem mke2fs makes an inode (`inode_ratio`).
const BYTES_PER_INODE: i64 = 16_384;

/// A kubelet's configuration, with the defaults of Kubernetes 1.36.
#[derive(Clone, PartialEq, Debug)]
pub struct Configuration {
    /// When pods are evicted because something runs short, hard thresholds before soft ones (`evictionHard`, `evictionSoft`).
    pub thresholds: Vec<Threshold>,
    /// How long a condition is kept after it was last seen (`evictionPressureTransitionPeriod`): 5 min.
    pub pressure_transition: SimDuration,
    /// The longest grace of pods that a soft threshold evicts, in seconds (`evictionMaxPodGracePeriod`): 0.
    pub longest_eviction_grace: i64,
    /// What is kept for the system and for Kubernetes (`systemReserved`, `kubeReserved`).
    pub reserved: Resources,
    /// When images are collected (`imageGCHighThresholdPercent`, `imageGCLowThresholdPercent`, `imageMinimumGCAge`).
    pub image_collection: ImageCollection,
    /// How many pulls go on at a time (`serializeImagePulls`, `maxParallelImagePulls`): 1; zero for any number.
    pub parallel_pulls: u32,
    /// How many processes the node can have.
    pub pids: i64,
    /// How many inodes the node's filesystem has; none for one for each 16 KiB, as mke2fs makes them.
    pub inodes: Option<i64>,
    /// How long a shutdown is held up: 0.
    pub shutdown: ShutdownGrace,
}

/// When images that no container uses are taken from the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageCollection {
    /// If more than this share of the disk is used, in percent: 85.
    pub high_percent: u32,
    /// Down to this share, in percent: 80.
    pub low_percent: u32,
    /// Only those that have been there for so long: 2 min.
    pub least_age: SimDuration,
    /// How often that is looked at (kubelet, `ImageGCPeriod`): 5 min.
    pub period: SimDuration,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            thresholds: with_allocatable(Threshold::defaults()),
            pressure_transition: SimDuration::from_secs(300),
            longest_eviction_grace: 0,
            reserved: Resources::default(),
            image_collection: ImageCollection {
                high_percent: 85,
                low_percent: 80,
                least_age: SimDuration::from_secs(120),
                period: SimDuration::from_secs(300),
            },
            parallel_pulls: 1,
            // fs.pid_max of a machine with systemd.
            pids: 4_194_304,
            inodes: None,
            shutdown: ShutdownGrace::default(),
        }
    }
}

/// Adds for each hard threshold of memory the same for what pods may use together (eviction, `addAllocatableThresholds`).
pub fn with_allocatable(mut thresholds: Vec<Threshold>) -> Vec<Threshold> {
    let hard = |one: &&Threshold| one.signal == Signal::MemoryAvailable && one.grace == SimDuration::ZERO;
    let more: Vec<Threshold> = thresholds
        .iter()
        .filter(hard)
        .map(|one| Threshold { signal: Signal::AllocatableMemoryAvailable, ..*one })
        .collect();
    thresholds.extend(more);
    thresholds
}

impl Configuration {
    /// How many processes and inodes a node of this capacity has.
    pub fn counts(&self, capacity: &Resources) -> Counts {
        Counts { pids: self.pids, inodes: self.inodes.unwrap_or(capacity.ephemeral_storage / BYTES_PER_INODE) }
    }

    /// What pods may use of a node: all that is not kept for the system and not below a hard threshold (cm,
    /// `GetNodeAllocatableReservation`).
    pub fn allocatable(&self, capacity: &Resources) -> Resources {
        let hard = |signal: Signal, capacity: i64| {
            let mut levels =
                self.thresholds.iter().filter(|one| one.signal == signal && one.grace == SimDuration::ZERO);
            levels.next().map_or(0, |one| Level::of(one.level, capacity).value())
        };
        let mut allocatable = capacity.clone() - &self.reserved;
        allocatable.memory -= hard(Signal::MemoryAvailable, capacity.memory);
        allocatable.ephemeral_storage -= hard(Signal::NodeFsAvailable, capacity.ephemeral_storage);
        allocatable.milli_cpu = allocatable.milli_cpu.max(0);
        allocatable.memory = allocatable.memory.max(0);
        allocatable.ephemeral_storage = allocatable.ephemeral_storage.max(0);
        allocatable
    }
}
