//! etcd: Raft, the MVCC store, watches and leases.

pub mod raft;
