//! Single rules of etcd, one story each.

use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;

use super::{Bytes, bytes};
use crate::etcd::error::Error;
use crate::etcd::key::{Key, KeyRange};
use crate::etcd::lease::LeaseId;
use crate::etcd::mvcc::request::{Bounds, Sort, SortBy};
use crate::etcd::mvcc::{
    Command, Compare, DeleteRange, Operation, OperationResult, Outcome, Put, Range, SharedStore, Txn, View,
};
use crate::etcd::value::Value;

/// One member that applies what it is told.
struct Alone {
    view: View<Bytes>,
}

impl Alone {
    fn new() -> Alone {
        Alone { view: SharedStore::new().view() }
    }

    fn run(&mut self, command: Command<Bytes>) -> Outcome<Bytes> {
        let index = self.view.applied_index() + 1;
        self.view.persist();
        self.view.apply(index, 1, Some(&command)).expect("in order");
        self.view.outcome(index, &command).expect("just applied")
    }

    fn put(&mut self, key: &str, value: u8) -> u64 {
        self.run(Command::from(Txn::one(put(key, value))));
        self.view.revision()
    }

    fn delete(&mut self, range: KeyRange) -> u64 {
        self.run(Command::from(Txn::one(delete(range))));
        self.view.revision()
    }

    fn keys(&self, request: &Range) -> Vec<String> {
        self.view.range(request).expect("readable").kvs.iter().map(|kv| kv.key.to_string()).collect()
    }
}

fn put(key: &str, value: u8) -> Operation<Bytes> {
    Operation::Put(Put::new(key.into(), bytes(value)))
}

fn delete(range: KeyRange) -> Operation<Bytes> {
    Operation::Delete(DeleteRange { range, previous: false })
}

fn one(key: &str) -> KeyRange {
    KeyRange::One(key.into())
}

#[test]
fn only_changes_make_revisions() {
    let mut store = Alone::new();
    assert_eq!(store.view.revision(), 1, "an empty store");
    assert_eq!(store.delete(one("a")), 1, "deleting nothing");
    assert_eq!(store.put("a", 1), 2);
    assert_eq!(store.put("a", 1), 3, "the same value again");
    let kv = store.view.range(&Range::key("a".into())).expect("there").kvs.remove(0);
    assert_eq!((kv.created, kv.modified, kv.version), (2, 3, 2));
    store.delete(one("a"));
    store.put("a", 2);
    let kv = store.view.range(&Range::key("a".into())).expect("there").kvs.remove(0);
    assert_eq!((kv.created, kv.modified, kv.version), (5, 5, 1), "a new generation");
}

#[test]
fn a_put_that_keeps_value_or_lease_needs_the_key() {
    let mut store = Alone::new();
    let lease = LeaseId::new(7);
    let keep_value = |lease| Put { value: None, lease, ..Put::new(Key::from("a"), bytes(0)) };
    let keep_lease = || Put { keep_lease: true, ..Put::new(Key::from("a"), bytes(9)) };
    let run = |store: &mut Alone, put| store.run(Command::from(Txn::one(Operation::Put(put))));
    assert_eq!(run(&mut store, keep_value(None)), Outcome::Failed(Error::KeyNotFound));
    assert_eq!(run(&mut store, keep_lease()), Outcome::Failed(Error::KeyNotFound));
    store.put("a", 1);
    assert_eq!(run(&mut store, keep_value(lease)), Outcome::Failed(Error::LeaseNotFound));
    store.run(Command::LeaseGrant { id: lease.expect("not zero"), ttl_s: 10 });
    run(&mut store, keep_value(lease));
    run(&mut store, keep_lease());
    let kv = store.view.range(&Range::key("a".into())).expect("there").kvs.remove(0);
    assert_eq!((kv.value, kv.lease, kv.version), (Some(bytes(9)), lease, 3));
    assert_eq!(store.view.lease_keys(lease.expect("not zero")), [Key::from("a")]);
    store.put("a", 2);
    assert!(store.view.lease_keys(lease.expect("not zero")).is_empty(), "a put without lease detaches");
}

