//! Rule text that is refused: where, and with what advice.

use std::error::Error;

use stopgap::rules::{RuleError, RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};

fn load(text: &str) -> Result<RuleSet, RuleError> {
    let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
    let mut builder = RuleSet::builder(RuleLimits::default());
    builder.add(&source, RuleOrigin::local("rules.xml"))?;
    Ok(builder.build())
}

fn refusal(text: &str) -> RuleError {
    load(text).expect_err(text)
}

/// A rule with these parts in it.
fn rule(parts: &str) -> String {
    format!("<rules><rule name='r'>{parts}</rule></rules>")
}

#[test]
fn error_says_where_and_what_to_do() {
    let text = "<rules>\n  <rule name='a b'>\n    <match url='x'/>\n    <action type='Redirect' url='/' redirectType='Permanant'/>\n  </rule>\n</rules>";
    let error = refusal(text);
    assert_eq!(
        error.to_string(),
        "rules.xml, line 4, column 37, rule \"a b\", attribute redirectType: \"Permanant\" is not allowed; \
         write Permanent, or another of: Permanent, Found, SeeOther, Temporary"
    );
    assert_eq!(
        (error.file(), error.line(), error.column()),
        ("rules.xml", 4, 37)
    );
}

#[test]
fn place_counts_from_where_the_text_began() {
    let origin = SourceOrigin {
        name: "feed.xml".into(),
        line: 10,
        column: 5,
    };
    let place = |text: &str| {
        let error = RuleSource::parse(text, &origin).unwrap_err();
        (error.line(), error.column())
    };
    assert_eq!(place("<rules colour='x'/>"), (10, 12));
    assert_eq!(place("<rules>\n <ruel/></rules>"), (11, 2));
}

