//! The rewrite language: the table of cases as IIS decides them, our choices beside it, and what is refused.

mod choices;
mod hardened;
mod outbound;
mod random;
mod refused;

use std::collections::BTreeMap;

use serde_json::Value;
use stopgap::lab::Evaluate;
use stopgap::rules::Dialect;

const CASES: &str = include_str!("../../corpus/rewrite-cases.jsonl");

/// Cases that must differ, each with its reason.
const EXCLUDED: &[(&str, &str)] = &[];

/// What becomes of a request, as `eval` shows it.
fn outcome(dialect: Dialect, rules: &str, request: &Value) -> Value {
    let case = serde_json::json!({ "rules_xml": rules, "request": request });
    serde_json::from_str(&Evaluate::new(dialect).line(&case.to_string())).unwrap()
}

/// Asserts that the outcome has at least what is expected.
#[track_caller]
fn assert_has(outcome: &Value, expected: &Value, what: &str) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&outcome[key], value, "{what}: {key} of {outcome}");
    }
}

fn cases() -> impl Iterator<Item = Value> {
    CASES
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
}

/// What the outcome has otherwise than the case expects.
fn differences(case: &Value, outcome: &Value) -> Vec<String> {
    let expect = case["expect"].as_object().unwrap();
    let mut differences = Vec::new();
    let mut differs = |key: &str, expected: &Value, found: &Value| {
        if expected != found {
            differences.push(format!("{key}: expected {expected}, found {found}"));
        }
    };
    for (key, expected) in expect {
        match key.as_str() {
            "set_headers" | "set_variables" | "response_headers" => {
                for (name, value) in expected.as_object().unwrap() {
                    differs(name, value, &outcome[key][name]);
                }
            }
            "unchanged_headers" => {
                for name in expected.as_array().unwrap() {
                    differs(
                        "unchanged",
                        &Value::Null,
                        &outcome["set_headers"][name.as_str().unwrap()],
                    );
                }
            }
            "absent_response_headers" => {
                for name in expected.as_array().unwrap() {
                    differs(
                        "absent",
                        &Value::Null,
                        &outcome["response_headers"][name.as_str().unwrap()],
                    );
                }
            }
            // The words of an error are ours.
            "error" => differs(
                "error",
                &Value::Bool(true),
                &outcome["error"].is_string().into(),
            ),
            _ => differs(key, expected, &outcome[key]),
        }
    }
    differences
}

#[test]
fn every_case_is_decided_as_iis_does() {
    let mut evaluate = Evaluate::new(Dialect::Iis);
    let excluded: BTreeMap<&str, &str> = EXCLUDED.iter().copied().collect();
    let mut failures = Vec::new();
    for case in cases() {
        let id = case["id"].as_str().unwrap();
        let outcome: Value = serde_json::from_str(&evaluate.line(&case.to_string())).unwrap();
        let differences = differences(&case, &outcome);
        match excluded.get(id) {
            None if !differences.is_empty() => {
                failures.push(format!("{id}: {}; {outcome}", differences.join("; ")));
            }
            Some(reason) if differences.is_empty() => {
                failures.push(format!("{id} passes, but is excluded: {reason}"));
            }
            _ => {}
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn exclusions_name_cases_and_are_few() {
    for (id, _) in EXCLUDED {
        assert!(cases().any(|case| case["id"] == *id), "{id} is no case");
    }
    assert_eq!(cases().count(), 200);
}
