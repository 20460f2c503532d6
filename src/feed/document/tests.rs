//! Documents and what is read from them.

use super::*;
use crate::feed::config::ActionType;
use crate::model::{
    ActionKind, Expectation, Extent, FieldExpectation, Mode, PoolStop, Scope, ServiceStop,
};

const PING: &str = r#"<Config id="PING1" desc="EEMS Heartbeat probe."><ActionList>
<Action type="DoNothing" scope="Server" desc="Ping."><Value>DoNothing</Value></Action></ActionList></Config>"#;

/// A document around `configs`, whose first line is line 2.
fn document(configs: &str) -> String {
    format!("<EOCS version=\"1.0.4\" xmlns:sg=\"{NAMESPACE}\">\n{configs}</EOCS>")
}

fn parse(text: &str) -> Result<FeedDocument, FeedError> {
    let parsed = LocalDocument::parse(text.as_bytes(), &TypeAliases::default())?;
    match parsed.content {
        LocalContent::Mitigations(document) => Ok(document),
        LocalContent::Rules(text) => panic!("rules: {text:?}"),
    }
}

/// Reads one Config with these attributes and children.
fn config(attributes: &str, children: &str) -> FeedDocument {
    let text = document(&format!(
        "<Config id=\"M1.1\" {attributes}>{children}</Config>"
    ));
    parse(&text).unwrap()
}

fn actions(action: &str) -> String {
    format!("<ActionList>{action}</ActionList>")
}

const REWRITE: &str = "<ActionList><Action type=\"UrlRewrite\" scope=\"Server\"><Value>\
                       <rules/></Value></Action></ActionList>";

#[test]
fn captured_form_loads_unchanged() {
    let signature = format!("<Signature xmlns=\"{SIGNATURE_NAMESPACE}\"><a/></Signature>");
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<EOCS version=\"1.0.4\">\r\n  {PING}\r\n{signature}</EOCS>"
    );
    let document = parse(&text).unwrap();
    assert_eq!(document.version, "1.0.4");
    assert_eq!(document.notices, Vec::<String>::new());
    let [ping] = &document.mitigations[..] else {
        panic!("{document:?}");
    };
    assert_eq!(ping.id.to_string(), "PING1");
    assert_eq!(ping.description, "EEMS Heartbeat probe.");
    assert_eq!(ping.actions.len(), 1);
    assert_eq!(ping.actions[0].kind, ActionKind::DoNothing);
    assert_eq!(ping.actions[0].scope, Scope::Server);
    assert_eq!(ping.actions[0].description, "Ping.");
    assert_eq!(ping.failure, None);
}

#[test]
fn whole_documents_are_refused() {
    let configs = |count: usize| -> String {
        (0..count)
            .map(|n| format!("<Config id=\"M{n}.1\">{REWRITE}</Config>"))
            .collect()
    };
    let cases = [
        ("".to_owned(), "cannot be read"),
        ("<EOCS version=\"1.0\">".to_owned(), "line 1"),
        ("<Feed version=\"1.0\"/>".to_owned(), "the root is Feed"),
        ("<EOCS/>".to_owned(), "version \"\""),
        ("<EOCS version=\"2.0\"/>".to_owned(), "version \"2.0\""),
        ("<EOCS version=\"1.1\"/>".to_owned(), "version \"1.1\""),
        ("<EOCS version=\"1.0.\"/>".to_owned(), "version \"1.0.\""),
        ("<EOCS version=\"1.0.4x\"/>".to_owned(), "version"),
        (
            format!(
                "<EOCS version=\"1.0\" xmlns:sg=\"{NAMESPACE}\" sg:mustUnderstand=\"stop ring\"/>"
            ),
            "extension ring must be understood",
        ),
        (document(&configs(CONFIG_LIMIT + 1)), "more than 512"),
    ];
    for (text, reason) in cases {
        let error = parse(&text).unwrap_err().explain();
        assert!(error.contains(reason), "{error} should say {reason}");
    }
    for text in [
        "<EOCS version=\"1.0\"/>".to_owned(),
        "<EOCS version=\"1.0.17\"/>".to_owned(),
        document(&configs(CONFIG_LIMIT)),
    ] {
        parse(&text).unwrap();
    }
}

