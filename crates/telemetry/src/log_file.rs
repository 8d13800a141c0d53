//! A file that lines are appended to, and that may be renamed meanwhile: rotation of a log. Not here: what the lines
//! are, and who asks for the file to be opened anew (`instance`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Each copy writes to the same file.
#[derive(Clone, Debug)]
pub struct LogFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Held by the log's writer while it writes, and by whoever puts another file in its place; by no worker.
    file: Mutex<File>,
}

impl LogFile {
    pub fn open(path: &Path) -> io::Result<LogFile> {
        let file = Mutex::new(append(path)?);
        Ok(LogFile(Arc::new(Inner { path: path.to_owned(), file })))
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Opens the path anew. What is written from now on is in the file that has this name now; on an error it goes on to
    /// the one that was open. May wait for the disk.
    pub fn reopen(&self) -> io::Result<()> {
        let file = append(&self.0.path)?;
        let replaced = std::mem::replace(&mut *self.file(), file);
        // Closed after the lock.
        drop(replaced);
        Ok(())
    }

    /// A file is whole whatever panicked while it was held.
    fn file(&self) -> MutexGuard<'_, File> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    /// To one file, so that no line begins in one and ends in another.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, read_to_string};

    #[test]
    fn after_a_rename_lines_go_to_the_old_file_until_the_path_is_opened_anew() {
        let folder = tempfile::tempdir().expect("temp dir");
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut file = LogFile::open(&path).expect("the file can be made");
        let other = LogFile::clone(&file);
        file.write_all(b"one\n").expect("the file takes it");
        fs::rename(&path, &old).expect("it is there");
        file.write_all(b"two\n").expect("the file takes it");
        other.reopen().expect("the path can be opened");
        file.write_all(b"three\n").expect("the file takes it");
        assert_eq!(read_to_string(&old).expect("it is there"), "one\ntwo\n");
        assert_eq!(read_to_string(&path).expect("it was made anew"), "three\n");
        // Without a rename nothing is lost either.
        other.reopen().expect("the path can be opened");
        file.write_all(b"four\n").expect("the file takes it");
        assert_eq!(read_to_string(&path).expect("it is there"), "three\nfour\n");
    }

    #[test]
    fn a_path_that_cannot_be_opened_leaves_the_file_as_it_is() {
        let folder = tempfile::tempdir().expect("temp dir");
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut file = LogFile::open(&path).expect("the file can be made");
        fs::rename(&path, &old).expect("it is there");
        fs::create_dir(&path).expect("the name is free");
        let error = file.reopen().expect_err("a folder is no file");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        file.write_all(b"one\n").expect("the old file takes it");
        assert_eq!(read_to_string(&old).expect("it is there"), "one\n");
    }
}
