//! Jobs: no success is counted twice, nothing counted is forgotten, and no more pods run than may.

use std::collections::{BTreeMap, BTreeSet};

use kubesim::api::batch::Job;
use kubesim::api::meta::Uid;
use kubesim::api::pod::{Pod, PodPhase};
use kubesim::engine::time::{SimDuration, SimTime};

use super::super::watch::{Recent, Scene};
use super::Invariant;

/// How long there may be too many pods after what the API server was asked happened though it was not said so.
const MENDING: SimDuration = SimDuration::from_secs(300);

/// What the pods of a Job have come to.
#[derive(Default)]
struct Seen {
    pods: BTreeSet<Uid>,
    succeeded: BTreeSet<Uid>,
    parallelism: Recent<i32>,
    too_many: Option<SimTime>,
}

/// What Jobs count.
#[derive(Default)]
pub struct Counts {
    jobs: BTreeMap<Uid, Seen>,
}

impl Invariant for Counts {
    fn look(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        if let Some((old, new)) = scene.change::<Pod>() {
            let Some(owner) = new.or(old).and_then(|pod| pod.meta.controller()).filter(|owner| owner.kind == "Job")
            else {
                return Ok(());
            };
            let seen = self.jobs.entry(owner.uid).or_default();
            for pod in [old, new].into_iter().flatten() {
                seen.pods.insert(pod.meta.uid);
                if pod.status.phase == PodPhase::Succeeded {
                    seen.succeeded.insert(pod.meta.uid);
                }
            }
            return seen.run(owner.uid, old.is_none(), scene);
        }
        match scene.change::<Job>() {
            Some((old, Some(new))) => self.jobs.entry(new.meta.uid).or_default().count(old, new, scene),
            _ => Ok(()),
        }
    }

    fn judged(&self) -> usize {
        self.jobs.values().map(|seen| seen.succeeded.len()).sum()
    }
}

impl Seen {
    /// Never more active pods than may run at once.
    fn run(&mut self, job: Uid, is_made: bool, scene: &Scene<'_>) -> Result<(), String> {
        let active = scene.objects.pods_of(job).filter(|pod| pod.is_active()).count();
        let most = self.parallelism.since(scene.seen_from()).max().unwrap_or(0);
        let is_too_many = active > usize::try_from(most).unwrap_or(0);
        let since = is_too_many.then(|| *self.too_many.get_or_insert(scene.now));
        self.too_many = since;
        let grace = if scene.circumstances.control_plane_fails { MENDING } else { SimDuration::ZERO };
        let is_broken = since.is_some_and(|since| scene.now >= since + grace);
        if is_broken && (is_made || grace > SimDuration::ZERO) {
            return Err(format!("{active} pods are active, of {most} that may be"));
        }
        Ok(())
    }

    /// What is counted has happened, and stays counted.
    fn count(&mut self, old: Option<&Job>, new: &Job, scene: &Scene<'_>) -> Result<(), String> {
        self.parallelism.note(scene.now, new.spec.full.parallelism.unwrap_or(1));
        let status = &new.status;
        let uncounted = status.uncounted.as_ref();
        let succeeded = status.succeeded as usize + uncounted.map_or(0, |uncounted| uncounted.succeeded.len());
        let failed = status.failed as usize + uncounted.map_or(0, |uncounted| uncounted.failed.len());
        if succeeded > self.succeeded.len() {
            return Err(format!("{succeeded} successes are counted, and {} pods succeeded", self.succeeded.len()));
        }
        if succeeded + failed > self.pods.len() {
            return Err(format!("{} pods are counted, and there were {}", succeeded + failed, self.pods.len()));
        }
        if let Some(old) = old
            && (status.succeeded < old.status.succeeded || status.failed < old.status.failed)
        {
            return Err("what was counted is forgotten".to_owned());
        }
        let completions = new.spec.full.completions;
        if completions.is_some_and(|completions| {
            new.spec.full.completion_mode.as_deref() == Some("Indexed") && status.succeeded > completions
        }) {
            return Err(format!("{} indexes have succeeded, of {completions:?}", status.succeeded));
        }
        Ok(())
    }
}
