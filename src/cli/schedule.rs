//! `kubesim schedule`: where pods go in a cluster as it stands, and why.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::api::kind::Kind;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};
use crate::placement::cases;
use crate::placement::count::count;
use crate::placement::decision::{self, Decision, decide};
use crate::placement::files::{self, ClusterFiles, Wanted};
use crate::placement::snapshot::{self, Snapshot};
use crate::placement::table::{self, Extent};
use crate::runtime::span::Span;
use crate::scenario::plan::Until;
use crate::scenario::{self, Scenario};
use crate::scheduler::configuration::Configuration;
use crate::scheduler::profile::{Handle, Profile, Profiles};
use crate::scheduler::registry::Registry;

use super::input::InputError;
use super::{Status, print, refuse};

/// Say where pods go in a cluster as it stands, and why: node by node, plugin by plugin.
///
/// The cluster is what kubectl get -o yaml prints, or a scenario at a virtual time. Pods are scheduled one after the other, each
/// seeing those placed before it. Nothing runs and nothing is changed. Where the scheduler draws among equally good nodes, the
/// first by name is taken.
///
/// The exit status is 0 if every pod has a node, 1 if not, and 2 if the input is wrong.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kubectl get nodes,pods,namespaces,services,rs,sts,pv,pvc,sc,pdb,priorityclasses -A -o yaml > now.yaml
  kubesim schedule now.yaml --pod web.yaml
      where would the pods of this Deployment go, and why there?
  kubesim schedule now.yaml
      why are the pending pods pending, and what would help?
  kubesim schedule now.yaml --pod web.yaml --count
      how many pods like these fit, and why not one more?
  kubesim schedule now.yaml --pod web.yaml --config scheduler.yaml -o json
      with a KubeSchedulerConfiguration; all that the plugins say
  kubesim schedule --scenario scenarios/rolling-update.yml --at 30s --seed 7 --pod web.yaml
      in the middle of a simulated run
  kubesim schedule --cases cases.jsonl -o json
      answer recorded cases, one line each")]
pub(super) struct Arguments {
    /// Files of Kubernetes objects that are the cluster, or folders of them.
    #[arg(value_name = "FILE", required_unless_present_any = ["scenario", "cases"], conflicts_with_all = ["scenario", "cases"])]
    files: Vec<PathBuf>,
    /// Take the cluster from a run of this scenario.
    #[arg(long, value_name = "FILE", requires = "at", conflicts_with = "cases")]
    scenario: Option<PathBuf>,
    /// The virtual time at which the run is looked at, such as 30s.
    #[arg(long, value_name = "TIME", requires = "scenario", value_parser = parse_span)]
    at: Option<SimDuration>,
    /// Where all chance comes from: the run of a scenario, and equally good nodes when copies are counted.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Pods to be scheduled, or workloads whose pods are; without it, and without --pending, the pending pods of the cluster are.
    #[arg(long = "pod", value_name = "FILE", conflicts_with = "cases")]
    pods: Vec<PathBuf>,
    /// Schedule the pending pods of the cluster too, before the others.
    #[arg(long, conflicts_with_all = ["cases", "count"])]
    pending: bool,
    /// Say how many copies of the one pod fit, each placed by the scheduler's own algorithm.
    #[arg(long, requires = "pods", conflicts_with = "cases")]
    count: bool,
    /// Count no further than this.
    #[arg(long, value_name = "N", requires = "count", default_value_t = 1_000_000)]
    limit: u64,
    /// A KubeSchedulerConfiguration instead of the default profile.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer recorded cases: one JSON object a line with a cluster and pods; one line of JSON comes out for each.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// How to tell it.
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Output,
    /// At most so many rows of a table, 0 for all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
}

/// How results are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    /// Tables in which equal nodes share a row.
    Table,
    /// The same with every name, every rejecting plugin and every pod.
    Wide,
    /// Everything, as JSON.
    Json,
}

fn parse_span(text: &str) -> Result<SimDuration, String> {
    Span::from_str(text).map(|span| span.0).map_err(|error| error.to_string())
}

pub(super) fn main(arguments: &Arguments) -> Status {
    match schedule(arguments) {
        Ok(status) => status,
        Err(error) => {
            error.print();
            Status::BadInput
        }
    }
}

fn schedule(arguments: &Arguments) -> Result<Status, InputError> {
    let profiles = profiles(arguments.config.as_deref())?;
    if let Some(file) = &arguments.cases {
        return answer_cases(file, profiles.at(0));
    }
    let (cluster, mut wanted, objects) = inputs(arguments)?;
    let names: Vec<&str> = profiles.iter().map(|profile| profile.scheduler_name.as_str()).collect();
    files::admit(&mut wanted, &objects, &names).map_err(InputError::Problems)?;
    let mut snapshot = cluster;
    let profile_of = |wanted: &Wanted| profiles.at(profiles.place_for(&wanted.pod).unwrap_or(0));
    let rows = if arguments.rows == 0 { usize::MAX } else { arguments.rows };
    let extent = Extent { rows, wide: arguments.output == Output::Wide };
    if arguments.count {
        let [first, ..] = wanted.as_slice() else { return Err(nothing_to_schedule()) };
        let counted = count(profile_of(first), &mut snapshot, &first.pod, arguments.limit, Seed(arguments.seed));
        let text = match arguments.output {
            Output::Json => format!("{:#}\n", decision::count_json(&counted)),
            Output::Table | Output::Wide => table::count(&counted, extent),
        };
        return Ok(tell(&text, true));
    }
    if wanted.is_empty() {
        return Err(nothing_to_schedule());
    }
    let decisions: Vec<Decision> =
        wanted.iter().map(|wanted| decide(profile_of(wanted), &mut snapshot, &wanted.pod)).collect();
    let text = match arguments.output {
        Output::Json => format!("{:#}\n", decision::to_json(&decisions)),
        Output::Table | Output::Wide => table::decisions(&decisions, extent),
    };
    Ok(tell(&text, decisions.iter().all(|decision| decision.chosen.is_some())))
}

