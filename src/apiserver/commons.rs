//! What objects have in common, kept once: pods of one template, and the events of one namespace; and the conditions of pods
//! that came equally far in the same seconds.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use crate::api::meta::Common;
use crate::api::object::Object;
use crate::api::pod::PodCondition;
use crate::api::shared::Shared;
use crate::engine::hash::FixedHasher;

/// So many are remembered; each has one place that it can be found in.
const PLACES: usize = 256;

/// What objects that were written of late had in common.
#[derive(Default)]
pub struct Commons {
    places: Vec<Option<Rc<Common>>>,
    conditions: Vec<Shared<PodCondition>>,
}

impl Commons {
    /// Lets an object that is about to be written share what it has in common with one before.
    pub fn share(&mut self, object: &mut Object) {
        let common = &object.meta().common;
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        let known = &mut self.places[place_of(common)];
        match known {
            Some(known) if Rc::ptr_eq(known, common) => {}
            Some(known) if known == common => object.meta_mut().common = Rc::clone(known),
            _ => *known = Some(Rc::clone(common)),
        }
        if let Object::Pod(pod) = object
            && !pod.status.conditions.is_empty()
        {
            if self.conditions.is_empty() {
                self.conditions.resize(PLACES, Shared::NONE);
            }
            let known = &mut self.conditions[place_of_conditions(&pod.status.conditions)];
            if *known != pod.status.conditions {
                *known = pod.status.conditions.clone();
            } else if !known.same(&pod.status.conditions) {
                Rc::make_mut(pod).status.conditions = known.clone();
            }
        }
    }
}

fn place_of(common: &Common) -> usize {
    let mut hasher = FixedHasher::default();
    common.namespace.hash(&mut hasher);
    common.generate_name.hash(&mut hasher);
    common.owners.iter().for_each(|owner| owner.uid.hash(&mut hasher));
    common.labels.pairs().iter().for_each(|(_, value)| value.hash(&mut hasher));
    (hasher.finish() >> 32) as usize % PLACES
}

fn place_of_conditions(conditions: &[PodCondition]) -> usize {
    let mut hasher = FixedHasher::default();
    for condition in conditions {
        hasher.write_i64(condition.last_transition.0);
        hasher.write_u8(condition.status as u8);
    }
    (hasher.finish() >> 32) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1 as core;
    use serde_json::json;

    use super::*;
    use crate::api::kind::Kind;
    use crate::api::meta::Labels;
    use crate::api::plain::ConfigMap;
    use crate::api::pod::Pod;
    use crate::apiserver::protocol::new_meta;

    fn object(name: &str, app: &str) -> Object {
        let mut meta = new_meta("default", name);
        meta.labels = Labels::NONE.with("app", app);
        Object::ConfigMap(Rc::new(ConfigMap { meta, content: Rc::new(core::ConfigMap::default()) }))
    }

    #[test]
    fn objects_that_have_the_same_in_common_share_it_and_no_others() {
        let mut commons = Commons::default();
        let mut objects = [("a", "web"), ("b", "web"), ("c", "db"), ("d", "web")].map(|(name, app)| object(name, app));
        objects.iter_mut().for_each(|object| commons.share(object));
        let same = |left: usize, right: usize| Rc::ptr_eq(&objects[left].meta().common, &objects[right].meta().common);
        assert_eq!([same(0, 1), same(0, 2), same(0, 3)], [true, false, true]);
        assert_eq!(objects[2].meta().labels, Labels::NONE.with("app", "db"));
    }

    #[test]
    fn pods_that_came_equally_far_in_the_same_second_share_their_conditions_and_no_others() {
        let pod = |name: &str, ready_at: &str| {
            let condition = |kind: &str, at: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
            let manifest = json!({
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"containers": [{"name": "c", "image": "c:v1"}]},
                "status": {"conditions": [condition("PodScheduled", "2026-01-01T00:00:00Z"), condition("Ready", ready_at)]},
            });
            Object::from_json(Kind::Pod, manifest).expect("a valid manifest")
        };
        let (second, next) = ("2026-01-01T00:00:07Z", "2026-01-01T00:00:08Z");
        let mut pods = [pod("a", second), pod("b", second), pod("c", next), pod("d", second)];
        let told = pods.clone();
        let mut commons = Commons::default();
        pods.iter_mut().for_each(|pod| commons.share(pod));
        let say = |pods: &[Object]| pods.iter().map(Object::to_json).collect::<Vec<_>>();
        assert_eq!(say(&pods), say(&told), "what a pod says stays the same");
        let conditions = pods.each_ref().map(|pod| &pod.get::<Pod>().expect("a pod").status.conditions);
        let same = |left: usize, right: usize| conditions[left].same(conditions[right]);
        assert_eq!([same(0, 1), same(0, 2), same(0, 3)], [true, false, true]);
    }
}
