//! `stopgap explain`: what is told of a judgement, and that it is the judgement itself that is told.

use std::path::Path;

use serde_json::Value;
use stopgap::lab::Evaluate;
use stopgap::rules::{
    Dialect, Explainer, RequestView, RuleEnd, RuleOrigin, RuleSource, SourceOrigin,
};

use crate::support::process::run;

const RULES: &str = r#"<rewrite>
  <rules>
    <rule name="elsewhere">
      <match url="^owa/" />
      <action type="AbortRequest" />
    </rule>
    <rule name="tidy">
      <match url="^old/(.*)" />
      <action type="Rewrite" url="/{R:1}" />
    </rule>
    <rule name="autodiscover">
      <match url=".*" />
      <conditions>
        <add input="{REQUEST_METHOD}" pattern="^(GET|POST)$" />
        <add input="{REQUEST_URI}" pattern="autodiscover\.json.*powershell" />
        <add input="{HTTP_COOKIE}" pattern="^safe$" negate="true" />
      </conditions>
      <action type="CustomResponse" statusCode="403" subStatusCode="9" />
    </rule>
    <rule name="late">
      <match url="late" />
      <action type="None" />
    </rule>
  </rules>
  <outboundRules>
    <preConditions>
      <preCondition name="html"><add input="{RESPONSE_CONTENT_TYPE}" pattern="^text/html" /></preCondition>
    </preConditions>
    <rule name="server" preCondition="html">
      <match serverVariable="RESPONSE_SERVER" pattern="/.*" />
      <conditions><add input="{HTTPS}" pattern="on" /></conditions>
      <action type="Rewrite" value="" />
    </rule>
  </outboundRules>
</rewrite>
"#;

fn explain(folder: &Path, arguments: &[&str]) -> String {
    std::fs::write(folder.join("rules.xml"), RULES).unwrap();
    let path = folder.join("rules.xml");
    let mut all = vec!["explain", "--rules", path.to_str().unwrap()];
    all.extend(arguments);
    let output = run(folder, &all);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.replace(path.to_str().unwrap(), "rules.xml")
}

/// Rules for bodies: one that acts, ones that do not, and one for which this is no body.
const BODY_RULES: &str = r#"<outboundRules>
  <rule name="links">
    <match filterByTags="A" pattern="^http://internal/(.*)" />
    <conditions><add input="{R:1}" pattern="^old" negate="true" /></conditions>
    <action type="Rewrite" value="/{R:1}" />
  </rule>
  <rule name="images"><match filterByTags="Img" pattern="x" /><action type="Rewrite" value="y" /></rule>
  <rule name="words"><match pattern="secret" /><action type="Rewrite" value="word" /></rule>
  <rule name="absent"><match pattern="nowhere" /><action type="Rewrite" value="word" /></rule>
</outboundRules>
"#;

fn body_arguments<'a>(rules: &'a str, body: &'a str, kind: &'a str) -> Vec<&'a str> {
    vec![
        "explain",
        "--rules",
        rules,
        "--url",
        "/",
        "--response-header",
        kind,
        "--response-body",
        body,
    ]
}

fn explain_body(folder: &Path) -> String {
    let (rules, body) = (folder.join("body.xml"), folder.join("page.html"));
    std::fs::write(&rules, BODY_RULES).unwrap();
    std::fs::write(
        &body,
        "<a href='http://internal/a'>secret</a><a href=http://internal/old>secrets</a>",
    )
    .unwrap();
    let (rules, body) = (rules.to_str().unwrap(), body.to_str().unwrap());
    let mut all = String::new();
    for kind in [
        "Content-Type: text/html",
        "Content-Type: text/plain",
        "Content-Type: image/png",
    ] {
        let arguments = body_arguments(rules, body, kind);
        all += &format!("$ stopgap {}\n", arguments.join(" "));
        let output = run(folder, &arguments);
        assert!(output.status.success());
        all += &String::from_utf8(output.stdout).unwrap();
        all += "\n";
    }
    all.replace(rules, "body.xml").replace(body, "page.html")
}

#[test]
fn json_tells_of_bodies_too() {
    let folder = tempfile::tempdir().unwrap();
    explain_body(folder.path());
    let (rules, body) = (
        folder.path().join("body.xml"),
        folder.path().join("page.html"),
    );
    let kind = "Content-Type: text/html";
    let mut arguments = body_arguments(rules.to_str().unwrap(), body.to_str().unwrap(), kind);
    arguments.extend(["-o", "json"]);
    let output = run(folder.path(), &arguments);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!({
        "text": "<a href=\"/a\">word</a><a href=http://internal/old>words</a>",
        "rules": ["links", "words"],
        "skip": null,
        "untold": 0,
    });
    assert_eq!(document["body"], expected);
    let test = &document["rules"][0]["match"]["inputs"][0];
    assert_eq!(
        (&test["place"], &test["value"]),
        (&"a href".into(), &"http://internal/a".into())
    );
    assert_eq!(test["span"], serde_json::json!([0, 17]));
    let missing = body_arguments(rules.to_str().unwrap(), "no-such-file", kind);
    assert_eq!(run(folder.path(), &missing).status.code(), Some(1));
}

