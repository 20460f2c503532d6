//! Commands that serve nothing: what they print, and the code they end with.

use std::fmt::Write;
use std::path::Path;

use crate::support::process::{run, stopgap};
use crate::support::signer::Publisher;

/// Commands with a help of their own.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["run"],
    &["check"],
    &["eval"],
    &["explain"],
    &["feed"],
    &["feed", "fetch"],
    &["feed", "verify"],
    &["feed", "show"],
    &["feed", "test"],
    &["mitigation"],
    &["mitigation", "list"],
    &["mitigation", "show"],
    &["status"],
    &["reload"],
    &["kill-switch"],
    &["config"],
    &["config", "check"],
    &["completions"],
    &["keygen"],
    &["trust"],
    &["trust", "init"],
    &["trust", "rotate"],
    &["trust", "show"],
    &["sign"],
    &["cosign"],
    &["verify"],
    &["inspect"],
];

/// A mitigation whose vectors are left open, to be written into.
const MITIGATION: &str = r#"<EOCS version="1.0" xmlns:sg="urn:stopgap:feed:1">
  <Config id="M9.1" desc="Test">
    <ActionList>
      <Action type="UrlRewrite" scope="Server" desc="Block">
        <Value><rewrite><rules><rule name="evil">
          <match url=".*" /><conditions><add input="{REQUEST_URI}" pattern="PATTERN" /></conditions>
          <action type="AbortRequest" />
        </rule></rules></rewrite></Value>
      </Action>
    </ActionList>
    <sg:vectors><sg:stop target="/VECTOR" /></sg:vectors>
  </Config>
</EOCS>
"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// One command that ends by itself: arguments, exit code, and what its two streams must hold.
struct Case<'a> {
    arguments: &'a [&'a str],
    code: i32,
    output: &'a [&'a str],
    errors: &'a [&'a str],
}

fn hold(folder: &Path, cases: &[Case<'_>]) {
    for case in cases {
        let output = stopgap(&folder.join("state"), case.arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        let shown = format!(
            "{:?}\n{}\n{}",
            case.arguments,
            text(&output.stdout),
            text(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(case.code), "{shown}");
        for part in case.output {
            assert!(
                text(&output.stdout).contains(part),
                "{part:?} is missing: {shown}"
            );
        }
        for part in case.errors {
            assert!(
                text(&output.stderr).contains(part),
                "{part:?} is missing: {shown}"
            );
        }
        // Nothing is told twice.
        let errors = text(&output.stderr);
        let lines: Vec<&str> = errors.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let again = lines[index + 1..].iter().any(|other| other == line);
            assert!(line.is_empty() || !again, "{line:?} is told twice: {shown}");
        }
    }
}

/// Set `STOPGAP_BLESS=1` to write the file anew.
#[test]
fn help_is_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = String::new();
    for command in COMMANDS {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let output = run(folder.path(), &arguments);
        assert!(output.status.success(), "{command:?}");
        let lines: String = text(&output.stdout)
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect();
        writeln!(all, "$ stopgap {}\n{lines}", arguments.join(" ")).unwrap();
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help.txt");
    if std::env::var_os("STOPGAP_BLESS").is_some() {
        std::fs::write(&golden, &all).unwrap();
    }
    let recorded = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(all, recorded, "the help differs from {}", golden.display());
}

#[test]
fn command_line_faults_are_usage() {
    let folder = tempfile::tempdir().unwrap();
    let usage = |arguments, errors| Case {
        arguments,
        code: 2,
        output: &[],
        errors,
    };
    hold(
        folder.path(),
        &[
            usage(&[], &["Usage: stopgap <COMMAND>"]),
            usage(&["statsu"], &["unrecognized subcommand", "'status'"]),
            usage(&["run", "--lisen", "x"], &["--listen"]),
            usage(&["run", "--listen", "8080"], &["invalid value '8080'"]),
            usage(&["run", "--workers", "0"], &["1..=1024"]),
            usage(
                &["run", "--upstream", "ftp://10.0.0.1"],
                &["the scheme must be http, https, h2 or h2c"],
            ),
            usage(&["feed", "verify", "x.xml"], &["--trust microsoft-eocs"]),
            usage(
                &["feed", "verify", "--trust", "xmldsig-x509", "x.xml"],
                &["--root FILE"],
            ),
            usage(
                &[
                    "feed",
                    "verify",
                    "--trust",
                    "microsoft-eocs",
                    "--root",
                    "r.der",
                    "x.xml",
                ],
                &["has its own roots"],
            ),
            usage(&["feed", "fetch"], &["--config <FILE>"]),
            usage(
                &["status", "-o", "yaml"],
                &["possible values: csv, json, table"],
            ),
        ],
    );
}

#[test]
fn settings_that_cannot_be_used_are_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "key.toml",
        "workers = 2\n\n[admin]\nadress = \"127.0.0.1:0\"\n",
    );
    write("value.toml", "[limits]\nhead_timeout = \"10\"\n");
    write("good.toml", "workers = 2\n[policy]\nblocked = [\"M2\"]\n");
    write(
        "sites.toml",
        "[[site]]\nname = \"a\"\n[[site]]\nname = \"b\"\n",
    );
    let invalid = |arguments, errors| Case {
        arguments,
        code: 3,
        output: &[],
        errors,
    };
    hold(
        folder.path(),
        &[
            invalid(
                &["run", "--config", "key.toml"],
                &[
                    "error: key.toml, line 4, column 1: `admin.adress`: no such key; did you mean `address`?",
                ],
            ),
            invalid(
                &["config", "check", "--config", "value.toml"],
                &[
                    "value.toml, line 2, column 16: `limits.head_timeout`",
                    "units ms, s, m, h and d",
                ],
            ),
            invalid(
                &["config", "check", "--config", "missing.toml"],
                &["error: the settings file missing.toml cannot be read\ncaused by: "],
            ),
            invalid(
                &[
                    "run",
                    "--config",
                    "sites.toml",
                    "--upstream",
                    "http://10.0.0.1",
                ],
                &["error: `--upstream`: the settings file has 2 sites"],
            ),
            Case {
                arguments: &["config", "check", "--config", "good.toml"],
                code: 0,
                output: &["settings can be used"],
                errors: &[],
            },
            Case {
                arguments: &["config", "print", "--config", "good.toml", "--workers", "3"],
                code: 0,
                output: &["workers = 3", "blocked = [\"M2\"]"],
                errors: &[],
            },
            Case {
                arguments: &["config", "schema"],
                code: 0,
                output: &["# [[feed]]", "# benign_limit = 0"],
                errors: &[],
            },
        ],
    );
}

