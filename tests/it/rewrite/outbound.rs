//! Rules that change response fields.

use serde_json::{Value, json};
use stopgap::lab::Evaluate;
use stopgap::rules::Dialect;

fn respond(rules: &str, url: &str, headers: &Value, status: u16) -> Value {
    let case = json!({
        "rules_xml": format!("<rewrite>{rules}</rewrite>"),
        "request": { "url": url, "headers": { "X-A": "1" } },
        "response": { "status": status, "headers": headers, "body": "body" },
    });
    serde_json::from_str(&Evaluate::new(Dialect::Iis).line(&case.to_string())).unwrap()
}

#[test]
fn fields_are_rewritten_where_the_pattern_matched() {
    for (what, rules, headers, expected) in [
        (
            "the matched part is replaced",
            "<rule name='o'><match serverVariable='RESPONSE_LOCATION' pattern='^http://(in)\\.'/><action type='Rewrite' value='https://{R:1}.out.'/></rule>",
            json!({"Location": "http://in.example/x"}),
            json!({"location": "https://in.out.example/x"}),
        ),
        (
            "the next rule sees what this one wrote",
            "<rule name='o1'><match serverVariable='RESPONSE_X' pattern='a'/><action type='Rewrite' value='b'/></rule>
             <rule name='o2'><match serverVariable='RESPONSE_X' pattern='^b$'/><action type='Rewrite' value='{RESPONSE_X}c'/></rule>",
            json!({"X": "a"}),
            json!({"x": "bc"}),
        ),
        (
            "stopProcessing ends the list",
            "<rule name='o1' stopProcessing='true'><match serverVariable='RESPONSE_X' pattern='a'/><action type='None'/></rule>
             <rule name='o2'><match serverVariable='RESPONSE_X' pattern='a'/><action type='Rewrite' value='c'/></rule>",
            json!({"X": "a"}),
            json!({"x": "a"}),
        ),
        (
            "an empty value is sent as an empty field",
            "<rule name='o'><match serverVariable='RESPONSE_SERVER' pattern='.+'/><action type='Rewrite' value=''/></rule>",
            json!({"Server": "x"}),
            json!({"server": ""}),
        ),
        (
            "replace=false keeps a field that exists",
            "<rule name='o1'><match serverVariable='RESPONSE_X' pattern='.*'/><action type='Rewrite' value='new' replace='false'/></rule>
             <rule name='o2'><match serverVariable='RESPONSE_Y' pattern='.*'/><action type='Rewrite' value='new' replace='false'/></rule>",
            json!({"X": "old"}),
            json!({"x": "old", "y": "new"}),
        ),
        (
            "an exact match is a search",
            "<rule name='o' patternSyntax='ExactMatch'><match serverVariable='RESPONSE_X' pattern='a.b'/><action type='Rewrite' value='-'/></rule>",
            json!({"X": "1a.b2"}),
            json!({"x": "1-2"}),
        ),
        (
            "a negated match replaces the whole value",
            "<rule name='o'><match serverVariable='RESPONSE_X' pattern='b' negate='true'/><action type='Rewrite' value='c'/></rule>",
            json!({"X": "aa"}),
            json!({"x": "c"}),
        ),
        (
            "groups of conditions are tracked by default",
            "<rule name='o'><match serverVariable='RESPONSE_X' pattern='.*'/><conditions><add input='{REQUEST_URI}' pattern='^/(.)'/>
             <add input='{HTTP_X_A}' pattern='(.)'/></conditions><action type='Rewrite' value='{C:0}{C:1}{C:2}'/></rule>",
            json!({}),
            json!({"x": "/pp1"}),
        ),
        (
            "several fields are read joined",
            "<rule name='o'><match serverVariable='RESPONSE_VARY' pattern='a, b'/><action type='Rewrite' value='c'/></rule>",
            json!({"Vary": ["a", "b"]}),
            json!({"vary": "c"}),
        ),
    ] {
        let rules = format!("<outboundRules>{rules}</outboundRules>");
        let outcome = respond(&rules, "http://h/path", &headers, 200);
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&outcome["response_headers"][name], value, "{what}: {outcome}");
        }
        assert_eq!(outcome["response_body"], "body");
    }
}

#[test]
fn each_cookie_is_a_value_of_its_own() {
    let rules = "<outboundRules><rule name='o'><match serverVariable='RESPONSE_SET_COOKIE' pattern='^(s=.*)$'/>\
        <action type='Rewrite' value='{R:1}; Secure'/></rule></outboundRules>";
    let cookies =
        json!({"Set-Cookie": ["a=1; Expires=Mon, 01 Jan 2029 00:00:00 GMT", "s=2", "s=3"]});
    let outcome = respond(rules, "http://h/", &cookies, 200);
    let expected = "a=1; Expires=Mon, 01 Jan 2029 00:00:00 GMT, s=2; Secure, s=3; Secure";
    assert_eq!(
        outcome["response_headers"]["set-cookie"], expected,
        "{outcome}"
    );
}

#[test]
fn pre_conditions_decide_first() {
    let rules = "<outboundRules><rule name='o' preCondition='html'><match serverVariable='RESPONSE_X' pattern='.*'/>\
        <action type='Rewrite' value='y'/></rule><preConditions><preCondition name='HTML' logicalGrouping='MatchAny'>\
        <add input='{RESPONSE_CONTENT_TYPE}' pattern='^text/html'/><add input='{RESPONSE_STATUS}' pattern='^404'/>\
        </preCondition></preConditions></outboundRules>";
    for (content_type, status, expected) in [
        ("text/html; charset=utf-8", 200, json!("y")),
        ("text/plain", 200, Value::Null),
        ("text/plain", 404, json!("y")),
    ] {
        let outcome = respond(
            rules,
            "http://h/",
            &json!({"Content-Type": content_type}),
            status,
        );
        assert_eq!(
            outcome["response_headers"]["x"], expected,
            "{content_type} {status}"
        );
    }
}

#[test]
fn status_is_rewritten() {
    let rules = |value: &str| {
        format!(
            "<outboundRules><rule name='o'><match serverVariable='RESPONSE_STATUS' pattern='^500.*'/>\
            <action type='Rewrite' value='{value}'/></rule></outboundRules>"
        )
    };
    for (value, status, expected) in [
        ("503 Later", 500, 503),
        ("503", 404, 404),
        ("later", 500, 500),
        ("100", 500, 500),
    ] {
        let outcome = respond(&rules(value), "http://h/", &json!({}), status);
        assert_eq!(outcome["status"], expected, "{value}");
    }
}

#[test]
fn rewritten_request_is_what_response_rules_see() {
    let rules = "<rules><rule name='r'><match url='^a$'/><action type='Rewrite' url='b'/></rule></rules><outboundRules>\
        <rule name='o'><match serverVariable='RESPONSE_X' pattern='.*'/><action type='Rewrite' value='{URL} {REQUEST_URI}'/></rule></outboundRules>";
    let outcome = respond(rules, "http://h/a", &json!({}), 200);
    assert_eq!(outcome["response_headers"]["x"], "/b /a");
    assert_eq!(outcome["rule"], "r");
}
