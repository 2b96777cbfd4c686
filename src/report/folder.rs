//! An output folder that is whole or absent.
//!
//! Files are written to a hidden folder beside the target, which takes the target's place when all of them are complete.
//! If anything goes wrong before, the hidden folder is removed and the target is as it was.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// The file by which a folder is known as one that a run left.
const MARK: &str = "summary.json";

/// A folder under construction.
#[derive(Debug)]
pub struct OutputFolder {
    target: PathBuf,
    partial: PathBuf,
    replaced: PathBuf,
}

impl OutputFolder {
    /// Checks that the target may be written and begins with an empty folder beside it.
    ///
    /// The target may be absent, empty, or what an earlier run left; anything else is an error, as it would be lost.
    pub fn create(target: &Path) -> io::Result<Self> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
        let Some(name) = target.file_name() else {
            return Err(invalid(format!("{} does not name a folder", target.display())));
        };
        if target.exists() && !target.is_dir() {
            return Err(invalid(format!("{} is not a folder", target.display())));
        }
        if target.is_dir() && !target.join(MARK).is_file() && fs::read_dir(target)?.next().is_some() {
            let message = "holds something else than the files of an earlier run; name another folder or empty it";
            return Err(invalid(format!("{} {message}", target.display())));
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent)?;
        let hidden = |what: &str| parent.join(format!(".{}.{what}-{}", name.to_string_lossy(), std::process::id()));
        let folder =
            OutputFolder { target: target.to_owned(), partial: hidden("partial"), replaced: hidden("replaced") };
        if folder.partial.exists() {
            fs::remove_dir_all(&folder.partial)?;
        }
        fs::create_dir(&folder.partial)?;
        Ok(folder)
    }

    /// Begins a file.
    pub fn file(&self, name: &str) -> io::Result<BufWriter<File>> {
        Ok(BufWriter::with_capacity(1 << 16, File::create(self.partial.join(name))?))
    }

    /// Puts the folder in its place.
    pub fn commit(self) -> io::Result<()> {
        if self.target.exists() {
            fs::rename(&self.target, &self.replaced)?;
            if let Err(error) = fs::rename(&self.partial, &self.target) {
                fs::rename(&self.replaced, &self.target)?;
                return Err(error);
            }
            return fs::remove_dir_all(&self.replaced);
        }
        fs::rename(&self.partial, &self.target)
    }
}

/// What was not committed leaves nothing behind.
impl Drop for OutputFolder {
    fn drop(&mut self) {
        // Nothing can be done about an error here, and after a commit there is nothing to remove.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kubesim-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_only_when_it_is_whole_and_replaces_that_of_an_earlier_run() {
        let scratch = scratch("whole");
        let target = scratch.join("out");
        for content in ["first", "second"] {
            let folder = OutputFolder::create(&target).unwrap();
            folder.file(MARK).unwrap().write_all(content.as_bytes()).unwrap();
            folder.file(content).unwrap();
            folder.commit().unwrap();
            assert_eq!(fs::read_to_string(target.join(MARK)).unwrap(), content);
            assert_eq!(names(&target), [content, MARK]);
        }
        drop(OutputFolder::create(&target).unwrap());
        assert_eq!(names(&scratch), ["out"]);
        assert_eq!(names(&target), ["second", MARK]);
        fs::remove_dir_all(scratch).unwrap();
    }

    #[test]
    fn what_is_not_a_run_is_not_replaced() {
        let scratch = scratch("foreign");
        fs::write(scratch.join("letter.txt"), "dear").unwrap();
        let refused = OutputFolder::create(&scratch).unwrap_err().to_string();
        assert!(refused.contains("holds something else"), "{refused}");
        let refused = OutputFolder::create(&scratch.join("letter.txt")).unwrap_err().to_string();
        assert!(refused.ends_with("is not a folder"), "{refused}");
        assert_eq!(names(&scratch), ["letter.txt"]);
        fs::remove_dir_all(scratch).unwrap();
    }
}
