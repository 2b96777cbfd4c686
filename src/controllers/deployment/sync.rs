//! What one look at a Deployment does, in order.
//!
//! As in the original, the sync goes on with the Deployment that it began with even after it has written it. A second write of
//! the Deployment in the same sync therefore meets a conflict, and the sync is tried again: a real cluster shows exactly
//! these conflicts.

use std::rc::Rc;

use crate::api::event::{EventType, ObjectReference};
use crate::api::meta::{Common, Meta, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, PodTemplate};
use crate::api::workload::{Deployment, DeploymentStrategy, ReplicaSet, ReplicaSetStatus};
use crate::apiserver::protocol::{Answer, Operation, Part};
use crate::apiserver::status::{Reason, Status};
use crate::client::plan::Again;

use super::super::owner;
use super::super::script::{Halt, Script};
use super::{Snapshot, budget, oldest_first, revision, status, template};

/// One look at a Deployment.
pub(super) struct Sync<'s, 'v> {
    pub script: &'s mut Script<'v>,
    /// The Deployment as the sync sees it: as it was in the cache, with what the sync has changed since.
    pub deployment: Deployment,
    /// What events are about.
    pub about: ObjectReference,
    /// ReplicaSets with pods that have not ended (strategy Recreate only).
    pub running: &'s [Uid],
}

/// The ReplicaSets of a Deployment.
pub(super) struct Sets {
    /// The one with the Deployment's template, if it exists.
    pub new: Option<Rc<ReplicaSet>>,
    /// All others, oldest first.
    pub old: Vec<Rc<ReplicaSet>>,
}

impl Sets {
    /// The old ones, then the new one.
    pub fn all(&self) -> impl Iterator<Item = &ReplicaSet> + Clone {
        self.old.iter().chain(&self.new).map(|set| &**set)
    }

    /// Those that should have pods, the new one last.
    pub fn active(&self) -> impl Iterator<Item = &Rc<ReplicaSet>> {
        self.old.iter().chain(&self.new).filter(|set| set.replicas > 0)
    }
}

/// Looks at a Deployment (kube-controller-manager, `syncDeployment`).
pub(super) fn sync(script: &mut Script<'_>, snapshot: &Snapshot) -> Result<Again, Halt> {
    let deployment = &*snapshot.deployment;
    let mut sets = owner::claim_all(script, deployment, &deployment.spec.selector, &snapshot.candidates)?;
    sets.sort_by(|left, right| oldest_first(left, right));
    let about = owner::reference(deployment);
    let mut sync = Sync { script, deployment: deployment.clone(), about, running: &snapshot.running };
    if deployment.meta.is_deleting() {
        let sets = sync.sort_out(&sets, false)?;
        return sync.write_status(&sets);
    }
    sync.note_pause()?;
    if deployment.spec.paused {
        return sync.scale_only(&sets);
    }
    if let Some(revision) = super::rollback::requested(deployment) {
        return sync.roll_back(&sets, revision);
    }
    if sync.was_scaled(&sets)? {
        return sync.scale_only(&sets);
    }
    match deployment.spec.strategy {
        DeploymentStrategy::Recreate => sync.recreate(&sets),
        DeploymentStrategy::RollingUpdate { .. } => sync.roll(&sets),
    }
}

impl Sync<'_, '_> {
    /// Writes the Deployment's status, and its annotations with it: the status subresource of a Deployment takes metadata too.
    pub fn update_status(&mut self) -> Result<(), Halt> {
        let operation = self.status_update();
        self.script.write(operation).map(|_| ())
    }

    /// The request that writes the Deployment's status.
    pub fn status_update(&self) -> Operation {
        let object = Object::Deployment(Rc::new(self.deployment.clone()));
        Operation::Update { object, part: Part::Status, dry_run: false }
    }

    /// Says in the conditions that a Deployment was paused or resumed, so that the time in between does not count
    /// against the progress deadline (`checkPausedConditions`).
    fn note_pause(&mut self) -> Result<(), Halt> {
        if status::deadline_seconds(&self.deployment).is_none() {
            return Ok(());
        }
        let reason = status::find(&self.deployment.status.conditions, status::PROGRESSING).map(|it| it.reason.clone());
        let reason = reason.as_deref();
        let noted = reason == Some("DeploymentPaused");
        if reason == Some(status::TIMED_OUT) || self.deployment.spec.paused == noted {
            return Ok(());
        }
        let (reason, message) = if self.deployment.spec.paused {
            ("DeploymentPaused", "Deployment is paused")
        } else {
            ("DeploymentResumed", "Deployment is resumed")
        };
        let now = self.script.now().timestamp();
        let condition =
            status::condition(status::PROGRESSING, ConditionStatus::Unknown, reason, Name::of(message), now);
        status::set(&mut self.deployment.status.conditions, condition);
        self.update_status()
    }

