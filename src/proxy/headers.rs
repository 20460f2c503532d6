//! Which fields pass from one side to the other, and which we set.

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Version, request, response};

use super::admit::Inadmissible;
use super::caller::{Forwarded, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO};
use super::claims::{X_FORWARDED_FOR, forwarded_host};
use crate::net::{PlainHead, PlainResponse, RequestHead, ResponseHead};

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields that no server behind us may believe, since any client can send them: some frameworks take the target or
/// the method from them after every check was made.
const MISLEADING: [&str; 8] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-forwarded-uri",
    "x-forwarded-prefix",
];

/// Fields of one connection only (RFC 9110 section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const MISLEADING_LENGTHS: u64 = lengths(&MISLEADING);
const HOP_BY_HOP_LENGTHS: u64 = lengths(&HOP_BY_HOP);

/// A bit for each length that one of the names has.
const fn lengths(names: &[&str]) -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < names.len() {
        bits |= 1 << names[at].len();
        at += 1;
    }
    bits
}

/// Removes fields by name. Nearly always there is none, and to look at the length of each name that is there costs
/// less than to look each of these names up.
fn remove_any(fields: &mut HeaderMap, names: &[&str], lengths: u64) {
    let may_be = |name: &HeaderName| {
        let name = name.as_str();
        is_any(name.as_bytes(), names, lengths)
    };
    if fields.keys().any(may_be) {
        for name in names {
            fields.remove(*name);
        }
    }
}

/// Whether a name is one of these, in any case.
fn is_any(name: &[u8], names: &[&str], lengths: u64) -> bool {
    let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
    name.len() < 64 && lengths & (1 << name.len()) != 0 && names.iter().any(is)
}

/// Removes what would mislead a server, before the rules look.
pub(super) fn remove_misleading(head: &mut RequestHead) {
    if let RequestHead::Plain(plain) = head
        && !plain
            .fields()
            .any(|(name, _)| is_any(name, &MISLEADING, MISLEADING_LENGTHS))
    {
        return;
    }
    remove_any(&mut head.parts().headers, &MISLEADING, MISLEADING_LENGTHS);
}

/// Whether the client asks for the websocket protocol.
pub(super) fn wants_websocket(parts: &request::Parts) -> bool {
    let mut protocols = parts.headers.get_all(UPGRADE).iter();
    let only = protocols.next().filter(|_| protocols.next().is_none());
    parts.version == Version::HTTP_11
        && only.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && options(&parts.headers).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
        && !parts.headers.contains_key(TRANSFER_ENCODING)
        && parts
            .headers
            .get(CONTENT_LENGTH)
            .is_none_or(|length| length == "0")
}

/// Turns a client's fields into those that go upstream.
///
/// It gets [what is told of the client](each_forwarded) when it is written, and loses its `Connection` then if it is
/// still as it came. `upgrade` keeps the request to change to the websocket protocol.
pub(super) fn forward_request(
    head: &mut RequestHead,
    forwarded: &Forwarded,
    upgrade: bool,
) -> Result<(), Inadmissible> {
    match head {
        RequestHead::Plain(plain) if !upgrade && goes_as_it_came(plain) => Ok(()),
        head => forward_parts(head.parts(), forwarded, upgrade),
    }
}

/// Takes apart a head that is sent in parts, and puts into it what the server is told of the client.
pub(super) fn take_apart(head: &mut RequestHead, forwarded: &Forwarded) {
    if let RequestHead::Plain(_) = head {
        // What goes as it came has no option that would be refused.
        let _ = forward_parts(head.parts(), forwarded, false);
    }
    set_forwarded(&mut head.parts().headers, forwarded);
}

/// Whether no field stays behind but a `Connection` with nothing unusual in it.
fn goes_as_it_came(plain: &PlainHead) -> bool {
    let mut has_host = false;
    let mut passes = |(name, value): (&[u8], &[u8])| match name.len() {
        4 => {
            has_host |= name.eq_ignore_ascii_case(b"host");
            true
        }
        10 if name.eq_ignore_ascii_case(b"connection") => is_usual(value),
        _ => !is_any(name, &HOP_BY_HOP, HOP_BY_HOP_LENGTHS) && !may_claim(name),
    };
    plain.fields().all(&mut passes) && has_host
}

