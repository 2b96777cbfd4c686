//! What every component uses to speak to the API: requests, informers, work queues, rate limits, event recorder.
//!
//! - `controller`: the shape of every control loop
//! - `plan`: what a control loop decides
//! - `view`: what a component knows of the cluster

pub mod controller;
pub mod plan;
pub mod view;
