//! The error of this crate: which file, what is wrong with it, and how to mend it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the state folder, the local CA or a serial could not be used.
#[derive(Debug)]
pub enum Error {
    /// A file or folder could not be read or written.
    Io { doing: &'static str, path: PathBuf, cause: io::Error },
    /// The path leads to something that Cutwater did not make and must not change.
    NotOurs { path: PathBuf, reason: &'static str },
    /// Another process has held the lock for too long.
    Locked { path: PathBuf },
    /// Another instance serves from the folder.
    InUse { path: PathBuf, process: Option<u32> },
    /// A file's content is damaged; without the files named Cutwater makes new ones.
    Damaged { path: PathBuf, reason: String, delete: Vec<PathBuf> },
    /// A certificate cannot be issued for these names.
    Names { names: Vec<String>, reason: String },
    /// The name of a zone cannot be kept in the file of serials.
    Zone { name: String },
    /// The cryptographic library refused.
    Crypto { doing: &'static str, cause: String },
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, cause } => {
                write!(out, "could not {doing} {}: {cause}", path.display())
            }
            Self::NotOurs { path, reason } => write!(
                out,
                "{} cannot be the state folder: {reason}. Name a new or empty folder of yours with --state",
                path.display()
            ),
            Self::Locked { path } => write!(
                out,
                "another process has held {} for ten seconds. Stop it, or use another --state folder",
                path.display()
            ),
            Self::InUse { path, process } => {
                let process = process.map(|id| format!(" (process {id})")).unwrap_or_default();
                write!(
                    out,
                    "the state folder {} is in use by another instance{process}. Stop that one, or replace it with `cutwater upgrade`",
                    path.display()
                )
            }
            Self::Damaged { path, reason, delete } => {
                let files: Vec<_> = delete.iter().map(|file| file.display().to_string()).collect();
                let files = files.join(" and ");
                write!(
                    out,
                    "{} is damaged: {reason}. Delete {files}; it is made anew",
                    path.display()
                )
            }
            Self::Names { names, reason } => {
                write!(out, "no certificate can be issued for [{}]: {reason}", names.join(", "))
            }
            Self::Zone { name } => write!(out, "{name:?} is not the name of a zone"),
            Self::Crypto { doing, cause } => write!(out, "could not {doing}: {cause}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
