//! Stories of StatefulSets.
