//! What objects have in common, kept once: pods of one template, the events of one namespace, and those about one object; and the
//! conditions of pods that came equally far in the same seconds, or at least what these say. What follows from the rest of an object is not kept
//! at all.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use crate::api::event::{Event, Involved};
use crate::api::meta::Common;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodCondition, Why};
use crate::api::shared::Shared;
use crate::engine::hash::FixedHasher;

/// So many are remembered; each has one place that it can be found in.
const PLACES: usize = 256;

/// So many objects that events were about are remembered: what scheduler and kubelet say of a pod is seconds apart, and hundreds of
/// pods may begin meanwhile.
const INVOLVED: usize = 4 * PLACES;

/// What objects that were written of late had in common.
pub struct Commons {
    places: Vec<Option<Rc<Common>>>,
    conditions: Vec<Shared<PodCondition>>,
    whys: Vec<Why>,
    involved: Vec<Option<Rc<Involved>>>,
}

impl Default for Commons {
    fn default() -> Self {
        Commons {
            places: vec![None; PLACES],
            conditions: vec![Shared::NONE; PLACES],
            whys: vec![Why::NONE; PLACES],
            involved: vec![None; INVOLVED],
        }
    }
}

impl Commons {
    /// Lets an object that is about to be written share what it has in common with one before. `old` is the version that it
    /// replaces, if it does.
    pub fn share(&mut self, object: &mut Object, old: Option<&Object>) {
        if !old.is_some_and(|old| Rc::ptr_eq(&old.meta().common, &object.meta().common)) {
            let common = &object.meta().common;
            let known = &mut self.places[place_of(common)];
            match known {
                Some(known) if Rc::ptr_eq(known, common) => {}
                Some(known) if known == common => object.meta_mut().common = Rc::clone(known),
                _ => *known = Some(Rc::clone(common)),
            }
        }
        match (object, old) {
            (Object::Event(event), _) => self.share_event(Rc::make_mut(event)),
            (Object::Pod(new), Some(Object::Pod(old))) if new.status.conditions.same(&old.status.conditions) => {}
            (Object::Pod(pod), _) if !pod.status.conditions.is_empty() => self.share_conditions(pod),
            _ => {}
        }
    }

    fn share_event(&mut self, event: &mut Event) {
        event.settle();
        let known = &mut self.involved[event.involved.uid.0 as usize % INVOLVED];
        match known {
            Some(known) if *known == event.involved => event.involved = Rc::clone(known),
            _ => *known = Some(Rc::clone(&event.involved)),
        }
    }

    fn share_conditions(&mut self, pod: &mut Rc<Pod>) {
        let conditions = &pod.status.conditions;
        let known = &mut self.conditions[place_of_conditions(conditions)];
        if known.same(conditions) {
            return;
        }
        if *known == *conditions {
            Rc::make_mut(pod).status.conditions = known.clone();
            return;
        }
        if conditions.iter().any(|condition| condition.why != Why::NONE) {
            for condition in Rc::make_mut(pod).status.conditions.iter_mut() {
                share_why(&mut self.whys, &mut condition.why);
            }
        }
        *known = pod.status.conditions.clone();
    }
}

fn share_why(whys: &mut [Why], why: &mut Why) {
    let mut hasher = FixedHasher::default();
    why.hash(&mut hasher);
    let known = &mut whys[(hasher.finish() >> 32) as usize % PLACES];
    if *known == *why { why.clone_from(known) } else { known.clone_from(why) }
}

fn place_of(common: &Common) -> usize {
    let mut hasher = FixedHasher::default();
    common.namespace.hash(&mut hasher);
    common.generate_name.hash(&mut hasher);
    hasher.write_i64(common.generation);
    hasher.write_i64(common.deletion.as_ref().map_or(0, |deletion| deletion.timestamp.0));
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
    use std::borrow::Cow;

    use k8s_openapi::api::core::v1 as core;
    use serde_json::json;

    use super::*;
    use crate::api::kind::Kind;
    use crate::api::meta::Labels;
    use crate::api::plain::ConfigMap;
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
        objects.iter_mut().for_each(|object| commons.share(object, None));
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
        let before = pod("a", "2026-01-01T00:00:00Z");
        pods.iter_mut().for_each(|pod| {
            pod.meta_mut().common = before.meta().common.clone();
            commons.share(pod, Some(&before));
        });
        let say = |pods: &[Object]| pods.iter().map(Object::to_json).collect::<Vec<_>>();
        assert_eq!(say(&pods), say(&told), "what a pod says stays the same");
        let conditions = pods.each_ref().map(|pod| &pod.get::<Pod>().expect("a pod").status.conditions);
        let same = |left: usize, right: usize| conditions[left].same(conditions[right]);
        assert_eq!([same(0, 1), same(0, 2), same(0, 3)], [true, false, true]);
    }

    #[test]
    fn events_about_one_object_share_it_and_say_only_what_their_creation_does_not() {
        let (second, next) = ("2026-01-01T00:00:07Z", "2026-01-01T00:00:08Z");
        let event = |name: &str, pod: &str, at: &str| {
            let uid = format!("00000000-0000-4000-8000-0000000000{pod}");
            let manifest = json!({
                "metadata": {"name": name, "namespace": "default", "creationTimestamp": next},
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": pod, "uid": uid},
                "count": 1, "firstTimestamp": at, "lastTimestamp": at,
            });
            Object::from_json(Kind::Event, manifest).expect("a valid manifest")
        };
        let mut events = [event("a", "01", next), event("b", "01", second), event("c", "02", next)];
        let told = events.clone();
        let mut commons = Commons::default();
        events.iter_mut().for_each(|event| commons.share(event, None));
        let say = |events: &[Object]| events.iter().map(Object::to_json).collect::<Vec<_>>();
        assert_eq!(say(&events), say(&told), "what an event says stays the same");
        let events = events.each_ref().map(|event| event.get::<Event>().expect("an event"));
        let same = |left: usize, right: usize| Rc::ptr_eq(&events[left].involved, &events[right].involved);
        assert_eq!([same(0, 1), same(0, 2)], [true, false]);
        assert_eq!(events.map(|event| matches!(event.occurrence(), Cow::Owned(_))), [true, false, true]);
    }
}
