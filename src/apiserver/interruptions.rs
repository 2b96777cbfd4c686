//! Watches of etcd that end with an error, as they do on a member that has had no leader for three election timeouts.
//!
//! Each watch cache is a reflector of its own (apiserver, cacher.go). One whose watch fails asks again at once, for
//! `MaxInternalErrorRetryDuration`, 30 seconds: most often a leader is elected meanwhile, and no client learns of it. After that the
//! cache begins anew: a second later it ends all watches of its clients and lists, and until that list has come, clients who want to
//! watch are told to ask again later.
//!
//! The real reflector's "at once" is hundreds of times a second, each time at the next member. Here each connected member is asked at
//! once, and then all of them [`PAUSE`] later: that is how much longer it may take until somebody sees that there is a leader.

use crate::api::kind::{Kind, REGISTRY};
use crate::engine::process::Context;
use crate::engine::time::{SimDuration, SimTime};

use super::server::{ApiServer, ServerMessage, token};

/// How long a watch that fails is asked for again (cacher.go: `MaxInternalErrorRetryDuration`).
const RETRY_FOR: SimDuration = SimDuration::from_secs(30);
/// Failures of a watch that are further apart than this have nothing to do with each other (client-go, reflector:
/// `NewRetryWithDeadline`).
const UNRELATED: SimDuration = SimDuration::from_secs(60);
/// How long all members are left alone after each of them has failed.
const PAUSE: SimDuration = SimDuration::from_millis(200);
/// How long a cache waits before it lists again (cacher.go: `wait.Until` with a second).
const REFILL: SimDuration = SimDuration::from_secs(1);

/// The watches that failed.
#[derive(Debug)]
pub(super) struct Interruptions {
    of: Vec<Interruption>,
    /// The timer for asking again is set.
    armed: bool,
    /// The timer for listing again is set.
    refill_armed: bool,
}

/// Failures of the watch of one kind.
#[derive(Clone, Copy, Default, Debug)]
struct Interruption {
    /// When it failed first, and when last; none if there is nothing to be counted.
    since: Option<(SimTime, SimTime)>,
    times: usize,
}

impl Default for Interruptions {
    fn default() -> Self {
        Interruptions { of: vec![Interruption::default(); REGISTRY.len()], armed: false, refill_armed: false }
    }
}

impl Interruption {
    /// It has failed once more; false if it has for too long.
    fn again(&mut self, now: SimTime) -> bool {
        if self.since.is_none_or(|(_, last)| now.since(last) >= UNRELATED) {
            *self = Interruption::default();
        }
        let (first, _) = self.since.unwrap_or((now, now));
        if now.since(first) > RETRY_FOR {
            *self = Interruption::default();
            return false;
        }
        self.since = Some((first, now));
        self.times += 1;
        true
    }
}

impl ApiServer {
    /// Etcd has ended the watch of a kind.
    pub(super) fn interrupted(&mut self, kind: Kind, ctx: &mut dyn Context<ServerMessage>) {
        self.link.closed(kind);
        if !self.caches[kind as usize].is_ready() {
            return;
        }
        let interruption = &mut self.interruptions.of[kind as usize];
        if !interruption.again(ctx.now()) {
            self.fill_later(kind, ctx);
        } else if !interruption.times.is_multiple_of(self.link.connected().max(1)) {
            self.link.watch(kind, self.caches[kind as usize].revision() + 1, ctx);
        } else if !std::mem::replace(&mut self.interruptions.armed, true) {
            ctx.set_timer(ctx.now() + PAUSE, token::RECONNECT);
        }
    }

    /// The pause is over: all watches that failed are asked for again.
    pub(super) fn interruption_over(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        self.interruptions.armed = false;
        self.reconnect(ctx);
    }

    /// What a cache shows is of no use any more, or its list failed: it is filled a second later.
    pub(super) fn fill_later(&mut self, kind: Kind, ctx: &mut dyn Context<ServerMessage>) {
        self.caches[kind as usize].reset();
        if !std::mem::replace(&mut self.interruptions.refill_armed, true) {
            ctx.set_timer(ctx.now() + REFILL, token::REFILL);
        }
    }

    /// Fills the caches that are not ready.
    pub(super) fn refill(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        self.interruptions.refill_armed = false;
        self.fill_missing(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO + SimDuration::from_secs(seconds)
    }

    #[test]
    fn a_watch_that_fails_is_asked_for_again_for_thirty_seconds_and_then_counted_anew() {
        let mut watch = Interruption::default();
        let tries = [(100, true), (101, true), (130, true), (131, false), (132, true), (162, true), (163, false)];
        for (second, expected) in tries {
            assert_eq!(watch.again(at(second)), expected, "at {second} s");
        }
    }

    #[test]
    fn failures_a_minute_apart_are_not_added_up() {
        let mut watch = Interruption::default();
        assert!([100, 120, 180, 200, 210].into_iter().all(|second| watch.again(at(second))));
        assert!(!watch.again(at(211)));
    }
}
