//! The welcome page: one document without scripts, fetched parts or anything to click that changes something.

use std::fmt::{self, Display, Write};

use super::about::About;
use crate::control::{FeedReport, MitigationReport, Status, TransitionReport};

/// The page's style, which its policy names by its hash.
const STYLE: &str = include_str!("page.css");

/// Nothing but the page's own style is used: no script, no other place, no frame around it.
///
/// The hash is that of [`STYLE`] (CSP Level 3, section 2.3.1); a test tells the new one when the style changes.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     style-src 'sha256-yrVPE3HEwDvIlfm3I0F/guN5JOOXCqLfFHieCq7j0u4='; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The mark of the page, drawn here so that nothing is fetched: a shield with a hand's breadth of daylight.
const MARK: &str = r#"<svg viewBox="0 0 48 48" aria-hidden="true" focusable="false"><path fill="currentColor" d="M24 3 6 9.5v12.8C6 33.6 13.5 41.8 24 45c10.5-3.2 18-11.4 18-22.7V9.5L24 3Zm0 4.300 14 5v10c0 9-5.700 15.500-14 18.500-8.300-3-14-9.500-14-18.500v-10l14-5Z"/><path fill="currentColor" d="M15 22h18v4H15z"/></svg>"#;

/// Transitions that are shown, the newest first; `/history` has all of them.
const TRANSITIONS: usize = 50;

/// Digits of a digest that are shown.
const SHORT_DIGEST: usize = 12;

/// The whole page. Without a `history` it is for anybody: then it says nothing of clients and people either.
pub(super) fn render(
    about: Option<&About>,
    status: &Status,
    history: Option<&[TransitionReport]>,
) -> String {
    let mut page = Page::default();
    page.add(format_args!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>stopgap is running</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>{MARK}\
         <div><h1>stopgap is running</h1>\
         <p class=\"lead\">It judges every request by the mitigations below before a server sees it.</p></div>\
         </header>\n<main>\n"
    ));
    page.facts(status);
    page.alarms(status);
    if let Some(about) = about {
        page.try_it(about);
        page.sites(about);
    }
    page.mitigations(status);
    if let Some(history) = history {
        page.watched(status);
        page.exceptions(status);
        page.rule_files(status);
        page.feeds(&status.feeds);
        page.history(history);
    } else {
        page.rule_files(status);
        page.feeds(&status.feeds);
    }
    page.add(format_args!("</main>\n"));
    page.footer(about, status);
    page.add(format_args!("</body>\n</html>\n"));
    page.html
}

/// Text made safe for element content and quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Page {
    html: String,
}

impl Page {
    fn add(&mut self, html: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.html.write_fmt(html);
    }

    fn facts(&mut self, status: &Status) {
        let applied = status
            .mitigations
            .iter()
            .filter(|one| one.state == "Applied")
            .count();
        let hits: u64 = status.mitigations.iter().map(|one| one.hits).sum::<u64>()
            + status.rule_files.iter().map(|file| file.hits).sum::<u64>();
        let total = status.mitigations.len();
        self.add(format_args!("<dl class=\"facts\">"));
        self.fact("Mitigations applied", format_args!("{applied} of {total}"));
        self.fact("Messages acted on", format_args!("{hits}"));
        self.fact("Rule set", format_args!("revision {}", status.revision));
        match status.kill_switch {
            true => self.fact(
                "Kill switch",
                format_args!("<span class=\"state bad\">on: nothing is blocked</span>"),
            ),
            false => self.fact("Kill switch", format_args!("off")),
        }
        self.add(format_args!("</dl>\n"));
    }

