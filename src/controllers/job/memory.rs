//! What the Job controller keeps in memory, as the original does: lost with the process, and never more than a reason to wait.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Uid};
use crate::api::object::Object;

use super::back_off::BackOff;

/// The memory of all Jobs.
#[derive(Default)]
pub struct Memory {
    jobs: BTreeMap<ObjectKey, Recollection>,
    /// Jobs that bring their own selector, which may select any pod.
    selecting: BTreeSet<ObjectKey>,
    /// The newest versions of Jobs and of pods that the cache has shown.
    seen: Versions,
}

/// The memory of one Job.
#[derive(Default)]
struct Recollection {
    back_off: BackOff,
    /// Pods whose finalizer was taken away, which the cache does not show yet (`uidTrackingExpectations`).
    untracked: BTreeSet<Uid>,
    /// The incarnation whose end was written, which the cache does not show yet (`finishedJobExpectations`).
    finished: Option<Uid>,
    /// The newest versions that the controller itself has written (`ConsistencyStore`).
    written: Versions,
}

#[derive(Clone, Copy, Default)]
struct Versions {
    job: u64,
    pod: u64,
}

impl Versions {
    fn note(&mut self, object: &Object) {
        let revision = object.meta().revision();
        match object.kind() {
            Kind::Job => self.job = self.job.max(revision),
            Kind::Pod => self.pod = self.pod.max(revision),
            _ => {}
        }
    }
}

impl Memory {
    /// The cache shows this.
    pub fn see(&mut self, object: &Object) {
        self.seen.note(object);
        if let Object::Job(job) = object
            && job.spec.full.manual_selector == Some(true)
        {
            self.selecting.insert(object.key());
        }
    }

    /// Jobs whose selector may select any pod of a namespace.
    pub fn selecting<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        let from = ObjectKey::new(Kind::Job, namespace, "");
        self.selecting.range(from..).take_while(move |key| key.namespace == *namespace)
    }

    /// A Job is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.jobs.remove(key);
        self.selecting.remove(key);
    }

    /// A Job has ended and the cache shows it.
    pub fn forget_ended(&mut self, key: &ObjectKey) {
        self.jobs.remove(key);
    }

    /// The controller has written this on behalf of a Job. What vanishes with the write is not waited for.
    pub fn note_written(&mut self, key: &ObjectKey, object: &Object) {
        if !object.meta().is_deleting() {
            self.jobs.entry(key.clone()).or_default().written.note(object);
        }
    }

    /// True if the cache shows all that the controller has written on behalf of a Job
    /// (`StaleControllerConsistencyJob`, on since 1.36: until then a sync fails).
    pub fn is_up_to_date(&self, key: &ObjectKey) -> bool {
        let written = self.jobs.get(key).map(|job| job.written).unwrap_or_default();
        written.job <= self.seen.job && written.pod <= self.seen.pod
    }

    /// The failures of a Job.
    pub fn back_off(&self, key: &ObjectKey) -> BackOff {
        self.jobs.get(key).map(|job| job.back_off).unwrap_or_default()
    }

    /// Remembers the failures of a Job.
    pub fn set_back_off(&mut self, key: &ObjectKey, back_off: BackOff) {
        self.jobs.entry(key.clone()).or_default().back_off = back_off;
    }

    /// Pods whose finalizer was taken away.
    pub fn untracked(&self, key: &ObjectKey) -> BTreeSet<Uid> {
        self.jobs.get(key).map(|job| job.untracked.clone()).unwrap_or_default()
    }

    /// The finalizer of these pods is about to be taken away.
    pub fn expect_untracked(&mut self, key: &ObjectKey, pods: impl Iterator<Item = Uid>) {
        self.jobs.entry(key.clone()).or_default().untracked.extend(pods);
    }

    /// The finalizer of a pod is gone, or was not taken away.
    pub fn saw_untracked(&mut self, key: &ObjectKey, pod: Uid) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.untracked.remove(&pod);
        }
    }

    /// The end of a Job was written.
    pub fn expect_finished(&mut self, key: &ObjectKey, job: Uid) {
        self.jobs.entry(key.clone()).or_default().finished = Some(job);
    }

    /// True if the end of a Job was written.
    pub fn is_finished(&self, key: &ObjectKey, job: Uid) -> bool {
        self.jobs.get(key).is_some_and(|known| known.finished == Some(job))
    }
}
