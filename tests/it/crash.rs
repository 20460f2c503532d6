//! Killed at any moment, the proxy comes back at once with the last good rules, feed or no feed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::tempdir;

use crate::support::client::{Client, Lost};
use crate::support::process::{Daemon, replace_file, stopgap, turn};
use crate::support::signer::Publisher;

/// How often the process is killed.
const KILLS: u32 = 200;
/// Time within which it must listen again.
const RESTART: Duration = Duration::from_secs(1);

fn document(word: &str) -> String {
    format!(
        r#"<EOCS version="1.0.4" xmlns:sg="urn:stopgap:feed:1"><Config id="M70.1" desc="Stops {word}.">
<ActionList><Action type="UrlRewrite" scope="Server" desc="Abort"><Value><![CDATA[<rewrite><rules>
<rule name="{word}" stopProcessing="true"><match url="^{word}$"/><action type="AbortRequest"/></rule>
</rules></rewrite>]]></Value></Action></ActionList>
<sg:vectors><sg:stop target="/{word}"/><sg:pass target="/other"/></sg:vectors></Config></EOCS>"#
    )
}

/// Which of the two documents is enforced.
fn enforced(daemon: &Daemon) -> Vec<&'static str> {
    let stops = |word: &&str| {
        let reply = Client::connect(daemon.address).get(&format!("/{word}"), &[]);
        match reply {
            Err(lost) => lost == Lost::Reset,
            Ok(_) => false,
        }
    };
    ["first-attack", "second-attack"]
        .into_iter()
        .filter(stops)
        .collect()
}

fn start(state: &Path, config: &Path) -> Daemon {
    Daemon::from_command(stopgap(
        state,
        &["run", "--config", config.to_str().unwrap()],
    ))
}

#[test]
fn killed_at_random_moments_it_restarts_with_the_last_good_rules() {
    let _turn = turn();
    let (state, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let publisher = Publisher::new();
    let documents = ["first-attack", "second-attack"]
        .map(|word| String::from_utf8(publisher.sign(&document(word))).unwrap());
    let (feed, away) = (
        folder.path().join("feed.xml"),
        folder.path().join("away.xml"),
    );
    let root = folder.path().join("root.der");
    fs::write(&root, publisher.root_der()).unwrap();
    let config = folder.path().join("stopgap.toml");
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\n[admin]\naddress = \"127.0.0.1:0\"\n[[feed]]\nname = \"test\"\n\
         url = \"file://{}\"\ntrust = \"xmldsig-x509\"\nroots = [{:?}]\n",
        feed.display(),
        root.to_str().unwrap()
    );
    fs::write(&config, text).unwrap();

    replace_file(&feed, &documents[0]);
    let daemon = start(state.path(), &config);
    daemon.logged("M70.1");
    daemon.kill();

    let mut slowest = Duration::ZERO;
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for round in 0..KILLS {
        // With the feed up: a new document is fetched, kept and enforced while the kill comes.
        let daemon = start(state.path(), &config);
        replace_file(&feed, &documents[usize::try_from(round + 1).unwrap() % 2]);
        daemon.signal("HUP");
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // The moment of the kill is what is drawn: nothing to await.
        std::thread::sleep(Duration::from_micros((random >> 33) % 30_000));
        daemon.kill();

        // With the feed down.
        fs::rename(&feed, &away).unwrap();
        let daemon = start(state.path(), &config);
        slowest = slowest.max(daemon.start);
        assert!(daemon.start < RESTART, "round {round}: {:?}", daemon.start);
        assert_eq!(enforced(&daemon).len(), 1, "round {round}");
        daemon.kill();
        fs::rename(&away, &feed).unwrap();
    }
    println!("{KILLS} kills, slowest restart {slowest:?}");
}