#[test]
fn a_key_may_be_changed_once_in_a_transaction() {
    let txn = |operations: Vec<Operation<Bytes>>| Txn { success: operations.into(), ..Txn::one(put("z", 0)) };
    let within = |success, failure| {
        let inner = Txn { success, failure, ..Txn::one(put("z", 0)) };
        Operation::Txn(Box::new(inner))
    };
    let list = |operation| smallvec::SmallVec::from_iter([operation]);
    let refused = Err(Error::DuplicateKey);
    assert_eq!(txn(vec![put("a", 1), put("a", 2)]).check(), refused);
    assert_eq!(txn(vec![put("a/1", 1), delete(KeyRange::Prefix("a/".into()))]).check(), refused);
    assert_eq!(txn(vec![delete(one("a")), delete(one("a"))]).check(), Ok(()));
    assert_eq!(txn(vec![within(list(put("a", 1)), list(put("a", 2)))]).check(), Ok(()), "branches exclude each other");
    assert_eq!(txn(vec![within(list(put("a", 1)), list(put("b", 2))), put("b", 3)]).check(), refused);
    assert_eq!(txn(vec![within(list(delete(one("a"))), list(put("b", 2))), put("a", 3)]).check(), refused);
    let many = |count: usize| (0..count).map(|number| put(&number.to_string(), 0)).collect();
    assert_eq!(txn(many(128)).check(), Ok(()));
    assert_eq!(txn(many(129)).check(), Err(Error::TooManyOperations));
    assert_eq!(txn(vec![put("", 1)]).check(), Err(Error::EmptyKey));
}

#[test]
fn transactions_within_decide_on_the_state_before_the_outermost() {
    let mut store = Alone::new();
    store.put("a", 1);
    let a_is_old = || Compare::modified_at(Key::from("a"), 2);
    let inner = Txn::when(a_is_old(), put("b", 1)).otherwise(put("c", 1));
    let mut outer = Txn::when(a_is_old(), put("a", 2));
    outer.success.push(Operation::Txn(Box::new(inner)));
    outer.success.push(Operation::Range(Range::of(KeyRange::Prefix("".into()))));
    let Outcome::Txn(result) = store.run(Command::from(outer)) else { panic!("carried out") };
    let OperationResult::Range(read) = &result.results[2] else { panic!("a read") };
    let seen: Vec<_> = read.kvs.iter().map(|kv| (kv.key.to_string(), kv.modified)).collect();
    assert_eq!(
        seen,
        [("a".to_owned(), 3), ("b".to_owned(), 3)],
        "one revision, and the transaction sees its own changes"
    );
}

#[test]
fn limits_cut_but_count_goes_on() {
    let mut store = Alone::new();
    for key in ["a/3", "a/1", "b", "a/2"] {
        store.put(key, 0);
    }
    store.put("a/1", 1);
    let all = || Range::of(KeyRange::Prefix("a/".into()));
    let page = store.view.range(&Range { limit: 2, ..all() }).expect("readable");
    assert_eq!((page.more, page.count), (true, 3));
    let rest = Range::of(KeyRange::prefix_after(&"a/".into(), &page.kvs[1].key));
    assert_eq!(store.keys(&rest), ["a/3"]);
    let newest = Sort { by: SortBy::Modified, descending: true };
    assert_eq!(store.keys(&Range { sort: Some(newest), limit: 2, ..all() }), ["a/1", "a/2"]);
    assert_eq!(store.keys(&Range { modified: Bounds { least: 3, most: 5 }, ..all() }), ["a/2"]);
    assert_eq!(store.keys(&Range { created: Bounds { least: 0, most: 3 }, ..all() }), ["a/1", "a/3"]);
    let count = store.view.range(&Range { count_only: true, ..all() }).expect("readable");
    assert_eq!((count.kvs.len(), count.count, count.more), (0, 3, false));
    let bare = store.view.range(&Range { keys_only: true, ..all() }).expect("readable");
    assert!(bare.kvs.iter().all(|kv| kv.value.is_none() && kv.version > 0));
}