    /// True if the Deployment's size was changed since its ReplicaSets were sized (`isScalingEvent`).
    fn was_scaled(&mut self, sets: &[Rc<ReplicaSet>]) -> Result<bool, Halt> {
        let desired = self.deployment.spec.replicas;
        let sets = self.sort_out(sets, false)?;
        let differs =
            |set: &Rc<ReplicaSet>| revision::count(set, &revision::DESIRED_REPLICAS).is_some_and(|it| it != desired);
        Ok(sets.active().any(differs))
    }

    /// Scales without rolling on: after a change of size, and while paused (`sync`).
    fn scale_only(&mut self, sets: &[Rc<ReplicaSet>]) -> Result<Again, Halt> {
        let sets = self.sort_out(sets, false)?;
        self.scale(&sets)?;
        if self.deployment.spec.paused && super::rollback::requested(&self.deployment).is_none() {
            revision::clean_up(self.script, &self.deployment, &sets.old)?;
        }
        self.write_status(&sets)
    }

    /// Writes counts and availability if they changed, without a word about progress (`syncDeploymentStatus`).
    fn write_status(&mut self, sets: &Sets) -> Result<Again, Halt> {
        let now = self.script.now().timestamp();
        let status = status::calculate(&self.deployment, sets, now);
        if status == self.deployment.status {
            return Ok(Again::OnChange);
        }
        self.deployment.status = status;
        let operation = self.status_update();
        Err(self.script.finish(operation, Again::OnChange))
    }

    /// Tells the new ReplicaSet from the old ones and sees to the revision annotations; creates the new one if it is missing
    /// and `create` says so (`getAllReplicaSetsAndSyncRevision`).
    pub fn sort_out(&mut self, sets: &[Rc<ReplicaSet>], create: bool) -> Result<Sets, Halt> {
        let is_new = |set: &&Rc<ReplicaSet>| template::same(&set.template, &self.deployment.spec.template);
        let new = sets.iter().find(is_new).cloned();
        let is_old = |set: &&Rc<ReplicaSet>| new.as_ref().is_none_or(|new| new.meta.uid != set.meta.uid);
        let old: Vec<_> = sets.iter().filter(is_old).cloned().collect();
        let revision = revision::max_revision(&old) + 1;
        let new = match new {
            Some(new) => Some(self.keep_new(&new, revision)?),
            None if create => Some(self.create_new(&old, revision)?),
            None => None,
        };
        Ok(Sets { new, old })
    }

    /// Brings the annotations of the new ReplicaSet and of the Deployment up to date.
    fn keep_new(&mut self, set: &Rc<ReplicaSet>, revision: i64) -> Result<Rc<ReplicaSet>, Halt> {
        let annotations = revision::new_annotations(&self.deployment, &set.meta.annotations, revision, true);
        let min_ready_seconds = self.deployment.spec.min_ready_seconds;
        if annotations.is_some() || set.min_ready_seconds != min_ready_seconds {
            let mut update = (**set).clone();
            update.meta.annotations = annotations.unwrap_or_else(|| set.meta.annotations.clone());
            update.min_ready_seconds = min_ready_seconds;
            return self.update_set(update);
        }
        let set_revision = set.meta.annotations.get(&revision::REVISION).cloned().unwrap_or_default();
        let mut changed = self.set_revision(&set_revision);
        let conditions = &self.deployment.status.conditions;
        if status::deadline_seconds(&self.deployment).is_some()
            && status::find(conditions, status::PROGRESSING).is_none()
        {
            let message = Name::from(format!("Found new replica set \"{}\"", set.meta.name));
            self.set_progressing(ConditionStatus::True, "FoundNewReplicaSet", message);
            changed = true;
        }
        if changed {
            self.update_status()?;
        }
        Ok(set.clone())
    }

    /// Notes the revision in the Deployment; true if it was another one.
    fn set_revision(&mut self, revision: &Name) -> bool {
        if self.deployment.meta.annotations.get(&revision::REVISION) == Some(revision) {
            return false;
        }
        self.deployment.meta.annotations = self.deployment.meta.annotations.with(revision::REVISION, revision.clone());
        true
    }

    fn set_progressing(&mut self, holds: ConditionStatus, reason: &'static str, message: Name) {
        let now = self.script.now().timestamp();
        let condition = status::condition(status::PROGRESSING, holds, reason, message, now);
        status::set(&mut self.deployment.status.conditions, condition);
    }

    /// Writes a ReplicaSet and returns it as it is now stored.
    pub fn update_set(&mut self, set: ReplicaSet) -> Result<Rc<ReplicaSet>, Halt> {
        let set = Rc::new(set);
        let object = Object::ReplicaSet(set.clone());
        let answer = self.script.write(Operation::Update { object, part: Part::Main, dry_run: false })?;
        Ok(answer.as_ref().and_then(Object::get).cloned().unwrap_or(set))
    }