    fn fact(&mut self, name: &str, value: fmt::Arguments<'_>) {
        self.add(format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    }

    fn alarms(&mut self, status: &Status) {
        if status.alarms.is_empty() {
            return;
        }
        self.add(format_args!(
            "<section class=\"alarms\"><h2>Alarms</h2><ul>"
        ));
        for alarm in &status.alarms {
            self.add(format_args!(
                "<li><strong>{}</strong>: {} <small>({}, since {})</small></li>",
                Escaped(&alarm.subject),
                Escaped(&alarm.reason),
                Escaped(&alarm.kind),
                Escaped(&alarm.since)
            ));
        }
        self.add(format_args!("</ul></section>\n"));
    }

    fn try_it(&mut self, about: &About) {
        let Some(passing) = about.passing_command() else {
            return;
        };
        self.add(format_args!(
            "<section><h2>Try it</h2><p>This request passes:</p>"
        ));
        self.code(&passing);
        if let Some(stopped) = about.stopped_command() {
            self.add(format_args!(
                "<p>This one is an attack on Exchange. The connection is reset without a byte of an answer:</p>"
            ));
            self.code(&stopped);
        }
        self.add(format_args!("</section>\n"));
    }

    fn code(&mut self, text: &str) {
        self.add(format_args!(
            "<pre tabindex=\"0\"><code>{}</code></pre>",
            Escaped(text)
        ));
    }

    fn sites(&mut self, about: &About) {
        self.add(format_args!("<section><h2>Sites</h2>"));
        self.table(
            "Sites and the servers behind them",
            &["Site", "Hosts", "Servers"],
        );
        for site in &about.sites {
            let hosts = match site.hosts.is_empty() {
                true => "any".to_owned(),
                false => site.hosts.join(", "),
            };
            let servers = match site.upstreams.is_empty() {
                true => "none: this page".to_owned(),
                false => site.upstreams.join(", "),
            };
            self.add(format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
                Escaped(&site.name),
                Escaped(&hosts),
                Escaped(&servers)
            ));
        }
        self.end_table();
        if about.sites.iter().any(|site| site.upstreams.is_empty()) {
            self.add(format_args!("<p>Put it in front of a real server:</p>"));
            self.code("stopgap run --listen 0.0.0.0:80 --upstream http://10.0.0.11");
        }
        self.add(format_args!("</section>\n"));
    }

    fn mitigations(&mut self, status: &Status) {
        self.add(format_args!("<section><h2>Mitigations</h2>"));
        if status.mitigations.is_empty() {
            self.add(format_args!("<p>There are none.</p></section>\n"));
            return;
        }
        self.table(
            "Mitigations with their states",
            &["Mitigation", "State", "What it does", "Where", "Hits"],
        );
        for mitigation in &status.mitigations {
            self.mitigation(mitigation);
        }
        self.end_table();
        self.add(format_args!("</section>\n"));
    }

    fn mitigation(&mut self, mitigation: &MitigationReport) {
        let mut targets: Vec<&str> = mitigation
            .actions
            .iter()
            .map(|action| action.target.as_str())
            .collect();
        targets.dedup();
        self.add(format_args!(
            "<tr><th scope=\"row\">{}</th><td><span class=\"state {}\">{}</span>",
            Escaped(&mitigation.id),
            tone(mitigation.state),
            Escaped(mitigation.state),
        ));
        self.small(&mitigation.reason);
        self.add(format_args!(
            "</td><td class=\"what\">{}",
            Escaped(&mitigation.description)
        ));
        let mut remarks = vec![mitigation.cve.as_str(), mitigation.source.as_str()];
        remarks.retain(|remark| !remark.is_empty());
        self.small(&remarks.join(" · "));
        self.add(format_args!(
            "</td><td>{}</td><td class=\"number\">{}</td></tr>",
            Escaped(&targets.join(", ")),
            mitigation.hits
        ));
    }

