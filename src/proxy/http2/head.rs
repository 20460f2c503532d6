//! What HTTP/2 leaves to be checked of a head, and what HTTP/1.1 writes in another way (RFC 9113 section 8).

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue};
use http::request;

use crate::net::{HeadLimits, Malformed};
use crate::proxy::admit::Inadmissible;
use crate::proxy::metrics::Reason;

/// Bytes that a field takes beside name and value when it is written by HTTP/1.1.
const FIELD_FRAME: usize = 4;

/// Holds a head to the limits of HTTP/1.1, and brings it to the fields that HTTP/1.1 would have.
///
/// The library has refused what is malformed by itself: names in upper case, fields of a connection, pseudo-fields
/// that are missing, unknown or late, and lengths that the body does not have.
pub(in crate::proxy) fn check(
    parts: &mut request::Parts,
    limits: &HeadLimits,
) -> Result<(), Reason> {
    check_sizes(parts, limits).map_err(Reason::Malformed)?;
    if parts.headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(Reason::Malformed(Malformed::RepeatedFraming));
    }
    name_host(parts)?;
    for value in parts.headers.values_mut() {
        trim(value);
    }
    join_cookies(&mut parts.headers);
    Ok(())
}

fn check_sizes(parts: &request::Parts, limits: &HeadLimits) -> Result<(), Malformed> {
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > limits.target {
        return Err(Malformed::TargetTooLong);
    }
    // A crumb of a cookie is a field like any other: each costs the same.
    if parts.headers.len() > limits.fields {
        return Err(Malformed::TooManyFields);
    }
    let authority = parts.uri.authority().map_or(0, |name| name.as_str().len());
    let mut bytes = parts.method.as_str().len() + target + authority;
    for (name, value) in &parts.headers {
        let field = name.as_str().len() + value.len();
        if field > limits.field {
            return Err(Malformed::FieldTooLarge);
        }
        bytes += field + FIELD_FRAME;
    }
    match bytes > limits.bytes {
        true => Err(Malformed::HeadTooLarge),
        false => Ok(()),
    }
}

/// The authority is the host; a `Host` beside it says the same (RFC 9113 section 8.3.1).
fn name_host(parts: &mut request::Parts) -> Result<(), Reason> {
    let Some(authority) = parts.uri.authority() else {
        return Ok(());
    };
    let agrees = |host: &HeaderValue| {
        host.as_bytes()
            .eq_ignore_ascii_case(authority.as_str().as_bytes())
    };
    let unusable = Reason::Inadmissible(Inadmissible::Host);
    if !parts.headers.get_all(HOST).iter().all(agrees) {
        return Err(unusable);
    }
    if !parts.headers.contains_key(HOST) {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| unusable)?;
        parts.headers.insert(HOST, host);
    }
    Ok(())
}

/// Takes away space around a value, which HTTP/1.1 would not carry (RFC 9113 section 8.2.1 has it malformed).
fn trim(value: &mut HeaderValue) {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    if is_space(bytes.first()) || is_space(bytes.last()) {
        // What is left of a value is one.
        if let Ok(trimmed) = HeaderValue::from_bytes(bytes.trim_ascii()) {
            *value = trimmed;
        }
    }
}

/// Makes one `Cookie` of its crumbs (RFC 9113 section 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    let crumbs = fields.get_all(COOKIE);
    if crumbs.iter().count() < 2 {
        return;
    }
    let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        fields.insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn checked(
        uri: &str,
        fields: &[(&str, &str)],
        limits: &HeadLimits,
    ) -> Result<HeaderMap, &'static str> {
        let request = fields
            .iter()
            .fold(Request::get(uri), |request, (name, value)| {
                request.header(*name, *value)
            });
        let mut parts = request.body(()).unwrap().into_parts().0;
        check(&mut parts, limits).map_err(Reason::word)?;
        Ok(parts.headers)
    }

    #[test]
    fn heads_become_those_of_http1() {
        let check = |uri, fields: &[(&str, &str)]| checked(uri, fields, &HeadLimits::DEFAULT);
        let fields = check(
            "https://mail.example/owa",
            &[("cookie", "a=1"), ("x-a", " b\t"), ("cookie", "b=2")],
        )
        .unwrap();
        assert_eq!(fields["host"], "mail.example");
        assert_eq!(fields["cookie"], "a=1; b=2");
        assert_eq!(fields.get_all("cookie").iter().count(), 1);
        assert_eq!(fields["x-a"], "b");
        let fields = check("https://mail.example/", &[("host", "MAIL.example")]).unwrap();
        assert_eq!(fields.get_all("host").iter().count(), 1);
        for hosts in [&["other"][..], &["mail.example", "other"]] {
            let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(check("https://mail.example/", &fields), Err("host"));
        }
        let lengths = [("content-length", "1"), ("content-length", "1")];
        assert_eq!(check("https://m/", &lengths), Err("repeated-framing"));
    }

    #[test]
    fn limits_hold_from_both_sides() {
        let limits = HeadLimits {
            bytes: 100,
            field: 40,
            fields: 4,
            target: 20,
            ..HeadLimits::DEFAULT
        };
        let check = |uri: &str, fields: &[(&str, &str)]| {
            checked(uri, fields, &limits).map(|fields| fields.len())
        };
        let long = "a".repeat(38);
        // Three for the method, one each for target and host, and four for each field.
        assert_eq!(check("http://m/", &[("aa", &long), ("b", &long)]), Ok(3));
        let too_large = check("http://m/", &[("aa", &long), ("bb", &long), ("c", "defgh")]);
        assert_eq!(too_large, Err("head-too-large"));
        assert_eq!(
            check("http://m/", &[("abc", &long)]),
            Err("field-too-large")
        );
        let crumbs = [("cookie", "a"); 5];
        assert_eq!(check("http://m/", &crumbs[..4]), Ok(2));
        assert_eq!(check("http://m/", &crumbs), Err("too-many-fields"));
        let target = |length: usize| format!("http://m/{}", "a".repeat(length - 1));
        assert_eq!(check(&target(20), &[]), Ok(1));
        assert_eq!(check(&target(21), &[]), Err("target-too-long"));
    }
}
