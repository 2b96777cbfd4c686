//! What a component is to the engine: a process on a machine that is fed inputs and asks its context for effects.
//!
//! A process never calls another one, never blocks and reads nothing but its input, its own state and its context.

use super::time::{SimDuration, SimTime};

/// Names one process (an etcd member, an API server, a kubelet, ...) for a whole run; it survives restarts of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId(pub u32);

/// What a process wrote on a timer or a disk request, to know it again when it comes back.
pub type Token = u64;

/// One of several independent ordered streams between the same two processes, as separate TCP connections are.
/// Within a lane messages arrive in the order sent; between lanes they may overtake one another.
pub type Lane = u8;

/// Identifies a timer that was set, so that it can be cancelled. Valid until the timer fires or is cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId(pub u64);

/// Identifies an event of this run, for cause chains; [`Cause::NONE`] is the beginning of the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Cause(pub u64);

impl Cause {
    /// Caused by nothing but the beginning of the run.
    pub const NONE: Cause = Cause(0);
}

/// What happens to a process.
#[derive(Debug)]
pub enum Input<M> {
    /// The process begins, for the first time or anew after a crash. Its volatile state is empty.
    Start,
    /// A message arrived.
    Message {
        /// Who sent it.
        from: ProcessId,
        /// What was sent.
        message: M,
    },
    /// A timer set by this incarnation of the process fired.
    Timer {
        /// What the process wrote on it.
        token: Token,
    },
    /// A write asked for by [`Context::write_and_sync`] is durable.
    DiskDone {
        /// What the process wrote on it.
        token: Token,
    },
    /// All connections to a peer broke: what was under way to or from it is lost.
    ConnectionLost {
        /// The process at the other end.
        peer: ProcessId,
    },
}

/// What a process may ask for while it handles an input. Nothing happens before the handler returns, except that timers get their ids.
pub trait Context<M> {
    /// The present virtual time.
    fn now(&self) -> SimTime;

    /// Sends a message after this process has spent `delay` on preparing it; then it travels over the network.
    /// Messages of one lane keep their order even if delays differ.
    fn send_after(&mut self, delay: SimDuration, to: ProcessId, lane: Lane, message: M);

    /// Sends a message at once.
    fn send(&mut self, to: ProcessId, lane: Lane, message: M) {
        self.send_after(SimDuration::ZERO, to, lane, message);
    }

    /// Asks for [`Input::Timer`] at a time; not before now.
    fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId;

    /// Takes a timer back. A timer that has already fired is ignored.
    fn cancel_timer(&mut self, id: TimerId);

    /// Writes `bytes` to this process's disk and asks for [`Input::DiskDone`] when they are durable.
    /// Requests of one process complete in order. A crash before completion loses the write.
    fn write_and_sync(&mut self, bytes: u64, token: Token);

    /// The event to which effects are at present ascribed: the one being handled, unless [`Context::set_cause`] said otherwise.
    fn cause(&self) -> Cause;

    /// Ascribes the effects that follow, until the handler returns, to an earlier event: what put an item into a queue
    /// is the cause of its processing, not the timer that happened to find the queue ready.
    fn set_cause(&mut self, cause: Cause);
}
