//! How objects lie in etcd: keys, values, and the requests that an API server makes of the store.

use std::cmp::Ordering;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::etcd::key::{Key, KeyRange};
use crate::etcd::lease::LeaseId;
use crate::etcd::message::Request;
use crate::etcd::mvcc::{Compare, DeleteRange, KeyValue, Operation, Put, Range, Txn, TxnResult};
use crate::etcd::mvcc::{OperationResult, RangeResult};
use crate::etcd::value::Value;

use super::allocation::Claim;
use super::size;

/// What all keys begin with (kube-apiserver, `--etcd-prefix`).
const PREFIX: &str = "/registry/";

/// The key under which API servers agree on what to compact.
pub const COMPACT_REVISION_KEY: &str = "compact_rev_key";

/// A value in etcd: an object, moved by reference count, or the plain bytes of a key that holds none.
#[derive(Clone, Debug)]
pub enum Stored {
    /// An API object. It never changes once sent, except that the store stamps its revision.
    Object(Object),
    /// Plain bytes. Behind two pointers, so that a value takes no more room than the object that it nearly always is.
    Bytes(Rc<Box<[u8]>>),
}

impl Stored {
    /// The object, if it is one.
    pub fn object(&self) -> Option<&Object> {
        match self {
            Stored::Object(object) => Some(object),
            Stored::Bytes(_) => None,
        }
    }
}

/// Two objects are the same if they are the same version in memory or carry the same incarnation and revision.
impl PartialEq for Stored {
    fn eq(&self, other: &Stored) -> bool {
        self.order(other) == Ordering::Equal
    }
}

impl Value for Stored {
    fn size_bytes(&self) -> u64 {
        match self {
            Stored::Object(object) => size::of(object),
            Stored::Bytes(bytes) => bytes.len() as u64,
        }
    }

    fn stamp(&self, revision: u64) {
        if let Stored::Object(object) = self {
            object.meta().resource_version.set(revision);
        }
    }

    /// Objects have no bytes here. They order by key, incarnation and revision, which is enough to tell them apart:
    /// API servers never compare values in etcd.
    fn order(&self, other: &Stored) -> Ordering {
        match (self, other) {
            (Stored::Object(left), Stored::Object(right)) => {
                let place = |object: &Object| (object.key(), object.meta().uid, object.meta().revision());
                if left.same(right) { Ordering::Equal } else { place(left).cmp(&place(right)) }
            }
            (Stored::Bytes(left), Stored::Bytes(right)) => left.cmp(right),
            (Stored::Object(_), Stored::Bytes(_)) => Ordering::Less,
            (Stored::Bytes(_), Stored::Object(_)) => Ordering::Greater,
        }
    }
}

/// What an API server asks of etcd.
pub type EtcdRequest = Request<Stored>;

/// The prefix of all keys of a kind.
pub fn prefix(kind: Kind) -> Key {
    prefix_in(kind, None)
}

/// The prefix of all keys of a kind in a namespace, or of all if there is none.
pub fn prefix_in(kind: Kind, namespace: Option<&str>) -> Key {
    let namespace = namespace.filter(|_| kind.row().namespaced);
    Key::within(directory(kind, namespace.unwrap_or_default()), Name::EMPTY)
}

/// The key of an object (registry/generic: `NamespaceKeyFunc`).
pub fn key_of(key: &ObjectKey) -> Key {
    Key::within(directory(key.kind, &key.namespace), key.name.clone())
}

/// Where the objects of a kind lie, of one namespace if one is given.
fn directory(kind: Kind, namespace: &str) -> Name {
    let storage = kind.row().storage;
    let mut text: SmallVec<[u8; 64]> = SmallVec::new();
    for part in [PREFIX, storage, "/"] {
        text.extend_from_slice(part.as_bytes());
    }
    if !namespace.is_empty() {
        text.extend_from_slice(namespace.as_bytes());
        text.push(b'/');
    }
    str::from_utf8(&text).unwrap_or_default().into()
}

/// Reads one key with a quorum's word.
pub fn get(key: Key) -> EtcdRequest {
    Range::key(key).into()
}

/// Reads a key at which there is nothing, for the revision that comes with every answer
/// (etcd3 store: `GetCurrentResourceVersion`).
pub fn newest(kind: Kind) -> EtcdRequest {
    get(Key::new(&format!("{PREFIX}{}", kind.row().storage)))
}

