//! One store for all members of a cluster, and what each of them sees of it.
//!
//! The committed state is a function of the log. So it is kept once: the first member that applies a log entry carries
//! it out on the [`SharedStore`], every other member only moves its own [`View`] past that entry. A view is a position:
//! how far its member has applied, which revision that was, where its history begins. Because old versions stay in the
//! store, a member that lags reads exactly what it would have read from a store of its own.
//!
//! For this to hold:
//! - An entry is carried out once, whoever applies it again: a member that restarts moves back to what its disk held
//!   ([`View::restart`]) and passes the entries after it anew. For each entry the store records the revision it led to.
//!   A record lives as long as some member's log may hold the entry ([`View::forget_log`]).
//! - What the entry answered (deleted keys, values read) is kept until every running member has passed it: the member
//!   that a client waits on may be the last one to apply it.
//! - Versions are removed from memory when every running member has applied the compaction and has on its disk what it
//!   would need to begin after it. A member that is down holds
//!   removal back too, but only while it is few enough entries behind to be caught up from the log; after that it sees
//!   nothing ([`View::is_hollow`]) until it has caught up. The only trace of sharing that is left: such a member, and one
//!   that restarts just before a compaction that the others have applied, refuses to read revisions it could have read.
//! - Two members that apply different entries at one index have broken Raft. Terms are compared, and
//!   [`Diverged`] tells.

use std::cell::{Ref, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use super::changes::Change;
use super::compact::check_compaction;
use super::readers::Reader;
use super::request::{KeyValue, Range, RangeResult, Txn, TxnResult};
use super::store::State;
use super::txn::read_only;
use crate::etcd::error::Error;
use crate::etcd::key::{Key, KeyRange};
use crate::etcd::lease::LeaseId;
use crate::etcd::value::Value;

/// How many entries a member that is down may be behind and still hold back the removal of old versions. A log keeps
/// fewer (a snapshot every 10,000 entries, 5000 before it), so beyond this the member will get a snapshot anyway.
const HELD_FOR_DOWN: u64 = 20_000;
/// How many changes are removed from memory with each entry that is carried out.
const SWEEP_BATCH: usize = 64;
/// What readers have been told of is removed from memory once in so many entries.
const TELL_PERIOD: u64 = 32;

/// What a log entry tells the store to do.
#[derive(Clone, Debug)]
pub enum Command<V> {
    /// Carry out a transaction.
    Txn(Rc<Txn<V>>),
    /// Forget the history before a revision.
    Compact(u64),
    /// Grant a lease.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// Its time to live in seconds.
        ttl_s: u64,
    },
    /// Revoke a lease and delete its keys.
    LeaseRevoke(LeaseId),
}

impl<V> From<Txn<V>> for Command<V> {
    fn from(txn: Txn<V>) -> Self {
        Command::Txn(Rc::new(txn))
    }
}

impl<V: Value> Command<V> {
    /// Bytes of the command in a message or in the log.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Command::Txn(txn) => 32 + txn.size_bytes(),
            Command::Compact(_) | Command::LeaseGrant { .. } | Command::LeaseRevoke(_) => 32,
        }
    }
}

/// What a command answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<V> {
    /// A transaction was carried out.
    Txn(TxnResult<V>),
    /// A compaction, a grant or a revocation was done.
    Done,
    /// Nothing was done.
    Failed(Error),
}

/// Where passing an entry has led a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The member's revision now.
    pub revision: u64,
    /// Whether the entry made this revision.
    pub changed: bool,
}

/// Two members have applied different entries at the same place of the log, or one has skipped an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Diverged {
    /// The place of the log.
    pub index: u64,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "members have applied different entries at log index {}", self.index)
    }
}

impl std::error::Error for Diverged {}

/// A position of a member in the store: what its disk holds, or what a snapshot brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The last log index applied.
    pub index: u64,
    /// The revision that it led to.
    pub revision: u64,
    /// Where history begins.
    pub compacted: u64,
}

