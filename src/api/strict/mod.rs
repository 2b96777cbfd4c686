//! From JSON values to typed objects as the API server's strict decoder does it: every unknown field and every value of a
//! wrong type is reported, with its path and in its words. Null is the zero value of whatever it stands for, as in Go.
//!
//! The decoder is a serde deserializer that knows where it is. A value of a wrong type is noted and read as absent, so
//! that what follows is looked at too.

mod probe;

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::Value;

use self::probe::element_type;

/// A value whose type does not fit its field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeMismatch {
    /// The field as in the API server's messages, such as `spec.containers[0].image`.
    pub field: String,
    /// The message, such as `json: cannot unmarshal bool into Go struct field Container.spec.containers.image of type string`.
    pub message: String,
    /// The type that the field has, such as `string`, where it is known.
    pub expected: Option<String>,
}

/// What decoding brought.
#[derive(Debug)]
pub struct Decoded<T> {
    /// The object, or everything that prevents it.
    pub object: Result<T, Vec<TypeMismatch>>,
    /// Fields that the type does not have, as in `spec.foo`, in the order of their names.
    pub unknown: Vec<String>,
}

/// The API server's message about unknown fields.
pub fn unknown_fields_message(unknown: &[String]) -> String {
    let fields: Vec<String> = unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
    format!("strict decoding error: {}", fields.join(", "))
}

/// Mismatches reported for one object; a document that is something else altogether would otherwise flood the reader.
const MISMATCH_LIMIT: usize = 50;

/// Decodes a value and reports what does not fit.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Decoded<T> {
    let mut mismatches: Vec<TypeMismatch> = Vec::new();
    let mut skipped: Vec<Vec<Step>> = Vec::new();
    loop {
        let tracker = Tracker { skipped: &skipped, ..Tracker::new() };
        let result = T::deserialize(Reader { value, tracker: &tracker });
        let unknown = tracker.unknown.take().iter().map(|path| dotted(path)).collect();
        let failure = match result {
            Ok(object) if mismatches.is_empty() => return Decoded { object: Ok(object), unknown },
            Ok(_) => return Decoded { object: Err(mismatches), unknown },
            Err(failure) => failure,
        };
        let path = tracker.path.take();
        let struct_name = tracker.structs.take().last().copied().unwrap_or_default();
        mismatches.push(failure.explain(&path, struct_name));
        // The offending value is read as null from now on. If that does not help, nothing will.
        if skipped.contains(&path) || mismatches.len() >= MISMATCH_LIMIT {
            return Decoded { object: Err(mismatches), unknown };
        }
        skipped.push(path);
    }
}

/// One step from an object to something in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Field(String),
    Item(usize),
}

/// `spec.containers[0].image`.
fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => text.extend([".", name]),
            Step::Item(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// Where the decoder is and what it has met.
struct Tracker<'a> {
    path: RefCell<Vec<Step>>,
    /// The structs around the present place, the innermost last.
    structs: RefCell<Vec<&'static str>>,
    unknown: RefCell<Vec<Vec<Step>>>,
    skipped: &'a [Vec<Step>],
}

impl Tracker<'_> {
    fn new() -> Tracker<'static> {
        Tracker { path: RefCell::default(), structs: RefCell::default(), unknown: RefCell::default(), skipped: &[] }
    }

    /// Does `inner` one step deeper. The path stays where it is if that fails, so that it tells where.
    fn within<T>(&self, step: Step, inner: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.path.borrow_mut().push(step);
        let result = inner()?;
        self.path.borrow_mut().pop();
        Ok(result)
    }
}

/// Why a value could not be read.
#[derive(Debug)]
enum Failure {
    /// A value of one JSON type where Go expects another.
    Type { found: String, expected: String },
    /// The same, said by a type that reads itself.
    Own { found: String, expected: &'static str },
    /// Anything else, in the words of the type.
    Message(String),
}

impl Failure {
    fn explain(self, path: &[Step], struct_name: &str) -> TypeMismatch {
        let field = dotted(path);
        match self {
            Failure::Type { found, expected } => {
                let names: Vec<&str> = path
                    .iter()
                    .filter_map(|step| match step {
                        Step::Field(name) => Some(name.as_str()),
                        Step::Item(_) => None,
                    })
                    .collect();
                let place = match names.is_empty() {
                    true => "value".to_owned(),
                    false => format!("struct field {struct_name}.{}", names.join(".")),
                };
                let message = format!("json: cannot unmarshal {found} into Go {place} of type {expected}");
                TypeMismatch { field, message, expected: Some(expected) }
            }
            Failure::Own { found, expected } => {
                let message = format!("json: cannot unmarshal {found} into Go value of type {expected}");
                TypeMismatch { field, message, expected: Some(expected.to_owned()) }
            }
            Failure::Message(message) => TypeMismatch { field, message, expected: None },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Type { found, expected } => write!(f, "cannot unmarshal {found} into a value of type {expected}"),
            Failure::Own { found, expected } => write!(f, "cannot unmarshal {found} into a value of type {expected}"),
            Failure::Message(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Failure::Message(message.to_string())
    }
}

/// The JSON type of a value as Go names it in such messages.
fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch<T>(value: &Value, expected: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Type { found: json_type(value).to_owned(), expected: expected.into() })
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    value: &'a Value,
    tracker: &'a Tracker<'a>,
}

impl<'a> Reader<'a> {
    fn with(self, value: &'a Value) -> Reader<'a> {
        Reader { value, ..self }
    }

    /// The value; null where it has already been found not to fit.
    fn here(&self) -> &'a Value {
        static NULL: Value = Value::Null;
        let skipped = !self.tracker.skipped.is_empty() && self.tracker.skipped.contains(&self.tracker.path.borrow());
        if skipped { &NULL } else { self.value }
    }

