//! What a decision means on the wire.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{request, response};
use hyper::ext::ReasonPhrase;

use super::metrics::Outcome;
use super::request_id::RequestId;
use super::respond::{self, Answer};
use crate::filter::{self, Filter, Filtered, Judged, Peer, ResponseFilter};
use crate::net::RequestHead;
use crate::rules::{Decision, Verdict};

/// What becomes of a judged request.
#[derive(Debug)]
pub(super) enum Act {
    /// It is answered here.
    Answer(Answer, Outcome),
    /// It goes upstream, changed as the rules say.
    Forward,
    /// Its connection is reset.
    Reset,
}

/// Turns what was judged into an act, and makes the changes it asks for.
pub(super) fn act(judged: &Judged, head: &mut RequestHead, peer: &Peer, id: RequestId) -> Act {
    match judged.paused {
        Some(_) => Act::Answer(respond::paused(id), Outcome::Paused),
        None => act_on(&judged.decision, head, peer, id),
    }
}

fn act_on(decision: &Decision, head: &mut RequestHead, peer: &Peer, id: RequestId) -> Act {
    if decision.failure.is_some() {
        return Act::Answer(respond::rule_failed(id), Outcome::Failed);
    }
    match &decision.verdict {
        Verdict::Abort => Act::Reset,
        Verdict::Pass => {
            if !decision.fields.is_empty() {
                change(decision, head.parts());
            }
            Act::Forward
        }
        Verdict::Redirect { status, location } => {
            let location = filter::absolute_location(location, head.parts(), peer);
            Act::Answer(
                respond::redirect(*status, location.as_bytes(), id),
                Outcome::Redirected,
            )
        }
        Verdict::Respond {
            status,
            reason,
            description,
            ..
        } => Act::Answer(
            respond::custom(*status, reason, description, id),
            Outcome::Responded,
        ),
        Verdict::Rewrite { .. } => {
            let parts = head.parts();
            change(decision, parts);
            match origin_form(parts) {
                Ok(()) => Act::Forward,
                Err(ForeignTarget) => Act::Answer(respond::foreign_target(id), Outcome::Refused),
            }
        }
    }
}

/// The rewritten target names another server. IIS serves that only with a proxy module; this one forwards to its
/// own servers and nowhere else.
struct ForeignTarget;

/// Brings a rewritten target to origin form.
fn origin_form(parts: &mut request::Parts) -> Result<(), ForeignTarget> {
    let Some(authority) = parts.uri.authority() else {
        return Ok(());
    };
    let is_own = |host: &HeaderValue| {
        host.as_bytes()
            .eq_ignore_ascii_case(authority.as_str().as_bytes())
    };
    let target = match parts.uri.scheme() {
        // A path without its slash reads as a host.
        None => format!("/{}", parts.uri),
        Some(_) if parts.headers.get(HOST).is_some_and(is_own) => parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned(),
        Some(_) => return Err(ForeignTarget),
    };
    parts.uri = target.parse().map_err(|_| ForeignTarget)?;
    Ok(())
}

/// Applies what the rules changed, but for the length of the body: the body stays as it is.
fn change(decision: &Decision, parts: &mut request::Parts) {
    let length = parts.headers.get(CONTENT_LENGTH).cloned();
    filter::apply(decision, parts);
    restore(CONTENT_LENGTH, length, &mut parts.headers);
}

/// Applies response rules, but for what frames the response; a body that is rewritten has no length yet.
pub(super) fn filter_response(
    response_filter: &ResponseFilter,
    filter: &mut Filter,
    parts: &mut response::Parts,
) -> Filtered {
    let (status, length) = (parts.status, parts.headers.get(CONTENT_LENGTH).cloned());
    let filtered = response_filter.apply(filter, parts);
    if parts.status.is_informational() {
        parts.status = status;
    }
    if parts.status != status {
        // The phrase was that of the server's own code.
        parts.extensions.remove::<ReasonPhrase>();
    }
    if filtered.body.is_none() {
        restore(CONTENT_LENGTH, length, &mut parts.headers);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        parts.headers.remove(name);
    }
    filtered
}

fn restore(name: HeaderName, value: Option<HeaderValue>, fields: &mut HeaderMap) {
    match value {
        Some(value) => fields.insert(name, value),
        None => fields.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::request_id::RequestIds;
    use crate::rules::FieldChange;

    fn forwarded(decision: Decision) -> Result<(String, HeaderMap), u16> {
        let request = http::Request::post("/a")
            .header(HOST, "mail.example")
            .header(CONTENT_LENGTH, "5");
        let mut head = RequestHead::from(request.body(()).unwrap().into_parts().0);
        let id = RequestIds::new(0).next();
        match act_on(&decision, &mut head, &Peer::default(), id) {
            Act::Forward => {
                let parts = head.parts();
                Ok((parts.uri.to_string(), parts.headers.clone()))
            }
            Act::Answer(answer, _) => Err(answer.head.status().as_u16()),
            Act::Reset => Err(0),
        }
    }

    #[test]
    fn rewrites_stay_on_this_proxy() {
        for (target, expected) in [
            ("/b?c", Ok("/b?c")),
            ("b", Ok("/b")),
            ("http://MAIL.example/x?y", Ok("/x?y")),
            ("http://mail.example", Ok("/")),
            ("http://other.example/x", Err(404)),
            ("ftp://other.example/x", Err(404)),
            ("//other.example/x", Ok("//other.example/x")),
        ] {
            let verdict = Verdict::Rewrite {
                target: target.into(),
            };
            let uri = forwarded(Decision {
                verdict,
                ..Decision::PASS
            })
            .map(|(uri, _)| uri);
            assert_eq!(uri, expected.map(str::to_owned), "{target}");
        }
    }

    #[test]
    fn body_length_is_not_a_rule_s_to_change() {
        let change = |name: &str| FieldChange {
            name: name.into(),
            value: b"7".to_vec(),
        };
        let fields = vec![change("content-length"), change("x-a")];
        let (_, fields) = forwarded(Decision {
            fields,
            ..Decision::PASS
        })
        .unwrap();
        assert_eq!(
            (&fields[CONTENT_LENGTH], &fields["x-a"]),
            (&"5".parse().unwrap(), &"7".parse().unwrap())
        );
    }

    #[test]
    fn other_verdicts() {
        assert_eq!(
            forwarded(Decision {
                verdict: Verdict::Abort,
                ..Decision::PASS
            })
            .unwrap_err(),
            0
        );
        assert_eq!(
            forwarded(Decision {
                failure: Some(50),
                ..Decision::PASS
            })
            .unwrap_err(),
            500
        );
        let verdict = Verdict::Redirect {
            status: 302,
            location: b"/x".to_vec(),
        };
        assert_eq!(
            forwarded(Decision {
                verdict,
                ..Decision::PASS
            })
            .unwrap_err(),
            302
        );
    }
}
