//! Stories of a kubelet with a simulated runtime, held against recordings of a real one.

mod chaos;
mod check;
mod claims;
mod crash;
mod harness;
mod images;
mod init;
mod life;
#[path = "../../../tests/support/kubelet_writes.rs"]
mod lines;
mod node;
mod preemption;
mod pressure;
mod probing;
mod reset;
mod restart;
mod room;
mod user;
mod writing;
