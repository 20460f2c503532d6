//! One connection of a client.

use std::io;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Method, Version};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};

use super::head::{Asked, Framing, closes, encode, framing};
use crate::net::client::ResponseHead;
use crate::net::clock::Slot;
use crate::net::framing::{
    Chunked, HeadLimits, HeadScan, LastHead, Malformed, ReadHead, RequestFraming, RequestHead,
};
use crate::net::input::Input;
use crate::net::link::{Awaited, Link};
use crate::net::output::Output;
use crate::net::pace::Pace;
use crate::net::stream::Stream;

/// Bytes of a chunked body that are checked before its head is given, as far as they have arrived.
const WITHHELD_BODY: usize = 64 * 1_024;

/// How long a connection is idle before it is to be kept with little memory.
const REST: Duration = Duration::from_millis(200);

/// What has a client send the body that it announced (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How long a client may let a connection rest.
#[derive(Clone, Copy, Debug)]
pub struct ServerTimeouts {
    /// Within a body.
    pub body: Duration,
    /// After it ended its side while its request is being answered.
    pub half_close: Duration,
    /// Within a head or a trailer section.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Bytes of a body that have to move, either way, within the time for one, unless its request has a time of its
    /// own.
    pub least: usize,
}

/// What a connection is held to.
#[derive(Clone, Copy, Debug)]
pub struct ServerSettings {
    /// Bounds on heads and trailer sections.
    pub limits: HeadLimits,
    /// Whether a target with a fragment is refused.
    pub refuse_fragment: bool,
    /// How long a client may take.
    pub timeouts: ServerTimeouts,
}

/// Reads requests and sends their responses, one after the other.
///
/// What is malformed is never given: before or within a head the requests end, once everything before it was answered;
/// within a body reading fails. The [`Link`] says which fault it was. Deadlines for reading and writing are set here and
/// looked at by whoever drives the connection.
#[derive(Debug)]
pub struct ServerConnection<S = Stream> {
    /// `None` once the connection is somebody else's.
    stream: Option<S>,
    link: Link,
    settings: ServerSettings,
    input: Input,
    output: Output,
    state: State,
    asked: Asked,
    sending: Framing,
    /// Whether the client waits to be asked for its body.
    expects: bool,
    /// Whether somebody has the body, who reads it.
    lent: bool,
    /// Whoever waits for the end of the body.
    waiting: Option<Waker>,
    /// Bytes of the body that were read because nobody has it.
    drained: u64,
    /// The client has ended its side.
    ended: bool,
    served: bool,
    /// The head before this one, once a second one has come.
    last: LastHead,
    reading: Pace,
    writing: Pace,
}

#[derive(Debug)]
enum State {
    /// Before a head, or within it.
    Head(HeadScan),
    /// A chunked request is held back while more of its body may have arrived.
    Withheld(Box<Withheld>),
    Length(u64),
    Chunked(Box<Chunked>),
}

#[derive(Debug)]
struct Withheld {
    head: ReadHead,
    /// The head in bytes.
    text: Bytes,
    /// Looks ahead in the body.
    scan: Chunked,
    /// How far it looked.
    cursor: usize,
}

