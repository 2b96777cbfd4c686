//! An API server without delay that carries plans out: what the controllers' tests act on.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::api::kind::{Kind, each_kind};
use crate::api::meta::{Deletion, Meta, ObjectKey, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::network::EndpointSlice;
use crate::api::node::NodeStatus;
use crate::api::object::{Object, Resource};
use crate::api::stateful::StatefulSet;
use crate::apiserver::metrics::Measures;
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, Patch, Propagation, TypedPatch};
use crate::apiserver::status::{Reason, Status};
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Outcome, Plan, Request, Step};
use crate::client::view::{Cache, Now};
use crate::engine::time::SimDuration;

use super::now_at;

/// Says which requests fail, and how.
pub type Failing = Box<dyn FnMut(&Operation) -> Option<Status>>;

/// An API server, cache and clock in one: writes are visible at once, and every plan is carried out to its end.
#[derive(Default)]
pub struct Server {
    /// What the controllers see.
    pub cache: Cache,
    /// Seconds since 1970 and since the beginning.
    pub seconds: u64,
    /// What was written, one line each.
    pub writes: Vec<String>,
    /// Recorded events: reason and message.
    pub events: Vec<String>,
    /// Creations of this kind fail with this status.
    pub refuse: Option<(Kind, Status)>,
    /// What the metrics APIs answer.
    pub metrics: Option<Measures>,
    /// Says which requests fail, and how.
    pub failing: Option<Failing>,
    /// Pods vanish at once when they are deleted.
    pub deletes_pods_at_once: bool,
    changes: Vec<(Option<Object>, Option<Object>)>,
    revision: u64,
    names: u64,
}

impl Server {
    /// An empty cluster, some seconds after 1970.
    pub fn at(seconds: u64) -> Self {
        Server { seconds, ..Server::default() }
    }

    /// The present.
    pub fn now(&self) -> Now {
        now_at(self.seconds)
    }

    /// Stores an object as if somebody had written it.
    pub fn put(&mut self, object: Object) {
        self.revision += 1;
        object.meta().resource_version.set(self.revision);
        let old = self.cache.insert(object.clone());
        self.changes.push((old, Some(object)));
    }

