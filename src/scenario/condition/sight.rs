//! What conditions see, as values of CEL. A change of one object converts that object and no other one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use cel::common::types::{CelBool, CelInt, CelList};
use cel::{Context, Value};

use crate::api::kind::Kind;
use crate::api::object::Object;
use crate::cluster::news::{Twins, Write};
use crate::engine::time::SimTime;

use super::expression::{Expression, list_name};
use super::functions::{self, Answer};
use super::objects::{Objects, Place};
use super::order;
use super::sources::Sources;
use super::tally::{self, Tally};
use super::value::Subject;

/// The objects, and what else there is to see. CEL wants what functions hold to be shareable among threads, hence the lock
/// around it; it is never contended.
#[derive(Debug, Default)]
pub(super) struct Sight {
    kinds: BTreeMap<Kind, Objects>,
    /// Who leads the etcd members.
    pub leader: Option<u32>,
    /// Names, with their namespaces, of which more than one pod runs.
    pub twins: BTreeSet<String>,
    /// The values of the macros of the expression being evaluated.
    pub tallied: Vec<Answer>,
}

impl Sight {
    /// An object, by its name or by namespace and name.
    pub fn object(&self, kind: Kind, name: &str) -> Option<&Subject> {
        let (namespace, name) = match name.split_once('/') {
            Some(parts) => parts,
            None if kind.row().namespaced => ("default", name),
            None => ("", name),
        };
        self.kinds.get(&kind)?.get(&(namespace.into(), name.into()))
    }

    /// The objects of a kind that an owner manages, by namespace and name.
    pub fn managed_by(&self, uid: &str, kind: Kind) -> impl Iterator<Item = (&Place, &Subject)> {
        self.kinds.get(&kind).into_iter().flat_map(move |objects| objects.managed_by(uid))
    }
}

/// A change that no expression has looked at yet.
struct Unseen {
    revision: u64,
    object: Option<Object>,
}

/// What the conditions of a run look at, and what of it has changed.
pub(super) struct Subjects {
    watched: Sources,
    sight: Arc<RwLock<Sight>>,
    context: Context<'static, 'static>,
    unseen: BTreeMap<Kind, BTreeMap<Place, Unseen>>,
    /// Up to which change of the objects of a kind the list of them in the context is true.
    listed: BTreeMap<Kind, u64>,
    /// Counts changes; when each source changed last, by its place.
    changes: u64,
    changed: [u64; 64],
    seconds: Option<u64>,
}

impl Subjects {
    pub fn new(watched: Sources) -> Self {
        let sight = Arc::<RwLock<Sight>>::default();
        let mut context = Context::default();
        functions::add_all(&mut context, &sight);
        order::add(&mut context);
        tally::add(&mut context, &sight);
        Subjects {
            watched,
            sight,
            context,
            unseen: BTreeMap::new(),
            listed: BTreeMap::new(),
            changes: 0,
            changed: [0; 64],
            seconds: None,
        }
    }

    pub fn note_write(&mut self, write: &Write) {
        let kind = write.key.kind;
        if !self.watched.contains(Sources::objects(kind)) {
            return;
        }
        let place = (write.key.namespace.clone(), write.key.name.clone());
        let unseen = self.unseen.entry(kind).or_default();
        // Several API servers may learn of writes in different orders.
        if unseen.get(&place).is_some_and(|known| known.revision > write.revision) {
            return;
        }
        unseen.insert(place, Unseen { revision: write.revision, object: write.new.clone() });
        self.touch(Sources::objects(kind));
    }

    pub fn note_leader(&mut self, member: Option<u32>) {
        write(&self.sight).leader = member;
        self.touch(Sources::LEADER);
    }

    pub fn note_twins(&mut self, twins: &Twins) {
        let name = format!("{}/{}", twins.key.namespace, twins.key.name);
        {
            let known = &mut write(&self.sight).twins;
            if twins.alive.len() > 1 {
                known.insert(name)
            } else {
                known.remove(&name)
            };
        }
        self.touch(Sources::TWINS);
    }

    pub fn note_time(&mut self, now: SimTime) {
        let seconds = now.as_millis() / 1000;
        if self.watched.contains(Sources::TIME) && self.seconds != Some(seconds) {
            self.seconds = Some(seconds);
            let seconds = CelInt::from(i64::try_from(seconds).unwrap_or(i64::MAX));
            self.context.add_variable_as_val("now", Box::new(seconds));
            self.touch(Sources::TIME);
        }
    }

    fn touch(&mut self, source: Sources) {
        self.changes += 1;
        source.places().for_each(|place| self.changed[place] = self.changes);
    }

    /// The number of the last change of any of these.
    pub fn newest(&self, sources: Sources) -> u64 {
        sources.places().map(|place| self.changed[place]).max().unwrap_or(0)
    }

    /// The value of an expression, which must be a truth. What its macros came to is kept in its tallies.
    pub fn evaluate(&mut self, expression: &Expression, tallies: &mut [Tally]) -> Result<bool, String> {
        expression.sources().kinds().for_each(|kind| self.look_at(kind));
        let prepared = expression.prepared();
        prepared.lists.iter().for_each(|kind| self.list(*kind));
        let tallied = {
            let sight = read(&self.sight);
            let none = Objects::default();
            let asked = prepared.macros.iter().zip(tallies);
            let value = |(of, tally): (&tally::Macro, &mut Tally)| {
                tally.value(of, sight.kinds.get(&of.kind()).unwrap_or(&none), &self.context)
            };
            asked.map(value).collect()
        };
        write(&self.sight).tallied = tallied;
        match Value::resolve_val(&prepared.expression, &self.context) {
            Ok(value) => match value.downcast_ref::<CelBool>() {
                Some(holds) => Ok(*holds.inner()),
                None => Err(format!("the condition is neither true nor false but of type {}", value.get_type().name())),
            },
            Err(error) => Err(shortened(&error.to_string())),
        }
    }

    /// Puts the list of all objects of a kind into the context, unless it is there.
    fn list(&mut self, kind: Kind) {
        let sight = read(&self.sight);
        let objects = sight.kinds.get(&kind);
        let newest = objects.map_or(0, Objects::newest);
        if self.listed.insert(kind, newest) != Some(newest) {
            let list: Vec<_> = objects.into_iter().flat_map(Objects::all).map(|(_, subject)| subject.boxed()).collect();
            self.context.add_variable_as_val(list_name(kind), Box::new(CelList::from(list)));
        }
    }

    /// Converts the objects of a kind that have changed.
    fn look_at(&mut self, kind: Kind) {
        let Some(unseen) = self.unseen.get_mut(&kind).filter(|unseen| !unseen.is_empty()) else { return };
        let mut sight = write(&self.sight);
        let seen = sight.kinds.entry(kind).or_default();
        for (place, change) in std::mem::take(unseen) {
            seen.put(place, change.object.as_ref().map(Subject::of));
        }
    }
}

/// CEL's errors may hold whole objects.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

fn write(sight: &RwLock<Sight>) -> std::sync::RwLockWriteGuard<'_, Sight> {
    sight.write().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn read(sight: &RwLock<Sight>) -> std::sync::RwLockReadGuard<'_, Sight> {
    sight.read().unwrap_or_else(PoisonError::into_inner)
}
