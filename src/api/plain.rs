//! Kinds of which the cluster reads little: kept as the API knows them, metadata aside.

use std::rc::Rc;

use k8s_openapi::api::{core, node, scheduling};

use super::meta::Meta;
use super::name::Name;

/// A Namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Metadata.
    pub meta: Meta,
    /// `spec.finalizers`: `kubernetes` until the content is gone.
    pub finalizers: Rc<[Name]>,
    /// `status.phase` is Terminating (else Active).
    pub terminating: bool,
    /// `status.conditions`.
    pub conditions: Rc<[core::v1::NamespaceCondition]>,
}

/// A ConfigMap; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct ConfigMap {
    pub meta: Meta,
    pub content: Rc<core::v1::ConfigMap>,
}

/// A Secret; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct Secret {
    pub meta: Meta,
    pub content: Rc<core::v1::Secret>,
}

/// A ServiceAccount; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct ServiceAccount {
    pub meta: Meta,
    pub content: Rc<core::v1::ServiceAccount>,
}

/// A PriorityClass; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct PriorityClass {
    pub meta: Meta,
    pub content: Rc<scheduling::v1::PriorityClass>,
}

/// A RuntimeClass; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct RuntimeClass {
    pub meta: Meta,
    pub content: Rc<node::v1::RuntimeClass>,
}
