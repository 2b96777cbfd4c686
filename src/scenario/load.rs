//! Reading scenarios: from texts, and from the file system at the edge of the program.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::manifest::{self, Part, Problem, Source};
use crate::api::yaml::Mark;

use super::Scenario;
use super::build;
use super::check::{self, LIMIT, QUIET, ReadFile};
use super::file::{self, decode};
use super::manifests;
use super::plan::Until;

/// The JSON Schema of scenario files.
pub fn schema() -> Value {
    file::schema()
}

/// Whether a text is meant to be a scenario rather than a manifest.
pub fn is_scenario(text: &str) -> bool {
    let names_it = |line: &str| {
        let line = line.trim_start_matches(['-', '{', ' ', '"', '\'']);
        line.strip_prefix("apiVersion").is_some_and(|rest| rest.contains("kubesim/"))
            || line
                .strip_prefix("kind")
                .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ':', ' ']).starts_with("Scenario"))
    };
    text.lines().any(names_it)
}

impl Scenario {
    /// Reads a scenario from a text. `file` is what the user calls it; files that it names are read through `read`.
    pub fn read(file: &str, text: &str, read: ReadFile<'_>) -> Result<Scenario, Vec<Problem>> {
        let mut parts = manifest::read_parts(file, text)?;
        let whole = Source::new(file, text);
        let part: Part = match parts.len() {
            1 => parts.remove(0),
            0 => return Err(vec![whole.problem(Mark::default(), "the file is empty", expected_scenario())]),
            count => {
                let message = format!("the file holds {count} documents");
                return Err(vec![whole.problem(Mark::default(), message, expected_scenario())]);
            }
        };
        if !part.value.is_object() {
            return Err(vec![part.problem("", "the file is no mapping", expected_scenario())]);
        }
        check::check(decode::decode(&part), &part, read)
    }

    /// Reads a scenario from a file; the files that it names are looked for beside it.
    pub fn load(path: &Path) -> Result<Scenario, Vec<Problem>> {
        let name = path.display().to_string();
        let text = read_text(path).map_err(|why| vec![unreadable(&name, why)])?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Scenario::read(&name, &text, &mut |file| read_text(&folder.join(file)))
    }

    /// A scenario that applies the manifests in files and folders to a cluster of so many like nodes, and ends when
    /// everything has settled.
    pub fn of_manifests(paths: &[PathBuf], nodes: u32) -> Result<Scenario, Vec<Problem>> {
        let (mut objects, mut warnings, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for (name, text) in read_manifest_files(paths)? {
            match manifests::read(&name, &text, "default") {
                Ok(found) => {
                    objects.extend(found.objects);
                    warnings.extend(found.warnings);
                }
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let first = paths.first().and_then(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into_owned());
        Ok(Scenario {
            name: first.unwrap_or_else(|| "manifests".to_owned()),
            description: String::new(),
            cluster: build::plain_cluster(nodes),
            steps: vec![check::setup_step(objects)],
            until: Until::Settled(QUIET),
            limit: LIMIT,
            expectations: Vec::new(),
            warnings,
        })
    }
}

/// The names and texts of the manifest files that these paths are, or that are in the folders that they are.
pub fn read_manifest_files(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        let files = manifest_files(path).map_err(|why| vec![unreadable(&path.display().to_string(), why)])?;
        if files.is_empty() {
            let why = "the folder holds no file that ends in .yaml, .yml or .json".to_owned();
            problems.push(unreadable(&path.display().to_string(), why));
        }
        for file in files {
            let name = file.display().to_string();
            match read_text(&file) {
                Ok(text) => texts.push((name, text)),
                Err(why) => problems.push(unreadable(&name, why)),
            }
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

fn expected_scenario() -> Option<String> {
    Some("expected one scenario: apiVersion: kubesim/v1alpha1, kind: Scenario".to_owned())
}

/// A problem with a file as a whole.
fn unreadable(file: &str, why: String) -> Problem {
    Source::new(file, "").problem(Mark::default(), why, None)
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{} is no text in UTF-8", path.display()))
}

/// The file itself, or the manifests in a folder by name, as `kubectl apply -f` takes them.
fn manifest_files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let is_manifest =
            file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json");
        if is_manifest && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
