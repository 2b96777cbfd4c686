//! Carrying out a transaction (etcd: etcdserver/txn). Everything that can fail is looked at before the first change.

use smallvec::SmallVec;

use super::compact::check_compaction;
use super::request::{
    Compare, DeleteRange, KeyValue, Operation, OperationResult, Put, Range, Relation, Target, Txn, TxnResult,
};
use super::store::{Revision, State};
use super::version::Version;
use crate::etcd::error::Error;
use crate::etcd::lease::LeaseId;
use crate::etcd::value::Value;

/// Which branch each transaction takes, the outermost first, then those within the taken branches in their order.
type Path = SmallVec<[bool; 4]>;

impl<V: Value> State<V> {
    /// Carries out a transaction. Without a change the revision stays. No result if it is the one that
    /// [`Txn::plain_result`] says.
    pub(super) fn transact(&mut self, txn: &Txn<V>) -> Result<Option<TxnResult<V>>, Error> {
        let mut path = Path::new();
        self.decide(txn, &mut path);
        self.check_branches(txn, &mut path.iter().copied())?;
        let mut revision = self.begin();
        let result = if path.first() == Some(&true) && txn.is_plain() {
            for operation in &txn.success {
                if let Operation::Put(put) = operation {
                    self.carry_out_put(put, &mut revision);
                }
            }
            None
        } else {
            Some(self.carry_out(txn, &mut path.iter().copied(), &mut revision))
        };
        self.end(&revision);
        Ok(result)
    }

    /// Takes a lease away and deletes its keys, in order, in one revision.
    pub(super) fn revoke(&mut self, id: LeaseId, index: u64) -> Result<(), Error> {
        let mut slots = self.leases.revoke(id, index)?;
        slots.sort_by(|&left, &right| self.index.history(left).key.cmp(&self.index.history(right).key));
        let mut revision = self.begin();
        for slot in slots {
            self.lapsed.extend(self.index.history(slot).newest.value.clone().map(|value| (value, revision.main)));
            self.delete(slot, &mut revision);
        }
        self.end(&revision);
        Ok(())
    }

    /// Notes a compaction. Nothing is removed here.
    pub(super) fn compact(&mut self, revision: u64) -> Result<(), Error> {
        check_compaction(revision, self.revision, self.compacted)?;
        self.compacted = revision;
        Ok(())
    }

    /// Decides all branches on the state before the transaction.
    fn decide(&self, txn: &Txn<V>, path: &mut Path) {
        let holds = txn.compares.iter().all(|compare| self.holds(compare, self.revision));
        path.push(holds);
        for operation in branch(txn, holds) {
            if let Operation::Txn(within) = operation {
                self.decide(within, path);
            }
        }
    }

    fn holds(&self, compare: &Compare<V>, at: u64) -> bool {
        let (mut found, mut all) = (false, true);
        self.index.each_live(&compare.range, at, |_, _, version| {
            found = true;
            all &= compare.target.meets(compare.relation, Some(version));
        });
        if found { all } else { compare.target.meets(compare.relation, None) }
    }

    fn check_branches(&self, txn: &Txn<V>, path: &mut dyn Iterator<Item = bool>) -> Result<(), Error> {
        let holds = path.next().unwrap_or_default();
        branch(txn, holds).iter().try_for_each(|operation| match operation {
            Operation::Put(put) => self.check_put(put),
            Operation::Range(read) => self.read_revision(read, self.revision, self.compacted).map(drop),
            Operation::Delete(_) => Ok(()),
            Operation::Txn(within) => self.check_branches(within, path),
        })
    }

