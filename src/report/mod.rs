//! What a run leaves: tables, traces, a summary, and answers to "why".
//!
//! Everything here is worked out from the news that a cluster tells, in the order in which it tells them; nothing here
//! influences a run, and nothing reads the wall clock. The same scenario, seed and version give the same bytes.
//!
//! - `record`: the [`record::Recorder`], which takes the news and hands them to the tables
//! - `changes`: how one version of an object differs from the one before
//! - `sketch`: two versions without what they share
//! - `writes`, `events`, `decisions`: `writes.jsonl`, `events.csv` and `scheduling.jsonl`, written while the run goes on
//! - `pods`, `nodes`, `rollouts`, `etcd`: what is kept of the run, and `pods.csv` and `nodes.csv`
//! - `twins`: when pods of one name ran at once
//! - `pending`: which pods do not run, and why
//! - `summary`, `screen`: everything in one value, as `summary.json` and as one screen of text
//! - `folder`: an output folder that is whole or absent
//! - `causes`: what led to what, in a file of its own
//! - `perfetto`, `tracks`: `trace.pftrace`
//! - `explain`: the chain of causes in words, and the critical path of a rollout

pub mod causes;
pub mod changes;
pub mod decisions;
pub mod etcd;
pub mod events;
pub mod explain;
pub mod folder;
pub mod nodes;
pub mod pending;
pub mod perfetto;
pub mod pods;
pub mod record;
pub mod rollouts;
pub mod screen;
pub mod sketch;
pub mod summary;
pub mod table;
pub mod tracks;
pub mod twins;
pub mod writes;

#[cfg(test)]
mod tests;
