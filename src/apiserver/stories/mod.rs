//! Stories about the whole server, told against a real etcd member.
//!
//! - `harness`: the world in which they happen
//! - `objects`: creation, admission, updates, conflicts
//! - `endings`: deletion, finalizers, namespaces, eviction
//! - `watches`: lists and watches
//! - `truths`: what holds whatever happens

mod endings;
mod harness;
mod objects;
mod truths;
mod watches;