    /// What mitigations in audit mode would have done.
    fn watched(&mut self, status: &Status) {
        let watched = |one: &&MitigationReport| {
            one.state == "Audit" || one.would_stop > 0 || one.would_change > 0
        };
        let mut watched = status.mitigations.iter().filter(watched).peekable();
        if watched.peek().is_none() {
            return;
        }
        self.add(format_args!("<section><h2>Audit mode</h2>"));
        self.table(
            "What mitigations in audit mode would have done",
            &["Mitigation", "Would stop", "Would change", "Such as"],
        );
        for mitigation in watched {
            self.add(format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td class=\"number\">{}</td><td>",
                Escaped(&mitigation.id),
                mitigation.would_stop,
                mitigation.would_change
            ));
            for sample in &mitigation.samples {
                self.add(format_args!("<div><code>{}</code></div>", Escaped(sample)));
            }
            self.add(format_args!("</td></tr>"));
        }
        self.end_table();
        self.add(format_args!("</section>\n"));
    }

    fn exceptions(&mut self, status: &Status) {
        if status.exceptions.is_empty() {
            return;
        }
        self.add(format_args!("<section><h2>Exceptions</h2>"));
        self.table(
            "Requests that mitigations let pass",
            &["Exception", "State", "Lets pass", "Why", "Ends", "Hits"],
        );
        for own in &status.exceptions {
            let tone = match own.state {
                "Active" => "",
                _ => "warn",
            };
            self.add(format_args!(
                "<tr><th scope=\"row\">{}</th><td><span class=\"state {tone}\">{}</span>",
                Escaped(&own.name),
                Escaped(own.state)
            ));
            self.small(own.origin);
            self.add(format_args!(
                "</td><td>{} on <code>{}</code>",
                Escaped(&own.mitigation),
                Escaped(&own.path)
            ));
            if let Some(rule) = &own.rule {
                self.small(&format!("only the rule {rule}"));
            }
            self.small(&format!("from {}", own.clients.join(", ")));
            self.add(format_args!(
                "</td><td class=\"what\">{}",
                Escaped(&own.reason)
            ));
            self.small(&format!("{}, since {}", own.owner, own.created));
            self.add(format_args!("</td><td>"));
            self.time(&own.expires);
            self.add(format_args!("</td><td class=\"number\">{}", own.hits));
            if let Some(time) = &own.last_used {
                self.small(&format!("last {time}"));
            }
            self.add(format_args!("</td></tr>"));
        }
        self.end_table();
        self.add(format_args!("</section>\n"));
    }

    fn history(&mut self, history: &[TransitionReport]) {
        self.add(format_args!("<section><h2>History</h2>"));
        if history.is_empty() {
            self.add(format_args!("<p>Nothing has changed yet.</p></section>\n"));
            return;
        }
        self.table(
            "What became of mitigations, the newest first",
            &["Time", "Mitigation", "From", "To", "Document"],
        );
        for own in history.iter().rev().take(TRANSITIONS) {
            self.add(format_args!("<tr><td>"));
            self.time(&own.time);
            self.add(format_args!("</td><th scope=\"row\">{}", Escaped(&own.id)));
            self.small(&own.source);
            let before = match own.before.as_str() {
                "" => "\u{2013}",
                before => before,
            };
            self.add(format_args!(
                "</th><td>{}</td><td class=\"what\"><span class=\"state {}\">{}</span>",
                Escaped(before),
                tone(&own.state),
                Escaped(&own.state)
            ));
            self.small(&own.reason);
            let digest: String = own
                .digest
                .iter()
                .flat_map(|digest| digest.chars().take(SHORT_DIGEST))
                .collect();
            self.add(format_args!(
                "</td><td><code>{}</code></td></tr>",
                Escaped(&digest)
            ));
        }
        self.end_table();
        if history.len() > TRANSITIONS {
            let older = history.len() - TRANSITIONS;
            self.add(format_args!(
                "<p>{older} older ones are at <code>/history</code>, and listed by <code>stopgap mitigation history</code>.</p>"
            ));
        }
        self.add(format_args!("</section>\n"));
    }

    fn time(&mut self, time: &str) {
        let time = Escaped(time);
        self.add(format_args!("<time datetime=\"{time}\">{time}</time>"));
    }

    fn small(&mut self, text: &str) {
        if !text.is_empty() {
            self.add(format_args!("<small>{}</small>", Escaped(text)));
        }
    }

    fn rule_files(&mut self, status: &Status) {
        if status.rule_files.is_empty() {
            return;
        }
        self.add(format_args!("<section><h2>Rule files</h2>"));
        self.table("Local rule files", &["File", "State", "Rules", "Hits"]);
        for file in &status.rule_files {
            let (tone, state) = match &file.refusal {
                Some(_) => ("bad", "Refused"),
                None => ("good", "In force"),
            };
            self.add(format_args!(
                "<tr><th scope=\"row\">{}</th><td><span class=\"state {tone}\">{state}</span>",
                Escaped(&file.path)
            ));
            self.small(file.refusal.as_deref().unwrap_or_default());
            self.add(format_args!(
                "</td><td>{}</td><td class=\"number\">{}</td></tr>",
                file.rules.len(),
                file.hits
            ));
        }
        self.end_table();
        self.add(format_args!("</section>\n"));
    }

    fn feeds(&mut self, feeds: &[FeedReport]) {
        self.add(format_args!("<section><h2>Feeds</h2>"));
        if feeds.is_empty() {
            self.add(format_args!(
                "<p>No feed is configured; the mitigations above came with the program. \
                 Add one to a settings file and start with <code>--config</code>:</p>"
            ));
            self.code(
                "[[feed]]\nname = \"microsoft\"\nurl = \"https://officeclient.microsoft.com/GetExchangeMitigations\"\n\
                 trust = \"microsoft-eocs\"",
            );
            self.add(format_args!("</section>\n"));
            return;
        }
        self.table(
            "Feeds and when they were last fetched",
            &["Feed", "State", "Last success", "From"],
        );
        for feed in feeds {
            let (tone, state) = match (feed.fresh, &feed.refusal) {
                (true, None) => ("good", "Fresh"),
                (true, Some(_)) => ("warn", "Last fetch refused"),
                (false, _) => ("bad", "Stale"),
            };
            self.add(format_args!(
                "<tr><th scope=\"row\">{}</th><td><span class=\"state {tone}\">{state}</span>",
                Escaped(&feed.name)
            ));
            self.small(feed.refusal.as_deref().unwrap_or_default());
            self.add(format_args!(
                "</td><td>{}</td><td>{}",
                Escaped(feed.last_success.as_deref().unwrap_or("never")),
                Escaped(&feed.source)
            ));
            self.small(feed.trust);
            self.add(format_args!("</td></tr>"));
        }
        self.end_table();
        self.add(format_args!("</section>\n"));
    }

    /// Begins a table that scrolls by itself on narrow screens.
    fn table(&mut self, label: &str, columns: &[&str]) {
        self.add(format_args!(
            "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{label}\"><table><thead><tr>"
        ));
        for column in columns {
            let class = match *column {
                "Hits" | "Would change" | "Would stop" => " class=\"number\"",
                _ => "",
            };
            self.add(format_args!("<th scope=\"col\"{class}>{column}</th>"));
        }
        self.add(format_args!("</tr></thead><tbody>\n"));
    }

    fn end_table(&mut self) {
        self.add(format_args!("</tbody></table></div>"));
    }

    fn footer(&mut self, about: Option<&About>, status: &Status) {
        self.add(format_args!(
            "<footer><p>stopgap {}, since {}.",
            Escaped(status.version),
            Escaped(&status.started)
        ));
        if let Some(about) = about {
            let listeners: Vec<String> = about.listeners.iter().map(ToString::to_string).collect();
            self.add(format_args!(
                " Listening on {} with {} threads.",
                Escaped(&listeners.join(", ")),
                about.workers
            ));
            match &about.state_dir {
                Some(folder) => {
                    self.add(format_args!(" State in <code>{}</code>.", Escaped(folder)))
                }
                None => self.add(format_args!(" State in memory.")),
            }
            if let Some(admin) = about.admin {
                self.add(format_args!(
                    " <code>/status</code>, <code>/metrics</code>, <code>/livez</code> and <code>/readyz</code> are at \
                     <code>http://{admin}</code>."
                ));
            }
        }
        self.add(format_args!("</p></footer>\n"));
    }
}

