//! Requests end: with a timeout if the server has not answered in time (apiserver, endpoints/filters/request_deadline.go and
//! server/filters/timeout.go), and lists that wait for a revision end earlier.
//!
//! No request sets a timer of its own. One timer is set to the first deadline of what is under way when it was set; when it goes
//! off, most of that has long been answered.

use crate::engine::process::{Context, ProcessId};
use crate::engine::time::SimTime;

use super::protocol::RequestId;
use super::server::{ApiServer, ServerMessage, token};
use super::status::Status;
use super::task::{Reply, Task};

/// What is said when the time of a request is over.
const MESSAGE: &str = "request did not complete within the allotted timeout";

impl ApiServer {
    /// Sees to it that what ends at a time is looked at then.
    pub(super) fn guard(&mut self, deadline: SimTime, ctx: &mut dyn Context<ServerMessage>) {
        if !self.deadline_armed && deadline != SimTime::MAX {
            self.deadline_armed = true;
            ctx.set_timer(deadline, token::DEADLINE);
        }
    }

    /// Tells everybody whose time is over, in the order in which it was over.
    pub(super) fn expire(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        self.deadline_armed = false;
        let now = ctx.now();
        let mut overdue: Vec<(SimTime, ProcessId, RequestId)> = Vec::new();
        let mut note = |task: &Task| {
            if let Reply::Client(client, id) = task.reply {
                overdue.push((task.deadline, client, id));
            }
        };
        let mut released = Vec::new();
        // What etcd has been asked may still happen; the answer is taken in, and nothing follows from it.
        let link = &mut self.link;
        self.tasks.retain(|id, task| {
            if task.deadline > now {
                return true;
            }
            note(task);
            task.reply = Reply::Abandoned;
            task.deadline = SimTime::MAX;
            let is_asked = !link.take_back(*id);
            if !is_asked {
                released.append(&mut task.claims);
            }
            is_asked
        });
        let mut is_over = |task: &mut Task| {
            let over = task.deadline <= now;
            if over {
                note(task);
                released.append(&mut task.claims);
            }
            over
        };
        self.delayed.retain(|_, task| !is_over(task));
        self.lease_waiters.retain_mut(|task| !is_over(task));
        self.collections.retain(|_, collection| !is_over(&mut collection.whole));
        self.allocator.release(&released);
        overdue.sort_unstable();
        for (_, client, id) in overdue {
            let status = Box::new(Status::timeout(MESSAGE, 0));
            self.respond(client, id, Err(status), ctx);
        }
        if let Some(next) = self.under_way().map(|task| task.deadline).min() {
            self.guard(next, ctx);
        }
    }

    /// All requests that are not answered.
    fn under_way(&self) -> impl Iterator<Item = &Task> {
        let wholes = self.collections.values().map(|collection| &collection.whole);
        self.tasks
            .values()
            .chain(self.delayed.values())
            .chain(&self.lease_waiters)
            .chain(self.quotas.tasks())
            .chain(wholes)
    }
}