impl Snapshot {
    /// The position of a member that has applied nothing.
    pub const EMPTY: Snapshot = Snapshot { index: 0, revision: 1, compacted: 0 };
}

/// What is known of an entry that was carried out.
#[derive(Clone, Copy, Debug)]
struct Record {
    term: u64,
    revision: u64,
}

/// What the store knows of one member.
#[derive(Clone, Copy, Debug)]
struct Seat {
    at: Snapshot,
    /// Where the member would begin after a crash.
    durable: Snapshot,
    running: bool,
    /// The member's log may hold entries from here on.
    log_begins: u64,
}

/// The state with what is needed to show it to several members.
#[derive(Debug)]
struct Shared<V> {
    state: State<V>,
    /// Records of the entries from `first_record` to the last one carried out.
    records: VecDeque<Record>,
    first_record: u64,
    /// What entries answered, where it does not follow from the entry itself.
    outcomes: VecDeque<(u64, Outcome<V>)>,
    seats: Vec<Option<Seat>>,
}

/// The store of one cluster. Cloning it gives another handle to the same store.
#[derive(Clone, Debug)]
pub struct SharedStore<V>(Rc<RefCell<Shared<V>>>);

/// What one member sees of the store.
#[derive(Debug)]
pub struct View<V> {
    store: SharedStore<V>,
    seat: usize,
    at: Snapshot,
}

impl<V: Value> Default for SharedStore<V> {
    fn default() -> Self {
        SharedStore::new()
    }
}

impl<V: Value> SharedStore<V> {
    /// An empty store at revision 1, which no member sees yet.
    pub fn new() -> Self {
        let shared = Shared {
            state: State::new(),
            records: VecDeque::new(),
            first_record: 1,
            outcomes: VecDeque::new(),
            seats: Vec::new(),
        };
        SharedStore(Rc::new(RefCell::new(shared)))
    }

    /// The view of a member that has applied nothing.
    pub fn view(&self) -> View<V> {
        let mut shared = self.0.borrow_mut();
        let seat =
            Seat { at: Snapshot::EMPTY, durable: Snapshot::EMPTY, running: true, log_begins: shared.first_record };
        let place = match shared.seats.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                shared.seats.push(None);
                shared.seats.len() - 1
            }
        };
        shared.seats[place] = Some(seat);
        View { store: self.clone(), seat: place, at: Snapshot::EMPTY }
    }

    /// Another reader of the keys under a prefix: see `readers`. No prefix with readers may begin with another one.
    pub fn reader(&self, prefix: Key) -> Reader {
        self.0.borrow_mut().state.readers.add(prefix)
    }

    /// Gives back at once what no reader can ask for any more.
    #[cfg(test)]
    pub(super) fn forget_what_was_told(&self) {
        self.0.borrow_mut().forget_what_was_told();
    }

    /// Keys that are kept, deleted ones that are not yet forgotten included.
    pub fn keys_kept(&self) -> usize {
        self.0.borrow().state.index.len()
    }

    /// What went since the last call because its lease has ended, with the revision of that: for those who look on from
    /// outside, since no client has asked for it.
    pub fn take_lapsed(&self) -> Vec<(V, u64)> {
        let lapsed = &mut self.0.borrow_mut().state.lapsed;
        if lapsed.is_empty() { Vec::new() } else { std::mem::take(lapsed) }
    }

    /// The newest revision that any member has applied.
    pub fn revision(&self) -> u64 {
        self.0.borrow().state.revision
    }

    /// The revision at which a key was put last; zero if it does not exist.
    pub fn newest(&self, key: &Key) -> u64 {
        let shared = self.0.borrow();
        let slot = shared.state.index.find(key);
        let newest = slot.map(|slot| &shared.state.index.history(slot).newest);
        newest.filter(|version| version.is_live()).map_or(0, |version| version.main)
    }

    /// Visits the changes after a revision in order, with the value before and the one after: for those who look on from outside,
    /// often enough that nothing of it has been compacted.
    pub fn each_change_after(&self, revision: u64, mut visit: impl FnMut(u64, Option<&V>, Option<&V>)) {
        let state = &self.0.borrow().state;
        for change in state.changes.between(revision + 1, state.revision) {
            let history = state.index.history(change.slot);
            let before = history.at(change.main - 1).and_then(|version| version.value.as_ref());
            let after = history.written(change.main, change.sub).and_then(|version| version.value.as_ref());
            visit(change.main, before, after);
        }
    }

    /// Changes that are kept for watches that begin in the past.
    pub fn changes_kept(&self) -> usize {
        self.0.borrow().state.changes.len()
    }
}

