//! What objects have in common, kept once: pods of one template, and the events of one namespace.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use crate::api::meta::Common;
use crate::api::object::Object;
use crate::engine::hash::FixedHasher;

/// So many are remembered; each has one place that it can be found in.
const PLACES: usize = 256;

/// What objects that were written of late had in common.
#[derive(Default)]
pub struct Commons {
    places: Vec<Option<Rc<Common>>>,
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1 as core;

    use super::*;
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
        objects.iter_mut().for_each(|object| commons.share(object));
        let same = |left: usize, right: usize| Rc::ptr_eq(&objects[left].meta().common, &objects[right].meta().common);
        assert_eq!([same(0, 1), same(0, 2), same(0, 3)], [true, false, true]);
        assert_eq!(objects[2].meta().labels, Labels::NONE.with("app", "db"));
    }
}
