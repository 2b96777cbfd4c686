//! Linearizable reads: one question to the leader serves all reads that wait (etcd: etcdserver/read).

use std::rc::Rc;

use super::request::Asker;
use super::{Act, Running, token};
use crate::engine::process::ProcessId;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::error::Error;
use crate::etcd::lease::LeaseId;
use crate::etcd::message::Reply;
use crate::etcd::mvcc::{Range, Txn};
use crate::etcd::value::Value;

/// An unanswered question is asked again after this time.
const RETRY: SimDuration = SimDuration::from_millis(500);

/// What waits for a confirmed read.
#[derive(Debug)]
enum Wanted<V> {
    Range(Box<Range>),
    Txn(Rc<Txn<V>>),
    /// A leader that may have lost its leadership without knowing asks before it keeps a lease alive.
    KeepAlive(LeaseId),
}

#[derive(Debug)]
struct Reader<V> {
    asker: Asker,
    wanted: Wanted<V>,
}

/// The reads under one question.
#[derive(Debug)]
struct Round<V> {
    context: u64,
    started: SimTime,
    asked: SimTime,
    /// What must be applied before the reads are served, once it is known.
    index: Option<u64>,
    readers: Vec<Reader<V>>,
}

/// Linearizable reads of one member: at most one round is under way, and what arrives meanwhile is for the next one.
#[derive(Debug)]
pub(super) struct Reads<V> {
    round: Option<Round<V>>,
    next: Vec<Reader<V>>,
    context: u64,
    armed: bool,
}

impl<V> Reads<V> {
    /// No reads; questions are numbered from here.
    pub fn beginning_at(context: u64) -> Reads<V> {
        Reads { round: None, next: Vec::new(), context, armed: false }
    }
}

impl<V: Value> Running<V> {
    pub(super) fn range(&mut self, asker: Asker, range: Box<Range>, at: &mut Act<'_, V>) {
        if range.serializable {
            let result = at.view.range(&range).map(Reply::Range);
            at.respond(asker.client, asker.id, result);
        } else {
            self.read(Reader { asker, wanted: Wanted::Range(range) }, at);
        }
    }

    pub(super) fn read_txn(&mut self, asker: Asker, txn: Rc<Txn<V>>, at: &mut Act<'_, V>) {
        if txn.is_serializable() {
            let result = at.view.read(&txn).map(Reply::Txn);
            at.respond(asker.client, asker.id, result);
        } else {
            self.read(Reader { asker, wanted: Wanted::Txn(txn) }, at);
        }
    }

    /// Keeps a lease alive after a confirmed read.
    pub(super) fn keep_alive_confirmed(&mut self, client: ProcessId, id: u64, lease: LeaseId, at: &mut Act<'_, V>) {
        let asker = Asker { client, id, deadline: None, cause: at.ctx.cause() };
        self.read(Reader { asker, wanted: Wanted::KeepAlive(lease) }, at);
    }

    fn read(&mut self, reader: Reader<V>, at: &mut Act<'_, V>) {
        if let Some(deadline) = reader.asker.deadline {
            at.ctx.set_timer(deadline, token::READ_DEADLINE);
        }
        self.reads.next.push(reader);
        self.begin_round(at);
    }

    /// Asks for the index that the waiting reads need, unless a question is out already.
    fn begin_round(&mut self, at: &mut Act<'_, V>) {
        if self.reads.round.is_some() || self.reads.next.is_empty() {
            return;
        }
        self.reads.context += 1;
        let (context, now) = (self.reads.context, at.now());
        let readers = std::mem::take(&mut self.reads.next);
        self.reads.round = Some(Round { context, started: now, asked: now, index: None, readers });
        self.raft.read_index(context);
        if !self.reads.armed {
            self.reads.armed = true;
            at.ctx.set_timer(now + RETRY, token::READ_RETRY);
        }
    }

    /// The leader has answered.
    pub(super) fn read_confirmed(&mut self, context: u64, index: u64) {
        if let Some(round) = self.reads.round.as_mut().filter(|round| round.context == context) {
            round.index.get_or_insert(index);
        }
    }

    /// Serves the round under way if what it needs is applied, and begins the next.
    pub(super) fn serve_reads(&mut self, at: &mut Act<'_, V>) {
        if self.reads.round.is_none() {
            return;
        }
        let applied = at.view.applied_index();
        let ripe = |round: &mut Round<V>| round.index.is_some_and(|index| index <= applied);
        let here = at.ctx.cause();
        while let Some(round) = self.reads.round.take_if(ripe) {
            for reader in round.readers {
                // The question was asked for all of them at once: each answer is ascribed to its own request.
                at.ctx.set_cause(reader.asker.cause);
                let result = match reader.wanted {
                    Wanted::Range(range) => at.view.range(&range).map(Reply::Range),
                    Wanted::Txn(txn) => at.view.read(&txn).map(Reply::Txn),
                    Wanted::KeepAlive(lease) => self.leases.keep_alive(lease, at.now()),
                };
                at.respond(reader.asker.client, reader.asker.id, result);
            }
            at.ctx.set_cause(here);
            self.begin_round(at);
        }
    }

    /// A new leader: whoever waits for the old one's word is told to try again.
    pub(super) fn leader_changed(&mut self, at: &mut Act<'_, V>) {
        self.fail_round(Error::LeaderChanged, at);
    }

    fn fail_round(&mut self, error: Error, at: &mut Act<'_, V>) {
        if let Some(round) = self.reads.round.take_if(|round| round.index.is_none()) {
            for reader in round.readers {
                at.respond(reader.asker.client, reader.asker.id, Err(error));
            }
            self.begin_round(at);
        }
    }

    /// Those readers whose own time is over are told so.
    pub(super) fn give_up_reads(&mut self, at: &mut Act<'_, V>) {
        let now = at.now();
        let round = self.reads.round.as_mut().map(|round| &mut round.readers);
        for readers in round.into_iter().chain([&mut self.reads.next]) {
            readers.retain(|reader| {
                let over = reader.asker.deadline.is_some_and(|deadline| deadline <= now);
                if over {
                    at.respond(reader.asker.client, reader.asker.id, Err(Error::DeadlineExceeded));
                }
                !over
            });
        }
    }

    /// Asks again: the leader may only now be able to answer.
    pub(super) fn ask_again(&mut self) {
        if let Some(round) = self.reads.round.as_ref().filter(|round| round.index.is_none()) {
            self.raft.read_index(round.context);
        }
    }

    /// Looks after the round under way: asks again every half second, and gives up when the request timeout is over.
    pub(super) fn retry_read(&mut self, at: &mut Act<'_, V>) {
        self.reads.armed = false;
        let now = at.now();
        let over = |round: &Round<V>| now.since(round.started) >= at.settings.request_timeout();
        if self.reads.round.as_ref().is_some_and(over) {
            self.fail_round(Error::Timeout, at);
        }
        // Once the leader has answered, what is left is to apply what it said: for that nobody asks again, and it takes as long as it
        // takes (etcdserver: `linearizableReadLoop`).
        let Some(round) = self.reads.round.as_mut().filter(|round| round.index.is_none()) else { return };
        if now.since(round.asked) >= RETRY {
            round.asked = now;
            self.raft.read_index(round.context);
        }
        let wake = (round.asked + RETRY).min(round.started + at.settings.request_timeout());
        if !self.reads.armed {
            self.reads.armed = true;
            at.ctx.set_timer(wake, token::READ_RETRY);
        }
    }
}
