//! Reading a directory. Every file keeps what was read of it until its metadata changes or a watcher names it.

use crate::codes;
use manifest::{FileRead, Reading};
use model::{Code, Diagnostic, Place, Text, limits};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of manifests.
pub struct Folder {
    root: PathBuf,
    /// Left out: the state folder, when it lies inside.
    excluded: Option<PathBuf>,
    files: BTreeMap<PathBuf, CachedFile>,
}

struct CachedFile {
    stamp: Stamp,
    name: Text,
    text: Text,
    read: Arc<FileRead>,
}

/// What tells an edited file from the one that was read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The directory itself could not be read.
#[derive(Debug)]
pub struct Unreadable {
    pub path: PathBuf,
    pub error: io::Error,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hint = match self.error.kind() {
            io::ErrorKind::NotFound => "give the path of a folder that exists",
            io::ErrorKind::NotADirectory => "give the folder, not a file in it",
            io::ErrorKind::PermissionDenied => "mend its permissions",
            _ => "mend that, then try again",
        };
        write!(f, "folder {} cannot be read: {}; {hint}", self.path.display(), self.error)
    }
}

impl std::error::Error for Unreadable {}

impl Folder {
    pub fn new(root: impl Into<PathBuf>, excluded: Option<&Path>) -> Self {
        let excluded =
            excluded.map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()));
        Folder { root: root.into(), excluded, files: BTreeMap::new() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files of the last reading.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Reads what is new or changed. `dirty` names files to read again whatever their metadata say.
    pub fn read(&mut self, dirty: &HashSet<PathBuf>) -> Result<Reading, Unreadable> {
        let mut listing = Listing::new(self.excluded.clone(), limits::FOLDER_FILES);
        listing.walk(&self.root).map_err(|error| Unreadable { path: self.root.clone(), error })?;
        let mut diagnostics = std::mem::take(&mut listing.diagnostics);
        let mut files = BTreeMap::new();
        for (path, stamp) in listing.files {
            match self.files.remove(&path) {
                Some(cached) if cached.stamp == stamp && !dirty.contains(&path) => {
                    files.insert(path, cached);
                }
                _ => match read_file(&self.root, &path, stamp) {
                    Ok(file) => {
                        files.insert(path, file);
                    }
                    Err(diagnostic) => diagnostics.push(*diagnostic),
                },
            }
        }
        self.files = files;
        for diagnostic in &mut diagnostics {
            self.relative(diagnostic);
        }
        let parts: Vec<_> = self
            .files
            .values()
            .map(|file| (file.name.clone(), file.text.clone(), Arc::clone(&file.read)))
            .collect();
        let mut reading = manifest::assemble(&parts);
        reading.diagnostics.extend(diagnostics);
        model::diagnostic::sort(&mut reading.diagnostics);
        Ok(reading)
    }

    fn relative(&self, diagnostic: &mut Diagnostic) {
        if let Some(place) = &mut diagnostic.place {
            let path = Path::new(&*place.file);
            if let Ok(relative) = path.strip_prefix(&self.root) {
                place.file = relative.to_string_lossy().into();
            }
        }
    }
}

/// Manifest files below a directory, with what was wrong on the way.
struct Listing {
    excluded: Option<PathBuf>,
    max_files: usize,
    files: BTreeMap<PathBuf, Stamp>,
    /// More files were there than may be.
    is_full: bool,
    diagnostics: Vec<Diagnostic>,
    /// Device and inode of every directory so far. A directory has one name and any number of symbolic links: it is
    /// read where it is met first, so that links can lead neither back nor to the same place over and over.
    seen: HashSet<(u64, u64)>,
    /// Read once everything else was, so that a directory goes by its own name rather than by that of a link to it.
    links: VecDeque<(PathBuf, usize)>,
}

/// Directories below one another.
const MAX_DEPTH: usize = 64;

impl Listing {
    fn new(excluded: Option<PathBuf>, max_files: usize) -> Self {
        Listing {
            excluded,
            max_files,
            files: BTreeMap::new(),
            is_full: false,
            diagnostics: Vec::new(),
            seen: HashSet::new(),
            links: VecDeque::new(),
        }
    }

    fn walk(&mut self, root: &Path) -> io::Result<()> {
        self.directory(root, 0)?;
        while let Some((path, depth)) = self.links.pop_front() {
            self.below(&path, depth);
        }
        Ok(())
    }

