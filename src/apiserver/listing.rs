//! Lists: where they come from, and what they wait for.
//!
//! One that needs no certain revision, or one that is not too new, comes from the watch cache; so does one as of the newest
//! revision, once the cache shows what etcd said is the newest. Pages, exact revisions, and everything while the cache is not
//! ready, are read from etcd (`reading`).

use std::collections::BTreeSet;

use crate::api::kind::Kind;
use crate::engine::process::Context;
use crate::engine::time::SimDuration;
use crate::etcd::mvcc::RangeResult;

use super::protocol::{Answer, ListRevision, Operation};
use super::reading::{Next, Page};
use super::selection::Selection;
use super::server::{ApiServer, ServerMessage, token};
use super::status::Status;
use super::storage::{self, Stored};
use super::task::{Step, Task};

/// How long a list waits for its watch cache (cacher: `blockTimeout`).
const FRESH_WAIT: SimDuration = SimDuration::from_secs(3);
/// When a client may ask again for a revision that did not come in time (cacher: `resourceVersionTooHighRetrySeconds`).
const TOO_HIGH_RETRY_S: u32 = 1;
/// How often etcd is asked how far its watches have come while somebody waits for that (cacher: `progressRequestPeriod`).
const PROGRESS: SimDuration = SimDuration::from_millis(100);

impl ApiServer {
    /// A list without pages comes from the watch cache, one as of the newest revision once the cache shows what etcd said is
    /// the newest (cacher: `CacheDelegator.GetList`, `ConsistentRead`).
    pub(super) fn list(&mut self, task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let Operation::List { scope, limit, continue_token, at } = &task.operation else { return };
        let cache = &self.caches[scope.kind as usize];
        let from_cache = continue_token.is_none() && cache.is_ready();
        let wanted = match (at, &task.step) {
            (ListRevision::Any, _) => Some(0),
            (ListRevision::NotOlderThan(revision), _) => Some(*revision),
            (ListRevision::Latest, Step::Fresh(revision)) => Some(*revision),
            (ListRevision::Latest, _) if from_cache && *limit == 0 => return self.ask_newest(task, ctx),
            (ListRevision::Latest | ListRevision::Exact(_), _) => None,
        };
        match wanted.filter(|_| from_cache) {
            Some(revision) if revision <= cache.revision() => {
                let result = Selection::of(scope).map(|selection| Answer::List {
                    items: cache.list(&selection),
                    revision: cache.revision(),
                    continue_token: None,
                    remaining: None,
                });
                self.finish(task, result, ctx);
            }
            Some(revision) if matches!(task.step, Step::Fresh(_)) => self.never_fresh(task, revision, ctx),
            Some(revision) => self.wait_until_fresh(task, revision, ctx),
            None => self.list_from_etcd(task, ctx),
        }
    }

    fn list_from_etcd(&mut self, task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let Operation::List { scope, limit, continue_token, at } = &task.operation else { return };
        match Page::begin(scope, *limit, continue_token.as_deref(), *at) {
            Ok(page) => self.read_pages(task, page, self.config.costs.of_request(0), ctx),
            Err(status) => self.finish(task, Err(status), ctx),
        }
    }

    /// Begins to read a list, or a page of one, from etcd: a client's, or one that another request needs.
    pub(super) fn read_pages(
        &mut self,
        task: Task,
        page: Page,
        delay: SimDuration,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        if page.is_limited() {
            self.caches[task.operation.kind() as usize].expect_pages(page.revision(), ctx.now());
        }
        let range = page.range();
        self.ask(Task { step: Step::List(page), ..task }, delay, range.into(), ctx);
    }

    fn ask_newest(&mut self, task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let (request, delay) = (storage::newest(task.operation.kind()), self.config.costs.of_request(0));
        self.ask(Task { step: Step::Newest, ..task }, delay, request, ctx);
    }

