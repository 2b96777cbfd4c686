//! From the paths that a user names to a scenario.
//!
//! One file that says `kind: Scenario` is a scenario; anything else are manifests, which are applied to a default cluster.
//! A folder stands for the files in it that end in .yml, .yaml or .json, in the order of their names, as with kubectl.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::api::manifest::Problem;
use crate::scenario::Scenario;

/// What can be wrong with the input.
#[derive(Debug)]
pub(super) enum InputError {
    /// A file cannot be read.
    File(PathBuf, io::Error),
    /// The files that were read do not go together, or there are none.
    Choice(String),
    /// Something is wrong in the files.
    Problems(Vec<Problem>),
}

impl InputError {
    /// Tells of everything that is wrong on stderr.
    pub fn print(&self) {
        match self {
            InputError::File(path, error) => anstream::eprintln!("\x1b[1;31merror\x1b[0m: {}: {error}", path.display()),
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

/// A file that was read.
#[derive(Debug)]
pub(super) struct TextFile {
    /// As the user named it.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Reads all files that these paths name; `-` is standard input.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<TextFile>, InputError> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(|error| InputError::File(path.clone(), error))?;
            files.push(TextFile { path: PathBuf::from("stdin"), text });
        } else if path.is_dir() {
            let found = manifests_in(path)?;
            if found.is_empty() {
                let message = format!("{}: no file in it ends in .yml, .yaml or .json", path.display());
                return Err(InputError::Choice(message));
            }
            for path in found {
                files.push(read_file(path)?);
            }
        } else {
            files.push(read_file(path.clone())?);
        }
    }
    Ok(files)
}

fn read_file(path: PathBuf) -> Result<TextFile, InputError> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok(TextFile { path, text }),
        Err(error) => Err(InputError::File(path, error)),
    }
}

fn manifests_in(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let failed = |error| InputError::File(folder.to_owned(), error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_file() && matches!(ending, Some("yml" | "yaml" | "json")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The scenario that a file is, or one that applies the manifests of the files to a cluster of so many nodes.
pub(super) fn scenario(files: &[TextFile], nodes: Option<u32>) -> Result<Scenario, InputError> {
    let scenarios = files.iter().filter(|file| is_scenario(&file.text)).count();
    match files {
        [file] if scenarios == 1 => {
            if nodes.is_some() {
                let message = "--nodes is for manifests; a scenario says which nodes it has under cluster.nodes";
                return Err(InputError::Choice(message.to_owned()));
            }
            read_scenario(file)
        }
        _ if scenarios > 0 => {
            let message = "a scenario runs alone; it names the files of its manifests itself";
            Err(InputError::Choice(message.to_owned()))
        }
        files => read_manifests(files, nodes),
    }
}

/// Whether a text is a scenario, or is at least meant to be one.
pub(super) fn is_scenario(text: &str) -> bool {
    let mut top = text.lines().filter(|line| !line.starts_with([' ', '\t', '#', '-']));
    top.any(|line| line.starts_with("apiVersion:") && line.contains("kubesim/"))
        || text.lines().any(|line| line.trim_end() == "kind: Scenario")
}
