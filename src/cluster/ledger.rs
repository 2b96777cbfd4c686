//! Which of the writes that etcd has committed have been told: each one once, and those of one object in the order of their revisions.
//!
//! A write is told when its API server learns that etcd has made it. What a client is told, and what is told here, are two things:
//! a server may never learn what became of a write. So what etcd commits is noted here until it is told, and is told
//!
//! - when its server is told by etcd;
//! - else when a later write of the same object is told, which can only have come after it;
//! - else when its server is in doubt (the connection broke, etcd gave up waiting) or has died: at once if it was made by then, or
//!   when it is made.
//!
//! A write in doubt is known among those committed by what it is, not by when it comes: a version by the object itself, which is
//! the one that the server sent; a deletion by the version that went, as a transaction that compares the revision can only have
//! succeeded on that one. So another's write is never taken for it, though both set out from the same version: once a version has
//! been replaced, whatever else was to replace it is forgotten. What etcd deletes because its lease has ended is nobody's write and
//! is not told.

use std::collections::{BTreeMap, VecDeque};

use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::apiserver::{ApiServer, CommittedWrite, Doubt};

use super::members::{Commit, Members};

/// The writes that have not been told, and those of which nobody knows what becomes of them.
#[derive(Default)]
pub struct Ledger {
    /// What has been committed up to this revision is here or has been told.
    seen: u64,
    untold: VecDeque<Commit>,
    doubts: BTreeMap<ObjectKey, Vec<Doubt>>,
}

impl Ledger {
    /// Whether etcd has committed anything since it was last caught up with, given what the member has applied that has just done
    /// something.
    #[inline]
    pub fn is_behind(&self, applied: u64) -> bool {
        applied > self.seen
    }

    /// Takes in what etcd has committed since the last call; returns what was in doubt and has happened, with what went before it.
    pub fn catch_up(&mut self, etcd: &Members, servers: &[Option<ApiServer>]) -> Vec<CommittedWrite> {
        let first = self.untold.len();
        etcd.each_commit_after(self.seen, |commit| self.untold.push_back(commit));
        self.seen = etcd.revision();
        if self.doubts.is_empty() {
            return Vec::new();
        }
        let news: Vec<ObjectKey> = self.untold.iter().skip(first).map(Commit::key).collect();
        news.into_iter().flat_map(|key| self.settle(&key, etcd, servers)).collect()
    }

    /// A server was told that its writes are made; returns each with what went before it, unless it has been told already.
    pub fn acknowledged(&mut self, writes: Vec<CommittedWrite>, servers: &[Option<ApiServer>]) -> Vec<CommittedWrite> {
        // The usual case: one write, and it is the oldest of which nobody has been told.
        if let [write] = &writes[..]
            && self.untold.front().is_some_and(|commit| commit.revision == write.revision)
        {
            self.untold.pop_front();
            return writes;
        }
        let mut told = Vec::with_capacity(writes.len());
        for write in writes {
            let Ok(place) = self.untold.binary_search_by_key(&write.revision, |commit| commit.revision) else {
                continue;
            };
            self.untold.remove(place);
            if self.untold.iter().take(place).any(|earlier| earlier.is_of(&write.key)) {
                told.extend(self.tell(&write.key, write.revision, servers));
            }
            told.push(write);
        }
        told
    }

    /// Writes have come into doubt.
    pub fn note(&mut self, doubts: Vec<Doubt>) {
        for doubt in doubts {
            self.doubts.entry(doubt.key.clone()).or_default().push(doubt);
        }
    }

    /// What etcd deleted by itself is not told.
    pub fn lapsed(&mut self, revision: u64) {
        self.untold.retain(|commit| commit.revision != revision);
    }

    /// Returns what was in doubt of an object and is made, with what went before it, and forgets what cannot happen any more: of the
    /// newest version alone nobody knows what replaces it.
    pub fn settle(&mut self, key: &ObjectKey, etcd: &Members, servers: &[Option<ApiServer>]) -> Vec<CommittedWrite> {
        let Some(doubts) = self.doubts.get(key) else { return Vec::new() };
        let is_doubt = |commit: &&Commit| doubts.iter().any(|doubt| doubt.is(commit.old.as_ref(), commit.new.as_ref()));
        let made = self.untold.iter().filter(|commit| commit.is_of(key)).rfind(is_doubt).map(|commit| commit.revision);
        let writes = made.map_or_else(Vec::new, |made| self.tell(key, made + 1, servers));
        if let Some(doubts) = self.doubts.get_mut(key) {
            let newest = etcd.newest(key);
            doubts.retain(|doubt| doubt.base == newest);
            if doubts.is_empty() {
                self.doubts.remove(key);
            }
        }
        writes
    }

    /// Tells all that happened to an object before a revision.
    fn tell(&mut self, key: &ObjectKey, before: u64, servers: &[Option<ApiServer>]) -> Vec<CommittedWrite> {
        let mut writes = Vec::new();
        let mut place = 0;
        while self.untold.get(place).is_some_and(|commit| commit.revision < before) {
            if self.untold[place].is_of(key) {
                writes.extend(self.untold.remove(place).map(|commit| self.ascribe(commit, servers)));
            } else {
                place += 1;
            }
        }
        writes
    }

