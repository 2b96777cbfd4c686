//! `kubesim explain`: why something happened, from the files of a run.

use std::path::PathBuf;

use clap::Args;

use crate::report::explain::{ExplainError, Question, explain};

use super::{Status, print, refuse};

/// Tell why something happened in a run: the chain of causes, hop by hop.
///
/// Needs the folder that `kubesim run --out` left. For a Deployment the critical path of each of its rollouts is told too.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kubesim explain out pod/web-7df8dc96d-cd7ct    why it became ready, or did not
  kubesim explain out deployment/shop/web        where the time of its rollouts went
  kubesim explain out node/node-3                why it is not ready
  kubesim explain out 184220                     how an event came about that a file names")]
pub(super) struct Arguments {
    /// The folder that `kubesim run --out` left.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// KIND/NAME, KIND/NAMESPACE/NAME, or the number of an event.
    #[arg(value_name = "WHAT")]
    what: String,
    /// Sum nothing up: every message, timer and disk write is a line.
    #[arg(long)]
    all_hops: bool,
}

pub(super) fn main(arguments: &Arguments) -> Status {
    let answer =
        Question::parse(&arguments.what).and_then(|question| explain(&arguments.folder, &question, arguments.all_hops));
    let text = match answer {
        Ok(text) => text,
        Err(error @ ExplainError::File { .. }) => {
            return refuse(format!("{}: {error}", arguments.folder.display()));
        }
        Err(error) => return refuse(error),
    };
    match print(&text) {
        Ok(()) => Status::Success,
        Err(error) => refuse(error),
    }
}