/// Each Config, by attributes and children, fails with a reason that holds this text, and the one after it does not.
fn assert_failures(cases: &[(&str, &str, &str)]) {
    for (attributes, children, reason) in cases {
        let text = document(&format!(
            "<Config id=\"M1.1\" {attributes}>{children}</Config>{PING}"
        ));
        let read = parse(&text).unwrap();
        let failure = read.mitigations[0].failure.as_deref().unwrap_or("none");
        assert!(
            failure.contains(reason),
            "{failure:?} should say {reason:?}"
        );
        assert_eq!(read.mitigations[1].failure, None, "{text}");
    }
}

#[test]
fn faulty_attributes_fail_their_config_alone() {
    let builds = |inner: &str| format!("{REWRITE}<sg:applies><sg:builds {inner}/></sg:applies>");
    assert_failures(&[
        ("", "", "line 2, column 1: no ActionList"),
        ("sg:mode=\"block\"", REWRITE, "write enforce or audit"),
        ("sg:approval=\"yes\"", REWRITE, "write auto or required"),
        ("sg:withdrawn=\"1\"", REWRITE, "write false or true"),
        (
            "sg:mustUnderstand=\"sg:cve sg:ring\"",
            REWRITE,
            "extension sg:ring must",
        ),
        ("", &builds("min=\"1.0\""), "without a product"),
        ("", &builds("product=\"x\" min=\"1.x\""), "is no build"),
        (
            "",
            &builds("product=\"x\" min=\"1.2.3.4.5\""),
            "is no build",
        ),
        (
            "",
            &builds("product=\"x\" min=\"2\" below=\"2.0\""),
            "holds no build",
        ),
    ]);
}

#[test]
fn faulty_actions_fail_their_config_alone() {
    let nothing = "<Action type=\"DoNothing\" scope=\"Server\"/>";
    let too_many = actions(&nothing.repeat(ACTION_LIMIT + 1));
    let scope = |scope: &str| actions(&format!("<Action type=\"DoNothing\" {scope}/>"));
    assert_failures(&[
        ("", &actions(""), "no Action"),
        ("", &format!("{REWRITE}{REWRITE}"), "a second ActionList"),
        ("", &too_many, "more than 64 actions"),
        (
            "",
            &actions("<Action type=\"Quarantine\"/>"),
            "unsupported: Quarantine",
        ),
        ("", &actions("<Action scope=\"Server\"/>"), "unsupported: "),
        ("", &scope(""), "unsupported scope: \"\""),
        ("", &scope("scope=\"Farm\""), "unsupported scope: \"Farm\""),
        ("", &scope("scope=\"Site\""), "scope Site needs sg:target"),
        ("", &scope("scope=\"VDir\" sg:target=\"A\""), "needs a path"),
        ("", &scope("scope=\"Server\" sg:target=\"A\""), "every site"),
    ]);
}

#[test]
fn faulty_values_fail_their_config_alone() {
    let action = |word: &str, value: &str| {
        actions(&format!(
            "<Action type=\"{word}\" scope=\"Server\">{value}</Action>"
        ))
    };
    let rewrite = |value: &str| action("UrlRewrite", value);
    let name = |value: &str| action("Service", &format!("<Value>{value}</Value>"));
    assert_failures(&[
        ("", &rewrite(""), "no Value"),
        ("", &rewrite("<Value/>"), "Value must hold one"),
        (
            "",
            &rewrite("<Value><rule/></Value>"),
            "Value must hold one",
        ),
        (
            "",
            &rewrite("<Value><rules/><rules/></Value>"),
            "must hold one",
        ),
        (
            "",
            &rewrite("<Value>x<rules/></Value>"),
            "Value must hold one",
        ),
        ("", &rewrite("<Value/><Value/>"), "a second Value"),
        ("", &name(" "), "Value must be one name"),
        ("", &name("a\nb"), "Value must be one name"),
        ("", &name("<a/>"), "Value must be one name"),
        ("", &name(&"x".repeat(257)), "Value must be one name"),
    ]);
}

