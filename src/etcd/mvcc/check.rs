//! What is refused before it reaches the log (etcd: api/v3rpc/key.go).

use std::collections::BTreeSet;

use super::request::{DeleteRange, Operation, Put, Txn};
use crate::etcd::error::Error;
use crate::etcd::key::{Key, KeyRange};

/// The most operations or compares that one list of a transaction may have.
const MOST_OPERATIONS: usize = 128;

impl<V> Txn<V> {
    /// Whether the transaction may be proposed: keys are named, there are not too many operations, and no key is changed twice.
    pub fn check(&self) -> Result<(), Error> {
        self.check_lists(MOST_OPERATIONS)?;
        // Nearly every transaction is one put or one delete under one condition, or else a read: nothing can collide there.
        let is_single = |list: &[Operation<V>]| {
            matches!(list, [] | [Operation::Put(_) | Operation::Delete(_) | Operation::Range(_)])
        };
        if is_single(&self.success) && is_single(&self.failure) {
            return Ok(());
        }
        changes(&self.success)?;
        changes(&self.failure)?;
        Ok(())
    }

    /// Checks each operation by itself, with what is left of the budget for transactions within.
    fn check_lists(&self, budget: usize) -> Result<(), Error> {
        let operations = self.compares.len().max(self.success.len()).max(self.failure.len());
        let Some(rest) = budget.checked_sub(operations) else { return Err(Error::TooManyOperations) };
        if self.compares.iter().any(|compare| compare.range.names_nothing()) {
            return Err(Error::EmptyKey);
        }
        self.success.iter().chain(&self.failure).try_for_each(|operation| match operation {
            Operation::Put(put) => put.check(),
            Operation::Delete(DeleteRange { range, .. }) => named(range),
            Operation::Range(read) => named(&read.range),
            Operation::Txn(within) => within.check_lists(rest),
        })
    }
}

impl<V> Put<V> {
    fn check(&self) -> Result<(), Error> {
        if self.key.is_empty() {
            return Err(Error::EmptyKey);
        }
        if self.keep_lease && self.lease.is_some() {
            return Err(Error::LeaseProvided);
        }
        Ok(())
    }
}

fn named(range: &KeyRange) -> Result<(), Error> {
    if range.names_nothing() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// The keys that a list of operations puts, and the ranges that it deletes.
type Changes<'a> = (BTreeSet<&'a Key>, Vec<&'a KeyRange>);

/// Collects what a list changes and refuses two changes of one key. The two branches of a transaction within exclude
/// each other, so both may put the same key. Deleting twice is allowed.
fn changes<V>(operations: &[Operation<V>]) -> Result<Changes<'_>, Error> {
    let mut puts = BTreeSet::new();
    let mut deletes: Vec<&KeyRange> = Vec::new();
    for operation in operations {
        if let Operation::Delete(DeleteRange { range, .. }) = operation {
            deletes.push(range);
        }
    }
    let deleted = |deletes: &[&KeyRange], key: &Key| deletes.iter().any(|range| range.contains(key));
    for operation in operations {
        let Operation::Txn(within) = operation else { continue };
        let (then_puts, then_deletes) = changes(&within.success)?;
        let (else_puts, else_deletes) = changes(&within.failure)?;
        let branches: BTreeSet<&Key> = then_puts.union(&else_puts).copied().collect();
        if branches.iter().any(|key| puts.contains(key) || deleted(&deletes, key)) {
            return Err(Error::DuplicateKey);
        }
        puts.extend(branches);
        deletes.extend(then_deletes);
        deletes.extend(else_deletes);
    }
    for operation in operations {
        let Operation::Put(put) = operation else { continue };
        if deleted(&deletes, &put.key) || !puts.insert(&put.key) {
            return Err(Error::DuplicateKey);
        }
    }
    Ok((puts, deletes))
}
