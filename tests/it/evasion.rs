//! Public attacks on Exchange, the forms in which they hide, and honest traffic, judged by the bundled mitigations.

use std::fs;
use std::path::Path;

use serde_json::Value;
use stopgap::canon::{Refusals, refuse};
use stopgap::lab::{honest, vectors};
use stopgap::model::{Expectation, Mitigation};
use stopgap::rules::{RequestView, ResponseView, RuleSet, Scratch};

use super::support::baseline;

/// The opt-in group, and the rule of the corpora that belongs to it.
const POLICY: (&str, &str) = ("policy", "own-remote-powershell-external");

/// Fields that the proxy removes from every request, since a rewriting server behind it would act on them.
const STRIPPED: [&str; 2] = ["x-original-url", "x-rewrite-url"];

#[test]
fn vectors_hold() {
    let mut failures = Vec::new();
    for mitigation in baseline::mitigations() {
        let set = baseline::compile(&mitigation);
        for failure in vectors::judge(&set, &mitigation) {
            failures.push(format!("{} {failure}", mitigation.id));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn mitigations_are_documented_and_proven() {
    let mitigations = baseline::mitigations();
    for needed in ["PING1", "M1.1", "M2.1", "EOMT1.1", "EOMT1.2"] {
        let needed = needed.parse().unwrap();
        assert!(
            mitigations.iter().any(|mitigation| mitigation.id == needed),
            "{needed}"
        );
    }
    for mitigation in mitigations
        .iter()
        .filter(|found| found.id.to_string() != "PING1")
    {
        let id = &mitigation.id;
        assert!(mitigation.cve.starts_with("CVE-20"), "{id}");
        assert!(mitigation.reference.starts_with("https://"), "{id}");
        for expectation in [Expectation::Stop, Expectation::Pass] {
            let mut vectors = mitigation.vectors.iter();
            assert!(
                vectors.any(|vector| vector.expectation == expectation),
                "{id}"
            );
        }
    }
}

#[test]
fn vectors_fail_when_they_are_wrong() {
    let mitigations = baseline::mitigations();
    for mitigation in mitigations {
        let set = baseline::compile(&mitigation);
        let mut swapped = mitigation.clone();
        for vector in &mut swapped.vectors {
            vector.expectation = match vector.expectation {
                Expectation::Pass => Expectation::Stop,
                Expectation::Stop => Expectation::Pass,
            };
        }
        // A request that is refused before any rule fails as a pass vector as well.
        let failures = vectors::judge(&set, &swapped);
        assert_eq!(failures.len(), swapped.vectors.len(), "{}", mitigation.id);
        assert_eq!(
            vectors::judge(&RuleSet::empty(), &mitigation).len(),
            stops(&mitigation)
        );
    }
}

#[test]
fn honest_requests_pass_every_mitigation() {
    let paths = [
        "/owa/healthcheck.htm".to_owned(),
        "/Microsoft-Server-ActiveSync".to_owned(),
    ];
    for mitigation in baseline::mitigations() {
        let stops = honest::judge(&baseline::compile(&mitigation), &paths);
        assert!(stops.is_empty(), "{}: {stops:?}", mitigation.id);
    }
}

#[test]
fn honest_requests_cover_the_benign_corpus() {
    for line in corpus("exchange-benign.jsonl") {
        let (method, target) = (text(&line, "method"), text(&line, "target"));
        let mut requests = honest::requests().iter();
        assert!(
            requests.any(|request| request.method == method && request.target == target),
            "{method} {target}"
        );
    }
}

#[test]
fn attacks_are_stopped() {
    let mut judges = Judges::new();
    let mut missed = Vec::new();
    for line in corpus("exchange-attacks.jsonl") {
        if !["uri", "cookie", "header", "uri+policy"].contains(&text(&line, "needs")) {
            continue;
        }
        if judges.outcome(&line) == Outcome::Forwarded {
            missed.push(format!("{} {}", text(&line, "id"), text(&line, "target")));
        }
    }
    assert!(missed.is_empty(), "\n{}", missed.join("\n"));
}

#[test]
fn responses_of_owa_carry_the_policy() {
    let mitigations = baseline::mitigations();
    let csp = mitigations
        .iter()
        .find(|found| found.id.to_string() == "M2.1")
        .unwrap();
    let set = baseline::compile(csp);
    let mut scratch = Scratch::default();
    let mut judged = 0;
    for line in corpus("exchange-attacks.jsonl") {
        if text(&line, "needs") != "response" {
            continue;
        }
        judged += 1;
        let fields = fields(&line);
        let request = view(&line, text(&line, "target").as_bytes(), &fields);
        set.judge(&request, &mut scratch);
        let memory = set.remember(&request, &mut scratch);
        let fields = vec![("Content-Type", "text/html; charset=utf-8")];
        let response = ResponseView {
            status: 200,
            reason: "",
            fields: &fields,
        };
        let decision = set.judge_response(&memory, &response, &mut scratch);
        let change = decision.fields.first().unwrap();
        assert_eq!(change.name, "content-security-policy");
        assert!(change.value.ends_with(b"script-src-attr 'none'"));
    }
    assert!(judged > 0);
}

#[test]
fn honest_traffic_is_forwarded() {
    let mut judges = Judges::new();
    for line in corpus("exchange-benign.jsonl") {
        assert_eq!(
            judges.outcome(&line),
            Outcome::Forwarded,
            "{}",
            text(&line, "id")
        );
    }
}

#[test]
fn evasions_end_acceptably() {
    let mut judges = Judges::new();
    let mut failed = Vec::new();
    for line in corpus("evasions.jsonl") {
        let outcome = judges.outcome(&line);
        if !is_acceptable(&line, &outcome) {
            let (id, technique) = (text(&line, "id"), text(&line, "technique"));
            failed.push(format!(
                "{id} {technique} {} is {outcome:?}",
                text(&line, "target")
            ));
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn every_form_of_every_base_request_is_stopped() {
    let mut judges = Judges::new();
    let mut missed = Vec::new();
    let mut bases = Vec::new();
    for mut line in corpus("evasions.jsonl") {
        let plain = text(&line, "canonical").to_owned();
        if text(&line, "base") == "header" || bases.contains(&plain) {
            continue;
        }
        for (form, target) in forms(&plain) {
            line["target"] = Value::from(target.as_str());
            if judges.outcome(&line) == Outcome::Forwarded {
                missed.push(format!("{form}: {target}"));
            }
        }
        bases.push(plain);
    }
    assert!(bases.len() > 5);
    assert!(missed.is_empty(), "\n{}", missed.join("\n"));
}

/// One target in many forms, written anew for every base, so that rules hold against techniques and not lines.
fn forms(plain: &str) -> Vec<(String, String)> {
    let (path, query) = plain.split_once('?').unwrap_or((plain, ""));
    let letters = |text: &str, encode: &dyn Fn(u32) -> String| -> String {
        let encode = |(at, c): (usize, char)| match c.is_ascii_alphabetic() && at % 3 != 1 {
            true => encode(u32::from(c)),
            false => c.to_string(),
        };
        text.chars().enumerate().map(encode).collect()
    };
    let with_query = |path: &str, query: &str| match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    let utf8 = |code: u32| {
        let octets = char::from_u32(code).unwrap().to_string().into_bytes();
        octets
            .iter()
            .fold(String::new(), |text, octet| format!("{text}%{octet:02X}"))
    };
    let mut forms = Vec::new();
    for depth in 1..=5 {
        let nested = |code: u32| format!("%{}{code:02x}", "25".repeat(depth - 1));
        let form = with_query(&letters(path, &nested), &letters(query, &nested));
        // In the query nothing is refused, and four rounds are the most that are undone.
        if depth < 5 || query.is_empty() {
            forms.push((format!("percent, {depth} deep"), form));
        }
    }
    let wide = |code: u32| format!("%u{code:04x}");
    let full_width = |code: u32| utf8(code + 0xfee0);
    let overlong = |code: u32| format!("%C{:X}%{:02X}", code >> 6, 0x80 | (code & 0x3f));
    let encoders: [(&str, &dyn Fn(u32) -> String); 3] = [
        ("percent-u", &wide),
        ("full-width", &full_width),
        ("overlong", &overlong),
    ];
    for (form, encode) in encoders {
        forms.push((
            format!("{form} path"),
            with_query(&letters(path, encode), query),
        ));
        forms.push((
            format!("{form} query"),
            with_query(path, &letters(query, encode)),
        ));
    }
    for separator in [
        "//",
        "/./",
        "/x/../",
        "/x/%2e%2e/",
        "\\",
        "/%2e/",
        "%2f",
        "%5c",
        "%252f",
        "/(S(x))/",
        "/(A(x)F(y))/",
        ";a=b/",
        "./",
        "%20/",
        "/x/..;/",
        "%EF%BC%8F",
    ] {
        let separated = format!("/{}", path[1..].replace('/', separator));
        forms.push((
            format!("{separator} between"),
            with_query(&separated, query),
        ));
        let led = match separator.starts_with('/') {
            true => format!("{separator}{}", &path[1..]),
            false => format!("/{separator}{}", &path[1..]),
        };
        forms.push((format!("{separator} first"), with_query(&led, query)));
    }
    for noise in ["%0a", "%0d%0aX:y", "%zz", "%", "+", "x=1", "\u{e9}", "%00"] {
        let noisy = with_query(path, &format!("{noise}&{query}"));
        forms.push((format!("{noise} in front of the query"), noisy));
    }
    for end in [".", "%20", "%00.html", "::$DATA", ";x=1", "/x.png", "%FF"] {
        forms.push((
            format!("{end} at the end"),
            with_query(&format!("{path}{end}"), query),
        ));
    }
    forms
}

/// What becomes of a request, before it would reach a server.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Blocked,
    Forwarded,
    Rejected,
}

/// The bundled rules, one set for each mitigation so that none hides another.
pub(super) struct Judges {
    always: Vec<(RuleSet, Scratch)>,
    policy: Vec<(RuleSet, Scratch)>,
}

impl Judges {
    pub(super) fn new() -> Self {
        let (policy, always): (Vec<_>, Vec<_>) = baseline::mitigations()
            .into_iter()
            .partition(|mitigation| mitigation.group == POLICY.0);
        let compile = |mitigations: Vec<Mitigation>| {
            let sets = mitigations.iter().map(baseline::compile);
            sets.map(|set| (set, Scratch::default())).collect()
        };
        Self {
            always: compile(always),
            policy: compile(policy),
        }
    }

    pub(super) fn outcome(&mut self, line: &Value) -> Outcome {
        // Corpora write octets as Latin-1.
        let target: Vec<u8> = text(line, "target")
            .chars()
            .map(|c| u8::try_from(c).unwrap())
            .collect();
        let Some(target) = origin_form(&target) else {
            return Outcome::Rejected;
        };
        if refuse(target, &Refusals::default()).is_some() {
            return Outcome::Rejected;
        }
        let fields = fields(line);
        let request = view(line, target, &fields);
        let with_policy = line.get("rule").is_some_and(|rule| rule == POLICY.1);
        let policy = self.policy.iter_mut().filter(|_| with_policy);
        let is_blocked = self.always.iter_mut().chain(policy).any(|(set, scratch)| {
            let decision = set.judge(&request, scratch);
            decision.verdict.stops() && decision.failure.is_none()
        });
        if is_blocked {
            Outcome::Blocked
        } else {
            Outcome::Forwarded
        }
    }
}

/// The target in origin form, as the proxy makes it before rules see it (RFC 9112 section 3.2): an absolute form loses
/// its scheme and authority. One with user information, and anything that is no form at all, is refused.
fn origin_form(target: &[u8]) -> Option<&[u8]> {
    if target.starts_with(b"/") {
        return Some(target);
    }
    let colon = target.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://")?;
    let is_http = [&b"http"[..], b"https"]
        .iter()
        .any(|http| scheme.eq_ignore_ascii_case(http));
    if !is_http {
        return None;
    }
    let path = rest.iter().position(|&byte| byte == b'/')?;
    (!rest[..path].contains(&b'@')).then_some(&rest[path..])
}

fn is_acceptable(line: &Value, outcome: &Outcome) -> bool {
    let acceptable: Vec<&str> = line["acceptable"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match outcome {
        Outcome::Blocked => acceptable.contains(&"block"),
        Outcome::Rejected => acceptable.contains(&"reject"),
        Outcome::Forwarded => acceptable.iter().any(|&word| match word {
            "forward" => true,
            "forward-if-not-equal" => !text(line, "reaches_same_on_iis").starts_with("yes"),
            "forward-without-header" => fields(line)
                .iter()
                .any(|(name, _)| STRIPPED.contains(&name.to_ascii_lowercase().as_str())),
            // The proxy replaces X-Forwarded-For after hop-by-hop fields are gone; its own tests hold that.
            "forward-rewritten-xff" => text(line, "technique") == "hop-by-hop-xff",
            _ => false,
        }),
    }
}

fn stops(mitigation: &Mitigation) -> usize {
    let refused = |target: &str| refuse(target.as_bytes(), &Refusals::default()).is_some();
    let vectors = mitigation.vectors.iter();
    vectors
        .filter(|vector| vector.expectation == Expectation::Stop && !refused(&vector.target))
        .count()
}

fn corpus(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name);
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {line}"))
}

fn fields(line: &Value) -> Vec<(&str, &str)> {
    let pairs = line["headers"].as_array().unwrap().iter();
    pairs
        .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect()
}

fn view<'a>(
    line: &'a Value,
    target: &'a [u8],
    fields: &'a Vec<(&'a str, &'a str)>,
) -> RequestView<'a> {
    RequestView {
        method: text(line, "method"),
        target,
        version: "HTTP/1.1",
        secure: true,
        remote: None,
        local: None,
        fields,
        variables: &[],
    }
}