    fn integer<'de, V: Visitor<'de>>(
        self,
        go_type: &str,
        low: i64,
        high: i64,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let value = self.here();
        match value {
            Value::Null => visitor.visit_i64(0),
            Value::Number(number) => match number.as_i64() {
                Some(integer) if (low..=high).contains(&integer) => visitor.visit_i64(integer),
                _ => Err(Failure::Type { found: format!("number {number}"), expected: go_type.to_owned() }),
            },
            other => mismatch(other, go_type),
        }
    }

    fn entries<'de, V: Visitor<'de>>(self, go_type: String, visitor: V) -> Result<V::Value, Failure> {
        match self.here() {
            Value::Null => visitor.visit_map(Entries { entries: None, value: None, reader: self }),
            Value::Object(entries) => {
                visitor.visit_map(Entries { entries: Some(entries.iter()), value: None, reader: self })
            }
            other => mismatch(other, go_type),
        }
    }
}

macro_rules! integers {
    ($($method:ident $go_type:literal $low:expr, $high:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            self.integer($go_type, $low, $high, visitor)
        })*
    };
}

macro_rules! forward {
    ($($method:ident to $target:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            self.$target(visitor)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Failure;

    /// Asked for by types that read themselves: IntOrString, Quantity and free JSON.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.here() {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_i64(number),
                (None, Some(number), _) => visitor.visit_u64(number),
                (None, None, Some(number)) => visitor.visit_f64(number),
                (None, None, None) => Err(Failure::Message(format!("number {number} cannot be represented"))),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate(), reader: self }),
            Value::Object(entries) => {
                visitor.visit_map(Entries { entries: Some(entries.iter()), value: None, reader: self })
            }
        }
    }

    integers! {
        deserialize_i8 "int8" i64::from(i8::MIN), i64::from(i8::MAX);
        deserialize_i16 "int16" i64::from(i16::MIN), i64::from(i16::MAX);
        deserialize_i32 "int32" i64::from(i32::MIN), i64::from(i32::MAX);
        deserialize_i64 "int64" i64::MIN, i64::MAX;
        deserialize_u8 "uint8" 0, i64::from(u8::MAX);
        deserialize_u16 "uint16" 0, i64::from(u16::MAX);
        deserialize_u32 "uint32" 0, i64::from(u32::MAX);
        deserialize_u64 "uint64" 0, i64::MAX;
    }

    forward! {
        deserialize_f32 to deserialize_f64;
        deserialize_char to deserialize_str;
        deserialize_string to deserialize_str;
        deserialize_identifier to deserialize_str;
        deserialize_bytes to deserialize_str;
        deserialize_byte_buf to deserialize_str;
        deserialize_unit to deserialize_any;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.here() {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            other => mismatch(other, "bool"),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.here() {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(number) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            other => mismatch(other, "float64"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.here() {
            Value::Null => visitor.visit_str(""),
            Value::String(text) => visitor.visit_str(text),
            other => mismatch(other, "string"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.here() {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        match (name, self.here()) {
            (
                "Time" | "MicroTime",
                value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)),
            ) => Err(Failure::Own { found: json_type(value).to_owned(), expected: "string" }),
            ("Quantity", Value::Null) => visitor.visit_newtype_struct("0".into_deserializer()),
            ("Quantity", Value::String(text)) => match crate::api::quantity::Quantity::parse(text.trim()) {
                Ok(_) => visitor.visit_newtype_struct(self),
                Err(error) => Err(Failure::Message(error.to_string())),
            },
            ("Quantity", Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                Err(Failure::Message(crate::api::quantity::QuantityError::Format.to_string()))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.here() {
            Value::Null => visitor.visit_seq(Items { items: [].iter().enumerate(), reader: self }),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate(), reader: self }),
            other => mismatch(other, format!("[]{}", element_type(|probe| visitor.visit_seq(probe).err()))),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.here() {
            Value::Null | Value::Object(_) => self.entries(String::new(), visitor),
            other => {
                let element = element_type(|probe| visitor.visit_map(probe).err());
                mismatch(other, format!("map[string]{element}"))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if !matches!(self.here(), Value::Null | Value::Object(_)) {
            return mismatch(self.here(), go_struct(name));
        }
        self.tracker.structs.borrow_mut().push(name);
        let object = self.entries(go_struct(name), visitor)?;
        self.tracker.structs.borrow_mut().pop();
        Ok(object)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.here() {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            other => mismatch(other, "string"),
        }
    }

    /// This is how a type says that it does not have the field.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.tracker.unknown.borrow_mut().push(self.tracker.path.borrow().clone());
        visitor.visit_unit()
    }
}

/// The name of a struct in Go; all kinds known here are of a version named v1.
fn go_struct(name: &str) -> String {
    format!("v1.{name}")
}

struct Items<'a, I> {
    items: I,
    reader: Reader<'a>,
}

impl<'de, 'a, I: Iterator<Item = (usize, &'a Value)>> de::SeqAccess<'de> for Items<'a, I> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let reader = self.reader.with(value);
        self.reader.tracker.within(Step::Item(index), || seed.deserialize(reader)).map(Some)
    }
}

struct Entries<'a> {
    entries: Option<serde_json::map::Iter<'a>>,
    value: Option<(&'a str, &'a Value)>,
    reader: Reader<'a>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some((key, value)) = self.entries.as_mut().and_then(Iterator::next) else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let Some((key, value)) = self.value.take() else {
            return Err(Failure::Message("a value was asked for before its key".to_owned()));
        };
        let reader = self.reader.with(value);
        self.reader.tracker.within(Step::Field(key.to_owned()), || seed.deserialize(reader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::json;

    fn check<T: DeserializeOwned>(value: Value, mismatches: &[&str], unknown: &[&str]) {
        let decoded: Decoded<T> = decode(&value);
        let found: Vec<String> = match decoded.object {
            Ok(_) => Vec::new(),
            Err(found) => {
                found.into_iter().map(|mismatch| format!("{}: {}", mismatch.field, mismatch.message)).collect()
            }
        };
        assert_eq!(found, mismatches);
        assert_eq!(decoded.unknown, unknown);
    }

    #[test]
    fn values_of_a_wrong_type_are_refused_in_go_s_words() {
        let container =
            json!({"name": "a", "image": true, "ports": [{"containerPort": "80"}], "env": [{"name": "A", "value": 5}]});
        check::<Deployment>(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": "3", "template": {"spec": {"containers": [container]}}}}),
            &[
                "spec.replicas: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
                "spec.template.spec.containers[0].env[0].value: json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
                "spec.template.spec.containers[0].image: json: cannot unmarshal bool into Go struct field Container.spec.template.spec.containers.image of type string",
                "spec.template.spec.containers[0].ports[0].containerPort: json: cannot unmarshal string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
            ],
            &[],
        );
        check::<Pod>(
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": {}}, "metadata": {"labels": ["a"]}}),
            &[
                "metadata.labels: json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
                "spec.containers: json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ],
            &[],
        );
        check::<Deployment>(
            json!({"spec": {"replicas": 5_000_000_000i64, "minReadySeconds": 1.5}, "apiVersion": "apps/v1", "kind": "Deployment"}),
            &[
                "spec.minReadySeconds: json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.minReadySeconds of type int32",
                "spec.replicas: json: cannot unmarshal number 5000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ],
            &[],
        );
        check::<Pod>(
            json!({"apiVersion": "v1", "kind": "Pod", "spec": []}),
            &["spec: json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"],
            &[],
        );
        check::<Node>(
            json!({"apiVersion": "v1", "kind": "Node", "status": {"capacity": {"cpu": "lots", "memory": 5}}}),
            &[
                "status.capacity.cpu: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ],
            &[],
        );
    }

    #[test]
    fn unknown_fields_are_found_wherever_they_are() {
        check::<Pod>(
            json!({
                "apiVersion": "v1", "kind": "Pod", "metdata": {"name": "a"}, "metadata": {"labels": {"any": "thing"}},
                "spec": {"containers": [{"name": "a", "immage": "b", "livenessProbe": {"httpGet": {"port": 80, "x": {}}}}], "foo": null}
            }),
            &[],
            &["metdata", "spec.containers[0].immage", "spec.containers[0].livenessProbe.httpGet.x", "spec.foo"],
        );
        assert_eq!(
            unknown_fields_message(&["spec.a".to_owned(), "b".to_owned()]),
            "strict decoding error: unknown field \"spec.a\", unknown field \"b\""
        );
    }

    #[test]
    fn null_is_the_zero_value() {
        check::<Pod>(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": null, "labels": {"a": null}, "creationTimestamp": null}, "spec": {"containers": [{"name": null, "args": [null], "ports": null}]}, "status": null}),
            &[],
            &[],
        );
    }
}