#[test]
fn faulty_vectors_fail_their_config_alone() {
    let all = |inner: &str| format!("{REWRITE}<sg:vectors>{inner}</sg:vectors>");
    let stop = |inner: &str| all(&format!("<sg:stop target=\"/\">{inner}</sg:stop>"));
    let too_many = all(&"<sg:pass target=\"/\"/>".repeat(VECTOR_LIMIT + 1));
    let too_many_fields = stop(&"<sg:header name=\"a\"/>".repeat(FIELD_LIMIT + 1));
    assert_failures(&[
        ("", &all("<sg:stop/>"), "a vector needs a target"),
        (
            "",
            &all("<sg:stop target=\"/ x\"/>"),
            "a vector needs a target",
        ),
        (
            "",
            &all("<sg:stop target=\"/\" method=\"G T\"/>"),
            "is no method",
        ),
        ("", &stop("<sg:header name=\"a b\"/>"), "is no field"),
        (
            "",
            &stop("<sg:header name=\"a\">x\ny</sg:header>"),
            "is no field",
        ),
        ("", &stop("<sg:expect body=\"x\"/>"), "needs an sg:response"),
        ("", &stop("<sg:response/><sg:expect/>"), "sg:expect takes"),
        (
            "",
            &stop("<sg:response/><sg:response/>"),
            "a second sg:response",
        ),
        ("", &stop("<sg:response status=\"99\"/>"), "no status code"),
        ("", &too_many, "more than 256 vectors"),
        ("", &too_many_fields, "more than 64 fields"),
    ]);
}

#[test]
fn limits_are_inclusive() {
    let fields = "<sg:header name=\"a\"/>".repeat(FIELD_LIMIT);
    let vectors = format!("<sg:pass target=\"/\">{fields}</sg:pass>").repeat(VECTOR_LIMIT);
    let nothing = "<Action type=\"DoNothing\" scope=\"Server\"/>".repeat(ACTION_LIMIT);
    let read = config(
        "",
        &format!("{}<sg:vectors>{vectors}</sg:vectors>", actions(&nothing)),
    );
    assert_eq!(read.mitigations[0].failure, None);
    assert_eq!(read.mitigations[0].actions.len(), ACTION_LIMIT);
    assert_eq!(read.mitigations[0].vectors.len(), VECTOR_LIMIT);
    assert_eq!(read.mitigations[0].vectors[0].fields.len(), FIELD_LIMIT);
}

#[test]
fn every_extension_is_read() {
    let attributes = "desc=\"d\" sg:cve=\"CVE-2022-41040\" sg:ref=\"https://r.test/\" \
                      sg:sideEffects=\"none\" sg:group=\"policy\" sg:mode=\"audit\" \
                      sg:approval=\"required\" sg:withdrawn=\"true\" sg:mustUnderstand=\"sg:mode group\"";
    let children = format!(
        "<sg:applies><sg:builds product=\"exchange\" min=\"15.1\" below=\"15.1.2375.37\"/>\
         <sg:builds product=\"exchange\"/></sg:applies>{REWRITE}"
    );
    let read = config(attributes, &children);
    assert_eq!(read.notices, Vec::<String>::new());
    let found = &read.mitigations[0];
    assert_eq!(found.failure, None);
    assert_eq!(found.description, "d");
    assert_eq!(found.cve, "CVE-2022-41040");
    assert_eq!(found.reference, "https://r.test/");
    assert_eq!(found.side_effects, "none");
    assert_eq!(found.group, "policy");
    assert_eq!(found.mode, Mode::Audit);
    assert!(found.approval_required);
    assert!(found.withdrawn);
    assert_eq!(found.applies[0].min, [15, 1, 0, 0]);
    assert_eq!(found.applies[0].below, [15, 1, 2375, 37]);
    assert_eq!(found.applies[1].below, [u32::MAX; 4]);
}

#[test]
fn vectors_are_read() {
    let read = config(
        "",
        &format!(
            "{REWRITE}<sg:vectors><sg:stop method=\"POST\" target=\"/x?a=%20b\">\
             <sg:header name=\"Cookie\">a=b</sg:header></sg:stop><sg:pass target=\"/y\"/>\n\
             <sg:stop target=\"/owa\"><sg:response status=\"201\">\
             <sg:header name=\"Content-Type\">text/html</sg:header><sg:body>&lt;p></sg:body></sg:response>\
             <sg:expect header=\"X\">; a 'b'</sg:expect><sg:expect body=\"&lt;p>\"/></sg:stop></sg:vectors>"
        ),
    );
    assert_eq!(read.notices, Vec::<String>::new());
    let [stop, pass, response] = &read.mitigations[0].vectors[..] else {
        panic!("{read:?}");
    };
    assert_eq!(stop.expectation, Expectation::Stop);
    assert_eq!((&*stop.method, &*stop.target), ("POST", "/x?a=%20b"));
    assert_eq!(stop.fields, [("Cookie".to_owned(), "a=b".to_owned())]);
    assert_eq!((stop.line, response.line), (2, 3));
    assert_eq!(pass.expectation, Expectation::Pass);
    assert_eq!(pass.method, "GET");
    let canned = response.response.as_ref().unwrap();
    assert_eq!((canned.status, &*canned.body), (201, "<p>"));
    assert_eq!(canned.fields[0].1, "text/html");
    assert_eq!(
        response.expected,
        [
            FieldExpectation::Field {
                name: "X".into(),
                value: "; a 'b'".into()
            },
            FieldExpectation::BodyFragment("<p>".into())
        ]
    );
}

