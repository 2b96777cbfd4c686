//! The API server: request pipeline, admission, registry and watch cache.
//!
//! - `protocol`: what clients and servers say to one another
//! - `status`: how a request fails

pub mod protocol;
pub mod status;
