//! When to read again: inotify on every directory, a short quiet time, and a slow look at the folder itself, which may
//! be replaced or away.

use crate::read::{is_hidden, is_manifest};
use futures_util::StreamExt;
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use model::limits;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tokio::time::Interval;

/// Files that were written, renamed or removed.
#[derive(Debug, Default)]
pub struct Changes {
    pub files: HashSet<PathBuf>,
}

/// Sees closes, renames and removals; not every write, so that half-written files are left alone.
pub struct Watcher {
    root: PathBuf,
    /// The state folder, by its real path.
    excluded: Option<PathBuf>,
    tree: Tree,
    look: Interval,
    /// Seen and not yet told: kept here, so that a caller who stops waiting loses nothing.
    pending: Option<Changes>,
}

/// Watches on the directories as they were when it was made. A change of directories makes a new one: nothing is left
/// behind on a directory that was moved away.
struct Tree {
    events: EventStream<[u8; 16_384]>,
    directories: HashMap<WatchDescriptor, PathBuf>,
    /// Names that a symbolic link of the folder leads over, wherever they lie, with the links that do.
    hops: HashMap<(WatchDescriptor, OsString), Vec<PathBuf>>,
    /// Device and inode of the root, which a rename or a symbolic link may replace; none while it is away.
    identity: Option<(u64, u64)>,
}

/// What an event means for the folder.
enum Meaning {
    /// Manifests, or links that lead to some; often none.
    Files(Vec<PathBuf>),
    /// Directories came, went or moved.
    Structure,
}

/// Changes that go on without a pause are read at least this often.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// How often it is looked whether the folder is still the one that is watched.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const MAX_DEPTH: usize = 64;
/// Symbolic links that one link leads over: Linux follows no more.
const MAX_HOPS: usize = 40;

impl Watcher {
    /// Must be called inside a tokio runtime. A folder that is not there yet is waited for.
    pub fn new(root: &Path, excluded: Option<&Path>) -> io::Result<Self> {
        let excluded =
            excluded.map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()));
        let tree = Tree::new(root, excluded.as_deref())?;
        let look = tokio::time::interval(LOOK_INTERVAL);
        Ok(Watcher { root: root.to_path_buf(), excluded, tree, look, pending: None })
    }

    /// Waits for changes, and then for a short time without any.
    pub async fn changed(&mut self) -> Changes {
        while self.pending.is_none() {
            self.next().await;
        }
        let quiet = Duration::from_millis(limits::FOLDER_QUIET_MS);
        let collect = async { while tokio::time::timeout(quiet, self.next()).await.is_ok() {} };
        let _ = tokio::time::timeout(LONGEST_WAIT, collect).await;
        self.pending.take().unwrap_or_default()
    }

    /// Takes one event, or looks at the folder when it is time to.
    async fn next(&mut self) {
        let event = tokio::select! {
            event = self.tree.events.next() => event,
            _ = self.look.tick() => {
                if identity(&self.root) != self.tree.identity {
                    self.renew();
                }
                return;
            }
        };
        let meaning = match event {
            Some(Ok(event)) => self.tree.meaning(&event),
            // The queue's own end cannot come while the stream is held; a failed read is looked at again.
            Some(Err(_)) | None => Meaning::Structure,
        };
        match meaning {
            Meaning::Files(files) if files.is_empty() => {}
            Meaning::Files(files) => self.pending.get_or_insert_default().files.extend(files),
            Meaning::Structure => self.renew(),
        }
    }

    /// Watches what is there now. Where the system refuses, the earlier watches stay.
    fn renew(&mut self) {
        self.pending.get_or_insert_default();
        if let Ok(tree) = Tree::new(&self.root, self.excluded.as_deref()) {
            self.tree = tree;
        }
    }
}

