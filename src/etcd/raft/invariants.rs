//! The safety properties of Raft over all members at once, after the TLA+ model of etcd-io/raft.
//!
//! Each property is a function over a view of every member, those included that are down: their disks count. These
//! versions read whole logs and are for tests; `safety` checks the same step by step.
//!
//! Three properties are stated here in a form that differs from the model's, because etcd reaches states that the model's
//! form does not allow, none of which loses anything:
//!
//! - *More up to date*: the model compares members pairwise. A deposed leader that has an entry of its own beyond the
//!   prefix that was committed later may be more up to date than a slow follower, and yet lack an entry which that follower
//!   knows to be committed. It cannot be elected, and that is what matters: here the property is asked of members whose
//!   log is at least as up to date as those of a quorum.
//! - *Leader completeness*: the model speaks of leaders of a later term than that of the entry. A deposed leader that has
//!   not noticed yet may have a later term than an entry that an even later leader commits. Raft promises completeness
//!   for leaders of terms after the one in which the entry was committed.
//! - *Committed is durable*: the model asks it of the leader's disk. etcd's leader sends entries while its own disk
//!   still writes, so two followers may commit an entry before their leader has it on disk. Here the disks of a quorum
//!   are asked: so many must hold the entry that no quorum can come together without one of them.

use std::fmt;
use std::rc::Rc;

use super::configuration::Configuration;
use super::entry::{Command, EntryId};
use super::node::{Durable, Raft};
use super::quorum::majority;
use super::{Index, MemberId, Role, Term};

/// What a checker may look at.
pub trait View {
    /// The member.
    fn id(&self) -> MemberId;
    /// What it is. A member that is down is a follower.
    fn role(&self) -> Role;
    /// The latest term it has seen.
    fn term(&self) -> Term;
    /// Whom it has voted for in that term.
    fn vote(&self) -> Option<MemberId>;
    /// The highest index that it knows to be committed.
    fn commit(&self) -> Index;
    /// The highest index applied there; `configuration` is the membership after that entry or a later one.
    fn applied(&self) -> Index;
    /// The highest index on its disk.
    fn durable_index(&self) -> Index;
    /// The last entry of its log.
    fn last(&self) -> EntryId;
    /// The term of the entry at `index`, if its log still knows it. Entries before the ones it knows are committed.
    fn term_at(&self, index: Index) -> Option<Term>;
    /// The lowest index whose term it knows.
    fn lowest_known(&self) -> Index;
    /// The membership as far as applied there.
    fn configuration(&self) -> &Configuration;
    /// The same where it is shared: as long as it is this very one, it need not be compared.
    fn shared_configuration(&self) -> Option<&Rc<Configuration>> {
        None
    }
}

impl<P: Command, S: Clone> View for Raft<P, S> {
    fn id(&self) -> MemberId {
        Raft::id(self)
    }
    fn role(&self) -> Role {
        Raft::role(self)
    }
    fn term(&self) -> Term {
        Raft::term(self)
    }
    fn vote(&self) -> Option<MemberId> {
        Raft::vote(self)
    }
    fn commit(&self) -> Index {
        self.log().committed()
    }
    fn applied(&self) -> Index {
        self.log().applied()
    }
    fn durable_index(&self) -> Index {
        self.log().durable()
    }
    fn last(&self) -> EntryId {
        self.log().last()
    }
    fn term_at(&self, index: Index) -> Option<Term> {
        self.log().term(index)
    }
    fn lowest_known(&self) -> Index {
        self.log().compacted().index
    }
    fn configuration(&self) -> &Configuration {
        Raft::configuration(self)
    }
    fn shared_configuration(&self) -> Option<&Rc<Configuration>> {
        Some(&self.configuration)
    }
}

/// A member that is down, of which only the disk is left.
#[derive(Debug)]
pub struct Down<'a, P, S> {
    /// The member.
    pub id: MemberId,
    /// What its disk holds. The entries must follow the snapshot without a gap.
    pub disk: &'a Durable<P, S>,
    /// The highest index that had been applied there.
    pub applied: Index,
    /// The membership that had been applied there.
    pub configuration: &'a Configuration,
}

impl<P, S> Down<'_, P, S> {
    fn snapshot(&self) -> EntryId {
        self.disk.snapshot.as_ref().map_or(EntryId::default(), |snapshot| snapshot.last)
    }
}

impl<P, S> View for Down<'_, P, S> {
    fn id(&self) -> MemberId {
        self.id
    }
    fn role(&self) -> Role {
        Role::Follower
    }
    fn term(&self) -> Term {
        self.disk.hard_state.term
    }
    fn vote(&self) -> Option<MemberId> {
        self.disk.hard_state.vote
    }
    fn commit(&self) -> Index {
        self.disk.hard_state.commit.max(self.snapshot().index)
    }
    fn applied(&self) -> Index {
        self.applied
    }
    fn durable_index(&self) -> Index {
        self.last().index
    }
    fn last(&self) -> EntryId {
        self.disk.entries.last().map_or(self.snapshot(), super::Entry::id)
    }
    fn term_at(&self, index: Index) -> Option<Term> {
        let snapshot = self.snapshot();
        match index.checked_sub(snapshot.index)? {
            0 => Some(snapshot.term),
            offset => self.disk.entries.get(usize::try_from(offset - 1).ok()?).map(|entry| entry.term),
        }
    }
    fn lowest_known(&self) -> Index {
        self.snapshot().index
    }
    fn configuration(&self) -> &Configuration {
        self.configuration
    }
}

