//! Answers the process's own probes: through the filter as any request, and never any further.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode};

use super::act::{Act, act, filter_response};
use super::body::ClientBody;
use super::exchange::Exchange;
use super::headers;
use super::metrics::Outcome;
use super::respond::{self, Answer};
use super::service::{Answered, Client, NoAnswer};
use crate::filter::{Judged, PROBE_FIELD, Peer, ResponseFilter, Seen};
use crate::model::{CannedResponse, MitigationId};
use crate::net::RequestHead;

/// Fields that frame a response, which are not a canned one's to say.
const FRAMING: [HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

/// A request over TLS without addresses, as vectors are judged before a swap.
const PEER: Peer = Peer {
    secure: true,
    remote: None,
    local: None,
};

impl Client {
    /// Answers a probe. It counts as no request, is in no log, and its response rules count no hit.
    pub(super) fn answer_probe(&self, mut head: RequestHead, body: ClientBody) -> Answered {
        let probes = &self.core.shared.config.probes;
        let id = self.core.request_ids.next();
        let exchange = Exchange::new(&self.core, &self.link, id, Rc::clone(&self.caller), None);
        exchange.leave_uncounted();
        if let Err(reason) = self.admit(&mut head) {
            probes.see(Seen::Refused);
            let answer = respond::refused(reason, id);
            return Ok(self.local(answer, Outcome::Refused, body, &head, exchange));
        }
        headers::remove_misleading(&mut head);
        let host = head.value(&HOST).unwrap_or_default();
        let site = self.core.shared.site(host);
        let mut filter = self.core.filter.borrow_mut();
        let judged = filter.judge_uncounted(site, head.parts(), &PEER);
        drop(filter);
        let acted = owner(&judged, site);
        match act(&judged, &mut head, &PEER, id) {
            Act::Forward => {
                let response = probes.response();
                let (answer, owners) = self.canned(response.as_ref(), judged.response, site);
                probes.see(Seen::Passed(owners));
                Ok(self.local(answer, Outcome::BuiltIn, body, &head, exchange))
            }
            Act::Answer(answer, outcome) => {
                probes.see(Seen::Stopped(acted));
                Ok(self.local(answer, outcome, body, &head, exchange))
            }
            Act::Reset => {
                probes.see(Seen::Stopped(acted));
                self.link.reset();
                Err(NoAnswer::unanswered())
            }
        }
    }

    /// The canned response after every response rule, and the mitigations whose rules changed it.
    fn canned(
        &self,
        response: Option<&CannedResponse>,
        response_filter: Option<ResponseFilter>,
        site: usize,
    ) -> (Answer, Vec<MitigationId>) {
        let mut answer = Response::new(Bytes::new());
        if let Some(response) = response {
            *answer.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::OK);
            for (name, value) in &response.fields {
                let name = HeaderName::try_from(name);
                let value = HeaderValue::try_from(value);
                if let (Ok(name), Ok(value)) = (name, value)
                    && !FRAMING.contains(&name)
                {
                    answer.headers_mut().append(name, value);
                }
            }
            *answer.body_mut() = Bytes::copy_from_slice(response.body.as_bytes());
        }
        let Some(response_filter) = response_filter else {
            return (passed(answer), Vec::new());
        };
        let (mut parts, mut body) = answer.into_parts();
        let mut filter = self.core.filter.borrow_mut();
        let filtered = filter_response(&response_filter, &mut filter, &mut parts);
        let mut rules = filtered.rules;
        if let Some(mut transform) = filtered.body {
            let mut text = Vec::with_capacity(body.len());
            transform.write(&body, &mut text);
            rules.extend(transform.finish_uncounted(&mut text));
            body = text.into();
        }
        let set = response_filter.snapshot().site(site);
        let owners = rules
            .iter()
            .filter_map(|rule| set.rule(*rule).origin.mitigation.clone());
        let owners = owners.collect();
        (passed(Response::from_parts(parts, body)), owners)
    }
}

fn passed(mut response: Response<Bytes>) -> Answer {
    let name = HeaderName::from_static(PROBE_FIELD);
    let fields = response.headers_mut();
    fields.insert(name, HeaderValue::from_static("passed"));
    response.into()
}

/// The mitigation whose rule decided.
fn owner(judged: &Judged, site: usize) -> Option<MitigationId> {
    let rule = judged.decision.rule?;
    judged
        .snapshot
        .site(site)
        .rule(rule)
        .origin
        .mitigation
        .clone()
}
