//! What every component uses to speak to the API: requests, informers, work queues, rate limits, event recorder.
//!
//! - `controller`: the shape of every control loop
//! - `plan`: what a control loop decides
//! - `view`, `cache`, `order`: what a component knows of the cluster
//! - `transport`, `delivery`, `rate_limit`, `tokens`: requests and watches, and what comes of them
//! - `informer`, `back_off`: list and watch
//! - `work_queue`: keys to be worked on

mod back_off;
pub mod cache;
pub mod controller;
pub mod delivery;
pub mod informer;
mod order;
pub mod plan;
pub mod rate_limit;
#[cfg(test)]
mod script;
pub mod tokens;
pub mod transport;
pub mod view;
pub mod work_queue;
