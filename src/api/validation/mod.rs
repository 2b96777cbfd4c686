//! What the API server accepts, and what it answers when it does not. Pure functions of objects.
//!
//! - `error`: field errors, their paths and texts
//! - `format`: the formats of names, labels, keys and ports

pub mod error;
pub mod format;
