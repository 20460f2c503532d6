//! One line for each answered request, and one for each decision that was not "pass" while there are not too many.

mod allowance;
mod decision;

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::time::Instant;

use http::header::{REFERER, USER_AGENT};
use http::{Method, Version};

use crate::filter::Judged;
use crate::model::UnixTime;
use crate::net::RequestHead;
use crate::proxy::core::Shared;
use crate::proxy::escape::{json_string, quoted};
use crate::proxy::request_id::RequestId;
use crate::proxy::{AccessFormat, DecisionLog, Party};
use crate::telemetry::{Counter, LineWriter};
use allowance::Allowance;
pub(super) use decision::Asked;
use decision::{Told, put_omitted};

/// Bytes of lines that are gathered before they are handed to the writer; a tick hands over what there is.
const BATCH: usize = 32 * 1_024;

/// The logs of one worker.
#[derive(Debug)]
pub(super) struct Recorder {
    format: AccessFormat,
    access: Option<Batch>,
    decisions: Option<Decisions>,
    stamp: Stamp,
}

/// The last time that was written, as it is written: thousands of lines have the same.
#[derive(Debug)]
struct Stamp {
    time: UnixTime,
    text: String,
}

/// The log of decisions.
#[derive(Debug)]
struct Decisions {
    batch: Batch,
    /// How many of them have a line, if there is a bound.
    allowance: Option<Allowance>,
    /// Counts those that have none.
    omitted: Counter,
}

#[derive(Debug)]
struct Batch {
    writer: LineWriter,
    lines: Vec<u8>,
}

/// What an access line says, known when the request begins.
#[derive(Debug)]
pub(super) struct AccessEntry {
    id: RequestId,
    client: Option<IpAddr>,
    line: RequestLine,
    referer: Option<Vec<u8>>,
    agent: Option<Vec<u8>>,
    time: UnixTime,
    begun: Instant,
}

/// A request line, or what came in its place.
#[derive(Debug)]
enum RequestLine {
    Read {
        method: Method,
        /// Path and query.
        target: Vec<u8>,
        version: Version,
    },
    Unread(Vec<u8>),
}

/// Bytes of an unreadable request line that are logged.
const UNREAD: usize = 256;

impl AccessEntry {
    /// Of a request that was refused for its bytes.
    pub(super) fn unread(
        id: RequestId,
        client: Option<IpAddr>,
        bytes: &[u8],
        time: UnixTime,
    ) -> Self {
        let line = bytes
            .split(|&byte| byte == b'\r' || byte == b'\n')
            .find(|line| !line.is_empty())
            .unwrap_or_default();
        let line = RequestLine::Unread(line[..line.len().min(UNREAD)].to_vec());
        Self {
            id,
            client,
            line,
            referer: None,
            agent: None,
            time,
            begun: Instant::now(),
        }
    }

    pub(super) fn new(
        id: RequestId,
        client: Option<IpAddr>,
        head: &RequestHead,
        time: UnixTime,
    ) -> Self {
        Self {
            id,
            client,
            line: RequestLine::Read {
                method: head.method().clone(),
                target: head.path_and_query().unwrap_or(b"*").to_vec(),
                version: head.version(),
            },
            referer: head.value(&REFERER).map(<[u8]>::to_vec),
            agent: head.value(&USER_AGENT).map(<[u8]>::to_vec),
            time,
            begun: Instant::now(),
        }
    }
}

/// A client's address in a line.
struct Shown(Option<IpAddr>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// 0 when nothing was answered.
    pub(super) status: u16,
    /// Bytes of the response body that were handed over.
    pub(super) bytes: u64,
    /// One word for what became of it.
    pub(super) verdict: &'static str,
    /// Whose fault it is, if it is not what was asked for.
    pub(super) party: Option<Party>,
}

