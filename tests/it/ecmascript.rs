//! Patterns against V8, which is the ECMAScript engine that most people can ask.
//!
//! `tests/corpus/ecmascript/v8.jsonl` holds what V8 answered once; the ignored tests ask `node` itself.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use stopgap::rules::pattern::{
    Groups, Matched, Pattern, PatternCache, PatternError, PatternOptions, PatternSyntax,
};

use super::support::ecmascript::{Case, Random, case};

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/corpus/ecmascript/v8.jsonl"
);

/// Answers of V8 are recorded for so many patterns, with twelve inputs each.
const RECORDED: usize = 500;

#[test]
fn recorded_answers_of_v8_hold() {
    let corpus = std::fs::read_to_string(CORPUS).unwrap();
    let mut tally = Tally::default();
    for line in corpus.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        tally.compare(&case_of(&entry[0]), &entry[1]);
    }
    assert!(tally.checks > 4_000, "{} checks", tally.checks);
    tally.finish();
}

/// The parser needs no stack, and what is built of its tree needs little at the nesting limit.
#[test]
fn deepest_nesting_fits_a_small_stack() {
    let shapes = [
        ("(?:", ")"),
        ("(", ")*"),
        ("(?:x|", ")?y"),
        ("(?=a", ")"),
        ("(?:a|(?!b", ")c)"),
    ];
    let search = move || {
        for (open, close) in shapes {
            let depth = 200 / open.matches('(').count();
            let text = open.repeat(depth) + &close.repeat(depth);
            let options = PatternOptions::default();
            let pattern = Pattern::new(&text, PatternSyntax::EcmaScript, options).unwrap();
            let mut cache = PatternCache::new();
            let mut groups = Groups::default();
            for input in ["aaaa", "xy\u{1f600}"] {
                let _ = pattern.is_match(&mut cache, input.as_bytes());
                let _ = pattern.captures(&mut cache, input.as_bytes(), 0, &mut groups);
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(1024 * 1024);
    thread.spawn(search).unwrap().join().unwrap();
}

/// `STOPGAP_V8_CHECKS` says how many inputs to try, `STOPGAP_V8_SEED` from where.
#[test]
#[ignore = "asks node, for minutes"]
fn ecmascript_against_v8() {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap())
    };
    let checks = number("STOPGAP_V8_CHECKS", 300_000) as usize;
    let mut random = Random::new(number("STOPGAP_V8_SEED", 1));
    let mut v8 = V8::start();
    let mut tally = Tally::default();
    while tally.checks < checks {
        let batch: Vec<_> = (0..200).map(|_| case(&mut random)).collect();
        for (case, answer) in batch.iter().zip(v8.ask(&batch)) {
            tally.compare(case, &answer);
        }
    }
    tally.finish();
}

#[test]
#[ignore = "writes the corpus anew, from node's answers"]
fn record_answers_of_v8() {
    let mut random = Random::new(20);
    let batch: Vec<_> = (0..RECORDED).map(|_| case(&mut random)).collect();
    let answers = V8::start().ask(&batch);
    let mut corpus = String::new();
    for (case, answer) in batch.iter().zip(answers) {
        writeln!(corpus, "{}", json!([question(case), answer])).unwrap();
    }
    std::fs::write(CORPUS, corpus).unwrap();
}

/// What was compared, and what differed.
#[derive(Default)]
struct Tally {
    patterns: usize,
    refused: usize,
    skipped: usize,
    checks: usize,
    hits: usize,
    out_of_steps: usize,
    differences: Vec<String>,
    cache: PatternCache,
    groups: Groups,
}

impl Tally {
    fn compare(&mut self, case: &Case, answer: &Value) {
        self.patterns += 1;
        let options = PatternOptions {
            ignore_case: case.ignore_case,
            dot_matches_line_breaks: case.dot_matches_line_breaks,
            ..PatternOptions::default()
        };
        let pattern = Pattern::new(&case.pattern, PatternSyntax::EcmaScript, options);
        match (pattern, answer) {
            (_, Value::Number(_)) => self.skipped += 1,
            (Err(error), _) if is_limit(&error) => self.skipped += 1,
            (Err(_), Value::Null) => self.refused += 1,
            (Ok(pattern), Value::Array(answers)) => {
                for ((input, start), answer) in case.inputs.iter().zip(answers) {
                    self.compare_input(case, &pattern, input, *start, answer);
                }
            }
            (ours, theirs) => {
                let ours = ours.map(drop);
                self.differ(format!("{:?}: {ours:?}, V8 {theirs}", case.pattern));
            }
        }
    }

    fn compare_input(
        &mut self,
        case: &Case,
        pattern: &Pattern,
        input: &str,
        start: usize,
        theirs: &Value,
    ) {
        self.checks += 1;
        self.hits += usize::from(!theirs.is_null());
        let offset = input
            .char_indices()
            .nth(start)
            .map_or(input.len(), |(at, _)| at);
        let bytes = input.as_bytes();
        let found = pattern.captures(&mut self.cache, bytes, offset, &mut self.groups);
        if found == Matched::OutOfSteps {
            self.out_of_steps += 1;
            return;
        }
        let ours = match found {
            Matched::Yes => self.spans(input),
            _ => Value::Null,
        };
        let verdict = (start == 0).then(|| pattern.is_match(&mut self.cache, bytes));
        if ours != *theirs || verdict.is_some_and(|verdict| verdict != found) {
            self.differ(format!(
                "{:?} i={} s={} on {input:?} from {start}: {ours} {verdict:?}, V8 {theirs}",
                case.pattern, case.ignore_case, case.dot_matches_line_breaks
            ));
        }
    }

    /// The groups in UTF-16 code units.
    fn spans(&self, input: &str) -> Value {
        let spans = (0..self.groups.len()).map(|number| match self.groups.get(number) {
            Some(span) => json!([
                units_before(input, span.start),
                units_before(input, span.end)
            ]),
            None => Value::Null,
        });
        spans.collect()
    }

    fn differ(&mut self, difference: String) {
        self.differences.push(difference);
    }

    fn finish(mut self) {
        println!(
            "{} patterns ({} refused by both, {} skipped), {} checks, {} hits, {} out of steps, {} differences",
            self.patterns,
            self.refused,
            self.skipped,
            self.checks,
            self.hits,
            self.out_of_steps,
            self.differences.len()
        );
        // The shortest say most.
        self.differences.sort_by_key(String::len);
        self.differences.truncate(40);
        assert!(
            self.differences.is_empty(),
            "\n{}",
            self.differences.join("\n")
        );
        assert!(self.out_of_steps * 1000 <= self.checks);
    }
}

/// Limits of ours that V8 does not have.
fn is_limit(error: &PatternError) -> bool {
    let text = error.to_string();
    ["more than", "longer than", "count above", "size limit"]
        .iter()
        .any(|limit| text.contains(limit))
}

/// How many UTF-16 code units stand before a byte of the input, which may be the middle of a character of two.
fn units_before(input: &str, offset: usize) -> usize {
    let mut units = 0;
    for (at, character) in input.char_indices() {
        if at + character.len_utf8() <= offset {
            units += character.len_utf16();
        } else {
            assert!(offset <= at || (offset == at + 2 && character.len_utf16() == 2));
            units += usize::from(offset > at);
            break;
        }
    }
    units
}

fn question(case: &Case) -> Value {
    let mut flags = String::new();
    if case.ignore_case {
        flags.push('i');
    }
    if case.dot_matches_line_breaks {
        flags.push('s');
    }
    let inputs = case.inputs.iter().map(|(input, start)| {
        let units: usize = input.chars().take(*start).map(char::len_utf16).sum();
        json!([input, units])
    });
    json!([case.pattern, flags, inputs.collect::<Value>()])
}

fn case_of(question: &Value) -> Case {
    let flags = question[1].as_str().unwrap();
    let inputs = question[2].as_array().unwrap().iter().map(|input| {
        let text = input[0].as_str().unwrap();
        let units = input[1].as_u64().unwrap() as usize;
        let start = (0..=text.chars().count()).find(|count| {
            text.chars()
                .take(*count)
                .map(char::len_utf16)
                .sum::<usize>()
                == units
        });
        (text.to_owned(), start.unwrap())
    });
    Case {
        pattern: question[0].as_str().unwrap().to_owned(),
        ignore_case: flags.contains('i'),
        dot_matches_line_breaks: flags.contains('s'),
        inputs: inputs.collect(),
    }
}

/// A `node` that answers questions.
struct V8 {
    child: std::process::Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl V8 {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/ecmascript.js");
        let mut child = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node must be on the PATH");
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, answers }
    }

    fn ask(&mut self, cases: &[Case]) -> Vec<Value> {
        let input = self.child.stdin.as_mut().unwrap();
        let mut lines = String::new();
        for case in cases {
            writeln!(lines, "{}", question(case)).unwrap();
        }
        // Written by a thread of its own: node answers while it reads, and neither pipe is endless.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                input.write_all(lines.as_bytes()).unwrap();
                input.flush().unwrap();
            });
            cases
                .iter()
                .map(|_| serde_json::from_str(&self.answers.next().unwrap().unwrap()).unwrap())
                .collect()
        })
    }
}

impl Drop for V8 {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
