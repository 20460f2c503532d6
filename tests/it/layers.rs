//! The layer table: which module may import which, and which outside crate belongs to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::sizes::product_code;

/// Module, layer, and the modules it may import.
const MODULES: &[(&str, u8, &[&str])] = &[
    ("model", 0, &[]),
    ("canon", 0, &[]),
    ("xml", 0, &[]),
    ("rules", 1, &["model", "canon", "xml"]),
    ("signature", 1, &["model", "xml"]),
    ("mitigation", 1, &["model"]),
    ("net", 1, &[]),
    ("store", 1, &["model"]),
    ("telemetry", 1, &["model"]),
    ("filter", 2, &["rules", "canon", "model"]),
    ("lab", 2, &["rules", "canon", "model"]),
    (
        "feed",
        2,
        &["model", "xml", "signature", "net", "store", "telemetry"],
    ),
    ("sidecar", 2, &["model", "net", "store", "telemetry"]),
    (
        "proxy",
        3,
        &["filter", "canon", "net", "telemetry", "model", "rules"],
    ),
    (
        "control",
        3,
        &[
            "mitigation",
            "rules",
            "filter",
            "lab",
            "feed",
            "sidecar",
            "net",
            "store",
            "telemetry",
            "model",
            "signature",
        ],
    ),
    ("admin", 4, &["control", "net", "telemetry", "model"]),
    (
        "config",
        5,
        &[
            "admin",
            "control",
            "proxy",
            "feed",
            "sidecar",
            "mitigation",
            "net",
            "store",
            "telemetry",
            "model",
            "canon",
            "signature",
        ],
    ),
    (
        "app",
        6,
        &[
            "config",
            "admin",
            "control",
            "proxy",
            "filter",
            "feed",
            "sidecar",
            "net",
            "store",
            "telemetry",
            "model",
        ],
    ),
    (
        "cli",
        7,
        &[
            "app",
            "config",
            "control",
            "lab",
            "rules",
            "feed",
            "signature",
            "sidecar",
            "net",
            "store",
            "telemetry",
            "model",
            "canon",
        ],
    ),
    // Pages, not code.
    ("guide", 0, &[]),
];

