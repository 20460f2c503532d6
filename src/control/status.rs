//! What an operator can ask about the control side.

use serde::Serialize;

use super::notify::NotifyReport;

/// The state of everything that control runs, at one moment. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The version of this program.
    pub version: &'static str,
    /// When the control side started.
    pub started: String,
    /// The number of the published rule set.
    pub revision: u64,
    /// Whether the kill switch lifts everything.
    pub kill_switch: bool,
    /// Feeds in the order of their priority.
    pub feeds: Vec<FeedReport>,
    /// Local rule files in the order of their priority.
    pub rule_files: Vec<RuleFileReport>,
    /// The servers behind the proxy, in the order of the settings.
    pub servers: Vec<ServerReport>,
    /// Servers that are asked for the build of their product, each with what it shows.
    pub builds: Vec<BuildReport>,
    /// Who is told of changes, and what became of that.
    pub notify: Vec<NotifyReport>,
    /// Mitigations in the order of evaluation, then those that are not enforced.
    pub mitigations: Vec<MitigationReport>,
    /// Exceptions from mitigations, those of the settings first.
    pub exceptions: Vec<ExceptionReport>,
    /// Alarms that hold now.
    pub alarms: Vec<AlarmReport>,
}

/// One feed.
#[derive(Clone, Debug, Serialize)]
pub struct FeedReport {
    /// Its name.
    pub name: String,
    /// Where its document is.
    pub source: String,
    /// The kind of trust: `dsse`, `microsoft-eocs` or `xmldsig-x509`.
    pub trust: &'static str,
    /// Whether the last success is recent enough, and what it brought has not expired.
    pub fresh: bool,
    /// When a document was last fetched and accepted, the same one as before included.
    pub last_success: Option<String>,
    /// Seconds since then.
    pub age_seconds: Option<u64>,
    /// When the accepted document was signed, by its timestamp; when it was issued, of a `dsse` feed.
    pub signed_at: Option<String>,
    /// SHA-256 of the signer's certificate; of a `dsse` feed, of its threshold and keys.
    pub signer: Option<String>,
    /// SHA-256 of the accepted document; of a `dsse` feed, of its payload.
    pub digest: Option<String>,
    /// The version of the accepted document; only `dsse` feeds have one.
    pub version: Option<u64>,
    /// When the accepted document expires, or the root behind it if that is earlier; only those of `dsse` feeds do.
    pub expires: Option<String>,
    /// The version of the newest root; only `dsse` feeds have any.
    pub root: Option<u64>,
    /// Why the last fetch was refused or failed; nothing when it succeeded.
    pub refusal: Option<String>,
    /// What the accepted document holds that is not known here.
    pub notices: Vec<String>,
}

/// One local rule file.
#[derive(Clone, Debug, Serialize)]
pub struct RuleFileReport {
    /// Its path.
    pub path: String,
    /// Why its present content is refused; nothing when it is in force.
    pub refusal: Option<String>,
    /// Why its rules need a second look although they are in force: they stop requests that honest clients send.
    pub warning: Option<String>,
    /// Requests and responses that its rules acted on, if they stand outside any mitigation.
    pub hits: u64,
    /// Its rules in the order of evaluation, when it holds rewrite rules without a mitigation around them.
    pub rules: Vec<RuleReport>,
}

/// One server behind the proxy.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// Its name: its host, as the settings write it.
    pub name: String,
    /// Where its sidecar is asked; nothing when it has none.
    pub sidecar: Option<String>,
    /// The sidecar's driver, as it said last.
    pub driver: Option<String>,
    /// The sidecar's version, as it said last.
    pub version: Option<String>,
    /// What a person should know about the driver although it works.
    pub notice: Option<String>,
    /// When the sidecar last told all that it holds.
    pub last_answer: Option<String>,
    /// Why the sidecar cannot be asked, or cannot work; nothing when it can.
    pub fault: Option<String>,
    /// What no mitigation holds any more and what is not yet as it was before, with the reason.
    pub unrestored: Vec<String>,
}

