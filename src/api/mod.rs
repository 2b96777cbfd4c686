//! The Kubernetes object model: pure data and pure functions. No events, no time passing.
