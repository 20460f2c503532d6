//! The hardened dialect: rules that stop requests see every view of the target, all others see IIS's.

use serde_json::json;
use stopgap::rules::{
    Dialect, RequestView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin,
    Verdict,
};

use super::outcome;

const EXCHANGE: &str = "<rules><rule name='r'><match url='.*'/><conditions>\
    <add input='{UrlDecode:{REQUEST_URI}}' pattern='(?=.*autodiscover)(?=.*powershell)'/></conditions>\
    <action type='AbortRequest'/></rule></rules>";

fn action(dialect: Dialect, rules: &str, url: &str) -> String {
    let outcome = outcome(
        dialect,
        rules,
        &json!({ "url": url, "headers": {"X-A": "%2570"} }),
    );
    outcome["action"].as_str().unwrap().to_owned()
}

#[test]
fn stopping_rules_see_every_view() {
    for (what, url, iis) in [
        ("plain", "http://h/autodiscover/?powershell", "abort"),
        (
            "encoded twice in the path, which IIS decodes and UrlDecode again",
            "http://h/autodiscover/%2570owershell",
            "abort",
        ),
        (
            "encoded thrice",
            "http://h/autodiscover/%252570owershell",
            "none",
        ),
        (
            "encoded twice in the query",
            "http://h/autodiscover/?%2570owershell",
            "none",
        ),
        (
            "a line break between",
            "http://h/?autodiscover%0Apowershell",
            "none",
        ),
    ] {
        assert_eq!(action(Dialect::Iis, EXCHANGE, url), iis, "{what}");
        assert_eq!(action(Dialect::Hardened, EXCHANGE, url), "abort", "{what}");
    }
    let honest = "http://h/autodiscover/autodiscover.xml";
    assert_eq!(action(Dialect::Hardened, EXCHANGE, honest), "none");
}

#[test]
fn other_actions_and_fields_are_judged_as_iis_does() {
    let rule = |condition: &str, action: &str| {
        format!(
            "<rules><rule name='r'><match url='.*'/><conditions>{condition}</conditions>{action}</rule></rules>"
        )
    };
    let query = "<add input='{QUERY_STRING}' pattern='^p$'/>";
    let url = "http://h/?%2570";
    for (element, expected) in [
        ("<action type='AbortRequest'/>", "abort"),
        ("<action type='CustomResponse' statusCode='400'/>", "custom"),
        ("<action type='CustomResponse' statusCode='299'/>", "none"),
        ("<action type='Redirect' url='/x'/>", "none"),
        ("<action type='Rewrite' url='/x'/>", "none"),
    ] {
        assert_eq!(
            action(Dialect::Hardened, &rule(query, element), url),
            expected,
            "{element}"
        );
    }
    let field = rule(
        "<add input='{HTTP_X_A}' pattern='^p$'/>",
        "<action type='AbortRequest'/>",
    );
    assert_eq!(
        action(Dialect::Hardened, &field, url),
        "none",
        "a field has one view"
    );
}

#[test]
fn negated_tests_hold_where_the_pattern_is_absent_in_some_view() {
    let rules = "<rules><rule name='r'><match url='.*'/><conditions>\
        <add input='{QUERY_STRING}' pattern='%' negate='true'/></conditions><action type='AbortRequest'/></rule></rules>";
    assert_eq!(action(Dialect::Iis, rules, "http://h/?%41"), "none");
    assert_eq!(action(Dialect::Hardened, rules, "http://h/?%41"), "abort");
    assert_eq!(action(Dialect::Hardened, rules, "http://h/?%25"), "none");
    let url = "<rules><rule name='r'><match url='^%' negate='true'/><action type='AbortRequest'/></rule></rules>";
    assert_eq!(action(Dialect::Iis, url, "http://h/%2541"), "none");
    assert_eq!(action(Dialect::Hardened, url, "http://h/%2541"), "abort");
}

