//! What conditions see, as values of CEL. A change of one object converts that object and no other one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use cel::objects::{Key, Map};
use cel::{Context, Value};
use serde_json::Value as Json;

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::cluster::news::{Twins, Write};
use crate::engine::time::SimTime;

use super::expression::{Expression, list_name};
use super::functions;
use super::order;

/// A set of what an expression may look at: objects of kinds, whole lists of them, who leads etcd, the time.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sources {
    objects: u64,
    lists: u64,
}

const TWINS_BIT: u32 = 61;
const LEADER_BIT: u32 = 62;
const TIME_BIT: u32 = 63;

impl Sources {
    /// Nothing.
    pub const NONE: Sources = Sources { objects: 0, lists: 0 };
    /// The time.
    pub const TIME: Sources = Sources { objects: 1 << TIME_BIT, lists: 0 };
    /// Who leads etcd.
    pub const LEADER: Sources = Sources { objects: 1 << LEADER_BIT, lists: 0 };

    /// Which names more than one pod runs under.
    pub const TWINS: Sources = Sources { objects: 1 << TWINS_BIT, lists: 0 };

    /// Single objects of a kind.
    pub const fn objects(kind: Kind) -> Sources {
        Sources { objects: 1 << kind as u64, lists: 0 }
    }

    /// The list of all objects of a kind.
    pub const fn list(kind: Kind) -> Sources {
        Sources { objects: 1 << kind as u64, lists: 1 << kind as u64 }
    }

    /// These and those.
    pub const fn and(self, other: Sources) -> Sources {
        Sources { objects: self.objects | other.objects, lists: self.lists | other.lists }
    }

    /// Whether all of those are among these.
    pub const fn contains(self, other: Sources) -> bool {
        self.objects & other.objects == other.objects && self.lists & other.lists == other.lists
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = Kind::all().filter(|kind| self.contains(Sources::objects(*kind))).map(|kind| kind.row().name);
        let leader = self.contains(Sources::LEADER).then_some("leader");
        let time = self.contains(Sources::TIME).then_some("time");
        let twins = self.contains(Sources::TWINS).then_some("twins");
        f.debug_set().entries(kinds.chain(twins).chain(leader).chain(time)).finish()
    }
}

/// Objects as values, by namespace and name. CEL wants what functions hold to be shareable among threads, hence the lock
/// around it; it is never contended.
#[derive(Debug, Default)]
pub(super) struct Sight {
    kinds: BTreeMap<Kind, BTreeMap<(String, String), Value>>,
    /// Who leads the etcd members.
    pub leader: Option<u32>,
    /// Names, with their namespaces, of which more than one pod runs.
    pub twins: BTreeSet<String>,
}

impl Sight {
    /// An object, by its name or by namespace and name.
    pub fn object(&self, kind: Kind, name: &str) -> Option<&Value> {
        let (namespace, name) = match name.split_once('/') {
            Some(parts) => parts,
            None if kind.row().namespaced => ("default", name),
            None => ("", name),
        };
        self.kinds.get(&kind)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All objects of a kind, by namespace and name.
    pub fn objects(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.kinds.get(&kind).into_iter().flat_map(BTreeMap::values)
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
    unseen: BTreeMap<Kind, BTreeMap<(Name, Name), Unseen>>,
    /// Kinds whose lists in the context are no longer true.
    stale_lists: BTreeSet<Kind>,
    /// Counts changes; when each source changed last, by its bit.
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
        Subjects {
            watched,
            sight,
            context,
            unseen: BTreeMap::new(),
            stale_lists: Kind::all().collect(),
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
        self.stale_lists.insert(kind);
        self.touch(kind as u32);
    }

    pub fn note_leader(&mut self, member: Option<u32>) {
        write(&self.sight).leader = member;
        self.touch(LEADER_BIT);
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
        self.touch(TWINS_BIT);
    }

    pub fn note_time(&mut self, now: SimTime) {
        let seconds = now.as_millis() / 1000;
        if self.watched.contains(Sources::TIME) && self.seconds != Some(seconds) {
            self.seconds = Some(seconds);
            self.context.add_variable_from_value("now", i64::try_from(seconds).unwrap_or(i64::MAX));
            self.touch(TIME_BIT);
        }
    }

    fn touch(&mut self, bit: u32) {
        self.changes += 1;
        self.changed[bit as usize] = self.changes;
    }

    /// The number of the last change of any of these.
    pub fn newest(&self, sources: Sources) -> u64 {
        let bits = (0..64).filter(|bit| sources.objects >> bit & 1 == 1);
        bits.map(|bit| self.changed[bit]).max().unwrap_or(0)
    }

    /// The value of an expression, which must be a truth.
    pub fn evaluate(&mut self, expression: &Expression) -> Result<bool, String> {
        let sources = expression.sources();
        for kind in Kind::all().filter(|kind| sources.contains(Sources::objects(*kind))) {
            self.look_at(kind);
            if sources.contains(Sources::list(kind)) && self.stale_lists.remove(&kind) {
                let list: Vec<Value> = read(&self.sight).objects(kind).cloned().collect();
                let list = Value::List(Arc::new(list));
                for name in kind.row().short_names {
                    self.context.add_variable_from_value(*name, list.clone());
                }
                self.context.add_variable_from_value(list_name(kind), list);
            }
        }
        match Value::resolve(expression.ordered(), &self.context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("the condition is neither true nor false but of type {}", other.type_of())),
            Err(error) => Err(shortened(&error.to_string())),
        }
    }

    /// Converts the objects of a kind that have changed.
    fn look_at(&mut self, kind: Kind) {
        let Some(unseen) = self.unseen.get_mut(&kind).filter(|unseen| !unseen.is_empty()) else { return };
        let mut sight = write(&self.sight);
        let seen = sight.kinds.entry(kind).or_default();
        for ((namespace, name), change) in std::mem::take(unseen) {
            let place = (namespace.to_string(), name.to_string());
            match change.object {
                Some(object) => {
                    seen.insert(place, value_of(object.to_json()));
                }
                None => {
                    seen.remove(&place);
                }
            }
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

/// JSON as a value of CEL. All whole numbers become Int: CEL's arithmetic does not mix Int and UInt.
#[allow(
    clippy::disallowed_types,
    reason = "a mapping of CEL holds this type; `order` sees to it that nobody meets its keys in its order"
)]
fn value_of(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(Arc::new(text)),
        Json::Array(items) => Value::List(Arc::new(items.into_iter().map(value_of).collect())),
        Json::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| (Key::from(key), value_of(value)));
            let map: std::collections::HashMap<Key, Value> = entries.collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}
