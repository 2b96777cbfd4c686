//! Virtual time, the event list, chance, links, disks and the trace. No word of Kubernetes here.
//!
//! - `time`: points and lengths of virtual time
//! - `queue`: the future-event list; `wheel`: the order of its keys; `heap`: the heap of those that are due soon
//! - `random`: streams of random numbers by name; `distribution`: distributions of durations; `sampler`: one of them made ready
//!   for many draws
//! - `hash`: hash tables with a fixed hash function, for lookups; `order`: a sorted index of numbered slots
//! - `digest`: one number that is different as soon as one event differs
//! - `network`: what becomes of messages between processes; partitions, crashes, broken connections
//! - `disk`: when a write is durable, and what a crash leaves
//! - `driver`: the loop, in virtual time or in step with the wall clock
//! - `trace`: what happened, and because of what
//! - `process`: what a component is to the engine, and what it may ask for

pub mod digest;
pub mod disk;
pub mod distribution;
pub mod driver;
pub mod hash;
mod heap;
pub mod network;
pub mod order;
pub mod process;
pub mod queue;
pub mod random;
pub mod sampler;
pub mod time;
pub mod trace;
mod wheel;
