//! The Kubernetes object model: pure data and pure functions. No events, no time passing.
//!
//! - `defaults`: what the API server adds to objects
//! - `int_or_string`: numbers that may be percentages
//! - `manifest`: files of objects, and what is wrong with them
//! - `patch`: JSON, merge and strategic merge patches
//! - `quantity`: amounts of resources
//! - `selector`: label and field selectors
//! - `strict`: values to typed objects, refusing unknown fields and wrong types
//! - `time`: points in time as the API writes them
//! - `validation`: what the API server refuses, and how it says so
//! - `yaml`: text to values that know their places

pub mod defaults;
pub mod int_or_string;
pub mod manifest;
pub mod patch;
pub mod quantity;
pub mod selector;
pub mod strict;
pub mod time;
pub mod validation;
pub mod yaml;
