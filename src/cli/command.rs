//! The command line: commands, flags and their help.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Effects};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::exception::ExceptionCommand;
use super::publishing::{
    CosignArguments, InspectArguments, KeygenArguments, SignArguments, TrustCommand,
    VerifyIssueArguments,
};
use super::table::Format;
use crate::config::Server;
use crate::feed::Source;
use crate::model::{Digest, MitigationId};
use crate::net::ListenAddress;

/// An emergency-mitigation reverse proxy
///
/// stopgap stands in front of web servers, takes signed mitigations from feeds, and blocks attacks with rules in the
/// language of IIS URL Rewrite, without a restart.
#[derive(Debug, Parser)]
#[command(name = "stopgap", version, styles = STYLES, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 could not start or reach, 2 usage, 3 settings or rules invalid,\n\
    4 signature, age or freshness refused, 5 vectors or tests failed."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

/// What `stopgap` can be told to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve traffic and enforce mitigations
    Run(Box<RunArguments>),
    /// Compile rules and judge their vectors, without serving
    Check(CheckArguments),
    /// Judge requests by rules, one JSON object a line in and out
    Eval(EvalArguments),
    /// Say why a request is judged as it is
    Explain(Box<ExplainArguments>),
    /// Fetch, verify and show feeds
    #[command(subcommand)]
    Feed(FeedCommand),
    /// List, show and decide about the mitigations of the running instance
    #[command(subcommand)]
    Mitigation(MitigationCommand),
    /// Let some requests pass a mitigation of the running instance for a while
    #[command(subcommand)]
    Exception(ExceptionCommand),
    /// Show feeds, mitigations and alarms of the running instance
    Status(StatusArguments),
    /// Have the running instance read rule files again and fetch every feed now
    Reload(InstanceArguments),
    /// Lift every blocking and response rule of the running instance, or put them back
    KillSwitch(KillSwitchArguments),
    /// Make a key for signing roots and feeds
    Keygen(KeygenArguments),
    /// Sign the next issue of a feed, or renew the last one
    Sign(Box<SignArguments>),
    /// Add a signature to an issue or a root
    Cosign(CosignArguments),
    /// Say what a client would say of an issue
    Verify(VerifyIssueArguments),
    /// Show an issue, or what is new in it
    Inspect(InspectArguments),
    /// Make and show the roots that say who signs a feed
    #[command(subcommand)]
    Trust(Box<TrustCommand>),
    /// Check, print and document settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Manpage,
}

/// Where settings come from.
#[derive(Args, Debug)]
pub(super) struct SettingsArguments {
    /// The settings file (TOML); flags win over it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Listen for HTTP/1.1 here, an address or unix:/PATH; repeatable [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Vec<ListenAddress>,
    /// Also take prior-knowledge HTTP/2 on plain listeners
    #[arg(long)]
    pub(super) http2_cleartext: bool,
    /// Listen here for TLS, HTTP/2 and HTTP/1.1; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(super) tls_listen: Vec<ListenAddress>,
    /// The certificate chain in PEM for --tls-listen
    #[arg(long, value_name = "FILE")]
    pub(super) tls_certificate: Option<PathBuf>,
    /// The private key in PEM for --tls-listen
    #[arg(long, value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// A server of the only site, http[s]://HOST[:PORT], h2[c]://HOST[:PORT] or unix:/PATH; repeatable [default: a built-in welcome page]
    #[arg(long, value_name = "URL")]
    pub(super) upstream: Vec<Server>,
    /// A rule file, or a folder of them, instead of the bundled set; repeatable
    #[arg(long, value_name = "PATH")]
    pub(super) rules: Vec<PathBuf>,
    /// Enforce the bundled set beside --rules
    #[arg(long)]
    pub(super) with_baseline: bool,
    /// Also enforce this opt-in group of mitigations; repeatable
    #[arg(long, value_name = "NAME")]
    pub(super) group: Vec<String>,
    /// Threads that serve traffic [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: Option<u16>,
    /// Write a line for each answered request here; - is standard output [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) access_log: Option<PathBuf>,
    /// Serve health, metrics and status here, read-only [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<SocketAddr>,
}

/// `stopgap run`
#[derive(Args, Debug)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
}

/// `stopgap check`
#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// Rule files and folders of them [default: the bundled set]
    pub(super) paths: Vec<PathBuf>,
    /// List the request rules with what each costs: how requests are chosen for it, how its patterns are searched, its
    /// memory, and the nanoseconds a byte may take
    #[arg(long)]
    pub(super) cost: bool,
    /// The form of the list
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Format,
    /// Instead, compare the certificates of TLS listeners with those of the servers behind them
    #[arg(long, requires = "config", conflicts_with = "paths")]
    pub(super) probe_upstream: bool,
    /// The settings file that names them
    #[arg(long, value_name = "FILE", requires = "probe_upstream")]
    pub(super) config: Option<PathBuf>,
}

