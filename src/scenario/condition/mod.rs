//! Conditions: questions in CEL about the objects of a cluster, asked again only when something that they look at changed.
//!
//! They see what is committed in etcd, not what some component believes. They change nothing.
//!
//! - this file: a condition, and asking it
//! - `expression`: from a text to an expression whose names are all known
//! - `prepare`: from there to the expression that is evaluated
//! - `sources`: what an expression may look at
//! - `sight`: what conditions see; `objects` those of one kind, `value` each of them as a value of CEL
//! - `functions`: the functions that conditions may use besides those of CEL
//! - `order`: macros over mappings, in a certain order
//! - `tally`: macros over all objects of a kind, worked out again only for objects that have changed
//!
//! # What a condition may name
//!
//! A list of all objects of a kind, as JSON: `pods`, `nodes`, `deployments`, `replicaSets`, `services`, `endpointSlices`,
//! `endpoints`, `namespaces`, `events`, `leases`, `configMaps`, `secrets`, `serviceAccounts`, `priorityClasses`,
//! `controllerRevisions`, `persistentVolumes`, `persistentVolumeClaims`, `storageClasses` and so on, or by kubectl's short names: `po`, `no`, `deploy`, `rs`, `svc`, `ep`, `ns`, `ev`, `cm`, `sa`, `pc`.
//! `now`, the whole seconds since the run began.
//!
//! One object, or null: `pod('web-1')`, `deployment('shop/web')` (namespace `default` if none is given), `node('node-3')`
//! and so on for every kind, also by the short names: `deploy('web')`, `ns('shop')` (CEL keeps the word `namespace` for itself).
//!
//! | function | value |
//! |---|---|
//! | `ready(object)` | whether a pod or a node is ready |
//! | `condition(object, 'Available')` | a condition's status, empty if the object has none |
//! | `desired('web')`, `available('web')`, `updated('web')`, `readyReplicas('web')` | replicas of a Deployment, or of an object given; 0 if it has none |
//! | `rolledOut('web')` | whether the rollout is complete, as `kubectl rollout status` says |
//! | `rolloutFailed('web')` | whether the rollout exceeded its deadline |
//! | `podsOf('web')` | the pods of a Deployment |
//! | `image(object)` | the first container's image |
//! | `restarts(pod)` | how often its containers were restarted |
//! | `twins()` | the names, as `default/db-0`, of which more than one pod runs now: one in the API, others on nodes out of reach |
//! | `etcdLeader()` | the member that leads, such as `etcd-1`, or an empty text |
//!
//! Macros over the fields of a mapping (`labels.map(key, ...)`) meet them in the order of their names.

mod expression;
mod functions;
mod objects;
mod order;
mod prepare;
mod sight;
mod sources;
mod tally;
mod value;

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::cluster::news::{Twins, Write};
use crate::engine::time::SimTime;

pub use expression::{Expression, Wrong};
use sight::Subjects;
use sources::Sources;
use tally::Tally;

/// A condition and its last answer.
#[derive(Debug)]
pub struct Condition {
    expression: Rc<Expression>,
    tallies: Vec<Tally>,
    asked_at: Option<u64>,
    answer: Result<bool, String>,
}

/// What all conditions of a run look at.
pub struct Conditions {
    subjects: Subjects,
}

impl Condition {
    /// A condition that was not asked yet.
    pub fn new(expression: Rc<Expression>) -> Self {
        let tallies = expression.prepared().macros.iter().map(|_| Tally::default()).collect();
        Condition { expression, tallies, asked_at: None, answer: Err("it was never asked".to_owned()) }
    }

    /// The condition as it is written.
    pub fn text(&self) -> &str {
        self.expression.text()
    }

    /// Whether it looks at objects of a kind.
    pub fn looks_at(&self, kind: Kind) -> bool {
        self.expression.looks_at(kind)
    }
}

impl Conditions {
    /// For a run in which these conditions are asked.
    pub fn new<'e>(expressions: impl Iterator<Item = &'e Expression>) -> Self {
        let watched = expressions.fold(Sources::NONE, |watched, expression| watched.and(expression.sources()));
        Conditions { subjects: Subjects::new(watched) }
    }

    /// Takes note of a write.
    pub fn note_write(&mut self, write: &Write) {
        self.subjects.note_write(write);
    }

    /// Takes note of who leads the etcd members.
    pub fn note_leader(&mut self, member: Option<u32>) {
        self.subjects.note_leader(member);
    }

    /// Takes note of pods of one name that run at once.
    pub fn note_twins(&mut self, twins: &Twins) {
        self.subjects.note_twins(twins);
    }

    /// Takes note of the time.
    pub fn note_time(&mut self, now: SimTime) {
        self.subjects.note_time(now);
    }

    /// Whether a condition holds. An error says why it cannot be answered; its text is CEL's.
    /// Also tells whether anything that it looks at has changed since it was last asked.
    pub fn ask<'c>(&mut self, condition: &'c mut Condition) -> (&'c Result<bool, String>, bool) {
        let newest = self.subjects.newest(condition.expression.sources());
        let is_new = condition.asked_at != Some(newest);
        if is_new {
            condition.asked_at = Some(newest);
            condition.answer = self.subjects.evaluate(&condition.expression, &mut condition.tallies);
        }
        (&condition.answer, is_new)
    }
}

#[cfg(test)]
mod tests;
