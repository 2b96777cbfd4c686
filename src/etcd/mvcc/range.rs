//! Reading at a revision.

use super::request::{Range, RangeResult, Sort, SortBy};
use super::store::State;
use crate::etcd::error::Error;
use crate::etcd::value::Value;

impl<V: Value> State<V> {
    /// Which revision a request reads, given what the reader may see: `present` is its last revision and `compacted` where
    /// its history begins. The compacted revision itself can still be read.
    pub(super) fn read_revision(&self, request: &Range, present: u64, compacted: u64) -> Result<u64, Error> {
        match request.revision {
            0 => Ok(present),
            revision if revision > present => Err(Error::FutureRevision),
            revision if revision < compacted.max(self.readers.begins(&request.range)) => Err(Error::Compacted),
            revision => Ok(revision),
        }
    }

    /// Reads a range as it was at revision `at`, which must not have been compacted.
    pub(super) fn range(&self, request: &Range, at: u64) -> RangeResult<V> {
        let filtered = !request.modified.is_open() || !request.created.is_open();
        let sort = request.sort.filter(|sort| sort.descending || sort.by != SortBy::Key);
        // Sorting and filtering need everything; otherwise one stops collecting at the limit, but counts on.
        let collect = if filtered || sort.is_some() || request.limit == 0 { u64::MAX } else { request.limit };
        let by_value = sort.is_some_and(|sort| sort.by == SortBy::Value);
        let (mut kvs, mut count) = (Vec::new(), 0_u64);
        self.index.each_live(&request.range, at, |_, key, version| {
            count += 1;
            let admitted = request.modified.admit(version.main) && request.created.admit(version.created);
            if request.count_only || count > collect || !admitted {
                return;
            }
            let bare = request.keys_only && !by_value;
            kvs.push(if bare { version.key_only(key) } else { version.key_value(key) });
        });
        let mut more = !request.count_only && count > collect;
        if let Some(sort) = sort {
            sort_by(&mut kvs, sort);
        }
        if request.limit > 0 && kvs.len() as u64 > request.limit {
            kvs.truncate(usize::try_from(request.limit).unwrap_or(usize::MAX));
            more = true;
        }
        if by_value && request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = None);
        }
        RangeResult { kvs, more, count }
    }
}

/// Sorts stably, so that equal elements stay in the order of their keys.
fn sort_by<V: Value>(kvs: &mut [super::request::KeyValue<V>], sort: Sort) {
    kvs.sort_by(|left, right| {
        let order = match sort.by {
            SortBy::Key => left.key.cmp(&right.key),
            SortBy::Version => left.version.cmp(&right.version),
            SortBy::Created => left.created.cmp(&right.created),
            SortBy::Modified => left.modified.cmp(&right.modified),
            SortBy::Value => match (&left.value, &right.value) {
                (Some(left), Some(right)) => left.order(right),
                (left, right) => left.is_some().cmp(&right.is_some()),
            },
        };
        if sort.descending { order.reverse() } else { order }
    });
}
