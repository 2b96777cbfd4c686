//! The type of what a collection holds, found without an element: messages about a wrong collection name it.

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::Value;

use super::{Failure, go_struct, mismatch};

/// Asks a collection what it would hold: gives it one element that answers every question with the type asked for.
pub(super) fn element_type(collection: impl FnOnce(Probe) -> Option<Failure>) -> String {
    match collection(Probe) {
        Some(Failure::Type { expected, .. }) => expected,
        _ => "interface {}".to_owned(),
    }
}

/// The element that answers.
pub(super) struct Probe;

macro_rules! probes {
    ($($method:ident $go_type:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
            mismatch(&Value::Null, $go_type)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Probe {
    type Error = Failure;

    probes! {
        deserialize_any "interface {}"; deserialize_bool "bool"; deserialize_i8 "int8"; deserialize_i16 "int16";
        deserialize_i32 "int32"; deserialize_i64 "int64"; deserialize_u8 "uint8"; deserialize_u16 "uint16";
        deserialize_u32 "uint32"; deserialize_u64 "uint64"; deserialize_f32 "float32"; deserialize_f64 "float64";
        deserialize_char "string"; deserialize_str "string"; deserialize_string "string"; deserialize_bytes "[]uint8";
        deserialize_byte_buf "[]uint8"; deserialize_unit "interface {}"; deserialize_identifier "string";
        deserialize_ignored_any "interface {}";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, _: V) -> Result<V::Value, Failure> {
        mismatch(&Value::Null, go_struct(name))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, _: V) -> Result<V::Value, Failure> {
        mismatch(&Value::Null, if name == "Quantity" { "resource.Quantity".to_owned() } else { go_struct(name) })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        mismatch(&Value::Null, format!("[]{}", element_type(|probe| visitor.visit_seq(probe).err())))
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
        let element = element_type(|probe| visitor.visit_map(probe).err());
        mismatch(&Value::Null, format!("map[string]{element}"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Failure> {
        mismatch(&Value::Null, go_struct(name))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Failure> {
        mismatch(&Value::Null, "string")
    }
}

impl<'de> de::SeqAccess<'de> for Probe {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        seed.deserialize(Probe).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Probe {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        seed.deserialize("".into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        seed.deserialize(Probe)
    }
}
