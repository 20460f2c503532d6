//! Follows where requests begin and end in a client's bytes, and finds what an HTTP library would let through.
//!
//! Layer 1. Called by [`Inbound`](super::Inbound); calls nothing of ours.
//! Holds: bytes are released only when the whole head they belong to was checked, and a chunked body with its head
//!        as far as it has arrived; what two parsers could read in two ways is refused, not repaired.
//! See `guide::architecture` for why this stands before the HTTP library.

mod chunked;
mod head;
mod malformed;

use chunked::Chunked;
use head::{Body, Head, HeadScan};

pub use head::HeadLimits;
pub use malformed::Malformed;

/// Follows one connection.
#[derive(Debug)]
pub(super) struct Tracker {
    limits: HeadLimits,
    refuse_fragment: bool,
    state: State,
    /// How many of the bytes that were not released have been looked at.
    cursor: usize,
    /// Where the head of an unreleased chunked request begins.
    withheld: Option<usize>,
}

#[derive(Debug)]
enum State {
    Chunked(Chunked),
    Head(HeadScan),
    Length(u64),
    /// Behind a request to upgrade, until it is known who speaks next.
    Upgrading,
    Tunnel,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Advance {
    /// How many bytes, from the first, may be handed over.
    pub(super) released: usize,
    /// What is wrong behind them.
    pub(super) malformed: Option<Malformed>,
}

impl Tracker {
    pub(super) fn new(limits: HeadLimits, refuse_fragment: bool) -> Self {
        Self {
            limits,
            refuse_fragment,
            state: State::Head(HeadScan::new(0)),
            cursor: 0,
            withheld: None,
        }
    }

