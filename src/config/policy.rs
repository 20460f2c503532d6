//! `[policy]`: what an administrator decides about mitigations, from file text to settings.

use std::collections::BTreeMap;
use std::str::FromStr;

use toml::Spanned;

use super::document::Document;
use super::error::ConfigError;
use super::file::{Parsed, unknown_word};
use super::quantity::FileDuration;
use crate::control::{ApprovalOf, EXCEPTION_LIFETIME, Policy, Retirement};
use crate::mitigation::{DEFAULT_RING, LAST_RING};
use crate::model::MitigationId;

/// `[policy]` as written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FilePolicy {
    organisation_enabled: Option<bool>,
    server_enabled: Option<bool>,
    blocked: Vec<Parsed<MitigationId>>,
    approval: Option<Parsed<ApprovalWord>>,
    approval_of: Option<Parsed<ApprovalOfWord>>,
    audit: Vec<Parsed<MitigationId>>,
    ring: Option<Spanned<u8>>,
    retirement: Option<Parsed<RetirementWord>>,
    builds: BTreeMap<String, Vec<Parsed<FileBuild>>>,
    pub(super) groups: Vec<String>,
    benign_limit: usize,
    trust_despite_benign: Vec<Parsed<MitigationId>>,
    exception_lifetime: Option<Parsed<FileDuration>>,
}

/// Whether mitigations of feeds wait for approval.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ApprovalWord {
    Published,
    Required,
}

impl FromStr for ApprovalWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "published" => Ok(Self::Published),
            "required" => Ok(Self::Required),
            other => Err(unknown_word(other, &["published", "required"])),
        }
    }
}

/// What an approval is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct ApprovalOfWord(ApprovalOf);

impl FromStr for ApprovalOfWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "content" => Ok(Self(ApprovalOf::Content)),
            "id" => Ok(Self(ApprovalOf::Id)),
            other => Err(unknown_word(other, &["content", "id"])),
        }
    }
}

/// What becomes of mitigations that every server is fixed against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct RetirementWord(Retirement);

impl FromStr for RetirementWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "automatic" => Ok(Self(Retirement::Automatic)),
            "propose" => Ok(Self(Retirement::Propose)),
            other => Err(unknown_word(other, &["propose", "automatic"])),
        }
    }
}

/// A build of a product, such as 15.2.1118.20.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FileBuild([u32; 4]);

impl FromStr for FileBuild {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<Option<u32>> = text
            .split('.')
            .map(|part| {
                let digits = part.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| part.parse().ok()).flatten()
            })
            .collect();
        match parts[..] {
            [Some(a), Some(b), Some(c), Some(d)] => Ok(Self([a, b, c, d])),
            _ => Err(format!(
                "{text:?} is no build: write four numbers, like 15.2.1118.20"
            )),
        }
    }
}

/// Checks what was written.
pub(super) fn check(written: FilePolicy, document: &Document<'_>) -> Result<Policy, ConfigError> {
    let ids = |ids: Vec<Parsed<_>>| ids.into_iter().map(|id| id.0).collect();
    let ring = match written.ring {
        Some(ring) if *ring.get_ref() > LAST_RING => {
            let reason = format!("rings are 0 to {LAST_RING}");
            return Err(document.fault(ring.span(), reason));
        }
        ring => ring.map_or(DEFAULT_RING, Spanned::into_inner),
    };
    let builds = written.builds.into_iter().flat_map(|(product, builds)| {
        let own = builds.into_iter();
        own.map(move |build| (product.clone(), build.0.0))
    });
    Ok(Policy {
        organisation_enabled: written.organisation_enabled.unwrap_or(true),
        server_enabled: written.server_enabled.unwrap_or(true),
        blocked: ids(written.blocked),
        approval_required: matches!(written.approval, Some(Parsed(ApprovalWord::Required))),
        approval_of: written
            .approval_of
            .map_or_else(ApprovalOf::default, |word| word.0.0),
        audit: ids(written.audit),
        ring,
        builds: builds.collect(),
        retirement: written
            .retirement
            .map_or_else(Retirement::default, |word| word.0.0),
        benign_limit: written.benign_limit,
        trust_despite_benign: ids(written.trust_despite_benign),
        exception_lifetime: written
            .exception_lifetime
            .map_or(EXCEPTION_LIFETIME, |lifetime| lifetime.0.0),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;
    use crate::control::{ApprovalOf, Retirement};

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/stopgap.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn policy_says_who_gets_what_and_when() {
        let policy = parse(
            "[policy]\napproval = \"required\"\naudit = [\"M2\"]\nring = 2\nretirement = \"automatic\"\napproval_of = \"id\"\n\
             builds = { exchange = [\"15.2.1118.20\", \"15.2.986.36\"] }\n",
        )
        .unwrap()
        .control
        .policy;
        assert!(policy.approval_required);
        assert_eq!(policy.audit[0].to_string(), "M2");
        assert_eq!(policy.ring, 2);
        assert_eq!(policy.retirement, Retirement::Automatic);
        assert_eq!(policy.approval_of, ApprovalOf::Id);
        assert_eq!(policy.builds[1], ("exchange".to_owned(), [15, 2, 986, 36]));
        let default = parse("").unwrap().control.policy;
        assert!(!default.approval_required);
        assert_eq!(default.ring, 1);
        assert_eq!(default.retirement, Retirement::Propose);
        assert_eq!(default.approval_of, ApprovalOf::Content);
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (text, expected) in [
            ("[policy]\nring = 3", "rings are 0 to 2"),
            ("[policy]\napproval = \"yes\"", "required"),
            ("[policy]\nretirement = \"yes\"", "automatic"),
            ("[policy]\napproval_of = \"yes\"", "content"),
            ("[policy]\naudit = [\"m2\"]", "no mitigation id"),
            (
                "[policy]\nbuilds = { exchange = [\"15.2\"] }",
                "four numbers",
            ),
            (
                "[policy]\nbuilds = { exchange = [\"15.2.1.+1\"] }",
                "four numbers",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("line 2"), "{text}: {error}");
        }
    }
}