#[test]
fn rules_are_checked_as_they_would_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let mitigation = |pattern: &str, vector: &str| {
        MITIGATION
            .replace("PATTERN", pattern)
            .replace("VECTOR", vector)
    };
    std::fs::create_dir(folder.path().join("good")).unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    write("good/a.xml", &mitigation("evil", "evil"));
    write(
        "good/b.xml",
        "<rewrite><rules><rule name=\"r\"><match url=\"^evil$\" /><action type=\"AbortRequest\" /></rule></rules></rewrite>",
    );
    write("good/ignored.txt", "no rules");
    write("vector.xml", &mitigation("evil", "honest"));
    write("pattern.xml", &mitigation("(", "evil"));
    write(
        "malformed.xml",
        "<EOCS version=\"1.0\">\n  <Config>\n</EOCS>",
    );
    write("other.xml", "<html />");
    let case = |arguments, code, output, errors| Case {
        arguments,
        code,
        output,
        errors,
    };
    hold(
        folder.path(),
        &[
            case(
                &["check", "good"],
                0,
                &[
                    "M9.1        good/a.xml  1      1/1      ok",
                    "-           good/b.xml  1      -        ok",
                ],
                &[],
            ),
            case(
                &["check", "good/a.xml", "-o", "csv"],
                0,
                &["M9.1,good/a.xml,1,1/1,ok"],
                &[],
            ),
            case(
                &["check", "vector.xml"],
                5,
                &["0/1", "vectors failed"],
                &[
                    "M9.1: vector.xml: line 11: GET /honest:",
                    "error: 1 of 1 failed",
                ],
            ),
            case(
                &["check", "pattern.xml"],
                3,
                &["invalid"],
                &["pattern.xml", "line 6", "evil"],
            ),
            case(
                &["check", "malformed.xml"],
                3,
                &["invalid"],
                &["malformed.xml: ", "line 3"],
            ),
            case(
                &["check", "other.xml"],
                3,
                &["invalid"],
                &["the root is html"],
            ),
            // What is invalid weighs more than a vector that fails.
            case(
                &["check", "vector.xml", "pattern.xml"],
                3,
                &[],
                &["error: 2 of 2 failed"],
            ),
            case(
                &["check", "missing.xml"],
                3,
                &["invalid"],
                &["missing.xml: cannot be read"],
            ),
            case(&["check", "empty"], 3, &[], &["empty holds no *.xml"]),
        ],
    );
}

