//! From a scenario file to a scenario: everything that the file's format alone cannot say is checked here.
//!
//! All problems are reported at once; files that the scenario names are read through a function, so that nothing here
//! looks at a file system.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use crate::api::manifest::{Part, Problem};
use crate::api::validation::format;
use crate::cluster::options::{ClusterOptions, Limits};
use crate::engine::time::{SimDuration, SimTime};
use crate::scheduler::configuration::Configuration;

use super::actions;
use super::build::{self, Complaint};
use super::condition::Expression;
use super::file::cluster::ClusterFile;
use super::file::decode::Decoded;
use super::file::step::StepFile;
use super::file::{ExpectFile, ManifestFile, ScenarioFile, UntilFile};
use super::manifests::{self, Manifest};
use super::plan::{Action, Command, Expectation, Start, Step, Term, Until};
use super::{SETUP, SETUP_AT, Scenario};

/// How long nothing must have been written before things count as settled.
pub const QUIET: SimDuration = SimDuration::from_secs(10);
/// When a run is stuck at the latest.
pub const LIMIT: SimTime = SimTime::from_nanos(3_600_000_000_000);

/// Reads a file that a scenario names; an error says why it cannot be read.
pub type ReadFile<'r> = &'r mut dyn FnMut(&str) -> Result<String, String>;

/// Checks a file and makes a scenario of it. What decoding found to be wrong is reported with what is found here.
pub fn check(decoded: Decoded<ScenarioFile>, part: &Part, read: ReadFile<'_>) -> Result<Scenario, Vec<Problem>> {
    let Decoded { value, problems, replaced } = decoded;
    let (places, signals) = (BTreeMap::new(), Vec::new());
    let mut checker = Checker { part, read, problems, replaced, warnings: Vec::new(), places, signals };
    let scenario = value.map(|file| checker.scenario(&file));
    let Checker { mut problems, warnings, .. } = checker;
    if let Some(scenario) = scenario
        && problems.is_empty()
    {
        return Ok(Scenario { warnings, ..scenario });
    }
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    problems.dedup();
    Err(problems)
}

/// What is known so far of a file that is being checked.
pub(super) struct Checker<'c> {
    part: &'c Part,
    read: ReadFile<'c>,
    problems: Vec<Problem>,
    /// Parts of the file about which nothing more can be said.
    replaced: Vec<String>,
    warnings: Vec<Problem>,
    /// Where the step of a name stands in the plan.
    places: BTreeMap<String, usize>,
    /// The names of the signals.
    signals: Vec<String>,
}

