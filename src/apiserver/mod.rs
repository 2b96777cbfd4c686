//! The API server: request pipeline, admission, registry and watch cache.
//!
//! - `protocol`: what clients and servers say to one another
//! - `status`: how a request fails
//! - `server`: the process: its inputs, and which part of it each one concerns
//! - `pipeline`: the way of a request through the server; `answers`: how it goes on when etcd has answered
//! - `bootstrap`: what every cluster has
//! - `task`: one request on its way through the pipeline
//! - `complete`: defaults and validation
//! - `change`: what a request makes of an object that is there
//! - `doubt`: writes of which nobody knows what became of them
//! - `deletion`: graceful deletion, finalizers, propagation
//! - `eviction`: disruption budgets, asked before a pod goes
//! - `commons`: what objects have in common, kept once
//! - `collection`: the deletion of a whole collection
//! - `deadline`: when requests are given up
//! - `direct`: watches of kinds without a watch cache
//! - `patching`: patches of every kind
//! - `listing`, `reading`: lists, from the watch cache or page by page from etcd
//! - `watching`: watches of clients, from their beginning to their end
//! - `link`: the conversation with etcd
//! - `failure`: errors of etcd, as clients see them
//! - `authorization`: whether a user may do what is asked
//! - `admission`: what is added to objects and refused before they are stored
//! - `quota`: requests charged to the quotas of their namespace before they are stored
//! - `rules`: what happens to objects of each kind when they are created and changed
//! - `cache`, `watchers`, `selection`: the watch cache and those who watch
//! - `storage`: how objects lie in etcd
//! - `equality`: whether two versions say the same
//! - `heartbeats`: renewals of node leases that nobody needs to see travel
//! - `interruptions`: watches of etcd that end while it has no leader
//! - `metrics`: how much pods use, and other measures, as the metrics APIs tell
//! - `metrics_server`: whether metrics-server is there to tell the former
//! - `names`: names that the server makes
//! - `allocation`, `addresses`, `ports`: cluster addresses and node ports of Services
//! - `size`, `costs`: how large objects are, and how long requests take

mod addresses;
pub mod admission;
mod allocation;
mod answers;
pub mod authorization;
mod bootstrap;
mod cache;
mod change;
mod collection;
mod commons;
mod complete;
pub mod costs;
mod deadline;
mod deletion;
mod direct;
mod doubt;
mod equality;
mod eviction;
mod failure;
pub mod heartbeats;
mod interruptions;
mod link;
mod listing;
pub mod metrics;
pub mod metrics_server;
mod names;
mod patching;
mod pipeline;
mod ports;
pub mod protocol;
mod quota;
mod reading;
mod rules;
mod selection;
pub mod server;
pub mod size;
pub mod status;
pub mod storage;
mod task;
mod watchers;
mod watching;

pub use admission::Accounts;
pub use doubt::Doubt;
pub use server::{ApiServer, CommittedWrite, Config, ServerMessage};

#[cfg(test)]
mod stories;