#[test]
fn what_rules_cost_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"<rules>
        <rule name="text"><match url=".*" /><conditions>
            <add input="{HTTP_COOKIE}" pattern="X-BEResource=(.+)~(.+)" /></conditions><action type="AbortRequest" /></rule>
        <rule name="bits"><match url="[0-9]{3}x[a-z]" /><action type="AbortRequest" /></rule>
        <rule name="all"><match url=".*" /><action type="AbortRequest" /></rule>
        <rule name="steps"><match url="([a-z])\1" /><action type="AbortRequest" /></rule>
    </rules>"#;
    let file = folder.path().join("rules.xml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let output = run(folder.path(), &["check", file, "--cost", "-o", "csv"]);
    let listed = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<&str> = listed.lines().collect();
    assert_eq!(
        rows[0],
        "mitigation,rule,chosen by,search,bytes,ns per byte"
    );
    for (row, (begin, end)) in rows[1..].iter().zip([
        ("-,text,\"text \"\"x-beresource=\"\"\",bits,", ",3.0"),
        ("-,bits,bits,bits,", ",2.9"),
        ("-,all,nothing,bits,", ",1.5"),
        ("-,steps,nothing,irregular,", ",by steps"),
    ]) {
        assert!(row.starts_with(begin) && row.ends_with(end), "{row}");
    }
    assert_eq!(rows.len(), 5);
}

#[test]
fn bundled_set_passes_its_own_check() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["check"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("M1.1 "));
}

#[test]
fn documents_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let publisher = Publisher::new();
    let document = MITIGATION
        .replace("PATTERN", "evil")
        .replace("VECTOR", "evil");
    let signed = publisher.sign(&document);
    write("signed.xml", &signed);
    write(
        "changed.xml",
        text(&signed).replace("M9.1", "M9.2").as_bytes(),
    );
    write("unsigned.xml", document.as_bytes());
    write("root.der", &publisher.root_der());
    write("other.der", &Publisher::new().root_der());
    write("empty.der", b"hello");
    let signer = publisher.signer_digest().to_string();
    let (trust, unsigned) = ("--trust", "unsigned.xml");
    let case = |arguments, code, output, errors| Case {
        arguments,
        code,
        output,
        errors,
    };
    let verify = ["feed", "verify", trust, "xmldsig-x509", "--root"];
    let with = |rest: &[&'static str]| [verify.as_slice(), rest].concat();
    hold(
        folder.path(),
        &[
            case(
                &with(&["root.der", "signed.xml"]),
                0,
                &["signature  good", &signer, "no timestamp", "M9.1"],
                &[],
            ),
            case(
                &with(&["root.der", "changed.xml"]),
                4,
                &[],
                &[
                    "error: the signature is refused",
                    "the document was changed",
                ],
            ),
            case(&with(&["other.der", "signed.xml"]), 4, &[], &["error: "]),
            case(&with(&["root.der", unsigned]), 4, &[], &["error: "]),
            case(
                &with(&["root.der", "--no-timestamp", "signed.xml"]),
                0,
                &["signature  good"],
                &[],
            ),
            case(
                &with(&[
                    "root.der",
                    "--timestamp-root",
                    "root.der",
                    "--require-timestamp",
                    "signed.xml",
                ]),
                4,
                &[],
                &["error: "],
            ),
            case(
                &with(&["empty.der", "signed.xml"]),
                3,
                &[],
                &["empty.der must be one certificate"],
            ),
            case(
                &with(&["root.der", "missing.xml"]),
                1,
                &[],
                &["missing.xml cannot be read"],
            ),
            case(
                &["feed", "verify", trust, "microsoft-eocs", "signed.xml"],
                4,
                &[],
                &["error: "],
            ),
        ],
    );
}

