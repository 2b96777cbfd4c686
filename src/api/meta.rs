//! What every object carries: identity, version, ownership, labels.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::kind::Kind;
use super::name::Name;
use super::shared::Shared;
use crate::engine::time::SimTime;

/// A date in whole seconds since 1970, as `metav1.Time` keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub i64);

/// A date in microseconds since 1970, as `metav1.MicroTime` keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MicroTime(pub i64);

/// The date at which virtual time is zero, in nanoseconds since 1970. Ties virtual time to the dates that objects carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch(pub i64);

impl Epoch {
    /// The date of a virtual time, cut to whole seconds as the API does.
    pub fn timestamp(self, at: SimTime) -> Timestamp {
        Timestamp((self.0 + at.as_nanos() as i64).div_euclid(1_000_000_000))
    }

    /// The date of a virtual time, cut to microseconds.
    pub fn micro_time(self, at: SimTime) -> MicroTime {
        MicroTime((self.0 + at.as_nanos() as i64).div_euclid(1_000))
    }

    /// The virtual time of a date; the beginning of the run if the date is before it.
    pub fn sim_time(self, date: Timestamp) -> SimTime {
        SimTime::from_nanos(date.0.saturating_mul(1_000_000_000).saturating_sub(self.0).max(0) as u64)
    }
}

/// The unique id of an object's incarnation (a random UUID, version 4).
///
/// Packed, because an alignment of 16 would cost most objects eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(Rust, packed(8))]
pub struct Uid(pub u128);

impl Uid {
    /// A version 4 UUID from 128 random bits.
    pub fn from_random(high: u64, low: u64) -> Self {
        let bits = (u128::from(high) << 64) | u128::from(low);
        Uid(bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62))
    }

    /// Parses the usual form with or without hyphens; none if it is not 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 { None } else { u128::from_str_radix(&digits, 16).ok().map(Uid) }
    }
}

/// As `3f0fe55c-39b6-426e-bdd0-d93ef8a9b7ef`.
impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (b >> 96) as u32,
            (b >> 80) as u16,
            (b >> 64) as u16,
            (b >> 48) as u16,
            b as u64 & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// So few labels are looked through one by one: most keys differ in length already, and need not be compared.
const FEW: usize = 12;

/// Labels or annotations: pairs sorted by key, shared between objects that carry the same ones.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labels(Shared<(Name, Name)>);

impl Labels {
    /// No labels.
    pub const NONE: Labels = Labels(Shared::NONE);

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Name> {
        let pairs = self.pairs();
        if pairs.len() <= FEW {
            return pairs.iter().find(|(k, _)| *k == *key).map(|(_, value)| value);
        }
        pairs.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok().map(|index| &pairs[index].1)
    }

    /// All pairs in the order of their keys.
    #[inline]
    pub fn pairs(&self) -> &[(Name, Name)] {
        &self.0
    }

    /// These labels with one more, or with another value for a key that is there.
    pub fn with(&self, key: impl Into<Name>, value: impl Into<Name>) -> Labels {
        let (key, value) = (key.into(), value.into());
        self.pairs().iter().filter(|(k, _)| *k != key).cloned().chain([(key.clone(), value)]).collect()
    }

    /// These labels without a key.
    pub fn without(&self, key: &str) -> Labels {
        self.pairs().iter().filter(|(k, _)| k.as_str() != key).cloned().collect()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }

    /// True if both are the same shared pairs (or both none); false says nothing.
    #[inline]
    pub fn same(&self, other: &Labels) -> bool {
        self.0.same(&other.0)
    }
}

impl super::selector::Labels for Labels {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(Name::as_str)
    }
}

/// Of equal keys the last one counts.
impl FromIterator<(Name, Name)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Name, Name)>>(pairs: I) -> Self {
        let map: std::collections::BTreeMap<Name, Name> = pairs.into_iter().collect();
        Labels(map.into_iter().collect())
    }
}

/// A reference to the object that owns another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnerReference {
    /// The owner's `apiVersion` as it was written.
    pub api_version: Name,
    /// The owner's kind as it was written; it need not be one that is simulated.
    pub kind: Name,
    /// The owner's name, in the same namespace or without namespace.
    pub name: Name,
    /// The owner's incarnation.
    pub uid: Uid,
    /// True for the one owner that manages the object.
    pub controller: bool,
    /// True if the owner must not go, in a foreground deletion, before this object.
    pub block_owner_deletion: bool,
}

/// That an object is to be deleted, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deletion {
    /// When the grace ends (`metadata.deletionTimestamp`).
    pub timestamp: Timestamp,
    /// The grace in seconds (`metadata.deletionGracePeriodSeconds`), for kinds that are deleted gracefully.
    pub grace_seconds: Option<i64>,
}

/// The metadata of an object (`metav1.ObjectMeta`): what is its own, and what it has in common with others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// The name, unique per kind and namespace.
    pub name: Name,
    /// The incarnation.
    pub uid: Uid,
    /// The revision of the write that made this version, stamped by the store when the write is applied; zero before.
    pub resource_version: Cell<u64>,
    /// When the object was created.
    pub created: Timestamp,
    /// What many objects have in common.
    pub common: Rc<Common>,
}

/// What all versions of an object mostly have in common, and all pods of one template: shared by reference count. It is read
/// as if it stood in [`Meta`] itself; who writes to it there gets a copy first if it is shared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Common {
    /// The prefix from which the server made the name, if it did.
    pub generate_name: Option<Name>,
    /// The namespace; empty for kinds without one.
    pub namespace: Name,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Owners; usually none or one.
    pub owners: Shared<OwnerReference>,
    /// What must happen before the object may go.
    pub finalizers: Shared<Name>,
    /// Counts changes of the desired state; zero for kinds that do not count them.
    pub generation: i64,
    /// Set once deletion was asked for.
    pub deletion: Option<Box<Deletion>>,
}

impl Deref for Meta {
    type Target = Common;

    #[inline]
    fn deref(&self) -> &Common {
        &self.common
    }
}

impl DerefMut for Meta {
    fn deref_mut(&mut self) -> &mut Common {
        Rc::make_mut(&mut self.common)
    }
}

impl Meta {
    /// The owner that manages this object, if any.
    #[inline]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners().iter().find(|owner| owner.controller)
    }

    /// All owners.
    pub fn owners(&self) -> &[OwnerReference] {
        &self.owners
    }

    /// All finalizers.
    pub fn finalizers(&self) -> &[Name] {
        &self.finalizers
    }

    /// The revision of the write that made this version; zero if it was never stored.
    pub fn revision(&self) -> u64 {
        self.resource_version.get()
    }

    /// True once deletion was asked for.
    #[inline]
    pub fn is_deleting(&self) -> bool {
        self.deletion.is_some()
    }
}

/// Where an object is found: kind, namespace, name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for kinds without one.
    pub namespace: Name,
    /// The name.
    pub name: Name,
}

impl ObjectKey {
    /// The key of an object in a namespace (empty for kinds without one).
    pub fn new(kind: Kind, namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        ObjectKey { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// `pod/default/web-1`, `node/node-3`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.row().singular;
        if self.namespace.is_empty() {
            write!(f, "{kind}/{}", self.name)
        } else {
            write!(f, "{kind}/{}/{}", self.namespace, self.name)
        }
    }
}
