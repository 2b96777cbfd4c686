//! `kubesim schema`: the formats that kubesim reads, as JSON Schema.

use clap::{Args, ValueEnum};

use crate::scenario;

use super::{Status, print, refuse};

/// Print the JSON Schema of a format, for editors and other programs.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kubesim schema scenario > scenario.schema.json

An editor that knows YAML schemas completes and checks scenario files once they begin with
  # yaml-language-server: $schema=scenario.schema.json")]
pub(super) struct Arguments {
    /// Which format.
    #[arg(value_name = "FORMAT")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// Scenario files.
    Scenario,
}

pub(super) fn main(arguments: &Arguments) -> Status {
    let schema = match arguments.format {
        Format::Scenario => scenario::file::schema(),
    };
    match print(&format!("{schema:#}\n")) {
        Ok(()) => Status::Success,
        Err(error) => refuse(error),
    }
}
