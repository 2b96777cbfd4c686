//! The plugins, one file each, and what several of them share.
//!
//! - `scheduling_gates`, `priority_sort`: who may enter the queue, and who goes first
//! - `node_unschedulable`, `node_name`, `taint_toleration`, `node_affinity`, `node_ports`, `fit`: which nodes are possible
//! - `balanced_allocation`, `image_locality`: which of them are good
//! - `dynamic_resources`, `default_preemption`: what is said of a pod that fits nowhere
//! - `default_binder`: how a pod is bound
//! - `pod_topology_spread`, `inter_pod_affinity`: where other pods are
//! - `allocation`: how much of which resources is used, and what that is worth
//! - `tolerations`, `node_selector`: rules that API types carry

mod allocation;
pub mod balanced_allocation;
pub mod default_binder;
pub mod default_preemption;
pub mod dynamic_resources;
pub mod fit;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
mod node_selector;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod priority_sort;
pub mod scheduling_gates;
pub mod taint_toleration;
mod tolerations;
