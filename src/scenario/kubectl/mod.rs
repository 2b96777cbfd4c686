//! The commands of kubectl, each a script that makes requests and prints what kubectl prints.
//!
//! A command is an `async` function so that it reads from top to bottom as it happens. Nothing runs at the same time and
//! nothing waits for real: whoever drives the run goes on with a command when an answer, a time or a change that it
//! waits for has come. Commands know only what the API answers.
//!
//! - this file: a command under way, and what it may ask for
//! - `apply`, `delete`, `change`, `rollout`, `stateful_set`, `daemon_rollout`, `node`, `drain`: the commands
//! - `status`: how the rollouts of all kinds are waited for

mod apply;
mod change;
mod daemon_rollout;
mod delete;
mod drain;
mod node;
mod rollout;
mod stateful_set;
mod status;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey, Timestamp};
use crate::api::object::{Object, Resource};
use crate::api::selector::Selector;
use crate::apiserver::protocol::{Answer, ListRevision, Operation, Scope};
use crate::apiserver::status::{Reason, Status};
use crate::cluster::news::Write;
use crate::engine::time::{SimDuration, SimTime};

use super::plan::Command;

/// What a command comes to: nothing more than it printed, or why it failed, as kubectl says it.
pub type Done = Result<(), String>;

/// What the API answered.
pub type Answered = Result<Answer, Box<Status>>;

/// A command under way.
pub struct Session {
    desk: Rc<RefCell<Desk>>,
    script: Pin<Box<dyn Future<Output = Done>>>,
}

/// What lies between a command and whoever drives the run.
#[derive(Default)]
struct Desk {
    now: SimTime,
    date: Timestamp,
    printed: Vec<String>,
    next_ticket: u64,
    outbox: VecDeque<(u64, Operation)>,
    answers: BTreeMap<u64, Answered>,
    /// When the command wants to go on by itself.
    alarm: Option<SimTime>,
    /// Objects whose changes the command waits for, and those that have come.
    watched: BTreeMap<ObjectKey, VecDeque<Option<Object>>>,
}

/// What a command may ask for.
#[derive(Clone)]
struct Shell(Rc<RefCell<Desk>>);

impl Session {
    /// Begins a command.
    pub fn new(command: Command) -> Self {
        Session::delayed(command, SimDuration::ZERO)
    }

    /// Begins a command whose first request comes after a delay.
    pub fn delayed(command: Command, delay: SimDuration) -> Self {
        let desk = Rc::<RefCell<Desk>>::default();
        let script = Box::pin(run(Shell(Rc::clone(&desk)), command, delay));
        Session { desk, script }
    }

    /// Lets the command go on as far as it gets. Some once it has ended.
    pub fn go_on(&mut self, now: SimTime, date: Timestamp) -> Option<Done> {
        {
            let mut desk = self.desk.borrow_mut();
            (desk.now, desk.date) = (now, date);
            desk.alarm = None;
        }
        match self.script.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    /// The next request that the command makes, with the number under which it wants the answer.
    pub fn next_request(&mut self) -> Option<(u64, Operation)> {
        self.desk.borrow_mut().outbox.pop_front()
    }

    /// The answer to a request.
    pub fn answer(&mut self, ticket: u64, answer: Answered) {
        self.desk.borrow_mut().answers.insert(ticket, answer);
    }

    /// When the command wants to go on by itself.
    pub fn alarm(&self) -> Option<SimTime> {
        self.desk.borrow().alarm
    }

    /// Shows the command a write. True if it has waited for that.
    pub fn note_write(&mut self, write: &Write) -> bool {
        match self.desk.borrow_mut().watched.get_mut(&write.key) {
            Some(changes) => {
                changes.push_back(write.new.clone());
                true
            }
            None => false,
        }
    }

    /// What the command has printed since this was asked last.
    pub fn take_printed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.desk.borrow_mut().printed)
    }
}

async fn run(shell: Shell, command: Command, delay: SimDuration) -> Done {
    shell.sleep(delay).await;
    match command {
        Command::Create { manifests } => apply::create(&shell, &manifests).await,
        Command::Apply { manifests, is_patient } => apply::apply(&shell, &manifests, is_patient).await,
        Command::Delete { keys, wait, grace_seconds, propagation } => {
            delete::delete(&shell, &keys, wait, grace_seconds, propagation).await
        }
        Command::Scale { key, replicas } => change::scale(&shell, &key, replicas).await,
        Command::SetImage { key, images } => change::set_image(&shell, &key, &images).await,
        Command::Patch { key, kind, patch, part } => change::patch(&shell, &key, kind, patch, part).await,
        Command::Mark { key, mark, set } => change::mark(&shell, &key, mark, &set).await,
        Command::Rollout { key, verb } if key.kind == Kind::DaemonSet => {
            daemon_rollout::rollout(&shell, &key, verb).await
        }
        Command::Rollout { key, verb } if key.kind == Kind::StatefulSet => {
            stateful_set::rollout(&shell, &key, verb).await
        }
        Command::Rollout { key, verb } => rollout::rollout(&shell, &key, verb).await,
        Command::Cordon { node, on } => node::cordon(&shell, &node, on).await,
        Command::Drain { node, options } => drain::drain(&shell, &node, &options).await,
        Command::Taint { node, key, value, effect, remove } => {
            node::taint(&shell, &node, &node::Change { key, value, effect, remove }).await
        }
    }
}