impl<V: Value> View<V> {
    /// Passes the next log entry: carries it out if no other member has. An entry without a command (a new leader's
    /// first, a change of membership) changes nothing.
    pub fn apply(&mut self, index: u64, term: u64, command: Option<&Command<V>>) -> Result<Applied, Diverged> {
        if index != self.at.index + 1 {
            return Err(Diverged { index });
        }
        let mut shared = self.store.0.borrow_mut();
        let record = shared.carry_out_once(index, term, command)?;
        let changed = record.revision > self.at.revision;
        if let Some(&Command::Compact(revision)) = command
            && check_compaction(revision, self.at.revision, self.at.compacted).is_ok()
        {
            self.at.compacted = revision;
        }
        (self.at.index, self.at.revision) = (index, record.revision);
        let frees = matches!(command, Some(Command::Compact(_) | Command::LeaseRevoke(_)));
        shared.take_seat(self.seat, self.at, frees);
        Ok(Applied { revision: record.revision, changed })
    }

    /// What the entry just passed answered. None if the member has not passed it just now, for the first time.
    pub fn outcome(&self, index: u64, command: &Command<V>) -> Option<Outcome<V>> {
        let shared = self.store.0.borrow();
        if let Ok(place) = shared.outcomes.binary_search_by_key(&index, |&(index, _)| index) {
            return Some(shared.outcomes[place].1.clone());
        }
        match command {
            Command::Txn(txn) if txn.is_plain() => Some(Outcome::Txn(txn.plain_result())),
            Command::Txn(_) => None,
            Command::Compact(_) | Command::LeaseGrant { .. } | Command::LeaseRevoke(_) => Some(Outcome::Done),
        }
    }

    /// Where the member stands.
    pub fn position(&self) -> Snapshot {
        self.at
    }

    /// The last log index that the member has applied.
    pub fn applied_index(&self) -> u64 {
        self.at.index
    }

    /// The last revision that the member has applied.
    pub fn revision(&self) -> u64 {
        self.at.revision
    }

    /// Where history begins for this member: reads before it fail, reads at it succeed.
    pub fn compacted(&self) -> u64 {
        self.at.compacted.max(self.state().floor)
    }

    /// Where the history of some keys begins for this member.
    pub fn history_begins(&self, range: &KeyRange) -> u64 {
        let state = self.state();
        self.at.compacted.max(state.floor).max(state.readers.begins(range))
    }

    /// Whether what the member should see has been removed from memory: it was down for long and has to catch up first.
    pub fn is_hollow(&self) -> bool {
        self.state().is_gone(self.at.revision)
    }

    /// The member's disk holds what the member has applied so far; a crash does not lead back before this.
    pub fn persist(&mut self) {
        let at = self.at;
        self.with_seat(|seat| seat.durable = at);
    }

    /// The member has crashed.
    pub fn crash(&mut self) {
        self.with_seat(|seat| seat.running = false);
    }

    /// The member runs again, from what its disk held.
    pub fn restart(&mut self) -> Snapshot {
        let mut from = self.at;
        self.with_seat(|seat| {
            from = seat.durable;
            (seat.at, seat.running) = (from, true);
        });
        self.at = from;
        from
    }