    /// Changes an object as if somebody had written it.
    pub fn edit<R: Resource>(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut R)) {
        let mut object = (**self.get::<R>(namespace, name).expect("it exists")).clone();
        change(&mut object);
        self.put(object.boxed());
    }

    /// Takes an object away.
    pub fn vanish(&mut self, key: &ObjectKey) {
        let old = self.cache.remove(key);
        self.changes.push((old, None));
    }

    /// An object by name.
    pub fn get<R: Resource>(&self, namespace: &str, name: &str) -> Option<&Rc<R>> {
        self.cache.view().get(namespace, name)
    }

    /// All objects of a kind.
    pub fn all<R: Resource>(&self) -> Vec<Rc<R>> {
        self.cache.view().list().cloned().collect()
    }

    /// Tells a controller of the changes since the last call, and forgets them and what it would look at.
    pub fn tell(&mut self, controller: &dyn Controller) {
        for (old, new) in std::mem::take(&mut self.changes) {
            let change = match (&old, &new) {
                (None, Some(new)) => Change::Added(new),
                (Some(old), Some(new)) => Change::Updated { old, new },
                (Some(old), None) => Change::Deleted(old),
                (None, None) => continue,
            };
            controller.on_change(change, &self.cache.view(), &mut |_, _| {});
        }
    }

    /// Lets a controller look at a key, carries its plan out, and returns when it wants to look again.
    pub fn reconcile(&mut self, controller: &dyn Controller, key: &ObjectKey) -> Again {
        let plan = controller.reconcile(&self.cache.view(), key, self.now());
        self.carry_out(plan)
    }

    /// Lets controllers work until none has anything to do at this second; returns how many looks it took.
    /// Delayed looks are due when `seconds` has come; those that are not due yet are in `later`.
    pub fn settle(
        &mut self,
        controllers: &[Box<dyn Controller>],
        later: &mut BTreeSet<(u64, usize, ObjectKey)>,
    ) -> u32 {
        let mut looks = 0;
        let mut queue: BTreeSet<(usize, ObjectKey)> = BTreeSet::new();
        loop {
            for (old, new) in std::mem::take(&mut self.changes) {
                self.distribute(controllers, old, new, &mut queue, later);
            }
            let due: Vec<_> = later.iter().take_while(|(at, _, _)| *at <= self.seconds).cloned().collect();
            for entry in due {
                later.remove(&entry);
                queue.insert((entry.1, entry.2));
            }
            let Some((index, key)) = queue.pop_first() else { return looks };
            looks += 1;
            assert!(
                looks < 10_000,
                "the controllers do not come to rest: {:?}",
                self.writes.iter().rev().take(9).collect::<Vec<_>>()
            );
            match self.reconcile(&*controllers[index], &key) {
                Again::OnChange => {}
                // No bucket here: looked at again a second later.
                Again::RateLimited => {
                    later.insert((self.seconds + 1, index, key));
                }
                Again::After(delay) => {
                    later.insert((self.seconds + delay.as_nanos().div_ceil(1_000_000_000), index, key));
                }
                Again::BackOff(_) => {
                    queue.insert((index, key));
                }
            }
        }
    }

    fn distribute(
        &self,
        controllers: &[Box<dyn Controller>],
        old: Option<Object>,
        new: Option<Object>,
        queue: &mut BTreeSet<(usize, ObjectKey)>,
        later: &mut BTreeSet<(u64, usize, ObjectKey)>,
    ) {
        let change = match (&old, &new) {
            (None, Some(new)) => Change::Added(new),
            (Some(old), Some(new)) => Change::Updated { old, new },
            (Some(old), None) => Change::Deleted(old),
            (None, None) => return,
        };
        for (index, controller) in controllers.iter().enumerate() {
            if !controller.watches().contains(&change.object().kind()) {
                continue;
            }
            controller.on_change(change, &self.cache.view(), &mut |key, delay| {
                if delay == SimDuration::ZERO {
                    queue.insert((index, key));
                } else {
                    later.insert((self.seconds + delay.as_nanos().div_ceil(1_000_000_000), index, key));
                }
            });
        }
    }

    /// Carries a plan out to its end.
    pub fn carry_out(&mut self, mut plan: Plan) -> Again {
        let mut soonest: Option<SimDuration> = None;
        loop {
            let mut outcomes = Vec::new();
            let mut failed = None;
            for step in plan.steps {
                if let Step::LookAgain(delay) = step {
                    soonest = Some(soonest.map_or(delay, |known| known.min(delay)));
                    continue;
                }
                let failures = self.take_step(step, &mut outcomes);
                if let Some(message) = failures {
                    failed = Some(message);
                    break;
                }
            }
            let now = self.now();
            match (plan.then, failed) {
                (Some(then), _) => plan = then(&self.cache.view(), &outcomes, now),
                (None, Some(message)) => return Again::BackOff(message),
                (None, None) => {
                    return match (plan.again, soonest) {
                        (Again::OnChange, Some(delay)) => Again::After(delay),
                        (again, _) => again,
                    };
                }
            }
        }
    }

    fn take_step(&mut self, step: Step, outcomes: &mut Vec<Outcome>) -> Option<String> {
        let (requests, until_failure) = match step {
            Step::Request(request) => (vec![request], false),
            Step::Parallel(requests) => (requests, false),
            Step::SlowStart(requests) => (requests, true),
            Step::Expect { .. } | Step::LookAgain(_) | Step::Pause(..) => return None,
            Step::Record(note) => {
                self.events.push(format!("{} {}", note.reason, note.message));
                return None;
            }
        };
        let mut failure = None;
        for request in requests {
            let is_tolerated = |status: &Status| {
                request.tolerate.contains(&status.reason) || until_failure && status.is_namespace_terminating()
            };
            let outcome = self.answer(&request, &is_tolerated);
            if let Err(status) = &outcome
                && !is_tolerated(status)
            {
                failure = Some(status.message.clone());
            }
            outcomes.push(outcome);
            if until_failure && failure.is_some() {
                break;
            }
        }
        failure
    }

    fn answer(&mut self, request: &Request, is_tolerated: &dyn Fn(&Status) -> bool) -> Outcome {
        let failure = self.failing.as_mut().and_then(|fails| fails(&request.operation));
        let outcome = match failure {
            Some(status) => Err(Box::new(status)),
            None => self.apply(&request.operation),
        };
        match &outcome {
            Ok(answer) => {
                if let Some(note) = &request.on_success {
                    let name =
                        if let Answer::Object(object) = answer { object.meta().name.clone() } else { Name::EMPTY };
                    self.events.push(format!("{} {}", note.reason, note.message.replace("{name}", &name)));
                }
            }
            Err(status) if !is_tolerated(status) => {
                if let Some(note) = &request.on_failure {
                    self.events.push(format!("{} {}", note.reason, note.message.replace("{error}", &status.message)));
                }
            }
            Err(_) => {}
        }
        outcome
    }

    fn find(&self, key: &ObjectKey) -> Result<Object, Box<Status>> {
        self.cache.view().object(key).cloned().ok_or_else(|| Box::new(Status::not_found(key.kind, &key.name)))
    }

    /// Answers one request.
    pub fn apply(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Get { key } => self.find(key).map(Answer::Object),
            Operation::List { scope, .. } => {
                let view = self.cache.view();
                let mut items: Vec<Object> = Vec::new();
                macro_rules! list {
                    ($($kind:ident in $module:ident),* $(,)?) => { match scope.kind {
                        $(Kind::$kind => items.extend(view.list::<crate::api::$module::$kind>()
                            .cloned().map(Object::$kind)),)*
                    } };
                }
                each_kind!(list);
                items.retain(|it| scope.namespace.as_ref().is_none_or(|namespace| it.meta().namespace == *namespace));
                Ok(Answer::List { items, revision: self.revision, continue_token: None, remaining: None })
            }
            Operation::GetScale { key } => self.scale(key),
            Operation::SetScale { key, replicas, .. } => {
                let Object::Deployment(deployment) = self.find(key)? else {
                    panic!("only Deployments are scaled here")
                };
                let mut deployment = (*deployment).clone();
                deployment.spec.replicas = *replicas;
                self.writes.push(format!("scale {key} to {replicas}"));
                self.put(deployment.boxed());
                self.scale(key)
            }
            Operation::Metrics { .. } => match &self.metrics {
                Some(measures) => Ok(Answer::Metrics(measures.clone())),
                None => Err(Box::new(Status::new(Reason::NotFound, "the server could not find the metric"))),
            },
            Operation::Create { object, .. } => self.create(object),
            Operation::Update { object, part, .. } => self.update(object, *part),
            Operation::Patch { key, patch: Patch::Typed(patch), .. } => self.patch(key, patch),
            Operation::Delete { key, options } => self.delete(key, options),
            Operation::DeleteCollection { scope, options } => {
                let items = self.apply(&Operation::List {
                    scope: scope.clone(),
                    limit: 0,
                    continue_token: None,
                    at: crate::apiserver::protocol::ListRevision::Latest,
                })?;
                if let Answer::List { items, .. } = items {
                    for item in items {
                        self.delete(&item.key(), options)?;
                    }
                }
                Ok(Answer::Done)
            }
            other => panic!("the controllers' tests know no {other:?}"),
        }
    }

    fn scale(&self, key: &ObjectKey) -> Outcome {
        let Object::Deployment(deployment) = self.find(key)? else { panic!("only Deployments have a scale here") };
        Ok(Answer::Scale {
            desired: deployment.spec.replicas,
            current: deployment.status.replicas,
            resource_version: deployment.meta.revision(),
            selector: deployment.spec.selector.to_string(),
        })
    }

    fn create(&mut self, object: &Object) -> Outcome {
        let kind = object.kind();
        if let Some((refused, status)) = &self.refuse
            && *refused == kind
        {
            return Err(Box::new(status.clone()));
        }
        let mut object = object.clone();
        self.names += 1;
        let (number, created) = (self.names, self.now().timestamp());
        let meta = object.meta_mut();
        if let Some(prefix) = &meta.generate_name
            && meta.name.is_empty()
        {
            meta.name = format!("{prefix}{number:05}").into();
        }
        meta.uid = Uid(u128::from(number) << 64);
        meta.created = created;
        meta.generation = i64::from(kind.row().counts_generation);
        if self.find(&object.key()).is_ok() {
            return Err(Box::new(Status::already_exists(kind, &object.meta().name)));
        }
        self.writes.push(format!("create {}", object.key()));
        self.put(object.clone());
        Ok(Answer::Object(object))
    }

    fn update(&mut self, object: &Object, part: Part) -> Outcome {
        let key = object.key();
        let old = self.find(&key)?;
        if object.meta().revision() != 0 && object.meta().revision() != old.meta().revision() {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Box::new(Status::conflict(key.kind, &key.name, why)));
        }
        let new = match (object, &old) {
            (Object::Deployment(new), Object::Deployment(old)) => {
                let mut merged = (**new).clone();
                match part {
                    Part::Status => {
                        merged.spec = old.spec.clone();
                        merged.meta.labels = old.meta.labels.clone();
                    }
                    Part::Main | Part::Finalize | Part::Resize => merged.status = old.status.clone(),
                }
                merged.boxed()
            }
            (Object::ReplicaSet(new), Object::ReplicaSet(old)) => {
                let mut merged = (**new).clone();
                match part {
                    Part::Status => {
                        merged = (**old).clone();
                        merged.status = new.status.clone();
                    }
                    Part::Main | Part::Finalize | Part::Resize => {
                        merged.status = old.status.clone();
                        merged.meta.generation = old.meta.generation + i64::from(new.replicas != old.replicas);
                    }
                }
                merged.boxed()
            }
            (Object::StatefulSet(new), Object::StatefulSet(old)) if part == Part::Status => {
                StatefulSet { status: new.status.clone(), ..(**old).clone() }.boxed()
            }
            (Object::EndpointSlice(new), Object::EndpointSlice(old)) => {
                let mut meta = Meta { uid: old.meta.uid, ..new.meta.clone() };
                meta.generation = old.meta.generation + 1;
                EndpointSlice { meta, ..(**new).clone() }.boxed()
            }
            _ => object.clone(),
        };
        let what = if part == Part::Status { "status of " } else { "" };
        self.writes.push(format!("update {what}{key}"));
        let mut new = new;
        new.meta_mut();
        let meta = new.meta();
        let ends = meta.is_deleting() && meta.finalizers().is_empty() && key.kind != Kind::Pod && part == Part::Main;
        if ends || matches!(&new, Object::Namespace(namespace) if namespace.finalizers.is_empty()) {
            self.vanish(&key);
            return Ok(Answer::Object(new));
        }
        self.put(new.clone());
        Ok(Answer::Object(new))
    }

    fn patch(&mut self, key: &ObjectKey, patch: &TypedPatch) -> Outcome {
        let mut object = self.find(key)?;
        self.writes.push(format!("patch {key}"));
        match patch {
            TypedPatch::Metadata { owners, finalizers, labels, annotations, .. } => {
                let meta = object.meta_mut();
                if let Some(owners) = owners {
                    meta.owners = owners.clone().into();
                }
                if let Some(finalizers) = finalizers {
                    meta.finalizers = finalizers.clone().into();
                }
                let common = &mut **meta;
                for (target, changes) in [(&mut common.labels, labels), (&mut common.annotations, annotations)] {
                    for (name, value) in changes {
                        *target = match value {
                            Some(value) => target.with(name.clone(), value.clone()),
                            None => target.without(name),
                        };
                    }
                }
                let gone = meta.is_deleting() && meta.finalizers().is_empty() && key.kind != Kind::Pod;
                if gone {
                    self.vanish(key);
                    return Ok(Answer::Object(object));
                }
            }
            TypedPatch::NodeTaints { taints, .. } => {
                let Object::Node(node) = &mut object else { panic!("taints are for nodes") };
                Rc::make_mut(node).taints = taints.clone();
            }
            TypedPatch::NodeStatus { status } => {
                let Object::Node(node) = &mut object else { panic!("a node's status is for nodes") };
                let mut merged = node.status.conditions.clone();
                for condition in &status.conditions {
                    merged.retain(|old| old.kind != condition.kind);
                    merged.push(condition.clone());
                }
                Rc::make_mut(node).status = NodeStatus { conditions: merged, ..status.clone() };
            }
            TypedPatch::PodConditions { conditions, .. } => {
                let Object::Pod(pod) = &mut object else { panic!("pod conditions are for pods") };
                let all = &mut Rc::make_mut(pod).status.conditions;
                for condition in conditions {
                    all.retain(|old| old.kind != condition.kind);
                    all.push(condition.clone());
                }
            }
            TypedPatch::PodStatus { status, .. } => {
                let Object::Pod(pod) = &mut object else { panic!("a pod's status is for pods") };
                Rc::make_mut(pod).status = status.clone();
            }
        }
        object.meta_mut();
        self.put(object.clone());
        Ok(Answer::Object(object))
    }

    fn delete(&mut self, key: &ObjectKey, options: &DeleteOptions) -> Outcome {
        let mut object = self.find(key)?;
        let how = match options.propagation {
            Some(Propagation::Foreground) => " in the foreground",
            Some(Propagation::Orphan) => " orphaning",
            _ => "",
        };
        self.writes.push(format!("delete {key}{how}"));
        let waits = key.kind == Kind::Pod && !self.deletes_pods_at_once && options.grace_seconds != Some(0);
        if waits || !object.meta().finalizers().is_empty() {
            if !object.meta().is_deleting() {
                let timestamp = Timestamp(self.seconds as i64 + if waits { 30 } else { 0 });
                object.meta_mut().deletion =
                    Some(Box::new(Deletion { timestamp, grace_seconds: Some(if waits { 30 } else { 0 }) }));
                self.put(object.clone());
            }
            return Ok(Answer::Object(object));
        }
        self.vanish(key);
        Ok(Answer::Object(object))
    }
}
