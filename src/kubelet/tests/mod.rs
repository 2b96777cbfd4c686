//! Stories of a kubelet with a simulated runtime, held against recordings of a real one.

mod harness;
mod life;
mod lines;
