//! A kubelet's timers: what is written on each, to know it again. All are below the client library's.

use crate::engine::process::Token;
use crate::runtime::interface::{PodNumber, ProbeKind};

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// The runtime is listed for the pods of which something is to be seen.
    Relist,
    /// Pods whose time has come are synced.
    SyncTick,
    /// The status at the head of the queue has been read and can be written.
    StatusRead,
    /// Statuses that are not in the API are written again.
    StatusRecheck,
    /// The node registers itself.
    Register,
    /// The node's status is looked at.
    NodeStatus,
    /// The lease is renewed.
    Lease,
    /// The wait that a pod's job is in is over.
    Job(PodNumber),
    /// The grace of a container's preStop hook, or its wait for its turn, is over.
    Grace(PodNumber, u16),
    /// A probe is due.
    Probe(PodNumber, u16, ProbeKind),
    /// What the runtime has of pods that are not known is ended.
    Housekeeping,
    /// What is used of the node is looked at.
    Monitor,
    /// Images that nobody uses are collected.
    ImageGc,
    /// A volume that could not be mounted is tried again.
    Volume(PodNumber, u16),
    /// The grace of a stray container's preStop hook is over.
    StrayGrace(PodNumber, u16),
    /// The time that a group of pods has for a shutdown is over.
    Shutdown,
    /// A pod that ends to make room for another one has taken too long.
    Preemption,
    /// It is looked whether the node was read, so that its pods can be.
    PodSource,
    /// The claims of a pod are looked at.
    Claims(PodNumber),
}

impl Timer {
    /// The number for the timer.
    pub fn token(self) -> Token {
        let of = |kind: u64, index: u64, pod: u32| kind << 56 | index << 32 | u64::from(pod);
        match self {
            Timer::Relist => of(1, 0, 0),
            Timer::SyncTick => of(2, 0, 0),
            Timer::StatusRead => of(3, 0, 0),
            Timer::StatusRecheck => of(4, 0, 0),
            Timer::Register => of(5, 0, 0),
            Timer::NodeStatus => of(6, 0, 0),
            Timer::Lease => of(7, 0, 0),
            Timer::Job(pod) => of(8, 0, pod.0),
            Timer::Grace(pod, index) => of(9, u64::from(index), pod.0),
            Timer::Probe(pod, index, kind) => of(10 + kind as u64, u64::from(index), pod.0),
            Timer::Housekeeping => of(13, 0, 0),
            Timer::Monitor => of(14, 0, 0),
            Timer::ImageGc => of(15, 0, 0),
            Timer::Volume(pod, index) => of(16, u64::from(index), pod.0),
            Timer::StrayGrace(pod, index) => of(17, u64::from(index), pod.0),
            Timer::Shutdown => of(18, 0, 0),
            Timer::Preemption => of(19, 0, 0),
            Timer::PodSource => of(20, 0, 0),
            Timer::Claims(pod) => of(21, 0, pod.0),
        }
    }

    /// The timer behind a number.
    pub fn of(token: Token) -> Option<Timer> {
        let (pod, index) = (PodNumber(token as u32), (token >> 32) as u16);
        Some(match token >> 56 {
            1 => Timer::Relist,
            2 => Timer::SyncTick,
            3 => Timer::StatusRead,
            4 => Timer::StatusRecheck,
            5 => Timer::Register,
            6 => Timer::NodeStatus,
            7 => Timer::Lease,
            8 => Timer::Job(pod),
            9 => Timer::Grace(pod, index),
            10 => Timer::Probe(pod, index, ProbeKind::Readiness),
            11 => Timer::Probe(pod, index, ProbeKind::Liveness),
            12 => Timer::Probe(pod, index, ProbeKind::Startup),
            13 => Timer::Housekeeping,
            14 => Timer::Monitor,
            15 => Timer::ImageGc,
            16 => Timer::Volume(pod, index),
            17 => Timer::StrayGrace(pod, index),
            18 => Timer::Shutdown,
            19 => Timer::Preemption,
            20 => Timer::PodSource,
            21 => Timer::Claims(pod),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_known_again() {
        let pod = PodNumber(u32::MAX);
        for timer in [
            Timer::Relist,
            Timer::Lease,
            Timer::Housekeeping,
            Timer::Job(pod),
            Timer::Grace(pod, 7),
            Timer::Volume(pod, 3),
            Timer::Claims(pod),
            Timer::Probe(pod, u16::MAX, ProbeKind::Startup),
        ] {
            assert_eq!(Timer::of(timer.token()), Some(timer));
        }
        assert_eq!(Timer::of(u64::MAX), None);
    }
}
