//! What can be asked of the store and what it answers.

use smallvec::SmallVec;

use crate::etcd::key::{Key, KeyRange};
use crate::etcd::lease::LeaseId;

/// One key with its value and the figures that the store keeps with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue<V> {
    /// The key.
    pub key: Key,
    /// The revision at which the key last came into being; zero in a delete event.
    pub created: u64,
    /// The revision of this write.
    pub modified: u64,
    /// How many puts the key has seen since it came into being; zero in a delete event.
    pub version: u64,
    /// The lease that the key is attached to.
    pub lease: Option<LeaseId>,
    /// The value, unless only keys were asked for or the key was deleted.
    pub value: Option<V>,
}

/// Reads keys.
#[derive(Clone, Debug)]
pub struct Range {
    /// Which keys.
    pub range: KeyRange,
    /// At which revision; zero means the present one.
    pub revision: u64,
    /// At most so many; zero means all.
    pub limit: u64,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// The member that is asked answers from what it has, without asking for the leader's word.
    pub serializable: bool,
    /// Order of the result; by key, ascending, if absent.
    pub sort: Option<Sort>,
    /// Only keys last written within these revisions.
    pub modified: Bounds,
    /// Only keys created within these revisions.
    pub created: Bounds,
}

impl Range {
    /// A linearizable read of everything in a range, at present.
    pub fn of(range: KeyRange) -> Range {
        Range {
            range,
            revision: 0,
            limit: 0,
            keys_only: false,
            count_only: false,
            serializable: false,
            sort: None,
            modified: Bounds::default(),
            created: Bounds::default(),
        }
    }

    /// A linearizable read of one key, at present.
    pub fn key(key: Key) -> Range {
        Range::of(KeyRange::One(key))
    }
}

/// Revisions from `least` to `most`, both included; zero means unbounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// The lowest revision that is let through.
    pub least: u64,
    /// The highest revision that is let through.
    pub most: u64,
}

impl Bounds {
    /// Whether a revision lies within.
    pub(super) fn admit(self, revision: u64) -> bool {
        (self.least == 0 || revision >= self.least) && (self.most == 0 || revision <= self.most)
    }

    /// Whether nothing is filtered out.
    pub(super) fn is_open(self) -> bool {
        self == Bounds::default()
    }
}

/// The order of a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sort {
    /// What to sort by.
    pub by: SortBy,
    /// Largest first.
    pub descending: bool,
}

/// What a result can be sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SortBy {
    /// The key.
    Key,
    /// The number of puts since creation.
    Version,
    /// The revision of creation.
    Created,
    /// The revision of the last write.
    Modified,
    /// The value's bytes.
    Value,
}

/// Writes one key.
#[derive(Clone, Debug)]
pub struct Put<V> {
    /// Which key.
    pub key: Key,
    /// The new value; none keeps the old one, and then the key must exist.
    pub value: Option<V>,
    /// The lease to attach the key to. Without one the key is detached from its lease.
    pub lease: Option<LeaseId>,
    /// Keep the key's present lease; then the key must exist.
    pub keep_lease: bool,
    /// Answer with what was there before.
    pub previous: bool,
}

impl<V> Put<V> {
    /// Writes a value without a lease.
    pub fn new(key: Key, value: V) -> Put<V> {
        Put { key, value: Some(value), lease: None, keep_lease: false, previous: false }
    }
}

/// Deletes keys.
#[derive(Clone, Debug)]
pub struct DeleteRange {
    /// Which keys.
    pub range: KeyRange,
    /// Answer with what was there before.
    pub previous: bool,
}

/// A condition on the state before a transaction.
#[derive(Clone, Debug)]
pub struct Compare<V> {
    /// The keys that must all meet the condition. A missing key compares as one whose figures are all zero.
    pub range: KeyRange,
    /// How what is stored must relate to the target.
    pub relation: Relation,
    /// What is compared, and with what.
    pub target: Target<V>,
}

impl<V> Compare<V> {
    /// The key was last written at this revision; zero: it does not exist.
    pub fn modified_at(key: Key, revision: u64) -> Compare<V> {
        Compare { range: KeyRange::One(key), relation: Relation::Equal, target: Target::Modified(revision) }
    }

    /// The key has seen so many puts since its creation; zero: it does not exist.
    pub fn version_is(key: Key, version: u64) -> Compare<V> {
        Compare { range: KeyRange::One(key), relation: Relation::Equal, target: Target::Version(version) }
    }
}

/// How a stored figure relates to a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// They are equal.
    Equal,
    /// They differ.
    NotEqual,
    /// The stored one is greater.
    Greater,
    /// The stored one is less.
    Less,
}

/// What a condition looks at, with the figure to compare it with.
#[derive(Clone, Debug)]
pub enum Target<V> {
    /// The number of puts since creation.
    Version(u64),
    /// The revision of creation.
    Created(u64),
    /// The revision of the last write.
    Modified(u64),
    /// The lease.
    Lease(Option<LeaseId>),
    /// The value. Never holds for a missing key.
    Value(V),
}

/// One step of a transaction.
#[derive(Clone, Debug)]
pub enum Operation<V> {
    /// Write a key.
    Put(Put<V>),
    /// Delete keys.
    Delete(DeleteRange),
    /// Read keys.
    Range(Range),
    /// A transaction within; its conditions see the state before the outermost one.
    Txn(Box<Txn<V>>),
}

/// If all conditions hold then one list of steps, else the other, all in one revision.
#[derive(Clone, Debug)]
pub struct Txn<V> {
    /// The conditions.
    pub compares: SmallVec<[Compare<V>; 1]>,
    /// Carried out if all conditions hold.
    pub success: SmallVec<[Operation<V>; 1]>,
    /// Carried out otherwise.
    pub failure: SmallVec<[Operation<V>; 1]>,
}

impl<V> Txn<V> {
    /// Carries out one step without a condition.
    pub fn one(operation: Operation<V>) -> Txn<V> {
        Txn { compares: SmallVec::new(), success: SmallVec::from_iter([operation]), failure: SmallVec::new() }
    }

    /// Carries out one step if a condition holds.
    pub fn when(compare: Compare<V>, operation: Operation<V>) -> Txn<V> {
        Txn {
            compares: SmallVec::from_iter([compare]),
            success: SmallVec::from_iter([operation]),
            failure: SmallVec::new(),
        }
    }

    /// Adds a step for the case that a condition does not hold.
    pub fn otherwise(mut self, operation: Operation<V>) -> Txn<V> {
        self.failure.push(operation);
        self
    }
}

/// What a read found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeResult<V> {
    /// The keys, at most `limit`.
    pub kvs: Vec<KeyValue<V>>,
    /// Whether the limit cut the result short.
    pub more: bool,
    /// How many keys the range holds, whatever the limit.
    pub count: u64,
}

/// The result of one step of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OperationResult<V> {
    /// A key was written.
    Put {
        /// What was there before, if asked for.
        previous: Option<KeyValue<V>>,
    },
    /// Keys were deleted.
    Delete {
        /// How many.
        deleted: u64,
        /// What was there before, if asked for.
        previous: Vec<KeyValue<V>>,
    },
    /// Keys were read.
    Range(RangeResult<V>),
    /// A transaction within was carried out.
    Txn(TxnResult<V>),
}

/// The result of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnResult<V> {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// The results of the steps that were carried out, in their order.
    pub results: Vec<OperationResult<V>>,
}
