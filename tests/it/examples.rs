//! Every public item of `rules` and `filter` carries an example that runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Items that need none, each with its reason.
const EXCLUDED: &[(&str, &str)] = &[];

/// Modules whose public items are meant, and the folder of each.
const MODULES: [(&str, &str); 3] = [
    ("rules", "src/rules"),
    ("rules::pattern", "src/rules/pattern"),
    ("filter", "src/filter"),
];

#[test]
fn every_public_item_has_one() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for (module, folder) in MODULES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let documented = documented(&folder);
        let mut names = exported(&fs::read_to_string(folder.join("mod.rs")).unwrap());
        if module == "rules::pattern" {
            names.extend(
                ["Matched", "Pattern", "PatternOptions", "PatternSyntax"].map(str::to_owned),
            );
        }
        for name in names {
            seen += 1;
            let item = format!("{module}::{name}");
            let is_excluded = EXCLUDED.iter().any(|(excluded, _)| *excluded == item);
            match documented.get(&name) {
                None => missing.push(format!("{item} is nowhere in {}", folder.display())),
                Some(false) if !is_excluded => missing.push(format!("{item} has no example")),
                Some(true) if is_excluded => {
                    missing.push(format!("{item} is excluded for nothing"))
                }
                Some(_) => {}
            }
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
    assert!(seen > 50, "{seen}");
}

/// The names that a module page exports from its private modules.
fn exported(page: &str) -> Vec<String> {
    let mut names = Vec::new();
    for export in page.split("\npub use ").skip(1) {
        let list = export.split(';').next().unwrap();
        let list = list.split_once("::").map_or(list, |(_, list)| list);
        let parts = list.split([',', '{', '}']).map(str::trim);
        names.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
    }
    names
}

/// The public items of a folder, and whether their comments hold an example.
fn documented(folder: &Path) -> BTreeMap<String, bool> {
    let mut items = BTreeMap::new();
    for file in files(folder) {
        let text = fs::read_to_string(&file).unwrap();
        let (mut has_example, mut in_comment) = (false, false);
        for line in text.lines().map(str::trim_start) {
            if let Some(comment) = line.strip_prefix("///") {
                has_example = has_example && in_comment || comment.trim() == "# Examples";
                in_comment = true;
                continue;
            }
            if let Some(name) = name_of(line) {
                // A method may have the name of an item.
                *items.entry(name.to_owned()).or_default() |= has_example && in_comment;
            }
            // Attributes stand between a comment and its item.
            in_comment = in_comment && (line.starts_with('#') || line.starts_with("pin_project"));
        }
    }
    items
}

/// The name of the public item that this line begins, if it begins one.
fn name_of(line: &str) -> Option<&str> {
    let item = line.strip_prefix("pub ")?;
    let kinds = [
        "const fn ",
        "fn ",
        "struct ",
        "enum ",
        "trait ",
        "const ",
        "type ",
    ];
    let rest = kinds.iter().find_map(|kind| item.strip_prefix(kind))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    Some(&rest[..end.unwrap_or(rest.len())])
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}
