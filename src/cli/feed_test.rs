//! `stopgap feed test`: every step of every feed, as the daemon takes them, and what to do about the first that fails.

use std::fmt::Write;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::command::TestArguments;
use super::exit::{Ended, Failure, OrExit};
use super::feed::{configured, exit_of};
use super::table::printable;
use super::{Exit, print};
use crate::app::now;
use crate::config::Config;
use crate::control::{ControlConfig, Controller, Status};
use crate::feed::{
    Accepted, Feed, FeedConfig, FeedError, Fetched, Source, Step, Trust, fetch_with_roots,
};
use crate::store::StateDir;
use crate::telemetry::{AlarmKind, Alarms, Label, Metrics};

/// How long rules may take to be compiled and judged, besides the fetch.
const COMPILE: Duration = Duration::from_secs(60);

pub(super) fn test(arguments: &TestArguments) -> Ended {
    let config = configured(Some(&arguments.config), &arguments.names)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::Unreachable)?;
    let feeds = &config.control.feeds;
    let mut failed = Vec::new();
    let mut tested = 0;
    for feed in feeds {
        // Each place by itself: one that serves would hide that another does not.
        for place in feed.places() {
            tested += 1;
            let exit = one(&feed.only(place), &config, &runtime)?;
            if exit != Exit::Done {
                failed.push(exit);
            }
        }
    }
    let what = match tested == feeds.len() {
        true => "feeds",
        false => "places",
    };
    match failed.first() {
        None => Ok(Exit::Done),
        Some(first) => Err(Failure::new(
            *first,
            format!("{} of {tested} {what} failed", failed.len()),
        )),
    }
}

/// The steps of one feed, told as they are taken.
fn one(feed: &FeedConfig, config: &Config, runtime: &Runtime) -> Result<Exit, Failure> {
    let mut told = Told::new(feed);
    let exit = match take(feed, runtime, &mut told) {
        Ok(accepted) => {
            let expired = expiry(&accepted, &mut told);
            let rules = rules(feed, config, runtime, &mut told);
            match expired {
                Exit::Done => rules,
                expired => expired,
            }
        }
        Err(error) => {
            told.failed(&error);
            exit_of(&error)
        }
    };
    print(&told.text)?;
    Ok(exit)
}

/// Fetches, verifies and reads the feed with nothing remembered.
fn take(feed: &FeedConfig, runtime: &Runtime, told: &mut Told) -> Result<Accepted, FeedError> {
    let mut fresh = Feed::new(feed.clone(), &StateDir::memory())?;
    told.ok("settings", &whom(feed));
    told.way(feed, runtime);
    let fetched = runtime.block_on(fetch_with_roots(feed, fresh.next_root()))?;
    told.fetched(feed, &fetched);
    fresh.take(&fetched, now())?;
    let accepted = fresh.accepted().cloned();
    let accepted = accepted.expect("what was taken a moment ago is in force");
    let signed = match accepted.signed_at {
        Some(time) => format!(", at {time}"),
        None => ", without a timestamp".to_owned(),
    };
    told.ok("trust", &format!("signed by {}{signed}", accepted.signer));
    let document = &accepted.document;
    told.ok(
        "document",
        &format!(
            "{} mitigations, {} without a usable id, {} notices",
            document.mitigations.len(),
            document.nameless.len(),
            document.notices.len()
        ),
    );
    Ok(accepted)
}

fn whom(feed: &FeedConfig) -> String {
    match &feed.trust {
        Trust::Dsse { name, .. } => format!("dsse, the feed {name:?} below the pinned root"),
        Trust::MicrosoftEocs => "microsoft-eocs, by the roots in this program".to_owned(),
        Trust::XmlDsigX509(policy) => {
            let roots = policy.roots.certificates().count();
            format!("xmldsig-x509, {roots} roots")
        }
    }
}

fn expiry(accepted: &Accepted, told: &mut Told) -> Exit {
    match accepted.issue {
        Some(issue) if issue.expires <= now() => {
            told.line("FAILED", "age", &format!("expired at {}", issue.expires));
            told.remedy(
                "its rules stay in force and the feed is stale: its publisher must renew it, or somebody between holds \
                 new issues back",
            );
            Exit::Untrusted
        }
        Some(issue) => {
            let words = format!("issue {}, fresh until {}", issue.version, issue.expires);
            told.ok("age", &words);
            Exit::Done
        }
        None => Exit::Done,
    }
}