/// An allow-list is a rule whose conditions are negated: what is not on it is refused.
#[test]
fn allow_list_is_neither_passed_by_nor_shut() {
    let rules = "<rules><rule name='only these'><match url='.*'/><conditions>\
        <add input='{URL}' pattern='^/(owa|ecp)(/|$)' negate='true'/>\
        <add input='{REMOTE_ADDR}' pattern='^10\\.' negate='true'/></conditions>\
        <action type='CustomResponse' statusCode='403'/></rule></rules>";
    let judged = |target: &str, address: &str| {
        let request = json!({ "url": format!("http://h{target}"), "remote_addr": address });
        let outcome = outcome(Dialect::Hardened, rules, &request);
        outcome["action"].as_str().unwrap().to_owned()
    };
    for target in [
        "/owa/",
        "/OWA/auth/logon.aspx?url=https%3a%2f%2fh%2fowa%2f%3fa%3db%252fc",
        "/owa/M%C3%BCller/?q=%E5%B1%B1+a",
        "/ecp/a%20b;c=d/100%25",
        "/owa/x/../y",
    ] {
        assert_eq!(judged(target, "192.0.2.1"), "none", "{target}");
    }
    for target in [
        "/powershell/",
        "/owa/../powershell/",
        "/owa/%2e%2e/powershell/",
        "/owa/..%2fpowershell/",
        "/owa/%252e%252e/powershell/",
        "/owa%5c..%5cpowershell/",
        "/owa/..;/powershell/",
        "/owa/.%252e/%70owershell/",
        "//powershell/owa/",
        "/owax/",
    ] {
        assert_eq!(judged(target, "192.0.2.1"), "custom", "{target}");
        // The other list still counts, in the one view that an address has.
        assert_eq!(judged(target, "10.0.0.1"), "none", "{target}");
    }
}

#[test]
fn groups_of_the_url_are_read_in_the_view_they_matched_in() {
    let rules = "<rules><rule name='r'><match url='^(.*)$'/><conditions>\
        <add input='{R:1}' pattern='^pa$'/></conditions><action type='AbortRequest'/></rule></rules>";
    assert_eq!(action(Dialect::Iis, rules, "http://h/p%2561"), "none");
    assert_eq!(action(Dialect::Hardened, rules, "http://h/p%2561"), "abort");
}

#[test]
fn rewritten_urls_are_judged_over_their_views_too() {
    let rules = "<rules><rule name='r1'><match url='^go/(.*)'/><action type='Rewrite' url='/{R:1}'/></rule>\
        <rule name='r2'><match url='^evil$'/><action type='AbortRequest'/></rule></rules>";
    assert_eq!(action(Dialect::Iis, rules, "http://h/go/%65vil"), "abort");
    assert_eq!(
        action(Dialect::Iis, rules, "http://h/go/%2565vil"),
        "rewrite"
    );
    assert_eq!(
        action(Dialect::Hardened, rules, "http://h/go/%2565vil"),
        "abort"
    );
}

#[test]
fn targets_that_no_honest_client_sends_are_rejected() {
    let outcome = outcome(
        Dialect::Hardened,
        "<rules/>",
        &json!({"url": "http://h/%00"}),
    );
    assert_eq!(
        (&outcome["action"], &outcome["status"]),
        (&json!("reject"), &json!(400))
    );
    assert!(outcome["reason"].is_string());
}

#[test]
fn document_may_ask_to_be_hardened() {
    let rules = |word: &str| {
        format!(
            "<rules xmlns:sg='urn:stopgap:feed:1' sg:dialect='{word}'>{}",
            &EXCHANGE["<rules>".len()..]
        )
    };
    let url = "http://h/autodiscover/?%2570owershell";
    assert_eq!(action(Dialect::Iis, &rules("hardened"), url), "abort");
    assert_eq!(action(Dialect::Iis, &rules("iis"), url), "none");
    assert_eq!(action(Dialect::Iis, &rules("soft"), url), "error");
}

#[test]
fn search_without_an_end_counts_as_a_match_for_rules_that_refuse() {
    // Neither an automaton nor a note of what was tried decides this one within the budget.
    let rule = |negate: bool, element: &str| {
        format!(
            "<rules><rule name='r'><match url='.*'/><conditions><add input='{{QUERY_STRING}}' \
            pattern='^(a|a)*(a|a)*(a|a)*\\1\\2\\3c' negate='{negate}'/></conditions>{element}</rule></rules>"
        )
    };
    let url = format!("http://h/?{}bc", "a".repeat(4000));
    for negate in [false, true] {
        let refuses = action(
            Dialect::Iis,
            &rule(negate, "<action type='AbortRequest'/>"),
            &url,
        );
        assert_eq!(refuses, "abort", "negate {negate}");
        let rewrites = action(
            Dialect::Iis,
            &rule(negate, "<action type='Rewrite' url='/x'/>"),
            &url,
        );
        assert_eq!(rewrites, "none", "negate {negate}");
    }
}

