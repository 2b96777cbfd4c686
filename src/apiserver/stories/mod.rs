//! Stories about the whole server, told against a real etcd member.
//!
//! - `harness`: the world in which they happen
//! - `objects`: creation, admission, updates, conflicts
//! - `endings`: deletion, finalizers, namespaces, eviction
//! - `limits`: what the server gives up, gives out, and deletes by the dozen
//! - `quotas`: limits and quotas of namespaces, runtime classes
//! - `pod_security`: what pods may do in namespaces that say so
//! - `watches`: lists and watches
//! - `truths`: what holds whatever happens

mod endings;
mod evictions;
mod harness;
mod limits;
mod objects;
mod pod_security;
mod quotas;
mod truths;
mod watches;
