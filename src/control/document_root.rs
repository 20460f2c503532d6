//! The folder that conditions of type `IsFile` and `IsDirectory` ask about.
//!
//! Layer 3, inside `control`. Called by prepare; asked by `rules` while a request is judged.
//! Holds: nothing outside the folder is ever said to exist, whatever the path says and wherever a link in it leads;
//!        files are never opened: one look-up asks the file system for names and kinds only.
//! See `guide::operations` for the setting and for what a look-up costs.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use crate::rules::FileTree;

/// The longest path that is looked up, in octets: what Linux takes at most.
const MAX_PATH: usize = 4096;

/// A site's root, as configured and as it was found.
#[derive(Debug)]
pub(super) struct DocumentRoot {
    /// As rules see it in `{DOCUMENT_ROOT}`, without a slash at its end.
    text: String,
    /// Without links.
    folder: PathBuf,
}

impl DocumentRoot {
    /// Finds the folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let folder = path.canonicalize()?;
        if !folder.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let text = path.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        Ok(Self {
            text: text.trim_end_matches('/').to_owned(),
            folder,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What is at a path below the root. A link counts as what it leads to, but not if that lies outside.
    fn find(&self, path: &[u8]) -> Option<Metadata> {
        if path.len() > MAX_PATH {
            return None;
        }
        let below = path.strip_prefix(self.text.as_bytes())?;
        let below = std::str::from_utf8(below).ok()?;
        let mut wanted = self.folder.clone();
        // IIS takes both slashes for separators.
        for (number, segment) in below.split(['/', '\\']).enumerate() {
            match segment {
                // The root's own name went on, as in `/www2` for the root `/www`.
                _ if number == 0 && !segment.is_empty() => return None,
                "" | "." => {}
                // A stream, a drive or a parent.
                _ if segment == ".." || segment.contains([':', '\0']) => return None,
                _ => wanted.push(segment),
            }
        }
        let found = wanted.canonicalize().ok()?;
        if !found.starts_with(&self.folder) {
            return None;
        }
        std::fs::metadata(found).ok()
    }
}

impl FileTree for DocumentRoot {
    fn is_file(&self, path: &[u8]) -> bool {
        self.find(path).is_some_and(|found| found.is_file())
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        self.find(path).is_some_and(|found| found.is_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_root_exists() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("www/a")).unwrap();
        std::fs::create_dir(at("www2")).unwrap();
        for name in [
            "www/a/file.txt",
            "www/\u{e9}.txt",
            "outside.txt",
            "www2/b.txt",
        ] {
            std::fs::write(at(name), "x").unwrap();
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("outside.txt"), at("www/out")).unwrap();
            std::os::unix::fs::symlink(at("www/a"), at("www/in")).unwrap();
        }
        let root = DocumentRoot::open(&at("www")).unwrap();
        let text = root.text().to_owned();
        let long = format!("{text}/{}", "a/../".repeat(900));
        for (path, file, directory) in [
            ("/a/file.txt", true, false),
            ("\\a\\.\\\\file.txt", true, false),
            ("/\u{e9}.txt", true, false),
            ("", false, true),
            ("/", false, true),
            ("/a", false, true),
            ("/a/", false, true),
            ("/none", false, false),
            ("/a/../a/file.txt", false, false),
            ("/../outside.txt", false, false),
            ("/..\\outside.txt", false, false),
            ("/a/file.txt::$DATA", false, false),
            ("/a\0", false, false),
            ("2/b.txt", false, false),
            ("2", false, false),
            (".", false, false),
        ] {
            let path = format!("{text}{path}");
            assert_eq!(root.is_file(path.as_bytes()), file, "{path}");
            assert_eq!(root.is_directory(path.as_bytes()), directory, "{path}");
        }
        if cfg!(unix) {
            assert!(root.is_file(format!("{text}/in/file.txt").as_bytes()));
            assert!(!root.is_file(format!("{text}/out").as_bytes()));
        }
        for path in ["/etc/passwd", "a", "", &long] {
            assert!(!root.is_file(path.as_bytes()), "{path}");
            assert!(!root.is_directory(path.as_bytes()), "{path}");
        }
        assert!(!root.is_file(&[text.as_bytes(), b"/\xff"].concat()));
    }

    #[test]
    fn longest_path_is_looked_up() {
        let folder = tempfile::tempdir().unwrap();
        let root = DocumentRoot::open(folder.path()).unwrap();
        let padded = |length: usize| {
            let mut path = root.text().to_owned();
            while path.len() < length {
                path.push('/');
            }
            root.is_directory(path.as_bytes())
        };
        assert!(padded(MAX_PATH));
        assert!(!padded(MAX_PATH + 1));
    }

    #[test]
    fn root_is_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(DocumentRoot::open(&file).is_err());
        assert!(DocumentRoot::open(&folder.path().join("none")).is_err());
    }
}