    /// The member has received a snapshot and written it: it jumps to its position, and its log begins there.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.at = snapshot;
        let seat = Seat { at: snapshot, durable: snapshot, running: true, log_begins: snapshot.index + 1 };
        self.with_seat(|own| *own = seat);
        let mut shared = self.store.0.borrow_mut();
        shared.settle();
        shared.trim_records();
    }

    /// The member's log holds no entry before `first` any more.
    pub fn forget_log(&mut self, first: u64) {
        self.with_seat(|seat| seat.log_begins = seat.log_begins.max(first));
        self.store.0.borrow_mut().trim_records();
    }

    /// Bytes that a snapshot at this position has to carry, nearly.
    pub fn snapshot_bytes(&self) -> u64 {
        let state = self.state();
        state.live_bytes + 64 * state.index.len() as u64
    }

    /// Reads a range as far as the member has applied.
    pub fn range(&self, request: &Range) -> Result<RangeResult<V>, Error> {
        let state = self.state();
        self.check_hollow(&state)?;
        let at = state.read_revision(request, self.at.revision, self.at.compacted.max(state.floor))?;
        Ok(state.range(request, at))
    }

    /// Carries out a read-only transaction as far as the member has applied.
    pub fn read(&self, txn: &Txn<V>) -> Result<TxnResult<V>, Error> {
        let state = self.state();
        self.check_hollow(&state)?;
        read_only(&state, txn, self.at.revision, self.at.compacted.max(state.floor))
    }

    /// The time to live of a lease, if it exists for this member.
    pub fn lease_ttl_s(&self, id: LeaseId) -> Option<u64> {
        self.state().leases.ttl_at(id, self.at.index)
    }

    /// All leases that exist for this member, with their times to live, ordered by id.
    pub fn leases(&self) -> Vec<(LeaseId, u64)> {
        self.state().leases.all_at(self.at.index)
    }

    /// The keys that are attached to a lease, in order. To be asked of a member that has applied all that is committed,
    /// as the leader of leases has.
    pub fn lease_keys(&self, id: LeaseId) -> Vec<Key> {
        let state = self.state();
        let mut keys: Vec<Key> = state.leases.keys(id).map(|slot| state.index.history(slot).key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// Visits the changes from revision `first` to revision `last` in order, both included; not past what the member has applied.
    pub(in crate::etcd) fn each_change(&self, first: u64, last: u64, mut visit: impl FnMut(&Written<'_, V>) -> bool) {
        let state = self.state();
        let compacted = self.at.compacted.max(state.floor);
        for change in state.changes.between(first.max(compacted), last.min(self.at.revision)) {
            if !visit(&Written { state: &state, change, compacted }) {
                return;
            }
        }
    }

    fn check_hollow(&self, state: &State<V>) -> Result<(), Error> {
        if state.is_gone(self.at.revision) { Err(Error::Stopped) } else { Ok(()) }
    }

    fn state(&self) -> Ref<'_, State<V>> {
        Ref::map(self.store.0.borrow(), |shared| &shared.state)
    }

    fn with_seat(&self, change: impl FnOnce(&mut Seat)) {
        if let Some(seat) = &mut self.store.0.borrow_mut().seats[self.seat] {
            change(seat);
        }
    }
}

impl<V> Drop for View<V> {
    fn drop(&mut self) {
        if let Ok(mut shared) = self.store.0.try_borrow_mut() {
            shared.seats[self.seat] = None;
        }
    }
}

impl<V: Value> Shared<V> {
    /// The record of an entry, which is carried out now if no member has passed it before.
    fn carry_out_once(&mut self, index: u64, term: u64, command: Option<&Command<V>>) -> Result<Record, Diverged> {
        let place = index.checked_sub(self.first_record).ok_or(Diverged { index })? as usize;
        if let Some(&record) = self.records.get(place) {
            return if record.term == term { Ok(record) } else { Err(Diverged { index }) };
        }
        if place != self.records.len() {
            return Err(Diverged { index });
        }
        if let Some(command) = command {
            self.carry_out(index, command);
        }
        let record = Record { term, revision: self.state.revision };
        self.records.push_back(record);
        Ok(record)
    }

    fn carry_out(&mut self, index: u64, command: &Command<V>) {
        let outcome = match command {
            Command::Txn(txn) => match self.state.transact(txn) {
                Ok(None) => None,
                Ok(Some(result)) => Some(Outcome::Txn(result)),
                Err(error) => Some(Outcome::Failed(error)),
            },
            Command::Compact(revision) => self.state.compact(*revision).err().map(Outcome::Failed),
            &Command::LeaseGrant { id, ttl_s } => self.state.leases.grant(id, ttl_s, index).err().map(Outcome::Failed),
            Command::LeaseRevoke(id) => self.state.revoke(*id, index).err().map(Outcome::Failed),
        };
        if let Some(outcome) = outcome {
            self.outcomes.push_back((index, outcome));
        }
        self.state.sweep(SWEEP_BATCH);
        if index.is_multiple_of(TELL_PERIOD) {
            self.forget_what_was_told();
        }
    }

    /// Gives back what no reader can ask for any more, and no member may show once more after a crash.
    fn forget_what_was_told(&mut self) {
        if let Some(bound) = self.held().map(|seat| seat.durable.revision.min(seat.at.revision)).min() {
            self.state.forget_what_was_told(bound, 2 * TELL_PERIOD as usize);
        }
    }

    /// Notes where a member stands now, and whether the entry it passed allows something to be forgotten.
    fn take_seat(&mut self, seat: usize, at: Snapshot, frees: bool) {
        if let Some(seat) = &mut self.seats[seat] {
            seat.at = at;
        }
        if frees {
            self.settle();
        }
        if self.outcomes.front().is_some_and(|&(index, _)| index < at.index) {
            // Kept until the last running member has passed the entry after it, so that it can still ask.
            let passed = self.running().map(|seat| seat.at.index).min().unwrap_or(0);
            while self.outcomes.front().is_some_and(|&(index, _)| index < passed) {
                self.outcomes.pop_front();
            }
        }
    }

    /// Gives back what no member needs any more.
    fn settle(&mut self) {
        let holding = self.held().map(|seat| match seat.running {
            true => seat.at.compacted.min(seat.durable.revision),
            false => seat.durable.revision.min(self.state.compacted),
        });
        if let Some(lowest) = holding.min() {
            self.state.raise_floor(lowest);
        }
        if let Some(passed) = self.running().map(|seat| seat.at.index).min() {
            self.state.leases.forget_revoked(passed);
        }
    }

    fn trim_records(&mut self) {
        let Some(begin) = self.seats.iter().flatten().map(|seat| seat.log_begins).min() else { return };
        while self.first_record < begin && self.records.pop_front().is_some() {
            self.first_record += 1;
        }
    }

    /// The members that hold back the removal of old versions.
    fn held(&self) -> impl Iterator<Item = &Seat> {
        let last = self.first_record + self.records.len() as u64;
        self.seats.iter().flatten().filter(move |seat| {
            // A hollow member has lost what it could hold back.
            let is_hollow = self.state.is_gone(seat.at.revision.min(seat.durable.revision));
            !is_hollow && (seat.running || seat.durable.index + HELD_FOR_DOWN >= last)
        })
    }

    fn running(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().flatten().filter(|seat| seat.running)
    }
}

/// One change, with the store around it.
pub(in crate::etcd) struct Written<'a, V> {
    state: &'a State<V>,
    change: Change,
    compacted: u64,
}

impl<V: Value> Written<'_, V> {
    /// The key that was written.
    pub fn key(&self) -> &Key {
        &self.state.index.history(self.change.slot).key
    }

    /// The revision.
    pub fn revision(&self) -> u64 {
        self.change.main
    }

    /// The key as this change left it; without a value if it was deleted.
    pub fn after(&self) -> Option<KeyValue<V>> {
        let history = self.state.index.history(self.change.slot);
        history.written(self.change.main, self.change.sub).map(|version| version.key_value(&history.key))
    }

    /// The key as it was before, if it existed and has not been compacted.
    pub fn before(&self) -> Option<KeyValue<V>> {
        let revision = self.change.main.checked_sub(1).filter(|&revision| revision >= self.compacted)?;
        let history = self.state.index.history(self.change.slot);
        history.at(revision).map(|version| version.key_value(&history.key))
    }
}
