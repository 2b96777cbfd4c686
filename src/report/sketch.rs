//! Two versions of an object without what they certainly have in common.
//!
//! Most writes change the status of an object and share the specification with the version before by reference. To say what
//! changed, such a specification need not be written out, and for a pod it is nearly all that there is to write.

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::convert::compile;
use crate::api::meta::Labels;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodPhase, PodSpec, PodTemplate};

/// Makes versions comparable at little cost.
#[derive(Debug)]
pub struct Sketcher {
    spec: Rc<PodSpec>,
    template: Rc<PodTemplate>,
}

impl Default for Sketcher {
    fn default() -> Self {
        // A specification without containers breaks no rule of the compact form.
        let spec = Rc::new(compile("spec", core::PodSpec::default()).expect("nothing is always well formed"));
        let (labels, annotations) = (Labels::default(), Labels::default());
        Sketcher { template: Rc::new(PodTemplate { labels, annotations, spec: Rc::clone(&spec), other: None }), spec }
    }
}

impl Sketcher {
    /// The two versions, both without the specification that they share; as they are if they share none.
    pub fn sketch(&self, old: &Object, new: &Object) -> (Object, Object) {
        let (mut before, mut after) = (old.clone(), new.clone());
        match (&mut before, &mut after) {
            (Object::Pod(old), Object::Pod(new))
                if Rc::ptr_eq(&old.spec, &new.spec)
                    && old.token_volume == new.token_volume
                    && old.only_node == new.only_node
                    && same_details(old, new) =>
            {
                for pod in [old, new] {
                    let pod = Rc::make_mut(pod);
                    pod.spec = Rc::clone(&self.spec);
                    (pod.token_volume, pod.only_node) = (None, None);
                }
            }
            (Object::ReplicaSet(old), Object::ReplicaSet(new)) if Rc::ptr_eq(&old.template, &new.template) => {
                for set in [old, new] {
                    Rc::make_mut(set).template = Rc::clone(&self.template);
                }
            }
            (Object::DaemonSet(old), Object::DaemonSet(new)) if Rc::ptr_eq(&old.template, &new.template) => {
                for set in [old, new] {
                    Rc::make_mut(set).template = Rc::clone(&self.template);
                }
            }
            (Object::ReplicationController(old), Object::ReplicationController(new))
                if Rc::ptr_eq(&old.template, &new.template) =>
            {
                for controller in [old, new] {
                    Rc::make_mut(controller).template = Rc::clone(&self.template);
                }
            }
            (Object::Deployment(old), Object::Deployment(new))
                if Rc::ptr_eq(&old.spec.template, &new.spec.template) =>
            {
                for deployment in [old, new] {
                    Rc::make_mut(deployment).spec.template = Rc::clone(&self.template);
                }
            }
            (Object::Job(old), Object::Job(new)) if Rc::ptr_eq(&old.spec, &new.spec) => {
                for job in [old, new] {
                    let spec = Rc::make_mut(&mut Rc::make_mut(job).spec);
                    spec.template = Rc::clone(&self.template);
                }
            }
            _ => {}
        }
        (before, after)
    }
}

/// True if what statuses tell of mounts and resources, which follows from the specification, is the same.
fn same_details(old: &Pod, new: &Pod) -> bool {
    fn told(pod: &Pod) -> impl Iterator<Item = (bool, bool)> {
        let statuses = pod.status.init_containers.iter().chain(pod.status.containers.iter());
        statuses.map(|status| (status.detailed, status.container_id.is_empty()))
    }
    old.status.reported == new.status.reported
        && (old.status.phase == PodPhase::Pending) == (new.status.phase == PodPhase::Pending)
        && told(old).eq(told(new))
}