/// Whether anybody could speak for a proxy by a field of this name.
fn may_claim(name: &[u8]) -> bool {
    match name.first() {
        Some(b'f' | b'F') => name.eq_ignore_ascii_case(b"forwarded"),
        Some(b'x' | b'X') => {
            let starts = |start: &[u8]| {
                let own = name.get(..start.len());
                own.is_some_and(|own| own.eq_ignore_ascii_case(start))
            };
            starts(b"x-real-ip") || starts(b"x-forwarded")
        }
        _ => false,
    }
}

fn forward_parts(
    parts: &mut request::Parts,
    forwarded: &Forwarded,
    upgrade: bool,
) -> Result<(), Inadmissible> {
    let fields = &mut parts.headers;
    remove_hop_by_hop(fields, is_ours)?;
    remove_claims(fields, forwarded.believed);
    fields.entry(HOST).or_insert_with(|| forwarded.host());
    if upgrade {
        set_websocket(fields);
    }
    parts.version = Version::HTTP_11;
    Ok(())
}

/// Removes every field by which anybody could speak for a proxy: `Forwarded`, `X-Real-IP` and all of `X-Forwarded-*`.
/// Of a proxy that is believed only what we say ourselves, in words of our own, and what it may have passed on unread.
fn remove_claims(fields: &mut HeaderMap, believed: bool) {
    let is_claim = |name: &HeaderName| match name.as_str() {
        "forwarded" | "x-real-ip" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port"
        | "x-forwarded-proto" => true,
        other => !believed && other.starts_with("x-forwarded"),
    };
    if fields.keys().any(is_claim) {
        let claims: Vec<HeaderName> = fields
            .keys()
            .filter(|name| is_claim(name))
            .cloned()
            .collect();
        for name in &claims {
            fields.remove(name);
        }
    }
}

/// Tells the server of the client.
fn set_forwarded(fields: &mut HeaderMap, forwarded: &Forwarded) {
    let host = fields.get(HOST).cloned();
    let host = host.as_ref().map_or(&[][..], HeaderValue::as_bytes);
    each_forwarded(forwarded, host, &mut |name, value| {
        // What is told is made of values that were checked.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            fields.insert(name, value);
        }
    });
}

/// Calls `tell` with every field that tells a server of the client, who sent this `Host`.
pub(super) fn each_forwarded(
    forwarded: &Forwarded,
    host: &[u8],
    tell: &mut dyn FnMut(HeaderName, &[u8]),
) {
    let send = &forwarded.send;
    let host = forwarded.asked.as_ref().map_or(host, HeaderValue::as_bytes);
    if send.forwarded
        && let Some(value) = forwarded_value(forwarded, host)
    {
        tell(FORWARDED, value.as_bytes());
    }
    if send.x_real_ip {
        tell(X_REAL_IP, forwarded.client.as_bytes());
    }
    if send.x_forwarded_for {
        tell(X_FORWARDED_FOR, forwarded.chain());
    }
    if send.x_forwarded_proto {
        tell(X_FORWARDED_PROTO, forwarded.scheme.as_bytes());
    }
    if send.x_forwarded_port {
        tell(X_FORWARDED_PORT, forwarded.port.as_bytes());
    }
    if send.x_forwarded_host {
        tell(X_FORWARDED_HOST, host);
    }
}

/// The client with what it asked for, then the proxies that it came by (RFC 7239 section 4).
fn forwarded_value(forwarded: &Forwarded, host: &[u8]) -> Option<HeaderValue> {
    let (client, proxies) = forwarded.nodes.split_first()?;
    let (host, scheme) = (forwarded_host(host), forwarded.scheme.as_bytes());
    let mut value = [client.as_bytes(), b";", &host, b";proto=", scheme].concat();
    for proxy in proxies {
        value.extend_from_slice(b", ");
        value.extend_from_slice(proxy.as_bytes());
    }
    HeaderValue::try_from(value).ok()
}

/// Fields that must not trail a body, since servers that take them for part of the head would read another request
/// than was judged (RFC 9110 section 6.5.1).
const NOT_TRAILING: [&str; 17] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "set-cookie",
    "user-agent",
    "www-authenticate",
];