fn scoped(rules: &str, dialect: Dialect, scope: &str) -> RuleSet {
    let source = RuleSource::parse(rules, &SourceOrigin::named("rules.xml")).unwrap();
    let source = source.with_dialect(dialect).with_scope(scope);
    let mut builder = RuleSet::builder(RuleLimits::default());
    builder
        .add(&source, RuleOrigin::local("rules.xml"))
        .unwrap();
    builder.build()
}

fn judge(rules: &RuleSet, target: &str) -> Verdict {
    let request = RequestView {
        method: "GET",
        target: target.as_bytes(),
        version: "HTTP/1.1",
        secure: false,
        remote: None,
        local: None,
        fields: &[("Host", "h")],
        variables: &[],
    };
    rules.judge(&request, &mut Scratch::default()).verdict
}

#[test]
fn scope_is_a_virtual_directory() {
    let rules = "<rules><rule name='r'><match url='^a(.*)$'/><action type='Rewrite' url='b{R:1}'/></rule>\
        <rule name='root'><match url='^$'/><action type='Rewrite' url='/site'/></rule></rules>";
    for scope in ["/owa", "owa/", "/owa/"] {
        let rules = scoped(rules, Dialect::Iis, scope);
        let rewritten = |target: &str| match judge(&rules, target) {
            Verdict::Rewrite { target } => String::from_utf8(target).unwrap(),
            _ => String::new(),
        };
        for (target, expected) in [
            ("/owa/a1", "/owa/b1"),
            ("/OWA/a1", "/owa/b1"),
            ("/owa", "/site"),
            ("/owa/", "/site"),
            ("/owax/a", ""),
            ("/a", ""),
        ] {
            assert_eq!(rewritten(target), expected, "{target}");
        }
    }
}

#[test]
fn scope_of_a_stopping_rule_is_looked_for_in_every_view() {
    let rules =
        "<rules><rule name='r'><match url='^x$'/><action type='AbortRequest'/></rule></rules>";
    for (target, iis, hardened) in [
        ("/owa/x", true, true),
        ("/%6Fwa/x", true, true),
        ("/%256Fwa/x", false, true),
        ("/ecp/x", false, false),
    ] {
        for (dialect, expected) in [(Dialect::Iis, iis), (Dialect::Hardened, hardened)] {
            let verdict = judge(&scoped(rules, dialect, "/owa"), target);
            assert_eq!(verdict == Verdict::Abort, expected, "{target} {dialect:?}");
        }
    }
}

#[test]
fn rewritten_target_is_encoded_for_the_wire() {
    let rules = |flag: &str| {
        format!(
            "<rules {flag}><rule name='r'><match url='^a(.*)'/><action type='Rewrite' url='b%20{{R:1}}'/></rule></rules>"
        )
    };
    for (flag, expected) in [
        ("", "/b%2520%20%25%FF%3Fx?q=%20"),
        ("useOriginalURLEncoding='false'", "/b%20%20%25%FF%3Fx?q=%20"),
    ] {
        let rules = scoped(&rules(flag), Dialect::Iis, "");
        let verdict = judge(&rules, "/a%20%25%FF%3Fx?q=%20");
        // A question mark that was captured begins the query, as IIS's text substitution has it.
        let expected = expected.replace("%3Fx?q", "?x&q");
        assert_eq!(
            verdict,
            Verdict::Rewrite {
                target: expected.into_bytes()
            },
            "{flag}"
        );
    }
}

#[test]
fn each_source_is_a_group_of_its_own() {
    let parse = |rules: &str| RuleSource::parse(rules, &SourceOrigin::named("rules.xml")).unwrap();
    let first = parse(
        "<rules><rule name='r' stopProcessing='true'><match url='^a$'/><action type='Rewrite' url='b'/></rule></rules>",
    );
    let second = parse(
        "<rules><rule name='r'><match url='^b$'/><action type='AbortRequest'/></rule></rules>",
    );
    let mut builder = RuleSet::builder(RuleLimits::default());
    builder.add(&first, RuleOrigin::local("1")).unwrap();
    builder.add(&second, RuleOrigin::local("2")).unwrap();
    let rules = builder.build();
    assert_eq!(judge(&rules, "/a"), Verdict::Abort);
    let sources: Vec<_> = rules
        .rules()
        .map(|(_, rule)| rule.origin.source.as_str())
        .collect();
    assert_eq!(sources, ["1", "2"]);
}
