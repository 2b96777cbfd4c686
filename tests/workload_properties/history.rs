//! Whether the writes that a run tells are those which etcd has committed: each one once, as it was committed, and those of one object
//! in the order of their revisions.

use std::collections::BTreeMap;

use kubesim::api::kind::Kind;
use kubesim::api::meta::ObjectKey;
use kubesim::api::object::Object;
use kubesim::cluster::Cluster;
use kubesim::cluster::members::Commit;
use kubesim::cluster::news::Write;
use kubesim::engine::time::{SimDuration, SimTime};

/// What etcd has committed and nobody has told yet.
#[derive(Default)]
pub struct History {
    seen: u64,
    untold: BTreeMap<u64, (SimTime, Commit)>,
    /// The last write of each object that was told.
    told: BTreeMap<ObjectKey, u64>,
}

fn revision(object: Option<&Object>) -> u64 {
    object.map_or(0, |object| object.meta().revision())
}

/// Events go when their lease ends, and nobody asks for that.
fn is_nobodys(commit: &Commit) -> bool {
    commit.new.is_none() && commit.key().kind == Kind::Event
}

impl History {
    /// Reads on in etcd's history.
    fn read(&mut self, cluster: &Cluster) {
        let etcd = cluster.etcd();
        etcd.each_commit_after(self.seen, |commit| {
            self.untold.insert(commit.revision, (cluster.now(), commit));
        });
        self.seen = etcd.revision();
    }

    /// A write is told.
    pub fn told(&mut self, cluster: &Cluster, write: &Write) -> Result<(), String> {
        self.read(cluster);
        let Some((_, commit)) = self.untold.remove(&write.revision) else {
            return Err(format!("revision {} is told again, or never was", write.revision));
        };
        let is_same = commit.key() == write.key
            && revision(commit.old.as_ref()) == revision(write.old.as_ref())
            && revision(commit.new.as_ref()) == revision(write.new.as_ref())
            && commit.new.is_some() == write.new.is_some();
        if !is_same {
            return Err(format!("{write:?} is told, and {commit:?} was committed"));
        }
        let earlier = self.untold.range(..write.revision).find(|(_, (_, commit))| commit.key() == write.key);
        if let Some((revision, _)) = earlier {
            return Err(format!("revision {} is told before revision {revision}", write.revision));
        }
        let last = self.told.insert(write.key.clone(), write.revision).unwrap_or(0);
        if last > write.revision { Err(format!("revision {} is told after {last}", write.revision)) } else { Ok(()) }
    }

    /// All that was committed before this revision has been told.
    pub fn complete_before(&self) -> u64 {
        let untold = self.untold.iter().find(|(_, (_, commit))| !is_nobodys(commit));
        untold.map_or(u64::MAX, |(revision, _)| *revision)
    }

    /// At the end of a run, when nothing fails any more, all is told but what may still be under way.
    pub fn ended(&mut self, cluster: &Cluster, under_way: SimDuration) -> Result<(), String> {
        self.read(cluster);
        let missing = self.untold.values().find(|(at, commit)| *at + under_way < cluster.now() && !is_nobodys(commit));
        match missing {
            Some((at, commit)) => Err(format!("what was committed at {at} is not told: {commit:?}")),
            None => Ok(()),
        }
    }
}