    /// A write with who asked for it: of those in doubt, or of those for which servers wait.
    fn ascribe(&mut self, commit: Commit, servers: &[Option<ApiServer>]) -> CommittedWrite {
        let key = commit.key();
        let is_it = |doubt: &Doubt| doubt.key == key && doubt.is(commit.old.as_ref(), commit.new.as_ref());
        let known = self.doubts.get_mut(&key).and_then(|doubts| {
            let place = doubts.iter().position(is_it)?;
            Some(doubts.remove(place))
        });
        let under_way = || servers.iter().flatten().flat_map(ApiServer::writes_under_way).find(is_it);
        let author = known.or_else(under_way).map(|doubt| (doubt.agent, doubt.verb));
        let (agent, verb) = author.unwrap_or_else(|| (Name::of("kube-apiserver"), commit.verb()));
        CommittedWrite { revision: commit.revision, key, old: commit.old, new: commit.new, agent, verb }
    }
}

impl Commit {
    fn object(&self) -> &Object {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has a version before or after it")
    }

    /// What it is called where nobody knows who asked for it.
    fn verb(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => "create",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        }
    }

    /// The object's place.
    pub fn key(&self) -> ObjectKey {
        self.object().key()
    }

    fn is_of(&self, key: &ObjectKey) -> bool {
        let (object, meta) = (self.object(), self.object().meta());
        object.kind() == key.kind && meta.name == key.name && meta.namespace == key.namespace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;
    use crate::api::meta::Meta;
    use crate::api::object::Resource;
    use crate::api::plain::ConfigMap;
    use crate::engine::random::Seed;

    /// A version of the one object, stored at a revision; zero if it is not.
    fn version(revision: u64) -> Object {
        let meta = Meta { name: Name::of("settings"), ..Meta::default() };
        meta.resource_version.set(revision);
        ConfigMap { meta, content: std::rc::Rc::default() }.boxed()
    }

    fn commit(revision: u64, old: Option<&Object>, new: Option<&Object>) -> Commit {
        Commit { revision, old: old.cloned(), new: new.cloned() }
    }

    fn doubt(agent: &'static str, base: u64, new: Option<&Object>) -> Doubt {
        let key = ObjectKey::new(Kind::ConfigMap, "", "settings");
        Doubt { key, base, new: new.cloned(), agent: Name::of(agent), verb: "update" }
    }

    fn acknowledged(commit: &Commit) -> CommittedWrite {
        let Commit { revision, old, new } = commit.clone();
        CommittedWrite { revision, key: commit.key(), old, new, agent: Name::of("sure"), verb: "update" }
    }

    /// A ledger to which this has been committed, and etcd without a word of it.
    fn ledger(commits: &[Commit]) -> (Ledger, Members) {
        let ledger = Ledger { untold: commits.iter().cloned().collect(), ..Ledger::default() };
        (ledger, Members::new(&[], &[], Seed(1)))
    }

    fn told(writes: &[CommittedWrite]) -> Vec<(u64, &str)> {
        writes.iter().map(|write| (write.revision, &*write.agent)).collect()
    }

    #[test]
    fn a_write_brings_out_what_was_in_doubt_before_it() {
        let (first, second, third) = (version(2), version(5), version(9));
        let all = [commit(5, Some(&first), Some(&second)), commit(9, Some(&second), Some(&third))];
        let (mut ledger, _) = ledger(&all);
        ledger.note(vec![doubt("unsure", 2, Some(&second))]);
        assert_eq!(told(&ledger.acknowledged(vec![acknowledged(&all[1])], &[])), [(5, "unsure"), (9, "sure")]);
        assert!(ledger.acknowledged(vec![acknowledged(&all[0])], &[]).is_empty(), "it has been told");
    }

    #[test]
    fn another_write_of_the_same_version_is_not_taken_for_the_one_in_doubt() {
        let (first, second, lost) = (version(2), version(5), version(0));
        let all = [commit(5, Some(&first), Some(&second))];
        let (mut ledger, etcd) = ledger(&all);
        let doubt = doubt("unsure", 2, Some(&lost));
        let key = doubt.key.clone();
        ledger.note(vec![doubt]);
        assert!(ledger.settle(&key, &etcd, &[]).is_empty());
        assert!(ledger.doubts.is_empty(), "the version that it was to replace is gone");
        assert_eq!(told(&ledger.acknowledged(vec![acknowledged(&all[0])], &[])), [(5, "sure")]);
    }

    #[test]
    fn a_deletion_in_doubt_is_that_of_its_version_alone() {
        let (first, second) = (version(2), version(5));
        let (mut ledger, etcd) = ledger(&[commit(7, Some(&second), None)]);
        let (other, own) = (doubt("other", 2, None), doubt("own", 5, None));
        let key = own.key.clone();
        ledger.note(vec![other, own]);
        assert_eq!(told(&ledger.settle(&key, &etcd, &[])), [(7, "own")]);
        assert!(!doubt("other", 2, None).is(Some(&second), None) && doubt("other", 2, None).is(Some(&first), None));
    }
}
