//! Who preempts others and waits until they have been told to go: such a pod is kept out of the queue, lest it preempt again
//! (kube-scheduler, `Executor.preempting` and `lastVictimsPendingPreemption`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::meta::Uid;

/// The preemptors whose victims are being told to go. All copies are one.
#[derive(Clone, Debug, Default)]
pub struct Ongoing(Rc<RefCell<BTreeMap<Uid, Stage>>>);

/// How far a preemption has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The last victim is not yet told to go.
    Others,
    /// Only the last victim is still to go.
    Last(Uid),
    /// The last victim goes; that the request was answered is not yet known.
    LastGoes,
}

impl Ongoing {
    /// A preemption begins.
    pub fn begin(&self, preemptor: Uid) {
        self.0.borrow_mut().insert(preemptor, Stage::Others);
    }

    /// Only one victim is still to be told.
    pub fn only_last(&self, preemptor: Uid, victim: Uid) {
        self.0.borrow_mut().insert(preemptor, Stage::Last(victim));
    }

    /// It is seen that a pod is gone or goes.
    pub fn pod_goes(&self, pod: Uid) {
        let mut preemptors = self.0.borrow_mut();
        let last = preemptors.values_mut().filter(|stage| **stage == Stage::Last(pod));
        last.for_each(|stage| *stage = Stage::LastGoes);
    }

    /// A preemption has ended.
    pub fn end(&self, preemptor: Uid) {
        self.0.borrow_mut().remove(&preemptor);
    }

    /// True while a pod's victims are being told to go.
    pub fn is_preempting(&self, pod: Uid) -> bool {
        self.0.borrow().get(&pod).is_some_and(|stage| *stage != Stage::LastGoes)
    }

    /// True if nobody preempts.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}