#[test]
fn compaction_keeps_what_is_visible_at_its_revision() {
    let mut store = Alone::new();
    for value in 1..=3 {
        store.put("a", value);
    }
    store.put("b", 1);
    assert_eq!(store.delete(one("b")), 6);
    store.put("a", 4);
    assert_eq!(store.run(Command::Compact(8)), Outcome::Failed(Error::FutureRevision));
    assert_eq!(store.run(Command::Compact(5)), Outcome::Done);
    assert_eq!(store.run(Command::Compact(5)), Outcome::Failed(Error::Compacted));
    let at = |revision| store.view.range(&Range { revision, ..Range::of(KeyRange::Prefix("".into())) });
    assert_eq!(at(4), Err(Error::Compacted));
    let kept: Vec<_> = at(5).expect("readable").kvs.into_iter().map(|kv| (kv.key.to_string(), kv.modified)).collect();
    assert_eq!(kept, [("a".to_owned(), 4), ("b".to_owned(), 5)]);
    assert_eq!(at(6).expect("readable").count, 1);
}

#[test]
fn memory_is_given_back_after_compaction() {
    let mut store = Alone::new();
    let shared = SharedStore::new();
    store.view = shared.view();
    for number in 0..5000_u32 {
        store.put(&format!("k/{}", number % 100), 0);
    }
    store.delete(KeyRange::Prefix("k/".into()));
    store.run(Command::Compact(store.view.revision()));
    assert_eq!(shared.keys_kept(), 100, "tombstones at the compacted revision stay");
    for number in 0..200_u32 {
        store.put(&format!("other/{number}"), 0);
    }
    store.run(Command::Compact(store.view.revision()));
    for number in 0..20_u32 {
        store.put(&format!("other/{number}"), 1);
    }
    assert_eq!((shared.keys_kept(), shared.changes_kept()), (200, 21));
    // A removed key's place is used again, and the new key has nothing of the old one.
    store.put("k/1", 3);
    let kv = store.view.range(&Range::key("k/1".into())).expect("there").kvs.remove(0);
    assert_eq!((kv.version, kv.created), (1, kv.modified));
}

#[test]
fn an_idle_or_slow_member_holds_back_what_it_can_still_read() {
    let shared = SharedStore::<Bytes>::new();
    let (mut fast, mut slow) = (shared.view(), shared.view());
    let log: Vec<Command<Bytes>> = (0..50).map(|value| Command::from(Txn::one(put("a", value)))).collect();
    for (index, command) in (1..).zip(&log) {
        fast.apply(index, 1, Some(command)).expect("in order");
        if index <= 10 {
            slow.apply(index, 1, Some(command)).expect("in order");
        }
    }
    let compact = Command::Compact(40);
    fast.apply(51, 1, Some(&compact)).expect("in order");
    assert_eq!((fast.revision(), slow.revision(), fast.compacted(), slow.compacted()), (51, 11, 40, 0));
    assert_eq!(shared.changes_kept(), 50);
    let old = Range { revision: 5, ..Range::key("a".into()) };
    assert_eq!(slow.range(&old).expect("not compacted here").kvs[0].value, Some(bytes(3)));
    assert_eq!(fast.range(&old), Err(Error::Compacted));
    for (index, command) in (11..).zip(log[10..].iter().chain([&compact])) {
        [&mut fast, &mut slow].into_iter().for_each(View::persist);
        slow.apply(index, 1, Some(command)).expect("in order");
    }
    fast.apply(52, 1, None).expect("in order");
    slow.apply(52, 2, None).expect_err("another entry at the same place");
    fast.apply(53, 1, Some(&log[0])).expect("in order");
    assert!(shared.changes_kept() <= 13, "{}", shared.changes_kept());
}