#[test]
fn rewrite_text_knows_its_place() {
    let cases = [
        ("<Value><![CDATA[<rules/>]]></Value>", "<rules/>", (2, 89)),
        (
            "<Value>\n  <![CDATA[\n <rules/>\n]]></Value>",
            "<rules/>",
            (4, 2),
        ),
        ("<Value>\n &lt;rules/></Value>", "<rules/>", (3, 2)),
        (
            "<Value>\n <rewrite>\n</rewrite> </Value>",
            "<rewrite>\n</rewrite>",
            (3, 2),
        ),
    ];
    for (value, xml, place) in cases {
        let action = format!("<Action type=\"UrlRewrite\" scope=\"Server\">{value}</Action>");
        let read = config("", &actions(&action));
        let ActionKind::Rewrite(text) = &read.mitigations[0].actions[0].kind else {
            panic!("{value}: {read:?}");
        };
        assert_eq!(text.xml, xml);
        assert_eq!((text.line, text.column), place, "{value}");
    }
}

#[test]
fn targets_name_site_and_path() {
    let action = "<Action type=\"AppPool\" scope=\"VDir\" sg:target=\"Default Web Site/owa\">\
                  <Value> MSExchangeOWAAppPool </Value></Action>";
    let read = config("", &actions(action));
    let action = &read.mitigations[0].actions[0];
    assert_eq!(
        action.kind,
        ActionKind::AppPool(PoolStop {
            name: "MSExchangeOWAAppPool".into(),
            extent: Extent::Disabled,
            proxy503: true,
        })
    );
    assert_eq!(action.scope.to_string(), "Default Web Site/owa");
}

#[test]
fn stops_say_how_far_and_whether_the_proxy_answers() {
    let kind = |word: &str, attributes: &str| {
        let action = format!(
            "<Action type=\"{word}\" scope=\"Server\" {attributes}><Value>X</Value></Action>"
        );
        let read = config("", &actions(&action));
        let mitigation = &read.mitigations[0];
        assert!(read.notices.is_empty() || mitigation.failure.is_none());
        match &mitigation.failure {
            None => Ok((mitigation.actions[0].kind.clone(), read.notices.len())),
            Some(failure) => Err(failure.clone()),
        }
    };
    let pool = |extent, proxy503| {
        ActionKind::AppPool(PoolStop {
            name: "X".into(),
            extent,
            proxy503,
        })
    };
    let service = |extent| {
        ActionKind::Service(ServiceStop {
            name: "X".into(),
            extent,
        })
    };
    let stopped = "sg:desired=\"Stopped\"";
    for (word, attributes, expected) in [
        ("AppPool", stopped, (pool(Extent::Stopped, true), 0)),
        (
            "AppPool",
            "sg:desired=\"Disabled\" sg:proxy503=\"false\"",
            (pool(Extent::Disabled, false), 0),
        ),
        (
            "AppPool",
            "sg:proxy503=\"true\"",
            (pool(Extent::Disabled, true), 0),
        ),
        ("Service", stopped, (service(Extent::Stopped), 0)),
        (
            "Service",
            "sg:proxy503=\"false\"",
            (service(Extent::Disabled), 1),
        ),
    ] {
        assert_eq!(kind(word, attributes), Ok(expected), "{word} {attributes}");
    }
    for (attributes, fault) in [
        (
            "sg:desired=\"stopped\"",
            "sg:desired is Disabled or Stopped",
        ),
        ("sg:proxy503=\"no\"", "sg:proxy503 is true or false"),
    ] {
        let failure = kind("AppPool", attributes).unwrap_err();
        assert!(failure.contains(fault), "{failure}");
    }
}