impl Shell {
    /// Prints a line.
    fn print(&self, line: impl Into<String>) {
        self.0.borrow_mut().printed.push(line.into());
    }

    fn now(&self) -> SimTime {
        self.0.borrow().now
    }

    fn date(&self) -> Timestamp {
        self.0.borrow().date
    }

    /// Makes a request; what it returns is its answer, once waited for.
    fn send(&self, operation: Operation) -> impl Future<Output = Answered> + use<> {
        let ticket = {
            let mut desk = self.0.borrow_mut();
            desk.next_ticket += 1;
            let ticket = desk.next_ticket;
            desk.outbox.push_back((ticket, operation));
            ticket
        };
        let desk = Rc::clone(&self.0);
        std::future::poll_fn(move |_| match desk.borrow_mut().answers.remove(&ticket) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
    }

    /// An object. An error is in kubectl's words.
    async fn get(&self, key: &ObjectKey) -> Result<Object, String> {
        let answer = self.send(Operation::Get { key: key.clone() }).await;
        object_of(answer.map_err(from_server)?)
    }

    /// Waits.
    async fn sleep(&self, length: SimDuration) {
        let until = self.now() + length;
        std::future::poll_fn(|_| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            self.wake_at(until);
            Poll::Pending
        })
        .await;
    }

    fn wake_at(&self, at: SimTime) {
        let alarm = &mut self.0.borrow_mut().alarm;
        *alarm = Some(alarm.map_or(at, |alarm| alarm.min(at)));
    }

    /// Has all further changes of an object noted.
    fn watch(&self, key: &ObjectKey) {
        self.0.borrow_mut().watched.entry(key.clone()).or_default();
    }

    /// The next change of an object that is watched: what it is then, if it still is. None if the time is up before.
    async fn next_change(&self, key: &ObjectKey, until: Option<SimTime>) -> Option<Option<Object>> {
        std::future::poll_fn(|_| {
            if let Some(change) = self.0.borrow_mut().watched.get_mut(key).and_then(VecDeque::pop_front) {
                return Poll::Ready(Some(change));
            }
            match until {
                Some(until) if self.now() >= until => Poll::Ready(None),
                Some(until) => {
                    self.wake_at(until);
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// Carries scripts out beside one another; what each came to, in their order.
async fn beside<T>(scripts: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut scripts: Vec<_> = scripts.into_iter().map(Some).collect();
    let mut ended: Vec<Option<T>> = scripts.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (script, ended) in scripts.iter_mut().zip(&mut ended) {
            if let Some(running) = script
                && let Poll::Ready(end) = running.as_mut().poll(context)
            {
                *script = None;
                *ended = Some(end);
            }
        }
        if scripts.iter().any(Option::is_some) {
            return Poll::Pending;
        }
        Poll::Ready(ended.iter_mut().filter_map(Option::take).collect())
    })
    .await
}

/// The object that the API answered.
fn object_of(answer: Answer) -> Result<Object, String> {
    match answer {
        Answer::Object(object) => Ok(object),
        _ => Err("error: the server answered something else than an object".to_owned()),
    }
}

/// A refusal, as kubectl prints it.
#[expect(clippy::boxed_local, reason = "answers hold it so, and it is given to map_err")]
fn from_server(status: Box<Status>) -> String {
    match status.reason {
        Reason::ServiceUnavailable if status.details.is_none() => {
            format!("Unable to connect to the server: {}", status.message)
        }
        // kubectl names the reason of an invalid object in the message itself.
        Reason::Invalid => status.message,
        reason => format!("Error from server ({reason:?}): {}", status.message),
    }
}

/// An object's kind as kubectl prints it: `deployment.apps`, `pod`.
fn resource(kind: Kind) -> String {
    let row = kind.row();
    if row.group.is_empty() { row.singular.to_owned() } else { format!("{}.{}", row.singular, row.group) }
}

/// An object as kubectl prints it: `deployment.apps/web`.
fn printed_name(key: &ObjectKey) -> String {
    format!("{}/{}", resource(key.kind), key.name)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("alarm", &self.alarm()).finish_non_exhaustive()
    }
}

/// The objects of a kind that a workload controls, among those that its selector finds.
async fn controlled<R: Resource>(shell: &Shell, owner: &Meta, selector: &Rc<Selector>) -> Result<Vec<Rc<R>>, String> {
    let scope = Scope {
        kind: R::KIND,
        namespace: Some(owner.namespace.clone()),
        labels: Some(Rc::clone(selector)),
        fields: Vec::new(),
    };
    let operation = Operation::List { scope, limit: 0, continue_token: None, at: ListRevision::Latest };
    let Answer::List { items, .. } = shell.send(operation).await.map_err(from_server)? else {
        return Err("error: the server answered something else than a list".to_owned());
    };
    let owned = |it: &&Rc<R>| it.meta().controller().is_some_and(|controller| controller.uid == owner.uid);
    Ok(items.iter().filter_map(Object::get::<R>).filter(owned).cloned().collect())
}

#[cfg(test)]
mod tests;