/// Set `STOPGAP_BLESS=1` to write the file anew.
#[test]
fn text_is_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let target = "http://mail.example/x/%61utodiscover.json?a=%50owershell";
    let response = [
        "--url",
        "https://mail.example/old/a",
        "--response-header",
        "Content-Type: text/html",
        "--response-header",
        "Server: Apache/2",
    ];
    let mut all = String::new();
    for arguments in [
        &["--url", target][..],
        &["--url", target, "--hardened"],
        &[
            "--curl",
            "curl -X POST 'http://mail.example/autodiscover.json?powershell' -H 'Cookie: safe'",
        ],
        &response,
    ] {
        all += &format!("$ stopgap explain {}\n", arguments.join(" "));
        all += &explain(folder.path(), arguments);
        all += "\n";
    }
    all += &explain_body(folder.path());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain.txt");
    if std::env::var_os("STOPGAP_BLESS").is_some() {
        std::fs::write(&golden, &all).unwrap();
    }
    let recorded = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(all, recorded, "it differs from {}", golden.display());
}

#[test]
fn json_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--url", "/autodiscover.json?powershell", "-o", "json"];
    let document: Value = serde_json::from_str(&explain(folder.path(), &arguments)).unwrap();
    assert_eq!(document["verdict"], "respond");
    assert_eq!(document["rule"], "autodiscover");
    assert_eq!(document["rules"][0]["end"], "match failed");
    assert_eq!(document["rules"][2]["end"], "applied");
    let tested = &document["rules"][2]["conditions"]["list"][1];
    assert_eq!(tested["input"], "{REQUEST_URI}");
    let expected = serde_json::json!([{
        "view": "iis", "sent": null, "value": "/autodiscover.json?powershell",
        "span": [1, 29], "out_of_steps": false, "holds": true,
    }]);
    assert_eq!(tested["inputs"], expected);
    assert_eq!(document["rules"][3]["end"], "not reached");
    assert_eq!(document["rules"].as_array().unwrap().len(), 4);
}

#[test]
fn bundled_set_is_explained_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let target = "/autodiscover/autodiscover.json?@x/%50owerShell";
    let output = run(folder.path(), &["explain", "--url", target]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mitigation M1.1, "), "{text}");
    assert!(text.contains("\n  once     /autodiscover/"), "{text}");
    assert!(text.contains("=> the connection is reset"), "{text}");
}

#[test]
fn faults_end_with_their_code() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code, said) in [
        (&["explain"][..], 2, "--url"),
        (&["explain", "--curl", "curl"], 2, "names no URL"),
        (
            &["explain", "--url", "/", "--header", "x"],
            2,
            "Name: value",
        ),
        (
            &["explain", "--url", "/", "--rules", "missing.xml"],
            3,
            "missing.xml",
        ),
    ] {
        let output = run(folder.path(), arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains(said), "{errors}");
    }
}

/// The matcher with an onlooker decides what it decides alone, for every case of the table.
#[test]
fn explaining_changes_no_decision() {
    let mut evaluate = Evaluate::new(Dialect::Iis);
    let mut judged = 0;
    for line in include_str!("../corpus/rewrite-cases.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (Some(text), true) = (case["rules_xml"].as_str(), case["context"].is_null()) else {
            continue;
        };
        let Ok(source) = RuleSource::parse(text, &SourceOrigin::named("rules_xml")) else {
            continue;
        };
        let Ok(explainer) = Explainer::new([(source, RuleOrigin::local("case"))]) else {
            continue;
        };
        let address = stopgap::lab::Address::parse(case["request"]["url"].as_str().unwrap());
        let mut fields: Vec<(String, String)> = case["request"]["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        if !fields
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            fields.push(("Host".to_owned(), address.authority.clone()));
        }
        let remote = case["request"]["remote_addr"].as_str();
        let explanation = explainer.explain(
            &RequestView {
                method: case["request"]["method"].as_str().unwrap_or("GET"),
                target: address.target.as_bytes(),
                version: "HTTP/1.1",
                secure: address.secure || case["request"]["https"] == true,
                remote: remote.map(|ip| std::net::SocketAddr::new(ip.parse().unwrap(), 0)),
                local: Some(([127, 0, 0, 1], address.port()).into()),
                fields: &fields,
                variables: &[],
            },
            None,
        );
        let outcome: Value = serde_json::from_str(&evaluate.line(line)).unwrap();
        let rule = explanation.decision.rule;
        let rule = rule.map(|id| explainer.rules().rule(id).name.as_str());
        assert_eq!(outcome["rule"].as_str(), rule, "{}", case["id"]);
        let mut applied = explanation.rules.iter().rev();
        let applied = applied.find(|rule| rule.end == RuleEnd::Applied);
        let applied = applied.map(|rule| rule.name.as_str());
        assert_eq!(applied, rule, "{}", case["id"]);
        judged += 1;
    }
    assert!(judged > 120, "{judged}");
}
