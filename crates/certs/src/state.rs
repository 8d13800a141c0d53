//! The state folder: made 0700 with a `.gitignore` of its own, files replaced as a whole, one lock.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::Error;

const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const GITIGNORE: &str = "# The state of Cutwater: keys and serials, not for version control.\n*\n";

/// Held by the one instance that serves from a state folder, and freed by the system when its process dies. Processes
/// that have the same open file hold it together: a hand-over passes it on without a moment in which it is free.
#[derive(Debug)]
pub struct Claim {
    file: File,
}

impl Claim {
    /// Of a process that this one follows.
    pub fn inherited(file: File) -> Self {
        Claim { file }
    }

    /// A second descriptor of the same open file.
    pub fn try_clone(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes down who serves now, for the message to others. They are refused without it too.
    pub fn sign(&self) {
        let process = format!("{:<10}\n", std::process::id());
        let _ = self.file.write_all_at(process.as_bytes(), 0);
    }
}

/// A folder that belongs to Cutwater alone.
#[derive(Clone, Debug)]
pub struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// Opens the folder, or makes it. A folder that holds other things is refused rather than closed
    /// to others and declared ours.
    pub fn open(path: &Path) -> Result<Self, Error> {
        make_folder(path)?;
        let folder = Self { root: path.to_owned() };
        refuse_foreign(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|_| not_ours(path, "it belongs to another user"))?;
        let gitignore = path.join(".gitignore");
        if !gitignore.exists() {
            replace(&gitignore, GITIGNORE.as_bytes(), 0o600)?;
        }
        drop(folder.lock()?);
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Refused while another instance serves from the folder: two would undo each other's serials and certificates.
    pub fn claim(&self) -> Result<Claim, Error> {
        let path = self.root.join("instance");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open the instance file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = read(&path)?.and_then(|text| text.trim().parse().ok());
                return Err(Error::InUse { path: self.root.clone(), process });
            }
            Err(TryLockError::Error(cause)) => return Err(io_error("lock", &path)(cause)),
        }
        let claim = Claim { file };
        claim.sign();
        Ok(claim)
    }

    /// A folder in the state folder, made 0700 if it is absent.
    pub(crate) fn subfolder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        make_folder(&path)?;
        Ok(path)
    }

    /// Held while files change; freed on drop, and by the system when a process dies.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        let path = self.root.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open the lock file", &path))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => sleep(LOCK_PAUSE),
                Err(TryLockError::Error(cause)) => return Err(io_error("lock", &path)(cause)),
            }
        }
        Err(Error::Locked { path })
    }
}

/// The text of a file, or `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(damaged(path, "it is not text")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Replaces a file as a whole: who reads it sees the old content or the new.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.{number}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    write_new(&temporary, content, mode)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
        .map_err(io_error("write", path))
}

pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Error {
    Error::Damaged { path: path.to_owned(), reason: reason.into(), delete: vec![path.to_owned()] }
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn make_folder(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io_error("make the folder", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // Looked at after the attempt, never before it: another process may be faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(not_ours(path, "it is not a folder"))
        }
        made => made.map_err(io_error("make the folder", path)),
    }
}

/// Ours is what is empty, or carries our `.gitignore`. Another Cutwater may start at this moment: its `.gitignore` is
/// its first file, so whoever sees others looks for it once more.
fn refuse_foreign(path: &Path) -> Result<(), Error> {
    if carries_our_mark(path)? || !holds_files(path)? || carries_our_mark(path)? {
        return Ok(());
    }
    Err(not_ours(path, "it holds files that Cutwater did not write"))
}

fn carries_our_mark(path: &Path) -> Result<bool, Error> {
    match read(&path.join(".gitignore"))? {
        Some(text) if text.lines().any(|line| line == "*") => Ok(true),
        Some(_) => Err(not_ours(path, "it has a .gitignore that Cutwater did not write")),
        None => Ok(false),
    }
}

/// Beside a `.gitignore` that is being written.
fn holds_files(path: &Path) -> Result<bool, Error> {
    for entry in fs::read_dir(path).map_err(io_error("read the folder", path))? {
        let name = entry.map_err(io_error("read the folder", path))?.file_name();
        if !name.as_encoded_bytes().starts_with(b".gitignore") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn not_ours(path: &Path, reason: &'static str) -> Error {
    Error::NotOurs { path: path.to_owned(), reason }
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::Io { doing, path, cause }
}