/// The safety properties, by their names in the TLA+ model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// The committed prefixes of any two members agree.
    Log,
    /// No two members lead in the same term.
    MoreThanOneLeader,
    /// A leader has the greatest index of its own term among all logs.
    ElectionSafety,
    /// Two logs that have an entry of the same index and term have the same entries up to it.
    LogMatching,
    /// Every quorum has a member whose log contains all that is committed.
    QuorumLog,
    /// A log that is at least as up to date as those of a quorum contains all that is committed.
    MoreUpToDateCorrect,
    /// Leaders of terms after the one in which an entry was committed have that entry.
    LeaderCompleteness,
    /// Every quorum has a member with all that its leader has committed on disk.
    CommittedIsDurable,
}

/// A broken property, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub invariant: Invariant,
    /// Which members, entries and terms break it.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.text)
    }
}

impl std::error::Error for Violation {}

pub(super) fn broken<T>(invariant: Invariant, text: String) -> Result<T, Violation> {
    Err(Violation { invariant, text })
}

/// Checks all properties over all members.
pub fn check_all(members: &[&dyn View]) -> Result<(), Violation> {
    committed_prefixes_agree(members)?;
    no_two_leaders_in_a_term(members)?;
    leaders_have_the_greatest_index_of_their_term(members)?;
    logs_match(members)?;
    quorums_contain_what_is_committed(members)?;
    the_electable_contain_what_is_committed(members)?;
    leaders_are_complete(members)?;
    what_is_committed_is_durable(members)
}

fn pairs<'a>(members: &'a [&'a dyn View]) -> impl Iterator<Item = (&'a dyn View, &'a dyn View)> {
    members.iter().flat_map(move |a| members.iter().map(move |b| (*a, *b))).filter(|(a, b)| a.id() < b.id())
}

/// The last committed entry of a member, by which its committed prefix is known.
fn committed(member: &dyn View) -> EntryId {
    let index = member.commit();
    EntryId { term: member.term_at(index).unwrap_or(0), index }
}

/// The last committed entry that was decided under the member's configuration or an earlier one. A leader decides under
/// its own; what another member has not applied may have been decided under a configuration it does not know yet.
fn decided(member: &dyn View) -> EntryId {
    let index = if member.role() == Role::Leader { member.commit() } else { member.commit().min(member.applied()) };
    // What it has applied may be gone from its log, when a snapshot waits to be written.
    member.term_at(index).map_or(EntryId::default(), |term| EntryId { term, index })
}

/// Whether `holder`'s log contains the committed prefix that ends at `id`. Where `holder` has compacted beyond it, the
/// agreement of committed prefixes is the question, which has its own property.
fn contains(holder: &dyn View, id: EntryId) -> bool {
    id.index < holder.lowest_known() || holder.term_at(id.index) == Some(id.term)
}

