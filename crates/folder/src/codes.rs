//! What can be wrong with files before anybody looks at their contents.

use model::{Code, Severity};

const fn error(slug: &'static str, meaning: &'static str) -> Code {
    Code { slug, severity: Severity::Error, meaning }
}

pub const UNREADABLE_FILE: Code = error(
    "unreadable-file",
    "The file is there and cannot be read. Mend its permissions, or take it out of the folder.",
);
pub const BROKEN_SYMLINK: Code =
    error("broken-symlink", "A symbolic link leads nowhere. Point it at a file, or remove it.");
pub const FILE_TOO_LARGE: Code = error(
    "file-too-large",
    "A manifest file is larger than the limit `MANIFEST_FILE_BYTES` (16 MiB). Split it.",
);
pub const NOT_UTF8: Code =
    error("not-utf8", "A manifest file is not UTF-8 text. Save it as UTF-8.");
pub const TOO_MANY_FILES: Code = error(
    "too-many-files",
    "The folder has more manifest files than the limit `FOLDER_FILES` (100,000). Join some.",
);

/// For the diagnostics index.
pub const ALL: &[Code] =
    &[UNREADABLE_FILE, BROKEN_SYMLINK, FILE_TOO_LARGE, NOT_UTF8, TOO_MANY_FILES];
