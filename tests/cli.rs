//! Stories about the command line: each file in tests/cli is a script of commands, each followed by all that it printed and
//! its exit status. Set UPDATE_EXPECT=1 to write what happens into the files, and review the difference.
//!
//! A story begins in a folder of its own that holds a copy of tests/cli/files. Commands:
//!
//! - `$ kubesim WORD...`: the command itself
//! - `$ status kubesim WORD...`: the same, of which only the exit status is told
//! - `$ ls [FOLDER]`: the names in a folder, hidden ones too
//! - `$ head N FILE`: the first lines of a file
//! - `$ same FILE FILE`: whether two files have the same bytes
//!
//! Lines that begin with `#` tell the story and stay.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "txt")).collect();
    files.sort();
    files
}

/// A fresh folder with the files that stories use.
fn stage(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kubesim-cli-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/files"), &folder);
    folder
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn kubesim(words: &[&str], stage: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubesim"));
    let output = command.args(words).current_dir(stage).env("NO_COLOR", "1").output().unwrap();
    let mut told = String::from_utf8(output.stdout).unwrap();
    if !output.stderr.is_empty() {
        told.push_str("-- stderr\n");
        told.push_str(&String::from_utf8(output.stderr).unwrap());
    }
    if !told.is_empty() && !told.ends_with('\n') {
        told.push('\n');
    }
    writeln!(told, "-- status {}", output.status.code().unwrap_or(-1)).unwrap();
    told.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

fn list(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return "there is no such folder\n".to_owned() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned() + "\n").collect();
    names.sort();
    names.concat()
}

fn run(line: &str, stage: &Path) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["kubesim", rest @ ..] => kubesim(rest, stage),
        ["status", "kubesim", rest @ ..] => {
            let told = kubesim(rest, stage);
            told.lines().filter(|line| line.starts_with("-- status")).flat_map(|line| [line, "\n"]).collect()
        }
        ["ls"] => list(stage),
        ["ls", folder] => list(&stage.join(folder)),
        ["head", count, file] => {
            let text = fs::read_to_string(stage.join(file)).unwrap();
            text.lines().take(count.parse().unwrap()).flat_map(|line| [line, "\n"]).collect()
        }
        ["same", first, second] => {
            let same = fs::read(stage.join(first)).unwrap() == fs::read(stage.join(second)).unwrap();
            if same { "the same\n".to_owned() } else { "different\n".to_owned() }
        }
        _ => panic!("not a command: {line}"),
    }
}

/// Plays a story and gives its file as it should be: what is told by `#` and commands stays, the rest is what happened.
fn play(script: &str, stage: &Path) -> String {
    let mut told = String::new();
    for line in script.lines() {
        let follows_remark = told.lines().last().is_none_or(|last| last.starts_with('#'));
        if line.starts_with('#') {
            let gap = if follows_remark { "" } else { "\n" };
            writeln!(told, "{gap}{line}").unwrap();
        } else if let Some(command) = line.strip_prefix("$ ") {
            let gap = if follows_remark { "" } else { "\n" };
            write!(told, "{gap}{line}\n{}", run(command, stage)).unwrap();
        }
    }
    told
}

#[test]
fn the_command_line_behaves_as_told() {
    let mut wrong = Vec::new();
    for file in stories() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let stage = stage(&name);
        let expected = fs::read_to_string(&file).unwrap();
        let told = play(&expected, &stage);
        fs::remove_dir_all(&stage).unwrap();
        if told != expected {
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                fs::write(&file, told).unwrap();
            } else {
                wrong.push(format!("== {name}\n{}", first_difference(&expected, &told)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nset UPDATE_EXPECT=1 to accept", wrong.join("\n"));
}

fn first_difference(expected: &str, told: &str) -> String {
    let mut pairs = (1..).zip(expected.lines().zip(told.lines()));
    match pairs.find(|(_, (expected, told))| expected != told) {
        Some((number, (expected, told))) => format!("line {number}\n  expected: {expected}\n  told:     {told}"),
        None => format!("{} lines expected, {} told", expected.lines().count(), told.lines().count()),
    }
}

#[test]
fn there_are_stories() {
    assert!(stories().len() >= 3);
}
