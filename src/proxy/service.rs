//! The order in which a request is looked at, changed, and answered.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, EXPECT, HOST, HeaderName, UPGRADE, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode, response};
use http_body::Body as _;

use super::act::{Act, act, filter_response};
use super::admit::{Inadmissible, admit};
use super::balance::Servers;
use super::body::{ClientBody, RequestBody, ResponseBody};
use super::bond::{Bonds, Home, Lease, Talk, names_bound_scheme};
use super::caller::Caller;
use super::conversation::Outgoing;
use super::core::{Core, LocalUpstream};
use super::exchange::{Exchange, Patience};
use super::fields::judged_head;
use super::forward::{self, Sharing, Unanswered, forward, forward_bound};
use super::headers;
use super::http2;
use super::metrics::{Outcome, Reason};
use super::record::{AccessEntry, Asked};
use super::respond::{self, Answer};
use super::upgrade::Tunnel;
use super::worker::Terms;
use super::{Party, ProxyError};
use crate::canon;
use crate::filter::{BodyTransform, BodyWatch, PROBE_FIELD, ResponseFilter};
use crate::net::{Link, Malformed, RequestHead, ResponseHead, StreamReset};
use crate::rules::Recent;

const PROBE: HeaderName = HeaderName::from_static(PROBE_FIELD);

/// One client connection.
pub(super) struct Client {
    pub(super) core: Rc<Core>,
    pub(super) link: Link,
    /// The client at the other end.
    pub(super) caller: Rc<Caller>,
    /// How connections of its listener are taken.
    pub(super) terms: Rc<Terms>,
    /// Whether that client is a proxy that is believed about its own clients.
    pub(super) believed: bool,
    /// The upstream connections that are this client's alone.
    pub(super) bonds: Rc<Bonds>,
    /// What the last request of the connection came to.
    pub(super) recent: Rc<RefCell<Recent>>,
    /// Whether the connection carries other requests at the same time, as one by HTTP/2 does.
    pub(super) multiplexed: bool,
    /// What the connection becomes after a 101.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
}

/// The connection ends without an answer; the link says how. Of several streams on a connection only this one ends.
#[derive(Debug)]
pub(super) struct NoAnswer(StreamReset);

impl NoAnswer {
    /// The request is not answered.
    pub(super) fn unanswered() -> Self {
        Self(StreamReset::unanswered())
    }

    /// How the stream ends, of several on a connection.
    pub(super) const fn reset(&self) -> &StreamReset {
        &self.0
    }
}

/// A response, or the end of the connection without one.
pub(super) type Answered = Result<Reply, NoAnswer>;

/// A response on its way to the client.
pub(super) struct Reply {
    pub(super) head: ResponseHead,
    pub(super) body: ResponseBody,
    /// Whether its connection ends behind it.
    pub(super) last: bool,
}

/// How far a request comes without waiting for anybody.
pub(super) enum Begun {
    Answered(Reply),
    Forward(Errand),
}

/// A request that a server has to answer.
pub(super) struct Errand {
    upstream: usize,
    servers: Rc<Servers>,
    request: Outgoing,
    response_filter: Option<Box<ResponseFilter>>,
    exchange: Rc<Exchange>,
    upgrade: bool,
}

impl Client {
    /// The same for one stream of its connection.
    pub(super) fn of_stream(&self, link: Link) -> Self {
        Self {
            core: Rc::clone(&self.core),
            link,
            caller: Rc::clone(&self.caller),
            terms: Rc::clone(&self.terms),
            believed: self.believed,
            bonds: Rc::default(),
            recent: Rc::clone(&self.recent),
            multiplexed: true,
            tunnel: RefCell::new(None),
        }
    }

