//! What is created, deleted and updated, and in which order (kube-controller-manager, statefulset: `updateStatefulSet`).
//!
//! OrderedReady goes pod by pod from the lowest ordinal up, waits for each to be available, then takes away what is too much
//! from the highest ordinal down, then updates from the highest ordinal down. Parallel does not wait when it creates and
//! deletes, in batches of 1, 2, 4, ...; it updates one by one as well.

use std::rc::Rc;

use crate::api::event::{EventType, ObjectReference};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodPhase};
use crate::api::revision::ControllerRevision;
use crate::api::stateful::{StatefulSet, StatefulSetStatus, UpdateStrategy};
use crate::api::storage::PersistentVolumeClaim;
use crate::apiserver::protocol::{DeleteOptions, Operation, Part};
use crate::apiserver::status::Reason;
use crate::client::plan::{EventNote, Request, Step};
use crate::client::view::Now;

use super::super::owner;
use super::super::script::{Halt, Script};
use super::claims::{self, Claims, Holder};
use super::members::Member;
use super::revisions::Revisions;
use super::{identity, status};

/// At most so many requests are under way at once (`MaxBatchSize`).
const MAX_BATCH: usize = 500;

/// What a sync of a set knows once pods are claimed and revisions found.
pub(super) struct Control<'a> {
    set: &'a StatefulSet,
    revisions: &'a Revisions,
    claims: &'a Claims,
    /// The pods that exist.
    pods: &'a [Member],
    /// One for each ordinal that there is to be, in order.
    replicas: Vec<Replica<'a>>,
    /// Pods with other ordinals, from the highest down.
    condemned: Vec<&'a Member>,
    about: ObjectReference,
    now: Now,
}

/// A place in a set: the pod that holds it, if one does.
struct Replica<'a> {
    ordinal: i32,
    pod: Option<&'a Member>,
}

/// How far a part of a sync came.
enum Progress {
    /// On with the next part.
    GoOn,
    /// Nothing more can be done in this sync.
    Stop,
    /// Something failed.
    Failed(String),
}

impl<'a> Control<'a> {
    /// Sorts the pods by whether they are to be.
    pub fn new(
        set: &'a StatefulSet,
        revisions: &'a Revisions,
        claims: &'a Claims,
        pods: &'a [Member],
        now: Now,
    ) -> Self {
        let place = |pod: &Member| identity::place(set, pod.facts.ordinal);
        let places = identity::places(set, pods.iter().filter_map(place));
        let ordinal = |place| set.first_ordinal().saturating_add(place as i32);
        let mut replicas: Vec<_> = (0..places).map(|place| Replica { ordinal: ordinal(place), pod: None }).collect();
        let mut condemned = Vec::new();
        for pod in pods.iter().filter(|pod| pod.facts.ordinal >= 0) {
            match place(pod) {
                Some(place) => replicas[place].pod = Some(pod),
                None => condemned.push(pod),
            }
        }
        condemned.sort_by_key(|pod| std::cmp::Reverse(pod.facts.ordinal));
        let about = owner::reference(set);
        Control { set, revisions, claims, pods, replicas, condemned, about, now }
    }

    /// Does what can be done now and writes the status; a failure is told after that.
    pub fn run(&self, script: &mut Script<'_>) -> Result<StatefulSetStatus, Halt> {
        let mut status = status::count(self.set, self.revisions, self.pods, self.now);
        let progress = if self.set.meta.is_deleting() { Progress::Stop } else { self.go_on(script, &mut status)? };
        let written = super::caught(status::write(script, self.set, &mut status))?;
        match (progress, written) {
            (Progress::Failed(message), _) | (_, Err(message)) => Err(Halt::Failed(message)),
            _ => Ok(status),
        }
    }

    fn go_on(&self, script: &mut Script<'_>, status: &mut StatefulSetStatus) -> Result<Progress, Halt> {
        let progress = self.for_all(script, &self.replicas, |script, batch| self.keep(script, batch))?;
        let Progress::GoOn = progress else { return Ok(progress) };
        let progress = self.for_all(script, &self.condemned, |script, batch| self.own_claims(script, batch))?;
        let Progress::GoOn = progress else { return Ok(progress) };
        let waits_for = if self.condemned.is_empty() { None } else { self.first_unavailable() };
        let condemn = |script: &mut Script<'_>, batch: &[_]| self.condemn(script, batch, waits_for.as_ref());
        let progress = self.for_all(script, &self.condemned, condemn)?;
        let Progress::GoOn = progress else { return Ok(progress) };
        self.roll(script, status)
    }