impl Tree {
    fn new(root: &Path, excluded: Option<&Path>) -> io::Result<Self> {
        let events = Inotify::init()?.into_event_stream([0; 16_384])?;
        let (directories, hops) = (HashMap::new(), HashMap::new());
        let mut tree = Tree { events, directories, hops, identity: identity(root) };
        let mut stack = vec![(root.to_path_buf(), 0)];
        while let Some((directory, depth)) = stack.pop() {
            let is_excluded =
                || excluded.is_some() && fs::canonicalize(&directory).ok().as_deref() == excluded;
            if depth > MAX_DEPTH || is_excluded() || !tree.watch(&directory) {
                continue;
            }
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for path in entries.flatten().map(|entry| entry.path()).filter(|p| !is_hidden(p)) {
                if path.is_symlink() && (is_manifest(&path) || !path.is_file()) {
                    tree.watch_link(&path);
                }
                if path.is_dir() {
                    stack.push((path, depth + 1));
                }
            }
        }
        Ok(tree)
    }

    /// False when it cannot be watched, or is watched already (a link that leads back).
    fn watch(&mut self, directory: &Path) -> bool {
        let Some(descriptor) = self.add(directory) else { return false };
        self.directories.insert(descriptor, directory.to_path_buf()).is_none()
    }

    /// What a link leads to lies in other folders, and may be written, replaced or removed there.
    fn watch_link(&mut self, link: &Path) {
        for (directory, name) in hops(link) {
            if let Some(descriptor) = self.add(&directory) {
                self.hops.entry((descriptor, name)).or_default().push(link.to_path_buf());
            }
        }
    }

    fn add(&mut self, directory: &Path) -> Option<WatchDescriptor> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        self.events.watches().add(directory, mask).ok()
    }

    fn meaning(&self, event: &Event<OsString>) -> Meaning {
        let is = |mask: EventMask| event.mask.intersects(mask);
        if is(EventMask::Q_OVERFLOW
            | EventMask::IGNORED
            | EventMask::DELETE_SELF
            | EventMask::MOVE_SELF)
        {
            return Meaning::Structure;
        }
        let Some(name) = &event.name else { return Meaning::none() };
        let through_links = match self.hops.get(&(event.wd.clone(), name.clone())) {
            Some(links) => through_links(event, links),
            None => Meaning::none(),
        };
        match self.directories.get(&event.wd) {
            Some(directory) => in_folder(event, directory, name).and(through_links),
            None => through_links,
        }
    }
}

/// An event of a watched directory of the folder.
fn in_folder(event: &Event<OsString>, directory: &Path, name: &OsStr) -> Meaning {
    let path = directory.join(name);
    // Kubernetes swaps the files of a mounted ConfigMap by renaming this link.
    if is_hidden(&path) && name != "..data" {
        return Meaning::none();
    }
    if event.mask.contains(EventMask::ISDIR) {
        return if is_moved(event) { Meaning::Structure } else { Meaning::Files(vec![path]) };
    }
    if path.is_symlink() || name == "..data" {
        return Meaning::Structure;
    }
    // A new file counts when it is closed; a hard link is whole at once, and so is what is no file.
    let is_unfinished = event.mask.contains(EventMask::CREATE)
        && !fs::metadata(&path).is_ok_and(|metadata| metadata.nlink() > 1 || !metadata.is_file());
    if !is_manifest(&path) || is_unfinished {
        return Meaning::none();
    }
    Meaning::Files(vec![path])
}

/// An event of a name that links of the folder lead over: what is moved, made or removed may turn the way. A file
/// that is made there is told of again when it is closed.
fn through_links(event: &Event<OsString>, links: &[PathBuf]) -> Meaning {
    let is_new_file = event.mask.contains(EventMask::CREATE)
        && links.iter().all(|link| fs::metadata(link).is_ok_and(|metadata| metadata.is_file()));
    match is_moved(event) {
        true if !is_new_file => Meaning::Structure,
        true => Meaning::none(),
        false => Meaning::Files(links.to_vec()),
    }
}