impl Recorder {
    /// Of a worker whose clock shows this tick.
    pub(super) fn new(shared: &Shared, tick: u64) -> Self {
        let config = &shared.config;
        let decisions = |log: &DecisionLog| Decisions {
            batch: Batch::new(&log.writer),
            allowance: Allowance::new(log.lines_per_second, config.workers, tick),
            omitted: shared.meters.decision_lines_omitted.clone(),
        };
        let access = config.access_log.as_ref();
        Self {
            format: access.map(|log| log.format).unwrap_or_default(),
            access: access.map(|log| Batch::new(&log.writer)),
            decisions: config.decision_log.as_ref().map(decisions),
            stamp: Stamp::default(),
        }
    }

    /// Whether access lines are wanted.
    pub(super) const fn wants_access(&self) -> bool {
        self.access.is_some()
    }

    /// Writes one access line.
    pub(super) fn access(&mut self, entry: &AccessEntry, answered: Answered) {
        let Some(batch) = &mut self.access else {
            return;
        };
        match self.format {
            AccessFormat::Combined => combined(&mut batch.lines, entry, answered),
            AccessFormat::Json => json(&mut batch.lines, entry, answered),
        }
        batch.flush_beyond(BATCH);
    }

    /// Writes one decision line, unless the rules let the request pass untouched and no exception made them, or there
    /// were too many.
    pub(super) fn decision(
        &mut self,
        asked: Asked<'_>,
        site: usize,
        judged: &Judged,
        time: UnixTime,
    ) {
        let Some(log) = &mut self.decisions else {
            return;
        };
        let Some(told) = Told::of(judged, site) else {
            return;
        };
        let target = asked.head.path_and_query().map_or(0, <[u8]>::len);
        let allowance = log.allowance.as_mut();
        if allowance.is_none_or(|allowance| allowance.admit(told.actor(), target)) {
            told.write(&mut log.batch.lines, self.stamp.of(time), asked);
            log.batch.flush_beyond(BATCH);
        }
    }

    /// Moves the time on, and hands over what was gathered.
    pub(super) fn tick(&mut self, tick: u64, time: UnixTime) {
        if let Some(log) = &mut self.decisions
            && let Some(allowance) = &mut log.allowance
            && allowance.tick(tick)
        {
            log.tell_omitted(self.stamp.of(time));
        }
        self.flush();
    }

    /// Hands over everything, since no decision comes any more.
    pub(super) fn finish(&mut self, time: UnixTime) {
        if let Some(log) = &mut self.decisions {
            log.tell_omitted(self.stamp.of(time));
        }
        self.flush();
    }

    fn flush(&mut self) {
        let decisions = self.decisions.as_mut().map(|log| &mut log.batch);
        for batch in self.access.iter_mut().chain(decisions) {
            batch.flush_beyond(0);
        }
    }
}

impl Decisions {
    /// Writes a line for those that had none.
    fn tell_omitted(&mut self, time: &str) {
        let (lines, total) = (&mut self.batch.lines, &self.omitted);
        if let Some(allowance) = &mut self.allowance {
            allowance.tell(|actor, count| {
                total.inc_by(count);
                put_omitted(lines, time, actor, count);
            });
        }
    }
}

impl Default for Stamp {
    fn default() -> Self {
        let time = UnixTime::new(0);
        Self {
            time,
            text: time.to_string(),
        }
    }
}

impl Stamp {
    /// A time as it is written.
    fn of(&mut self, time: UnixTime) -> &str {
        if self.time != time {
            *self = Self {
                time,
                text: time.to_string(),
            };
        }
        &self.text
    }
}

impl Batch {
    fn new(writer: &LineWriter) -> Self {
        Self {
            writer: writer.clone(),
            lines: Vec::new(),
        }
    }