    fn check_put(&self, put: &Put<V>) -> Result<(), Error> {
        if put.lease.is_some_and(|lease| !self.leases.exists(lease)) {
            return Err(Error::LeaseNotFound);
        }
        if put.value.is_none() || put.keep_lease {
            let newest = self.index.find(&put.key).map(|slot| &self.index.history(slot).newest);
            if !newest.is_some_and(Version::is_live) {
                return Err(Error::KeyNotFound);
            }
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        txn: &Txn<V>,
        path: &mut dyn Iterator<Item = bool>,
        revision: &mut Revision,
    ) -> TxnResult<V> {
        let succeeded = path.next().unwrap_or_default();
        let results = branch(txn, succeeded).iter().map(|operation| match operation {
            Operation::Put(put) => OperationResult::Put { previous: self.carry_out_put(put, revision) },
            Operation::Delete(delete) => self.carry_out_delete(delete, revision),
            // The revision being written is above all others, so reading at it shows the changes made so far.
            Operation::Range(read) => {
                let at = if read.revision == 0 { revision.main } else { read.revision };
                OperationResult::Range(self.range(read, at))
            }
            Operation::Txn(within) => OperationResult::Txn(self.carry_out(within, path, revision)),
        });
        let results = results.collect();
        TxnResult { succeeded, results }
    }

    fn carry_out_put(&mut self, put: &Put<V>, revision: &mut Revision) -> Option<KeyValue<V>> {
        let mut previous = None;
        let (mut value, mut lease) = (put.value.clone(), put.lease);
        if (put.previous || put.keep_lease || value.is_none())
            && let Some(slot) = self.index.find(&put.key)
        {
            let history = self.index.history(slot);
            let before = &history.newest;
            if put.previous && before.is_live() {
                previous = Some(before.key_value(&history.key));
            }
            if put.keep_lease {
                lease = before.lease;
            }
            value = value.or_else(|| before.value.clone());
        }
        // A put that keeps the value of a key that is not there was refused before.
        if let Some(value) = value {
            self.put(&put.key, value, lease, revision);
        }
        previous
    }

    fn carry_out_delete(&mut self, delete: &DeleteRange, revision: &mut Revision) -> OperationResult<V> {
        let mut slots: SmallVec<[u32; 4]> = SmallVec::new();
        let mut previous = Vec::new();
        self.index.each_live(&delete.range, revision.main, |slot, key, version| {
            slots.push(slot);
            if delete.previous {
                previous.push(version.key_value(key));
            }
        });
        for &slot in &slots {
            self.delete(slot, revision);
        }
        OperationResult::Delete { deleted: slots.len() as u64, previous }
    }
}

/// The steps of the branch that is taken.
fn branch<V>(txn: &Txn<V>, succeeded: bool) -> &[Operation<V>] {
    if succeeded { &txn.success } else { &txn.failure }
}

impl<V: Value> Target<V> {
    /// Whether a stored version relates to the target as asked; a missing key has all figures zero and no value.
    fn meets(&self, relation: Relation, stored: Option<&Version<V>>) -> bool {
        let figure = |get: fn(&Version<V>) -> u64| stored.map_or(0, get);
        let number = |lease: Option<LeaseId>| lease.map_or(0, |id| id.0.get());
        let order = match self {
            Target::Version(target) => figure(|version| u64::from(version.version)).cmp(target),
            Target::Created(target) => figure(|version| version.created).cmp(target),
            Target::Modified(target) => figure(|version| version.main).cmp(target),
            Target::Lease(target) => number(stored.and_then(|version| version.lease)).cmp(&number(*target)),
            Target::Value(target) => match stored.and_then(|version| version.value.as_ref()) {
                Some(value) => value.order(target),
                None => return false,
            },
        };
        match relation {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Greater => order.is_gt(),
            Relation::Less => order.is_lt(),
        }
    }
}

impl<V> Txn<V> {
    /// Whether the result of carrying out the first branch is known without looking: puts that ask nothing back.
    pub(super) fn is_plain(&self) -> bool {
        self.success.iter().all(|operation| matches!(operation, Operation::Put(Put { previous: false, .. })))
    }

    /// The result of such a transaction whose conditions held.
    pub(super) fn plain_result(&self) -> TxnResult<V> {
        let results = self.success.iter().map(|_| OperationResult::Put { previous: None }).collect();
        TxnResult { succeeded: true, results }
    }

    /// Whether nothing but reads is in it: such a transaction needs no log entry.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|operation| match operation {
            Operation::Range(_) => true,
            Operation::Put(_) | Operation::Delete(_) => false,
            Operation::Txn(within) => within.is_read_only(),
        })
    }

    /// Whether the member that is asked may answer a read-only transaction from what it has.
    pub fn is_serializable(&self) -> bool {
        let serializable =
            |operation: &Operation<V>| matches!(operation, Operation::Range(Range { serializable: true, .. }));
        self.success.iter().chain(&self.failure).all(serializable)
    }
}

impl<V: Value> Txn<V> {
    /// Bytes of the transaction in a message or in the log.
    pub fn size_bytes(&self) -> u64 {
        let compares = self.compares.iter().map(|compare| 16 + compare.range.size_bytes());
        let operations = self.success.iter().chain(&self.failure).map(|operation| match operation {
            Operation::Put(put) => 16 + put.key.len() as u64 + put.value.as_ref().map_or(0, Value::size_bytes),
            Operation::Delete(delete) => 8 + delete.range.size_bytes(),
            Operation::Range(read) => 16 + read.range.size_bytes(),
            Operation::Txn(within) => within.size_bytes(),
        });
        compares.chain(operations).sum()
    }
}

/// A read-only transaction, carried out by a member on what it sees.
pub(super) fn read_only<V: Value>(
    state: &State<V>,
    txn: &Txn<V>,
    present: u64,
    compacted: u64,
) -> Result<TxnResult<V>, Error> {
    let holds = txn.compares.iter().all(|compare| state.holds(compare, present));
    let results = branch(txn, holds).iter().map(|operation| match operation {
        Operation::Range(read) => {
            let at = state.read_revision(read, present, compacted)?;
            Ok(OperationResult::Range(state.range(read, at)))
        }
        Operation::Txn(within) => read_only(state, within, present, compacted).map(OperationResult::Txn),
        // Callers have asked `is_read_only`.
        Operation::Put(_) | Operation::Delete(_) => Err(Error::NotLeader),
    });
    Ok(TxnResult { succeeded: holds, results: results.collect::<Result<_, _>>()? })
}
