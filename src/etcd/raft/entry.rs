//! What the log is made of: entries, their identities and their payloads.

use smallvec::SmallVec;

use super::configuration::ConfigurationChange;
use super::{Index, Term};

/// A request that the log carries. The core never looks inside; it only asks how large the request is, because
/// messages are limited in bytes. Cloning must be cheap (an `Rc` of the request), as every member keeps a clone.
pub trait Command: Clone {
    /// The size of the encoded request in bytes.
    fn size_bytes(&self) -> u64;
}

/// What one entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<P> {
    /// Nothing: the entry by which a new leader begins its term, or a refused membership change.
    Empty,
    /// A request of the application.
    Normal(P),
    /// A change of the membership, to be handed to `apply_configuration_change` when it is applied.
    Configuration(ConfigurationChange),
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<P> {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// The position in the log, counted from 1.
    pub index: Index,
    /// What the entry carries.
    pub data: Payload<P>,
}

/// Names one entry: by the log matching property two logs that share an id share everything up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryId {
    /// The term of the entry.
    pub term: Term,
    /// The position of the entry; 0 is the point before the first entry.
    pub index: Index,
}

/// The entries of a message. One entry, the usual case, needs no allocation.
pub type Entries<P> = SmallVec<[Entry<P>; 1]>;

/// The payloads of a proposal. One payload, the usual case, needs no allocation.
pub type Payloads<P> = SmallVec<[Payload<P>; 1]>;

/// What an entry costs on the wire beside its data: type, term, index and lengths in etcd's encoding.
const OVERHEAD_BYTES: u64 = 12;

/// The encoded size of a membership change.
const CONFIGURATION_CHANGE_BYTES: u64 = 16;

impl<P> Entry<P> {
    /// The entry's name.
    pub fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }
}

impl<P: Command> Entry<P> {
    /// The encoded size of the entry in bytes, by which messages and batches are limited.
    pub fn size_bytes(&self) -> u64 {
        OVERHEAD_BYTES
            + match &self.data {
                Payload::Empty => 0,
                Payload::Normal(command) => command.size_bytes(),
                Payload::Configuration(_) => CONFIGURATION_CHANGE_BYTES,
            }
    }
}

impl EntryId {
    /// Whether a log that ends here is at least as up to date as one that ends at `other`: the later term wins, then the
    /// longer log.
    pub fn is_up_to_date_with(self, other: EntryId) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}
