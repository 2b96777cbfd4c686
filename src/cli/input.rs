//! From the paths that a user names to a scenario.
//!
//! One file that says it is a scenario is one; anything else are manifests, which are applied to a default cluster.

use std::fs;
use std::path::PathBuf;

use crate::api::manifest::Problem;
use crate::scenario::{self, Scenario};

/// How many nodes the cluster has to which manifests are applied, if the user does not say.
const NODES: u32 = 3;

/// What can be wrong with the input.
#[derive(Debug)]
pub(super) enum InputError {
    /// The arguments do not go together.
    Choice(String),
    /// Something is wrong with the files, or in them.
    Problems(Vec<Problem>),
}

/// The scenario that these paths are, or one that applies the manifests in them to a cluster of so many nodes.
pub(super) fn scenario(paths: &[PathBuf], nodes: Option<u32>) -> Result<Scenario, InputError> {
    // What cannot be read is told of when it is read as what it is meant to be.
    let says_so = |path: &&PathBuf| fs::read_to_string(path).is_ok_and(|text| scenario::is_scenario(&text));
    let Some(file) = paths.iter().find(says_so) else {
        return Scenario::of_manifests(paths, nodes.unwrap_or(NODES)).map_err(InputError::Problems);
    };
    if nodes.is_some() {
        let message = "--nodes is for manifests; a scenario says under cluster.nodes which nodes it has";
        return Err(InputError::Choice(message.to_owned()));
    }
    if paths.len() > 1 {
        let message = format!("{} is a scenario, which runs alone; it names its manifests itself", file.display());
        return Err(InputError::Choice(message));
    }
    Scenario::load(file).map_err(InputError::Problems)
}

/// Tells on stderr of what should be known about the files of a scenario and does no harm.
pub(super) fn warn(scenario: &Scenario) {
    for warning in &scenario.warnings {
        anstream::eprintln!("{}\n", warning.render_warning(true));
    }
}

impl InputError {
    /// Tells on stderr of everything that is wrong.
    pub fn print(&self) {
        match self {
            InputError::Choice(message) => anstream::eprintln!("\x1b[1;31merror\x1b[0m: {message}"),
            InputError::Problems(problems) => {
                for problem in problems {
                    anstream::eprintln!("{}\n", problem.render(true));
                }
                let count = problems.len();
                anstream::eprintln!("{count} {}", if count == 1 { "problem" } else { "problems" });
            }
        }
    }
}
