//! Rules that rewrite response bodies: what they make of one, and how it travels.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use stopgap::filter::{FilterLayer, Handle, Snapshot};
use stopgap::lab::Evaluate;
use stopgap::model::Revision;
use stopgap::rules::{
    BodySkip, Dialect, MAX_PATTERN_BODY, RequestView, ResponseView, RuleLimits, RuleOrigin,
    RuleSet, RuleSource, Scratch, SourceOrigin,
};
use tower::{Layer, ServiceExt};

use crate::support::origin::{Origin, Then};
use crate::support::proxy::{Fixture, before, block_on, eventually};

const LINKS: &str = r#"<preConditions><preCondition name="html">
      <add input="{RESPONSE_CONTENT_TYPE}" pattern="^text/html" />
    </preCondition></preConditions>
    <rule name="links" preCondition="html">
      <match filterByTags="A, Img" pattern="^http://internal/(.*)" />
      <action type="Rewrite" value="https://{HTTP_HOST}/{R:1}" />
    </rule>"#;

const WORDS: &str = r#"<rule name="words">
      <match pattern="secret-([0-9]+)" /><action type="Rewrite" value="number {R:1}" />
    </rule>"#;

fn evaluate(rules: &str, kind: &str, body: &str) -> Value {
    let case = json!({
        "rules_xml": format!("<rewrite><outboundRules>{rules}</outboundRules></rewrite>"),
        "request": { "url": "http://h/p" },
        "response": { "headers": { "Content-Type": kind, "Content-Length": "7", "ETag": "\"a\"" }, "body": body },
    });
    serde_json::from_str(&Evaluate::new(Dialect::Iis).line(&case.to_string())).unwrap()
}

fn set(rules: &str) -> RuleSet {
    let text = format!("<outboundRules>{rules}</outboundRules>");
    let source = RuleSource::parse(&text, &SourceOrigin::named("test.xml")).unwrap();
    let mut builder = RuleSet::builder(RuleLimits::default());
    builder.add(&source, RuleOrigin::local("test.xml")).unwrap();
    builder.build()
}

#[test]
fn attributes_go_through_the_rules() {
    let custom =
        r#"<customTags><tags name="t"><tag name="Video" attribute="Poster" /></tags></customTags>"#;
    for (what, rules, body, expected) in [
        (
            "the named elements' attributes and no others",
            "<rule name='o'><match filterByTags='Form, Img' pattern='x'/><action type='Rewrite' value='y'/></rule>",
            "<FORM Action='x' id=x><img usemap=x src=\"ax\"><a href=x>x</a><!-- <img src=x> --><script>'<img src=x>'</script>",
            "<FORM Action=\"y\" id=x><img usemap=\"y\" src=\"ay\"><a href=x>x</a><!-- <img src=x> --><script>'<img src=x>'</script>",
        ),
        (
            "the output of one rule feeds the next",
            "<rule name='1'><match filterByTags='A' pattern='a'/><action type='Rewrite' value='b'/></rule>
             <rule name='2'><match filterByTags='A' pattern='^b'/><action type='Rewrite' value='&quot;c'/></rule>",
            "<a href=a1>",
            "<a href=\"&quot;c1\">",
        ),
        (
            "stopProcessing ends the list for one value",
            "<rule name='1' stopProcessing='true'><match filterByTags='A' pattern='a'/><action type='None'/></rule>
             <rule name='2'><match filterByTags='A' pattern='.*'/><action type='Rewrite' value='c'/></rule>",
            "<a href=a><a href=b>",
            "<a href=\"a\"><a href=\"c\">",
        ),
        (
            "conditions read the groups of the match",
            "<rule name='1'><match filterByTags='A' pattern='^(.)/'/><conditions><add input='{R:1}{URL}' pattern='^a/(p)$'/></conditions><action type='Rewrite' value='{C:1}/'/></rule>",
            "<a href='a/1'><a href='b/1'>",
            "<a href=\"p/1\"><a href='b/1'>",
        ),
        (
            "custom tags",
            &format!("{custom}<rule name='1'><match filterByTags='CustomTags' customTags='t' pattern='x'/><action type='Rewrite' value='y'/></rule>"),
            "<video poster=x src=x>",
            "<video poster=\"y\" src=x>",
        ),
    ] {
        let outcome = evaluate(rules, "text/html", body);
        assert_eq!(outcome["response_body"], expected, "{what}: {outcome}");
    }
}

