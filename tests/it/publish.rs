//! The commands of a publisher, run as a person runs them, up to a client that enforces what was published.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use crate::support::client::Client;
use crate::support::feed_server::{FeedServer, Mode};
use crate::support::process::{Daemon, stopgap};

const GUIDE: &str = include_str!("../../src/guide/publishing.md");

/// The first block of this kind on the page.
fn block(kind: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command line in a folder; words are separated by single spaces, and quotation marks hold them together.
fn run(folder: &Path, line: &str) -> Output {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split(' ').filter(|word| !word.is_empty())),
            _ => words.push(part),
        }
    }
    assert_eq!(words.remove(0), "stopgap", "{line}");
    stopgap(&folder.join("state"), &words)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Runs a command that must end with this code: what it said on both streams.
fn ends(folder: &Path, line: &str, code: i32) -> String {
    let output = run(folder, line);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}\n{said}");
    said
}

fn write(folder: &Path, name: &str, content: &str) {
    std::fs::write(folder.join(name), content).unwrap();
}

/// A folder with two root keys, an issue key, and a root that needs both of the former.
fn publisher() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "mitigations.xml", block("xml"));
    for command in block("console").lines().take(5) {
        ends(folder.path(), command.strip_prefix("$ ").unwrap(), 0);
    }
    folder
}

const SIGN: &str = "stopgap sign mitigations.xml --key issues.key --output site/feed.dsse.json";
const VERIFY: &str = "stopgap verify site/feed.dsse.json --root site/1.root.json --name acme";

/// The ten commands of the page, from no keys to a client that stops an attack.
#[test]
fn page_leads_from_no_keys_to_a_running_client() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let commands: Vec<&str> = block("console")
        .lines()
        .map(|line| line.strip_prefix("$ ").unwrap())
        .collect();
    assert_eq!(commands.len(), 10);
    let server = FeedServer::start(Mode::Status(503));
    let settings = block("toml").replace(
        "https://feeds.example.com",
        &format!("http://{}", server.address),
    );
    assert!(settings.contains("http://127.0.0.1"), "{settings}");
    write(folder, "mitigations.xml", block("xml"));
    write(folder, "client.toml", &settings);
    let (last, others) = commands.split_last().unwrap();
    for command in others {
        ends(folder, command, 0);
    }
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("site")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files.insert(name, std::fs::read(path).unwrap());
    }
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["1.root.json", "feed.dsse.json"], "nothing secret");
    server.set(Mode::Files(files));

    let mut words: Vec<&str> = last.split(' ').skip(1).collect();
    words.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut command = stopgap(&folder.join("state"), &words);
    command.current_dir(folder);
    let daemon = Daemon::from_command(command);
    daemon.logged("ACME1.1");
    let mut client = Client::connect(daemon.address);
    let reply = client
        .get("/acme/EXPORT.aspx?all=1", &[("Host", "a.test")])
        .expect("the custom response");
    assert_eq!(reply.status, 403);
    let status = ends(folder, "stopgap status", 0);
    assert!(status.contains("ACME1.1"), "{status}");
    let shown = ends(folder, "stopgap feed show acme", 0);
    for part in ["dsse", "version", "root", "expires"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(daemon.stop().success());
}