#[test]
fn a_member_that_was_down_for_very_long_sees_nothing_until_a_snapshot_comes() {
    let shared = SharedStore::<Bytes>::new();
    let (mut fast, mut away) = (shared.view(), shared.view());
    let command = Command::from(Txn::one(put("a", 1)));
    for member in [&mut fast, &mut away] {
        member.apply(1, 1, Some(&command)).expect("in order");
        member.persist();
    }
    away.crash();
    for index in 2..=30_000 {
        fast.apply(index, 1, Some(&command)).expect("in order");
    }
    fast.persist();
    fast.apply(30_001, 1, Some(&Command::Compact(29_000))).expect("in order");
    assert_eq!(away.restart().index, 1);
    assert!(away.is_hollow());
    assert_eq!(away.range(&Range::key("a".into())), Err(Error::Stopped));
    // The log of the member may still reach far: what it applies again is not carried out again.
    for index in 2..=100 {
        away.apply(index, 1, Some(&command)).expect("in order");
    }
    assert_eq!((away.revision(), away.is_hollow(), fast.revision()), (101, true, 30_001));
    away.restore(fast.position());
    let request = Range::key("a".into());
    assert_eq!(away.range(&request), fast.range(&request));
}

#[test]
fn one_revocation_is_one_revision_with_its_deletions_in_order() {
    let mut store = Alone::new();
    let id = LeaseId::new(5).expect("not zero");
    store.run(Command::LeaseGrant { id, ttl_s: 60 });
    for key in ["e/9", "e/10", "e/2"] {
        let put = Put { lease: Some(id), ..Put::new(key.into(), bytes(1)) };
        store.run(Command::from(Txn::one(Operation::Put(put))));
    }
    let before = store.view.revision();
    assert_eq!(store.run(Command::LeaseRevoke(id)), Outcome::Done);
    let mut deleted = Vec::new();
    store.view.each_change(before + 1, before + 1, |written| {
        deleted.push((written.key().to_string(), written.revision(), written.before().map(|kv| kv.lease)));
        true
    });
    let expected = ["e/10", "e/2", "e/9"].map(|key| (key.to_owned(), before + 1, Some(Some(id))));
    assert_eq!((deleted, store.view.revision()), (expected.to_vec(), before + 1));
    assert_eq!(store.run(Command::LeaseRevoke(id)), Outcome::Failed(Error::LeaseNotFound));
}

/// A value that remembers its stamps, as an API object does with its resourceVersion.
#[derive(Clone, Debug)]
struct Stamped(Rc<Cell<(u64, u32)>>);

impl Value for Stamped {
    fn size_bytes(&self) -> u64 {
        8
    }

    fn stamp(&self, revision: u64) {
        self.0.set((revision, self.0.get().1 + 1));
    }

    fn order(&self, other: &Self) -> Ordering {
        self.0.get().cmp(&other.0.get())
    }
}

#[test]
fn a_value_is_stamped_once_however_many_members_apply_it_however_often() {
    let shared = SharedStore::<Stamped>::new();
    let mut members = [shared.view(), shared.view(), shared.view()];
    let value = Stamped(Rc::default());
    let command = Command::from(Txn::one(Operation::Put(Put::new("a".into(), value.clone()))));
    for member in &mut members {
        member.apply(1, 1, Some(&command)).expect("in order");
    }
    members[0].crash();
    members[0].restart();
    assert_eq!(members[0].range(&Range::key("a".into())).expect("readable").count, 0, "not yet applied again");
    members[0].apply(1, 1, Some(&command)).expect("in order");
    assert_eq!(members[0].range(&Range::key("a".into())).expect("readable").count, 1);
    assert_eq!(value.0.get(), (2, 1));
}