    /// Judges a request, and answers it or makes it ready for a server.
    pub(super) fn begin(&self, mut head: RequestHead, body: ClientBody) -> Result<Begun, NoAnswer> {
        if head.has(&PROBE) && self.is_probe(&mut head) {
            return self.answer_probe(head, body).map(Begun::Answered);
        }
        let id = self.core.request_ids.next();
        let caller = self.caller_of(&mut head);
        let entry = self
            .core
            .recorder
            .borrow()
            .wants_access()
            .then(|| AccessEntry::new(id, caller.address, &head, self.core.time.get()));
        let exchange = Exchange::new(&self.core, &self.link, id, Rc::clone(&caller), entry);
        if self.believed && !exchange.admit() {
            return Ok(self.refused(Reason::TooMany, body, &head, exchange));
        }
        if let Err(reason) = self.admit(&mut head) {
            return Ok(self.refused(reason, body, &head, exchange));
        }
        if self.is_health_check(&head) {
            exchange.leave_uncounted();
            let answer = respond::health(!self.core.draining.get(), id);
            let response = self.local(answer, Outcome::BuiltIn, body, &head, exchange);
            return Ok(Begun::Answered(response));
        }
        if self.terms.refusals.override_fields {
            headers::remove_misleading(&mut head);
        }
        let site = self.core.shared.site(head.value(&HOST).unwrap_or_default());
        let judged = self.core.filter.borrow_mut().judge_on(
            &mut self.recent.borrow_mut(),
            site,
            &judged_head(&head),
            &caller.peer,
        );
        let meters = &self.core.shared.meters;
        meters.out_of_steps(judged.out_of_steps);
        meters.excepted(judged.excepted.is_some());
        let asked = Asked {
            id,
            client: caller.forwarded.client.as_bytes(),
            head: &head,
        };
        self.core
            .recorder
            .borrow_mut()
            .decision(asked, site, &judged, self.core.time.get());
        match act(&judged, &mut head, &caller.peer, id) {
            Act::Forward => self.pass_on(site, head, body, judged.response, exchange),
            Act::Answer(answer, outcome) => {
                exchange.blame(Party::Policy);
                let response = self.local(answer, outcome, body, &head, exchange);
                Ok(Begun::Answered(response))
            }
            Act::Reset => {
                exchange.blame(Party::Policy);
                exchange.settle(Outcome::Aborted, 0);
                self.link.reset();
                Err(NoAnswer::unanswered())
            }
        }
    }

    /// Who a request is from.
    fn caller_of(&self, head: &mut RequestHead) -> Rc<Caller> {
        if !self.believed {
            return Rc::clone(&self.caller);
        }
        let (trusted, forwarding) = (&self.terms.trusted, &self.core.shared.config.forwarding);
        Rc::new(
            self.caller
                .behind(&head.parts().headers, trusted, forwarding),
        )
    }

    /// Whether somebody asks how this proxy is, at the path that its listener has for that.
    fn is_health_check(&self, head: &RequestHead) -> bool {
        let asked = self.terms.health_path.as_deref();
        asked.is_some_and(|path| path.as_bytes() == head.path())
            && matches!(*head.method(), Method::GET | Method::HEAD)
    }

    /// Whether a request is one of the process's own; what says so is removed.
    fn is_probe(&self, head: &mut RequestHead) -> bool {
        let fields = &mut head.parts().headers;
        self.core.shared.config.probes.recognise(fields)
    }

    /// Checks a head, whichever protocol it came by.
    pub(super) fn admit(&self, head: &mut RequestHead) -> Result<(), Reason> {
        if self.multiplexed {
            http2::check(head.parts(), &self.core.shared.config.limits.head)?;
        }
        admit(head, &self.terms.refusals)
    }

    fn pass_on(
        &self,
        site: usize,
        mut head: RequestHead,
        body: ClientBody,
        response_filter: Option<ResponseFilter>,
        exchange: Rc<Exchange>,
    ) -> Result<Begun, NoAnswer> {
        let upgrade = head.has(&UPGRADE) && headers::wants_websocket(head.parts());
        if let Some(response_filter) = &response_filter
            && response_filter.may_rewrite_body()
        {
            response_filter.prepare(head.parts());
        }
        let forwarded = &exchange.caller.forwarded;
        if let Err(reason) = headers::forward_request(&mut head, forwarded, upgrade) {
            return Ok(self.refused(Reason::Inadmissible(reason), body, &head, exchange));
        }
        let target = head.path_and_query().unwrap_or(b"/");
        let upstream = self.core.shared.routes.find(site, target);
        let servers = match self.core.upstream(upstream) {
            LocalUpstream::BuiltIn(built_in) => {
                let answer = self.filtered(built_in(head.parts()), response_filter);
                let response = self.local(answer, Outcome::BuiltIn, body, &head, exchange);
                return Ok(Begun::Answered(response));
            }
            LocalUpstream::Servers(servers) => servers,
        };
        if let Some(timeout) = servers.group.settings.response_timeout {
            exchange.set_response_timeout(timeout);
        }
        self.allow_long_poll(head.path(), &exchange);
        if names_bound_scheme(head.values(&AUTHORIZATION)) {
            if self.multiplexed {
                return Err(self.require_http1(&exchange));
            }
            self.bonds.bind();
        }
        let body = RequestBody::new(body, &exchange);
        let request = Outgoing::new(
            head,
            &exchange.caller.forwarded,
            body,
            servers.speak_http2(),
        );
        Ok(Begun::Forward(Errand {
            upstream,
            servers: Rc::clone(servers),
            request,
            response_filter: response_filter.map(Box::new),
            exchange,
            upgrade,
        }))
    }

