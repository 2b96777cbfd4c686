//! The Raft core: a state machine without I/O, clock or chance of its own.
