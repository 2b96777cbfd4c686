//! `kubesim validate`: whether files could be run, and everything that is wrong with them if not.

use std::path::PathBuf;

use clap::Args;

use super::input::{self, InputError};
use super::{Status, print, refuse};

/// Check scenario and manifest files without running anything.
///
/// Every problem is told at once, with file, line and column. The exit status is 0 if there is none and 2 otherwise.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kubesim validate scenarios/*.yml
  kubesim validate deploy/           all manifests in a folder, as kubectl apply -f takes them")]
pub(super) struct Arguments {
    /// Scenarios, manifests, or folders of manifests.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn main(arguments: &Arguments) -> Status {
    let mut problems = Vec::new();
    let mut text = String::new();
    for path in &arguments.files {
        match input::scenario(std::slice::from_ref(path), None) {
            Ok(scenario) => {
                input::warn(&scenario);
                text.push_str(&format!("{}: ok\n", path.display()));
            }
            Err(InputError::Problems(found)) => problems.extend(found),
            Err(error) => {
                error.print();
                return Status::BadInput;
            }
        }
    }
    if let Err(error) = print(&text) {
        return refuse(error);
    }
    if problems.is_empty() {
        return Status::Success;
    }
    InputError::Problems(problems).print();
    Status::BadInput
}