#[test]
fn feeds_are_fetched_and_verified_once() {
    let folder = tempfile::tempdir().unwrap();
    let publisher = Publisher::new();
    let document = MITIGATION
        .replace("PATTERN", "evil")
        .replace("VECTOR", "evil");
    std::fs::write(folder.path().join("feed.xml"), publisher.sign(&document)).unwrap();
    std::fs::write(folder.path().join("root.der"), publisher.root_der()).unwrap();
    let url = format!("file://{}", folder.path().join("feed.xml").display());
    let missing = format!("file://{}", folder.path().join("missing.xml").display());
    let feed = |name: &str, url: &str| {
        format!(
            "[[feed]]\nname = \"{name}\"\nurl = \"{url}\"\ntrust = \"xmldsig-x509\"\nroots = [\"root.der\"]\n"
        )
    };
    let settings = feed("one", &url) + &feed("two", &missing);
    std::fs::write(folder.path().join("stopgap.toml"), settings).unwrap();
    let case = |arguments, code, output, errors| Case {
        arguments,
        code,
        output,
        errors,
    };
    let by_url = [
        "feed",
        "fetch",
        "--url",
        &url,
        "--trust",
        "xmldsig-x509",
        "--root",
        "root.der",
        "--save",
        "s.xml",
    ];
    hold(
        folder.path(),
        &[
            case(&by_url, 0, &["signature  good", "M9.1"], &[]),
            case(
                &["feed", "fetch", "--config", "stopgap.toml", "one"],
                0,
                &["one: ", "M9.1"],
                &[],
            ),
            case(
                &["feed", "fetch", "--config", "stopgap.toml"],
                1,
                &["one: "],
                &["error: ", "missing.xml"],
            ),
            case(
                &["feed", "fetch", "--config", "stopgap.toml", "three"],
                2,
                &[],
                &["no feed \"three\""],
            ),
        ],
    );
    let saved = std::fs::read(folder.path().join("s.xml")).unwrap();
    assert_eq!(
        saved,
        std::fs::read(folder.path().join("feed.xml")).unwrap()
    );
}

#[test]
fn cases_are_judged_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "<rules><rule name=\"r\"><match url=\"^evil$\" /><action type=\"AbortRequest\" /></rule></rules>";
    std::fs::write(folder.path().join("rules.xml"), rules).unwrap();
    let line = |id: &str, url: &str| {
        format!(
            "{{\"id\":\"{id}\",\"request\":{{\"method\":\"GET\",\"url\":\"{url}\",\"headers\":{{}}}}}}\n"
        )
    };
    let cases = line("a", "http://h/evil") + "\n" + &line("b", "http://h/good");
    std::fs::write(folder.path().join("cases.jsonl"), cases).unwrap();
    let output = stopgap(
        folder.path(),
        &["eval", "--rules", "rules.xml", "cases.jsonl"],
    )
    .current_dir(folder.path())
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answers: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let actions: Vec<_> = answers
        .iter()
        .map(|answer| (answer["id"].as_str(), answer["action"].as_str()))
        .collect();
    assert_eq!(
        actions,
        [(Some("a"), Some("abort")), (Some("b"), Some("none"))]
    );
}

#[test]
fn no_instance_is_told_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["status"][..],
        &["reload"],
        &["mitigation", "list"],
        &["feed", "show"],
        &["kill-switch", "on"],
    ] {
        let output = run(folder.path(), arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(errors.contains("no instance answers at"), "{errors}");
        assert!(errors.contains("caused by: "), "{errors}");
    }
}

#[test]
fn scripts_and_manual_are_generated() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&["completions", "bash"][..], "_stopgap"),
        (&["completions", "zsh"], "#compdef stopgap"),
        (&["manpage"], ".TH stopgap 1"),
        (
            &["--version"],
            concat!("stopgap ", env!("CARGO_PKG_VERSION")),
        ),
    ] {
        let output = run(folder.path(), arguments);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains(part), "{arguments:?}");
    }
}

#[test]
fn guide_lists_every_key_and_flag() {
    let page = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/operations.md"),
    )
    .unwrap();
    for key in stopgap::config::KEYS {
        let row = format!("| `{}` | `{}` | ", key.name, key.example);
        assert!(page.contains(&row), "{row} is missing");
    }
    let folder = tempfile::tempdir().unwrap();
    let help = text(&run(folder.path(), &["run", "--help"]).stdout);
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && *word != "--help");
    for flag in flags {
        assert!(page.contains(&format!("`{flag}")), "{flag} is missing");
    }
}
