//! The safety properties of `invariants`, checked in every run: each step is compared with what was seen before, so that
//! the cost follows what has changed and not the length of the logs.
//!
//! The checker keeps, for all members together, which entry was committed at each index and who led each term from where;
//! and for each member the terms of its log. Logs are kept as spans of equal terms, so they take a few words per
//! election. That an index and a term determine the whole prefix follows by induction if every new entry has the one
//! predecessor that its term allows: an entry of the same term, or for the first of a term the one that its leader had.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::configuration::Configuration;
use super::entry::EntryId;
use super::invariants::{Invariant, View, Violation, broken};
use super::quorum::majority;
use super::{Index, MemberId, Role, Term};

/// Watches all members of a group. Show it every member after everything that member does.
#[derive(Clone, Debug, Default)]
pub struct SafetyChecker {
    /// The entries that some member knew to be committed.
    committed: Spans,
    /// The terms in which they were committed first.
    committed_in: Spans,
    terms: BTreeMap<Term, TermRecord>,
    /// In id order.
    members: Vec<Shadow>,
}

/// What is known about one term.
#[derive(Clone, Copy, Debug)]
struct TermRecord {
    /// Who led it; unknown for entries that were there before the checker.
    leader: Option<MemberId>,
    first: Index,
    last: Index,
    /// The term of the entry before the first.
    previous: Term,
}

/// A member as it was last seen.
#[derive(Clone, Debug)]
struct Shadow {
    id: MemberId,
    role: Role,
    term: Term,
    commit: Index,
    applied: Index,
    durable: Index,
    last: EntryId,
    log: Spans,
    configuration: Rc<Configuration>,
}

/// A term for every index from 1 to `last`, kept as spans.
#[derive(Clone, Debug, Default)]
struct Spans {
    /// First index and term of each span.
    spans: Vec<(Index, Term)>,
    last: Index,
}

impl Spans {
    /// The term at an index; 0 before the first.
    fn term(&self, index: Index) -> Option<Term> {
        if index > self.last {
            return None;
        }
        Some(self.spans.iter().rev().find(|(first, _)| *first <= index).map_or(0, |(_, term)| *term))
    }

    fn push(&mut self, term: Term) {
        self.last += 1;
        if self.spans.last().is_none_or(|(_, last)| *last != term) {
            self.spans.push((self.last, term));
        }
    }

    fn truncate(&mut self, last: Index) {
        self.last = self.last.min(last);
        while self.spans.last().is_some_and(|(first, _)| *first > last) {
            self.spans.pop();
        }
    }

    fn contains(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }
}

impl Shadow {
    fn new(id: MemberId) -> Shadow {
        Shadow {
            id,
            role: Role::Follower,
            term: 0,
            commit: 0,
            applied: 0,
            durable: 0,
            last: EntryId::default(),
            log: Spans::default(),
            configuration: Rc::default(),
        }
    }

    /// The last committed entry that was decided under the member's configuration or an earlier one.
    fn decided(&self) -> EntryId {
        let index = if self.role == Role::Leader { self.commit } else { self.commit.min(self.applied) };
        EntryId { term: self.log.term(index).unwrap_or(0), index }
    }

    /// Whether `view` shows nothing new.
    fn is_like(&self, view: &impl View) -> bool {
        self.commit == view.commit()
            && self.durable == view.durable_index()
            && self.last == view.last()
            && self.role == view.role()
            && self.term == view.term()
            && self.has_configuration_of(view)
    }

    fn has_configuration_of(&self, view: &impl View) -> bool {
        view.shared_configuration().is_some_and(|shared| Rc::ptr_eq(shared, &self.configuration))
            || *self.configuration == *view.configuration()
    }
}

impl SafetyChecker {
    /// A checker that has seen nothing.
    pub fn new() -> SafetyChecker {
        SafetyChecker::default()
    }

    /// The last entry that any member knew to be committed.
    pub fn committed(&self) -> EntryId {
        EntryId { term: self.committed.term(self.committed.last).unwrap_or(0), index: self.committed.last }
    }

    /// Looks at a member after it has done something.
    pub fn observe(&mut self, view: &impl View) -> Result<(), Violation> {
        let position = self.position(view.id());
        if self.members[position].is_like(view) {
            return Ok(());
        }
        self.compare(position, view, false)
    }

    /// Looks at what is left of a member that has crashed: it may have lost entries and knowledge of commits.
    pub fn observe_crash(&mut self, view: &impl View) -> Result<(), Violation> {
        let position = self.position(view.id());
        self.compare(position, view, true)
    }

