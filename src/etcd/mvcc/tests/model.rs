//! A naive etcd: one whole map for every revision. Slow, and too simple to be wrong in the same way as the store.

use std::collections::BTreeMap;

use super::Bytes;
use crate::etcd::error::Error;
use crate::etcd::key::Key;
use crate::etcd::lease::LeaseId;
use crate::etcd::mvcc::{
    Command, Compare, KeyValue, Operation, OperationResult, Outcome, Range, RangeResult, Relation, Target, Txn,
    TxnResult,
};
use crate::etcd::watch::{WatchEvent, WatchRequest};

type Map = BTreeMap<Key, KeyValue<Bytes>>;

pub struct Model {
    /// The keys after each revision; the first is revision 1.
    states: Vec<Map>,
    events: Vec<WatchEvent<Bytes>>,
    pub compacted: u64,
    leases: Vec<LeaseId>,
}

impl Model {
    pub fn new() -> Model {
        Model { states: vec![Map::new()], events: Vec::new(), compacted: 0, leases: Vec::new() }
    }

    pub fn revision(&self) -> u64 {
        self.states.len() as u64
    }

    pub fn modified(&self, key: &Key) -> u64 {
        self.state(self.revision()).get(key).map_or(0, |kv| kv.modified)
    }

    fn state(&self, revision: u64) -> &Map {
        &self.states[revision as usize - 1]
    }

    pub fn apply(&mut self, command: &Command<Bytes>) -> Outcome<Bytes> {
        let result = match command {
            Command::Txn(txn) => return self.txn(txn).map_or_else(Outcome::Failed, Outcome::Txn),
            Command::Compact(revision) if *revision <= self.compacted => Err(Error::Compacted),
            Command::Compact(revision) if *revision > self.revision() => Err(Error::FutureRevision),
            Command::Compact(revision) => {
                self.compacted = *revision;
                Ok(())
            }
            Command::LeaseGrant { id, .. } if self.leases.contains(id) => Err(Error::LeaseExists),
            Command::LeaseGrant { id, .. } => {
                self.leases.push(*id);
                Ok(())
            }
            Command::LeaseRevoke(id) => self.revoke(*id),
        };
        result.map_or_else(Outcome::Failed, |()| Outcome::Done)
    }

    fn revoke(&mut self, id: LeaseId) -> Result<(), Error> {
        let place = self.leases.iter().position(|&lease| lease == id).ok_or(Error::LeaseNotFound)?;
        self.leases.remove(place);
        let mut map = self.state(self.revision()).clone();
        let keys: Vec<Key> = map.values().filter(|kv| kv.lease == Some(id)).map(|kv| kv.key.clone()).collect();
        let mut events = Vec::new();
        for key in keys {
            events.push(delete(&mut map, &key, self.revision() + 1));
        }
        self.commit(map, events);
        Ok(())
    }

    fn commit(&mut self, map: Map, mut events: Vec<WatchEvent<Bytes>>) {
        if !events.is_empty() {
            self.states.push(map);
            self.events.append(&mut events);
        }
    }

    fn txn(&mut self, txn: &Txn<Bytes>) -> Result<TxnResult<Bytes>, Error> {
        let before = self.state(self.revision());
        let succeeded = txn.compares.iter().all(|compare| holds(before, compare));
        let operations = if succeeded { &txn.success } else { &txn.failure };
        for operation in operations {
            if let Operation::Put(put) = operation
                && put.lease.is_some_and(|lease| !self.leases.contains(&lease))
            {
                return Err(Error::LeaseNotFound);
            }
        }
        let next = self.revision() + 1;
        let (mut map, mut events, mut results) = (before.clone(), Vec::new(), Vec::new());
        for operation in operations {
            results.push(match operation {
                Operation::Put(put) => {
                    let old = map.get(&put.key).cloned();
                    let kv = KeyValue {
                        key: put.key.clone(),
                        created: old.as_ref().map_or(next, |old| old.created),
                        modified: next,
                        version: old.as_ref().map_or(1, |old| old.version + 1),
                        lease: put.lease,
                        value: put.value.clone(),
                    };
                    map.insert(put.key.clone(), kv.clone());
                    events.push(WatchEvent { kv, previous: old.clone() });
                    OperationResult::Put { previous: old.filter(|_| put.previous) }
                }
                Operation::Delete(request) => {
                    let keys: Vec<Key> = map.keys().filter(|key| request.range.contains(key)).cloned().collect();
                    let deleted: Vec<_> = keys.iter().map(|key| delete(&mut map, key, next)).collect();
                    let previous = deleted.iter().filter_map(|event| event.previous.clone()).collect();
                    events.extend(deleted);
                    OperationResult::Delete { deleted: keys.len() as u64, previous }
                }
                Operation::Range(request) => OperationResult::Range(select(&map, request)),
                Operation::Txn(_) => unreachable!("the random histories have none"),
            });
        }
        self.commit(map, events);
        Ok(TxnResult { succeeded, results })
    }

    pub fn read(&self, request: &Range, present: u64, compacted: u64) -> Result<RangeResult<Bytes>, Error> {
        let revision = if request.revision == 0 { present } else { request.revision };
        if revision > present {
            return Err(Error::FutureRevision);
        }
        if revision < compacted {
            return Err(Error::Compacted);
        }
        Ok(select(self.state(revision), request))
    }

    /// What a watch that begins at a revision has to be told in all.
    pub fn events(&self, request: &WatchRequest, begin: u64) -> Vec<WatchEvent<Bytes>> {
        let wanted = |event: &&WatchEvent<Bytes>| {
            event.kv.modified >= begin
                && request.range.contains(&event.kv.key)
                && !(if event.is_delete() { request.no_deletes } else { request.no_puts })
        };
        self.events.iter().filter(wanted).cloned().collect()
    }
}

fn delete(map: &mut Map, key: &Key, revision: u64) -> WatchEvent<Bytes> {
    let previous = map.remove(key);
    let kv = KeyValue { key: key.clone(), created: 0, modified: revision, version: 0, lease: None, value: None };
    WatchEvent { kv, previous }
}

fn select(map: &Map, request: &Range) -> RangeResult<Bytes> {
    let all: Vec<_> = map.values().filter(|kv| request.range.contains(&kv.key)).cloned().collect();
    let limit = if request.limit == 0 { all.len() } else { request.limit as usize };
    let kvs = all.iter().take(limit).cloned().collect();
    RangeResult { kvs, more: all.len() > limit, count: all.len() as u64 }
}

fn holds(map: &Map, compare: &Compare<Bytes>) -> bool {
    let number = |lease: Option<LeaseId>| lease.map_or(0, |id| id.0.get());
    let relate = |stored: (u64, u64, u64, u64)| {
        let order = match &compare.target {
            Target::Version(target) => stored.0.cmp(target),
            Target::Created(target) => stored.1.cmp(target),
            Target::Modified(target) => stored.2.cmp(target),
            Target::Lease(target) => stored.3.cmp(&number(*target)),
            Target::Value(_) => return None,
        };
        Some(order)
    };
    let meets = |order: std::cmp::Ordering| match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
    };
    let found: Vec<_> = map.values().filter(|kv| compare.range.contains(&kv.key)).collect();
    if found.is_empty() {
        return relate((0, 0, 0, 0)).is_some_and(meets);
    }
    found.iter().all(|kv| match (&compare.target, &kv.value) {
        (Target::Value(target), Some(value)) => meets(value.as_ref().cmp(target.as_ref())),
        _ => relate((kv.version, kv.created, kv.modified, number(kv.lease))).is_some_and(meets),
    })
}
