//! What admission makes of new pods in a cluster that does not run, as far as scheduling reads it: their priority, the
//! tolerations that every pod has, and the label keys of its affinity.

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::label_keys;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::apiserver::bootstrap;
use crate::apiserver::cache::WatchCache;
use crate::apiserver::status::Status;
use crate::engine::time::SimTime;

use super::default_tolerations::DefaultTolerationSeconds;
use super::priority::Priority;
use super::{Facts, Plugin, Refusal};

/// The priority classes of a cluster that does not run.
pub struct PodFacts {
    caches: Vec<WatchCache>,
}

impl PodFacts {
    /// These classes, and those that every cluster has.
    pub fn new(classes: impl IntoIterator<Item = Object>) -> Self {
        let mut caches: Vec<WatchCache> = Kind::all().map(|kind| WatchCache::new(kind, None)).collect();
        for class in bootstrap::objects().chain(classes).filter(|object| object.kind() == Kind::PriorityClass) {
            caches[Kind::PriorityClass as usize].fill(class);
        }
        PodFacts { caches }
    }

    /// Admits a new pod, or says in the API server's words why not.
    pub fn admit(&self, pod: &mut Rc<Pod>) -> Result<(), Box<Status>> {
        let facts = Facts::new(&self.caches, &[], SimTime::ZERO);
        let mut spec = PodSpec::clone(&pod.spec);
        let plugins: [&dyn Plugin; 2] = [&Priority, &DefaultTolerationSeconds];
        for plugin in plugins {
            match plugin.admit_spec(pod, facts, &mut spec) {
                Err(Refusal::Status(status)) => return Err(status),
                // Nobody can be asked for more than there is.
                Ok(()) | Err(Refusal::LookUp { .. }) => {}
            }
        }
        let pod = Rc::make_mut(pod);
        pod.spec = label_keys::merge(&Rc::new(spec), &pod.meta.labels);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(class: &str) -> Rc<Pod> {
        let value = json!({"metadata": {"name": "p"}, "spec": {"priorityClassName": class}});
        let Ok(Object::Pod(pod)) = Object::from_json(Kind::Pod, value) else { panic!("a pod") };
        pod
    }

    #[test]
    fn the_classes_of_every_cluster_are_known_and_others_are_not() {
        let facts = PodFacts::new([]);
        let mut critical = pod("system-node-critical");
        facts.admit(&mut critical).unwrap();
        assert_eq!(critical.spec.priority, 2_000_001_000);
        assert_eq!(critical.spec.full.tolerations.as_ref().map(Vec::len), Some(2));
        let refused = facts.admit(&mut pod("nope")).unwrap_err();
        assert_eq!(refused.message, "pods \"p\" is forbidden: no PriorityClass with name nope was found");
    }
}