    /// The place of a member among those seen, made if it is new.
    fn position(&mut self, id: MemberId) -> usize {
        // This is asked after each step of each. Mostly they are numbered from zero.
        let place = id.0 as usize;
        if self.members.get(place).is_some_and(|member| member.id == id) {
            return place;
        }
        if let Some(position) = self.members.iter().position(|member| member.id == id) {
            return position;
        }
        let position = self.members.partition_point(|member| member.id < id);
        self.members.insert(position, Shadow::new(id));
        position
    }

    fn compare(&mut self, position: usize, view: &impl View, crashed: bool) -> Result<(), Violation> {
        let (role, term, last) = (view.role(), view.term(), view.last());
        let before = &self.members[position];
        let elected = role == Role::Leader && (before.role, before.term) != (Role::Leader, term);
        let before_last = before.last;
        let reconfigured = !before.has_configuration_of(view);
        if elected {
            self.record_leader(view)?;
        }
        // The same last entry stands for the same log.
        let lost = before_last != last && self.follow_log(position, view, crashed)?;
        let member = &mut self.members[position];
        (member.role, member.term, member.last) = (role, term, last);
        (member.applied, member.durable) = (view.applied(), view.durable_index());
        match view.shared_configuration() {
            Some(shared) if !Rc::ptr_eq(shared, &member.configuration) => member.configuration = Rc::clone(shared),
            None if reconfigured => member.configuration = Rc::new(view.configuration().clone()),
            _ => {}
        }
        let commit = view.commit();
        let commits = member.commit != commit;
        if elected {
            self.check_new_leader(position)?;
        }
        if commits {
            self.follow_commit(position, commit, crashed)?;
        }
        if lost {
            for position in 0..self.members.len() {
                self.check_quorums(position)?;
            }
        } else if reconfigured {
            self.check_quorums(position)?;
        }
        Ok(())
    }

    /// A member leads a term: no one else ever may, and its entries of that term begin where it says.
    fn record_leader(&mut self, view: &impl View) -> Result<(), Violation> {
        let (id, term) = (view.id(), view.term());
        if let Some(TermRecord { leader: Some(other), .. }) = self.terms.get(&term)
            && *other != id
        {
            return broken(Invariant::MoreThanOneLeader, format!("members {other} and {id} both lead in term {term}"));
        }
        let mut first = view.last().index;
        while view.term_at(first.saturating_sub(1)) == Some(term) {
            first -= 1;
        }
        let previous = view.term_at(first.saturating_sub(1)).unwrap_or(0);
        self.terms.insert(term, TermRecord { leader: Some(id), first, last: view.last().index, previous });
        Ok(())
    }

    /// Brings the copy of a member's log up to date and checks what is new in it. True if entries were lost.
    fn follow_log(&mut self, position: usize, view: &impl View, crashed: bool) -> Result<bool, Violation> {
        let (lowest, last) = (view.lowest_known(), view.last().index);
        let member = &mut self.members[position];
        let mut keep = member.log.last.min(last);
        while keep > lowest && member.log.term(keep) != view.term_at(keep) {
            keep -= 1;
        }
        let lost = keep < member.log.last;
        if keep < lowest || member.log.term(keep) != view.term_at(keep) {
            // The log now begins with a snapshot that the member's former log does not lead to.
            let snapshot = EntryId { term: view.term_at(lowest).unwrap_or(0), index: lowest };
            if !self.committed.contains(snapshot) {
                let text = format!(
                    "member {} has a snapshot up to entry {} of term {}, which nobody has committed",
                    view.id(),
                    snapshot.index,
                    snapshot.term
                );
                return broken(Invariant::Log, text);
            }
            member.log = self.committed.clone();
            keep = lowest;
        } else if lost && !crashed && keep < member.commit {
            let text =
                format!("member {} has dropped its entries after {keep}, committed up to {}", view.id(), member.commit);
            return broken(Invariant::Log, text);
        }
        member.log.truncate(keep);
        for index in keep + 1..=last {
            let Some(term) = view.term_at(index) else {
                return broken(Invariant::LogMatching, format!("member {} has no entry {index}", view.id()));
            };
            self.check_new_entry(position, view, EntryId { term, index })?;
            self.members[position].log.push(term);
        }
        Ok(lost)
    }

    /// An entry has appeared in a member's log: only its term's leader makes new ones, and the entry before it is the one
    /// that its term allows.
    fn check_new_entry(&mut self, position: usize, view: &impl View, entry: EntryId) -> Result<(), Violation> {
        let EntryId { term, index } = entry;
        let previous = self.members[position].log.term(index - 1).unwrap_or(0);
        let record = self.terms.entry(term).or_insert(TermRecord { leader: None, first: index, last: index, previous });
        if index > record.last {
            let makes = view.role() == Role::Leader && view.term() == term;
            if !makes && record.leader.is_some() {
                let text = format!(
                    "member {} has entry {index} of term {term}, whose leader has made entries up to {}",
                    view.id(),
                    record.last
                );
                return broken(Invariant::ElectionSafety, text);
            }
            record.last = index;
        }
        let allowed = if index == record.first { record.previous } else { term };
        if index < record.first || previous != allowed {
            let text = format!(
                "member {} has entry {index} of term {term} after one of term {previous}, while the term begins at {} \
                 after one of term {}",
                view.id(),
                record.first,
                record.previous
            );
            return broken(Invariant::LogMatching, text);
        }
        Ok(())
    }

