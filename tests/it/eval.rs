//! `stopgap eval`: a format that stays, and answers that come in time.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use stopgap::lab::Evaluate;
use stopgap::rules::{Dialect, SourceOrigin};

use super::support::process::{run, stopgap};

const CASES: &str = include_str!("../corpus/rewrite-cases.jsonl");

/// Lines that the table of cases does not have.
const MORE: &str = r#"{"id":"no-rules","request":{"url":"http://h/a?b"}}
{"id":7,"rules_xml":"<rules><rule name='r'><match url='^%2541$'/></rule></rules>","request":{"url":"/%252541"}}
{"id":"refused","request":{"url":"/%00"}}
{"rules_xml":"<rules><rle/></rules>","request":{"url":"/"}}
{"id":null,"request":{}}
no case
{"id":"pairs","rules_xml":"<rules><rule name='r'><match url='.*'/><conditions><add input='{HTTP_COOKIE}' pattern='^a=1; b=2$'/></conditions><action type='AbortRequest'/></rule></rules>","request":{"method":"POST","url":"http://h/","headers":[["Cookie","a=1"],["cookie","b=2"]]}}
{"id":"many","rules_xml":"<rules><rule name='r'><match url='.*'/><conditions><add input='{HTTP_COOKIE}' pattern='^a=1; b=2$'/></conditions><action type='AbortRequest'/></rule></rules>","request":{"method":"POST","url":"http://h/","headers":{"Cookie":["a=1","b=2"]}}}
{"id":"file","rules_xml":"<rules><rule name='r'><conditions><add input='{REQUEST_FILENAME}' matchType='IsFile'/></conditions><action type='CustomResponse' statusCode='410' subStatusCode='3' statusReason='Gone'/></rule></rules>","request":{"url":"http://h/A.txt"},"context":{"files":["/a.txt"]}}
{"id":"response","rules_xml":"<outboundRules><rule name='o'><match pattern='b'/><action type='Rewrite' value='c'/></rule></outboundRules>","request":{"url":"http://h/"},"response":{"headers":{"Content-Type":"text/plain","ETag":"\"1\""},"body":"abc"}}
"#;

/// Set `STOPGAP_BLESS=1` to write the file anew: whoever reads `eval`'s answers by program reads this form.
#[test]
fn answers_are_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let cases = folder.path().join("cases.jsonl");
    std::fs::write(&cases, format!("{CASES}\n\n{MORE}")).unwrap();
    let more = folder.path().join("more.jsonl");
    std::fs::write(&more, MORE).unwrap();
    let mut all = Vec::new();
    for arguments in [
        &["eval", cases.to_str().unwrap()][..],
        &["eval", "--hardened", more.to_str().unwrap()],
    ] {
        let output = run(folder.path(), arguments);
        assert_eq!(output.stderr, b"");
        assert!(output.status.success());
        all.extend(output.stdout);
    }
    let all = String::from_utf8(all).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eval.jsonl");
    if std::env::var_os("STOPGAP_BLESS").is_some() {
        std::fs::write(&golden, &all).unwrap();
    }
    let recorded = std::fs::read_to_string(&golden).unwrap();
    for (number, (answer, expected)) in all.lines().zip(recorded.lines()).enumerate() {
        assert_eq!(answer, expected, "line {}", number + 1);
    }
    assert_eq!(all, recorded);
}

/// Another program may write a case and wait for its answer before it writes the next.
#[test]
fn answer_comes_before_the_next_case() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = stopgap(folder.path(), &["eval"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut cases = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..3 {
        writeln!(cases, "{{\"id\":{number},\"request\":{{\"url\":\"/\"}}}}").unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(
            answer.starts_with(&format!("{{\"id\":{number},")),
            "{answer}"
        );
    }
    drop(cases);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

/// What is promised of one rule set, in an optimised build: prints the rate of this machine.
#[test]
#[ignore = "measures for seconds; run it with --release"]
fn hundred_thousand_lines_a_second() {
    let rules = "<rules><rule name='a'><match url='.*'/><conditions>\
        <add input='{UrlDecode:{REQUEST_URI}}' pattern='(?=.*autodiscover)(?=.*powershell)'/></conditions>\
        <action type='AbortRequest'/></rule><rule name='b'><match url='^old/(.*)'/><action type='Rewrite' url='/new/{R:1}'/></rule></rules>";
    let targets = [
        "owa/?url=https%3a%2f%2fh",
        "autodiscover/?%50owershell",
        "old/a?b",
    ];
    let lines = (0..500_000).map(|number: usize| {
        let target = targets[number % targets.len()];
        format!(r#"{{"id":{number},"rules_xml":"{rules}","request":{{"method":"GET","url":"https://mail.example/{target}","headers":{{"User-Agent":"Mozilla/5.0","Cookie":"a=b"}}}},"expect":{{}}}}"#)
    });
    let lines: Vec<String> = lines.collect();
    let folder = tempfile::tempdir().unwrap();
    let cases = folder.path().join("cases.jsonl");
    std::fs::write(&cases, lines.join("\n")).unwrap();
    let began = std::time::Instant::now();
    let output = run(folder.path(), &["eval", cases.to_str().unwrap()]);
    let rate = lines.len() as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} lines a second");
    let answers = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(answers, lines.len());
    assert!(rate > 100_000.0, "{rate:.0}");
}

/// Sets are kept between lines: which lines came before must not show.
#[test]
fn sets_that_are_kept_change_no_answer() {
    let lines: Vec<&str> = CASES.lines().chain(MORE.lines()).collect();
    let alone: Vec<String> = lines
        .iter()
        .map(|line| Evaluate::new(Dialect::Iis).line(line))
        .collect();
    let mut kept = Evaluate::new(Dialect::Iis);
    let mut order: Vec<usize> = (0..lines.len()).collect();
    // Lines of the same rules, far from and near to each other.
    for step in [1, 3, 7, 1] {
        order.rotate_left(step);
        for at in order
            .iter()
            .flat_map(|at| [*at, *at, at * step % lines.len()])
        {
            assert_eq!(kept.line(lines[at]), alone[at], "{}", lines[at]);
        }
    }
    // Rules that are given anew are the ones that count from then on.
    let case = r#"{"request":{"url":"/a"}}"#;
    assert!(kept.line(case).contains(r#""action":"none""#));
    let text = "<rules><rule name='given'><action type='AbortRequest'/></rule></rules>";
    let mut given = kept.with_rules(text, &SourceOrigin::named("g")).unwrap();
    assert!(given.line(case).contains(r#""rule":"given""#));
}
