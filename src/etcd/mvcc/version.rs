//! The versions of one key, from the oldest that is still kept to the newest.

use super::request::KeyValue;
use crate::etcd::key::Key;
use crate::etcd::lease::LeaseId;

/// One write of a key. A version without a value is a tombstone: the key was deleted there, and its generation ended.
#[derive(Clone, Debug)]
pub(super) struct Version<V> {
    /// The revision.
    pub main: u64,
    /// The revision at which this generation of the key began; zero in a tombstone.
    pub created: u64,
    /// The lease attached by this write.
    pub lease: Option<LeaseId>,
    /// The place of the change within its revision.
    pub sub: u32,
    /// Puts since the generation began; zero in a tombstone.
    pub version: u32,
    /// The value, absent in a tombstone.
    pub value: Option<V>,
}

impl<V> Version<V> {
    /// Whether the key exists after this write.
    pub fn is_live(&self) -> bool {
        self.value.is_some()
    }
}

impl<V: Clone> Version<V> {
    /// As a client sees it.
    pub fn key_value(&self, key: &Key) -> KeyValue<V> {
        KeyValue {
            key: key.clone(),
            created: self.created,
            modified: self.main,
            version: u64::from(self.version),
            lease: self.lease,
            value: self.value.clone(),
        }
    }

    /// As a client sees it who wants no values.
    pub fn key_only(&self, key: &Key) -> KeyValue<V> {
        KeyValue {
            key: key.clone(),
            created: self.created,
            modified: self.main,
            version: u64::from(self.version),
            lease: self.lease,
            value: None,
        }
    }
}

/// A key with all versions that are kept. The newest lies inline, because most keys have no other that is still wanted.
#[derive(Debug)]
pub(super) struct KeyHistory<V> {
    /// The key.
    pub key: Key,
    /// The last write.
    pub newest: Version<V>,
    /// The writes before it, oldest first; mostly there are none.
    #[expect(clippy::box_collection, reason = "one word where there are none")]
    older: Option<Box<Vec<Version<V>>>>,
}

impl<V> KeyHistory<V> {
    /// A key that is written for the first time.
    pub fn new(key: Key, first: Version<V>) -> Self {
        KeyHistory { key, newest: first, older: None }
    }

    /// Adds a write. It must be later than all before.
    pub fn push(&mut self, version: Version<V>) {
        debug_assert!((self.newest.main, self.newest.sub) < (version.main, version.sub), "versions come in order");
        let older = self.older.get_or_insert_default();
        if older.len() == older.capacity() {
            // The first growth of a Vec would be by four; most keys see one or two writes between compactions.
            older.reserve_exact(1 + older.len() / 2);
        }
        older.push(std::mem::replace(&mut self.newest, version));
    }

    /// The writes before the newest one, oldest first.
    fn older(&self) -> &[Version<V>] {
        self.older.as_ref().map_or(&[], |older| older.as_slice())
    }

    /// The last write at or before a revision, if the key exists after it.
    pub fn at(&self, revision: u64) -> Option<&Version<V>> {
        self.last_write(revision).filter(|version| version.is_live())
    }

    /// The write of exactly this revision and place.
    pub fn written(&self, main: u64, sub: u32) -> Option<&Version<V>> {
        if self.newest.main == main && self.newest.sub == sub {
            return Some(&self.newest);
        }
        let place = self.older().binary_search_by_key(&(main, sub), |version| (version.main, version.sub)).ok()?;
        self.older().get(place)
    }

    /// The last write at or before a revision, be it a deletion.
    fn last_write(&self, revision: u64) -> Option<&Version<V>> {
        if self.newest.main <= revision {
            return Some(&self.newest);
        }
        let after = self.older().partition_point(|version| version.main <= revision);
        self.older().get(after.checked_sub(1)?)
    }

    /// Forgets what no read at or after `floor` can see: all before the last write at or before it. A deletion before
    /// it is forgotten as well; one exactly at it is kept for those who watch from there. True if nothing is left.
    pub fn forget_before(&mut self, floor: u64) -> bool {
        if self.newest.main <= floor {
            self.older = None;
            return !self.newest.is_live() && self.newest.main < floor;
        }
        let mut gone = self.older().partition_point(|version| version.main <= floor).saturating_sub(1);
        if self.older().get(gone).is_some_and(|version| version.main < floor && !version.is_live()) {
            gone += 1;
        }
        if gone > 0
            && let Some(older) = &mut self.older
        {
            older.drain(..gone);
            if older.capacity() > 2 * older.len() + 4 {
                older.shrink_to_fit();
            }
        }
        false
    }
}