#[test]
fn names_get_a_suggestion() {
    for (text, expected) in [
        (
            "<rules><rule nam='x'/></rules>",
            "attribute name: the attribute is missing; add it",
        ),
        (
            "<rules><rule name='r' stopProccessing='true'/></rules>",
            "unknown attribute \"stopProccessing\"; did you mean stopProcessing?",
        ),
        (
            "<rules><rule name='r' colour='true'/></rules>",
            "unknown attribute \"colour\"; remove it",
        ),
        (
            "<rules><rule name='r'><conditons/></rule></rules>",
            "unknown element \"conditons\"; did you mean <conditions>?",
        ),
        ("<rewrite><Rules/></rewrite>", "did you mean <rules>?"),
        (
            "<rules><rule name='r' xmlns:x='urn:x' x:name='y'/></rules>",
            "unknown attribute \"x:name\"",
        ),
        ("<rulez/>", "<rewrite>, or one of its sections"),
    ] {
        let error = refusal(text).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    for (parts, expected) in [
        ("<match url=''/>", "attribute url: the pattern is missing"),
        (
            "<match url='x'/><match url='y'/>",
            "<match> in this rule exists already",
        ),
        (
            "<match url='('/>",
            "attribute url: the pattern cannot be compiled",
        ),
        ("text", "holds text, which means nothing here"),
        (
            "<conditions><add pattern='x'/></conditions>",
            "attribute input: the attribute is missing",
        ),
        (
            "<conditions><add input='{URL}'/></conditions>",
            "attribute pattern: the attribute is missing",
        ),
        (
            "<conditions><add input='{REQUEST_FILENAME}' pattern='x'/></conditions>",
            "no document root is set",
        ),
        (
            "<action type='Rewrite' url='{DOCUMENT_ROOT}'/>",
            "no document root is set",
        ),
        (
            "<action type='Rewrite'/>",
            "attribute url: the attribute is missing",
        ),
        (
            "<action type='CustomResponse'/>",
            "attribute statusCode: the attribute is missing",
        ),
        (
            "<action type='CustomResponse' statusCode='199'/>",
            "a number from 200 to 999",
        ),
        (
            "<action type='CustomResponse' statusCode='+403'/>",
            "a number from 200 to 999",
        ),
        (
            "<action type='Redirect' url='{R:1}'/><match url='x'/>",
            "{R:1} refers to nothing, since the rule's pattern has 0 groups",
        ),
        (
            "<action type='Redirect' url='{C:0}'/>",
            "{C:0} refers to nothing, since the rule has no condition with a pattern",
        ),
        (
            "<conditions><add input='{URL}' pattern='(a)'/></conditions><action type='Redirect' url='{C:2}'/>",
            "the conditions have 1 groups",
        ),
        (
            "<conditions><add input='{NO_SUCH_THING}' pattern='a'/></conditions>",
            "there is no server variable \"NO_SUCH_THING\"",
        ),
        (
            "<conditions><add input='{Db:x}' pattern='a'/></conditions>",
            "providers are not supported",
        ),
        (
            "<serverVariables><set name='HTTP_CONTENT_LENGTH' value='0'/></serverVariables>",
            "content-length frames the message",
        ),
        (
            "<serverVariables><set name='HTTP_CONNECTION' value='0'/></serverVariables>",
            "only the proxy sets it",
        ),
        (
            "<serverVariables><set name='RESPONSE_X' value='0'/></serverVariables>",
            "outboundRules",
        ),
        (
            "<serverVariables><set name='A'/><set name='a'/></serverVariables>",
            "exists already",
        ),
    ] {
        let error = refusal(&rule(parts));
        assert!(error.to_string().contains(expected), "{parts}: {error}");
        assert_eq!(error.rule(), Some("r"), "{parts}: {error}");
    }
}

#[test]
fn sections_are_checked() {
    for (text, expected) in [
        (
            "<rewrite><providers><provider name='p' type='t'/></providers></rewrite>",
            "use a rewrite map instead",
        ),
        (
            "<rewrite><rules/><rules/></rewrite>",
            "section <rules> exists already",
        ),
        (
            "<rules><rule name='A'/><rule name='a'/></rules>",
            "rule \"a\" exists already",
        ),
        (
            "<rewriteMaps><rewriteMap name='m'><add key='k'/><add key='k'/></rewriteMap></rewriteMaps>",
            "key \"k\" of rewrite map \"m\" exists already",
        ),
        (
            "<rewriteMaps><rewriteMap name='a:b'/></rewriteMaps>",
            "a name without colon and braces",
        ),
        (
            "<configuration><location path='sub'><system.webServer><rewrite/></system.webServer></location></configuration>",
            "give it that path as its scope",
        ),
        ("<!DOCTYPE x><rules/>", "not acceptable XML"),
        ("<rules>", "not acceptable XML"),
    ] {
        let error = refusal(text);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    assert!(load("<rewrite><providers><clear/></providers></rewrite>").is_ok());
    assert!(refusal("<rules>").source().is_some());
}

#[test]
fn outbound_rules_are_checked() {
    for (parts, expected) in [
        ("<rule name='o'/>", "<match> is missing"),
        (
            "<rule name='o' patternSyntax='Wildcard'><match pattern='x'/></rule>",
            "attribute patternSyntax: a wildcard covers the whole body",
        ),
        (
            "<rule name='o'><match filterByTags='A, Image' pattern='x'/></rule>",
            "attribute filterByTags: \"A, Image\" is not allowed",
        ),
        (
            "<rule name='o'><match filterByTags='CustomTags' pattern='x'/></rule>",
            "attribute customTags: the attribute is missing",
        ),
        (
            "<rule name='o'><match filterByTags='CustomTags' customTags='t' pattern='x'/></rule>",
            "there is no custom tag set \"t\"",
        ),
        (
            "<rule name='o'><match filterByTags='A' serverVariable='RESPONSE_X' pattern='x'/></rule>",
            "either a field or the body",
        ),
        (
            "<rule name='o'><match serverVariable='HTTP_X' pattern='x'/></rule>",
            "RESPONSE_STATUS, or RESPONSE_ and the field's name",
        ),
        (
            "<rule name='o'><match serverVariable='RESPONSE_TRANSFER_ENCODING' pattern='x'/></rule>",
            "frames the message",
        ),
        (
            "<rule name='o' preCondition='htm'><match serverVariable='RESPONSE_X' pattern='x'/></rule><preConditions><preCondition name='html'/></preConditions>",
            "there is no preCondition \"htm\"; did you mean html?",
        ),
    ] {
        let error = refusal(&format!("<outboundRules>{parts}</outboundRules>"));
        assert!(error.to_string().contains(expected), "{parts}: {error}");
    }
    // A rule that is disabled is read and not compiled.
    assert!(load("<outboundRules><rule name='o' enabled='false'><match pattern='x'/></rule></outboundRules>").is_ok());
}

#[test]
fn feed_text_notes_unknown_names_and_keeps_the_rest() {
    let text = "<rules new='1'><rule name='r'><match url='a'/><later/><action type='AbortRequest'/></rule></rules>";
    let source = RuleSource::parse_feed(text, &SourceOrigin::named("feed.xml")).unwrap();
    let notices: Vec<String> = source.notices().iter().map(ToString::to_string).collect();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(
        notices[0].contains("\"new\"") && notices[1].contains("\"later\""),
        "{notices:?}"
    );
    assert_eq!(source.rule_count(), 1);
    assert!(
        RuleSource::parse_feed(
            "<rules><rule name='r' enabled='maybe'/></rules>",
            &SourceOrigin::named("f")
        )
        .is_err()
    );
}

#[test]
fn levels_share_their_names() {
    let parse = |text: &str| RuleSource::parse(text, &SourceOrigin::named("web.config")).unwrap();
    let parent = parse("<rules><rule name='p'/></rules>");
    assert_eq!(
        parse("<rules><rule name='c'/></rules>")
            .below(&parent)
            .unwrap()
            .rule_count(),
        2
    );
    assert_eq!(
        parse("<rules><remove name='P'/><rule name='p'/></rules>")
            .below(&parent)
            .unwrap()
            .rule_count(),
        1
    );
    assert_eq!(
        parse("<rules><clear/></rules>")
            .below(&parent)
            .unwrap()
            .rule_count(),
        0
    );
    assert_eq!(
        parse("<rules><remove name='absent'/></rules>").rule_count(),
        0
    );
    let error = parse("<rules><rule name='P'/></rules>")
        .below(&parent)
        .unwrap_err();
    assert!(
        error.to_string().contains("rule \"P\" exists already"),
        "{error}"
    );
}

#[test]
fn memory_of_a_set_is_limited() {
    let text = "<rules><rule name='small'><match url='a'/></rule><rule name='large'><match url='[a-z]{9}b'/></rule></rules>";
    let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml")).unwrap();
    let add = |memory| {
        let limits = RuleLimits {
            memory,
            ..RuleLimits::default()
        };
        RuleSet::builder(limits).add(&source, RuleOrigin::local("rules.xml"))
    };
    assert!(add(16 * 1024).is_ok());
    let error = add(4 * 1024).unwrap_err().to_string();
    assert!(
        error.contains("\"large\"") && error.contains("may be at most 4096"),
        "{error}"
    );
}

#[test]
fn rules_of_a_set_are_limited_whatever_their_kind() {
    let text = "<rewrite><globalRules><rule name='a'/><rule name='off' enabled='false'/></globalRules>\n\
        <rules><rule name='b'/></rules>\n\
        <outboundRules><rule name='c'><match serverVariable='RESPONSE_X' pattern='x'/></rule></outboundRules></rewrite>";
    let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml")).unwrap();
    let add = |rules| {
        let limits = RuleLimits {
            rules,
            ..RuleLimits::default()
        };
        let mut builder = RuleSet::builder(limits);
        let added = builder.add(&source, RuleOrigin::local("rules.xml"));
        added.map(|()| builder.build().rules().count())
    };
    assert_eq!(add(3).unwrap(), 3);
    for (limit, line, name) in [(2, 3, "c"), (1, 2, "b"), (0, 1, "a")] {
        let error = add(limit).unwrap_err();
        assert_eq!((error.line(), error.rule()), (line, Some(name)));
        let what = format!("the rules of a set may be at most {limit}");
        assert!(error.to_string().contains(&what), "{error}");
    }
}

#[test]
fn memory_of_a_set_is_limited_to_the_byte() {
    let text = "<rules><rule name='a'/><rule name='b'><match url='x'/></rule></rules>";
    let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml")).unwrap();
    let add = |memory| {
        let limits = RuleLimits {
            memory,
            ..RuleLimits::default()
        };
        let mut builder = RuleSet::builder(limits);
        let added = builder.add(&source, RuleOrigin::local("rules.xml"));
        added.map(|()| builder.build().headroom().memory)
    };
    let enough = 1024 * 1024;
    let needed = enough - add(enough).unwrap();
    assert_eq!(add(needed).unwrap(), 0);
    let error = add(needed - 1).unwrap_err();
    assert_eq!(error.rule(), Some("b"));
}

#[test]
fn all_parts_of_a_rule_count_for_the_memory_of_its_set() {
    let add = |text: &str, memory| {
        let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml")).unwrap();
        let limits = RuleLimits {
            memory,
            ..RuleLimits::default()
        };
        let mut builder = RuleSet::builder(limits);
        let added = builder.add(&source, RuleOrigin::local("rules.xml"));
        added.map(|()| builder.build().headroom().memory)
    };
    let enough = 16 * 1024 * 1024;
    let needed = |text: &str| enough - add(text, enough).unwrap();
    let long = "x".repeat(10_000);
    let conditions = "<add input='{URL}' pattern='a'/>".repeat(1_000);
    let entries: String = (0..100)
        .map(|key| format!("<add key='{key}' value='{long}'/>"))
        .collect();
    let plain = needed("<rules><rule name='r'/></rules>");
    for (text, least, line, rule) in [
        (
            format!("<rules><rule name='r'><conditions>{conditions}</conditions></rule></rules>"),
            32_000,
            1,
            Some("r"),
        ),
        (
            format!("<rules>\n<rule name='r'><action type='Rewrite' url='{long}'/></rule></rules>"),
            10_000,
            2,
            Some("r"),
        ),
        (
            format!(
                "<rules><rule name='r'><serverVariables><set name='X' value='{long}'/></serverVariables></rule></rules>"
            ),
            10_000,
            1,
            Some("r"),
        ),
        (
            format!(
                "<rewrite><rewriteMaps>\n<rewriteMap name='m'>{entries}</rewriteMap></rewriteMaps>\n\
                 <rules><rule name='r'/></rules></rewrite>"
            ),
            1_000_000,
            2,
            None,
        ),
    ] {
        let total = needed(&text);
        assert!(total >= plain + least, "{total} {}", &text[..60]);
        assert_eq!(add(&text, total).unwrap(), 0);
        let error = add(&text, plain + least - 1).unwrap_err();
        assert_eq!((error.line(), error.rule()), (line, rule), "{error}");
    }
}

#[test]
fn refused_source_leaves_the_set_as_it_was() {
    let parse = |text: &str| RuleSource::parse(text, &SourceOrigin::named("rules.xml")).unwrap();
    let mut builder = RuleSet::builder(RuleLimits {
        rules: 2,
        ..RuleLimits::default()
    });
    builder
        .add(
            &parse("<rules><rule name='1'/></rules>"),
            RuleOrigin::local("1"),
        )
        .unwrap();
    let bad = parse("<rules><rule name='2'/><rule name='3'><match url='('/></rule></rules>");
    assert!(builder.add(&bad, RuleOrigin::local("2")).is_err());
    builder
        .add(
            &parse("<rules><rule name='4'/></rules>"),
            RuleOrigin::local("3"),
        )
        .unwrap();
    let over = builder
        .add(
            &parse("<rules><rule name='5'/></rules>"),
            RuleOrigin::local("4"),
        )
        .unwrap_err();
    assert!(
        over.to_string()
            .contains("the rules of a set may be at most 2"),
        "{over}"
    );
    let set = builder.build();
    let names: Vec<_> = set.rules().map(|(_, rule)| rule.name.as_str()).collect();
    assert_eq!(names, ["1", "4"]);
}

#[test]
fn limits_hold_on_both_sides() {
    let name = |length: usize| format!("<rules><rule name='{}'/></rules>", "n".repeat(length));
    let pattern = |length: usize| rule(&format!("<match url='{}'/>", "p".repeat(length)));
    let text = |length: usize| {
        rule(&format!(
            "<action type='Redirect' url='{}'/>",
            "t".repeat(length)
        ))
    };
    let conditions = |count: usize| {
        rule(&format!(
            "<conditions>{}</conditions>",
            "<add input='{URL}' pattern='a'/>".repeat(count)
        ))
    };
    for (what, make, limit) in [
        ("a name in octets", &name as &dyn Fn(usize) -> String, 1024),
        ("a pattern in octets", &pattern, 16 * 1024),
        ("a text in octets", &text, 16 * 1024),
        ("the conditions of one rule", &conditions, 1000),
    ] {
        let parse = |text: &str| RuleSource::parse(text, &SourceOrigin::named("rules.xml"));
        assert!(parse(&make(limit)).is_ok(), "{what}");
        let error = parse(&make(limit + 1)).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{what} may be at most {limit}")),
            "{error}"
        );
    }
}
