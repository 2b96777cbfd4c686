//! The objects of one kind as conditions see them, and which of them have changed since somebody last looked.

use std::collections::BTreeMap;

use crate::api::name::Name;

use super::value::{Subject, controller};

/// Where an object lies: its namespace and its name.
pub(super) type Place = (Name, Name);

/// So many objects that are gone may be remembered besides as many as there are.
const FEW: usize = 1024;

/// The objects of one kind, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Objects {
    live: BTreeMap<Place, (Subject, u64)>,
    gone: BTreeMap<Place, u64>,
    /// The last change of each object that is there or is remembered, by its number.
    changes: BTreeMap<u64, Place>,
    newest: u64,
    /// What went up to this change is no longer remembered.
    forgotten: u64,
    /// By the uid of the owner that manages them.
    managed: BTreeMap<String, BTreeMap<Place, Subject>>,
}

impl Objects {
    /// Takes in an object's new version, or that it is gone.
    pub fn put(&mut self, place: Place, object: Option<Subject>) {
        self.newest += 1;
        let before = self.live.remove(&place);
        let changed = before.as_ref().map(|(_, change)| *change).or_else(|| self.gone.remove(&place));
        if let Some(change) = changed {
            self.changes.remove(&change);
        }
        self.changes.insert(self.newest, place.clone());
        self.follow_owner(&place, before.as_ref().map(|(subject, _)| subject), object.as_ref());
        match object {
            Some(subject) => {
                self.live.insert(place, (subject, self.newest));
            }
            None => {
                self.gone.insert(place, self.newest);
                self.forget();
            }
        }
    }

    fn follow_owner(&mut self, place: &Place, before: Option<&Subject>, now: Option<&Subject>) {
        let [old, new] = [before, now].map(|version| version.map_or("", |subject| controller(subject)));
        if old != new
            && let Some(managed) = self.managed.get_mut(old)
        {
            managed.remove(place);
            if managed.is_empty() {
                self.managed.remove(old);
            }
        }
        if let Some(subject) = now.filter(|_| !new.is_empty()) {
            self.managed.entry(new.to_owned()).or_default().insert(place.clone(), subject.clone());
        }
    }

    /// Forgets what is gone, if that is most of what is remembered. Who has not seen it must look at everything again.
    fn forget(&mut self) {
        if self.gone.len() > self.live.len() + FEW {
            for change in std::mem::take(&mut self.gone).into_values() {
                self.changes.remove(&change);
            }
            self.forgotten = self.newest;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// One of them.
    pub fn get(&self, place: &Place) -> Option<&Subject> {
        self.live.get(place).map(|(subject, _)| subject)
    }

    /// All of them, by namespace and name.
    pub fn all(&self) -> impl Iterator<Item = (&Place, &Subject)> {
        self.live.iter().map(|(place, (subject, _))| (place, subject))
    }

    /// Those that an owner manages, by namespace and name.
    pub fn managed_by(&self, uid: &str) -> impl Iterator<Item = (&Place, &Subject)> {
        self.managed.get(uid).into_iter().flatten()
    }

    /// The number of the last change.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// What has changed since a change: where, and what is there now. None if that is no longer known.
    pub fn since(&self, change: u64) -> Option<impl Iterator<Item = (&Place, Option<&Subject>)>> {
        let later = self.changes.range(change + 1..);
        (change >= self.forgotten).then(|| later.map(|(_, place)| (place, self.get(place))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use crate::api::kind::Kind;
    use crate::api::object::Object;

    use super::*;

    fn subject(owner: u8) -> Subject {
        let uid = format!("0d90d7f3-9bd1-4a0c-8f72-e37fd6cf04{owner:02}");
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true});
        let json = json!({"metadata": {"name": "a", "namespace": "default", "ownerReferences": [owner]}});
        Subject::of(&Object::from_json(Kind::ConfigMap, json).unwrap())
    }

    fn copy(objects: &Objects) -> BTreeMap<Place, String> {
        objects.all().map(|(place, subject)| (place.clone(), controller(subject).to_owned())).collect()
    }

    proptest! {
        /// Somebody who looks now and then has the same picture as somebody who looks at everything.
        #[test]
        fn what_has_changed_since_is_all_that_differs(
            changes in prop::collection::vec((0..40_u16, prop::option::of(0..3_usize), any::<bool>()), 0..64),
            ended in 0..1500_u16,
        ) {
            let (mut objects, mut seen, mut at) = (Objects::default(), BTreeMap::new(), 0);
            let subjects = [0, 1, 2].map(subject);
            // Many others come and go meanwhile.
            let others = (0..ended).map(|other| (100 + other, Some(0), other == 0));
            let gone = (0..ended).map(|other| (100 + other, None, false));
            let half = changes.len() / 2;
            let changes = changes[..half].iter().copied().chain(others).chain(gone).chain(changes[half..].iter().copied());
            for (name, owner, look) in changes {
                let place = (Name::of("default"), Name::new(&name.to_string()));
                objects.put(place, owner.map(|owner| subjects[owner].clone()));
                if look {
                    match objects.since(at) {
                        Some(changed) => for (place, subject) in changed {
                            match subject {
                                Some(subject) => seen.insert(place.clone(), controller(subject).to_owned()),
                                None => seen.remove(place),
                            };
                        }
                        None => seen = copy(&objects),
                    }
                    at = objects.newest();
                    prop_assert_eq!(&seen, &copy(&objects));
                }
            }
            prop_assert!(objects.gone.len() <= objects.len() + FEW);
            let managed: usize = objects.managed.keys().map(|uid| objects.managed_by(uid).count()).sum();
            prop_assert_eq!(managed, objects.len());
        }
    }
}