/// What comes next out of a body.
enum Next {
    Frame(Frame<Bytes>),
    End,
    More,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerConnection<S> {
    /// Takes over a stream that was just accepted, of which `early` was read already; the deadline for the first head
    /// begins, unless it has.
    pub fn new(stream: S, link: Link, settings: ServerSettings, early: &[u8]) -> Self {
        if !link.deadlines().is_set(Slot::Read) {
            link.deadlines().set(Slot::Read, settings.timeouts.head);
        }
        link.deadlines().set(Slot::Rest, REST);
        let least = settings.timeouts.least;
        let mut input = Input::default();
        input.bytes.extend_from_slice(early);
        Self {
            stream: Some(stream),
            link,
            settings,
            input,
            output: Output::default(),
            state: State::Head(HeadScan::default()),
            asked: Asked::default(),
            sending: Framing::Nothing,
            expects: false,
            lent: false,
            waiting: None,
            drained: 0,
            ended: false,
            served: false,
            last: LastHead::default(),
            reading: Pace::new(Slot::Read, least),
            writing: Pace::new(Slot::Write, least),
        }
    }

    /// Takes the stream, and what was read from it behind the last request. Whoever still has a body gets no more of it.
    pub fn take(&mut self) -> Option<(S, Bytes)> {
        let bytes = std::mem::take(&mut self.input.bytes);
        let bytes = match std::mem::replace(&mut self.state, State::Length(1)) {
            State::Withheld(withheld) => [&withheld.text[..], &bytes].concat().into(),
            _ => bytes.freeze(),
        };
        self.ended = true;
        Some((self.stream.take()?, bytes))
    }

    /// Whether the client has ended its side, so that nothing more can come.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is wrong with bytes that would begin a request, which nobody was told.
    pub fn unread_fault(&self) -> Option<Malformed> {
        let unread = matches!(self.state, State::Head(_) | State::Withheld(_));
        self.link.malformed().filter(|_| unread)
    }

    /// Gives back the memory that a connection at rest does not need.
    pub fn shrink(&mut self) {
        self.input.shrink();
        self.last = LastHead::default();
        if !self.output.waits() {
            self.output = Output::default();
        }
    }

    /// Reads the head of the next request, and says how its body is framed; `None` when there is none: the client has
    /// ended its side, or what came is malformed.
    ///
    /// # Errors
    ///
    /// When the connection failed.
    pub fn poll_request(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<(RequestHead, RequestFraming)>>> {
        loop {
            match self.advance() {
                Ok(Some(head)) => return Poll::Ready(Ok(Some(self.give(head)))),
                Ok(None) => {}
                Err(malformed) => self.link.set_malformed(malformed),
            }
            if self.link.malformed().is_some() || self.ended {
                return Poll::Ready(Ok(None));
            }
            match self.poll_fill(context) {
                Poll::Ready(Ok(0)) => self.stream_ended(),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => match self.take_withheld() {
                    Some(head) => return Poll::Ready(Ok(Some(self.give(head)))),
                    None => {
                        self.await_head();
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Some(stream) => self.input.poll_fill(stream, context),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Looks at what has come; a head, if one can be given.
    fn advance(&mut self) -> Result<Option<ReadHead>, Malformed> {
        let limits = &self.settings.limits;
        if let State::Head(scan) = &mut self.state {
            let bytes = &self.input.bytes[..];
            if bytes.is_empty() {
                return Ok(None);
            }
            let Some(end) = scan.scan(bytes, limits, &self.last)? else {
                return Ok(None);
            };
            // Whoever says what is wrong shows these bytes, which stay where they are.
            scan.check(&bytes[..end], self.settings.refuse_fragment)?;
            // Many connections bring one request and no more.
            if self.served {
                scan.remember(&bytes[..end], &mut self.last);
            }
            let text = self.input.split_to(end);
            let scan = std::mem::take(scan);
            if !scan.is_chunked() {
                return Ok(Some(scan.read(text)));
            }
            self.state = State::Withheld(Box::new(Withheld {
                head: scan.read(text.clone()),
                text,
                scan: Chunked::default(),
                cursor: 0,
            }));
        }
        let bytes = &self.input.bytes[..];
        let State::Withheld(withheld) = &mut self.state else {
            return Ok(None);
        };
        let (seen, whole) = withheld.scan.scan(&bytes[withheld.cursor..], limits)?;
        withheld.cursor += seen;
        let enough = whole || self.ended || bytes.len() >= WITHHELD_BODY;
        Ok(enough.then(|| self.take_withheld()).flatten())
    }

    fn take_withheld(&mut self) -> Option<ReadHead> {
        if !matches!(self.state, State::Withheld(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Length(0)) {
            State::Withheld(withheld) => Some(withheld.head),
            _ => None,
        }
    }

    /// Begins with the request of a head.
    fn give(&mut self, read: ReadHead) -> (RequestHead, RequestFraming) {
        self.asked = Asked {
            head_only: *read.head.method() == Method::HEAD,
            http10: read.head.version() == Version::HTTP_10,
            persistent: read.persistent,
            trailers: read.trailers,
        };
        self.expects = read.expects;
        self.state = match read.framing {
            RequestFraming::Chunked => State::Chunked(Box::default()),
            RequestFraming::Length(length) => State::Length(length),
        };
        self.reading.reset();
        self.link.deadlines().clear(Slot::Read);
        self.got_bytes();
        (read.head, read.framing)
    }

    fn stream_ended(&mut self) {
        self.ended = true;
        if let State::Head(scan) = &self.state
            && scan.has_begun(&self.input.bytes)
        {
            self.link.set_malformed(Malformed::Incomplete);
        }
    }

    /// Sets the deadline for the head that is waited for now.
    fn await_head(&mut self) {
        let State::Head(scan) = &self.state else {
            return;
        };
        let timeouts = &self.settings.timeouts;
        let (awaited, after) = match (scan.has_begun(&self.input.bytes), self.served) {
            (true, _) => (Awaited::Head, timeouts.head),
            (false, true) => (Awaited::Request, timeouts.idle),
            (false, false) => (Awaited::First, timeouts.head),
        };
        let deadlines = self.link.deadlines();
        // On a new connection the time for the head began when it was accepted.
        let begun = (self.link.awaited(), awaited) == (Awaited::First, Awaited::Head);
        if !deadlines.is_set(Slot::Read) || (self.link.awaited() != awaited && !begun) {
            deadlines.set(Slot::Read, after);
            if awaited != Awaited::Head {
                deadlines.set(Slot::Rest, REST);
            }
        }
        self.link.set_awaited(awaited);
    }

    /// What was waited for has come.
    fn got_bytes(&mut self) {
        self.served = true;
        self.link.deadlines().clear(Slot::Rest);
        self.link.set_awaited(Awaited::Request);
    }

    /// Somebody takes the body, who reads it.
    pub(super) const fn lend_body(&mut self) {
        self.lent = true;
    }

    /// Nobody reads the body any more.
    pub(super) fn return_body(&mut self) {
        self.lent = false;
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether the body of the request was read to its end.
    pub const fn is_body_ended(&self) -> bool {
        matches!(self.state, State::Length(0))
    }

    /// Bytes of the body that were not read, if their number was announced.
    pub const fn body_left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Reads more of the request's body, for which a client that waits for that is asked; `None` at its end.
    ///
    /// # Errors
    ///
    /// When the connection ended within it, failed, or brought what is malformed.
    pub fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match self.next() {
                Ok(Next::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Next::End) => return Poll::Ready(None),
                Ok(Next::More) => {}
                Err(malformed) => {
                    self.link.set_malformed(malformed);
                    return self.fail(io::ErrorKind::InvalidData, malformed);
                }
            }
            if self.ended {
                return self.fail(io::ErrorKind::UnexpectedEof, Malformed::Incomplete);
            }
            if std::mem::take(&mut self.expects) {
                self.output.text().extend_from_slice(CONTINUE);
                // What does not leave now leaves with the response.
                let _ = self.poll_send(context)?;
            }
            match self.poll_fill(context) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.tell();
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending => {
                    self.await_body();
                    return Poll::Pending;
                }
            }
        }
    }

    fn fail(
        &mut self,
        kind: io::ErrorKind,
        malformed: Malformed,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.tell();
        Poll::Ready(Some(Err(io::Error::new(kind, malformed))))
    }

    /// Takes what belongs to the body out of what has come.
    fn next(&mut self) -> Result<Next, Malformed> {
        let bytes = &mut self.input.bytes;
        let length = match &mut self.state {
            State::Length(0) => return Ok(Next::End),
            State::Length(left) => {
                let length = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= length as u64;
                length
            }
            State::Chunked(chunked) => {
                let step = chunked.step(bytes, &self.settings.limits)?;
                bytes.advance(step.framing);
                if step.ended {
                    let trailers = chunked.take_trailers();
                    self.state = State::Length(0);
                    self.got_body(step.framing);
                    return Ok(match trailers.is_empty() {
                        true => Next::End,
                        false => Next::Frame(Frame::trailers(trailers)),
                    });
                }
                step.data
            }
            State::Head(_) | State::Withheld(_) => return Ok(Next::End),
        };
        if length == 0 {
            return Ok(Next::More);
        }
        let data = bytes.split_to(length).freeze();
        self.got_body(length);
        Ok(Next::Frame(Frame::data(data)))
    }

    /// So many bytes of the body were taken.
    fn got_body(&mut self, count: usize) {
        self.expects = false;
        let deadlines = self.link.deadlines();
        match self.link.body_timeout() {
            None => self.reading.moved(deadlines, count),
            Some(_) => deadlines.clear(Slot::Read),
        }
        self.got_bytes();
        if self.is_body_ended() {
            self.reading.reset();
            self.tell();
        }
    }

    /// Sets the deadline for the part of a body that is waited for now.
    fn await_body(&mut self) {
        let deadlines = self.link.deadlines();
        if deadlines.is_set(Slot::Read) && self.link.awaited() == Awaited::Body {
            return;
        }
        self.link.set_awaited(Awaited::Body);
        let timeouts = &self.settings.timeouts;
        let trails = matches!(&self.state, State::Chunked(chunked) if chunked.is_in_trailers());
        match (trails, self.link.body_timeout()) {
            (true, _) => deadlines.set(Slot::Read, timeouts.head),
            (false, Some(timeout)) => deadlines.set(Slot::Read, timeout),
            (false, None) => self.reading.wait(deadlines, timeouts.body),
        }
    }

    /// Looks for the end of a client that waits for its response, with nothing to read of its request: ready when it
    /// went away. One that only ended its own side is waited with for a while (RFC 9112 section 9.6); one that went
    /// away in order is found out by writing to it.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let watches = self.is_body_ended() && self.input.bytes.is_empty();
        if watches && !self.ended {
            match ready!(self.poll_fill(context)) {
                Ok(0) => self.ended = true,
                // The next request: it is not read any further before its turn.
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        if self.ended && watches && !self.link.is_responding() {
            let deadlines = self.link.deadlines();
            if deadlines.has_passed(Slot::Read) {
                return Poll::Ready(());
            }
            if !deadlines.is_set(Slot::Read) {
                deadlines.set(Slot::Read, self.settings.timeouts.half_close);
            }
        }
        Poll::Pending
    }

    /// Begins the response with its head. `body` is the length of what follows, if it is known; the connection ends
    /// behind the response if `last`, or if the head says so.
    pub fn respond(&mut self, head: &ResponseHead, body: Option<u64>, last: bool) {
        self.sending = framing(head.status(), body, self.asked);
        self.expects = false;
        self.asked.persistent &= !last && !closes(head) && self.sending != Framing::UntilClose;
        encode(self.output.text(), head, self.sending, body, self.asked);
    }

    /// Gives a part of the response's body to be sent next. Only when what was given before is
    /// [sent](Self::poll_send), but for the head.
    ///
    /// # Errors
    ///
    /// When there is more of it than was announced.
    pub fn push(&mut self, frame: Frame<Bytes>) -> io::Result<()> {
        let trailers = match frame.into_data() {
            Ok(data) => return self.push_data(data),
            Err(frame) => frame.into_trailers().unwrap_or_default(),
        };
        if self.sending == Framing::Chunked {
            let wanted = Some(&trailers).filter(|_| self.asked.trailers);
            self.output.push_end(wanted);
            self.sending = Framing::Nothing;
        }
        Ok(())
    }

    fn push_data(&mut self, data: Bytes) -> io::Result<()> {
        match &mut self.sending {
            Framing::Nothing => return Ok(()),
            Framing::Length(left) => {
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or(io::ErrorKind::InvalidInput)?;
            }
            Framing::Chunked | Framing::UntilClose => {}
        }
        self.output.push(data, self.sending == Framing::Chunked);
        Ok(())
    }

    /// Ends the response's body.
    ///
    /// # Errors
    ///
    /// When there is less of it than was announced.
    pub fn push_end(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.sending, Framing::Nothing) {
            Framing::Chunked => self.output.push_end(None),
            Framing::Length(left) if left > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Framing::Length(_) | Framing::Nothing | Framing::UntilClose => {}
        }
        Ok(())
    }

    /// Sends what was given, and holds the client to taking enough.
    ///
    /// # Errors
    ///
    /// When the connection failed.
    pub fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.output.waits() {
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let (count, poll) = self.output.poll_send(stream, context);
        let deadlines = self.link.deadlines();
        if count > 0 || poll.is_ready() {
            self.writing.moved(deadlines, count);
        }
        if poll.is_pending() && !deadlines.is_set(Slot::Write) {
            self.writing.wait(deadlines, self.settings.timeouts.body);
        }
        poll
    }

    /// Ends an exchange whose response was sent: ready when its request was read to the end, by whoever has the body, or
    /// here if nobody has; whether another request may be read. At most `limit` bytes are read here.
    pub fn poll_end(&mut self, context: &mut Context<'_>, limit: u64) -> Poll<bool> {
        if !self.asked.persistent {
            return Poll::Ready(false);
        }
        while !self.is_body_ended() {
            if self.lent {
                self.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
            match ready!(self.poll_body(context)) {
                Some(Ok(frame)) => {
                    self.drained += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if self.drained > limit {
                        return Poll::Ready(false);
                    }
                }
                Some(Err(_)) => return Poll::Ready(false),
                None => {}
            }
        }
        self.drained = 0;
        self.state = State::Head(HeadScan::default());
        Poll::Ready(self.link.malformed().is_none())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::net::Clock;

    const HEAD: &str = "POST /owa/ HTTP/1.1\r\nHost: a\r\n";

    const SETTINGS: ServerSettings = ServerSettings {
        limits: HeadLimits::DEFAULT,
        refuse_fragment: true,
        timeouts: ServerTimeouts {
            body: Duration::from_secs(9),
            half_close: Duration::from_secs(9),
            head: Duration::from_secs(9),
            idle: Duration::from_secs(9),
            least: 1,
        },
    };

    /// A connection, and its client.
    fn connected() -> (ServerConnection<DuplexStream>, DuplexStream) {
        let (client, server) = duplex(256 * 1_024);
        let (deadlines, _) = Clock::default().register();
        let connection = ServerConnection::new(server, Link::new(deadlines), SETTINGS, b"");
        (connection, client)
    }

    /// Asks without waiting.
    fn now<T>(ask: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        ask(&mut Context::from_waker(Waker::noop()))
    }

    type Connection = ServerConnection<DuplexStream>;

    /// The target of the next request, if one is given.
    fn target(connection: &mut Connection) -> Option<String> {
        match now(|context| connection.poll_request(context)) {
            Poll::Ready(Ok(Some((head, _)))) => head
                .path_and_query()
                .map(|target| String::from_utf8_lossy(target).into_owned()),
            _ => None,
        }
    }

    /// The data of a body as far as it came, the fields that trail it, and whether it has ended.
    fn body(connection: &mut Connection) -> Result<(String, usize, bool), Malformed> {
        let (mut text, mut trailers) = (Vec::new(), 0);
        loop {
            match now(|context| connection.poll_body(context)) {
                Poll::Pending => break,
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(_))) => {
                    return Err(connection.link.malformed().unwrap_or(Malformed::Incomplete));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => text.extend_from_slice(&data),
                    Err(frame) => trailers += frame.into_trailers().unwrap().len(),
                },
            }
        }
        let text = String::from_utf8(text).unwrap();
        Ok((text, trailers, connection.is_body_ended()))
    }

    fn end(connection: &mut Connection) -> Poll<bool> {
        now(|context| connection.poll_end(context, 8))
    }

    #[tokio::test]
    async fn requests_are_given_whole_however_they_are_cut() {
        let get = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = format!("{HEAD}Content-Length: 5\r\n\r\nhello");
        let chunked =
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n");
        let text = [get, &length, &chunked, get].concat();
        let expected = [
            ("/1", "", 0),
            ("/owa/", "hello", 0),
            ("/owa/", "hello", 1),
            ("/1", "", 0),
        ];
        for piece in 1..=text.len() {
            let (mut connection, mut client) = connected();
            let mut seen: Vec<(String, String, usize)> = Vec::new();
            let mut within = false;
            for piece in text.as_bytes().chunks(piece) {
                client.write_all(piece).await.unwrap();
                loop {
                    if !within {
                        let Some(target) = target(&mut connection) else {
                            break;
                        };
                        seen.push((target, String::new(), 0));
                        within = true;
                    }
                    let (data, trailers, ended) = body(&mut connection).unwrap();
                    let last = seen.last_mut().unwrap();
                    last.1.push_str(&data);
                    last.2 += trailers;
                    if !ended {
                        break;
                    }
                    assert_eq!(end(&mut connection), Poll::Ready(true));
                    within = false;
                }
            }
            let seen: Vec<_> = seen
                .iter()
                .map(|(target, data, trailers)| (target.as_str(), data.as_str(), *trailers))
                .collect();
            assert_eq!(seen, expected, "{piece}");
        }
    }

    #[tokio::test]
    async fn fault_in_the_chunks_that_came_along_holds_the_head_back() {
        let text = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello");
        let (mut connection, mut client) = connected();
        client.write_all(text.as_bytes()).await.unwrap();
        client.write_all(b"X").await.unwrap();
        assert_eq!(target(&mut connection), None);
        assert_eq!(connection.unread_fault(), Some(Malformed::ChunkData));
        let (_, pending) = connection.take().unwrap();
        assert_eq!(pending, format!("{text}X"));

        let (mut connection, mut client) = connected();
        client.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(target(&mut connection).as_deref(), Some("/owa/"));
        client.write_all(b"X").await.unwrap();
        assert_eq!(body(&mut connection), Err(Malformed::ChunkData));
        assert_eq!(connection.unread_fault(), None);
    }

    #[tokio::test]
    async fn only_so_much_of_a_body_is_looked_at_before_its_head_is_given() {
        for (length, given) in [(WITHHELD_BODY, true), (WITHHELD_BODY - 1, false)] {
            let (mut connection, mut client) = connected();
            let size = format!("{:x}\r\n", 2 * WITHHELD_BODY);
            let data = "x".repeat(length - size.len());
            let text = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{size}{data}");
            client.write_all(text.as_bytes()).await.unwrap();
            let waits = now(|context| {
                while connection.input.bytes.len() < length {
                    ready!(connection.poll_fill(context))?;
                    if let Some(head) = connection.advance().unwrap() {
                        connection.give(head);
                        break;
                    }
                }
                Poll::Ready(io::Result::Ok(matches!(
                    connection.state,
                    State::Withheld(_)
                )))
            });
            assert!(
                matches!(waits, Poll::Ready(Ok(waits)) if waits != given),
                "{length}"
            );
        }
    }

    #[tokio::test]
    async fn refused_head_is_there_to_be_shown() {
        for text in [
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\nrest",
            "GET  / HTTP/1.1\r\n",
        ] {
            let (mut connection, mut client) = connected();
            client.write_all(text.as_bytes()).await.unwrap();
            assert_eq!(target(&mut connection), None);
            assert!(connection.unread_fault().is_some());
            assert_eq!(connection.take().unwrap().1, text);
        }
    }

    #[tokio::test]
    async fn client_that_waits_is_asked_for_its_body_once() {
        let (mut connection, mut client) = connected();
        let head = format!("{HEAD}Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        assert!(target(&mut connection).is_some());
        for _ in 0..2 {
            assert_eq!(body(&mut connection), Ok((String::new(), 0, false)));
        }
        let mut asked = [0; 64];
        let length = client.read(&mut asked).await.unwrap();
        assert_eq!(&asked[..length], CONTINUE);
        client.write_all(b"hi").await.unwrap();
        assert_eq!(body(&mut connection), Ok(("hi".to_owned(), 0, true)));
    }

    #[tokio::test]
    async fn body_that_nobody_has_is_read_to_its_end_if_it_is_short() {
        for (length, expected) in [(8, true), (9, false)] {
            let (mut connection, mut client) = connected();
            let body = "x".repeat(length);
            let text = format!("{HEAD}Content-Length: {length}\r\n\r\n{body}");
            client.write_all(text.as_bytes()).await.unwrap();
            assert!(target(&mut connection).is_some());
            connection.lend_body();
            assert_eq!(end(&mut connection), Poll::Pending);
            connection.return_body();
            assert_eq!(end(&mut connection), Poll::Ready(expected), "{length}");
        }
    }

    #[tokio::test]
    async fn response_is_as_long_as_was_said() {
        let (mut connection, mut client) = connected();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        assert!(target(&mut connection).is_some());
        let head = ResponseHead::Parts(http::Response::new(()).into_parts().0);
        connection.respond(&head, Some(3), false);
        assert!(connection.push(Frame::data("ab".into())).is_ok());
        assert!(connection.push(Frame::data("cd".into())).is_err());
        connection.respond(&head, Some(3), false);
        assert!(connection.push(Frame::data("ab".into())).is_ok());
        assert!(connection.push_end().is_err());
    }
}
