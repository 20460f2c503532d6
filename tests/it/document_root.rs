//! Files that rules ask for: below the document root of a site, and nowhere without one.

use std::path::{Path, PathBuf};

use http::Request;
use stopgap::control::{ControlConfig, Controller};
use stopgap::filter::{Filter, Peer};
use stopgap::model::UnixTime;
use stopgap::rules::{RequestView, RuleSet, RuleSource, Scratch, SourceOrigin};
use stopgap::store::StateDir;
use stopgap::telemetry::{Alarms, Metrics};

use super::support::process::run;

/// A front page for whatever is neither a file nor a folder, as most content systems write it; and a rule that reads a
/// path which the client chooses.
const RULES: &str = r#"<rules>
  <rule name="asked"><match url="^ask$" />
    <conditions><add input="{DOCUMENT_ROOT}/{HTTP_X_PATH}" matchType="IsFile" /></conditions>
    <action type="CustomResponse" statusCode="403" /></rule>
  <rule name="front" stopProcessing="true"><match url=".*" />
    <conditions>
      <add input="{REQUEST_FILENAME}" matchType="IsFile" negate="true" />
      <add input="{REQUEST_FILENAME}" matchType="IsDirectory" negate="true" />
    </conditions>
    <action type="Rewrite" url="/index.php" /></rule>
</rules>"#;

/// The same without what cannot be read without a root.
const WITHOUT: &str = r#"<rules>
  <rule name="file"><match url="^a" />
    <conditions><add matchType="IsFile" /></conditions><action type="AbortRequest" /></rule>
  <rule name="folder"><match url="^b" />
    <conditions><add input="{REQUEST_FILENAME}" matchType="IsDirectory" negate="true" /></conditions>
    <action type="AbortRequest" /></rule>
</rules>"#;

fn start(folder: &Path, rules: &str, sites: &[(&str, Option<&str>)]) -> Controller {
    std::fs::write(folder.join("rules.xml"), rules).unwrap();
    let roots = sites
        .iter()
        .map(|(_, root)| root.map(|root| folder.join(root)));
    let config = ControlConfig {
        sites: sites.iter().map(|(name, _)| (*name).to_owned()).collect(),
        document_roots: roots.collect(),
        rules: vec![folder.join("rules.xml")],
        watch_interval: std::time::Duration::from_secs(3_600),
        ..ControlConfig::default()
    };
    let metrics = Metrics::default();
    let clock = || UnixTime::new(1_795_000_000);
    let alarms = Alarms::new(&metrics);
    Controller::start(config, &StateDir::memory(), &metrics, alarms, clock).unwrap()
}

fn verdict(controller: &Controller, site: usize, target: &str, path: &str) -> &'static str {
    let request = Request::get(target)
        .header("Host", "mail.example.test")
        .header("X-Path", path)
        .body(())
        .unwrap();
    let (parts, ()) = request.into_parts();
    let mut filter = Filter::new(controller.filter());
    let judged = filter.judge(site, &parts, &Peer::default());
    judged.decision.verdict.name()
}

/// `www` with a file and a folder, and a file beside it.
fn folders() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    std::fs::create_dir_all(path.join("www/sub")).unwrap();
    std::fs::write(path.join("www/sub/a b.txt"), "x").unwrap();
    std::fs::write(path.join("secret.txt"), "x").unwrap();
    (folder, path)
}

#[tokio::test]
async fn files_below_the_root_exist_and_no_others() {
    let (_folder, path) = folders();
    let controller = start(&path, RULES, &[("a", Some("www")), ("b", Some("www/sub"))]);
    for (site, target, expected) in [
        (0, "/sub/a%20b.txt", "pass"),
        (0, "/sub", "pass"),
        (0, "/sub/", "pass"),
        (0, "/", "pass"),
        (0, "/sub/../sub/a%20b.txt", "pass"),
        (0, "/none", "rewrite"),
        (0, "/..%5csecret.txt", "rewrite"),
        (0, "/%2e%2e/secret.txt", "rewrite"),
        (1, "/a%20b.txt", "pass"),
        (1, "/sub/a%20b.txt", "rewrite"),
    ] {
        assert_eq!(
            verdict(&controller, site, target, ""),
            expected,
            "{site} {target}"
        );
    }
    for (asked, expected) in [
        ("sub/a b.txt", "respond"),
        ("../secret.txt", "rewrite"),
        ("..\\secret.txt", "rewrite"),
        ("sub/../../secret.txt", "rewrite"),
        ("/../secret.txt", "rewrite"),
        ("sub/a b.txt::$DATA", "rewrite"),
    ] {
        assert_eq!(verdict(&controller, 0, "/ask", asked), expected, "{asked}");
    }
}

#[tokio::test]
async fn without_a_root_nothing_exists_and_a_warning_says_so() {
    let (_folder, path) = folders();
    let controller = start(&path, WITHOUT, &[("a", None)]);
    assert_eq!(verdict(&controller, 0, "/a", ""), "pass");
    assert_eq!(verdict(&controller, 0, "/b", ""), "abort");
    let status = controller.handle().status();
    let warning = status.rule_files[0].warning.clone().unwrap();
    for said in [
        "rules.xml, line 3",
        "rule \"file\"",
        "the site a has no document_root",
    ] {
        assert!(warning.contains(said), "{warning}");
    }
    // With one there is nothing to warn about.
    let controller = start(&path, WITHOUT, &[("a", Some("www"))]);
    let status = controller.handle().status();
    assert_eq!(status.rule_files[0].warning, None);
}

#[test]
fn only_conditions_that_ask_are_noticed() {
    let notice = |rules: &str| {
        let source = RuleSource::parse(rules, &SourceOrigin::named("r.xml")).unwrap();
        source.file_notice().map(|notice| notice.to_string())
    };
    assert!(
        notice(WITHOUT).unwrap().starts_with("r.xml, line 3"),
        "{:?}",
        notice(WITHOUT)
    );
    let enabled = WITHOUT.replace("<rule ", "<rule enabled='false' ");
    assert_eq!(notice(&enabled), None);
    assert_eq!(notice("<rules><rule name='r'/></rules>"), None);
    // No set needs a root for them.
    let rules = RuleSet::parse(WITHOUT, &SourceOrigin::named("r.xml")).unwrap();
    let request = RequestView::new("GET", b"/b", &[("Host", "h")]);
    assert!(
        rules
            .judge(&request, &mut Scratch::default())
            .verdict
            .stops()
    );
}

#[test]
fn settings_name_it() {
    let (_folder, path) = folders();
    let config = |root: &str| {
        let text = format!("[[site]]\nname = \"a\"\ndocument_root = \"{root}\"\n");
        std::fs::write(path.join("stopgap.toml"), text).unwrap();
        run(
            &path,
            &[
                "config",
                "print",
                "--config",
                path.join("stopgap.toml").to_str().unwrap(),
            ],
        )
    };
    let printed = config("www");
    let printed = String::from_utf8(printed.stdout).unwrap();
    let expected = format!("document_root = \"{}\"", path.join("www").display());
    assert!(printed.contains(&expected), "{printed}");
    let refused = config("secret.txt");
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{errors}");
    assert!(
        errors.contains("document_root") && errors.contains("no folder"),
        "{errors}"
    );
}