#[test]
fn patterns_are_searched_in_the_whole_text() {
    for (what, rules, body, expected) in [
        (
            "every match",
            "<rule name='o'><match pattern='(b)'/><action type='Rewrite' value='[{R:1}]'/></rule>",
            "abcb",
            "a[b]c[b]",
        ),
        (
            "so many matches",
            "<rule name='o'><match pattern='b' occurrences='2'/><action type='Rewrite' value='-'/></rule>",
            "bbb",
            "--b",
        ),
        (
            "an empty match lies between characters",
            "<rule name='o'><match pattern='x*'/><action type='Rewrite' value='-'/></rule>",
            "éxa",
            "-é--a-",
        ),
        (
            "an absent pattern replaces all",
            "<rule name='o'><match pattern='x' negate='true'/><action type='Rewrite' value='none'/></rule>",
            "abc",
            "none",
        ),
        (
            "after the attributes",
            "<rule name='1'><match pattern='y'/><action type='Rewrite' value='z'/></rule>
             <rule name='2'><match filterByTags='A' pattern='x'/><action type='Rewrite' value='y'/></rule>",
            "<a href=x>x",
            "<a href=\"z\">x",
        ),
    ] {
        let outcome = evaluate(rules, "text/html", body);
        assert_eq!(outcome["response_body"], expected, "{what}: {outcome}");
        let length = expected.len().to_string();
        assert_eq!(outcome["response_headers"]["content-length"], length, "{what}");
        assert_eq!(outcome["response_headers"]["etag"], "W/\"a\"", "{what}");
    }
    let outcome = evaluate(WORDS, "image/png", "secret-1");
    assert_eq!(outcome["response_body"], "secret-1");
    assert_eq!(outcome["response_headers"]["etag"], "\"a\"");
    let wildcard = "<rule name='o' patternSyntax='Wildcard'><match pattern='*'/></rule>";
    let outcome = evaluate(wildcard, "text/html", "");
    assert!(
        outcome["error"].as_str().unwrap().contains("wildcard"),
        "{outcome}"
    );
}

const PAGE: &str = "<p>é</p><a href=\"http://internal/a?b\">x</a><img src='http://internal/i' alt=\"http://internal/\">";
const CHANGED: &str = "<p>é</p><a href=\"https://mail.example/a?b\">x</a><img src=\"https://mail.example/i\" alt=\"http://internal/\">";

/// A server with a body for each way of sending one.
fn origin() -> Origin {
    Origin::start(|connection, seen| {
        let target = seen.target().to_owned();
        let is_head = seen.line.starts_with("HEAD ");
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        let html = "Content-Type: text/html; charset=utf-8\r\nETag: \"a\"\r\n";
        match target.as_str() {
            "/bytes" => {
                connection.send(format!("HTTP/1.1 200 OK\r\n{html}Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n").as_bytes());
                for byte in PAGE.as_bytes() {
                    connection.send(&[b"1\r\n", &[*byte][..], b"\r\n"].concat());
                }
                connection.send(b"0\r\nX-T: 1\r\n\r\n");
            }
            "/gzip" => {
                connection.answer("200 OK", &format!("{html}Content-Encoding: gzip\r\n"), PAGE)
            }
            "/part" => connection.answer(
                "206 Partial Content",
                &format!("{html}Content-Range: bytes 0-1/9\r\n"),
                PAGE,
            ),
            "/image" => {
                connection.answer("200 OK", "Content-Type: image/png\r\nETag: \"a\"\r\n", PAGE)
            }
            "/cut" => {
                connection.send(
                    format!("HTTP/1.1 200 OK\r\n{html}Content-Length: 500\r\n\r\n{PAGE}")
                        .as_bytes(),
                );
                return Then::Close;
            }
            "/words" => connection.answer(
                "200 OK",
                "Content-Type: text/plain\r\n",
                "a secret-1 b secret-22",
            ),
            "/large" => connection.answer(
                "200 OK",
                "Content-Type: text/plain\r\n",
                &"secret-1 ".repeat(MAX_PATTERN_BODY / 9 + 1),
            ),
            "/larger" => {
                let text = "secret-1 ".repeat(MAX_PATTERN_BODY / 9 + 1);
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
                connection.send(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).as_bytes());
            }
            _ if is_head => {
                connection.send(
                    format!(
                        "HTTP/1.1 200 OK\r\n{html}Content-Length: {}\r\n\r\n",
                        PAGE.len()
                    )
                    .as_bytes(),
                );
            }
            _ => connection.answer("200 OK", html, PAGE),
        }
        Then::Keep
    })
}

