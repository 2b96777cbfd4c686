//! Objects as values of CEL: converted once, shared from then on.

use std::any::Any;
use std::sync::Arc;

use cel::common::traits::{Container, Indexer, Iterable, Sizer, Zeroer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, MAP_TYPE, Type};
use cel::common::value::{StaticVal, Val};
use serde_json::Value as Json;

use crate::api::object::Object;

/// A value of its own, not a part of another one.
pub(super) type Owned = Box<dyn Val>;

/// A whole object: a mapping that is not copied with all that is in it for each step of a macro, as CEL's own are.
#[derive(Clone, Debug)]
pub(super) struct Subject(Arc<CelMap<'static>>);

impl Subject {
    /// An object, as the API shows it.
    pub fn of(object: &Object) -> Subject {
        let fields = match object.to_json() {
            Json::Object(fields) => fields,
            _ => serde_json::Map::new(),
        };
        Subject(Arc::new(map_of(fields)))
    }

    /// As a value of its own.
    pub fn boxed(&self) -> Owned {
        Box::new(self.clone())
    }
}

impl Val for Subject {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.0.as_container()
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        self.0.as_indexer()
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        self.0.as_iterable()
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.0.as_sizer()
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        self.0.as_zeroer()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        match other.downcast_ref::<Subject>() {
            Some(other) => Arc::ptr_eq(&self.0, &other.0) || self.0.equals(&*other.0),
            None => self.0.equals(other),
        }
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Subject {}

/// JSON as a value of CEL. All whole numbers become Int: CEL's arithmetic does not mix Int and UInt.
fn value_of(json: Json) -> Owned {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(truth) => Box::new(CelBool::from(truth)),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Box::new(CelInt::from(whole)),
            None => Box::new(CelDouble::from(number.as_f64().unwrap_or_default())),
        },
        Json::String(text) => Box::new(CelString::from(text)),
        Json::Array(items) => Box::new(CelList::from(items.into_iter().map(value_of).collect::<Vec<_>>())),
        Json::Object(fields) => Box::new(map_of(fields)),
    }
}

#[allow(
    clippy::disallowed_types,
    reason = "a mapping of CEL holds this type; `order` sees to it that nobody meets its keys in its order"
)]
fn map_of(fields: serde_json::Map<String, Json>) -> CelMap<'static> {
    let entries = fields.into_iter().map(|(name, value)| (CelMapKey::String(CelString::from(name)), value_of(value)));
    CelMap::from(entries.collect::<std::collections::HashMap<_, _>>())
}

/// The fields of a mapping; none if the value is something else.
pub(super) fn fields<'b, 'v>(value: &'b (dyn Val + 'v)) -> Option<&'b CelMap<'v>> {
    match value.downcast_ref::<Subject>() {
        Some(subject) => Some(&subject.0),
        None => value.downcast_ref::<CelMap<'v>>(),
    }
}

/// What stands in an object at a path of names.
pub(super) fn field<'b, 'v>(object: &'b (dyn Val + 'v), path: &[&'static str]) -> Option<&'b (dyn Val + 'v)> {
    path.iter().try_fold(object, |value, name| {
        let key = CelMapKey::String(CelString::from(*name));
        fields(value)?.inner().get(&key).map(AsRef::as_ref)
    })
}

/// A whole number; 0 if it is none.
pub(super) fn number(value: Option<&dyn Val>) -> i64 {
    value.and_then(|value| value.downcast_ref::<CelInt>()).map_or(0, |number| *number.inner())
}

/// A text; empty if it is none.
pub(super) fn text(value: Option<&dyn Val>) -> &str {
    value.and_then(|value| value.downcast_ref::<CelString<'_>>()).map_or("", |text| text.inner())
}

/// The items of a list; none if it is none.
pub(super) fn items<'b, 'v>(value: Option<&'b (dyn Val + 'v)>) -> &'b [Box<dyn Val + 'v>] {
    value.and_then(|value| value.downcast_ref::<CelList<'v>>()).map_or(&[], CelList::inner)
}

/// The uid of the owner that manages an object; empty if there is none.
pub(super) fn controller(object: &dyn Val) -> &str {
    let owners = items(field(object, &["metadata", "ownerReferences"]));
    let manages = |owner: &dyn Val| {
        let controls = field(owner, &["controller"]).and_then(|value| value.downcast_ref::<CelBool>());
        controls.is_some_and(|truth| *truth.inner())
    };
    let managing = owners.iter().find(|owner| manages(owner.as_ref()));
    managing.map_or("", |owner| text(field(owner.as_ref(), &["uid"])))
}
