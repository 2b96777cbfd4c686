//! How long an API server takes: plain figures that a scenario can set.

use crate::engine::time::SimDuration;

/// The time that parts of a request take on the API server, etcd and network not included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Costs {
    /// From the arrival of a request to its first call of etcd or its answer: authentication, authorization,
    /// decoding, admission. A real server on an idle machine spends 0.5 to 1 ms on it (its request traces).
    pub request: SimDuration,
    /// For each KiB of a request's object on top: decoding and defaulting at about 50 MB/s.
    pub request_per_kib: SimDuration,
    /// From etcd's answer to the sending of the response: decoding, conversion, encoding.
    pub answer: SimDuration,
    /// For each KiB of an answer on top; a list of 1000 pods of 3 KiB takes 60 ms.
    pub answer_per_kib: SimDuration,
    /// From the arrival of an etcd watch event to its sending to a watcher: decoding, cache, dispatch queues.
    /// The real chain of goroutines takes about 1 ms on a machine that is not overloaded.
    pub watch_event: SimDuration,
    /// For each KiB of an event on top (each version is encoded once for all watchers).
    pub watch_event_per_kib: SimDuration,
}

impl Default for Costs {
    fn default() -> Self {
        Costs {
            request: SimDuration::from_micros(700),
            request_per_kib: SimDuration::from_micros(20),
            answer: SimDuration::from_micros(200),
            answer_per_kib: SimDuration::from_micros(20),
            watch_event: SimDuration::from_millis(1),
            watch_event_per_kib: SimDuration::from_micros(20),
        }
    }
}

impl Costs {
    /// No time for anything: for tests that look at outcomes only.
    pub fn nothing() -> Self {
        let none = SimDuration::ZERO;
        Costs {
            request: none,
            request_per_kib: none,
            answer: none,
            answer_per_kib: none,
            watch_event: none,
            watch_event_per_kib: none,
        }
    }

    /// The time before a request's first effect.
    pub fn of_request(&self, bytes: u64) -> SimDuration {
        self.request + per_kib(self.request_per_kib, bytes)
    }

    /// The time between etcd's answer and the response.
    pub fn of_answer(&self, bytes: u64) -> SimDuration {
        self.answer + per_kib(self.answer_per_kib, bytes)
    }

    /// The time between etcd's event and the watcher's.
    pub fn of_watch_event(&self, bytes: u64) -> SimDuration {
        self.watch_event + per_kib(self.watch_event_per_kib, bytes)
    }
}

fn per_kib(cost: SimDuration, bytes: u64) -> SimDuration {
    SimDuration::from_nanos(cost.as_nanos().saturating_mul(bytes) / 1024)
}
