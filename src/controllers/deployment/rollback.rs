//! The rollback that clients of the extensions API asked for: an annotation names the revision.
//! `kubectl rollout undo` does not use it; see [`super::kubectl`].

use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::object::Object;
use crate::api::workload::{Deployment, ReplicaSet};
use crate::apiserver::protocol::{Operation, Part};
use crate::client::plan::Again;

use super::super::script::Halt;
use super::sync::Sync;
use super::{kubectl, revision, template};

/// The revision that is asked for, zero for the one before the present one; none if nothing is asked.
pub(super) fn requested(deployment: &Deployment) -> Option<i64> {
    deployment.meta.annotations.get(&revision::ROLLBACK_TO)?.parse().ok()
}

impl Sync<'_, '_> {
    /// Puts the template of a revision back and removes the annotation in any case (kube-controller-manager, `rollback`).
    pub fn roll_back(&mut self, sets: &[Rc<ReplicaSet>], revision: i64) -> Result<Again, Halt> {
        let sets = self.sort_out(sets, true)?;
        let all = || sets.old.iter().chain(&sets.new);
        let revision = if revision == 0 { revision::last_revision(all()) } else { revision };
        if revision == 0 {
            return self.give_up("Unable to find last revision.");
        }
        let Some(target) = all().find(|set| revision::revision(&set.meta) == Some(revision)) else {
            return self.give_up("Unable to find the revision to rollback to.");
        };
        let name = self.deployment.meta.name.clone();
        if template::same(&self.deployment.spec.template, &target.template) {
            let message = format!("The rollback revision contains the same template as current deployment \"{name}\"");
            self.script.record(&self.about, EventType::Warning, "DeploymentRollbackTemplateUnchanged", message);
            return self.clear_request();
        }
        self.deployment.spec.template = Rc::new(template::without_hash(&target.template));
        self.deployment.meta.annotations = kubectl::annotations_after_undo(&self.deployment.meta, &target.meta);
        self.clear_request()?;
        let message = format!("Rolled back deployment \"{name}\" to revision {revision}");
        self.script.record(&self.about, EventType::Normal, "DeploymentRollback", message);
        Ok(Again::OnChange)
    }

    fn give_up(&mut self, why: &str) -> Result<Again, Halt> {
        self.script.record(&self.about, EventType::Warning, "DeploymentRollbackRevisionNotFound", why.to_owned());
        self.clear_request()
    }

    fn clear_request(&mut self) -> Result<Again, Halt> {
        self.deployment.meta.annotations = self.deployment.meta.annotations.without(&revision::ROLLBACK_TO);
        let object = Object::Deployment(Rc::new(self.deployment.clone()));
        self.script.write(Operation::Update { object, part: Part::Main, dry_run: false })?;
        Ok(Again::OnChange)
    }
}