/// `stopgap eval`
#[derive(Args, Debug)]
pub(super) struct EvalArguments {
    /// Cases, one JSON object a line; - is standard input
    #[arg(default_value = "-")]
    pub(super) cases: PathBuf,
    /// Rules for cases without `rules_xml`
    #[arg(long, value_name = "FILE")]
    pub(super) rules: Option<PathBuf>,
    /// Judge every view that a server could take of a target, as rules of feeds are judged
    #[arg(long)]
    pub(super) hardened: bool,
}

/// `stopgap explain`
#[derive(Args, Debug)]
pub(super) struct ExplainArguments {
    /// The rules, or mitigations [default: the bundled set]
    #[arg(long, value_name = "FILE")]
    pub(super) rules: Option<PathBuf>,
    /// Also judge by this opt-in group of mitigations; repeatable
    #[arg(long, value_name = "NAME")]
    pub(super) group: Vec<String>,
    /// The URL, taken exactly as written; a path is one too
    #[arg(long, required_unless_present = "curl", conflicts_with = "curl")]
    pub(super) url: Option<String>,
    /// The method [default: GET]
    #[arg(long, conflicts_with = "curl")]
    pub(super) method: Option<String>,
    /// A request field, 'Name: value'; repeatable
    #[arg(long, value_name = "FIELD", conflicts_with = "curl")]
    pub(super) header: Vec<String>,
    /// A curl command line, as a browser copies it, in place of the last three
    #[arg(long, value_name = "COMMAND")]
    pub(super) curl: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub(super) remote: Option<std::net::IpAddr>,
    /// The status of a response to judge too [default: 200 with --response-header or --response-body]
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(100..=999))]
    pub(super) status: Option<u16>,
    /// A field of that response, 'Name: value'; repeatable
    #[arg(long, value_name = "FIELD")]
    pub(super) response_header: Vec<String>,
    /// The body of that response, for rules that rewrite bodies; '-' is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) response_body: Option<PathBuf>,
    /// Judge every view that a server could take of a target, as rules of feeds are judged
    #[arg(long)]
    pub(super) hardened: bool,
    /// The form of the explanation
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: ExplainFormat,
}

/// The forms of an explanation.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum ExplainFormat {
    /// Text for people
    #[default]
    Text,
    /// One JSON document
    Json,
}

/// `stopgap feed`
#[derive(Debug, Subcommand)]
pub(super) enum FeedCommand {
    /// Fetch and verify feeds once, and keep nothing
    Fetch(FetchArguments),
    /// Verify a document and say who signed it, when, and what it holds
    Verify(VerifyArguments),
    /// Take every step of every feed once, and say what happened at each
    Test(TestArguments),
    /// Show the feeds of the running instance in detail
    Show(ShowArguments),
}

/// `stopgap feed fetch`
#[derive(Args, Debug)]
pub(super) struct FetchArguments {
    /// The feeds of this settings file
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "url",
        conflicts_with = "url"
    )]
    pub(super) config: Option<PathBuf>,
    /// Names of feeds in the settings file [default: all of them]
    #[arg(requires = "config")]
    pub(super) names: Vec<String>,
    /// A feed that stands in no settings file
    #[arg(long, value_name = "URL", requires = "trust")]
    pub(super) url: Option<Source>,
    #[command(flatten)]
    pub(super) trust: TrustArguments,
    /// Write the document here once it is verified
    #[arg(long, value_name = "FILE")]
    pub(super) save: Option<PathBuf>,
}

/// `stopgap feed test`
#[derive(Args, Debug)]
pub(super) struct TestArguments {
    /// The feeds of this settings file
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Names of feeds in the settings file [default: all of them]
    pub(super) names: Vec<String>,
}

/// `stopgap feed verify`
#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    /// The document
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustArguments,
}

/// Who must have signed a document.
#[derive(Args, Debug)]
pub(super) struct TrustArguments {
    /// Who must have signed it
    #[arg(long, value_enum)]
    pub(super) trust: Option<TrustKind>,
    /// Certificates that signers chain to, PEM or DER, repeatable, with xmldsig-x509; the pinned root, with dsse
    #[arg(long, value_name = "FILE")]
    pub(super) root: Vec<PathBuf>,
    /// The name that the publisher gave the feed; with dsse
    #[arg(long, value_name = "NAME")]
    pub(super) publishes: Option<String>,
    /// Certificates that timestamp authorities chain to; with xmldsig-x509; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) timestamp_root: Vec<PathBuf>,
    /// Refuse a document without a timestamp; with xmldsig-x509
    #[arg(long, requires = "timestamp_root")]
    pub(super) require_timestamp: bool,
    /// Look at no timestamp, so that the chain must be valid now; with xmldsig-x509
    #[arg(long, conflicts_with_all = ["require_timestamp", "timestamp_root"])]
    pub(super) no_timestamp: bool,
    /// An extended key usage that the signer must have; with xmldsig-x509; repeatable
    #[arg(long, value_name = "OID")]
    pub(super) eku: Vec<String>,
    /// The SHA-256 of the only certificate that may sign; with xmldsig-x509; repeatable
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub(super) signer: Vec<Digest>,
}