    /// Creates the ReplicaSet for the Deployment's template (`getNewReplicaSet`).
    fn create_new(&mut self, old: &[Rc<ReplicaSet>], revision: i64) -> Result<Rc<ReplicaSet>, Halt> {
        let wanted = budget::wanted(old.iter().map(|set| &**set));
        let replicas = budget::new_replicas(&self.deployment, wanted, 0).map_err(Halt::Failed)?;
        let set = Rc::new(new_set(&self.deployment, replicas, revision));
        let object = Object::ReplicaSet(set.clone());
        let mut existed = false;
        let created = match self.script.ask(Operation::Create { object, dry_run: false })? {
            Ok(Answer::Object(Object::ReplicaSet(created))) => created,
            Ok(_) => set,
            Err(status) if status.reason == Reason::AlreadyExists => {
                existed = true;
                self.existing_or_collision(&set, &status)?
            }
            Err(status) if status.is_namespace_terminating() => return Err(Halt::Ended(Again::OnChange)),
            Err(status) => return Err(self.creation_failed(&set, &status)?),
        };
        let name = &created.meta.name;
        if !existed && replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.script.record(&self.about, EventType::Normal, "ScalingReplicaSet", message);
        }
        let mut changed = self.set_revision(&Name::from(revision.to_string()));
        if !existed && status::deadline_seconds(&self.deployment).is_some() {
            let message = Name::from(format!("Created new replica set \"{name}\""));
            self.set_progressing(ConditionStatus::True, "NewReplicaSetCreated", message);
            changed = true;
        }
        if changed {
            self.update_status()?;
        }
        Ok(created)
    }

    /// The name is taken: by the very ReplicaSet that the cache has not shown yet, or by another one whose hash is the same.
    /// The latter is counted, and the next sync tries another name.
    fn existing_or_collision(&mut self, set: &ReplicaSet, refusal: &Status) -> Result<Rc<ReplicaSet>, Halt> {
        let (namespace, name) = (set.meta.namespace.clone(), set.meta.name.clone());
        let found = self.script.look(|view| view.get::<ReplicaSet>(&namespace, &name).cloned().map(Object::ReplicaSet));
        let Some(found) = found.as_ref().and_then(Object::get::<ReplicaSet>) else {
            return Err(Halt::Failed(format!("replicaset.apps \"{name}\" not found")));
        };
        let owned = found.meta.controller().is_some_and(|controller| controller.uid == self.deployment.meta.uid);
        if owned && template::same(&found.template, &self.deployment.spec.template) {
            return Ok(found.clone());
        }
        let count = self.deployment.status.collision_count.unwrap_or(0);
        self.deployment.status.collision_count = Some(count.saturating_add(1));
        let operation = self.status_update();
        // Whether this went well shows in the next sync.
        let _ = self.script.ask(operation)?;
        Err(Halt::Failed(refusal.message.clone()))
    }

    /// Says in the conditions and by an event why no ReplicaSet could be created.
    fn creation_failed(&mut self, set: &ReplicaSet, why: &Status) -> Result<Halt, Halt> {
        const REASON: &str = "ReplicaSetCreateError";
        let message = format!("Failed to create new replica set \"{}\": {why}", set.meta.name);
        if status::deadline_seconds(&self.deployment).is_some() {
            self.set_progressing(ConditionStatus::False, REASON, Name::new(&message));
            let operation = self.status_update();
            let _ = self.script.ask(operation)?;
        }
        self.script.record(&self.about, EventType::Warning, REASON, message);
        Ok(Halt::Failed(why.message.clone()))
    }
}

/// The ReplicaSet for a Deployment's template: named, labelled and selected by the template's hash.
fn new_set(deployment: &Deployment, replicas: i32, revision: i64) -> ReplicaSet {
    let hash = template::hash(&deployment.spec.template, deployment.status.collision_count);
    let name = template::replica_set_name(&deployment.meta.name, &hash);
    let hash = Name::from(hash);
    let labels = deployment.spec.template.labels.with(template::HASH_LABEL, hash.clone());
    let selector = deployment.spec.selector.with(template::HASH_LABEL.as_str(), &hash);
    let meta = Meta {
        name: Name::from(name),
        common: Common {
            namespace: deployment.meta.namespace.clone(),
            labels: labels.clone(),
            annotations: revision::new_annotations(deployment, &Default::default(), revision, false)
                .unwrap_or_default(),
            owners: [owner::controller_reference(deployment)].into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    ReplicaSet {
        meta,
        replicas,
        min_ready_seconds: deployment.spec.min_ready_seconds,
        selector: Rc::new(selector),
        template: Rc::new(PodTemplate { labels, ..(*deployment.spec.template).clone() }),
        status: ReplicaSetStatus::default(),
    }
}
