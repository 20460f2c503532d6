//! The size budget: a file of 700 lines and a function of 80 at most, tests not counted.

use std::fs;
use std::path::Path;

use super::layers::rust_files;

const FILE_LINES: usize = 700;
const FUNCTION_LINES: usize = 80;

/// What may be larger: file, function (empty: the file itself), and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

#[test]
fn files_and_functions_stay_small() {
    let faults = faults(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn exceptions_are_needed() {
    for (file, name, _) in EXCEPTIONS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
        let text = fs::read_to_string(&path).unwrap();
        let code = product_code(&path, &text);
        let needed = if name.is_empty() {
            code.len() > FILE_LINES
        } else {
            functions(&code)
                .iter()
                .any(|(other, lines)| other == name && *lines > FUNCTION_LINES)
        };
        assert!(needed, "{file} {name} no longer needs its exception");
    }
}

#[test]
fn violations_are_found() {
    let steps = "        step();\n".repeat(FUNCTION_LINES);
    let test_lines = "    // line\n".repeat(FILE_LINES);
    let cases = [
        ("// line\n".repeat(FILE_LINES + 1), Some("701 lines")),
        (
            format!("fn long() {{\n{steps}}}\n"),
            Some("function long has 82 lines"),
        ),
        (
            format!(
                "impl X {{\n    pub fn long(&self) -> u8\n    where\n        Self: Sized,\n    {{\n{steps}    }}\n}}\n"
            ),
            Some("function long has 85 lines"),
        ),
        (
            format!("fn short() {{}}\n#[cfg(test)]\nmod tests {{\n{test_lines}}}\n"),
            None,
        ),
    ];
    for (text, expected) in cases {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("a.rs"), &text).unwrap();
        let found = faults(tree.path());
        match expected {
            Some(expected) => assert!(
                found.iter().any(|fault| fault.contains(expected)),
                "{found:?}"
            ),
            None => assert_eq!(found, Vec::<String>::new()),
        }
    }
}

fn faults(src: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    for path in rust_files(src) {
        let file = path
            .strip_prefix(src)
            .unwrap()
            .to_string_lossy()
            .replace('\\', "/");
        let excepted = |name: &str| {
            EXCEPTIONS
                .iter()
                .any(|(other, function, _)| *other == file && *function == name)
        };
        let text = fs::read_to_string(&path).unwrap();
        let code = product_code(&path, &text);
        if code.len() > FILE_LINES && !excepted("") {
            faults.push(format!(
                "{file}: {} lines, at most {FILE_LINES}",
                code.len()
            ));
        }
        for (name, lines) in functions(&code) {
            if lines > FUNCTION_LINES && !excepted(&name) {
                faults.push(format!(
                    "{file}: function {name} has {lines} lines, at most {FUNCTION_LINES}"
                ));
            }
        }
    }
    faults
}

/// The lines before the tests at the foot of the file; none of a file that holds nothing but tests.
pub(crate) fn product_code<'t>(path: &Path, text: &'t str) -> Vec<&'t str> {
    if path.file_name().is_some_and(|name| name == "tests.rs") {
        return Vec::new();
    }
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .collect()
}

/// Every function with a body and its number of lines, as rustfmt lays them out: the closing brace stands below the
/// first letter of the line that opened the function.
fn functions(code: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in code.iter().enumerate() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let Some(name) = function_name(text) else {
            continue;
        };
        let closes = |line: &&str| {
            line.len() > indent
                && line[..indent].trim().is_empty()
                && line[indent..].starts_with('}')
        };
        let one_line = text.ends_with('}') || text.ends_with(';');
        if let (false, Some(length)) = (one_line, code[start + 1..].iter().position(closes)) {
            found.push((name.to_owned(), length + 2));
        }
    }
    found
}

fn function_name(text: &str) -> Option<&str> {
    let mut words = text.split(' ');
    loop {
        match words.next()? {
            "fn" => break,
            "pub" | "pub(crate)" | "pub(super)" | "const" | "async" => {}
            _ => return None,
        }
    }
    words.next()?.split(['(', '<']).next()
}
