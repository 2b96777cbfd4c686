//! The kubelet: brings what the API wants of one node's pods together with what the node's container runtime has.
//!
//! A process of its own on every node. It knows the API through its client and containers through the runtime's actions
//! and events; it never sees another component.
//!
//! - `agent`: the process: its inputs, and which part of it each one concerns
//! - `settings`: what a kubelet is made of: node, timings, profile
//! - `tokens`: its timers
//! - `clock`: the clock of its machine, which may be wrong
//! - `shared`: what all its pods share: client, recorder, clocks, queues
//! - `node`: registration, lease and status of the node
//! - `admission`: whether a pod that was bound here may run here
//! - `worker`: one pod: what is wanted, what was seen, what is being done
//! - `relist`: how changes in the runtime come to be seen (the generic PLEG)
//! - `sync`: one pass over a pod that runs or is to run
//! - `stand_in`: what the stand-in of the recordings reads from annotations
//! - `start`: starting one container: back-off, image, create, start, hook
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
pub mod agent;
pub mod back_off;
pub mod clock;
pub mod conditions;
pub mod killing;
pub mod node;
pub mod probes;
pub mod puller;
pub mod relist;
pub mod restore;
pub mod settings;
pub mod shared;
mod stand_in;
mod start;
pub mod status;
pub mod sync;
pub mod terminate;
pub mod tokens;
pub mod worker;
pub mod writer;

#[cfg(test)]
mod tests;

pub use agent::{Command, Kubelet, KubeletInput, NodeContext};
pub use settings::{KubeletProfile, KubeletSettings, KubeletTimings};
