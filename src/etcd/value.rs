//! What the store asks of a value. It never looks inside one.

use std::cmp::Ordering;
use std::rc::Rc;

/// A value of the store. Cloning must be cheap (a reference count): the store, its history, watch events and answers share it.
pub trait Value: Clone {
    /// How many bytes the value takes on the wire and on the disk.
    fn size_bytes(&self) -> u64;

    /// Called once, when the put that carries this value is applied, with the revision of that write:
    /// an API object so learns its resourceVersion without being copied.
    fn stamp(&self, revision: u64);

    /// Orders two values by their encoded bytes, for `VALUE` compares and sorting by value.
    fn order(&self, other: &Self) -> Ordering;
}

impl Value for Rc<[u8]> {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn stamp(&self, _revision: u64) {}

    fn order(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(other.as_ref())
    }
}