    /// Does something with all: one after the other until one says stop, or, if the set is parallel, in batches that double
    /// until one fails (`runForAll`).
    fn for_all<T>(
        &self,
        script: &mut Script<'_>,
        items: &[T],
        act: impl Fn(&mut Script<'_>, &[T]) -> Result<Progress, Halt>,
    ) -> Result<Progress, Halt> {
        let (mut rest, mut size) = (items, 1);
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(size.min(rest.len()));
            match act(script, batch)? {
                Progress::Failed(message) => return Ok(Progress::Failed(message)),
                Progress::Stop if !self.set.spec.is_parallel => return Ok(Progress::Stop),
                Progress::Stop | Progress::GoOn => rest = others,
            }
            if self.set.spec.is_parallel {
                size = (size * 2).min(MAX_BATCH);
            }
        }
        Ok(Progress::GoOn)
    }

    /// The first pod that is not available, by ordinal, those that are too many last.
    fn first_unavailable(&self) -> Option<Name> {
        let is_unavailable = |pod: &Member| pod.facts.is_unavailable(self.set, self.now);
        let replica = self.replicas.iter().find(|it| it.pod.is_none_or(is_unavailable)).map(|it| it.name(self.set));
        let condemned = || self.condemned.iter().rev().find(|pod| is_unavailable(pod));
        replica.or_else(|| condemned().map(|pod| pod.pod.meta.name.clone()))
    }