fn digest(text: &str) -> Result<Digest, &'static str> {
    Digest::from_hex(&text.replace(':', "")).ok_or("a SHA-256 digest has 64 hexadecimal digits")
}

/// The kinds of trust.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum TrustKind {
    /// Our own format, by the keys that a root names
    Dsse,
    /// Microsoft's Exchange service, by its own profile and roots
    MicrosoftEocs,
    /// The same profile with roots of one's own
    #[value(name = "xmldsig-x509")]
    XmlDsigX509,
}

/// How the running instance is found.
#[derive(Args, Debug)]
pub(super) struct InstanceArguments {
    /// The control socket [default: where the settings say, or control.sock in the state folder]
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// The settings file of the instance
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// `stopgap feed show`
#[derive(Args, Debug)]
pub(super) struct ShowArguments {
    /// Names of feeds [default: all of them]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) instance: InstanceArguments,
}

/// `stopgap status`
#[derive(Args, Debug)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    pub(super) instance: InstanceArguments,
    /// The form; csv lists the mitigations
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Format,
}

/// `stopgap kill-switch`
#[derive(Args, Debug)]
pub(super) struct KillSwitchArguments {
    /// On lifts everything, off puts it back
    pub(super) state: Switch,
    #[command(flatten)]
    pub(super) instance: InstanceArguments,
}

/// On or off.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Switch {
    /// Lift everything
    On,
    /// Put it back
    Off,
}

/// `stopgap mitigation`
#[derive(Debug, Subcommand)]
pub(super) enum MitigationCommand {
    /// List all mitigations with their state
    List(ListArguments),
    /// Show one mitigation in detail
    Show {
        /// Its id, such as M1.1
        id: String,
        #[command(flatten)]
        instance: InstanceArguments,
    },
    /// Show what became of mitigations over time, oldest first, restarts included
    History(HistoryArguments),
    /// Never enforce a mitigation; what it did is undone at once
    Block(DecisionArguments),
    /// Take a block back, as it was written
    Unblock(DecisionArguments),
    /// Take a mitigation out of force for as long as every server shows a fixed build
    Retire(DecisionArguments),
    /// Keep a mitigation in force although every server shows a fixed build
    Keep(DecisionArguments),
    /// Approve a mitigation that waits for it
    Approve(DecisionArguments),
    /// Bring a mitigation through its gates and apply it again, as if it were new
    Reapply(DecisionArguments),
    /// Enforce or only watch a mitigation, whatever settings and publisher say
    Mode {
        #[command(flatten)]
        decision: DecisionArguments,
        /// What to do with what it would stop
        mode: ModeWord,
    },
}

/// `stopgap mitigation list`
#[derive(Args, Debug)]
pub(super) struct ListArguments {
    #[command(flatten)]
    pub(super) status: StatusArguments,
    /// The columns of Exchange's Get-Mitigations.ps1: Server, ID, Type, Description and Status
    #[arg(long)]
    pub(super) exchange: bool,
}

/// `stopgap mitigation history`
#[derive(Args, Debug)]
pub(super) struct HistoryArguments {
    /// A mitigation; M2 covers every M2.x [default: all of them]
    pub(super) id: Option<MitigationId>,
    #[command(flatten)]
    pub(super) status: StatusArguments,
}

/// An order about one mitigation.
#[derive(Args, Debug)]
pub(super) struct DecisionArguments {
    /// The mitigation; M2 covers every M2.x
    pub(super) id: MitigationId,
    #[command(flatten)]
    pub(super) instance: InstanceArguments,
}

/// What is done with what a mitigation would stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ModeWord {
    /// Only watch it
    Audit,
    /// Stop it
    Enforce,
    /// What settings and publisher say
    Published,
}

/// `stopgap config`
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether settings can be used
    Check(SettingsArguments),
    /// Print what file and flags come to
    Print(SettingsArguments),
    /// List every key of the settings file with its meaning and default
    Schema,
}

/// The sidecar: stops services and application pools where the proxy cannot
#[derive(Debug, Parser)]
#[command(name = "stopgap-sidecar", version, styles = STYLES, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct SidecarArguments {
    #[command(subcommand)]
    pub(super) command: SidecarCommand,
}

/// What `stopgap-sidecar` can be told to do.
#[derive(Debug, Subcommand)]
pub(super) enum SidecarCommand {
    /// Wait for orders and carry them out
    Run {
        /// The sidecar's own settings file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say whether the settings can be used and the driver works
    Check {
        /// The sidecar's own settings file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// List the drivers of this build
    Drivers,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Arguments::command().debug_assert();
        SidecarArguments::command().debug_assert();
    }
}