#[test]
fn secret_keys_are_private_and_nothing_is_overwritten() {
    let folder = publisher();
    let folder = folder.path();
    let secret = std::fs::read(folder.join("alice.key")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.join("alice.key")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
    ends(folder, "stopgap keygen alice", 1);
    std::fs::remove_file(folder.join("alice.pub")).unwrap();
    let said = ends(folder, "stopgap keygen alice", 1);
    assert!(said.contains("never overwritten"), "{said}");
    assert_eq!(std::fs::read(folder.join("alice.key")).unwrap(), secret);
    let init = "stopgap trust init --root-key bob.pub --feed-key issues.pub --output site";
    ends(folder, init, 1);
    ends(folder, &format!("{SIGN} --name acme"), 0);
    // An issue that is not named as the one before stays.
    ends(folder, &format!("{SIGN} --name acme"), 1);
    ends(
        folder,
        &format!("{SIGN} --previous site/feed.dsse.json --root site/1.root.json"),
        0,
    );
    assert!(ends(folder, VERIFY, 0).contains("issue      2"));
}

#[test]
fn root_needs_its_threshold() {
    let folder = publisher();
    let folder = folder.path();
    let shown = ends(folder, "stopgap trust show site/1.root.json", 0);
    assert!(shown.contains("by enough keys"), "{shown}");
    let rotate =
        "stopgap trust rotate site/1.root.json --drop-feed-key issues.pub --add-feed-key next.pub";
    ends(folder, "stopgap keygen next", 0);
    ends(folder, &format!("{SIGN} --name acme"), 0);
    let said = ends(folder, &format!("{rotate} --key alice.key"), 0);
    assert!(said.contains("by 1 of 2 keys"), "{said}");
    let both = "stopgap trust show site/1.root.json site/2.root.json";
    ends(folder, both, 4);
    // A client sees the second root beside the feed and refuses it.
    let said = ends(folder, VERIFY, 4);
    assert!(said.contains("next root is refused"), "{said}");
    let said = ends(folder, "stopgap cosign site/2.root.json --key bob.key", 0);
    assert!(said.contains("by enough keys"), "{said}");
    ends(folder, both, 0);
    // Now the old key is nobody's.
    let said = ends(folder, VERIFY, 4);
    assert!(said.contains("signed by 0 of the 1 feed keys"), "{said}");
    let next = SIGN.replace("issues.key", "next.key");
    ends(
        folder,
        &format!("{next} --previous site/feed.dsse.json --root site/1.root.json"),
        0,
    );
    assert!(ends(folder, VERIFY, 0).contains("new roots  1"));
    ends(folder, "stopgap cosign site/2.root.json --key bob.key", 3);
    ends(folder, "stopgap cosign site/2.root.json", 2);
}

#[test]
fn bad_rules_are_not_signed() {
    let folder = publisher();
    let folder = folder.path();
    let good = block("xml");
    let first = format!("{SIGN} --name acme");
    let cases = [
        (good.replace("</EOCS>", ""), 3, "mitigations.xml"),
        (good.replace("^acme/", "^acme/(("), 3, "ACME1.1"),
        (good.replace("sg:pass", "sg:stop"), 5, "/acme/import.aspx"),
        (good.replace("^acme/export\\.aspx", ".*"), 5, "ACME1.1"),
        (good.replace("UrlRewrite", "Reboot"), 3, "Reboot"),
        ("<rules/>".to_owned(), 3, "rules alone"),
    ];
    for (rules, code, part) in cases {
        write(folder, "mitigations.xml", &rules);
        let said = ends(folder, &first, code);
        assert!(said.contains(part), "{part} is missing: {said}");
        assert!(!folder.join("site/feed.dsse.json").exists());
    }
    write(folder, "mitigations.xml", good);
    ends(folder, &first, 0);
    ends(folder, "stopgap sign mitigations.xml --key issues.key", 2);
    ends(folder, "stopgap sign mitigations.xml --name acme", 2);
    ends(folder, &format!("{first} --expires 7"), 2);
}

#[test]
fn nothing_disappears_silently_and_changes_are_shown() {
    let folder = publisher();
    let folder = folder.path();
    ends(folder, &format!("{SIGN} --name acme"), 0);
    std::fs::copy(
        folder.join("site/feed.dsse.json"),
        folder.join("old.dsse.json"),
    )
    .unwrap();
    write(
        folder,
        "mitigations.xml",
        &block("xml").replace("ACME1.1", "ACME2.1"),
    );
    let next = format!("{SIGN} --previous site/feed.dsse.json --root site/1.root.json");
    let said = ends(folder, &next, 5);
    assert!(said.contains("--drop ACME1.1"), "{said}");
    ends(folder, &format!("{next} --drop ACME3.1 --drop ACME1.1"), 2);
    ends(folder, &format!("{next} --name other --drop ACME1.1"), 2);
    ends(folder, &format!("{next} --drop ACME1.1"), 0);
    let inspect = "stopgap inspect site/feed.dsse.json --against";
    let said = ends(folder, &format!("{inspect} old.dsse.json"), 0);
    let change = |id: &str| {
        let row = said.lines().find(|line| line.starts_with(id));
        row.map(|row| row.split_whitespace().nth(1).unwrap().to_owned())
    };
    assert_eq!(change("ACME1.1").as_deref(), Some("gone"), "{said}");
    assert_eq!(change("ACME2.1").as_deref(), Some("added"), "{said}");
    // The same rules on other lines are no change.
    write(
        folder,
        "moved.xml",
        &block("xml")
            .replace("ACME1.1", "ACME2.1")
            .replacen('\n', "\n\n\n", 1),
    );
    let said = ends(folder, &format!("{inspect} moved.xml"), 0);
    assert!(!said.contains("changed"), "{said}");
    let withdrawn = "stopgap inspect withdrawn.xml --against moved.xml";
    let text = block("xml").replace("id=\"ACME1.1\"", "id=\"ACME2.1\" sg:withdrawn=\"true\"");
    write(folder, "withdrawn.xml", &text);
    let said = ends(folder, withdrawn, 0);
    assert!(said.contains("withdrawn"), "{said}");
}

#[test]
fn issues_are_renewed_before_they_expire() {
    let folder = publisher();
    let folder = folder.path();
    ends(folder, &format!("{SIGN} --name acme --expires 1h"), 0);
    let renew = "stopgap sign --refresh site/feed.dsse.json --root site/1.root.json --key issues.key --expires 2d";
    ends(folder, renew, 0);
    let said = ends(folder, "stopgap inspect site/feed.dsse.json", 0);
    assert!(
        said.contains("issue      2") && said.contains("ACME1.1"),
        "{said}"
    );
    let said = ends(folder, &VERIFY.replace("acme", "other"), 4);
    assert!(said.contains("\"acme\", not \"other\""), "{said}");
    let said = ends(
        folder,
        "stopgap feed verify site/feed.dsse.json --trust dsse --root site/1.root.json --publishes acme",
        0,
    );
    assert!(said.contains("signature  good"), "{said}");
}

/// Whoever can write to the host decides neither the next version nor what is missing from it.
#[test]
fn issue_before_must_be_genuine() {
    let folder = publisher();
    let folder = folder.path();
    ends(folder, &format!("{SIGN} --name acme"), 0);
    let issue = folder.join("site/feed.dsse.json");
    let genuine = std::fs::read(&issue).unwrap();
    ends(folder, "stopgap keygen thief", 0);
    let forge =
        "stopgap sign mitigations.xml --name acme --key thief.key --output forged.dsse.json";
    ends(folder, forge, 0);
    let said = ends(folder, &format!("{forge} --root site/1.root.json"), 4);
    assert!(said.contains("root 1 does not name it"), "{said}");
    std::fs::copy(folder.join("forged.dsse.json"), &issue).unwrap();
    let next = format!("{SIGN} --previous site/feed.dsse.json");
    let said = ends(folder, &next, 2);
    assert!(said.contains("--root <FILE>"), "{said}");
    let refresh = "stopgap sign --refresh site/feed.dsse.json --key issues.key";
    ends(folder, refresh, 2);
    for command in [next.as_str(), refresh] {
        let said = ends(folder, &format!("{command} --root site/1.root.json"), 4);
        assert!(said.contains("signed by 0 of the 1 feed keys"), "{said}");
        assert_eq!(
            std::fs::read(&issue).unwrap(),
            std::fs::read(folder.join("forged.dsse.json")).unwrap()
        );
    }
    // After the keys were replaced, the last issue of the old ones can be followed, and only by the new ones.
    std::fs::write(&issue, &genuine).unwrap();
    ends(folder, "stopgap keygen next", 0);
    let rotate = "stopgap trust rotate site/1.root.json --drop-feed-key issues.pub --add-feed-key next.pub --key alice.key";
    ends(folder, rotate, 0);
    let said = ends(folder, &format!("{next} --root site/1.root.json"), 3);
    assert!(
        said.contains("2.root.json") && said.contains("1 of the 2"),
        "{said}"
    );
    ends(folder, "stopgap cosign site/2.root.json --key bob.key", 0);
    let said = ends(folder, &format!("{next} --root site/1.root.json"), 4);
    assert!(said.contains("root 2 does not name it"), "{said}");
    let said = ends(
        folder,
        &format!("{next} --root site/1.root.json").replace("issues.key", "next.key"),
        0,
    );
    assert!(
        said.contains("issue 2") && said.contains("root 1"),
        "{said}"
    );
    ends(folder, VERIFY, 0);
}

/// The signature of a signer outside the program counts like one of a key file.
#[test]
fn signer_outside_the_program_gets_the_octets() {
    let folder = publisher();
    let folder = folder.path();
    let script =
        "cat > octets.bin\nexec openssl pkeyutl -sign -rawin -inkey \"$1\" -in octets.bin\n";
    write(folder, "hsm script.sh", script);
    let sign = "stopgap sign mitigations.xml --name acme --output site/feed.dsse.json";
    let said = ends(
        folder,
        &format!("{sign} --signer-key issues.pub --signer 'false'"),
        1,
    );
    assert!(said.contains("failed"), "{said}");
    let said = ends(
        folder,
        &format!("{sign} --signer-key issues.pub --signer 'cat'"),
        4,
    );
    assert!(said.contains("64 octets"), "{said}");
    ends(
        folder,
        &format!("{sign} --signer-key issues.pub --signer 'nowhere/hsm'"),
        1,
    );
    ends(folder, &format!("{sign} --signer 'cat'"), 2);
    if std::process::Command::new("openssl")
        .arg("version")
        .output()
        .is_err()
    {
        return;
    }
    let hsm = "--signer-key issues.pub --signer 'sh \"hsm script.sh\" issues.key'";
    ends(folder, &format!("{sign} {hsm}"), 0);
    ends(folder, VERIFY, 0);
    let octets = std::fs::read(folder.join("octets.bin")).unwrap();
    assert!(octets.starts_with(b"DSSEv1 "), "{octets:?}");
}

/// Every step of a feed is told, and the first that fails with what to do.
#[test]
fn feed_test_says_what_happened_at_each_step() {
    let folder = publisher();
    let folder = folder.path();
    ends(folder, &format!("{SIGN} --name acme"), 0);
    let issue = std::fs::read(folder.join("site/feed.dsse.json")).unwrap();
    let files = |issue: &[u8]| {
        Mode::Files(BTreeMap::from([(
            "feed.dsse.json".to_owned(),
            issue.to_vec(),
        )]))
    };
    let server = FeedServer::start(files(&issue));
    let settings = block("toml").replace(
        "https://feeds.example.com",
        &format!("http://{}", server.address),
    );
    write(folder, "client.toml", &settings);
    let said = ends(folder, "stopgap feed test --config client.toml", 0);
    for step in [
        "ok      settings    dsse, the feed \"acme\"",
        "ok      name        127.0.0.1 is 127.0.0.1",
        "ok      connection  directly",
        "ok      tls         none",
        "ok      fetch       ",
        "ok      trust       signed by ",
        "ok      age         issue 1, fresh until ",
        "ok      document    1 mitigations",
        "ok      rules       ACME1.1: Applied",
    ] {
        assert!(said.contains(step), "{step} is missing: {said}");
    }
    let fails = |mode: Mode, code: i32, parts: &[&str]| {
        server.set(mode);
        let said = ends(folder, "stopgap feed test --config client.toml acme", code);
        for part in parts.iter().chain(&["what to do: ", "1 of 1 feeds failed"]) {
            assert!(said.contains(part), "{part} is missing: {said}");
        }
    };
    fails(Mode::Status(503), 1, &["FAILED  fetch", "status 503"]);
    fails(
        Mode::Answer(b"<html/>".to_vec()),
        4,
        &["FAILED  trust", "next root"],
    );
    let changed = String::from_utf8(issue).unwrap().replacen("A", "B", 1);
    fails(
        files(changed.as_bytes()),
        4,
        &["FAILED  trust", "signed by 0 of the 1"],
    );
    // One that names a site which is not there is taken, and one of its mitigations fails.
    let elsewhere =
        block("xml").replace("scope=\"Server\"", "scope=\"Site\" sg:target=\"Elsewhere\"");
    write(folder, "mitigations.xml", &elsewhere);
    ends(
        folder,
        &format!("{SIGN} --previous site/feed.dsse.json --root site/1.root.json"),
        0,
    );
    let issue = std::fs::read(folder.join("site/feed.dsse.json")).unwrap();
    fails(
        files(&issue),
        3,
        &[
            "ok      trust",
            "FAILED  rules       ACME1.1",
            "no such site",
        ],
    );
    ends(folder, "stopgap feed test --config client.toml other", 2);
    let address = server.address;
    drop(server);
    let said = ends(folder, "stopgap feed test --config client.toml", 1);
    let part = format!("FAILED  connection  no connection to {address}");
    assert!(said.contains(&part), "{said}");
}