    /// Sees to it that places are held: deletes pods that have ended, creates those that are missing, and keeps the others as
    /// they should be (`processReplica`).
    fn keep(&self, script: &mut Script<'_>, batch: &[Replica<'_>]) -> Result<Progress, Halt> {
        if batch.iter().all(|replica| self.is_settled(replica)) {
            return Ok(Progress::GoOn);
        }
        let has_ended = |pod: &&Member| pod.facts.is_terminal() && !pod.facts.is_deleting;
        let ended: Vec<_> = batch.iter().filter_map(|it| it.pod).filter(has_ended).collect();
        if let Some(failure) = self.delete(script, &ended)? {
            return Ok(Progress::Failed(failure));
        }
        let is_stale = |it: &&Replica<'_>| self.claims.are_stale(self.set, it.holder(&it.name(self.set)));
        let missing: Vec<_> = batch.iter().filter(|it| it.pod.is_none()).filter(|it| !is_stale(it)).collect();
        if let Some(failure) = self.create(script, &missing)? {
            return Ok(Progress::Failed(failure));
        }
        let present =
            || batch.iter().filter_map(|it| it.pod.map(|pod| (it, pod))).filter(|(_, pod)| !pod.facts.is_terminal());
        let pending: Vec<_> =
            present().filter(|(_, pod)| pod.facts.phase == PodPhase::Pending).map(|it| it.0).collect();
        if let Some(failure) = self.create_claims(script, &pending, false)? {
            return Ok(Progress::Failed(failure));
        }
        if let Some(failure) = self.set_owners(script, &pending)? {
            return Ok(Progress::Failed(failure));
        }
        if !self.set.spec.is_parallel && batch.iter().any(|it| !it.pod.is_some_and(|pod| self.is_available(pod))) {
            return Ok(Progress::Stop);
        }
        for (replica, pod) in present() {
            if let Some(failure) = self.put_right(script, replica, pod)? {
                return Ok(Progress::Failed(failure));
            }
        }
        Ok(Progress::GoOn)
    }

    /// True if there is nothing to do about a place, which is so of most. With claims that takes a closer look.
    fn is_settled(&self, replica: &Replica<'_>) -> bool {
        let is_settled = |pod: &Member| {
            pod.facts.phase == PodPhase::Running
                && pod.facts.is_labelled
                && (self.set.spec.is_parallel || self.is_available(pod))
        };
        self.set.spec.claim_templates.is_empty() && replica.pod.is_some_and(is_settled)
    }

    /// True if the next ordinal need not wait for this pod.
    fn is_available(&self, pod: &Member) -> bool {
        pod.facts.is_ready() && !pod.facts.is_unavailable(self.set, self.now)
    }

    /// Creates pods, their claims first (`CreateStatefulPod`).
    fn create(&self, script: &mut Script<'_>, missing: &[&Replica<'_>]) -> Result<Option<String>, Halt> {
        if missing.is_empty() {
            return Ok(None);
        }
        if let Some(failure) = self.create_claims(script, missing, true)? {
            return Ok(Some(failure));
        }
        if missing.iter().any(|replica| self.revision_of(replica).template().is_none()) {
            return Ok(Some("a revision keeps no pod template".to_owned()));
        }
        let outcomes = script.step(|| {
            let new_pod = |it: &&Replica<'_>| identity::new_pod(self.set, self.revision_of(it), it.ordinal);
            let request = |pod: Pod| Request {
                // Nothing is told of a pod that is there already, but the sync has failed.
                tolerate: &[Reason::AlreadyExists],
                on_success: Some(self.success("Create", &pod.meta.name)),
                on_failure: Some(self.failure("Create", &pod.meta.name)),
                operation: Operation::Create { object: Object::Pod(Rc::new(pod)), dry_run: false },
            };
            Step::Parallel(missing.iter().filter_map(new_pod).map(request).collect())
        })?;
        let failure = outcomes.iter().find_map(|outcome| outcome.as_ref().err()).map(|status| status.message.clone());
        let owners = self.set_owners(script, missing)?;
        Ok(failure.or(owners))
    }

    /// The revision of the pod that a place is to have: the old one below the partition (`newVersionedStatefulSetPod`).
    fn revision_of(&self, replica: &Replica<'_>) -> &'a ControllerRevision {
        let bound = match &self.set.spec.strategy {
            UpdateStrategy::OnDelete => 0,
            UpdateStrategy::RollingUpdate(None) => self.set.status.current_replicas,
            UpdateStrategy::RollingUpdate(Some(rolling)) => rolling.partition,
        };
        let is_old = replica.ordinal < self.set.first_ordinal().saturating_add(bound);
        if is_old { &self.revisions.current } else { &self.revisions.update }
    }

    /// Creates the claims that pods lack (`createPersistentVolumeClaims`). A pod that is `new` is then told to have failed.
    fn create_claims(&self, script: &mut Script<'_>, of: &[&Replica<'_>], new: bool) -> Result<Option<String>, Halt> {
        if self.set.spec.claim_templates.is_empty() {
            return Ok(None);
        }
        let (mut requests, mut going) = (Vec::new(), Vec::new());
        for name in of.iter().map(|replica| replica.name(self.set)) {
            let (missing, failure) = self.claims.missing(self.set, &name);
            going.extend(failure.map(|message| (name.clone(), message)));
            requests.extend(missing.into_iter().map(|claim| (name.clone(), claim)));
        }
        let mut failures = going;
        if !requests.is_empty() {
            let outcomes = script.step(|| {
                let request = |(pod, claim): &(Name, PersistentVolumeClaim)| Request {
                    operation: claims::creation(claim.clone()),
                    tolerate: &[Reason::AlreadyExists],
                    on_success: Some(self.claim_created(pod, &claim.meta.name)),
                    on_failure: Some(self.claim_refused(pod, &claim.meta.name)),
                };
                Step::Parallel(requests.iter().map(request).collect())
            })?;
            for ((pod, claim), outcome) in requests.iter().zip(&outcomes) {
                if let Err(status) = outcome {
                    failures
                        .push((pod.clone(), format!("failed to create PVC {}: {}", claim.meta.name, status.message)));
                }
            }
        }
        if new {
            for (pod, message) in &failures {
                self.tell_failure(script, "Create", pod, message);
            }
        }
        Ok(failures.into_iter().next().map(|(_, message)| message))
    }

    /// Gives the claims of pods the owners that the retention policy says (`UpdatePodClaimForRetentionPolicy`).
    fn set_owners(&self, script: &mut Script<'_>, of: &[&Replica<'_>]) -> Result<Option<String>, Halt> {
        if self.set.spec.claim_templates.is_empty() {
            return Ok(None);
        }
        for replica in of {
            let name = replica.name(self.set);
            if let Some(failure) = self.set_owners_of(script, replica.holder(&name))? {
                self.tell_failure(script, "Update", &name, &failure);
                return Ok(Some(failure));
            }
        }
        Ok(None)
    }

    fn set_owners_of(&self, script: &mut Script<'_>, pod: Holder<'_>) -> Result<Option<String>, Halt> {
        for claim in self.claims.in_conflict(self.set, pod) {
            let message = format!(
                "PersistentVolumeClaim {claim} has a conflicting OwnerReference that acts as a manging controller, \
                 the retention policy is ignored for this claim"
            );
            script.record(&self.about, EventType::Warning, "ConflictingController", message);
        }
        for update in self.claims.to_own(self.set, pod) {
            let name =
                if let Operation::Update { object, .. } = &update { object.meta().name.clone() } else { Name::EMPTY };
            if let Err(status) = script.ask(update)? {
                return Ok(Some(format!(
                    "could not update claim {name} for delete policy ownerRefs: {}",
                    status.message
                )));
            }
        }
        Ok(None)
    }

    /// Makes a pod that is there what it should be: labels that say who it is, its claims and their owners
    /// (`UpdateStatefulPod`).
    fn put_right(
        &self,
        script: &mut Script<'_>,
        replica: &Replica<'_>,
        member: &Member,
    ) -> Result<Option<String>, Halt> {
        if member.facts.is_labelled && self.set.spec.claim_templates.is_empty() {
            return Ok(None);
        }
        let (pod, name) = (&member.pod, replica.name(self.set));
        let has_volumes = identity::has_volumes(self.set, pod);
        let is_owner = self.claims.to_own(self.set, replica.holder(&name)).is_empty();
        if member.facts.is_labelled && has_volumes && is_owner {
            return Ok(None);
        }
        if !has_volumes && let Some(failure) = self.create_claims(script, &[replica], false)? {
            self.tell_failure(script, "Update", &name, &failure);
            return Ok(Some(failure));
        }
        if let Some(failure) = self.set_owners(script, &[replica])? {
            return Ok(Some(failure));
        }
        let mut updated = Pod { meta: identity::labelled(&pod.meta), ..(**pod).clone() };
        if !has_volumes {
            updated.spec = Rc::new(identity::with_volumes(self.set, &pod.spec, &name));
        }
        let outcomes = script.step(|| {
            Step::Request(Request {
                operation: Operation::Update {
                    object: Object::Pod(Rc::new(updated)),
                    part: Part::Main,
                    dry_run: false,
                },
                tolerate: &[],
                on_success: Some(self.success("Update", &name)),
                on_failure: Some(self.failure("Update", &name)),
            })
        })?;
        Ok(outcomes.iter().find_map(|outcome| outcome.as_ref().err()).map(|status| status.message.clone()))
    }

    /// Lets the claims of pods that are too many go with them, if that is the policy.
    fn own_claims(&self, script: &mut Script<'_>, batch: &[&Member]) -> Result<Progress, Halt> {
        for Member { pod, .. } in batch {
            let holder = Holder { name: &pod.meta.name, uid: Some(pod.meta.uid), is_condemned: true };
            if let Some(failure) = self.set_owners_of(script, holder)? {
                return Ok(Progress::Failed(failure));
            }
        }
        Ok(Progress::GoOn)
    }

    /// Deletes pods that are too many. In order, nothing goes while another pod is not available, unless it is the first of
    /// those that are not (`processCondemned`).
    fn condemn(&self, script: &mut Script<'_>, batch: &[&Member], waits_for: Option<&Name>) -> Result<Progress, Halt> {
        let mut doomed = Vec::new();
        for pod in batch {
            if pod.facts.is_deleting {
                continue;
            }
            let is_hindered = !self.is_available(pod) && waits_for != Some(&pod.pod.meta.name);
            if self.set.spec.is_parallel || !is_hindered {
                doomed.push(*pod);
            }
        }
        match self.delete(script, &doomed)? {
            Some(failure) => Ok(Progress::Failed(failure)),
            None => Ok(Progress::Stop),
        }
    }

    /// Deletes the pod with the highest ordinal that is not of the wanted revision, once those above it are available.
    fn roll(&self, script: &mut Script<'_>, status: &mut StatefulSetStatus) -> Result<Progress, Halt> {
        let first = match &self.set.spec.strategy {
            UpdateStrategy::OnDelete => return Ok(Progress::GoOn),
            UpdateStrategy::RollingUpdate(rolling) => rolling.as_ref().map_or(0, |rolling| rolling.partition),
        };
        let first = usize::try_from(first).unwrap_or(0).min(self.replicas.len());
        for replica in self.replicas[first..].iter().rev() {
            // A pod that has been created just now is judged as well.
            let (is_deleting, revision) = match replica.pod {
                Some(pod) => (pod.facts.is_deleting, pod.facts.revision.as_ref()),
                None if self.revision_of(replica).template().is_none() => return Ok(Progress::Stop),
                None => (false, Some(&self.revision_of(replica).meta.name)),
            };
            if !is_deleting && revision != Some(&self.revisions.update.meta.name) {
                if let Some(failure) = self.delete_named(script, &[&replica.name(self.set)])? {
                    return Ok(Progress::Failed(failure));
                }
                status.current_replicas -= 1;
                return Ok(Progress::Stop);
            }
            if replica.pod.is_none_or(|pod| pod.facts.is_unavailable(self.set, self.now)) {
                return Ok(Progress::Stop);
            }
        }
        Ok(Progress::GoOn)
    }

    fn delete(&self, script: &mut Script<'_>, pods: &[&Member]) -> Result<Option<String>, Halt> {
        let names: Vec<&Name> = pods.iter().map(|pod| &pod.pod.meta.name).collect();
        self.delete_named(script, &names)
    }

    /// Deletes pods; one that is gone already counts as deleted (`DeleteStatefulPod`).
    fn delete_named(&self, script: &mut Script<'_>, names: &[&Name]) -> Result<Option<String>, Halt> {
        if names.is_empty() {
            return Ok(None);
        }
        let outcomes = script.step(|| {
            let request = |name: &&Name| {
                let (namespace, name) = (self.set.meta.namespace.clone(), *name);
                let key = ObjectKey { kind: Kind::Pod, namespace, name: name.clone() };
                Request {
                    operation: Operation::Delete { key, options: DeleteOptions::default() },
                    tolerate: &[Reason::NotFound],
                    on_success: Some(self.success("Delete", name)),
                    on_failure: Some(self.failure("Delete", name)),
                }
            };
            Step::Parallel(names.iter().map(request).collect())
        })?;
        let failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        Ok(failed.filter(|status| status.reason != Reason::NotFound).map(|status| status.message.clone()).next())
    }

    fn note(&self, kind: EventType, reason: String, message: String) -> Box<EventNote> {
        Box::new(EventNote { regarding: self.about.clone(), kind, reason: Name::from(reason), message })
    }

    fn success(&self, verb: &str, pod: &Name) -> Box<EventNote> {
        let message = format!("{verb} Pod {pod} in StatefulSet {} successful", self.set.meta.name);
        self.note(EventType::Normal, format!("Successful{verb}"), message)
    }

    fn failure(&self, verb: &str, pod: &Name) -> Box<EventNote> {
        let message = format!("{verb} Pod {pod} in StatefulSet {} failed error: {{error}}", self.set.meta.name);
        self.note(EventType::Warning, format!("Failed{verb}"), message)
    }

    fn tell_failure(&self, script: &mut Script<'_>, verb: &str, pod: &Name, failure: &str) {
        let note = self.failure(verb, pod);
        script.push(Step::Record(EventNote { message: note.message.replace("{error}", failure), ..*note }));
    }

    fn claim_created(&self, pod: &Name, claim: &Name) -> Box<EventNote> {
        let message = format!("Create Claim {claim} Pod {pod} in StatefulSet {} success", self.set.meta.name);
        self.note(EventType::Normal, "SuccessfulCreate".to_owned(), message)
    }

    fn claim_refused(&self, pod: &Name, claim: &Name) -> Box<EventNote> {
        let set = &self.set.meta.name;
        let message = format!("Create Claim {claim} for Pod {pod} in StatefulSet {set} failed error: {{error}}");
        self.note(EventType::Warning, "FailedCreate".to_owned(), message)
    }
}

impl Replica<'_> {
    /// The name of the pod that holds the place, or is to hold it.
    fn name(&self, set: &StatefulSet) -> Name {
        identity::name_at(set, self.ordinal, self.pod.map(|pod| &pod.pod))
    }

    fn holder<'n>(&self, name: &'n Name) -> Holder<'n> {
        Holder { name, uid: self.pod.map(|pod| pod.pod.meta.uid), is_condemned: false }
    }
}
