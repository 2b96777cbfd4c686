//! Virtual time, the event list, chance, links, disks and the trace. No word of Kubernetes here.
//!
//! - `time`: points and lengths of virtual time
//! - `random`: streams of random numbers by name
//! - `process`: what a component is to the engine, and what it may ask for

pub mod process;
pub mod random;
pub mod time;
