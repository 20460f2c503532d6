//! Random rules and requests: nothing panics, and judging twice decides the same.

use proptest::prelude::*;
use stopgap::rules::{
    Dialect, RequestView, ResponseView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch,
    SourceOrigin,
};

fn pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", ".", ".*", "(a)", "(.*)", "^", "$", "[^/]", "/", "%", "(?=.*b)", "(?!a)", "\\1",
        "|", "é", "?", "+", "(",
    ]);
    prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "/",
        "?",
        "#",
        "%20",
        "é",
        "{R:0}",
        "{R:1}",
        "{C:0}",
        "{C:1}",
        "{URL}",
        "{REQUEST_URI}",
        "{QUERY_STRING}",
        "{UrlDecode:{REQUEST_URI}}",
        "{UrlEncode:{R:0}}",
        "{ToLower:{HTTP_X_A}}",
        "{m:{URL}}",
        "{HTTP_COOKIE}",
        "{",
        "http://h",
        "{UNENCODED_URL}",
        "{CACHE_URL}",
        "{ALL_HTTP}",
        "{R:",
    ]);
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn action() -> impl Strategy<Value = String> {
    (0..5, text(), any::<bool>()).prop_map(|(kind, text, append)| {
        let text = escape(&text);
        match kind {
            0 => "<action type='AbortRequest'/>".to_owned(),
            1 => "<action/>".to_owned(),
            2 => format!("<action type='Redirect' url='{text}' appendQueryString='{append}'/>"),
            3 => format!("<action type='CustomResponse' statusCode='403' statusReason='{text}'/>"),
            _ => format!("<action type='Rewrite' url='{text}' appendQueryString='{append}'/>"),
        }
    })
}

fn rule() -> impl Strategy<Value = String> {
    let condition = (text(), pattern(), any::<bool>()).prop_map(|(input, pattern, negate)| {
        format!(
            "<add input='{}' pattern='{}' negate='{negate}'/>",
            escape(&input),
            escape(&pattern)
        )
    });
    let conditions = prop::collection::vec(condition, 0..3).prop_map(|list| list.concat());
    let set = prop::option::of(text()).prop_map(|text| {
        text.map_or(String::new(), |text| {
            format!(
                "<serverVariables><set name='HTTP_X_A' value='{}'/></serverVariables>",
                escape(&text)
            )
        })
    });
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0..3);
    (pattern(), conditions, set, action(), flags).prop_map(|(url, conditions, set, action, (negate, any, stop, syntax))| {
        let grouping = i32::from(any);
        format!(
            "patternSyntax='{syntax}' stopProcessing='{stop}'><match url='{}' negate='{negate}'/>\
             <conditions logicalGrouping='{grouping}' trackAllCaptures='{any}'>{conditions}</conditions>{set}{action}</rule>",
            escape(&url)
        )
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('\'', "&apos;")
}

fn target() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"/",
        b"?",
        b"%2F",
        b"%61",
        b"%2561",
        b"..",
        b"%",
        b"%FF",
        b"\xff",
        b"\xc3\xa9",
        b"%0A",
        b";x",
        b"+",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| [&b"/"[..], &pieces.concat()].concat())
}

/// The set of those rules that can be compiled.
fn build(rules: &[String], dialect: Dialect) -> RuleSet {
    let mut builder = RuleSet::builder(RuleLimits::default());
    for (number, rule) in rules.iter().enumerate() {
        let text = format!(
            "<rewrite><allowedServerVariables><add name='HTTP_X_A'/></allowedServerVariables>\
             <rewriteMaps><rewriteMap name='m'><add key='/a' value='/b'/></rewriteMap></rewriteMaps>\
             <rules><rule name='r{number}' {rule}</rules><outboundRules><rule name='o'>\
             <match serverVariable='RESPONSE_X' pattern='(.*)'/><action type='Rewrite' value='{{R:1}}{{URL}}'/></rule></outboundRules></rewrite>"
        );
        if let Ok(source) = RuleSource::parse(&text, &SourceOrigin::named("random")) {
            let _ = builder.add(&source.with_dialect(dialect), RuleOrigin::local("random"));
        }
    }
    builder.build()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn judging_is_deterministic(
        rules in prop::collection::vec(rule(), 1..6),
        targets in prop::collection::vec(target(), 1..4),
        hardened in any::<bool>(),
    ) {
        let dialect = if hardened { Dialect::Hardened } else { Dialect::Iis };
        let (first, second) = (build(&rules, dialect), build(&rules, dialect));
        let mut warm = Scratch::default();
        for target in &targets {
            let request = RequestView {
                method: "GET",
                target,
                version: "HTTP/1.1",
                secure: hardened,
                remote: None,
                local: None,
                fields: &[("Host", "h"), ("X-A", "Bb"), ("Cookie", "a=b")],
                variables: &[],
            };
            let response = ResponseView { status: 200, reason: "OK", fields: &[("X", "y")] };
            let decision = first.judge(&request, &mut warm);
            let memory = first.remember(&request, &mut warm);
            let answered = first.judge_response(&memory, &response, &mut warm);
            // Another compilation with memory of its own decides the same, so nothing is left over from before.
            let mut fresh = Scratch::default();
            prop_assert_eq!(&decision, &second.judge(&request, &mut fresh));
            let memory = second.remember(&request, &mut fresh);
            prop_assert_eq!(&answered, &second.judge_response(&memory, &response, &mut fresh));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[<>/a-zR:{}= '\"&;]{0,60}") {
        let _ = RuleSource::parse(&text, &SourceOrigin::named("random"));
        let text = format!("<rules><rule name='r'><action type='Rewrite' url='{}'/></rule></rules>", escape(&text));
        let _ = RuleSource::parse(&text, &SourceOrigin::named("random"));
    }
}