    /// A new leader must have everything that was committed in earlier terms.
    fn check_new_leader(&self, position: usize) -> Result<(), Violation> {
        let leader = &self.members[position];
        let mut index = self.committed.last;
        while index > 0 && self.committed_in.term(index).is_some_and(|term| term >= leader.term) {
            index -= 1;
        }
        self.check_complete(leader, index)
    }

    /// Whether a leader has the committed entries up to `index`.
    fn check_complete(&self, leader: &Shadow, index: Index) -> Result<(), Violation> {
        let id = EntryId { term: self.committed.term(index).unwrap_or(0), index };
        if leader.log.contains(id) {
            return Ok(());
        }
        let text = format!(
            "member {} leads in term {} and lacks entry {index} of term {}, committed in term {}",
            leader.id,
            leader.term,
            id.term,
            self.committed_in.term(index).unwrap_or(0)
        );
        broken(Invariant::LeaderCompleteness, text)
    }

    /// Compares what a member has newly committed with what others have, and checks the first one to commit an entry.
    fn follow_commit(&mut self, position: usize, commit: Index, crashed: bool) -> Result<(), Violation> {
        let member = &mut self.members[position];
        let before = member.commit;
        if commit < before && !crashed {
            let text = format!("member {} takes its commit index back from {before} to {commit}", member.id);
            return broken(Invariant::Log, text);
        }
        member.commit = commit;
        let known = self.committed.last;
        for index in before + 1..=commit {
            let Some(ours) = member.log.term(index) else {
                let text = format!("member {} has committed entry {index} and does not have it", member.id);
                return broken(Invariant::Log, text);
            };
            match self.committed.term(index) {
                None => {
                    self.committed.push(ours);
                    self.committed_in.push(member.term);
                }
                Some(theirs) if ours == theirs => {}
                Some(theirs) => {
                    let text = format!(
                        "member {} has committed entry {index} of term {ours}, which another has committed with term {theirs}",
                        member.id
                    );
                    return broken(Invariant::Log, text);
                }
            }
        }
        if self.committed.last > known { self.check_new_commit(position) } else { Ok(()) }
    }

    /// Something was committed for the first time: it must be safe now.
    fn check_new_commit(&self, position: usize) -> Result<(), Violation> {
        self.check_quorums(position)?;
        let member = &self.members[position];
        let id = member.decided();
        for other in self.members.iter().filter(|other| !other.log.contains(id)) {
            if other.role == Role::Leader && other.term > member.term {
                return self.check_complete(other, id.index);
            }
            if other.configuration != member.configuration {
                continue;
            }
            let voters = other.configuration.voters();
            let behind = self.voters(voters).filter(|voter| other.last.is_up_to_date_with(voter.last)).count();
            if behind >= majority(voters.len()) {
                let text = format!(
                    "member {} could be elected by {behind} of {} voters and lacks entry {} of term {}, committed by {}",
                    other.id,
                    voters.len(),
                    id.index,
                    id.term,
                    member.id
                );
                return broken(Invariant::MoreUpToDateCorrect, text);
            }
        }
        Ok(())
    }

    /// Every quorum of a member's configuration has a log with what the member has committed, and if it leads, a disk.
    fn check_quorums(&self, position: usize) -> Result<(), Violation> {
        let member = &self.members[position];
        let id = member.decided();
        let voters = member.configuration.voters();
        if voters.is_empty() || id.index == 0 {
            return Ok(());
        }
        let (mut held, mut durable) = (0, 0);
        for voter in self.voters(voters).filter(|voter| voter.log.contains(id)) {
            held += 1;
            durable += usize::from(voter.durable >= id.index);
        }
        let needed = majority(voters.len());
        let text = |place: &str, count: usize| {
            format!(
                "member {} has committed up to {} of term {}, which only {count} of {} {place} hold",
                member.id,
                id.index,
                id.term,
                voters.len()
            )
        };
        if voters.len() - held >= needed {
            return broken(Invariant::QuorumLog, text("logs", held));
        }
        if member.role == Role::Leader && voters.len() - durable >= needed {
            return broken(Invariant::CommittedIsDurable, text("disks", durable));
        }
        Ok(())
    }

    /// The members among `voters` that have been seen.
    fn voters<'a>(&'a self, voters: &'a [MemberId]) -> impl Iterator<Item = &'a Shadow> {
        self.members.iter().filter(|member| voters.contains(&member.id))
    }
}