    /// Looks at `bytes`: those not released so far, and what has arrived behind them.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Advance {
        loop {
            match &mut self.state {
                State::Head(scan) => match scan.scan(bytes, &mut self.cursor, &self.limits) {
                    Ok(None) => {
                        let start = scan.start;
                        return self.release(start);
                    }
                    Ok(Some(head)) => {
                        let start = scan.start;
                        if self.refuse_fragment && head.fragment {
                            return self.fail(start, Malformed::Fragment);
                        }
                        self.begin_body(&head, start);
                    }
                    Err(malformed) => {
                        let start = scan.start;
                        return self.fail(start, malformed);
                    }
                },
                State::Length(left) => {
                    let here = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len() - self.cursor);
                    *left -= here as u64;
                    self.cursor += here;
                    if *left > 0 {
                        return self.release(self.cursor);
                    }
                    self.state = State::Head(HeadScan::new(self.cursor));
                }
                State::Chunked(chunked) => {
                    match chunked.scan(&bytes[self.cursor..], &self.limits) {
                        Ok((seen, ended)) => {
                            self.cursor += seen;
                            if !ended {
                                return self.release(self.withheld.unwrap_or(self.cursor));
                            }
                            self.withheld = None;
                            self.state = State::Head(HeadScan::new(self.cursor));
                        }
                        Err(malformed) => return self.fail(self.withheld.unwrap_or(0), malformed),
                    }
                }
                State::Upgrading => return self.release(self.cursor),
                State::Tunnel => {
                    self.cursor = bytes.len();
                    return self.release(bytes.len());
                }
            }
        }
    }

    fn begin_body(&mut self, head: &Head, start: usize) {
        self.state = match head.body {
            Body::Chunked => {
                self.withheld = Some(start);
                State::Chunked(Chunked::default())
            }
            Body::Length(0) if head.upgrade => State::Upgrading,
            Body::Length(length) => State::Length(length),
        };
    }

    fn release(&mut self, released: usize) -> Advance {
        self.cursor -= released;
        if let State::Head(scan) = &mut self.state {
            scan.shift(released);
        }
        if let Some(start) = &mut self.withheld {
            *start -= released;
        }
        Advance {
            released,
            malformed: None,
        }
    }

    fn fail(&mut self, released: usize, malformed: Malformed) -> Advance {
        Advance {
            released,
            malformed: Some(malformed),
        }
    }

    /// Gives up waiting for more of a chunked body: how many bytes may be handed over now.
    pub(super) fn release_withheld(&mut self) -> usize {
        match self.withheld.take() {
            Some(_) => self.release(self.cursor).released,
            None => 0,
        }
    }

    /// Whether a chunked request is held back while more of its body may have arrived.
    pub(super) fn withholds(&self) -> bool {
        self.withheld.is_some()
    }

    /// Whether the next byte begins a request, or would begin one.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.state, State::Head(_) | State::Upgrading)
    }

    /// Whether a trailer section has begun.
    pub(super) fn is_in_trailers(&self) -> bool {
        matches!(&self.state, State::Chunked(chunked) if chunked.is_in_trailers())
    }

    /// Whether the bytes behind a request to upgrade wait for [`settle_upgrade`](Self::settle_upgrade).
    pub(super) fn is_upgrading(&self) -> bool {
        matches!(self.state, State::Upgrading)
    }

    /// Says whose the bytes behind a request to upgrade are.
    pub(super) fn settle_upgrade(&mut self, tunnel: bool) {
        if self.is_upgrading() {
            self.state = if tunnel {
                State::Tunnel
            } else {
                State::Head(HeadScan::new(self.cursor))
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /owa/ HTTP/1.1\r\nHost: a\r\n";

    /// Feeds the bytes in pieces of one size and says how many were released, and what was wrong.
    fn feed(text: &[u8], piece: usize) -> (usize, Option<Malformed>) {
        let mut tracker = Tracker::new(HeadLimits::DEFAULT, true);
        let (mut released, mut arrived) = (0, 0);
        while arrived < text.len() {
            arrived = (arrived + piece).min(text.len());
            let advance = tracker.advance(&text[released..arrived]);
            released += advance.released;
            if advance.malformed.is_some() {
                return (released, advance.malformed);
            }
        }
        (released, None)
    }

    #[test]
    fn whole_requests_are_released_however_they_are_cut() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = format!("{HEAD}Content-Length: 5\r\n\r\nhello");
        let chunked =
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n");
        let text = [get, &length, &chunked, get].concat();
        for piece in 1..=text.len() {
            assert_eq!(feed(text.as_bytes(), piece), (text.len(), None), "{piece}");
        }
    }

    #[test]
    fn nothing_of_an_unfinished_head_is_released() {
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let text = format!("{first}GET /second HTTP/1.1\r\nHost: b\r\n");
        for piece in [1, 7, text.len()] {
            assert_eq!(feed(text.as_bytes(), piece), (first.len(), None));
        }
    }

    #[test]
    fn fault_in_the_chunks_that_came_along_holds_the_head_back() {
        let text = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX");
        let all = text.as_bytes();
        assert_eq!(feed(all, all.len()), (0, Some(Malformed::ChunkData)));
        assert_eq!(feed(all, 1), (0, Some(Malformed::ChunkData)));
        let mut tracker = Tracker::new(HeadLimits::DEFAULT, true);
        let (early, late) = all.split_at(all.len() - 1);
        assert_eq!(tracker.advance(early).released, 0);
        assert!(tracker.withholds());
        assert_eq!(tracker.release_withheld(), early.len());
        assert_eq!(tracker.advance(late).malformed, Some(Malformed::ChunkData));
    }

    #[test]
    fn bytes_behind_an_upgrade_wait() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let text = format!("{head}\x01\x02");
        for (tunnel, behind) in [(true, 2), (false, 0)] {
            let mut tracker = Tracker::new(HeadLimits::DEFAULT, true);
            assert_eq!(
                tracker.advance(text.as_bytes()),
                Advance {
                    released: head.len(),
                    malformed: None
                }
            );
            tracker.settle_upgrade(tunnel);
            let advance = tracker.advance(&text.as_bytes()[head.len()..]);
            assert_eq!(
                (advance.released, advance.malformed.is_some()),
                (behind, !tunnel)
            );
        }
    }

    #[test]
    fn fragment_is_refused_only_where_asked() {
        let text = b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n";
        let advance = |refuse| Tracker::new(HeadLimits::DEFAULT, refuse).advance(text);
        assert_eq!(advance(true).malformed, Some(Malformed::Fragment));
        assert_eq!(advance(false).released, text.len());
    }
}