/// Outside paths and the modules that may name them; a path that is not listed is free.
const OWNERS: &[(&str, &[&str])] = &[
    ("quick_xml", &["xml"]),
    ("regex_automata", &["rules"]),
    ("regex_syntax", &["rules"]),
    ("aho_corasick", &["rules"]),
    ("encoding_rs", &["rules"]),
    ("lol_html", &["rules"]),
    ("arc_swap", &["filter", "net"]),
    ("tower_layer", &["filter", "net", "proxy", "admin"]),
    (
        "tower_service",
        &["filter", "net", "proxy", "admin", "feed"],
    ),
    ("webpki", &["signature"]),
    ("aws_lc_rs", &["signature"]),
    ("base64", &["signature"]),
    ("rustls", &["net", "feed"]),
    (
        "hyper",
        &["net", "proxy", "feed", "admin", "sidecar", "cli"],
    ),
    (
        "hyper_util",
        &["net", "proxy", "feed", "admin", "sidecar", "cli"],
    ),
    (
        "tokio",
        &[
            "net", "store", "feed", "sidecar", "proxy", "control", "admin", "app", "cli",
        ],
    ),
    ("toml", &["config"]),
    ("clap", &["cli"]),
    ("axum", &["admin"]),
    ("prometheus_client", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("zbus", &["sidecar"]),
    ("futures_util", &["sidecar"]),
    ("std::net::TcpListener", &["net"]),
    (
        "std::fs",
        &[
            "store",
            "feed",
            "control",
            "config",
            "app",
            "cli",
            "net",
            "telemetry",
            "admin",
            "proxy",
            "sidecar",
        ],
    ),
    ("std::env", &["config", "app", "cli"]),
    (
        "std::process",
        &["app", "cli", "store", "sidecar", "control"],
    ),
    (
        "std::thread",
        &[
            // It waits for the lock of an owner that has ended, before anything else runs.
            "store",
            "telemetry",
            "proxy",
            "control",
            "app",
            "net",
            "feed",
        ],
    ),
    ("SystemTime", &["app", "cli"]),
];

/// The one file that may allow unsafe code.
const UNSAFE_FILE: &str = "net/platform.rs";

#[test]
fn every_import_follows_the_table() {
    let faults = faults(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn table_has_no_cycle_and_no_upward_edge() {
    let layer: BTreeMap<_, _> = MODULES
        .iter()
        .map(|(name, layer, _)| (*name, *layer))
        .collect();
    for (name, own, imports) in MODULES {
        for import in *imports {
            assert!(
                layer[import] < *own,
                "{name} (layer {own}) imports {import} (layer {})",
                layer[import]
            );
        }
    }
}

/// Each kind of violation, planted in a tree of its own, is found.
#[test]
fn violations_are_found() {
    let cases = [
        (
            "rules/mod.rs",
            "use crate::proxy::Proxy;\n",
            "rules must not import proxy",
        ),
        (
            "rules/mod.rs",
            "fn f() { crate::filter::run() }\n",
            "rules must not import filter",
        ),
        (
            "rules/mod.rs",
            "use crate::{\n    model::Digest,\n    net::Body,\n};\n",
            "rules must not import net",
        ),
        (
            "rules/mod.rs",
            "use tokio::net::TcpStream;\n",
            "rules must not name tokio",
        ),
        (
            "rules/mod.rs",
            "fn f() { let _ = std::fs::read(\"a\"); }\n",
            "rules must not name std::fs",
        ),
        (
            "model/mod.rs",
            "use crate::xml::Document;\n",
            "model must not import xml",
        ),
        (
            "widget/mod.rs",
            "\n",
            "widget is missing from the layer table",
        ),
        (
            "rules/mod.rs",
            "#![allow(unsafe_code)]\n",
            "only net/platform.rs may allow unsafe code",
        ),
        (
            "rules/mod.rs",
            "use super::super::net::Body;\n",
            "write crate:: instead of a chain of super",
        ),
    ];
    for (file, text, expected) in cases {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let found = faults(tree.path());
        assert!(
            found.iter().any(|fault| fault.contains(expected)),
            "{text:?} gave {found:?}"
        );
    }
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("rules")).unwrap();
    let clean = "// crate::proxy in a comment\nuse crate::model::Digest;\nconst S: &str = \"crate::net\";\n";
    fs::write(tree.path().join("rules/mod.rs"), clean).unwrap();
    assert_eq!(faults(tree.path()), Vec::<String>::new());
}

fn faults(src: &Path) -> Vec<String> {
    let table: BTreeMap<_, _> = MODULES
        .iter()
        .map(|(name, _, imports)| (*name, *imports))
        .collect();
    let mut faults = Vec::new();
    for path in rust_files(src) {
        let relative = path
            .strip_prefix(src)
            .unwrap()
            .to_string_lossy()
            .replace('\\', "/");
        let Some((module, _)) = relative
            .split_once('/')
            .filter(|(module, _)| *module != "bin")
        else {
            continue;
        };
        let Some(imports) = table.get(module) else {
            faults.push(format!(
                "{relative}: {module} is missing from the layer table"
            ));
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        for import in own_imports(&without_comments_and_strings(&text)) {
            if import != module
                && table.contains_key(import.as_str())
                && !imports.contains(&import.as_str())
            {
                faults.push(format!("{relative}: {module} must not import {import}"));
            }
        }
        // Tests import like the module they test, and may use what they need besides.
        let code = without_comments_and_strings(&product_code(&path, &text).join("\n"));
        for (outside, owners) in OWNERS {
            if names_path(&code, outside) && !owners.contains(&module) {
                faults.push(format!("{relative}: {module} must not name {outside}"));
            }
        }
        if code.contains("allow(unsafe_code)") && relative != UNSAFE_FILE {
            faults.push(format!(
                "{relative}: only {UNSAFE_FILE} may allow unsafe code"
            ));
        }
        if code.contains("super::super::") {
            faults.push(format!(
                "{relative}: write crate:: instead of a chain of super"
            ));
        }
    }
    faults
}

/// The modules named after `crate::`, in single paths and in braces.
fn own_imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let after = &code[at + "crate::".len()..];
        let Some(group) = after.strip_prefix('{') else {
            found.insert(first_word(after));
            continue;
        };
        let mut depth = 0;
        let mut starts = true;
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => starts = true,
                c if starts && depth == 0 && !c.is_whitespace() => {
                    found.insert(first_word(&group[index..]));
                    starts = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Whether `code` names `path` as a whole path, not as a part of a longer one.
fn names_path(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + path.len()..];
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || "_:.".contains(c));
        let is_item = path.contains("::") || path == "SystemTime";
        starts
            && (after.starts_with("::")
                || is_item && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// The code without `//` comments and without what stands in string literals, so that only paths are left.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let (mut quoted, mut escaped) = (false, false);
        let mut previous = ' ';
        for c in line.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' if previous != '\'' => quoted = !quoted,
                '/' if !quoted && previous == '/' => {
                    code.pop();
                    break;
                }
                c if !quoted => code.push(c),
                _ => {}
            }
            previous = c;
        }
        code.push('\n');
    }
    code
}

/// Every `.rs` file below a folder, sorted.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