#[test]
fn aliases_teach_further_words() {
    let text = document(
        "<Config id=\"M1.1\"><ActionList><Action type=\"StopService\" scope=\"Server\">\
         <Value>X</Value></Action></ActionList></Config>",
    );
    let aliases = TypeAliases::new([("StopService".to_owned(), ActionType::Service)]);
    let parsed = LocalDocument::parse(text.as_bytes(), &aliases).unwrap();
    let LocalContent::Mitigations(read) = parsed.content else {
        panic!();
    };
    assert_eq!(
        read.mitigations[0].actions[0].kind,
        ActionKind::Service(ServiceStop {
            name: "X".into(),
            extent: Extent::Disabled,
        })
    );
    let failure = parse(&text).unwrap().mitigations[0].failure.clone();
    assert_eq!(failure.as_deref(), Some("unsupported: StopService"));
}

#[test]
fn second_of_one_id_fails_and_no_id_is_kept_apart() {
    let text = document(&format!(
        "{PING}<Config id=\"PING1.0\">{REWRITE}</Config>{PING}\n<Config id=\"m1\"/><Config/>"
    ));
    let read = parse(&text).unwrap();
    let failures: Vec<bool> = read
        .mitigations
        .iter()
        .map(|m| m.failure.is_some())
        .collect();
    assert_eq!(failures, [false, false, true]);
    assert_eq!(read.nameless.len(), 2);
    assert_eq!(read.nameless[0].id, "m1");
    assert!(read.nameless[0].reason.starts_with("line 5"), "{read:?}");
}

#[test]
fn what_is_not_known_is_noted_and_the_rest_applies() {
    let text = format!(
        "<EOCS version=\"1.0\" xmlns:sg=\"{NAMESPACE}\" serial=\"1\"><News/><Config id=\"M1.1\" \
         severity=\"high\" sg:orbit=\"1\"><Extra/><sg:probe/><ActionList><Action type=\"DoNothing\" \
         scope=\"Server\" when=\"now\"><Value/><Note/></Action></ActionList></Config></EOCS>"
    );
    let read = parse(&text).unwrap();
    assert_eq!(read.mitigations[0].failure, None);
    let unknown = [
        "serial", "News", "severity", "sg:orbit", "Extra", "sg:probe", "when", "Note",
    ];
    assert_eq!(read.notices.len(), unknown.len(), "{:?}", read.notices);
    for name in unknown {
        assert!(
            read.notices
                .iter()
                .any(|n| n.contains(&format!(" {name} "))),
            "{name}: {:?}",
            read.notices
        );
    }
}

#[test]
fn notices_are_bounded() {
    let many = |count| parse(&document(&"<News/>".repeat(count))).unwrap().notices;
    assert_eq!(many(NOTICE_LIMIT - 1).len(), NOTICE_LIMIT - 1);
    let cut = many(NOTICE_LIMIT + 9);
    assert_eq!(cut.len(), NOTICE_LIMIT);
    assert_eq!(cut[NOTICE_LIMIT - 1], "10 further things are not known");
}

#[test]
fn withdrawal_needs_no_actions() {
    let read = config("sg:withdrawn=\"true\"", "");
    assert!(read.mitigations[0].withdrawn);
    assert_eq!(read.mitigations[0].failure, None);
}

#[test]
fn local_files_are_told_apart_by_their_root() {
    let aliases = TypeAliases::default();
    for root in ["rewrite", "rules", "outboundRules", "configuration"] {
        let text = format!("<!-- mine -->\n <{root}></{root}>\n");
        let parsed = LocalDocument::parse(text.as_bytes(), &aliases).unwrap();
        let LocalContent::Rules(rules) = parsed.content else {
            panic!("{root}");
        };
        assert_eq!(rules.xml, format!("<{root}></{root}>"));
        assert_eq!((rules.line, rules.column), (2, 2));
        assert!(!parsed.hardened);
    }
    let dialect = |word: &str| {
        let text = document("").replace("version", &format!("sg:dialect=\"{word}\" version"));
        LocalDocument::parse(text.as_bytes(), &aliases)
    };
    assert!(dialect("hardened").unwrap().hardened);
    assert!(!dialect("iis").unwrap().hardened);
    assert!(dialect("soft").is_err());
    assert!(LocalDocument::parse(b"<web/>", &aliases).is_err());
}