/// How a state is coloured; its word says it too.
fn tone(state: &str) -> &'static str {
    match state {
        "Applied" => "good",
        "Failed" | "Partial" | "Drifted" => "bad",
        "Audit" | "AwaitingApproval" | "Expired" | "Withdrawn" => "warn",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ActionReport, AlarmReport, ExceptionReport, RuleFileReport};

    fn status(text: &str) -> Status {
        Status {
            exceptions: vec![ExceptionReport {
                name: text.to_owned(),
                origin: "operator",
                mitigation: text.to_owned(),
                rule: Some(text.to_owned()),
                path: text.to_owned(),
                clients: vec![text.to_owned()],
                owner: text.to_owned(),
                reason: text.to_owned(),
                created: text.to_owned(),
                expires: text.to_owned(),
                state: "Lapsing",
                hits: 3,
                last_used: Some(text.to_owned()),
            }],
            version: "1.2.3",
            started: "2026-01-01T00:00:00Z".to_owned(),
            revision: 7,
            kill_switch: false,
            feeds: vec![FeedReport {
                name: text.to_owned(),
                source: text.to_owned(),
                trust: "microsoft-eocs",
                fresh: false,
                last_success: None,
                age_seconds: None,
                signed_at: None,
                signer: None,
                digest: None,
                version: None,
                expires: None,
                root: None,
                refusal: Some(text.to_owned()),
                notices: Vec::new(),
            }],
            rule_files: vec![RuleFileReport {
                path: text.to_owned(),
                refusal: Some(text.to_owned()),
                warning: Some(text.to_owned()),
                hits: 0,
                rules: Vec::new(),
            }],
            servers: Vec::new(),
            builds: Vec::new(),
            notify: Vec::new(),
            mitigations: vec![MitigationReport {
                id: text.to_owned(),
                source: text.to_owned(),
                description: text.to_owned(),
                cve: text.to_owned(),
                reference: text.to_owned(),
                side_effects: text.to_owned(),
                group: text.to_owned(),
                actions: vec![ActionReport {
                    kind: "UrlRewrite",
                    name: text.to_owned(),
                    target: text.to_owned(),
                    description: text.to_owned(),
                }],
                state: "Applied",
                reason: text.to_owned(),
                retirable: Some(text.to_owned()),
                servers: Vec::new(),
                warning: Some(text.to_owned()),
                hits: 42,
                would_stop: 5,
                would_change: 6,
                samples: vec![text.to_owned()],
                rules: Vec::new(),
            }],
            alarms: vec![AlarmReport {
                kind: text.to_owned(),
                subject: text.to_owned(),
                reason: text.to_owned(),
                since: text.to_owned(),
            }],
        }
    }

    fn transitions(text: &str, count: usize) -> Vec<TransitionReport> {
        let transition = |number: usize| TransitionReport {
            time: text.to_owned(),
            id: text.to_owned(),
            source: text.to_owned(),
            before: text.to_owned(),
            state: text.to_owned(),
            reason: format!("{text} {number}"),
            digest: Some(text.to_owned()),
            revision: 1,
        };
        (0..count).map(transition).collect()
    }

    fn about(text: &str) -> About {
        About {
            listeners: vec!["127.0.0.1:8080".parse().unwrap()],
            tls_listeners: Vec::new(),
            workers: 2,
            sites: vec![super::super::SiteAbout {
                name: text.to_owned(),
                hosts: vec![text.to_owned()],
                upstreams: Vec::new(),
            }],
            admin: Some("127.0.0.1:9180".parse().unwrap()),
            state_dir: Some(text.to_owned()),
            stopped_example: Some(text.to_owned()),
        }
    }

    #[test]
    fn texts_from_outside_are_escaped() {
        let hostile = "<script>alert('x')</script>\"&";
        let history = transitions(hostile, 1);
        let page = render(Some(&about(hostile)), &status(hostile), Some(&history));
        assert!(!page.contains("<script"), "{page}");
        // A digest is cut short.
        assert!(page.contains("<code>&lt;script&gt;aler</code>"), "{page}");
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;";
        let outside = render(Some(&about(hostile)), &status(hostile), None);
        assert!(outside.matches(escaped).count() >= 14, "{outside}");
        // What is watched, an exception and a transition; a time stands in its element twice.
        let inside = page.matches(escaped).count() - outside.matches(escaped).count();
        assert_eq!(inside, 2 + 11 + 7, "{page}");
    }

    #[test]
    fn what_matters_is_on_the_page() {
        let history = transitions("then", TRANSITIONS + 2);
        let page = render(Some(&about("/attack")), &status("thing"), Some(&history));
        for part in [
            "1 of 1",
            "revision 7",
            "curl -i http://127.0.0.1:8080/<",
            "curl -i &#39;http://127.0.0.1:8080/attack&#39;",
            "--upstream http://",
            "Stale",
            "42",
            "Lapsing",
            "<td class=\"number\">5</td><td class=\"number\">6</td><td><div><code>thing</code>",
            "from thing",
            "<small>then 51</small>",
            "<small>then 2</small>",
            "2 older ones",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<small>then 1</small>"), "{page}");
        render(None, &status("thing"), None);
    }

    #[test]
    fn page_for_anybody_names_no_client_and_nobody() {
        let page = render(None, &status("thing"), None);
        for part in ["Exceptions", "Audit mode", "History", "from thing"] {
            assert!(!page.contains(part), "{part}");
        }
    }

    /// Every element that is opened is closed, in order.
    #[test]
    fn elements_are_balanced() {
        let page = render(Some(&about("a")), &status("b"), Some(&transitions("c", 60)));
        let mut open = Vec::new();
        for part in page.split('<').skip(1) {
            let tag = part.split('>').next().unwrap();
            let name = tag
                .trim_start_matches('/')
                .split([' ', '\n'])
                .next()
                .unwrap()
                .trim_end_matches('/');
            if matches!(name, "!DOCTYPE" | "meta") || tag.ends_with('/') {
                continue;
            }
            match tag.starts_with('/') {
                true => assert_eq!(open.pop(), Some(name.to_owned()), "before </{name}>"),
                false => open.push(name.to_owned()),
            }
        }
        assert_eq!(open, Vec::<String>::new());
    }
}