impl Checker<'_> {
    fn scenario(&mut self, file: &ScenarioFile) -> Scenario {
        for message in format::dns_1123_label(&file.metadata.name) {
            self.wrong("metadata.name", message);
        }
        let mut complaints: Vec<Complaint> = Vec::new();
        let mut options = build::cluster_options(file, &mut complaints);
        self.complain(complaints);
        self.scheduler(&file.cluster, &mut options);
        self.signals = file.signals.iter().map(|signal| signal.name.clone()).collect();
        let setup = self.manifests(&file.manifests, "manifests", "default");
        let mut steps: Vec<Step> = Vec::new();
        if !setup.is_empty() {
            steps.push(setup_step(setup));
        }
        self.number(&file.steps, steps.len());
        for (place, step) in file.steps.iter().enumerate() {
            let path = format!("steps[{place}]");
            let start = self.start(step, &path);
            let action = actions::action(self, step, &path);
            let described = action.as_ref().map_or_else(String::new, actions::describe);
            steps.push(Step {
                name: step.name.clone(),
                label: step.label.clone().unwrap_or(described),
                is_labelled: step.label.is_some(),
                expect_failure: step.expect_failure,
                start,
                client_delay: step.client_delay.map_or(SimDuration::ZERO, |span| span.0),
                action: action.unwrap_or(Action::Note(String::new())),
            });
        }
        self.refuse_cycles(&steps);
        Scenario {
            name: file.metadata.name.clone(),
            description: file.description.clone(),
            cluster: options,
            steps,
            limit: file.until.limit.map_or(LIMIT, |limit| SimTime::ZERO + limit.0),
            until: self.until(&file.until),
            expectations: self.expectations(&file.expect),
            warnings: Vec::new(),
        }
    }

    /// Reads the scheduler's configuration. What the scenario says of the client's limits counts for more.
    fn scheduler(&mut self, file: &ClusterFile, options: &mut ClusterOptions) {
        let Some(given) = &file.scheduler_configuration else { return };
        let (path, plugins) = ("cluster.schedulerConfiguration", &options.scheduler_plugins);
        let found = match (&given.file, &given.object) {
            (Some(name), None) => match (self.read)(name) {
                Ok(text) => Configuration::read(name, &text, plugins),
                Err(why) => Err(vec![self.part.problem(&format!("{path}.file"), why, None)]),
            },
            (None, Some(object)) => {
                let object: serde_json::Map<String, Value> = object.clone().into_iter().collect();
                let part = self.part.inside(&format!("{path}.object"), Value::Object(object));
                Configuration::of_part(&part, plugins)
            }
            _ => {
                let message = "this names no configuration, or two";
                return self.expected(path, message, "expected either file or object");
            }
        };
        match found {
            Ok(configuration) => {
                if let (None, None, Some((per_second, burst))) =
                    (file.scheduler.qps, file.scheduler.burst, configuration.limits)
                {
                    options.scheduler_limits = Limits { per_second, burst };
                }
                options.scheduler = Rc::new(configuration);
            }
            Err(problems) => self.problems.extend(problems),
        }
    }

    /// Something wrong with a field.
    pub(super) fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.report(path, &message.into(), None);
    }

    fn report(&mut self, path: &str, message: &str, expected: Option<String>) {
        let is_within = |part: &String| match path.strip_prefix(part.as_str()) {
            Some(rest) => part.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']),
            None => false,
        };
        if !self.replaced.iter().any(is_within) {
            self.problems.push(self.part.problem(path, format!("{path}: {message}"), expected));
        }
    }

    /// Something wrong with a field, and what was expected.
    pub(super) fn expected(&mut self, path: &str, message: impl Into<String>, expected: impl Into<String>) {
        self.report(path, &message.into(), Some(expected.into()));
    }

    /// What was found to be wrong elsewhere.
    pub(super) fn complain(&mut self, complaints: Vec<Complaint>) {
        for (path, message, expected) in complaints {
            self.report(&path, &message, expected);
        }
    }

    /// Reads the objects of a list of manifests.
    pub(super) fn manifests(&mut self, files: &[ManifestFile], path: &str, namespace: &str) -> Vec<Manifest> {
        let mut all = Vec::new();
        for (place, file) in files.iter().enumerate() {
            let path = format!("{path}[{place}]");
            let found = match (&file.file, &file.object) {
                (Some(name), None) => match (self.read)(name) {
                    Ok(text) => manifests::read(name, &text, namespace),
                    Err(why) => Err(vec![self.part.problem(&format!("{path}.file"), why, None)]),
                },
                (None, Some(object)) => {
                    let object: serde_json::Map<String, Value> = object.clone().into_iter().collect();
                    let part = self.part.inside(&format!("{path}.object"), Value::Object(object));
                    manifests::read_part(part, namespace)
                }
                _ => {
                    self.expected(&path, "this names no object, or two", "expected either file or object");
                    continue;
                }
            };
            match found {
                Ok(found) => {
                    all.extend(found.objects);
                    self.warnings.extend(found.warnings);
                }
                Err(problems) => self.problems.extend(problems),
            }
        }
        all
    }

    /// An expression, if it is one.
    fn expression(&mut self, text: &str, path: &str) -> Option<Rc<Expression>> {
        match Expression::parse(text) {
            Ok(expression) => Some(Rc::new(expression)),
            Err(wrong) => {
                for wrong in wrong {
                    self.report(path, &wrong.message, wrong.expected);
                }
                None
            }
        }
    }

    /// Gives each step its place.
    fn number(&mut self, steps: &[StepFile], first: usize) {
        if first > 0 {
            self.places.insert(SETUP.to_owned(), 0);
        }
        for (place, step) in steps.iter().enumerate() {
            let path = format!("steps[{place}].name");
            if step.name.is_empty() || step.name.chars().any(char::is_control) {
                self.wrong(&path, "a step needs a name");
            } else if self.places.insert(step.name.clone(), first + place).is_some() {
                self.wrong(&path, format!("there are two steps called \"{}\"", step.name));
            }
        }
    }

    /// Refuses a signal that the scenario does not have.
    pub(super) fn signal(&mut self, name: &str, path: &str) {
        if !self.signals.iter().any(|known| known == name) {
            let expected = match self.signals.is_empty() {
                true => "the scenario has no signals".to_owned(),
                false => format!("expected one of: {}", self.signals.join(", ")),
            };
            self.expected(path, format!("there is no signal \"{name}\""), expected);
        }
    }

    fn place(&mut self, name: &str, path: &str) -> Option<usize> {
        let place = self.places.get(name).copied();
        if place.is_none() {
            let known: Vec<&str> = self.places.keys().map(String::as_str).collect();
            let expected = format!("expected one of: {}", known.join(", "));
            self.expected(path, format!("there is no step \"{name}\""), expected);
        }
        place
    }

    fn start(&mut self, step: &StepFile, path: &str) -> Start {
        let mut start = Start::default();
        match (&step.at, &step.after, &step.when) {
            (Some(at), None, None) => start.at = SimTime::ZERO + at.0,
            (None, None, None) | (Some(_), ..) => {
                let message = format!("the step \"{}\" must say once when it begins", step.name);
                self.expected(path, message, "expected one of at, after and when (after and when may stand together)");
            }
            (None, after, when) => {
                start.after = after.as_ref().and_then(|name| self.place(name, &format!("{path}.after")));
                start.when = when.as_ref().and_then(|text| self.expression(text, &format!("{path}.when")));
            }
        }
        if let Some(delay) = step.delay {
            start.delay = delay.0;
            if step.after.is_none() {
                self.wrong(
                    &format!("{path}.delay"),
                    "a delay counts from the end of another step, but there is no after",
                );
            }
        }
        if let Some(timeout) = step.timeout {
            start.timeout = Some(timeout.0);
            if step.when.is_none() {
                self.wrong(&format!("{path}.timeout"), "a timeout is for a condition, but there is no when");
            }
        }
        start
    }

    /// Steps that wait for one another would never begin.
    fn refuse_cycles(&mut self, steps: &[Step]) {
        let first = usize::from(steps.first().is_some_and(|step| step.name == SETUP));
        for place in 0..steps.len() {
            let mut at = place;
            for _ in 0..steps.len() {
                match steps[at].start.after {
                    Some(before) => at = before,
                    None => break,
                }
                if at == place {
                    let path = format!("steps[{}].after", place.saturating_sub(first));
                    self.wrong(&path, format!("the step \"{}\" waits for itself", steps[place].name));
                    break;
                }
            }
        }
    }

    fn until(&mut self, file: &UntilFile) -> Until {
        let given = [file.settled.is_some(), file.condition.is_some(), file.time.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            self.expected(
                "until",
                "the run can end for one reason only",
                "expected one of settled, condition and time",
            );
        }
        if let Some(text) = &file.condition
            && let Some(expression) = self.expression(text, "until.condition")
        {
            return Until::Condition(expression);
        }
        match file.time {
            Some(time) => Until::Time(SimTime::ZERO + time.0),
            None => Until::Settled(file.settled.map_or(QUIET, |quiet| quiet.0)),
        }
    }

    fn expectations(&mut self, files: &[ExpectFile]) -> Vec<Expectation> {
        let mut all: Vec<Expectation> = Vec::new();
        for (place, file) in files.iter().enumerate() {
            let path = format!("expect[{place}]");
            if file.name.is_empty() || all.iter().any(|other| other.name == file.name) {
                self.wrong(&format!("{path}.name"), "an expectation needs a name of its own");
            }
            let terms = [
                ("always", &file.always, Term::Always),
                ("never", &file.never, Term::Never),
                ("eventually", &file.eventually, Term::Eventually(file.within.map(|span| span.0))),
                ("atEnd", &file.at_end, Term::AtEnd),
            ];
            let mut given = terms.iter().filter_map(|(name, text, term)| Some((name, text.as_ref()?, term)));
            let (Some((name, text, term)), None) = (given.next(), given.next()) else {
                self.expected(
                    &path,
                    "this expects nothing, or two things",
                    "expected one of always, never, eventually and atEnd",
                );
                continue;
            };
            let is_eventual = matches!(term, Term::Eventually(_));
            for (name, is_misplaced) in [
                ("within", file.within.is_some() && !is_eventual),
                ("from", file.from.is_some() && *term == Term::AtEnd),
                ("to", file.to.is_some() && (*term == Term::AtEnd || is_eventual)),
            ] {
                if is_misplaced {
                    self.wrong(&format!("{path}.{name}"), "this has no meaning here");
                }
            }
            let from = file.from.as_ref().and_then(|step| self.place(step, &format!("{path}.from")));
            let to = file.to.as_ref().and_then(|step| self.place(step, &format!("{path}.to")));
            if let Some(condition) = self.expression(text, &format!("{path}.{name}")) {
                all.push(Expectation { name: file.name.clone(), condition, term: *term, from, to });
            }
        }
        all
    }
}

/// The step that applies what is there from the beginning.
pub(super) fn setup_step(manifests: Vec<Manifest>) -> Step {
    Step {
        name: SETUP.to_owned(),
        label: "apply the manifests".to_owned(),
        is_labelled: false,
        expect_failure: false,
        start: Start { at: SETUP_AT, ..Start::default() },
        client_delay: SimDuration::ZERO,
        action: Action::Command(Command::Apply { manifests: manifests.into(), is_patient: true }),
    }
}