/// Has a control side that serves nothing take the feed, and says what became of its mitigations.
fn rules(feed: &FeedConfig, config: &Config, runtime: &Runtime, told: &mut Told) -> Exit {
    let metrics = Metrics::default();
    let control = ControlConfig {
        rules: Vec::new(),
        feeds: vec![feed.clone()],
        ..config.control.clone()
    };
    let alarms = Alarms::new(&metrics);
    let started = Controller::start(control, &StateDir::memory(), &metrics, alarms, now);
    let status = started.and_then(|controller| {
        let handle = controller.handle();
        let done = handle.wait_for(|status| {
            let mut feeds = status.feeds.iter();
            feeds.all(|feed| feed.last_success.is_some() || feed.refusal.is_some())
        });
        let patience = feed.deadline.saturating_add(COMPILE);
        // What is not done by then is shown as far as it came.
        runtime
            .block_on(async { tokio::time::timeout(patience, done).await })
            .unwrap_or_else(|_| Ok(handle.status()))
    });
    match status {
        Ok(status) => judged(feed, &status, told),
        Err(error) => {
            told.line("FAILED", "rules", &crate::model::explain(&error));
            Exit::Invalid
        }
    }
}

fn judged(feed: &FeedConfig, status: &Status, told: &mut Told) -> Exit {
    let mut exit = Exit::Done;
    for report in &status.feeds {
        if let (None, Some(refusal)) = (&report.last_success, &report.refusal) {
            told.line("FAILED", "rules", &format!("the second fetch: {refusal}"));
            return Exit::Unreachable;
        }
    }
    let own = status.mitigations.iter();
    for mitigation in own.filter(|mitigation| mitigation.source == feed.name) {
        let (id, state) = (&mitigation.id, mitigation.state);
        let words = match mitigation.reason.as_str() {
            "" => format!("{id}: {state}, {} rules", mitigation.rules.len()),
            reason => format!("{id}: {state}: {reason}"),
        };
        if state != "Failed" {
            told.ok("rules", &words);
            continue;
        }
        told.line("FAILED", "rules", &words);
        told.remedy(
            "the other mitigations apply; tell the publisher, who can withdraw or correct this one",
        );
        let subject = format!("{id} of {}", feed.name);
        let vectors = status.alarms.iter().any(|alarm| {
            alarm.kind == AlarmKind::VectorsFailed.value() && alarm.subject == subject
        });
        let own = if vectors { Exit::Failed } else { Exit::Invalid };
        exit = if exit == Exit::Done { own } else { exit };
    }
    exit
}

/// What is told of one feed.
struct Told {
    text: String,
}

impl Told {
    fn new(feed: &FeedConfig) -> Self {
        let (name, source) = (printable(&feed.name), printable(&feed.source.to_string()));
        Self {
            text: format!("{name}  {source}\n"),
        }
    }

    fn line(&mut self, word: &str, step: &str, words: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "  {word:<6}  {step:<10}  {}", printable(words));
    }

    fn ok(&mut self, step: &str, words: &str) {
        self.line("ok", step, words);
    }

    fn remedy(&mut self, words: &str) {
        let _ = writeln!(self.text, "  {:<6}  {:<10}  what to do: {words}", "", "");
    }

    /// Where the fetch goes, as far as names can say it.
    fn way(&mut self, feed: &FeedConfig, runtime: &Runtime) {
        let Source::Http(uri) = &feed.source else {
            return;
        };
        let first = feed.proxy.as_ref().unwrap_or(uri);
        let host = first.host().unwrap_or_default();
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let found = runtime.block_on(async {
            let lookup = tokio::net::lookup_host((bare.as_str(), 0));
            tokio::time::timeout(feed.connect_deadline, lookup).await
        });
        let addresses: Vec<String> = match found {
            Ok(Ok(found)) => found.map(|address| address.ip().to_string()).collect(),
            // The fetch fails at the same place, with the cause.
            _ => return,
        };
        let by = if feed.proxy.is_some() {
            "the proxy "
        } else {
            ""
        };
        self.ok("name", &format!("{by}{host} is {}", addresses.join(", ")));
    }

    fn fetched(&mut self, feed: &FeedConfig, fetched: &Fetched) {
        if let Source::File(path) = &feed.source {
            let kind = if path.is_dir() { "a folder" } else { "a file" };
            self.ok("place", kind);
        }
        if let Source::Http(uri) = &feed.source {
            let by = if feed.proxy.is_some() {
                "through the proxy"
            } else {
                "directly"
            };
            self.ok("connection", by);
            match uri.scheme_str() {
                Some("https") => self.ok("tls", "the certificate is trusted and names the host"),
                _ => self.ok("tls", "none: what arrives is as trusted as its signature"),
            }
        }
        let roots = match feed.trust {
            Trust::Dsse { .. } => format!(" and {} later roots", fetched.roots.len()),
            _ => String::new(),
        };
        let bytes = fetched.document.len();
        self.ok("fetch", &format!("{bytes} bytes{roots}"));
    }

    fn failed(&mut self, error: &FeedError) {
        let step = match error.step() {
            Step::Settings => "settings",
            Step::Connect => "connection",
            Step::Tls => "tls",
            Step::Exchange => "fetch",
            Step::Trust => "trust",
            Step::Read => "document",
        };
        self.line("FAILED", step, &error.explain());
        self.remedy(error.remedy());
    }
}
