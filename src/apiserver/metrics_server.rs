//! The life of metrics-server, as far as what it tells depends on it: whether there is one, whether it answers, and since when it
//! has scraped.
//!
//! It keeps what it has scraped in memory only: after a crash it knows nothing of pods until it has looked twice. Meanwhile, and
//! while it is down, the aggregator answers for it.

use std::cell::Cell;

use crate::engine::time::{SimDuration, SimTime};

use super::status::{Reason, Status};

/// How long a container of it must run before its readiness is asked for, and with that the API is there again
/// (metrics-server's manifest, `initialDelaySeconds`).
const UNREADY: SimDuration = SimDuration::from_secs(20);

/// Whether metrics-server answers.
#[derive(Debug, Default)]
pub struct MetricsServer {
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// None is installed.
    #[default]
    Absent,
    /// It is to begin with the cluster.
    Expected,
    /// Its process is gone.
    Down,
    /// It runs.
    Up {
        /// Since when it scrapes.
        since: SimTime,
        /// From when on it answers.
        ready: SimTime,
    },
}

impl MetricsServer {
    /// One that is installed and begins with the cluster, or none.
    pub fn new(installed: bool) -> Self {
        MetricsServer { state: Cell::new(if installed { State::Expected } else { State::Absent }) }
    }

    /// Its process begins. The first time it counts as having run for long, as the cluster does.
    pub fn begins(&self, now: SimTime) {
        self.state.set(match self.state.get() {
            State::Expected => State::Up { since: SimTime::ZERO, ready: SimTime::ZERO },
            State::Absent | State::Down | State::Up { .. } => State::Up { since: now, ready: now + UNREADY },
        });
    }

    /// Its process dies, and with it all that it knew.
    pub fn dies(&self) {
        self.state.set(State::Down);
    }

    /// Since when it has scraped; or what is answered in its place (aggregator, `proxyHandler`; client-go,
    /// `NewGenericServerResponse`).
    pub fn scrapes_since(&self, now: SimTime) -> Result<SimTime, Box<Status>> {
        let resource = "(get pods.metrics.k8s.io)";
        match self.state.get() {
            State::Up { since, ready } if ready <= now => Ok(since),
            State::Absent => {
                let message = format!("the server could not find the requested resource {resource}");
                Err(Box::new(Status::new(Reason::NotFound, message)))
            }
            State::Expected | State::Down | State::Up { .. } => {
                let message = format!("the server is currently unable to handle the request {resource}");
                Err(Box::new(Status::new(Reason::ServiceUnavailable, message)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_begins_anew_has_to_be_ready_first_and_has_forgotten_what_it_knew() {
        let second = |s: u64| SimTime::from_nanos(s * 1_000_000_000);
        let refusal =
            |server: &MetricsServer, at: u64| server.scrapes_since(second(at)).map_err(|status| status.message.clone());
        let absent = MetricsServer::new(false);
        let missing = "the server could not find the requested resource (get pods.metrics.k8s.io)".to_owned();
        assert_eq!(refusal(&absent, 5), Err(missing));
        let server = MetricsServer::new(true);
        let unable = Err("the server is currently unable to handle the request (get pods.metrics.k8s.io)".to_owned());
        assert_eq!(refusal(&server, 1), unable);
        server.begins(second(2));
        assert_eq!(refusal(&server, 2), Ok(SimTime::ZERO));
        server.dies();
        assert_eq!(refusal(&server, 100), unable);
        server.begins(second(107));
        assert_eq!(refusal(&server, 120), unable);
        assert_eq!(refusal(&server, 127), Ok(second(107)));
    }
}