/// What one server of a site shows of the product that it runs.
#[derive(Clone, Debug, Serialize)]
pub struct BuildReport {
    /// The site.
    pub site: String,
    /// The server, as the settings write it.
    pub server: String,
    /// The product that it is asked for.
    pub product: String,
    /// The build, as far as it is shown; nothing while it is unknown, which counts as affected.
    pub build: Option<String>,
    /// Where in the answer the build was: the name of a field, or `body`.
    pub place: Option<String>,
    /// When the build was learned.
    pub learned: Option<String>,
    /// Why the last question brought none; nothing if it did.
    pub fault: Option<String>,
}

/// How far one server is with what a mitigation stops.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ServerStanding {
    /// The server.
    pub server: String,
    /// `Applied` when it was read back as wanted, otherwise `Partial`.
    pub state: &'static str,
    /// What is missing, or not given up yet; empty when nothing is.
    pub reason: String,
}

/// One mitigation.
#[derive(Clone, Debug, Serialize)]
pub struct MitigationReport {
    /// Its id.
    pub id: String,
    /// The feed or file that it came from, or `bundled`.
    pub source: String,
    /// What it does, for people.
    pub description: String,
    /// The vulnerability; empty when not stated.
    pub cve: String,
    /// Where to read more; empty when not stated.
    pub reference: String,
    /// What it is known to break; empty when nothing is.
    pub side_effects: String,
    /// Its opt-in group; empty for none.
    pub group: String,
    /// Its actions in document order.
    pub actions: Vec<ActionReport>,
    /// The name of its state, such as `Applied`.
    pub state: &'static str,
    /// Why it is in that state; empty when the state says it all.
    pub reason: String,
    /// The servers that are all fixed, when `stopgap mitigation retire` may retire it for that; nothing otherwise.
    pub retirable: Option<String>,
    /// The servers on which it stops something, or has not given up everything yet, each with how far it is.
    pub servers: Vec<ServerStanding>,
    /// Why it needs a second look although it is enforced: it was trusted although it stops honest requests.
    pub warning: Option<String>,
    /// Requests and responses that its rules acted on since the process started.
    pub hits: u64,
    /// Requests that it would have stopped while it was only watched, since the process started.
    pub would_stop: u64,
    /// Responses that it would have changed meanwhile.
    pub would_change: u64,
    /// The last few of both: method and path, and behind an arrow what of the response, without what is private.
    pub samples: Vec<String>,
    /// Its compiled rules in the order of evaluation; none unless it is enforced.
    pub rules: Vec<RuleReport>,
}

/// One action of a mitigation.
#[derive(Clone, Debug, Serialize)]
pub struct ActionReport {
    /// `AppPool`, `DoNothing`, `Service` or `UrlRewrite`.
    pub kind: &'static str,
    /// The service or application pool; empty for the others.
    pub name: String,
    /// `Server`, or the site and path.
    pub target: String,
    /// What it does, for people.
    pub description: String,
}

/// One compiled rule.
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    /// Its name.
    pub name: String,
    /// `request` or `response`.
    pub kind: &'static str,
}

/// One exception from a mitigation.
#[derive(Clone, Debug, Serialize)]
pub struct ExceptionReport {
    /// Its name.
    pub name: String,
    /// Where it stands: `operator` or `settings`.
    pub origin: &'static str,
    /// The mitigation that does not stop the requests.
    pub mitigation: String,
    /// The only rule of it that does not; nothing for every rule of it.
    pub rule: Option<String>,
    /// The path prefix of the requests.
    pub path: String,
    /// The networks that the clients are in.
    pub clients: Vec<String>,
    /// Who answers for it.
    pub owner: String,
    /// Why it is there.
    pub reason: String,
    /// When it was added.
    pub created: String,
    /// When it ends, or ended.
    pub expires: String,
    /// `Active`, `Lapsing` when it ends within a week, or `Lapsed`.
    pub state: &'static str,
    /// Requests that it let pass, restarts included; at most an hour of them is lost by one.
    pub hits: u64,
    /// When it was last seen to let one pass.
    pub last_used: Option<String>,
}

/// One alarm.
#[derive(Clone, Debug, Serialize)]
pub struct AlarmReport {
    /// What is wrong, in one word.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Why, for people.
    pub reason: String,
    /// Since when.
    pub since: String,
}
