//! The command line of publishers: keys, roots, and the issues of a feed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::model::MitigationId;

/// `stopgap keygen`
#[derive(Args, Debug)]
pub(super) struct KeygenArguments {
    /// Where the key goes: NAME.key, which must stay secret, and NAME.pub
    pub(super) name: PathBuf,
}

/// Who signs.
#[derive(Args, Debug)]
pub(super) struct SigningArguments {
    /// A secret key to sign with; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) key: Vec<PathBuf>,
    /// A command that signs, such as one for an HSM, run without a shell: it gets the octets on standard input and
    /// writes the 64 octets of the signature; repeatable
    #[arg(long, value_name = "COMMAND", requires = "signer_key")]
    pub(super) signer: Vec<String>,
    /// The public key of --signer; repeatable in the same order
    #[arg(long, value_name = "FILE", requires = "signer")]
    pub(super) signer_key: Vec<PathBuf>,
}

/// `stopgap trust`
#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Make the first root, 1.root.json, which clients pin
    Init(InitArguments),
    /// Make the next root, with other keys or a later end
    Rotate(RotateArguments),
    /// Show roots, and whether each is signed as it must be
    Show {
        /// Roots in the order of their numbers
        #[arg(required = true)]
        roots: Vec<PathBuf>,
    },
}

/// `stopgap trust init`
#[derive(Args, Debug)]
pub(super) struct InitArguments {
    /// A public key that signs roots; repeatable
    #[arg(long, value_name = "FILE", required = true)]
    pub(super) root_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) root_threshold: usize,
    /// A public key that signs the feed; repeatable
    #[arg(long, value_name = "FILE", required = true)]
    pub(super) feed_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) feed_threshold: usize,
    /// How long it vouches for the keys: a number with h, d, w or y
    #[arg(long, value_name = "TIME", default_value = "1y", value_parser = lifetime)]
    pub(super) expires: Duration,
    /// The folder that 1.root.json goes to, made if it is not there
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub(super) output: PathBuf,
    #[command(flatten)]
    pub(super) signing: SigningArguments,
}

/// `stopgap trust rotate`
#[derive(Args, Debug)]
pub(super) struct RotateArguments {
    /// The newest root; the next one goes beside it
    pub(super) root: PathBuf,
    /// A further public key that signs roots; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) add_root_key: Vec<PathBuf>,
    /// A key that signs roots no more; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) drop_root_key: Vec<PathBuf>,
    /// How many root keys must sign [default: as before]
    #[arg(long, value_name = "N")]
    pub(super) root_threshold: Option<usize>,
    /// A further public key that signs the feed; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) add_feed_key: Vec<PathBuf>,
    /// A key that signs the feed no more; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) drop_feed_key: Vec<PathBuf>,
    /// How many feed keys must sign [default: as before]
    #[arg(long, value_name = "N")]
    pub(super) feed_threshold: Option<usize>,
    /// How long it vouches for the keys: a number with h, d, w or y
    #[arg(long, value_name = "TIME", default_value = "1y", value_parser = lifetime)]
    pub(super) expires: Duration,
    #[command(flatten)]
    pub(super) signing: SigningArguments,
}

/// `stopgap sign`
#[derive(Args, Debug)]
pub(super) struct SignArguments {
    /// The EOCS document to publish
    #[arg(required_unless_present = "refresh")]
    pub(super) rules: Option<PathBuf>,
    /// The feed's name, which clients write as `publishes` [default: that of --previous]
    #[arg(long, value_name = "NAME", required_unless_present_any = ["previous", "refresh"])]
    pub(super) name: Option<String>,
    /// The issue before: the new one gets the next version, and must not lose a mitigation silently
    #[arg(long, value_name = "FILE", requires = "root")]
    pub(super) previous: Option<PathBuf>,
    /// The root that clients pin, with later roots beside the issue before: that issue must be signed as they say, and
    /// the keys that sign now must be theirs
    #[arg(long, value_name = "FILE")]
    pub(super) root: Option<PathBuf>,
    /// A mitigation that is left out on purpose; withdrawing it tells clients more; repeatable
    #[arg(long, value_name = "ID", requires = "previous")]
    pub(super) drop: Vec<MitigationId>,
    /// Renew this issue: the same rules, the next version, and a later end
    #[arg(
        long, value_name = "FILE", requires = "root", conflicts_with_all = ["rules", "name", "previous", "drop"]
    )]
    pub(super) refresh: Option<PathBuf>,
    /// How long clients take it for fresh: a number with h, d, w or y
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = lifetime)]
    pub(super) expires: Duration,
    /// Where the issue goes; only the issue before may be there [default: feed.dsse.json, or the renewed file]
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) signing: SigningArguments,
}

/// `stopgap cosign`
#[derive(Args, Debug)]
pub(super) struct CosignArguments {
    /// The issue or root, which gets a further signature
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) signing: SigningArguments,
}

/// `stopgap verify`
#[derive(Args, Debug)]
pub(super) struct VerifyIssueArguments {
    /// The issue, with later roots beside it
    pub(super) file: PathBuf,
    /// The root that clients pin
    #[arg(long, value_name = "FILE")]
    pub(super) root: PathBuf,
    /// The name that clients expect [default: whatever the issue says]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
}

/// `stopgap inspect`
#[derive(Args, Debug)]
pub(super) struct InspectArguments {
    /// An issue of a feed, or any EOCS document
    pub(super) file: PathBuf,
    /// Another one: say what was added, changed and withdrawn since
    #[arg(long, value_name = "FILE")]
    pub(super) against: Option<PathBuf>,
}

/// Reads a span of time such as `7d`.
pub(super) fn lifetime(text: &str) -> Result<Duration, &'static str> {
    const PROBLEM: &str = "write a number with h, d, w or y, such as 7d";
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let hours: u64 = match &text[digits.len()..] {
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        "y" => 365 * 24,
        _ => return Err(PROBLEM),
    };
    let count: u64 = digits.parse().map_err(|_| PROBLEM)?;
    // A century is more than anybody wants, and far from any overflow.
    match count > 0 && count.saturating_mul(hours) <= 100 * 365 * 24 {
        true => Ok(Duration::from_secs(count * hours * 3_600)),
        false => Err("it must last between 1h and 100y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_a_unit_and_bounds() {
        for (text, hours) in [("1h", 1), ("7d", 168), ("2w", 336), ("100y", 876_000)] {
            assert_eq!(lifetime(text), Ok(Duration::from_secs(hours * 3_600)));
        }
        for text in [
            "",
            "d",
            "7",
            "0d",
            "-1d",
            "1.5d",
            "7 d",
            "7D",
            "101y",
            "876001h",
            "7dd",
            "999999999999999999999y",
        ] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }
}
