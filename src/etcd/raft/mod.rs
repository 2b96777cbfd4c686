//! The Raft core: a state machine without I/O, clock or chance of its own.
//!
//! A [`Raft`] is one member of a group that agrees on one log. It is driven from outside and answers with data:
//!
//! - [`Raft::tick`] says that a unit of time has passed, [`Raft::step`] that a message has arrived, [`Raft::propose`] and
//!   [`Raft::read_index`] that the application wants something;
//! - [`Raft::ready`] says what follows: entries and state to persist, messages to send before and after that, entries to
//!   apply; [`Raft::advance`] tells that it was done.
//!
//! So a crash is "drop the `Raft`", a restart is [`Raft::new`] from what the disk holds, and a slow disk is an `advance`
//! that comes late. The core never drops, delays or repeats anything by itself, never sends a message, and never panics on
//! a message: a member whose disk lost what it had acknowledged ends in a [`Corruption`] as a value.
//!
//! The observable behaviour is that of etcd-io/raft as etcd configures it: elections with pre-vote and a randomised
//! timeout, a leader that steps down without a quorum, followers that stay with a leader they hear, appends sent ahead in a
//! window, snapshots for whoever is too far behind, safe reads, leadership transfer, learners, one membership change at a
//! time. Members are visited in id order everywhere.
//!
//! A group of one elects itself and applies what is proposed:
//!
//! ```
//! use kubesim::engine::random::Seed;
//! use kubesim::etcd::raft::{
//!     Command, Configuration, Durable, HardState, MemberId, Payload, Raft, Ready, Settings,
//! };
//!
//! #[derive(Clone)]
//! struct Put(&'static str);
//!
//! impl Command for Put {
//!     fn size_bytes(&self) -> u64 {
//!         self.0.len() as u64
//!     }
//! }
//!
//! let disk = Durable {
//!     hard_state: HardState::default(),
//!     configuration: Configuration::new([MemberId(1)], []),
//!     snapshot: None,
//!     entries: Vec::new(),
//! };
//! let chance = Seed(7).stream("etcd-0", "election");
//! let mut member: Raft<Put, ()> = Raft::new(MemberId(1), Settings::default(), chance, disk).unwrap();
//! let mut ready = Ready::default();
//! let mut applied = Vec::new();
//! for tick in 0..30 {
//!     member.tick();
//!     if tick == 25 {
//!         member.propose(Put("hello")).unwrap();
//!     }
//!     while member.ready(&mut ready) {
//!         // Here a real member writes `ready.entries` and `ready.hard_state`, and sends the messages to others.
//!         for entry in ready.committed.drain(..) {
//!             if let Payload::Normal(put) = entry.data {
//!                 applied.push(put.0);
//!             }
//!         }
//!         member.advance(ready.receipt).unwrap();
//!     }
//! }
//! assert_eq!(applied, ["hello"]);
//! ```
//!
//! The map, from the bottom up:
//!
//! - `entry`: entries of the log, their ids and payloads
//! - `configuration`: voters and learners, and single changes
//! - `quorum`: majorities and votes
//! - `snapshot`: the application's state in place of a prefix of the log
//! - `message`: what members say to each other
//! - `ready`: what a member wants done
//! - `log`: the log in memory, and how far it is committed, applied and durable
//! - `progress`: what a leader knows about each member
//! - `read_only`: reads that wait for a quorum
//! - `node`: the state machine itself: its state, messages by term, the batches of work
//! - `election`, `replication`, `leadership`, `membership`: the state machine's parts: becoming leader, copying the log,
//!   reads and transfer, and who belongs to the group
//! - `invariants`: the safety properties, over all members at once
//! - `safety`: the same, checked step by step at little cost

use std::fmt;

mod configuration;
mod election;
mod entry;
pub mod invariants;
mod leadership;
mod log;
mod membership;
mod message;
mod node;
mod progress;
mod quorum;
mod read_only;
mod ready;
mod replication;
mod safety;
mod snapshot;

pub use configuration::{ChangeKind, Configuration, ConfigurationChange, ConfigurationError};
pub use entry::{Command, Entries, Entry, EntryId, Payload, Payloads};
pub use log::Log;
pub use message::{Body, Message};
pub use node::{Durable, Raft, Settings};
pub use progress::{Progress, ProgressState};
pub use ready::{HardState, ReadState, Ready, Receipt, SoftState};
pub use safety::SafetyChecker;
pub use snapshot::{Snapshot, SnapshotError};

/// A period with at most one leader, counted from 1; 0 before the first election.
pub type Term = u64;

/// A position in the log, counted from 1; 0 is the point before the first entry.
pub type Index = u64;

/// Names a member of the group. Members are visited in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected, without disturbing anyone.
    PreCandidate,
    /// Asks to be elected.
    Candidate,
    /// Leads.
    Leader,
}

/// Why the core did not do what a message or a call asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// There is no leader to take the proposal, or leadership is being handed over. The proposer may try again.
    ProposalDropped,
    /// The member's log contradicts what the group has committed. A real member ends here with a panic; it must not go on.
    Corrupted(Corruption),
}

/// How a log contradicts the group: this member's disk lost entries that it had acknowledged as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// The leader has seen more committed than this log holds.
    CommitBeyondLog {
        /// The commit index received or read from disk.
        commit: Index,
        /// The last index held.
        last: Index,
    },
    /// The leader's entry differs from one that this member knows to be committed.
    ConflictWithCommitted {
        /// The first index that differs.
        index: Index,
        /// The member's commit index.
        committed: Index,
    },
}

impl From<Corruption> for StepError {
    fn from(corruption: Corruption) -> StepError {
        StepError::Corrupted(corruption)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        })
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::ProposalDropped => f.write_str("raft proposal dropped"),
            StepError::Corrupted(corruption) => corruption.fmt(f),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corruption::CommitBeyondLog { commit, last } => write!(
                f,
                "commit index {commit} is out of range, the log ends at {last}: was it corrupted, truncated or lost?"
            ),
            Corruption::ConflictWithCommitted { index, committed } => {
                write!(f, "entry {index} of the leader conflicts with a committed one (committed up to {committed})")
            }
        }
    }
}

impl std::error::Error for StepError {}
impl std::error::Error for Corruption {}
