//! The multi-version store: every write is a new revision, and old revisions stay readable until compaction.
//!
//! - `request`: ranges, puts, deletes and transactions, and their results
//! - `check`: what is refused before it reaches the log
//! - `version`: the versions of one key
//! - `index`: all keys, found by name in constant time and in order
//! - `changes`: the order in which keys changed
//! - `store`: the state that the log builds
//! - `txn`: carrying out a transaction
//! - `range`: reading
//! - `compact`: forgetting
//! - `readers`: who may still ask for history, and from where on
//! - `shared`: one store for all members of a cluster, and what each of them sees of it
//!
//! It never reads a clock, never draws a number and never decides what the log contains.

mod changes;
mod check;
mod compact;
mod index;
mod range;
pub mod readers;
pub mod request;
pub mod shared;
mod store;
mod txn;
mod version;

#[cfg(test)]
mod tests;

pub use readers::Reader;
pub use request::{
    Bounds, Compare, DeleteRange, KeyValue, Operation, OperationResult, Put, Range, RangeResult, Relation, Sort,
    SortBy, Target, Txn, TxnResult,
};
pub use shared::{Applied, Command, Diverged, Outcome, SharedStore, Snapshot, View};
