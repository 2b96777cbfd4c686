//! Two runs of one scenario in lock-step: after each moment both must have done the same.

use std::fmt;

use crate::cluster::Cluster;
use crate::engine::process::Cause;
use crate::engine::trace::{Trace, TraceEvent};

/// Bytes of trace after which what is past is forgotten.
const FORGET_AFTER: usize = 16 << 20;

/// The first event that two runs do not have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Difference {
    /// Which event it is, counted from the beginning of the run.
    number: u64,
    /// What it is in the first and in the second run.
    events: [String; 2],
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "two runs with the same seed differ from event number {} on:", self.number)?;
        writeln!(f, "  first run:  {}", self.events[0])?;
        write!(f, "  second run: {}", self.events[1])
    }
}

/// Compares two clusters that record their traces, after each has done its part of the same moment. `agreed` is how many
/// events they had in common at the last comparison, and is brought up to date.
pub(super) fn compare(first: &Cluster, second: &Cluster, agreed: &mut u64) -> Result<(), Box<Difference>> {
    if first.digest() == second.digest() && first.events() == second.events() {
        *agreed = first.events();
        return Ok(());
    }
    let news = |cluster: &Cluster| {
        let events = usize::try_from(cluster.events() - *agreed).unwrap_or(usize::MAX);
        let trace = cluster.trace();
        trace.events().skip(trace.len().saturating_sub(events)).collect::<Vec<TraceEvent>>()
    };
    let (ours, theirs) = (news(first), news(second));
    let same = ours.iter().zip(&theirs).take_while(|(left, right)| left == right).count();
    let describe = |cluster: &Cluster, events: &[TraceEvent]| match events.get(same) {
        Some(event) => {
            let process = cluster.topology().process_name(event.process);
            let kind = cluster.trace().kind_name(event.kind);
            let [first, second] = event.operands;
            format!(
                "{kind} at {} s, {process} (event {}, caused by {}, {first} {second})",
                event.time, event.sequence, event.cause.0
            )
        }
        None => format!("nothing more at {} s", cluster.now()),
    };
    Err(Box::new(Difference {
        number: *agreed + same as u64 + 1,
        events: [describe(first, &ours), describe(second, &theirs)],
    }))
}

/// Lets a trace that is only kept for comparison forget what both runs agreed on.
pub(super) fn forget(trace: &mut Trace) {
    if trace.bytes() >= FORGET_AFTER {
        trace.retain_ancestors(std::iter::empty::<Cause>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::options::ClusterOptions;
    use crate::engine::random::Seed;
    use crate::engine::time::SimTime;

    /// Lets two clusters go on side by side for two seconds.
    fn race(mut first: Cluster, mut second: Cluster) -> Result<u64, Box<Difference>> {
        let limit = SimTime::from_nanos(2_000_000_000);
        let mut agreed = 0;
        loop {
            let ends = (first.step(limit), second.step(limit));
            compare(&first, &second, &mut agreed)?;
            if ends == (None, None) {
                return Ok(agreed);
            }
        }
    }

    fn cluster(seed: u64) -> Cluster {
        Cluster::new(ClusterOptions::default(), Seed(seed), true)
    }

    #[test]
    fn equal_runs_agree_on_every_event_and_others_differ_at_a_certain_one() {
        let agreed = race(cluster(1), cluster(1)).unwrap();
        assert!(agreed > 100, "{agreed}");
        let difference = race(cluster(1), cluster(2)).unwrap_err();
        assert!(difference.number > 1 && difference.number < agreed, "{difference}");
        assert_ne!(difference.events[0], difference.events[1]);
        assert!(difference.to_string().contains(" (event "), "{difference}");
    }
}
