//! Numbers that may be written as a percentage.

/// A whole number or a percentage, as in `maxSurge: 25%`.
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
