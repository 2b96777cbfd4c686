//! The Kubernetes object model: pure data and pure functions. No events, no time passing.
//!
//! - `int_or_string`: numbers that may be percentages
//! - `quantity`: amounts of resources
//! - `selector`: label and field selectors
//! - `yaml`: text to values that know their places
//! - `validation`: what the API server refuses, and how it says so

pub mod int_or_string;
pub mod quantity;
pub mod selector;
pub mod validation;
pub mod yaml;