    fn flush_beyond(&mut self, length: usize) {
        if self.lines.len() > length {
            // As much room again, at once: to grow into it would copy every line twice.
            let room = Vec::with_capacity(self.lines.capacity());
            self.writer.write(std::mem::replace(&mut self.lines, room));
        }
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = out.write_fmt(text);
}

fn combined(out: &mut Vec<u8>, entry: &AccessEntry, answered: Answered) {
    put(
        out,
        format_args!("{} - - [{}] \"", Shown(entry.client), entry.time),
    );
    match &entry.line {
        RequestLine::Read {
            method,
            target,
            version,
        } => {
            quoted(out, method.as_str().as_bytes());
            out.push(b' ');
            quoted(out, target);
            put(out, format_args!(" {version:?}"));
        }
        RequestLine::Unread(line) => quoted(out, line),
    }
    put(
        out,
        format_args!("\" {} {} \"", answered.status, answered.bytes),
    );
    quoted(out, entry.referer.as_deref().unwrap_or(b"-"));
    out.extend_from_slice(b"\" \"");
    quoted(out, entry.agent.as_deref().unwrap_or(b"-"));
    let seconds = entry.begun.elapsed().as_secs_f64();
    put(
        out,
        format_args!(
            "\" {} {} {seconds:.6} {}\n",
            entry.id,
            answered.verdict,
            answered.party.map_or("-", Party::name)
        ),
    );
}

fn json(out: &mut Vec<u8>, entry: &AccessEntry, answered: Answered) {
    put(
        out,
        format_args!(
            "{{\"time\":\"{}\",\"request_id\":\"{}\",\"client\":\"{}\"",
            entry.time,
            entry.id,
            Shown(entry.client)
        ),
    );
    match &entry.line {
        RequestLine::Read {
            method,
            target,
            version,
        } => {
            out.extend_from_slice(b",\"method\":");
            json_string(out, method.as_str().as_bytes());
            out.extend_from_slice(b",\"target\":");
            json_string(out, target);
            put(out, format_args!(",\"protocol\":\"{version:?}\""));
        }
        RequestLine::Unread(line) => {
            out.extend_from_slice(b",\"unread\":");
            json_string(out, line);
        }
    }
    put(
        out,
        format_args!(
            ",\"status\":{},\"bytes\":{},\"referer\":",
            answered.status, answered.bytes
        ),
    );
    json_string(out, entry.referer.as_deref().unwrap_or_default());
    out.extend_from_slice(b",\"user_agent\":");
    json_string(out, entry.agent.as_deref().unwrap_or_default());
    out.extend_from_slice(b",\"party\":");
    match answered.party {
        Some(party) => json_string(out, party.name().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    let seconds = entry.begun.elapsed().as_secs_f64();
    put(
        out,
        format_args!(
            ",\"verdict\":\"{}\",\"duration\":{seconds:.6}}}\n",
            answered.verdict
        ),
    );
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::proxy::request_id::RequestIds;

    #[test]
    fn hostile_bytes_stay_within_their_field() {
        let parts = http::Request::get("/a?\\x")
            .header(
                USER_AGENT,
                HeaderValue::from_bytes(
                    b"a\"b\\\x1b[31m\xff"
                        .map(|b| if b < 32 { b'\t' } else { b })
                        .as_slice(),
                )
                .unwrap(),
            )
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let id = RequestIds::new(0).next();
        let entry = AccessEntry::new(id, "10.0.0.1".parse().ok(), &parts.into(), UnixTime::new(0));
        let answered = Answered {
            status: 200,
            bytes: 5,
            verdict: "forwarded",
            party: None,
        };
        let mut line = Vec::new();
        combined(&mut line, &entry, answered);
        let line = String::from_utf8(line).unwrap();
        let start = r#"10.0.0.1 - - [1970-01-01T00:00:00Z] "GET /a?\x5cx HTTP/1.1" 200 5 "-" "a\x22b\x5c\x09[31m\xff" "#;
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(&format!("{id} forwarded 0.")) && line.ends_with('\n'));
        let mut line = Vec::new();
        json(&mut line, &entry, answered);
        let object: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(object["target"], "/a?\\x");
        assert_eq!(object["user_agent"], "a\"b\\\t[31m\u{ff}");
        assert_eq!(
            (object["status"].as_u64(), object["bytes"].as_u64()),
            (Some(200), Some(5))
        );
    }
}
