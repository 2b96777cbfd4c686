//! Lists with pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::api::object::Object;
use crate::etcd::key::{Key, KeyRange};
use crate::etcd::mvcc::{Range, RangeResult};

use super::protocol::{Answer, ListRevision, Scope};
use super::selection::Selection;
use super::status::{Reason, Status};
use super::storage::Stored;

/// A page never holds more, however many objects a selector drops (etcd3 store: `maxLimit`).
const MOST: u64 = 10_000;

/// A list that is read from etcd, page by page.
#[derive(Debug)]
pub struct Page {
    selection: Selection,
    prefix: Key,
    /// The one key that is read, if a field names the object.
    single: Option<Key>,
    /// How many objects are wanted; zero for all.
    limit: u64,
    /// How many keys are read at a time.
    batch: u64,
    /// The revision of the first read; zero before.
    revision: u64,
    after: Option<Key>,
    /// Where the request itself goes on, if it goes on.
    begun_after: Option<Key>,
    found: Vec<Object>,
}

/// What follows from a read.
#[derive(Debug)]
pub enum Next {
    /// The list is complete.
    Done(Answer),
    /// More must be read.
    More(Range),
}

impl Page {
    /// Begins a list.
    pub fn begin(scope: &Scope, limit: u32, token: Option<&str>, at: ListRevision) -> Result<Page, Box<Status>> {
        let selection = Selection::of(scope)?;
        let prefix = selection.prefix();
        // A list that goes on reads the whole range, as the original does.
        let single = if token.is_none() { selection.single_key() } else { None };
        let limit = u64::from(limit);
        let mut page = Page {
            selection,
            prefix,
            single,
            limit,
            batch: limit,
            revision: if let ListRevision::Exact(revision) = at { revision } else { 0 },
            after: None,
            begun_after: None,
            found: Vec::new(),
        };
        if let Some(token) = token {
            let (revision, start) = decode(token)?;
            page.revision = revision;
            page.after = Some(Key::new(&format!("{}{start}", page.prefix)));
            page.begun_after.clone_from(&page.after);
        }
        Ok(page)
    }

    /// The revision that is read; none before the first read of the newest.
    pub fn revision(&self) -> Option<u64> {
        (self.revision > 0).then_some(self.revision)
    }

    /// True if the list has pages: it may go on in another request.
    pub fn is_limited(&self) -> bool {
        self.limit > 0
    }

    /// The next read.
    pub fn range(&self) -> Range {
        let range = match (&self.single, &self.after) {
            (Some(key), _) => KeyRange::One(key.clone()),
            (None, Some(last)) => KeyRange::prefix_after(&self.prefix, last),
            (None, None) => KeyRange::Prefix(self.prefix.clone()),
        };
        Range { revision: self.revision, limit: self.batch, ..Range::of(range) }
    }

    /// Takes in what was read at a revision.
    pub fn take(&mut self, result: &RangeResult<Stored>, revision: u64) -> Next {
        if self.revision == 0 {
            self.revision = revision;
        }
        let mut seen = 0;
        for kv in &result.kvs {
            seen += 1;
            self.after = Some(kv.key.clone());
            let object = kv.value.as_ref().and_then(Stored::object);
            if let Some(object) = object.filter(|object| self.selection.matches(object)) {
                self.found.push(object.clone());
                if self.limit > 0 && self.found.len() as u64 == self.limit {
                    break;
                }
            }
        }
        let remaining = result.count.saturating_sub(seen);
        let full = self.limit > 0 && self.found.len() as u64 >= self.limit;
        if remaining > 0 && !full {
            // The selector dropped objects: read twice as many next time.
            self.batch = (self.batch * 2).min(MOST);
            return Next::More(self.range());
        }
        let counted = remaining > 0 && !self.selection.has_selectors();
        Next::Done(Answer::List {
            items: std::mem::take(&mut self.found),
            revision: self.revision,
            continue_token: (remaining > 0).then(|| self.token(self.after.as_ref(), self.revision.cast_signed())),
            remaining: counted.then_some(remaining),
        })
    }

    /// Where the list goes on (apiserver, storage: `EncodeContinue`).
    fn token(&self, after: Option<&Key>, revision: i64) -> String {
        let (last, prefix) = (after.map_or_else(String::new, Key::to_string), self.prefix.to_string());
        let start = format!("{}\0", last.strip_prefix(&prefix).unwrap_or_default());
        let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    /// What is said when the history that a list needs is gone. A list that goes on may do so at the newest revision, with
    /// a token that says so by the revision -1 (etcd3 store: `handleCompactedErrorForPaging`).
    pub fn expired(&self) -> Status {
        let Some(after) = &self.begun_after else {
            return Status::new(Reason::Expired, "The resourceVersion for the provided list is too old.");
        };
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
                       new list without the continue parameter, or use the continue token in this response to retrieve \
                       the remainder of the results. Continuing with the provided token results in an inconsistent list \
                       - objects that were created, modified, or deleted between the time the first chunk was returned \
                       and now may show up in the list.";
        let token = self.token(Some(after), -1).into_boxed_str();
        Status { continue_token: Some(token), ..Status::new(Reason::Expired, message) }
    }
}

fn decode(token: &str) -> Result<(u64, String), Box<Status>> {
    let refused = |why: &str| Box::new(Status::new(Reason::BadRequest, format!("continue key is not valid: {why}")));
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|error| refused(&error.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| refused(&error.to_string()))?;
    if value["v"] != "meta.k8s.io/v1" {
        return Err(refused("server does not recognize this encoded version"));
    }
    let revision = value["rv"].as_i64().ok_or_else(|| refused("incorrect encoded start resourceVersion"))?;
    let start = value["start"].as_str().unwrap_or_default();
    if start.is_empty() {
        return Err(refused("encoded start key empty"));
    }
    // Minus one means: at the newest revision, though the list is then not consistent.
    Ok((u64::try_from(revision).unwrap_or(0), start.trim_end_matches('\0').to_owned()))
}
