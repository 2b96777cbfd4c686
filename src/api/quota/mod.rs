//! Quotas of namespaces and limits of what is in them: the objects, and how usage is measured.
//!
//! Pure functions, the same for the API server, which charges each request, and for the controller, which counts anew.
//!
//! - here: ResourceQuotas and LimitRanges
//! - `amounts`: lists of resources and what is reckoned with them
//! - `scope`: which objects a quota speaks of
//! - `usage`: what an object uses

mod amounts;
mod scope;
mod usage;

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use super::meta::Meta;

pub use amounts::Amounts;
pub use scope::{is_terminating, matches_scopes};
pub use usage::{
    Extent, charges, is_counted, is_tracked_by, missing_requests, pod_limits, pod_requests, usage, would_release,
};

/// A ResourceQuota.
#[derive(Clone, Debug)]
pub struct ResourceQuota {
    /// Metadata.
    pub meta: Meta,
    /// `spec`, as the API knows it.
    pub spec: Rc<core::ResourceQuotaSpec>,
    /// `spec.hard`: what may be used.
    pub wanted: Rc<Amounts>,
    /// `status.hard`: what is enforced.
    pub hard: Rc<Amounts>,
    /// `status.used`.
    pub used: Rc<Amounts>,
}

impl ResourceQuota {
    /// True if the quota says something of objects of a kind (`MatchingResources` is not empty).
    pub fn tracks(&self, kind: super::kind::Kind) -> bool {
        self.hard.names().any(|name| is_tracked_by(kind, name))
    }
}

/// A LimitRange; the content carries no metadata.
#[derive(Clone, Debug)]
pub struct LimitRange {
    /// Metadata.
    pub meta: Meta,
    /// The limits as the API knows them.
    pub content: Rc<core::LimitRange>,
}
