//! What holds for all StatefulSets.
