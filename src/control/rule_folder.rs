//! The rule files in a folder.

use std::io;
use std::path::{Path, PathBuf};

/// Folders below a rule folder that are looked into: enough for `rules/baseline/M1.1`, too few for a loop of links.
const DEPTH: usize = 8;

/// The most rule files that a folder may hold.
pub const RULE_FILES_LIMIT: usize = 4_096;

/// The `*.xml` files in a folder and the folders below it, in the order of their paths. Hidden ones, whose names
/// begin with a dot, are left out, as editors and configuration maps use them for what is not ready.
///
/// # Errors
///
/// When a folder cannot be listed, or holds more than [`RULE_FILES_LIMIT`] files.
pub fn rule_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                if depth < DEPTH {
                    folders.push((path, depth + 1));
                }
            } else if path.extension().is_some_and(|extension| extension == "xml") {
                files.push(path);
            }
            if files.len() > RULE_FILES_LIMIT {
                let reason = format!("it holds more than {RULE_FILES_LIMIT} rule files");
                return Err(io::Error::other(reason));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_below() {
        let folder = tempfile::tempdir().unwrap();
        let deep = (0..=DEPTH).fold(folder.path().to_owned(), |path, _| path.join("deep"));
        for (below, name) in [
            ("", "b.xml"),
            ("a/M1.1", "m.xml"),
            ("", "c.txt"),
            (".git", "x.xml"),
            ("a", ".x.xml"),
        ] {
            let below = folder.path().join(below);
            std::fs::create_dir_all(&below).unwrap();
            std::fs::write(below.join(name), "").unwrap();
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("too-deep.xml"), "").unwrap();
        std::fs::write(deep.parent().unwrap().join("z.xml"), "").unwrap();
        let found = rule_files(folder.path()).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["m.xml", "b.xml", "z.xml"]);
    }

    #[test]
    fn too_many_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..RULE_FILES_LIMIT {
            std::fs::write(folder.path().join(format!("{number}.xml")), "").unwrap();
        }
        assert_eq!(rule_files(folder.path()).unwrap().len(), RULE_FILES_LIMIT);
        std::fs::write(folder.path().join("more.xml"), "").unwrap();
        assert!(rule_files(folder.path()).is_err());
    }
}