fn start(origin: &Origin, rules: &str) -> Fixture {
    let proxy = before(&[origin]).start();
    proxy
        .handle
        .publish(Snapshot::single(Revision(2), set(rules)));
    proxy
}

/// Neither an automaton nor a note of what was tried decides this one within the budget.
const ENDLESS: &str = "^(a|a)*(a|a)*(a|a)*\\1\\2\\3c";

#[test]
fn search_without_an_end_counts_as_no_match_and_is_counted() {
    let long = format!("{}bc", "a".repeat(4000));
    for (rules, body, expected) in [
        (
            format!("<rule name='1'><match pattern='{ENDLESS}'/><action type='Rewrite' value='x'/></rule>
                     <rule name='2'><match pattern='bc$'/><action type='Rewrite' value='!'/></rule>"),
            long.clone(),
            long.replace("bc", "!"),
        ),
        (
            format!("<rule name='1'><match filterByTags='A' pattern='{ENDLESS}'/><action type='Rewrite' value='x'/></rule>
                     <rule name='2'><match filterByTags='A' pattern='^y'/><action type='Rewrite' value='z'/></rule>"),
            format!("<a href={long}><a href=y>"),
            format!("<a href={long}><a href=\"z\">"),
        ),
        (
            format!("<rule name='1'><match pattern='bc$'/><conditions><add input='{{HTTP_X}}' pattern='{ENDLESS}'/></conditions>
                     <action type='Rewrite' value='x'/></rule>"),
            "bc".to_owned(),
            "bc".to_owned(),
        ),
    ] {
        let (rules, mut scratch) = (set(&rules), Scratch::default());
        let fields = [("Host", "h"), ("X", long.as_str())];
        let request = RequestView::new("GET", b"/", &fields);
        let memory = rules.remember(&request, &mut scratch);
        let response = ResponseView { status: 200, reason: "", fields: &[("Content-Type", "text/html")] };
        let decision = rules.judge_response(&memory, &response, &mut scratch);
        let (sent, _, skip) = decision.body.unwrap().rewrite(body.as_bytes());
        assert!(sent == expected.as_bytes(), "{}", String::from_utf8_lossy(&sent));
        assert_eq!(skip, Some(BodySkip::OutOfSteps));
    }
}

#[test]
fn searches_without_an_end_are_a_metric() {
    let origin = origin();
    let proxy = before(&[&origin]).start();
    let text = format!("<rules><rule name='r'><match url='.*'/><conditions><add input='{{HTTP_X}}' pattern='{ENDLESS}'/></conditions>
        <action type='None'/></rule></rules>");
    let rules = RuleSet::parse(&text, &SourceOrigin::named("test.xml")).unwrap();
    proxy.handle.publish(Snapshot::single(Revision(2), rules));
    let mut client = proxy.client();
    let long = format!("{}bc", "a".repeat(4000));
    for fields in [&[("Host", "h")][..], &[("Host", "h"), ("X", long.as_str())]] {
        assert_eq!(client.get("/", fields).unwrap().status, 200);
    }
    assert_eq!(
        proxy.metric("stopgap_proxy_searches_out_of_steps_total"),
        1.0
    );
}

const HOST: &[(&str, &str)] = &[("Host", "mail.example"), ("Accept-Encoding", "gzip")];

#[test]
fn bodies_are_rewritten_on_the_wire() {
    let origin = origin();
    let proxy = start(&origin, LINKS);
    let mut client = proxy.client();
    for target in ["/page", "/bytes", "/page"] {
        let reply = client.get(target, HOST).unwrap();
        assert_eq!(reply.text(), CHANGED, "{target}");
        assert_eq!(reply.field("content-length"), None);
        assert_eq!(reply.field("transfer-encoding"), Some("chunked"));
        assert_eq!(reply.field("etag"), Some("W/\"a\""));
        assert_eq!(origin.next().values("accept-encoding"), ["identity"]);
    }
    // The connection to the server is whole after each.
    assert_eq!(origin.connections(), 1);
    let hits = proxy.handle.load();
    let (_, rule) = hits.site(0).rules().next().unwrap();
    assert_eq!(
        rule.origin.hits.load(std::sync::atomic::Ordering::Relaxed),
        3
    );
}

#[test]
fn what_is_no_whole_plain_text_passes_as_it_is() {
    let origin = origin();
    let proxy = start(&origin, LINKS);
    let mut client = proxy.client();
    for (target, status) in [("/gzip", 200), ("/part", 206), ("/image", 200)] {
        let reply = client.get(target, HOST).unwrap();
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (status, PAGE),
            "{target}"
        );
        assert_eq!(reply.field("etag"), Some("\"a\""), "{target}");
        let length = PAGE.len().to_string();
        assert_eq!(reply.field("content-length"), Some(length.as_str()));
    }
    let reply = client.request("HEAD", "/page", HOST, b"").unwrap();
    assert_eq!(reply.field("etag"), Some("\"a\""));
    let length = PAGE.len().to_string();
    assert_eq!(reply.field("content-length"), Some(length.as_str()));
    let encoded = "stopgap_proxy_bodies_not_rewritten_total{reason=\"encoded\"}";
    eventually("the encoded body is counted", || {
        proxy.metric(encoded) == 1.0
    });
}

#[test]
fn body_that_breaks_off_is_seen_to_break_off() {
    let origin = origin();
    let proxy = start(&origin, LINKS);
    let lost = proxy.client().get("/cut", HOST);
    assert_eq!(lost, Err(crate::support::client::Lost::Truncated));
}

#[test]
fn long_texts_pass_as_they_are_and_are_counted() {
    let origin = origin();
    let proxy = start(&origin, WORDS);
    let mut client = proxy.client();
    let reply = client.get("/words", HOST).unwrap();
    assert_eq!(reply.text(), "a number 1 b number 22");
    let text = "secret-1 ".repeat(MAX_PATTERN_BODY / 9 + 1);
    for target in ["/large", "/larger"] {
        let reply = client.get(target, HOST).unwrap();
        assert!(reply.text() == text, "{target}: {}", reply.body.len());
    }
    let large = "stopgap_proxy_bodies_not_rewritten_total{reason=\"too-large\"}";
    eventually("both are counted", || proxy.metric(large) == 2.0);
}

#[test]
fn without_rules_for_bodies_the_client_is_asked_nothing_less() {
    let origin = origin();
    let rule = r#"<rule name="o"><match serverVariable="RESPONSE_X" pattern=".*" /><action type="Rewrite" value="1" /></rule>"#;
    let proxy = start(&origin, rule);
    let reply = proxy.client().get("/page", HOST).unwrap();
    assert_eq!((reply.text().as_str(), reply.field("x")), (PAGE, Some("1")));
    assert_eq!(origin.next().values("accept-encoding"), ["gzip"]);
}

#[test]
fn tower_service_rewrites_bodies_too() {
    let handle = Handle::new(Snapshot::single(Revision(1), set(LINKS)));
    let service = FilterLayer::new(handle).layer(tower::service_fn(
        |request: http::Request<Full<Bytes>>| async move {
            assert_eq!(request.headers()["accept-encoding"], "identity");
            let response = http::Response::builder().header("content-type", "text/html");
            Ok::<_, std::io::Error>(response.body(Full::new(Bytes::from(PAGE))).unwrap())
        },
    ));
    let request = http::Request::get("/page")
        .header("host", "mail.example")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let body = block_on(async {
        let response = service.oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    });
    assert_eq!(body, CHANGED);
}
