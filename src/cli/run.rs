//! `kubesim run`: runs a scenario or manifests, shows what came of it and leaves files.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
#[expect(clippy::disallowed_types, reason = "only to pick a seed where the user gives none; it is printed")]
use std::time::SystemTime;

use clap::Args;
use serde_json::json;

use crate::engine::time::{SimDuration, SimTime};
use crate::report::record::Recorder;
use crate::report::screen::Screen;
use crate::report::summary::Summary;
use crate::report::table;
use crate::runtime::span::Span;
use crate::scenario::plan::Until;
use crate::scenario::{Run, Scenario};

use super::compare;
use super::input;
use super::progress::Progress;
use super::{Status, print, refuse};

/// Run a scenario, or apply manifests to a default cluster, and show what came of it.
///
/// The exit status is 0 if every step was done and every expectation met, 1 if not, and 2 if the input is wrong, in which case
/// nothing is run and nothing written. The same files, seed and version give the same bytes.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kubesim run scenarios/rolling-update.yml --seed 7
  kubesim run app.yaml --nodes 5
      does it settle on five nodes, and when?
  kubesim run scenarios/rolling-update.yml --seed 7 --out out
      leaves summary.json, writes.jsonl, events.csv, pods.csv and nodes.csv in out, and what
      kubesim explain reads
  kubesim run deploy/ --until 10m --out out --trace
      leaves out/trace.pftrace too, to be opened in ui.perfetto.dev
  kubesim run scenarios/node-failure.yml --check
      runs it twice: both runs must do the same, event by event")]
pub(super) struct Arguments {
    /// A scenario, or manifests and folders of them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where all chance comes from; without it one is picked and printed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Leave files in this folder: new, empty, or left by an earlier run.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also leave every event in trace.pftrace, for Perfetto.
    #[arg(long, requires = "out")]
    trace: bool,
    /// Show no progress and no wall-clock figures.
    #[arg(long, short)]
    quiet: bool,
    /// Run twice in lock-step, and tell the first event that differs, if any does.
    #[arg(long)]
    check: bool,
    /// Leave wall-clock figures in this file, as JSON.
    #[arg(long, value_name = "FILE")]
    timing: Option<PathBuf>,
    /// How many nodes manifests are applied to [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    nodes: Option<u32>,
    /// End the run at this virtual time, such as 90s or 10m, whatever the scenario says.
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    until: Option<SimDuration>,
}

fn parse_span(text: &str) -> Result<SimDuration, String> {
    Span::from_str(text).map(|span| span.0).map_err(|error| error.to_string())
}

pub(super) fn main(arguments: &Arguments) -> Status {
    let mut scenario = match input::scenario(&arguments.files, arguments.nodes) {
        Ok(scenario) => scenario,
        Err(error) => {
            error.print();
            return Status::BadInput;
        }
    };
    input::warn(&scenario);
    if let Some(until) = arguments.until {
        scenario.until = Until::Time(SimTime::ZERO + until);
        scenario.limit = scenario.limit.max(SimTime::ZERO + until);
    }
    let recorder = match &arguments.out {
        Some(folder) => Recorder::with_files(folder, scenario.cluster.epoch, arguments.trace),
        None => Ok(Recorder::new()),
    };
    match recorder {
        Ok(recorder) => run(arguments, &scenario, recorder),
        Err(error) => refuse(format!("--out: {error}")),
    }
}

/// Runs the scenario, once or twice, and tells what came of it.
fn run(arguments: &Arguments, scenario: &Scenario, mut recorder: Recorder) -> Status {
    let seed = arguments.seed.unwrap_or_else(pick_seed);
    let mut run = scenario.start(seed, recorder.wants_trace() || arguments.check);
    let mut twin = arguments.check.then(|| Twin { run: scenario.start(seed, true), agreed: 0 });
    let mut progress = Progress::new(arguments.quiet);
    loop {
        let goes_on = run.advance(&mut recorder);
        if let Some(twin) = &mut twin
            && let Err(difference) = twin.follow(&run)
        {
            progress.finish();
            anstream::eprintln!("\x1b[1;31merror\x1b[0m: {difference}");
            return Status::Failure;
        }
        if !goes_on {
            break;
        }
        if recorder.wants_trace() {
            recorder.prune(run.trace_mut());
        } else if arguments.check {
            compare::forget(run.trace_mut());
        }
        let cluster = run.cluster();
        progress.show(cluster.now(), cluster.events(), || Cow::Owned(run.awaited()));
    }
    progress.finish();
    let timing = Timing {
        wall_seconds: progress.elapsed().as_secs_f64(),
        virtual_seconds: table::seconds(run.cluster().now()),
        events: run.cluster().events(),
    };
    let status = tell(arguments, run, recorder);
    if !arguments.quiet {
        let Timing { wall_seconds, .. } = timing;
        anstream::eprintln!(
            "took {wall_seconds:.2} s of wall-clock time, {:.2} million events/s",
            timing.per_second() / 1e6
        );
    }
    if let Some(file) = &arguments.timing
        && let Err(error) = timing.write(file)
    {
        return refuse(format!("{}: {error}", file.display()));
    }
    status
}

/// Wall-clock figures: they differ from run to run, so they stay out of the run's own files.
struct Timing {
    wall_seconds: f64,
    virtual_seconds: f64,
    events: u64,
}

impl Timing {
    fn per_second(&self) -> f64 {
        self.events as f64 / self.wall_seconds.max(1e-9)
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        let figures = json!({
            "wall_seconds": self.wall_seconds,
            "virtual_seconds": self.virtual_seconds,
            "events": self.events,
            "events_per_second": self.per_second(),
            "virtual_seconds_per_second": self.virtual_seconds / self.wall_seconds.max(1e-9),
        });
        fs::write(file, format!("{figures:#}\n"))
    }
}

/// Shows the results of a run that has ended and completes its files.
fn tell(arguments: &Arguments, run: Run, mut recorder: Recorder) -> Status {
    let (outcome, mut cluster) = run.into_outcome();
    recorder.finish(outcome.ended_at);
    let summary = Summary::new(&outcome, &recorder, cluster.truth(), cluster.conflicts());
    let mut text = String::new();
    if let Some(folder) = &arguments.out {
        let mut trace = std::mem::take(cluster.trace_mut());
        if let Err(error) = recorder.save(&summary, &outcome, cluster.topology(), &mut trace) {
            return refuse(format!("{}: {error}", folder.display()));
        }
        text = format!("files in {}\n", folder.display());
    }
    if arguments.check {
        text.push_str("checked: two runs did the same, event by event\n");
    }
    if let Err(error) = print(&format!("{}{text}", Screen(&summary))) {
        return refuse(error);
    }
    if outcome.is_success() { Status::Success } else { Status::Failure }
}

/// The second of two runs that must do the same.
struct Twin {
    run: Run,
    /// How many events both had in common at the last comparison.
    agreed: u64,
}

impl Twin {
    /// Does what the first run has just done, and compares.
    fn follow(&mut self, first: &Run) -> Result<(), Box<compare::Difference>> {
        self.run.advance(&mut ());
        let result = compare::compare(first.cluster(), self.run.cluster(), &mut self.agreed);
        compare::forget(self.run.trace_mut());
        result
    }
}

/// A seed that is short enough to be typed again.
#[expect(clippy::disallowed_types, reason = "only to pick a seed where the user gives none; it is printed")]
fn pick_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) / 10 % 1_000_000
}