    fn directory(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        let metadata = fs::metadata(directory)?;
        let identity = (metadata.dev(), metadata.ino());
        if self.seen.contains(&identity) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("it lies more than {MAX_DEPTH} folders deep")));
        }
        self.seen.insert(identity);
        let mut entries: Vec<PathBuf> = fs::read_dir(directory)?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<io::Result<_>>()?;
        entries.sort();
        for path in entries {
            if !is_hidden(&path) && !self.is_excluded(&path) {
                self.entry(path, depth);
            }
        }
        Ok(())
    }

    fn below(&mut self, directory: &Path, depth: usize) {
        if let Err(error) = self.directory(directory, depth) {
            let message = format!("the folder cannot be read: {error}");
            self.report(&codes::UNREADABLE_FILE, directory, message);
        }
    }

    fn entry(&mut self, path: PathBuf, depth: usize) {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => match path.is_symlink() {
                true => self.links.push_back((path, depth + 1)),
                false => self.below(&path, depth + 1),
            },
            Ok(_) if !is_manifest(&path) => {}
            Ok(metadata) if !metadata.is_file() => {
                self.report(&codes::UNREADABLE_FILE, &path, "this is no regular file".to_owned());
            }
            Ok(metadata) if metadata.len() > limits::MANIFEST_FILE_BYTES as u64 => {
                let message = format!(
                    "the file has {} bytes; the limit is {}",
                    metadata.len(),
                    limits::MANIFEST_FILE_BYTES
                );
                self.report(&codes::FILE_TOO_LARGE, &path, message);
            }
            Ok(_) if self.files.len() >= self.max_files => {
                if !std::mem::replace(&mut self.is_full, true) {
                    let message = "this file and others beside it are not read".to_owned();
                    self.report(&codes::TOO_MANY_FILES, &path, message);
                }
            }
            Ok(metadata) => {
                self.files.insert(path, Stamp::of(&metadata));
            }
            Err(_) if !is_manifest(&path) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                self.report(
                    &codes::BROKEN_SYMLINK,
                    &path,
                    "the symbolic link leads nowhere".to_owned(),
                );
            }
            // Gone between the listing and the look: as if it had never been there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.report(
                &codes::UNREADABLE_FILE,
                &path,
                format!("the file cannot be read: {error}"),
            ),
        }
    }

    fn report(&mut self, code: &Code, path: &Path, message: String) {
        self.diagnostics.push(*finding(code, path, message));
    }

    fn is_excluded(&self, path: &Path) -> bool {
        let Some(excluded) = &self.excluded else { return false };
        path.file_name() == excluded.file_name()
            && fs::canonicalize(path).is_ok_and(|path| path == *excluded)
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Stamp {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn read_file(root: &Path, path: &Path, stamp: Stamp) -> Result<CachedFile, Box<Diagnostic>> {
    let bytes = fs::read(path).map_err(|error| {
        finding(&codes::UNREADABLE_FILE, path, format!("the file cannot be read: {error}"))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        finding(&codes::NOT_UTF8, path, format!("byte {at} of the file is not UTF-8"))
    })?;
    let name: Text = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into();
    let text: Text = text.into();
    let read = Arc::new(manifest::read_file(&name, &text));
    Ok(CachedFile { stamp, name, text, read })
}

/// Of a file whose text is not at hand: line 1, column 1.
fn finding(code: &Code, path: &Path, message: String) -> Box<Diagnostic> {
    let place = Place { file: path.to_string_lossy().into(), line: 1, column: 1, start: 0, end: 0 };
    Box::new(Diagnostic::new(code, message).place(Some(place)).help(code.meaning))
}

pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

pub(crate) fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: impl AsRef<[u8]>) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("the file has a folder")).expect("create folder");
        fs::write(path, text).expect("write file");
    }

    fn service(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        )
    }

    fn names(reading: &Reading) -> Vec<String> {
        reading.inputs.iter().map(|object| object.id.name.to_string()).collect()
    }

    fn slugs(reading: &Reading) -> Vec<(&str, String)> {
        reading
            .diagnostics
            .iter()
            .map(|d| (d.code, d.place.as_ref().map(|p| p.file.to_string()).unwrap_or_default()))
            .collect()
    }

    #[test]
    fn reads_recursively_and_leaves_out_what_is_not_part_of_it() {
        let root = tempfile::tempdir().expect("temp dir");
        write(root.path(), "a.yaml", service("a"));
        write(root.path(), "deep/er/b.yml", service("b"));
        write(
            root.path(),
            "c.json",
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"},"spec":{"ports":[{"port":80}]}}"#,
        );
        write(root.path(), ".hidden.yaml", service("hidden"));
        write(root.path(), ".dir/d.yaml", service("hidden"));
        write(root.path(), "state/e.yaml", service("state"));
        write(root.path(), "notes.txt", "no manifest");
        let mut folder = Folder::new(root.path(), Some(&root.path().join("state")));
        let reading = folder.read(&HashSet::new()).expect("the folder is there");
        assert_eq!(names(&reading), ["a", "b", "c"]);
        assert_eq!(slugs(&reading), []);
    }

    #[test]
    fn names_what_cannot_be_read() {
        let root = tempfile::tempdir().expect("temp dir");
        write(root.path(), "good.yaml", service("good"));
        write(root.path(), "sub/binary.yaml", [0xff, 0xfe, 0x00]);
        std::os::unix::fs::symlink("nowhere", root.path().join("link.yaml")).expect("symlink");
        std::os::unix::fs::symlink("..", root.path().join("sub/loop")).expect("symlink");
        let mut folder = Folder::new(root.path(), None);
        let reading = folder.read(&HashSet::new()).expect("the folder is there");
        assert_eq!(names(&reading), ["good"]);
        let expected = [
            ("broken-symlink", "link.yaml".to_owned()),
            ("not-utf8", "sub/binary.yaml".to_owned()),
        ];
        assert_eq!(slugs(&reading), expected);
        assert!(Folder::new(root.path().join("absent"), None).read(&HashSet::new()).is_err());
    }

    #[test]
    fn reads_again_only_what_changed() {
        let root = tempfile::tempdir().expect("temp dir");
        write(root.path(), "a.yaml", service("a"));
        write(root.path(), "b.yaml", service("b"));
        let mut folder = Folder::new(root.path(), None);
        let first = folder.read(&HashSet::new()).expect("the folder is there");
        write(root.path(), "b.yaml", service("longer"));
        let second = folder.read(&HashSet::new()).expect("the folder is there");
        let object = |reading: &Reading, name: &str| {
            reading
                .inputs
                .iter()
                .find(|object| &*object.id.name == name)
                .map(Arc::clone)
                .expect("the object is there")
        };
        assert!(Arc::ptr_eq(&object(&first, "a"), &object(&second, "a")));
        assert_eq!(names(&second), ["a", "longer"]);
    }

    fn link(root: &Path, name: &str, to: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("the link has a folder")).expect("create folder");
        std::os::unix::fs::symlink(to, path).expect("symlink");
    }

    #[test]
    fn a_directory_is_read_once_however_many_links_lead_to_it() {
        let root = tempfile::tempdir().expect("temp dir");
        // Two links a floor: 2^40 paths lead to the file.
        for floor in 0..40 {
            for side in ["left", "right"] {
                link(root.path(), &format!("floors/{floor}/{side}"), &format!("../{}", floor + 1));
            }
        }
        write(root.path(), "floors/40/a.yaml", service("a"));
        link(root.path(), "alias", "floors/40");
        let mut folder = Folder::new(root.path(), None);
        let reading = folder.read(&HashSet::new()).expect("the folder is there");
        assert_eq!(names(&reading), ["a"]);
        assert_eq!(slugs(&reading), []);
        let files: Vec<&Path> = folder.files().collect();
        assert_eq!(files, [root.path().join("floors/40/a.yaml")], "by its own name");
    }

    #[test]
    fn a_directory_outside_is_read_through_a_link() {
        let (root, other) =
            (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
        write(other.path(), "current/b.yaml", service("b"));
        link(root.path(), "linked", other.path().to_str().expect("a path of text"));
        let mut folder = Folder::new(root.path(), None);
        let reading = folder.read(&HashSet::new()).expect("the folder is there");
        assert_eq!(names(&reading), ["b"]);
        assert_eq!(folder.files().collect::<Vec<_>>(), [root.path().join("linked/current/b.yaml")]);
    }

    #[test]
    fn too_many_files_are_one_finding() {
        let root = tempfile::tempdir().expect("temp dir");
        for name in ["a.yaml", "b.yaml", "c.yaml", "d.yaml", "e/f.yaml"] {
            write(root.path(), name, service("same"));
        }
        let mut listing = Listing::new(None, 2);
        listing.walk(root.path()).expect("the folder is there");
        assert_eq!(listing.files.len(), 2);
        let found: Vec<_> = listing.diagnostics.iter().map(|d| d.code).collect();
        assert_eq!(found, ["too-many-files"]);
    }
}
