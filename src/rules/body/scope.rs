//! Which bodies are rewritten at all.

use encoding_rs::Encoding;
use lol_html::AsciiCompatibleEncoding;

use super::{BodySkip, MAX_PATTERN_BODY};
use crate::rules::ResponseView;
use crate::rules::plan::{BodyPlan, ResponsePlan, SubjectPlan};
use crate::rules::view::read_field;

/// What of a response's body may be rewritten.
pub(in crate::rules) struct BodyScope {
    is_html: bool,
    fits: bool,
    pub(in crate::rules) encoding: (AsciiCompatibleEncoding, bool),
}

/// Looks at a head for what may be done with the body; `Err` says why a text passes as it is, if that is worth telling.
pub(in crate::rules) fn scope(
    response: &ResponseView<'_>,
    is_head: bool,
) -> Result<BodyScope, Option<BodySkip>> {
    // These have no content, or a part of one (RFC 9110 sections 9.3.2, 15.3.5, 15.3.7, 15.4.5).
    if is_head || response.status < 200 || matches!(response.status, 204 | 206 | 304) {
        return Err(None);
    }
    let media_type = field(response, "content-type");
    let (essence, parameters) = media_type
        .split_once(';')
        .unwrap_or((media_type.as_str(), ""));
    let essence = essence.trim();
    if !is_text(essence) {
        return Err(None);
    }
    let coding = field(response, "content-encoding");
    if !coding.is_empty() && coding.trim() != "identity" {
        return Err(Some(BodySkip::Encoded));
    }
    let charset = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "charset").then(|| value.trim().trim_matches('"').to_owned())
    });
    let encoding = match &charset {
        Some(label) => Encoding::for_label(label.as_bytes())
            .and_then(AsciiCompatibleEncoding::new)
            .ok_or(Some(BodySkip::Charset))?,
        None => AsciiCompatibleEncoding::utf_8(),
    };
    let length: usize = field(response, "content-length")
        .trim()
        .parse()
        .unwrap_or(0);
    Ok(BodyScope {
        is_html: matches!(essence, "text/html" | "application/xhtml+xml"),
        fits: length <= MAX_PATTERN_BODY,
        encoding: (encoding, charset.is_some()),
    })
}

impl BodyScope {
    /// Whether the rule can rewrite this body.
    pub(in crate::rules) fn takes(&self, rule: &ResponsePlan) -> Result<bool, BodySkip> {
        match &rule.subject {
            SubjectPlan::Body(BodyPlan::Attributes(_)) => Ok(self.is_html),
            SubjectPlan::Body(BodyPlan::Text { .. }) if !self.fits => Err(BodySkip::TooLarge),
            SubjectPlan::Body(BodyPlan::Text { .. }) => Ok(true),
            SubjectPlan::Field(_) | SubjectPlan::Status => Ok(false),
        }
    }
}

/// A field in lower case.
fn field(response: &ResponseView<'_>, name: &str) -> String {
    let mut value = Vec::new();
    read_field(response.fields, name, &mut value);
    String::from_utf8_lossy(&value).to_ascii_lowercase()
}

/// Whether a media type is text that rules are written for.
fn is_text(essence: &str) -> bool {
    let is_named = matches!(
        essence,
        "application/ecmascript"
            | "application/javascript"
            | "application/json"
            | "application/x-javascript"
            | "application/xhtml+xml"
            | "application/xml"
    );
    essence.starts_with("text/")
        || is_named
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_plain_texts_are_rewritten() {
        for (status, is_head, fields, expected) in [
            (200, false, &[("content-type", "text/html")][..], Ok(true)),
            (
                404,
                false,
                &[("content-type", "Application/XHTML+XML; x=y")],
                Ok(true),
            ),
            (
                200,
                false,
                &[("content-type", "text/css; charset=\"UTF-8\"")],
                Ok(false),
            ),
            (
                200,
                false,
                &[("content-type", "application/problem+json")],
                Ok(false),
            ),
            (200, false, &[("content-type", "image/png")], Err(None)),
            (200, false, &[], Err(None)),
            (200, true, &[("content-type", "text/html")], Err(None)),
            (206, false, &[("content-type", "text/html")], Err(None)),
            (204, false, &[("content-type", "text/html")], Err(None)),
            (304, false, &[("content-type", "text/html")], Err(None)),
            (
                200,
                false,
                &[("content-type", "text/html"), ("content-encoding", "GZip")],
                Err(Some(BodySkip::Encoded)),
            ),
            (
                200,
                false,
                &[
                    ("content-type", "text/html"),
                    ("content-encoding", "identity"),
                ],
                Ok(true),
            ),
            (
                200,
                false,
                &[("content-type", "text/html; charset=utf-16le")],
                Err(Some(BodySkip::Charset)),
            ),
        ] {
            let response = ResponseView {
                status,
                reason: "",
                fields: &fields.to_vec(),
            };
            let found = scope(&response, is_head).map(|scope| scope.is_html);
            assert_eq!(found, expected, "{status} {is_head} {fields:?}");
        }
    }
}