const NOT_TRAILING_LENGTHS: u64 = lengths(&NOT_TRAILING);

/// Turns the fields that trail a client's body into those that go upstream.
pub(super) fn forward_trailers(fields: &mut HeaderMap) {
    remove_any(fields, &HOP_BY_HOP, HOP_BY_HOP_LENGTHS);
    remove_any(fields, &NOT_TRAILING, NOT_TRAILING_LENGTHS);
    remove_any(fields, &MISLEADING, MISLEADING_LENGTHS);
    remove_claims(fields, false);
}

/// Turns an upstream's fields into those that go to the client.
///
/// A head that is still as it came after this loses its `Connection` and what frames the body when it is written.
pub(super) fn forward_response(head: &mut ResponseHead, upgrade: bool) {
    match head {
        ResponseHead::Plain(plain) if !upgrade && comes_as_it_is(plain) => {}
        head => forward_response_parts(head.parts(), upgrade),
    }
}

/// Whether no field stays behind but what frames the body, and a `Connection` with nothing unusual in it.
fn comes_as_it_is(plain: &PlainResponse) -> bool {
    plain.fields().all(|(name, value)| match name.len() {
        10 if name.eq_ignore_ascii_case(b"connection") => is_usual(value),
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => true,
        _ => !is_any(name, &HOP_BY_HOP, HOP_BY_HOP_LENGTHS),
    })
}

/// Whether the options of a connection name no field.
fn is_usual(options: &[u8]) -> bool {
    let mut options = options.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    options.all(|option| {
        option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
    })
}

fn forward_response_parts(parts: &mut response::Parts, upgrade: bool) {
    // A server that names a field of framing here gets its way with the others; nothing is refused.
    let _ = remove_hop_by_hop(&mut parts.headers, |_| false);
    if upgrade {
        set_websocket(&mut parts.headers);
    }
    parts.version = Version::HTTP_11;
}

