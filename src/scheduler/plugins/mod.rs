//! The plugins, one file each, and what several of them share.
//!
//! - `scheduling_gates`, `priority_sort`: who may enter the queue, and who goes first
//! - `node_unschedulable`, `node_name`, `taint_toleration`, `node_affinity`, `node_ports`, `fit`: which nodes are possible
//! - `volume_restrictions`, `node_volume_limits`, `volume_binding`, `volume_zone`: the same for the pod's volumes
//! - `node_declared_features`: the same for what its kubelet can do
//! - `balanced_allocation`, `image_locality`: which of them are good
//! - `dynamic_resources`: resource claims; with `default_preemption`: what is said of a pod that fits nowhere
//! - `default_binder`: how a pod is bound
//! - `pod_topology_spread`, `inter_pod_affinity`: where other pods are
//! - `allocation`: how much of which resources is used, and what that is worth

mod allocation;
pub mod balanced_allocation;
pub mod default_binder;
pub mod default_preemption;
pub mod dynamic_resources;
pub mod fit;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_declared_features;
pub mod node_name;
pub mod node_ports;
pub mod node_unschedulable;
pub mod node_volume_limits;
pub mod pod_topology_spread;
pub mod priority_sort;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

use crate::api::tolerations;