fn leaders<'a>(members: &'a [&'a dyn View]) -> impl Iterator<Item = &'a dyn View> {
    members.iter().copied().filter(|member| member.role() == Role::Leader)
}

/// **LogInv**: the committed prefixes of any two members agree.
pub fn committed_prefixes_agree(members: &[&dyn View]) -> Result<(), Violation> {
    for (a, b) in pairs(members) {
        for index in a.lowest_known().max(b.lowest_known())..=a.commit().min(b.commit()) {
            if a.term_at(index) != b.term_at(index) {
                let text = format!(
                    "entry {index} is committed by member {} with term {} and by member {} with term {}",
                    a.id(),
                    a.term_at(index).unwrap_or(0),
                    b.id(),
                    b.term_at(index).unwrap_or(0)
                );
                return broken(Invariant::Log, text);
            }
        }
    }
    Ok(())
}

/// **MoreThanOneLeaderInv**: no two members lead in the same term.
pub fn no_two_leaders_in_a_term(members: &[&dyn View]) -> Result<(), Violation> {
    for (a, b) in pairs(members) {
        if a.role() == Role::Leader && b.role() == Role::Leader && a.term() == b.term() {
            let text = format!("members {} and {} both lead in term {}", a.id(), b.id(), a.term());
            return broken(Invariant::MoreThanOneLeader, text);
        }
    }
    Ok(())
}

/// The greatest index whose entry has this term.
fn greatest_index_of_term(member: &dyn View, term: Term) -> Index {
    let known = member.lowest_known()..=member.last().index;
    known.rev().find(|index| member.term_at(*index) == Some(term)).unwrap_or(0)
}

/// **ElectionSafetyInv**: a leader has the greatest index of its own term among all logs.
pub fn leaders_have_the_greatest_index_of_their_term(members: &[&dyn View]) -> Result<(), Violation> {
    for leader in leaders(members) {
        let term = leader.term();
        let own = greatest_index_of_term(leader, term);
        for member in members {
            let other = greatest_index_of_term(*member, term);
            if other > own {
                let text = format!(
                    "member {} leads in term {term} with entries of it up to {own}, member {} has one at {other}",
                    leader.id(),
                    member.id()
                );
                return broken(Invariant::ElectionSafety, text);
            }
        }
    }
    Ok(())
}

/// **LogMatchingInv**: an index and a term determine the whole prefix.
pub fn logs_match(members: &[&dyn View]) -> Result<(), Violation> {
    for (a, b) in pairs(members) {
        let low = a.lowest_known().max(b.lowest_known());
        let high = a.last().index.min(b.last().index);
        let mut agreed_above = None;
        for index in (low..=high).rev() {
            let same = a.term_at(index) == b.term_at(index);
            match (same, agreed_above) {
                (true, _) => agreed_above = Some(index),
                (false, None) => {}
                (false, Some(above)) => {
                    let text = format!(
                        "members {} and {} agree on entry {above} and differ on entry {index}: terms {} and {}",
                        a.id(),
                        b.id(),
                        a.term_at(index).unwrap_or(0),
                        b.term_at(index).unwrap_or(0)
                    );
                    return broken(Invariant::LogMatching, text);
                }
            }
        }
    }
    Ok(())
}

/// **QuorumLogInv**: every quorum of a member's configuration has a log that contains what the member has committed.
pub fn quorums_contain_what_is_committed(members: &[&dyn View]) -> Result<(), Violation> {
    for member in members {
        let id = decided(*member);
        let voters = member.configuration().voters();
        let lack = members.iter().filter(|other| voters.contains(&other.id()) && !contains(**other, id)).count();
        if !voters.is_empty() && lack >= majority(voters.len()) {
            let text = format!(
                "member {} has committed up to {} of term {}, and {lack} of its {} voters lack that",
                member.id(),
                id.index,
                id.term,
                voters.len()
            );
            return broken(Invariant::QuorumLog, text);
        }
    }
    Ok(())
}

/// **MoreUpToDateCorrectInv**: a member that could be elected has all that is committed. Members whose configuration is
/// not the one of the member that committed are left out: they learn of the change before they could win.
pub fn the_electable_contain_what_is_committed(members: &[&dyn View]) -> Result<(), Violation> {
    for member in members {
        let id = decided(*member);
        for candidate in members.iter().filter(|other| other.configuration() == member.configuration()) {
            let voters = candidate.configuration().voters();
            let behind = members
                .iter()
                .filter(|other| voters.contains(&other.id()) && candidate.last().is_up_to_date_with(other.last()))
                .count();
            if !voters.is_empty() && behind >= majority(voters.len()) && !contains(*candidate, id) {
                let text = format!(
                    "member {} could be elected by {behind} of {} voters and lacks entry {} of term {}, committed by {}",
                    candidate.id(),
                    voters.len(),
                    id.index,
                    id.term,
                    member.id()
                );
                return broken(Invariant::MoreUpToDateCorrect, text);
            }
        }
    }
    Ok(())
}

/// **LeaderCompletenessInv**: a leader has all that members of earlier terms have committed.
pub fn leaders_are_complete(members: &[&dyn View]) -> Result<(), Violation> {
    for leader in leaders(members) {
        for member in members.iter().filter(|member| member.term() < leader.term()) {
            let id = committed(*member);
            if !contains(leader, id) {
                let text = format!(
                    "member {} leads in term {} and lacks entry {} of term {}, committed by {} in term {}",
                    leader.id(),
                    leader.term(),
                    id.index,
                    id.term,
                    member.id(),
                    member.term()
                );
                return broken(Invariant::LeaderCompleteness, text);
            }
        }
    }
    Ok(())
}

/// **CommittedIsDurableInv**: every quorum has a member with all that its leader has committed on disk.
pub fn what_is_committed_is_durable(members: &[&dyn View]) -> Result<(), Violation> {
    for leader in leaders(members) {
        let id = committed(leader);
        let voters = leader.configuration().voters();
        let durable = members
            .iter()
            .filter(|member| {
                voters.contains(&member.id()) && member.durable_index() >= id.index && contains(**member, id)
            })
            .count();
        if id.index > 0 && voters.len() - durable >= majority(voters.len()) {
            let text = format!(
                "member {} leads and has committed up to {} of term {}, which only {durable} of {} disks hold",
                leader.id(),
                id.index,
                id.term,
                voters.len()
            );
            return broken(Invariant::CommittedIsDurable, text);
        }
    }
    Ok(())
}