fn set_websocket(fields: &mut HeaderMap) {
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// The options of every `Connection` field.
fn options(fields: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

/// Whether a server closes the connection behind its response (RFC 9112 section 9.3).
pub(super) fn closes(head: &ResponseHead) -> bool {
    let has = |word: &[u8]| {
        head.values(&CONNECTION)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(word))
    };
    has(b"close") || (head.version() == Version::HTTP_10 && !has(b"keep-alive"))
}

fn remove_hop_by_hop(
    fields: &mut HeaderMap,
    protected: impl Fn(&HeaderName) -> bool,
) -> Result<(), Inadmissible> {
    let named: Vec<HeaderName> = options(fields)
        .filter(|option| !matches!(*option, b"close" | b"keep-alive" | b"Keep-Alive" | b"Close"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect();
    if named.iter().any(&protected) {
        return Err(Inadmissible::ConnectionOption);
    }
    for name in named
        .iter()
        .filter(|name| !matches!(**name, CONTENT_LENGTH | HOST))
    {
        fields.remove(name);
    }
    remove_any(fields, &HOP_BY_HOP, HOP_BY_HOP_LENGTHS);
    Ok(())
}

/// Fields that a client must not have us remove.
fn is_ours(name: &HeaderName) -> bool {
    [
        HOST,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        FORWARDED,
        X_FORWARDED_FOR,
        X_FORWARDED_HOST,
        X_FORWARDED_PORT,
        X_FORWARDED_PROTO,
        X_REAL_IP,
    ]
    .contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{RequestLength, encode, encode_plain};
    use crate::proxy::caller::Caller;
    use crate::proxy::connection::Ends;
    use crate::proxy::{Forwarding, ForwardingFields};
    use http::{Request, Response};

    fn forwarded() -> Forwarded {
        let ends = Ends {
            remote: Some("10.0.0.9:4".parse().unwrap()),
            local: Some("10.0.0.1:80".parse().unwrap()),
        };
        Caller::of_connection(ends, false, &Forwarding::default()).forwarded
    }

    fn sent(fields: &[(&str, &str)], upgrade: bool) -> Result<Vec<String>, Inadmissible> {
        let mut request = Request::get("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        forward_parts(&mut parts, &forwarded(), upgrade)?;
        set_forwarded(&mut parts.headers, &forwarded());
        let mut lines: Vec<String> = parts
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        Ok(lines)
    }

    #[test]
    fn fields_of_one_connection_stay_behind() {
        let fields = [
            ("host", "m"),
            ("connection", "close, X-One ,x-two"),
            ("connection", "Keep-Alive"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-ssl", "on"),
            ("x-forwarded", "evil"),
        ];
        assert_eq!(
            sent(&fields, false).unwrap(),
            [
                "host: m",
                "x-forwarded-for: 10.0.0.9",
                "x-forwarded-host: m",
                "x-forwarded-port: 80",
                "x-forwarded-proto: http",
                "x-three: 3"
            ]
        );
        let upgrade = [
            ("host", "m"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
        ];
        let lines = sent(&upgrade, true).unwrap();
        assert!(
            lines.contains(&"connection: Upgrade".to_owned())
                && lines.contains(&"upgrade: websocket".to_owned())
        );
    }

    /// A head in bytes, as it goes to a server; whether it went as it came.
    fn written(text: &str, forwarded: &Forwarded, apart: bool) -> (bool, String) {
        let mut head = RequestHead::of_text(text);
        if apart {
            head.parts();
        }
        forward_request(&mut head, forwarded, false).unwrap();
        let method = head.method().clone();
        let length = RequestLength::Exact(3);
        let host = head.value(&HOST).unwrap();
        let add = |tell: &mut dyn FnMut(HeaderName, &[u8])| {
            each_forwarded(forwarded, host, tell);
        };
        let (plain, bytes) = match &head {
            RequestHead::Parts(parts) => (false, encode(parts, length, add)),
            RequestHead::Plain(plain) => (true, encode_plain(&method, plain, length, add)),
        };
        // Names may be written in any case.
        let lower = |line: &str| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
            None => format!("{line}\n"),
        };
        let text = String::from_utf8(bytes).unwrap();
        (plain, text.split("\r\n").map(lower).collect())
    }

    #[test]
    fn servers_get_the_same_of_a_head_as_it_came_and_in_parts() {
        let all = ForwardingFields {
            forwarded: true,
            x_real_ip: true,
            ..ForwardingFields::default()
        };
        for (fields, plain) in [
            ("Host: m:80\r\n", true),
            ("HOST: m\r\nX-A: \t1 \r\nx-a:\r\nCookie: a=b\r\n", true),
            ("Host: m\r\nConnection: keep-alive , Close\r\n", true),
            ("Host: m\r\ncontent-length: 003\r\nX-Reality: 1\r\n", true),
            ("Host: m\r\nConnection: x-a\r\nX-A: 1\r\n", false),
            ("Host: m\r\nTransfer-Encoding: chunked\r\n", false),
            ("Host: m\r\nTE: trailers\r\n", false),
            ("Host: m\r\nKeep-Alive: 5\r\n", false),
            ("Host: m\r\nUPGRADE: h2c\r\n", false),
            ("Host: m\r\nProxy-Authorization: x\r\n", false),
            ("Host: m\r\nFORWARDED: for=1.1.1.1\r\n", false),
            ("Host: m\r\nX-Real-Ip: 1.1.1.1\r\n", false),
            ("Host: m\r\nX-FORWARDED-for: 1.1.1.1\r\n", false),
            ("Host: m\r\nx-forwarded-ssl: on\r\n", false),
            ("Host: m\r\nX-Forwarded: 1\r\n", false),
        ] {
            let text = format!("POST /a?b HTTP/1.1\r\n{fields}\r\n");
            for send in [ForwardingFields::default(), ForwardingFields::NONE, all] {
                let forwarded = Forwarded {
                    send,
                    nodes: vec!["for=10.0.0.9".to_owned()],
                    ..forwarded()
                };
                let (as_it_came, came) = written(&text, &forwarded, false);
                assert_eq!(as_it_came, plain, "{text}");
                assert_eq!(came, written(&text, &forwarded, true).1, "{text}");
            }
        }
        let (as_it_came, _) = written("GET / HTTP/1.0\r\n\r\n", &forwarded(), false);
        assert!(!as_it_came, "a host is made up");
    }

    #[test]
    fn options_that_would_remove_what_we_rely_on_are_refused() {
        for option in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "close, X-Forwarded-For",
            "x-forwarded-proto",
        ] {
            assert_eq!(
                sent(&[("connection", option)], false),
                Err(Inadmissible::ConnectionOption),
                "{option}"
            );
        }
        assert!(sent(&[("connection", "cookie")], false).is_ok());
    }

    #[test]
    fn settings_say_what_servers_are_told() {
        let told = |send| {
            let forwarded = Forwarded {
                send,
                ..forwarded()
            };
            let mut fields = HeaderMap::new();
            fields.insert(X_REAL_IP, HeaderValue::from_static("1.1.1.1"));
            fields.insert(HOST, HeaderValue::from_static("m:80"));
            remove_claims(&mut fields, false);
            set_forwarded(&mut fields, &forwarded);
            fields
        };
        assert_eq!(told(ForwardingFields::NONE).len(), 1);
        let send = ForwardingFields {
            x_real_ip: true,
            ..ForwardingFields::NONE
        };
        assert_eq!(told(send)["x-real-ip"], "10.0.0.9");
        let nodes = vec!["for=\"[::1]\"".to_owned(), "for=10.0.0.2".to_owned()];
        let forwarded = Forwarded {
            nodes,
            ..forwarded()
        };
        assert_eq!(
            forwarded_value(&forwarded, b"m:80").unwrap(),
            "for=\"[::1]\";host=\"m:80\";proto=http, for=10.0.0.2"
        );
    }

    #[test]
    fn response_keeps_its_own_fields() {
        let response = Response::builder()
            .header("connection", "close, x-hop, content-length")
            .header("x-hop", "1")
            .header("content-length", "5")
            .header("x-own", "2");
        let mut parts = response.body(()).unwrap().into_parts().0;
        forward_response_parts(&mut parts, false);
        let names: Vec<&str> = parts.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "x-own"]);
    }

    #[test]
    fn response_comes_as_it_is_unless_a_field_stays_behind() {
        for (fields, plain) in [
            ("Content-Length: 5\r\nX-A: 1\r\n", true),
            ("Transfer-Encoding: chunked\r\n", true),
            ("Connection: Keep-Alive, close\r\n", true),
            ("Connection: x-a\r\nX-A: 1\r\n", false),
            ("KEEP-ALIVE: timeout=5\r\n", false),
            ("Upgrade: h2c\r\n", false),
            ("Trailer: x-a\r\n", false),
            ("Proxy-Authenticate: Basic\r\n", false),
        ] {
            let mut head = ResponseHead::of_text(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            forward_response(&mut head, false);
            assert_eq!(matches!(head, ResponseHead::Plain(_)), plain, "{fields}");
            forward_response(&mut head, true);
            assert_eq!(head.parts().headers[UPGRADE], "websocket");
        }
    }

    #[test]
    fn nothing_that_belongs_to_a_head_trails() {
        let mut fields = HeaderMap::new();
        let forbidden = [
            "Host",
            "cookie",
            "transfer-encoding",
            "x-original-url",
            "x-forwarded-for",
        ];
        for name in forbidden.into_iter().chain(["x-checksum", "grpc-status"]) {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            fields.append(name, HeaderValue::from_static("1"));
        }
        forward_trailers(&mut fields);
        let mut names: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["grpc-status", "x-checksum"]);
    }

    #[test]
    fn websocket_is_asked_for_in_one_way_only() {
        let wants = |fields: &[(&str, &str)]| {
            let request = fields
                .iter()
                .fold(Request::get("/"), |request, (name, value)| {
                    request.header(*name, *value)
                });
            wants_websocket(&request.body(()).unwrap().into_parts().0)
        };
        assert!(wants(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket")
        ]));
        assert!(!wants(&[("upgrade", "websocket")]));
        assert!(!wants(&[("connection", "upgrade"), ("upgrade", "h2c")]));
        assert!(!wants(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("upgrade", "h2c")
        ]));
        assert!(!wants(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("content-length", "5")
        ]));
    }
}
