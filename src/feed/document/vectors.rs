//! `sg:vectors` as vectors.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::mitigation::plain;
use super::notices::Notices;
use super::{FIELD_LIMIT, Fault, NAMESPACE, VECTOR_LIMIT, fault};
use crate::model::{CannedResponse, Expectation, FieldExpectation, Vector};
use crate::xml::Element;

pub(super) fn read(list: Element<'_>, notices: &mut Notices) -> Result<Vec<Vector>, Fault> {
    notices.attributes(list, &[], &[]);
    let mut vectors = Vec::new();
    for child in list.children() {
        let expectation = match (child.namespace(), child.name()) {
            (NAMESPACE, "pass") => Expectation::Pass,
            (NAMESPACE, "stop") => Expectation::Stop,
            _ => {
                notices.element(child);
                continue;
            }
        };
        if vectors.len() == VECTOR_LIMIT {
            let reason = format!("more than {VECTOR_LIMIT} vectors in one mitigation");
            return Err(fault(child, reason));
        }
        vectors.push(read_vector(child, expectation, notices)?);
    }
    Ok(vectors)
}

fn read_vector(
    element: Element<'_>,
    expectation: Expectation,
    notices: &mut Notices,
) -> Result<Vector, Fault> {
    notices.attributes(element, &["method", "target"], &[]);
    let method = element.attribute("method").map_or("GET", |m| m.value());
    if Method::from_bytes(method.as_bytes()).is_err() {
        return Err(fault(element, format!("{method:?} is no method")));
    }
    let target = plain(element, "target");
    // Anything a client can put on the wire may be a vector, so only what would end the request line is refused.
    if target.is_empty() || target.bytes().any(|octet| octet <= b' ' || octet == 0x7f) {
        let reason = "a vector needs a target: a path and query as sent, percent-encoded";
        return Err(fault(element, reason));
    }
    let mut vector = Vector {
        expectation,
        method: method.to_owned(),
        target,
        fields: Vec::new(),
        response: None,
        expected: Vec::new(),
        line: element.position().line,
    };
    for child in element.children() {
        match (child.namespace(), child.name()) {
            (NAMESPACE, "header") => push_field(&mut vector.fields, child, notices)?,
            (NAMESPACE, "response") => {
                if vector.response.is_some() {
                    return Err(fault(child, "a second sg:response"));
                }
                vector.response = Some(read_response(child, notices)?);
            }
            (NAMESPACE, "expect") => vector.expected.push(read_expect(child, notices)?),
            _ => notices.element(child),
        }
    }
    if vector.response.is_none() && !vector.expected.is_empty() {
        return Err(fault(element, "sg:expect needs an sg:response beside it"));
    }
    Ok(vector)
}

fn read_response(element: Element<'_>, notices: &mut Notices) -> Result<CannedResponse, Fault> {
    notices.attributes(element, &["status"], &[]);
    let status = element.attribute("status").map_or("200", |s| s.value());
    let code = status
        .parse()
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| fault(element, format!("{status:?} is no status code")))?;
    let mut response = CannedResponse {
        status: code.as_u16(),
        fields: Vec::new(),
        body: String::new(),
    };
    for child in element.children() {
        match (child.namespace(), child.name()) {
            (NAMESPACE, "header") => push_field(&mut response.fields, child, notices)?,
            (NAMESPACE, "body") => {
                notices.attributes(child, &[], &[]);
                response.body.push_str(&child.text());
            }
            _ => notices.element(child),
        }
    }
    Ok(response)
}

fn read_expect(element: Element<'_>, notices: &mut Notices) -> Result<FieldExpectation, Fault> {
    notices.attributes(element, &["header", "body"], &[]);
    match (element.attribute("header"), element.attribute("body")) {
        (Some(name), None) if is_field_name(name.value()) => Ok(FieldExpectation::Field {
            name: name.value().to_owned(),
            value: element.text().into_owned(),
        }),
        (None, Some(fragment)) if !fragment.value().is_empty() => {
            Ok(FieldExpectation::BodyFragment(fragment.value().to_owned()))
        }
        _ => {
            let reason =
                "sg:expect takes header=\"NAME\" and the value as text, or body=\"FRAGMENT\"";
            Err(fault(element, reason))
        }
    }
}

fn push_field(
    fields: &mut Vec<(String, String)>,
    element: Element<'_>,
    notices: &mut Notices,
) -> Result<(), Fault> {
    notices.attributes(element, &["name"], &[]);
    let (name, value) = (plain(element, "name"), element.text().into_owned());
    if !is_field_name(&name) || HeaderValue::from_bytes(value.as_bytes()).is_err() {
        let reason = format!("sg:header {name:?} is no field: check its name and its value");
        return Err(fault(element, reason));
    }
    if fields.len() == FIELD_LIMIT {
        let reason = format!("more than {FIELD_LIMIT} fields in one message");
        return Err(fault(element, reason));
    }
    fields.push((name, value));
    Ok(())
}

fn is_field_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}
