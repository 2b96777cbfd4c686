//! Committed entries: to the store, then to watchers, then to the client that waits.

use super::{Act, Failure, Running};
use crate::etcd::message::{CLIENT_LANE, Logged, Message, Reply};
use crate::etcd::mvcc::{Command, Outcome};
use crate::etcd::raft::{Entry, Payload};
use crate::etcd::value::Value;

impl<V: Value> Running<V> {
    /// Applies one entry. One that the store already has, after a restart, changes only the membership.
    pub(super) fn apply(&mut self, entry: &Entry<Logged<V>>, at: &mut Act<'_, V>) -> Result<(), Failure> {
        let is_new = entry.index > at.view.applied_index();
        let (index, term) = (entry.index, entry.term);
        match &entry.data {
            Payload::Normal(logged) if is_new => self.apply_command(index, term, logged, at),
            Payload::Normal(_) => Ok(()),
            Payload::Empty => {
                if is_new {
                    at.view.apply(index, term, None).map_err(Failure::Diverged)?;
                }
                self.term_begun(term, at);
                Ok(())
            }
            Payload::Configuration(change) => {
                if is_new {
                    at.view.apply(index, term, None).map_err(Failure::Diverged)?;
                }
                self.apply_change(*change, at)
            }
        }
    }

    fn apply_command(&mut self, index: u64, term: u64, logged: &Logged<V>, at: &mut Act<'_, V>) -> Result<(), Failure> {
        let proposal = &*logged.0;
        let applied = at.view.apply(index, term, Some(&proposal.command)).map_err(Failure::Diverged)?;
        if applied.changed {
            let (ctx, serve) = (&mut *at.ctx, at.settings.serve);
            self.streams.watchers.notify(at.view, applied.revision, &mut |(client, response)| {
                ctx.send_after(serve, client, CLIENT_LANE, Message::Watched(response));
            });
        }
        self.leases.follow(&proposal.command, at.view, at.now());
        self.arm_lease_scan(at);
        if proposal.origin == self.raft.id() {
            self.answer(index, proposal.number, &proposal.command, at);
        }
        Ok(())
    }

    /// Answers whoever waits for an entry of this member.
    fn answer(&mut self, index: u64, number: u64, command: &Command<V>, at: &mut Act<'_, V>) {
        let Some(waiter) = self.waiting.take(number) else {
            self.propose_revocations(at);
            return;
        };
        // Without an outcome the entry is from an earlier life, and nobody waits for those.
        let Some(outcome) = at.view.outcome(index, command) else { return };
        let result = match (outcome, command) {
            (Outcome::Failed(error), _) => Err(error),
            (Outcome::Txn(result), _) => Ok(Reply::Txn(result)),
            (Outcome::Done, &Command::LeaseGrant { id, ttl_s }) => Ok(Reply::Lease { id, ttl_s }),
            (Outcome::Done, Command::LeaseRevoke(_)) => Ok(Reply::Revoked),
            (Outcome::Done, _) => Ok(Reply::Compacted),
        };
        at.respond(waiter.client, waiter.id, result);
    }

    /// The first entry of a term is committed: reads that waited for it are asked for again, and if this member leads, it
    /// takes over the clock of leases.
    fn term_begun(&mut self, term: u64, at: &mut Act<'_, V>) {
        if term != self.raft.term() {
            return;
        }
        self.ask_again();
        if self.leads() {
            self.leases.promote(at.view, at.now(), at.settings.election_timeout());
            self.arm_lease_scan(at);
        }
    }
}
