//! Floor 4: the folder source. [`Folder`] turns a directory into a [`Reading`], reading again only the files that
//! changed; [`Watcher`] says when to do so.
//!
//! Not here: what a manifest means (`manifest`), what to do with a reading (`cutwater up`).
#![forbid(unsafe_code)]

mod codes;
mod read;
mod watch;

pub use codes::ALL as CODES;
pub use manifest::Reading;
pub use read::{Folder, Unreadable};
pub use watch::{Changes, Watcher};