    /// Etcd has said which revision is the newest.
    pub(super) fn newest_is(&mut self, task: Task, revision: u64, ctx: &mut dyn Context<ServerMessage>) {
        let cache = &self.caches[task.operation.kind() as usize];
        let task = Task { step: Step::Fresh(revision), ..task };
        if cache.is_ready() && cache.revision() < revision {
            self.wait_until_fresh(task, revision, ctx);
        } else {
            self.list(task, ctx);
        }
    }

    /// A part of a list has been read from etcd.
    pub(super) fn page_read(
        &mut self,
        task: Task,
        mut page: Page,
        result: &RangeResult<Stored>,
        revision: u64,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        if let Operation::List { at: ListRevision::NotOlderThan(wanted), .. } = task.operation
            && wanted > revision
        {
            return self.finish(task, Err(Box::new(Status::too_large_revision(wanted, revision, 0))), ctx);
        }
        match page.take(result, revision) {
            Next::More(range) => {
                self.ask(Task { step: Step::List(page), ..task }, SimDuration::ZERO, range.into(), ctx);
            }
            Next::Done(answer) => match (&task.operation, answer) {
                (Operation::Evict { .. }, Answer::List { items, .. }) => self.budgets_listed(task, &items, ctx),
                (Operation::DeleteCollection { .. }, Answer::List { items, continue_token, .. }) => {
                    self.members_listed(&task, &items, continue_token, ctx);
                }
                (_, answer) => self.finish(task, Ok(answer), ctx),
            },
        }
    }

    /// A list that needs a revision waits for the watch cache to show it, for a while
    /// (cacher: `waitUntilFreshAndBlock`).
    fn wait_until_fresh(&mut self, task: Task, revision: u64, ctx: &mut dyn Context<ServerMessage>) {
        self.delay(Task { step: Step::Fresh(revision), ..task }, FRESH_WAIT, ctx);
        self.ask_how_far(ctx);
    }

    /// The watch cache has not shown a revision in time: what is wanted as of the newest is read from etcd.
    fn never_fresh(&mut self, task: Task, revision: u64, ctx: &mut dyn Context<ServerMessage>) {
        if matches!(task.operation, Operation::List { at: ListRevision::Latest, .. }) {
            return self.list_from_etcd(task, ctx);
        }
        let current = self.caches[task.operation.kind() as usize].revision();
        let status = Status::too_large_revision(revision, current, TOO_HIGH_RETRY_S);
        self.finish(task, Err(Box::new(status)), ctx);
    }

    /// Lists that wait for what a watch cache now shows go on.
    pub(super) fn serve_fresh(&mut self, kind: Kind, ctx: &mut dyn Context<ServerMessage>) {
        if self.delayed.is_empty() {
            return;
        }
        let revision = self.caches[kind as usize].revision();
        let is_served = |task: &Task| {
            matches!(task.step, Step::Fresh(wanted) if wanted <= revision) && task.operation.kind() == kind
        };
        let served: Vec<_> = self.delayed.iter().filter(|(_, task)| is_served(task)).map(|(token, _)| *token).collect();
        for token in served {
            if let Some(task) = self.delayed.remove(&token) {
                ctx.set_cause(task.cause);
                self.advance(task, ctx);
            }
        }
    }

    /// Asks etcd how far the watch of a kind has come while there is somebody who waits for its watch cache: at once, and again
    /// every 100 ms (cacher: `ConditionalProgressRequester`, one for each watch cache).
    pub(super) fn ask_how_far(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        let waiting = self.delayed.values().filter(|task| matches!(task.step, Step::Fresh(_)));
        let waiting: BTreeSet<Kind> = waiting.map(|task| task.operation.kind()).collect();
        self.progress.retain(|kind, due| waiting.contains(kind) || *due > ctx.now());
        for kind in waiting {
            let due = self.progress.entry(kind).or_insert(ctx.now());
            if *due <= ctx.now() {
                *due = ctx.now() + PROGRESS;
                self.link.ask_progress(kind, ctx);
            }
        }
        if !self.progress_armed
            && let Some(next) = self.progress.values().min()
        {
            self.progress_armed = true;
            ctx.set_timer(*next, token::PROGRESS);
        }
    }
}
