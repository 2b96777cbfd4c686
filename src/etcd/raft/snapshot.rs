//! The state of the application at one point of the log, which stands for all entries up to it.

use super::configuration::Configuration;
use super::entry::EntryId;

/// A snapshot: the application's state after applying the entry `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot<S> {
    /// The last entry whose effect the snapshot contains.
    pub last: EntryId,
    /// The membership after that entry.
    pub configuration: Configuration,
    /// The application's state; the core never looks inside.
    pub data: S,
}

/// Why a snapshot cannot be stored or the log not be compacted at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The log has been compacted beyond the index, or a later snapshot exists.
    OutOfDate,
    /// The entry at the index has not been applied here.
    NotApplied,
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SnapshotError::OutOfDate => "a later snapshot exists or the log is compacted beyond the index",
            SnapshotError::NotApplied => "the entry at the index has not been applied",
        })
    }
}

impl std::error::Error for SnapshotError {}
