//! The kubelet: brings what the API wants of one node's pods together with what the node's container runtime has.
//!
//! A process of its own on every node. It knows the API through its client and containers through the runtime's actions
//! and events; it never sees another component.
//!
//! - `mirror`: static pods and their mirrors in the API
//! - `agent`: the process: its inputs, and which part of it each one concerns
//! - `settings`: what a kubelet is made of: node, timings, profile
//! - `tokens`: its timers
//! - `clock`: the clock of its machine, which may be wrong
//! - `shared`: what all its pods share: client, recorder, clocks, queues
//! - `node`: registration, lease and status of the node
//! - `configuration`: what an administrator may say to a kubelet
//! - `admission`: whether a pod that was bound here may run here
//! - `room`: what is set aside for the pods of the node
//! - `preemption`: ends pods so that a critical one has room
//! - `affinity`: whether a pod is for the node at all
//! - `qos`: what a pod's class of service means on its node
//! - `thresholds`: how much of the node's resources must be left
//! - `eviction`: ends pods when something runs short, or when they write more than they may
//! - `volume_stats`: when the volumes of pods are measured
//! - `image_gc`: takes images away that no container uses
//! - `worker`: one pod: what is wanted, what was seen, what is being done
//! - `relist`: how changes in the runtime come to be seen (the generic PLEG)
//! - `resize`: pods that get more or less while they run
//! - `reset`: restarts all containers of a pod in place because one of them asks for it
//! - `claims`: volumes behind claims, which must be bound before a pod can run
//! - `sources`: ConfigMaps and Secrets that a pod needs before it can run
//! - `sync`: one pass over a pod that runs or is to run
//! - `shutdown`: ends the pods in order before the machine is switched off
//! - `stand_in`: what the stand-in of the recordings reads from annotations
//! - `start`: starting one container: back-off, image, create, start, hook
//! - `user`: containers that must not run as root
//! - `actions`: what a pass has to do: compares a pod with its containers
//! - `terminate`: one pass over a pod that must end, and what follows
//! - `killing`: stopping containers with their hooks, order and grace
//! - `puller`: image pulls one after another, and what images are there
//! - `back_off`: how long to leave a container or an image alone
//! - `probes`: readiness, liveness and startup probes
//! - `status`: the pod status as it follows from what was seen
//! - `conditions`: the pod's phase and conditions
//! - `writer`: gets statuses into the API, one pod after the other
//! - `restore`: finds the pods again that an earlier kubelet left behind

pub mod actions;
pub mod admission;
pub mod affinity;
pub mod agent;
pub mod back_off;
pub mod claims;
pub mod clock;
pub mod conditions;
pub mod configuration;
pub mod eviction;
pub mod image_gc;
pub mod killing;
pub mod mirror;
pub mod node;
pub mod preemption;
pub mod probes;
pub mod puller;
pub mod qos;
pub mod relist;
pub mod reset;
pub mod resize;
pub mod restore;
pub mod room;
pub mod settings;
pub mod shared;
pub mod shutdown;
pub mod sources;
mod stand_in;
pub mod start;
pub mod status;
pub mod sync;
pub mod terminate;
pub mod thresholds;
pub mod tokens;
pub mod user;
pub mod volume_stats;
pub mod worker;
pub mod writer;

#[cfg(test)]
mod tests;

pub use agent::{Command, Kubelet, KubeletInput, NodeContext};
pub use configuration::Configuration;
pub use settings::{KubeletProfile, KubeletSettings, KubeletTimings};
