//! The deletion of a whole collection (registry/generic/registry/store.go: `DeleteCollection`).
//!
//! One worker deletes one object after the other in the order of the list (kube-apiserver, `--delete-collection-workers`, 1 by
//! default), while the list is read in pages. The first failure but that an object is gone already ends all.

use std::collections::VecDeque;

use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::engine::process::Context;

use super::protocol::{Answer, ListRevision, Operation};
use super::reading::Page;
use super::server::{ApiServer, ServerMessage};
use super::status::{Reason, Status};
use super::task::{Reply, Task};

/// How many objects are listed at a time (`deleteCollectionPageSize`).
const PAGE: u32 = 10_000;
/// The next page is asked for when no more than this of the last one is left (`DeleteCollection`: the channel's size).
const AHEAD: usize = 256;

/// The deletion of a whole collection in progress.
#[derive(Debug)]
pub struct Collection {
    /// The request.
    pub whole: Task,
    waiting: VecDeque<ObjectKey>,
    /// Where the list goes on; none if nothing more is to be listed.
    next: Option<Option<String>>,
    listing: bool,
    deleting: bool,
    failure: Option<Box<Status>>,
}

impl ApiServer {
    /// Begins to delete a collection.
    pub(super) fn collect(&mut self, whole: Task, ctx: &mut dyn Context<ServerMessage>) {
        self.next_collection += 1;
        let number = self.next_collection;
        let collection = Collection {
            whole,
            waiting: VecDeque::new(),
            next: Some(None),
            listing: false,
            deleting: false,
            failure: None,
        };
        self.collections.insert(number, collection);
        self.go_on_collecting(number, ctx);
    }

    /// Lists, deletes or ends, whatever is due.
    fn go_on_collecting(&mut self, number: u64, ctx: &mut dyn Context<ServerMessage>) {
        let Some(collection) = self.collections.get_mut(&number) else { return };
        let failed = collection.failure.is_some();
        if failed && !collection.listing {
            return self.end_collection(number, ctx);
        }
        if !failed && !collection.listing && collection.waiting.len() <= AHEAD && collection.next.is_some() {
            return self.list_collection(number, ctx);
        }
        if failed || collection.deleting {
            return;
        }
        match collection.waiting.pop_front() {
            Some(key) => {
                collection.deleting = true;
                let Operation::DeleteCollection { options, .. } = &collection.whole.operation else { return };
                let operation = Operation::Delete { key, options: options.clone() };
                let part = collection.part(number, operation);
                self.advance(part, ctx);
            }
            None if collection.listing => {}
            None => self.end_collection(number, ctx),
        }
    }

    fn list_collection(&mut self, number: u64, ctx: &mut dyn Context<ServerMessage>) {
        let Some(collection) = self.collections.get_mut(&number) else { return };
        let Some(token) = collection.next.take() else { return };
        let Operation::DeleteCollection { scope, .. } = &collection.whole.operation else { return };
        match Page::begin(scope, PAGE, token.as_deref(), ListRevision::Latest) {
            Ok(page) => {
                collection.listing = true;
                let part = collection.part(number, collection.whole.operation.clone());
                self.read_pages(part, page, self.config.costs.of_request(0), ctx);
                self.go_on_collecting(number, ctx);
            }
            Err(status) => {
                collection.failure = Some(status);
                self.end_collection(number, ctx);
            }
        }
    }

    /// A page of the list was read.
    pub(super) fn members_listed(
        &mut self,
        task: &Task,
        items: &[Object],
        continue_token: Option<String>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let Reply::Collection(number) = task.reply else { return };
        let Some(collection) = self.collections.get_mut(&number) else { return };
        collection.listing = false;
        collection.waiting.extend(items.iter().map(Object::key));
        collection.next = continue_token.map(Some);
        self.go_on_collecting(number, ctx);
    }

    /// One object of a collection is done, or its list has failed.
    pub(super) fn collected(
        &mut self,
        task: &Task,
        number: u64,
        result: Result<Answer, Box<Status>>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let Some(collection) = self.collections.get_mut(&number) else { return };
        match task.operation {
            Operation::DeleteCollection { .. } => {
                collection.listing = false;
                collection.failure = result.err();
                return self.end_collection(number, ctx);
            }
            _ => collection.deleting = false,
        }
        collection.failure = result.err().filter(|status| status.reason != Reason::NotFound);
        self.go_on_collecting(number, ctx);
    }

    fn end_collection(&mut self, number: u64, ctx: &mut dyn Context<ServerMessage>) {
        if let Some(Collection { whole, failure, .. }) = self.collections.remove(&number) {
            self.finish(whole, failure.map_or(Ok(Answer::Done), Err), ctx);
        }
    }
}

impl Collection {
    /// A request that is part of this one.
    fn part(&self, number: u64, operation: Operation) -> Task {
        let Task { agent, cause, deadline, .. } = &self.whole;
        Task { deadline: *deadline, ..Task::new(Reply::Collection(number), agent.clone(), operation, *cause) }
    }
}
