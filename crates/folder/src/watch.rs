//! When to read again: inotify on every directory, a short quiet time, and a slow look while the folder is away.

use futures_util::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use model::limits;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files that were written, renamed or removed.
#[derive(Debug, Default)]
pub struct Changes {
    pub files: HashSet<PathBuf>,
}

/// Sees closes, renames and removals; not every write, so that half-written files are left alone.
pub struct Watcher {
    root: PathBuf,
    excluded: Option<PathBuf>,
    events: EventStream<[u8; 16_384]>,
    directories: HashMap<WatchDescriptor, PathBuf>,
}

/// Changes that go on without a pause are read at least this often.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// How often a folder that is away is looked for.
const AWAY_INTERVAL: Duration = Duration::from_millis(200);

impl Watcher {
    /// Must be called inside a tokio runtime. A folder that is not there yet is waited for.
    pub fn new(root: &Path, excluded: Option<&Path>) -> io::Result<Self> {
        let events = Inotify::init()?.into_event_stream([0; 16_384])?;
        let excluded = excluded.map(Path::to_path_buf);
        let mut watcher =
            Watcher { root: root.to_path_buf(), excluded, events, directories: HashMap::new() };
        watcher.watch_tree(root.to_path_buf());
        Ok(watcher)
    }

    /// Waits for changes, and then for a short time without any.
    pub async fn changed(&mut self) -> Changes {
        let mut changes = Changes::default();
        while !self.next(&mut changes).await {}
        let quiet = Duration::from_millis(limits::FOLDER_QUIET_MS);
        let collect =
            async { while tokio::time::timeout(quiet, self.next(&mut changes)).await.is_ok() {} };
        let _ = tokio::time::timeout(LONGEST_WAIT, collect).await;
        changes
    }

    /// Takes one event; true when it concerns the folder's contents.
    async fn next(&mut self, changes: &mut Changes) -> bool {
        if self.directories.is_empty() {
            tokio::time::sleep(AWAY_INTERVAL).await;
            self.watch_tree(self.root.clone());
            return !self.directories.is_empty();
        }
        let Some(Ok(event)) = self.events.next().await else {
            tokio::time::sleep(AWAY_INTERVAL).await;
            return false;
        };
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.watch_tree(self.root.clone());
            return true;
        }
        if event.mask.contains(EventMask::IGNORED) {
            self.directories.remove(&event.wd);
            return true;
        }
        let Some(directory) = self.directories.get(&event.wd) else { return false };
        let path = match &event.name {
            Some(name) => directory.join(name),
            None => directory.clone(),
        };
        if self.excluded.as_ref().is_some_and(|excluded| path.starts_with(excluded)) {
            return false;
        }
        let is_directory = event.mask.contains(EventMask::ISDIR);
        if is_directory && event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) {
            self.watch_tree(path);
        } else if event.mask.contains(EventMask::CREATE) && !path.is_symlink() {
            // A new file counts when it is closed.
            return false;
        } else if event.name.is_some() {
            changes.files.insert(path);
        }
        true
    }

    fn watch_tree(&mut self, directory: PathBuf) {
        let mut stack = vec![(directory, 0)];
        while let Some((directory, depth)) = stack.pop() {
            let is_excluded =
                self.excluded.as_ref().is_some_and(|excluded| directory.starts_with(excluded));
            if is_excluded || depth > 64 || !self.watch(&directory) {
                continue;
            }
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            stack.extend(
                entries
                    .flatten()
                    .map(|e| e.path())
                    .filter(|path| path.is_dir())
                    .map(|path| (path, depth + 1)),
            );
        }
    }

    /// True when the directory was not watched before under this path.
    fn watch(&mut self, directory: &Path) -> bool {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let Ok(descriptor) = self.events.watches().add(directory, mask) else { return false };
        self.directories
            .insert(descriptor, directory.to_path_buf())
            .is_none_or(|known| known != directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    async fn soon(watcher: &mut Watcher) -> Changes {
        tokio::time::timeout(Duration::from_secs(5), watcher.changed())
            .await
            .expect("a change is seen")
    }

    #[tokio::test]
    async fn sees_writes_renames_new_folders_and_removals() {
        let root = tempfile::tempdir().expect("temp dir");
        let state = root.path().join("state");
        fs::create_dir(&state).expect("create state folder");
        let mut watcher = Watcher::new(root.path(), Some(&state)).expect("inotify works");
        let file = root.path().join("a.yaml");
        fs::write(&file, "a").expect("write");
        assert!(soon(&mut watcher).await.files.contains(&file));
        fs::rename(&file, root.path().join("b.yaml")).expect("rename");
        assert_eq!(soon(&mut watcher).await.files.len(), 2);
        fs::create_dir(root.path().join("new")).expect("create folder");
        soon(&mut watcher).await;
        let inner = root.path().join("new/c.yaml");
        fs::write(&inner, "c").expect("write");
        assert!(soon(&mut watcher).await.files.contains(&inner));
        fs::write(state.join("x"), "x").expect("write");
        let nothing = tokio::time::timeout(Duration::from_millis(100), watcher.changed()).await;
        assert!(nothing.is_err(), "the state folder is not watched: {nothing:?}");
    }

    #[tokio::test]
    async fn a_folder_that_vanishes_and_returns_is_seen_both_times() {
        let parent = tempfile::tempdir().expect("temp dir");
        let root = parent.path().join("manifests");
        fs::create_dir(&root).expect("create folder");
        let mut watcher = Watcher::new(&root, None).expect("inotify works");
        fs::remove_dir_all(&root).expect("remove folder");
        soon(&mut watcher).await;
        fs::create_dir(&root).expect("create folder");
        soon(&mut watcher).await;
        let file = root.join("a.yaml");
        fs::write(&file, "a").expect("write");
        assert!(soon(&mut watcher).await.files.contains(&file));
    }
}
