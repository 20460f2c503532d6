//! What we chose where IIS is not documented, and what the table of cases does not show. Each row is a line of
//! `guide::dialect`.

use serde_json::{Value, json};
use stopgap::rules::Dialect;

use super::{assert_has, outcome};

/// What is shown, the rules, the URL, and what the outcome must have.
type Row = (&'static str, &'static str, &'static str, Value);

fn check(rows: &[Row]) {
    for (what, rules, url, expected) in rows {
        let outcome = outcome(Dialect::Iis, rules, &json!({ "url": url }));
        assert_has(&outcome, expected, what);
    }
}

#[test]
fn order_of_evaluation() {
    check(&[
        (
            "stopProcessing on a global rule ends the global list only",
            "<rewrite><globalRules>
                <rule name='g1' stopProcessing='true'><match url='^a$'/><action type='Rewrite' url='b'/></rule>
                <rule name='g2'><match url='.*'/><action type='AbortRequest'/></rule>
             </globalRules><rules><rule name='d'><match url='^b$'/><action type='Rewrite' url='c'/></rule></rules></rewrite>",
            "http://h/a",
            json!({"action": "rewrite", "url": "/c", "rule": "d"}),
        ),
        (
            "MatchAny ends with the first condition that holds, whose groups count",
            "<rules><rule name='r'><match url='.*'/><conditions logicalGrouping='MatchAny' trackAllCaptures='true'>
                <add input='{QUERY_STRING}' pattern='absent'/><add input='{QUERY_STRING}' pattern='a=(.)'/>
                <add input='{QUERY_STRING}' pattern='b=(.)'/></conditions>
                <action type='Rewrite' url='/{C:1}{C:2}' appendQueryString='false'/></rule></rules>",
            "http://h/?a=1&b=2",
            json!({"url": "/1"}),
        ),
        (
            "after an absolute rewrite the next rule sees the path in it",
            "<rules><rule name='r1'><match url='^a$'/><action type='Rewrite' url='http://other/x?y'/></rule>
             <rule name='r2'><match url='^x$'/><conditions><add input='{QUERY_STRING}' pattern='^y$'/></conditions>
             <action type='None'/></rule></rules>",
            "http://h/a",
            json!({"action": "rewrite", "url": "http://other/x?y", "rule": "r2"}),
        ),
        (
            "a rule without match sees every URL, and {R:0} is its path",
            "<rules><rule name='r'><action type='Rewrite' url='/x/{R:0}'/></rule></rules>",
            "http://h/a/b",
            json!({"url": "/x/a/b"}),
        ),
    ]);
}

#[test]
fn groups() {
    check(&[
        (
            "a negated condition that holds leaves {C:n} as it was",
            "<rules><rule name='r'><match url='.*'/><conditions><add input='{QUERY_STRING}' pattern='a=(.)'/>
             <add input='{QUERY_STRING}' pattern='(z)' negate='true'/></conditions>
             <action type='Rewrite' url='/{C:1}' appendQueryString='false'/></rule></rules>",
            "http://h/?a=1",
            json!({"url": "/1"}),
        ),
        (
            "{R:n} of a negated match is empty",
            "<rules><rule name='r'><match url='^(z)' negate='true'/><action type='Rewrite' url='/x{R:0}{R:1}'/></rule></rules>",
            "http://h/a",
            json!({"url": "/x"}),
        ),
        (
            "without trackAllCaptures the last match counts, whole",
            "<rules><rule name='r'><match url='.*'/><conditions><add input='{QUERY_STRING}' pattern='a=(.)'/>
             <add input='{QUERY_STRING}' pattern='b=.'/></conditions>
             <action type='Rewrite' url='/{C:0}-{C:1}' appendQueryString='false'/></rule></rules>",
            "http://h/?a=1&b=2",
            json!({"url": "/b=2-"}),
        ),
    ]);
}

#[test]
fn inputs() {
    let abort = |input: &str, pattern: &str| {
        format!(
            "<rules><rule name='r'><match url='.*'/><conditions><add input='{input}' pattern='{pattern}' \
             ignoreCase='false'/></conditions><action type='AbortRequest'/></rule></rules>"
        )
    };
    for (what, input, pattern, url) in [
        (
            "REQUEST_URI has its path decoded and its query as sent",
            "{REQUEST_URI}",
            "^/a b\\?c%20d$",
            "http://h/a%20b?c%20d",
        ),
        (
            "REQUEST_URI has no ? without a query",
            "{REQUEST_URI}",
            "^/a$",
            "http://h/a?",
        ),
        (
            "UNENCODED_URL has escapes in upper case",
            "{UNENCODED_URL}",
            "^/%C3%A9$",
            "http://h/%c3%a9",
        ),
        (
            "UrlDecode leaves + alone",
            "{UrlDecode:{QUERY_STRING}}",
            "^a\\+b c$",
            "http://h/?a+b%20c",
        ),
        (
            "UrlDecode leaves what is no escape",
            "{UrlDecode:{QUERY_STRING}}",
            "^%zz%u0041%$",
            "http://h/?%zz%u0041%",
        ),
        (
            "names of functions have any case",
            "{tolower:{URL}}",
            "^/abc$",
            "http://h/ABC",
        ),
        (
            "HTTPS is lower case, as measured",
            "{HTTPS}",
            "^off$",
            "http://h/",
        ),
        (
            "SERVER_NAME has no port",
            "{SERVER_NAME}:{SERVER_PORT}",
            "^h:81$",
            "http://h:81/",
        ),
        (
            "CACHE_URL has scheme, host and port",
            "{CACHE_URL}",
            "^http://h:80/a\\?b$",
            "http://h/a?b",
        ),
        (
            "SERVER_PORT_SECURE is a digit",
            "{SERVER_PORT_SECURE}{SERVER_PORT}",
            "^1443$",
            "https://h/",
        ),
        (
            "nobody is authenticated yet",
            "[{AUTH_USER}{REMOTE_USER}]",
            "^\\[\\]$",
            "http://h/",
        ),
        (
            "an absent field is empty",
            "[{HTTP_X_ABSENT}]",
            "^\\[\\]$",
            "http://h/",
        ),
        (
            "PATH_INFO is the URL",
            "{PATH_INFO}{SCRIPT_NAME}",
            "^/a/a$",
            "http://h/a",
        ),
        (
            "HTTP_METHOD is no field",
            "{HTTP_METHOD}",
            "^GET$",
            "http://h/",
        ),
        (
            "ALL_RAW has every field",
            "{ALL_RAW}",
            "^Host: h\\r\\n$",
            "http://h/",
        ),
        (
            "ALL_HTTP names them as variables",
            "{ALL_HTTP}",
            "^HTTP_HOST:h\\n$",
            "http://h/",
        ),
    ] {
        let outcome = outcome(Dialect::Iis, &abort(input, pattern), &json!({ "url": url }));
        assert_has(&outcome, &json!({"action": "abort"}), what);
    }
}

#[test]
fn url_is_as_http_sys_hands_it_over() {
    let matched = |pattern: &str, url: &str| {
        let rules = format!(
            "<rules><rule name='r'><match url='{pattern}'/><action type='AbortRequest'/></rule></rules>"
        );
        outcome(Dialect::Iis, &rules, &json!({ "url": url }))["action"] == "abort"
    };
    assert!(matched("^a/b$", "http://h/a//b"), "runs of slashes are one");
    assert!(
        matched("^a/b$", "http://h/a%2Fb"),
        "an escaped slash is a slash"
    );
    assert!(matched("^a%2Fb$", "http://h/a%252Fb"), "decoded once only");
    assert!(matched("^a;b/c$", "http://h/a;b/c"), "path parameters stay");
    assert!(
        !matched("^a.c$", "http://h/a%0Ac"),
        "a dot stops at a line break"
    );
}

#[test]
fn repeated_fields_are_joined() {
    let rules = "<rules><rule name='r'><match url='.*'/><conditions><add input='{HTTP_COOKIE}|{HTTP_X_A}' \
                 pattern='^a=1; b=2\\|1, 2$'/></conditions><action type='AbortRequest'/></rule></rules>";
    let request =
        json!({"url": "http://h/", "headers": {"Cookie": ["a=1", "b=2"], "X-A": ["1", "2"]}});
    assert_has(
        &outcome(Dialect::Iis, rules, &request),
        &json!({"action": "abort"}),
        "joined",
    );
}

#[test]
fn maps() {
    let rules = "<rewrite><rewriteMaps>
        <rewriteMap name='Any' defaultValue='none'><add key='Key' value='{R:0}'/><add key='KEY' value='second'/></rewriteMap>
        <rewriteMap name='Exact' ignoreCase='false'><add key='Key' value='first'/><add key='KEY' value='second'/></rewriteMap>
        </rewriteMaps><rules><rule name='r'><match url='(.*)'/>
        <action type='Rewrite' url='/{Any:{R:1}}/{exact:{R:1}}'/></rule></rules></rewrite>";
    check(&[
        (
            "of keys that differ in case the first counts; values are not expanded",
            rules,
            "http://h/KEY",
            json!({"url": "/{R:0}/second"}),
        ),
        (
            "the default counts for other keys, and is empty if not given",
            rules,
            "http://h/x",
            json!({"url": "/none/"}),
        ),
    ]);
}

#[test]
fn variables_that_rules_set() {
    let set = |allowed: &str, section: &str| {
        format!(
            "<rewrite><allowedServerVariables>{allowed}</allowedServerVariables><{section}>
             <rule name='first'><match url='.*'/><action type='None'/></rule>
             <rule name='r1'><match url='a'/><serverVariables><set name='HTTP_X_A' value='v{{QUERY_STRING}}'/>
             <set name='MINE' value='w'/></serverVariables><action type='None'/></rule>
             <rule name='r2'><match url='a'/><conditions><add input='{{HTTP_X_A}}{{MINE}}' pattern='^v1w$'/></conditions>
             <action type='AbortRequest'/></rule></{section}></rewrite>"
        )
    };
    let allowed = "<add name='http_x_a'/><add name='MINE'/>";
    let expect_abort = json!({"action": "abort", "rule": "r2", "set_headers": {"x-a": "v1"}, "set_variables": {"MINE": "w"}});
    let url = json!({"url": "http://h/a?1", "headers": {"X-A": "old"}});
    assert_has(
        &outcome(Dialect::Iis, &set(allowed, "rules"), &url),
        &expect_abort,
        "the next rule reads them",
    );
    assert_has(
        &outcome(Dialect::Iis, &set("", "globalRules"), &url),
        &expect_abort,
        "global rules may set any",
    );
    let failed = json!({"action": "error", "status": 500, "substatus": 50, "rule": "first"});
    assert_has(
        &outcome(Dialect::Iis, &set("<add name='MINE'/>", "rules"), &url),
        &failed,
        "others fail the request",
    );
    let elsewhere = json!({"url": "http://h/b"});
    assert_has(
        &outcome(Dialect::Iis, &set("", "rules"), &elsewhere),
        &json!({"action": "none"}),
        "and no other",
    );
}

#[test]
fn original_url_is_the_clients_until_a_rewrite() {
    let rules = "<rules><rule name='r1'><match url='^a$'/><action type='Rewrite' url='b'/></rule>
        <rule name='r2'><match url='.*'/><action type='Redirect' url='/x?{HTTP_X_ORIGINAL_URL}' appendQueryString='false'/></rule></rules>";
    for (url, expected) in [
        ("http://h/a?q=%20", "http://h/x?/a?q=%20"),
        ("http://h/c", "http://h/x?client"),
    ] {
        let request = json!({"url": url, "headers": {"X-Original-URL": "client"}});
        assert_has(
            &outcome(Dialect::Iis, rules, &request),
            &json!({"location": expected}),
            url,
        );
    }
}

#[test]
fn actions() {
    check(&[
        (
            "a fragment stays at the end of a redirection",
            "<rules><rule name='r'><match url='a'/><action type='Redirect' url='/b#c'/></rule></rules>",
            "http://h/a?q",
            json!({"location": "http://h/b?q#c"}),
        ),
        (
            "a client's path cannot name another host",
            "<rules><rule name='r'><match url='^a/(.*)'/><action type='Redirect' url='/{R:1}'/></rule></rules>",
            "http://h/a/%5C%5Cevil.example",
            json!({"location": "http://h/evil.example"}),
        ),
        (
            "a client's line break stays in its line",
            "<rules><rule name='r'><match url='([^]*)'/><action type='Redirect' url='/{R:1}'/></rule></rules>",
            "http://h/a%0D%0ASet-Cookie:%20b",
            json!({"location": "http://h/a%0D%0ASet-Cookie:%20b"}),
        ),
        (
            "texts of a custom response are expanded",
            "<rules><rule name='r'><match url='(.*)'/><action type='CustomResponse' statusCode='599' \
             statusReason='no {R:1}' statusDescription='{REQUEST_METHOD}'/></rule></rules>",
            "http://h/a",
            json!({"status": 599, "substatus": 0, "reason": "no a", "description": "GET"}),
        ),
        (
            "a URL is trimmed",
            "<rules><rule name='r'><match url='.*'/><action type='Rewrite' url=' b '/></rule></rules>",
            "http://h/a",
            json!({"url": "/b"}),
        ),
    ]);
}

#[test]
fn spellings_of_powershell_and_the_schema() {
    check(&[(
        "labels, numbers and capitals",
        "<configuration><appSettings/><location path='.'><system.webServer><security/><rewrite><rules>
         <rule name='r' patternSyntax='Regular Expressions' stopProcessing='True' enabled='TRUE' responseCacheDirective='Never'>
         <match url='.*' ignoreCase='True' negate='False'/><conditions logicalGrouping='1' trackAllCaptures='False'>
         <add input='{URL}' matchType='0' pattern='^/a$'/></conditions>
         <action type='2' url='/b' redirectType='307' logRewrittenUrl='true'/></rule>
         </rules></rewrite></system.webServer></location></configuration>",
        "http://h/a",
        json!({"action": "redirect", "status": 307, "location": "http://h/b"}),
    )]);
}
