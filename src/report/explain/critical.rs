//! Where the time of a rollout went: the chain of causes from its completion back to its beginning, summed up by what was waited for.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::engine::process::Cause;
use crate::engine::time::{SimDuration, SimTime};

use super::super::table;
use super::archive::{Archive, RolloutRecord};
use super::chain::{self, HELD_BACK};

/// Writes what a rollout was, and its critical path if it was completed.
pub fn write(archive: &Archive, rollout: &RolloutRecord, all_hops: bool, text: &mut String) {
    let began = SimTime::from_nanos((rollout.began * 1e9).round() as u64);
    let began = archive.causes.get(Cause(rollout.cause)).map_or(began, |event| event.time);
    let RolloutRecord { reason, images, result, .. } = rollout;
    let _ = writeln!(text, "\nRollout {reason} at {} ({images}): {result}", table::clock(began));
    let Some(end) = archive.causes.get(Cause(rollout.end_cause)) else { return };
    if result != "complete" {
        return;
    }
    let total = end.time.since(began);
    let _ = writeln!(text, "It took {}. On its critical path it waited for:\n", table::length(total));
    for (what, spent) in spent(archive, rollout, began) {
        let share = (spent.as_nanos() as u128 * 1000 / u128::from(total.as_nanos().max(1))) as u64;
        let _ = writeln!(text, "{:>12}  {:>3}.{} %  {what}", table::length(spent), share / 10, share % 10);
    }
    let _ = writeln!(text, "\nThe critical path:\n");
    chain::write(archive, Cause(rollout.end_cause), began, all_hops, text);
}

/// What was waited for on the way, longest first.
fn spent(archive: &Archive, rollout: &RolloutRecord, began: SimTime) -> Vec<(String, SimDuration)> {
    let mut sums: BTreeMap<String, SimDuration> = BTreeMap::new();
    for (event, delay) in chain::delays(archive, Cause(rollout.end_cause)) {
        if event.time <= began {
            break;
        }
        // What began before the rollout counts only from its beginning.
        let delay = SimDuration::from_nanos(delay.as_nanos().min(event.time.since(began).as_nanos()));
        let process = archive.causes.process(event);
        let component = process.split('/').next().unwrap_or(process);
        let what = match archive.causes.kind(event) {
            "timer" => format!("timers of {component}"),
            "container runtime" => "container runtimes: pulls, starts, probes, ends".to_owned(),
            "written to disk" => "disks of etcd".to_owned(),
            "Raft message" | "etcd request" | "etcd answer" | "etcd watch events" => {
                "network and work of etcd".to_owned()
            }
            "API request" if delay >= HELD_BACK => {
                let from = usize::try_from(event.operands[0]).unwrap_or(usize::MAX);
                let sender = archive.causes.process_name(from);
                let sender = sender.split('/').next().unwrap_or(sender);
                format!("{sender}, before it asked for a write: minReadySeconds, back-off, rate limits")
            }
            "API request" | "API answer" | "watch events" => "network and work of API servers".to_owned(),
            other => other.to_owned(),
        };
        let sum = sums.entry(what).or_default();
        *sum += delay;
    }
    let mut sums: Vec<(String, SimDuration)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, spent)| std::cmp::Reverse(*spent));
    sums
}
