//! The container runtime: the interface through which a kubelet acts on containers, and the simulated one behind it.
//!
//! Knows images, sandboxes and containers; never the API, never a kubelet's reasons.
//!
//! - `interface`: actions, events and ids: all that a kubelet and a runtime say to one another
//! - `size`: amounts of bytes as a scenario writes them
//! - `span`: lengths of time and distributions as a scenario writes them
//! - `user`: the user of an image as a scenario writes it
//! - `model`: what an image does once it runs, as a scenario describes it
//! - `images`: the node's image store and pulls at the node's bandwidth
//! - `addresses`: pod addresses out of the node's range
//! - `instance`: the life of one simulated container, drawn when it starts
//! - `usage`: what the containers of a node use together, and what the kernel does when memory runs out
//! - `simulated`: the runtime that answers from models

pub mod addresses;
pub mod images;
pub mod instance;
pub mod interface;
pub mod model;
pub mod simulated;
pub mod size;
pub mod span;
pub mod usage;
pub mod user;