    /// Has a server answer.
    pub(super) async fn run(&self, errand: Errand) -> Answered {
        let Errand {
            upstream,
            servers,
            request,
            response_filter,
            exchange,
            upgrade,
        } = errand;
        let to = (upstream, &*servers);
        let answered = self.ask(to, request, &exchange, upgrade).await;
        let answer = match answered {
            Ok(answer) => answer,
            Err(unanswered) => return self.unanswered(unanswered, exchange),
        };
        if answer.head.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(answer, exchange, upgrade);
        }
        let forward::Answer {
            mut head,
            conversation,
            server,
        } = answer;
        if names_bound_scheme(head.values(&WWW_AUTHENTICATE)) {
            if self.multiplexed {
                // The connection goes with its sender: nobody else may meet what was begun on it.
                return Err(self.require_http1(&exchange));
            }
            self.bonds.bind();
        }
        let (home, last) = match self.bonds.is_bound() && !conversation.is_multiplexed() {
            true => (
                Home::Client(Rc::clone(&self.bonds), upstream),
                headers::closes(&head),
            ),
            false => (Home::Pool(self.core.clock.now()), false),
        };
        if self.multiplexed {
            // The library has heads in parts.
            head.parts();
        }
        headers::forward_response(&mut head, false);
        let (transform, watch) = match response_filter {
            // What is only watched goes on as it came.
            Some(watch) if watch.only_watches() => self.filter_head(&watch, &mut head.to_parts()),
            Some(response_filter) => self.filter_head(&response_filter, head.parts()),
            None => (None, None),
        };
        exchange.settle(Outcome::Forwarded, head.status().as_u16());
        let sending = conversation.is_sending();
        let talk = Talk::new(conversation, server);
        if sending {
            // The response may rest, for a client that does not read it; the request does not.
            let rest = tokio::task::spawn_local(Rc::clone(&talk).send_rest());
            self.bonds.adopt(rest);
        }
        let lease = Lease {
            talk,
            home,
            _sending: Rc::clone(&self.bonds),
        };
        let body = ResponseBody::server(transform, watch, lease, exchange);
        Ok(Reply { head, body, last })
    }

    /// Sends a request where it may go, and waits for the head of its response.
    async fn ask(
        &self,
        (upstream, servers): (usize, &Servers),
        request: Outgoing,
        exchange: &Exchange,
        upgrade: bool,
    ) -> Result<forward::Answer, Unanswered> {
        match self.bonds.take(upstream) {
            _ if self.bonds.has_ended() => Err(Unanswered::Ended),
            // In a box, so that the requests of clients without a login do not carry its size.
            Some(talk) => Box::pin(forward_bound(&talk, request, exchange)).await,
            None => {
                let sharing = match self.bonds.is_bound() {
                    true => Sharing::Nothing,
                    // Another protocol takes a connection over whole.
                    false if upgrade => Sharing::Pool,
                    false => Sharing::Streams,
                };
                forward(&self.core, servers, sharing, request, exchange).await
            }
        }
    }

    /// Sends the client to HTTP/1.1, where its login gets a connection of its own (RFC 9113 section 9.1 and 7).
    fn require_http1(&self, exchange: &Exchange) -> NoAnswer {
        let reason = Reason::Inadmissible(Inadmissible::BoundLogin);
        self.core.shared.meters.refusal(reason);
        exchange.blame(Party::Downstream);
        exchange.settle(Outcome::Refused, 0);
        self.link.reset();
        NoAnswer(StreamReset::http1_required())
    }

    /// Leaves HTTP behind, if that was asked for.
    fn switch(&self, answer: forward::Answer, exchange: Rc<Exchange>, upgrade: bool) -> Answered {
        let forward::Answer {
            mut head,
            conversation,
            ..
        } = answer;
        let tunnel = upgrade.then(|| conversation.into_tunnel()).flatten();
        let Some((stream, early)) = tunnel else {
            return self.unanswered(Unanswered::Server(ProxyError::unasked_upgrade()), exchange);
        };
        *self.tunnel.borrow_mut() = Some(Tunnel { stream, early });
        headers::forward_response(&mut head, true);
        exchange.settle(Outcome::Forwarded, head.status().as_u16());
        Ok(Reply {
            head,
            body: ResponseBody::full(Bytes::new(), exchange),
            last: false,
        })
    }

    /// Gives a path on which servers answer late the time they need.
    fn allow_long_poll(&self, path: &[u8], exchange: &Exchange) {
        let limits = &self.core.shared.config.limits;
        if limits
            .long_poll_paths
            .iter()
            .any(|prefix| canon::path_has_prefix(path, prefix.as_bytes()))
        {
            let rest = limits.long_poll_timeout;
            exchange.set_patience(Patience {
                body: rest,
                response: rest,
            });
            self.link.set_body_timeout(rest);
        }
    }

    fn filtered(
        &self,
        response: Response<Bytes>,
        response_filter: Option<ResponseFilter>,
    ) -> Answer {
        let Some(response_filter) = response_filter else {
            return response.into();
        };
        let (mut parts, mut body) = response.into_parts();
        let (transform, watch) = self.filter_head(&response_filter, &mut parts);
        if let Some(mut transform) = transform {
            let mut text = Vec::with_capacity(body.len());
            transform.write(&body, &mut text);
            if let Some(skip) = transform.finish(&mut text) {
                self.core.shared.meters.body_skip(skip);
            }
            body = text.into();
        }
        if let Some(mut watch) = watch {
            watch.see(&body);
            watch.finish();
        }
        Response::from_parts(parts, body).into()
    }

    /// Applies response rules to a head; the result is what its body has to go through, and what looks on at it.
    fn filter_head(
        &self,
        response_filter: &ResponseFilter,
        parts: &mut response::Parts,
    ) -> (Option<BodyTransform>, Option<BodyWatch>) {
        let filtered = filter_response(response_filter, &mut self.core.filter.borrow_mut(), parts);
        let meters = &self.core.shared.meters;
        meters.out_of_steps(filtered.out_of_steps);
        meters.excepted(filtered.excepted);
        if let Some(skip) = filtered.body_skip {
            meters.body_skip(skip);
        }
        (filtered.body, filtered.watch)
    }

    fn refused(
        &self,
        reason: Reason,
        body: ClientBody,
        head: &RequestHead,
        exchange: Rc<Exchange>,
    ) -> Begun {
        self.core.shared.meters.refusal(reason);
        exchange.blame(Party::Downstream);
        let answer = respond::refused(reason, exchange.id);
        Begun::Answered(self.local(answer, Outcome::Refused, body, head, exchange))
    }

    fn unanswered(&self, unanswered: Unanswered, exchange: Rc<Exchange>) -> Answered {
        let meters = &self.core.shared.meters;
        let refuse = |reason| {
            meters.error(Party::Downstream);
            exchange.blame(Party::Downstream);
            meters.refusal(reason);
            (respond::refused(reason, exchange.id), Outcome::Refused)
        };
        let (mut answer, outcome) = match unanswered {
            Unanswered::ClientLate => refuse(Reason::Timeout),
            Unanswered::ClientFault => refuse(Reason::Malformed(
                self.link.malformed().unwrap_or(Malformed::Incomplete),
            )),
            Unanswered::Ended => {
                meters.error(Party::Upstream);
                exchange.blame(Party::Upstream);
                self.link.reset();
                return Err(NoAnswer::unanswered());
            }
            Unanswered::Server(error) => {
                meters.error(error.party());
                exchange.blame(error.party());
                tracing::debug!(%error, request = %exchange.id, "no answer from a server");
                (respond::failed(&error, exchange.id), Outcome::Failed)
            }
        };
        // A client that has an upstream connection of its own must meet no other.
        if !exchange.is_request_ended() || self.bonds.is_bound() {
            answer.last = true;
        }
        Ok(self.settled(answer, outcome, exchange))
    }

    /// Answers here, and does away with what is left of the request.
    pub(super) fn local(
        &self,
        mut answer: Answer,
        outcome: Outcome,
        body: ClientBody,
        head: &RequestHead,
        exchange: Rc<Exchange>,
    ) -> Reply {
        let limit = self.core.shared.config.limits.drained_body;
        // The library ends a stream whose request nobody reads on, once it was answered.
        if !body.is_end_stream() && !self.multiplexed {
            // A client that waits for 100 may send its body after the answer, or not: nobody could tell. Any other
            // body is read to its end behind the answer, which keeps the connection, unless it is too long.
            if head.has(&EXPECT) || body.size_hint().lower() > limit {
                answer.last = true;
            }
        }
        self.settled(answer, outcome, exchange)
    }

    fn settled(&self, answer: Answer, outcome: Outcome, exchange: Rc<Exchange>) -> Reply {
        exchange.begin_response();
        exchange.settle(outcome, answer.head.status().as_u16());
        Reply {
            head: answer.head,
            body: ResponseBody::full(answer.body, exchange),
            last: answer.last,
        }
    }
}