fn is_moved(event: &Event<OsString>) -> bool {
    event.mask.intersects(
        EventMask::CREATE | EventMask::DELETE | EventMask::MOVED_FROM | EventMask::MOVED_TO,
    )
}

impl Meaning {
    const fn none() -> Self {
        Meaning::Files(Vec::new())
    }

    fn and(self, other: Meaning) -> Meaning {
        match (self, other) {
            (Meaning::Files(mut files), Meaning::Files(more)) => {
                files.extend(more);
                Meaning::Files(files)
            }
            _ => Meaning::Structure,
        }
    }
}

/// The names that a symbolic link leads over, each with the directory it lies in: the link itself, links on the way,
/// and what it ends at, or the first name that is not there.
fn hops(link: &Path) -> Vec<(PathBuf, OsString)> {
    let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else { return Vec::new() };
    let Ok(mut directory) = fs::canonicalize(parent) else { return Vec::new() };
    let mut rest = VecDeque::from([name.to_owned()]);
    let mut hops = Vec::new();
    while let Some(name) = rest.pop_front() {
        match Path::new(&name).components().next() {
            Some(Component::Normal(_)) => {}
            Some(Component::ParentDir) => {
                directory.pop();
                continue;
            }
            Some(Component::RootDir) => {
                directory = PathBuf::from("/");
                continue;
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => continue,
        }
        let path = directory.join(&name);
        let target = fs::read_link(&path);
        let is_end = rest.is_empty() || !path.exists();
        if target.is_ok() || is_end {
            hops.push((directory.clone(), name));
        }
        match target {
            Ok(target) => {
                for component in target.components().rev() {
                    rest.push_front(component.as_os_str().to_owned());
                }
            }
            Err(_) if is_end => break,
            Err(_) => directory = path,
        }
        if hops.len() > MAX_HOPS {
            break;
        }
    }
    hops
}

fn identity(root: &Path) -> Option<(u64, u64)> {
    fs::metadata(root).ok().map(|metadata| (metadata.dev(), metadata.ino()))
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
        fs::write(root.path().join(".b.yaml.swp"), "x").expect("write");
        fs::write(root.path().join("notes.txt"), "x").expect("write");
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

    /// Writes a file in the folder until it is seen: a replaced folder is noticed by a look, not by an event.
    async fn is_watched(watcher: &mut Watcher, file: &Path) -> bool {
        for round in 0..50 {
            fs::write(file, format!("{round}")).expect("write");
            let seen = tokio::time::timeout(Duration::from_millis(100), watcher.changed()).await;
            if seen.is_ok_and(|changes| changes.files.contains(file)) {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_followed() {
        let parent = tempfile::tempdir().expect("temp dir");
        let (root, old, new) =
            (parent.path().join("now"), parent.path().join("old"), parent.path().join("new"));
        fs::create_dir(&root).expect("create folder");
        fs::create_dir(&new).expect("create folder");
        let mut watcher = Watcher::new(&root, None).expect("inotify works");
        fs::rename(&root, &old).expect("rename");
        fs::rename(&new, &root).expect("rename");
        assert!(is_watched(&mut watcher, &root.join("a.yaml")).await);
        fs::write(old.join("a.yaml"), "x").expect("write");
        let nothing = tokio::time::timeout(Duration::from_millis(100), watcher.changed()).await;
        assert!(nothing.is_err(), "the folder that was moved away is not watched: {nothing:?}");
    }

    #[tokio::test]
    async fn a_symbolic_link_that_is_turned_is_followed() {
        let parent = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| parent.path().join(name);
        fs::create_dir(at("1")).expect("create folder");
        fs::create_dir(at("2")).expect("create folder");
        std::os::unix::fs::symlink("1", at("current")).expect("symlink");
        let mut watcher = Watcher::new(&at("current"), None).expect("inotify works");
        std::os::unix::fs::symlink("2", at("next")).expect("symlink");
        fs::rename(at("next"), at("current")).expect("rename");
        assert!(is_watched(&mut watcher, &at("current").join("a.yaml")).await);
    }

    #[tokio::test]
    async fn a_caller_who_stops_waiting_loses_nothing() {
        let root = tempfile::tempdir().expect("temp dir");
        let mut watcher = Watcher::new(root.path(), None).expect("inotify works");
        let file = root.path().join("a.yaml");
        fs::write(&file, "a").expect("write");
        while watcher.pending.is_none() {
            // Shorter than the quiet time, so that each wait is given up on the way.
            let wait = tokio::time::timeout(Duration::from_millis(1), watcher.changed());
            if let Ok(changes) = wait.await {
                // A busy machine: both times were over before anybody looked.
                assert!(changes.files.contains(&file));
                return;
            }
        }
        assert!(soon(&mut watcher).await.files.contains(&file));
    }

    async fn nothing_more(watcher: &mut Watcher) {
        while tokio::time::timeout(Duration::from_millis(150), watcher.changed()).await.is_ok() {}
    }

    fn link(to: impl AsRef<Path>, at: impl AsRef<Path>) {
        std::os::unix::fs::symlink(to, at).expect("symlink");
    }

    #[tokio::test]
    async fn a_link_to_a_folder_that_is_removed_is_seen() {
        let (root, other) =
            (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
        link(other.path(), root.path().join("linked"));
        let mut watcher = Watcher::new(root.path(), None).expect("inotify works");
        fs::remove_file(root.path().join("linked")).expect("remove");
        soon(&mut watcher).await;
    }

    #[tokio::test]
    async fn what_lies_behind_a_link_to_a_file_is_followed() {
        let (root, other) =
            (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
        let at = |name: &str| other.path().join(name);
        for folder in ["1", "2"] {
            fs::create_dir(at(folder)).expect("create folder");
            fs::write(at(folder).join("a.yaml"), folder).expect("write");
        }
        link("1", at("current"));
        let (linked, plain) = (root.path().join("a.yaml"), root.path().join("b.yaml"));
        link(at("current/a.yaml"), &linked);
        fs::write(&plain, "b").expect("write");
        link("b.yaml", root.path().join("c.yaml"));
        let mut watcher = Watcher::new(root.path(), None).expect("inotify works");

        fs::write(at("1/a.yaml"), "written in place").expect("write");
        assert!(soon(&mut watcher).await.files.contains(&linked));
        fs::write(&plain, "written").expect("write");
        let changes = soon(&mut watcher).await.files;
        assert!(changes.contains(&plain) && changes.contains(&root.path().join("c.yaml")));

        nothing_more(&mut watcher).await;
        fs::write(at("1/new"), "replaced").expect("write");
        fs::rename(at("1/new"), at("1/a.yaml")).expect("rename");
        soon(&mut watcher).await;
        nothing_more(&mut watcher).await;
        link("2", at("next"));
        fs::rename(at("next"), at("current")).expect("rename");
        soon(&mut watcher).await;
        nothing_more(&mut watcher).await;
        fs::remove_file(at("2/a.yaml")).expect("remove");
        soon(&mut watcher).await;
        nothing_more(&mut watcher).await;
        fs::write(at("2/a.yaml"), "back").expect("write");
        assert!(soon(&mut watcher).await.files.contains(&linked));
    }

    #[tokio::test]
    async fn what_is_no_file_is_seen_at_once() {
        let root = tempfile::tempdir().expect("temp dir");
        let mut watcher = Watcher::new(root.path(), None).expect("inotify works");
        let fifo = root.path().join("x.yaml");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
        assert!(made.success());
        assert!(soon(&mut watcher).await.files.contains(&fifo));
        let mut folder = crate::Folder::new(root.path(), None);
        let reading = folder.read(&HashSet::from([fifo])).expect("the folder is there");
        assert_eq!(reading.diagnostics[0].code, "unreadable-file");
    }
}