fn nothing_to_schedule() -> InputError {
    InputError::Choice("there is nothing to schedule: the cluster has no pending pod, and --pod names none".to_owned())
}

fn tell(text: &str, success: bool) -> Status {
    match print(text) {
        Ok(()) if success => Status::Success,
        Ok(()) => Status::Failure,
        Err(error) => refuse(error),
    }
}

/// The profiles of a configuration file, or the default one.
fn profiles(file: Option<&Path>) -> Result<Profiles, InputError> {
    let registry = Registry::in_tree();
    let Some(file) = file else { return Ok(Profiles::single(Profile::standard())) };
    let unreadable = |error: io::Error| InputError::Choice(format!("{} cannot be read: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let configuration =
        Configuration::read(&file.display().to_string(), &text, &registry).map_err(InputError::Problems)?;
    Profiles::new(&configuration.profiles, &registry, &Handle::default())
        .map_err(|wrong| InputError::Choice(format!("{}: {}", file.display(), wrong.message)))
}

/// The cluster, the pods that are to be scheduled in their order, and all objects.
fn inputs(arguments: &Arguments) -> Result<(Snapshot, Vec<Wanted>, Vec<Object>), InputError> {
    let texts = scenario::read_manifest_files(&arguments.pods).map_err(InputError::Problems)?;
    let (mut pods, owners) = files::read_pods(&texts).map_err(InputError::Problems)?;
    let takes_pending = arguments.pending || arguments.pods.is_empty();
    let (mut objects, mut pending) = match &arguments.scenario {
        Some(file) => of_scenario(file, arguments)?,
        None => of_files(&arguments.files)?,
    };
    files::refuse_existing(&pods, &objects).map_err(InputError::Problems)?;
    objects.extend(owners);
    let snapshot = Snapshot::new(objects.iter().cloned());
    if takes_pending {
        // Whoever has the higher priority goes first, of equals the one that is older, or stands first.
        pending.sort_by_key(|wanted: &Wanted| (-i64::from(wanted.pod.spec.priority), wanted.pod.meta.created));
        pending.append(&mut pods);
        pods = pending;
    }
    Ok((snapshot, pods, objects))
}

/// The objects in files, and the pending pods among them.
fn of_files(files: &[PathBuf]) -> Result<(Vec<Object>, Vec<Wanted>), InputError> {
    let texts = scenario::read_manifest_files(files).map_err(InputError::Problems)?;
    let cluster = ClusterFiles::read(&texts).map_err(InputError::Problems)?;
    for warning in &cluster.warnings {
        anstream::eprintln!("{}\n", warning.render_warning(true));
    }
    let pending = cluster.pending();
    Ok((cluster.objects.into_iter().map(|given| given.object).collect(), pending))
}

/// The objects of a run at a time, and the pending pods among them.
fn of_scenario(file: &Path, arguments: &Arguments) -> Result<(Vec<Object>, Vec<Wanted>), InputError> {
    let mut scenario = Scenario::load(file).map_err(InputError::Problems)?;
    let at = SimTime::ZERO + arguments.at.unwrap_or_default();
    (scenario.until, scenario.limit) = (Until::Time(at), scenario.limit.max(at));
    let (_, cluster) = scenario.start(arguments.seed, false).finish(&mut ());
    let kinds = Kind::all().filter(|kind| snapshot::is_read(*kind));
    let objects: Vec<Object> = kinds.flat_map(|kind| cluster.truth().list(kind)).cloned().collect();
    let pods = objects.iter().filter_map(Object::get::<Pod>).filter(|pod| pod.node.is_none() && !pod.is_terminal());
    let pending = pods.map(|pod| Wanted { pod: pod.clone(), part: None }).collect();
    Ok((objects, pending))
}

/// Answers recorded cases line by line.
fn answer_cases(file: &Path, profile: &Profile) -> Result<Status, InputError> {
    let wrong = |message: String| InputError::Choice(format!("{}: {message}", file.display()));
    let opened = fs::File::open(file).map_err(|error| wrong(error.to_string()))?;
    let mut answers: Vec<Value> = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(opened).lines()) {
        let line = line.map_err(|error| wrong(error.to_string()))?;
        if !line.trim().is_empty() {
            answers.push(cases::answer(&line, profile).map_err(|error| wrong(format!("line {number}: {error}")))?);
        }
    }
    let text: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    Ok(tell(&text, true))
}
