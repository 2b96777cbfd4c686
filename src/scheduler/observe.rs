//! What the informers show becomes the scheduler's picture of the cluster, and wakes pods (kube-scheduler, `eventhandlers.go`).

use std::rc::Rc;

use super::cluster::Cluster;
use super::event::{ClusterEvent, node_changes, pod_changes, storage_added, storage_deleted, storage_updated};
use super::preemption::ongoing::Ongoing;
use super::profile::Profiles;
use super::queue::{Judges, Place, Queue};
use crate::api::meta::Uid;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::client::controller::Change;
use crate::engine::process::Cause;
use crate::engine::time::SimTime;

/// The parts of a scheduler that change with what it sees.
pub(super) struct Observer<'a> {
    pub(super) profiles: &'a Profiles,
    pub(super) cluster: &'a mut Cluster,
    pub(super) queue: &'a mut Queue,
    pub(super) preempting: Ongoing,
    /// Pods that are being deleted while they wait for a permit.
    pub(super) unwanted: &'a mut Vec<Uid>,
    pub(super) now: SimTime,
    pub(super) cause: Cause,
}

impl Observer<'_> {
    /// Takes a change in. Pods that have ended are as good as gone, although the informer should not show them.
    pub(super) fn observe(&mut self, change: Change<'_>) {
        match change {
            Change::Added(object) => self.added(object),
            Change::Updated { old, new } => match (old, new) {
                (Object::Pod(before), Object::Pod(pod)) => match (before.is_terminal(), pod.is_terminal()) {
                    (false, false) => self.pod_updated(old, before, new, pod),
                    (true, false) => self.added(new),
                    (false, true) => self.pod_deleted(old, before),
                    (true, true) => {}
                },
                (Object::Node(before), Object::Node(node)) => self.node_updated(old, before, new, node),
                _ => {
                    self.cluster.set_object(new);
                    if let Some(event) = storage_updated(new) {
                        self.wake(event, Some(old), Some(new));
                    }
                }
            },
            Change::Deleted(old) => match old {
                Object::Pod(pod) if !pod.is_terminal() => self.pod_deleted(old, pod),
                Object::Node(node) => {
                    self.wake(ClusterEvent::NodeDelete, Some(old), None);
                    self.cluster.remove_node(&node.meta.name);
                }
                Object::Pod(_) => {}
                _ => {
                    self.cluster.remove_object(old);
                    if let Some(event) = storage_deleted(old) {
                        self.wake(event, Some(old), None);
                    }
                }
            },
        }
    }

    fn added(&mut self, object: &Object) {
        match object {
            Object::Pod(pod) if pod.is_terminal() => {}
            Object::Pod(pod) if pod.node.is_some() => self.pod_on_node(object, pod),
            Object::Pod(pod) if self.is_responsible(pod) => {
                self.queue.add(pod.clone(), self.now, self.cause, self.profiles);
                self.nominate_active(pod);
            }
            Object::Node(node) => {
                self.cluster.set_node(node.clone());
                self.wake(ClusterEvent::NodeAdd, None, Some(object));
            }
            Object::Pod(_) => {}
            _ => {
                self.cluster.set_object(object);
                if let Some(event) = storage_added(object) {
                    self.wake(event, None, Some(object));
                }
            }
        }
    }

    fn pod_on_node(&mut self, object: &Object, pod: &Rc<Pod>) {
        if let Some(node) = &pod.node {
            self.cluster.see_pod(pod, node);
        }
        self.wake(ClusterEvent::AssignedPodAdd, None, Some(object));
    }

    fn pod_updated(&mut self, old: &Object, before: &Rc<Pod>, new: &Object, pod: &Rc<Pod>) {
        if pod.meta.is_deleting() {
            self.preempting.pod_goes(pod.meta.uid);
        }
        if before.node.is_some() {
            if let Some(node) = &pod.node {
                self.cluster.see_pod(pod, node);
            }
            for event in pod_changes(before, pod) {
                self.wake(event, Some(old), Some(new));
            }
        } else if pod.node.is_some() {
            self.pod_on_node(new, pod);
            self.queue.delete(pod.meta.uid);
            self.cluster.withdraw(pod.meta.uid);
        } else if self.is_responsible(before) {
            self.pending_pod_updated(old, before, pod);
        }
    }

    fn pending_pod_updated(&mut self, old: &Object, before: &Rc<Pod>, pod: &Rc<Pod>) {
        if self.cluster.is_assumed(pod.meta.uid) {
            if pod.meta.is_deleting() && !before.meta.is_deleting() {
                self.assumed_pod_deleted(pod);
            }
            return;
        }
        let events = pod_changes(before, pod);
        let (is_known, is_in_flight) = (self.queue.knows(pod.meta.uid), self.queue.is_in_flight(pod.meta.uid));
        let judges = Judges { profiles: self.profiles, cluster: self.cluster };
        self.queue.update(old, pod, &events, self.now, self.cause, judges);
        match (is_known, is_in_flight) {
            (_, true) => {}
            (true, false) => self.update_nomination(before, pod),
            (false, false) => self.nominate_active(pod),
        }
        let nominated = &before.status.nominated_node;
        if nominated.is_some() && *nominated != pod.status.nominated_node {
            self.room_was_kept(old, before);
        }
    }

    /// A pod that comes into the active queue is nominated as its status says.
    fn nominate_active(&mut self, pod: &Rc<Pod>) {
        if let Some(node) = &pod.status.nominated_node
            && self.queue.place_of(pod.meta.uid) == Some(Place::Active)
        {
            self.cluster.nominate(pod, node);
        }
    }

    /// Takes in what a waiting pod's status says of its nomination. If it says nothing and said nothing before, it does not know
    /// yet what was decided (kube-scheduler, `UpdateNominatedPod`).
    fn update_nomination(&mut self, before: &Rc<Pod>, pod: &Rc<Pod>) {
        let (old, new) = (&before.status.nominated_node, &pod.status.nominated_node);
        let kept = if old.is_none() { self.cluster.nomination_of(pod.meta.uid).cloned() } else { None };
        match new.as_deref().cloned().or(kept) {
            Some(node) => self.cluster.nominate(pod, &node),
            None => self.cluster.withdraw(pod.meta.uid),
        }
    }

    fn pod_deleted(&mut self, old: &Object, pod: &Rc<Pod>) {
        self.preempting.pod_goes(pod.meta.uid);
        if pod.node.is_some() {
            self.cluster.remove_pod(pod.meta.uid);
            self.wake(ClusterEvent::AssignedPodDelete, Some(old), None);
        } else if self.is_responsible(pod) {
            self.queue.delete(pod.meta.uid);
            self.cluster.withdraw(pod.meta.uid);
            if self.cluster.is_assumed(pod.meta.uid) {
                self.assumed_pod_deleted(pod);
            } else if pod.status.nominated_node.is_some() {
                self.room_was_kept(old, pod);
            }
        }
    }

    /// The room of a pod that is being bound and deleted is free at once, and it waits for no permit any more
    /// (kube-scheduler, `handleAssumedPodDeletion`).
    fn assumed_pod_deleted(&mut self, pod: &Rc<Pod>) {
        self.unwanted.push(pod.meta.uid);
        let node = self.cluster.node_of(pod.meta.uid);
        self.cluster.forget(pod.meta.uid);
        let assumed = Object::Pod(Rc::new(Pod { node, ..Pod::clone(pod) }));
        self.wake(ClusterEvent::AssignedPodDelete, Some(&assumed), None);
    }

    fn node_updated(&mut self, old: &Object, before: &Rc<Node>, new: &Object, node: &Rc<Node>) {
        self.cluster.set_node(node.clone());
        for event in node_changes(before, node) {
            self.wake(event, Some(old), Some(new));
        }
    }

    fn wake(&mut self, event: ClusterEvent, old: Option<&Object>, new: Option<&Object>) {
        let judges = Judges { profiles: self.profiles, cluster: self.cluster };
        self.queue.move_all(event, old, new, &|_| true, self.now, judges);
    }

    /// The room that was kept for a nominated pod is free for pods that had to leave it: those of no higher priority
    /// (kube-scheduler, `getLEPriorityPreCheck`).
    fn room_was_kept(&mut self, old: &Object, pod: &Pod) {
        let yields = |other: &Pod| other.spec.priority <= pod.spec.priority;
        let judges = Judges { profiles: self.profiles, cluster: self.cluster };
        self.queue.move_all(ClusterEvent::AssignedPodDelete, Some(old), None, &yields, self.now, judges);
    }

    fn is_responsible(&self, pod: &Pod) -> bool {
        self.profiles.place_for(pod).is_some()
    }
}