/// Creates a key that must not exist (etcd3 store: `If mod == 0 Then put`). With claims these must be free as well, or else what is
/// there is read: the object first.
pub fn create(key: Key, object: Object, lease: Option<LeaseId>, claims: &[Claim]) -> EtcdRequest {
    let put = Put { lease, ..Put::new(key.clone(), Stored::Object(object)) };
    let when = Txn::when(Compare::modified_at(key.clone(), 0), Operation::Put(put));
    if claims.is_empty() {
        return when.into();
    }
    with_claims(when.otherwise(Operation::Range(Range::key(key.clone()))), &key, claims, &[]).into()
}

/// Replaces a key that must still be at a revision, or else reads it. The key keeps its lease. Claims that are new must be free, and
/// those that are released are free then.
pub fn replace(
    key: Key,
    revision: u64,
    object: Object,
    keep_lease: bool,
    claims: &[Claim],
    released: &[Claim],
) -> EtcdRequest {
    let put = Put { keep_lease, ..Put::new(key.clone(), Stored::Object(object)) };
    let when = Txn::when(Compare::modified_at(key.clone(), revision), Operation::Put(put));
    with_claims(when.otherwise(Operation::Range(Range::key(key.clone()))), &key, claims, released).into()
}

/// Deletes a key that must still be at a revision, or else reads it; what it had claimed is free then.
pub fn remove(key: Key, revision: u64, released: &[Claim]) -> EtcdRequest {
    let delete = DeleteRange { range: KeyRange::One(key.clone()), previous: false };
    let when = Txn::when(Compare::modified_at(key.clone(), revision), Operation::Delete(delete));
    with_claims(when.otherwise(Operation::Range(Range::key(key.clone()))), &key, &[], released).into()
}

/// Under which key it is known that something out of a range was given away.
fn claim_key(claim: &Claim) -> Key {
    Key::new(&match claim {
        Claim::Address(address) => format!("{PREFIX}ranges/serviceips/{address}"),
        Claim::Port(port) => format!("{PREFIX}ranges/servicenodeports/{port}"),
    })
}

/// The same transaction, in which claims are taken for an object, each of which must be free, and others are given back. The value
/// of a claim's key says who has it.
fn with_claims(mut when: Txn<Stored>, owner: &Key, claims: &[Claim], released: &[Claim]) -> Txn<Stored> {
    for claim in claims {
        let key = claim_key(claim);
        let bytes: Rc<Box<[u8]>> = Rc::new(owner.to_string().into_bytes().into_boxed_slice());
        when.compares.push(Compare::modified_at(key.clone(), 0));
        when.success.push(Operation::Put(Put::new(key.clone(), Stored::Bytes(bytes))));
        when.failure.push(Operation::Range(Range::key(key)));
    }
    let free = |claim| DeleteRange { range: KeyRange::One(claim_key(claim)), previous: false };
    when.success.extend(released.iter().map(|claim| Operation::Delete(free(claim))));
    when
}

/// Which claims of a transaction that was not carried out are taken already, and since which revision.
pub fn taken(result: &TxnResult<Stored>, claims: &[Claim]) -> Vec<(Claim, u64)> {
    let read = |result: &OperationResult<Stored>| match result {
        OperationResult::Range(range) => found(range).map(|kv| kv.modified),
        _ => None,
    };
    let after = result.results.iter().skip(1).map(read);
    claims.iter().zip(after).filter_map(|(claim, since)| Some((claim.clone(), since?))).collect()
}

/// Sets the key on which API servers agree if it was put as often as `version` says, or else reads it.
pub fn agree_on_compaction(version: u64, revision: u64) -> EtcdRequest {
    let key = Key::new(COMPACT_REVISION_KEY);
    let bytes = revision.to_string().into_bytes().into_boxed_slice();
    let put = Put::new(key.clone(), Stored::Bytes(Rc::new(bytes)));
    let when = Txn::when(Compare::version_is(key.clone(), version), Operation::Put(put));
    when.otherwise(Operation::Range(Range::key(key))).into()
}

/// The one key that a read found.
pub fn found(result: &RangeResult<Stored>) -> Option<&KeyValue<Stored>> {
    result.kvs.first()
}

/// The object that a read of one key found.
pub fn found_object(result: &RangeResult<Stored>) -> Option<Object> {
    found(result)?.value.as_ref()?.object().cloned()
}

/// What the other branch of a transaction read.
pub fn otherwise_found(result: &TxnResult<Stored>) -> Option<&KeyValue<Stored>> {
    match result.results.first() {
        Some(OperationResult::Range(range)) => found(range),
        _ => None,
    }
}
