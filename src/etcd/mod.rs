//! etcd: Raft, the MVCC store, watches and leases.
//!
//! - `raft`: the consensus core, without I/O
//! - `key`: keys and ranges of keys
//! - `value`: what a value must offer
//! - `error`: etcd's errors with their texts and codes
//! - `mvcc`: revisions, transactions, compaction; one store in memory, seen by each member as far as it has applied
//! - `lease`: leases granted through the log, and the clock that only the leader runs
//! - `watch`: watchers of one member
//! - `message`: what clients and members say to a member, and what it answers
//! - `member`: a member as a process on a machine: it drives the consensus core, a disk, the store, leases and watchers

pub mod error;
pub mod key;
pub mod lease;
pub mod member;
pub mod message;
pub mod mvcc;
pub mod raft;
pub mod value;
pub mod watch;
