//! The `kubesim` command.
//!
//! One file for each subcommand, all of one shape: a struct of arguments with its help, and a `main` that does the work and
//! returns the exit status. What a command has to say goes to stdout; progress and errors go to stderr. Only this floor knows
//! the wall clock, the terminal and the file system.
//!
//! - `run`, `validate`, `schema`, `explain`, `schedule`: the subcommands
//! - `input`: from paths to a scenario
//! - `progress`: the line on stderr while a run goes on
//! - `compare`: two runs in lock-step, for `run --check`

mod compare;
mod explain;
mod input;
mod progress;
mod run;
mod schedule;
mod schema;
mod validate;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    /// Everything is as it should be.
    Success,
    /// The run did not come to what was expected of it.
    Failure,
    /// The input is wrong, or the output cannot be written. Nothing was done.
    BadInput,
}

/// A whole Kubernetes cluster as one deterministic program: the same scenario, seed and version give the same bytes.
#[derive(Parser, Debug)]
#[command(name = "kubesim", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Arguments),
    Validate(validate::Arguments),
    Schema(schema::Arguments),
    Explain(explain::Arguments),
    Schedule(Box<schedule::Arguments>),
}

/// Runs the command that these words name, the first of which is the program's name.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // A terminal that is gone cannot be told of anything.
            let _ = error.print();
            return if error.use_stderr() { Status::BadInput.into() } else { Status::Success.into() };
        }
    };
    let status = match arguments.command {
        Command::Run(arguments) => run::main(&arguments),
        Command::Validate(arguments) => validate::main(&arguments),
        Command::Schema(arguments) => schema::main(&arguments),
        Command::Explain(arguments) => explain::main(&arguments),
        Command::Schedule(arguments) => schedule::main(&arguments),
    };
    status.into()
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(match status {
            Status::Success => 0,
            Status::Failure => 1,
            Status::BadInput => 2,
        })
    }
}

/// Prints to stdout, in colour where colours are wanted. Whoever reads may stop reading: that is no error.
fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Prints an error to stderr and returns the status that goes with it.
fn refuse(message: impl std::fmt::Display) -> Status {
    anstream::eprintln!("\x1b[1;31merror\x1b[0m: {message}");
    Status::BadInput
}
