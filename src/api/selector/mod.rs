//! Which objects are meant: label selectors and field selectors, compiled once and matched often.
//!
//! - `labels`: requirements on labels, from API types or from text
//! - `parse`: the text form of label selectors, as in `app in (a,b),!canary`
//! - `fields`: the text form of field selectors, as in `spec.nodeName=a,status.phase!=Failed`

mod fields;
mod labels;
mod parse;

pub use fields::{FieldSelector, FieldTerm};
pub use labels::{Labels, Operator, Requirement, Selector};
