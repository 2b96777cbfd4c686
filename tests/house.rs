//! The rules of the house: who may import whom, and what no file may do.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up. Folders of one floor do not know one another.
const FLOORS: &[&[&str]] = &[
    &["engine"],
    &["api"],
    &["etcd"],
    &["apiserver"],
    &["client"],
    &["runtime"],
    &["scheduler", "controllers", "kubelet"],
    &["cluster"],
    &["scenario"],
    &["placement", "report"],
    &["cli"],
];

fn floor(folder: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&folder))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The folders that a line of code names as `crate::folder` or `kubesim::folder`.
fn imports(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for prefix in ["crate::", "kubesim::"] {
        for (start, _) in line.match_indices(prefix) {
            let rest = &line[start + prefix.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push(&rest[..end]);
        }
    }
    found
}

#[test]
fn folders_import_only_from_floors_below() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut complaints = Vec::new();
    let mut checked = 0;
    for file in files {
        let relative = file.strip_prefix(&source).unwrap();
        let folder = relative.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
        let Some(own) = floor(&folder) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for imported in imports(line) {
                checked += 1;
                let allowed = imported == folder || floor(imported).is_none_or(|other| other < own);
                if !allowed {
                    complaints.push(format!("{}:{}: {}", relative.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(checked > 50, "the check must see imports");
    assert!(complaints.is_empty(), "imports that go up or across the house:\n{}", complaints.join("\n"));
}

#[test]
fn every_folder_of_the_source_stands_on_a_floor() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!path.is_dir() || floor(name).is_some(), "{name} stands on no floor: add it to FLOORS");
    }
}
