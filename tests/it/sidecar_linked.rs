//! The whole product: from a feed's document to services that do not run, and back.

use std::fs;
use std::path::Path;

use stopgap::model::UnixTime;

use super::sidecar_process::Folder;
use super::sidecar_remote::Identity;
use crate::support::client::Client;
use crate::support::http2::{End, Http2Client};
use crate::support::origin::Origin;
use crate::support::process::{Daemon, run};
use crate::support::product::{Product, get, local_link, standing};
use crate::support::sidecar::Sidecar;
use crate::support::systemd::{SLEEPER, Systemd};

/// A site before these servers.
fn site(upstreams: &[String]) -> String {
    format!("[[site]]\nname = 'Default Web Site'\nupstreams = {upstreams:?}\n")
}

/// A Config with rules against `/word`, a service and a pool, which it says to stop.
fn config(id: &str, attributes: &str, service: &str, pool: &str) -> String {
    format!(
        r#"<Config id="{id}" {attributes} desc="All three."><ActionList>
<Action type="UrlRewrite" scope="Server" desc="Abort"><Value><![CDATA[<rewrite><rules>
<rule name="{id} evil" stopProcessing="true"><match url="^evil$"/><action type="AbortRequest"/></rule>
</rules></rewrite>]]></Value></Action>
<Action type="Service" scope="Server" desc=""><Value>{service}</Value></Action>
<Action type="AppPool" scope="Server" desc=""><Value>{pool}</Value></Action></ActionList>
<sg:vectors><sg:stop target="/evil"/><sg:pass target="/good"/></sg:vectors></Config>"#
    )
}

/// Has the feed fetched again.
fn fetch(daemon: &Daemon) {
    daemon.signal("HUP");
}

const UNITS: [&str; 2] = ["um.service", "ecp.service"];

#[test]
fn feed_stops_units_for_as_long_as_it_says() {
    let Some(system) = Systemd::boot(
        &[("ecp.service", SLEEPER)],
        &[("um.service", SLEEPER), ("hm.service", SLEEPER)],
    ) else {
        return;
    };
    for unit in UNITS.iter().chain(&["hm.service"]) {
        assert!(system.systemctl(&["start", unit]).status.success());
    }
    let own = tempfile::tempdir().unwrap();
    let settings = format!(
        "driver = 'systemd'\nhealth_managers = ['hm']\nallow.exchange = true\n\
         [systemd]\nbus = '{}'\ndrop_in_folder = '{}'\n\
         [service.MSExchangeUM]\nunit = 'um.service'\n[pool.MSExchangeECPAppPool]\nunit = 'ecp.service'\n",
        system.bus(),
        system.run().join("systemd/system").display(),
    );
    let sidecar = Sidecar::start(own.path(), &settings);
    let origin = Origin::answering("served");
    let upstream = format!("http://{}", origin.address);
    let product = Product::new(&(site(&[upstream]) + &local_link("127.0.0.1", own.path())));
    let daemon = product.start();
    assert_eq!([get(&daemon, "/ecp/x"), get(&daemon, "/evil")], [200, 200]);
    let began = stopgap::app::now();

    let published = all_three_are_proven(&system, &sidecar, &product, &daemon);
    let withdrawn = all_three_are_restored(&system, &sidecar, &product, &daemon);
    let [both, one, gone] = shared_pool_is_held_to_the_end(&system, &product, &daemon);

    // Each transition, with the document that was in force then.
    let history = History {
        began,
        state: product.state(),
    };
    history.tells(
        "M90.1",
        &[
            ("Applied", &published),
            ("Withdrawn", &withdrawn),
            ("NotOffered", &both),
        ],
    );
    history.tells(
        "M92.1",
        &[
            ("Applied", &both),
            ("Withdrawn", &one),
            ("NotOffered", &gone),
        ],
    );
    history.tells("M91.1", &[("Applied", &both), ("NotOffered", &gone)]);
}

fn all(id: &str, attributes: &str) -> String {
    config(id, attributes, "MSExchangeUM", "MSExchangeECPAppPool")
}

/// From publication to rules that are proven, and a service and a pool that are read back as stopped.
fn all_three_are_proven(
    system: &Systemd,
    sidecar: &Sidecar,
    product: &Product,
    daemon: &Daemon,
) -> String {
    let digest = product.publish(&all("M90.1", ""));
    fetch(daemon);
    let applied = product.mitigation("M90.1", |found| {
        let reason = found["reason"].as_str().unwrap();
        found["state"] == "Applied" && reason.starts_with("proven at ")
    });
    assert_eq!(standing(&applied, "127.0.0.1"), "Applied: ");
    let reports = sidecar.state();
    // The service, the pool, and the health manager that would start them again.
    assert_eq!(reports.len(), 3, "{reports:?}");
    for report in reports {
        assert!(report.original.running, "{report:?}");
        let current = report.current.as_ref().expect("it is there");
        assert!(!current.running && report.problem.is_none(), "{report:?}");
    }
    for unit in UNITS {
        assert!(!system.is_active(unit), "{unit} runs");
        let started = system.systemctl(&["start", unit]);
        assert!(!started.status.success(), "{unit} could be started");
    }
    assert!(!system.is_active("hm.service"), "the health manager runs");
    let refused = Client::connect(daemon.address)
        .get("/ECP/x?a", &[])
        .unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("reason: pool-stopped"));
    assert!(refused.field("retry-after").is_some() && refused.field("x-request-id").is_some());
    let served = ["/owa/x", "/evil", "/owa/%2e%2e/ecp/x"].map(|target| get(daemon, target));
    assert_eq!(served, [200, 0, 503]);
    digest
}

fn all_three_are_restored(
    system: &Systemd,
    sidecar: &Sidecar,
    product: &Product,
    daemon: &Daemon,
) -> String {
    let digest = product.publish(&all("M90.1", "sg:withdrawn=\"true\""));
    fetch(daemon);
    product.becomes("M90.1", "Withdrawn");
    product.is_given_up("M90.1");
    for unit in UNITS.iter().chain(&["hm.service"]) {
        assert!(system.is_active(unit), "{unit} does not run");
        assert!(
            system.systemctl(&["restart", unit]).status.success(),
            "{unit}"
        );
    }
    assert!(sidecar.state().is_empty());
    assert_eq!([get(daemon, "/ecp/x"), get(daemon, "/evil")], [200, 200]);
    digest
}

/// A second mitigation holds the same pool, so that the first gives up only what is its own.
fn shared_pool_is_held_to_the_end(
    system: &Systemd,
    product: &Product,
    daemon: &Daemon,
) -> [String; 3] {
    let second = r#"<Config id="M91.1" desc=""><ActionList><Action type="AppPool" scope="Server" desc="">
<Value>MSExchangeECPAppPool</Value></Action></ActionList></Config>"#;
    let both = product.publish(&(all("M92.1", "") + second));
    fetch(daemon);
    product.becomes("M92.1", "Applied");
    product.becomes("M91.1", "Applied");
    let one = product.publish(&(all("M92.1", "sg:withdrawn=\"true\"") + second));
    fetch(daemon);
    product.becomes("M92.1", "Withdrawn");
    product.is_given_up("M92.1");
    assert!(system.is_active("um.service") && !system.is_active("ecp.service"));
    assert!(
        !system.is_active("hm.service"),
        "one mitigation still holds it"
    );
    assert_eq!([get(daemon, "/ecp/x"), get(daemon, "/evil")], [503, 200]);

    // What is not offered any more is given up as well.
    let gone = product.publish("");
    fetch(daemon);
    eventually_active(system, &["um.service", "ecp.service", "hm.service"]);
    assert_eq!([get(daemon, "/ecp/x"), get(daemon, "/evil")], [200, 200]);
    for unit in UNITS {
        assert!(system.systemctl(&["restart", unit]).status.success());
    }
    [both, one, gone]
}

/// What an operator reads of the time since the test began.
struct History {
    began: UnixTime,
    state: std::path::PathBuf,
}

impl History {
    /// Expects these states of a mitigation, each with the digest of its document, and between them nothing but what the
    /// sidecar had not done yet, which has a reason.
    fn tells(&self, id: &str, expected: &[(&str, &String)]) {
        let output = run(&self.state, &["mitigation", "history", id, "-o", "json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
        let (mut before, mut time) = (String::new(), self.began);
        let mut found = Vec::new();
        let mut waiting: Vec<String> = Vec::new();
        for row in &rows {
            assert_eq!(text(row, "id"), id);
            assert_eq!(text(row, "source"), "test");
            assert_eq!(text(row, "before"), before, "{rows:#?}");
            let at = UnixTime::parse_rfc3339(&text(row, "time")).unwrap();
            assert!(time <= at && at <= stopgap::app::now(), "{rows:#?}");
            assert!(text(row, "revision").parse::<u64>().unwrap() > 0);
            (before, time) = (text(row, "state"), at);
            let (state, reason, digest) =
                (text(row, "state"), text(row, "reason"), text(row, "digest"));
            if state == "Partial" {
                assert!(reason.contains("127.0.0.1"), "{rows:#?}");
                waiting.push(digest);
                continue;
            }
            assert_eq!(reason, "", "{rows:#?}");
            // It waited for the document that it was put in force for.
            assert!(
                waiting.drain(..).all(|waited| waited == digest),
                "{rows:#?}"
            );
            found.push((state, digest));
        }
        let expected: Vec<(String, String)> = expected
            .iter()
            .map(|(state, digest)| ((*state).to_owned(), (*digest).clone()))
            .collect();
        assert_eq!(found, expected, "{rows:#?}");
    }
}

fn eventually_active(system: &Systemd, units: &[&str]) {
    let is_active = || units.iter().all(|unit| system.is_active(unit));
    crate::support::proxy::eventually("every unit runs again", is_active);
}

/// A remote sidecar's settings, and the proxy's for it.
struct Remote {
    sidecar: String,
    proxy: Identity,
    own: Identity,
}

impl Remote {
    fn new(folder: &Path, address: &str, rest: &str) -> Self {
        let [own, proxy] = ["sidecar", "proxy"].map(|name| Identity::new(folder, name));
        let (certificate, key) = (own.files.certificate.display(), own.files.key.display());
        let sidecar = format!(
            "{rest}\n[tls]\naddress = '{address}'\ncertificate = '{certificate}'\nkey = '{key}'\npins = ['{}']\n",
            proxy.hex()
        );
        Self {
            sidecar,
            proxy,
            own,
        }
    }

    fn link(&self, server: &str, address: std::net::SocketAddr) -> String {
        format!(
            "[[sidecar]]\nserver = '{server}'\naddress = '{address}'\ncertificate = '{}'\nkey = '{}'\n\
             pins = ['{}']\ndeadline = '20s'\n",
            self.proxy.files.certificate.display(),
            self.proxy.files.key.display(),
            self.own.hex(),
        )
    }
}

#[test]
fn each_server_stands_for_itself() {
    let (near, far) = (Folder::new(), Folder::new());
    let (near_own, far_own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _near_sidecar = Sidecar::start(near_own.path(), &near.settings());
    let remote = Remote::new(far_own.path(), "127.0.0.1:0", &far.settings());
    let mut far_sidecar = Sidecar::start_anywhere(far_own.path(), &remote.sidecar);
    let address = far_sidecar.address.unwrap();
    // The same port again after a restart.
    let again = remote.sidecar.replace("127.0.0.1:0", &address.to_string());
    let origin = Origin::answering("served");
    let port = origin.address.port();
    let upstreams = [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
    ];
    let links = local_link("127.0.0.1", near_own.path()) + &remote.link("localhost", address);
    let product = Product::new(&(site(&upstreams) + &links));
    let daemon = product.start();

    let first = config("M90.1", "", "idle", "normal");
    product.publish(&first);
    fetch(&daemon);
    let applied = product.becomes("M90.1", "Applied");
    for (server, folder) in [("127.0.0.1", &near), ("localhost", &far)] {
        assert_eq!(standing(&applied, server), "Applied: ");
        assert_eq!([folder.is("idle"), folder.is("normal")], [(false, true); 2]);
        assert_eq!(folder.is("orphan"), (true, true), "nobody asked for it");
    }

    far_sidecar.kill();
    let second = config("M91.1", "", "orphan", "orphan");
    product.publish(&(first.clone() + &second));
    fetch(&daemon);
    let partial = product.mitigation("M91.1", |found| {
        let near = found["servers"].as_array().is_some_and(|servers| {
            let mut servers = servers.iter();
            servers.any(|one| one["server"] == "127.0.0.1" && one["state"] == "Applied")
        });
        near && found["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("localhost: the sidecar cannot be reached"))
    });
    assert_eq!(partial["state"], "Partial");
    assert!(standing(&partial, "localhost").starts_with("Partial: the sidecar cannot be reached"));
    assert_eq!(
        [near.is("orphan"), far.is("orphan")],
        [(false, true), (true, true)]
    );
    // The request path has not noticed.
    assert_eq!([get(&daemon, "/good"), get(&daemon, "/evil")], [200, 0]);

    // Withdrawn while one server cannot be reached: the other gives up at once.
    product
        .publish(&(first.replace("id=\"M90.1\"", "id=\"M90.1\" sg:withdrawn=\"true\"") + &second));
    fetch(&daemon);
    let withdrawn = product.mitigation("M90.1", |found| {
        let servers = found["servers"].as_array().unwrap();
        found["state"] == "Withdrawn" && servers.len() == 1
    });
    assert!(
        standing(&withdrawn, "localhost").starts_with("Partial: not given up yet"),
        "{withdrawn:#}"
    );
    assert_eq!(
        [near.is("normal"), far.is("normal")],
        [(true, false), (false, true)]
    );

    let _far_sidecar = Sidecar::start_anywhere(far_own.path(), &again);
    product.becomes("M91.1", "Applied");
    product.is_given_up("M90.1");
    assert_eq!(
        [far.is("normal"), far.is("orphan")],
        [(true, false), (false, true)]
    );

    product.publish("");
    fetch(&daemon);
    let settled = || {
        [&near, &far]
            .iter()
            .all(|folder| folder.is("orphan") == (true, true))
    };
    crate::support::proxy::eventually("both servers are as before", settled);
    near.check_originals();
    far.check_originals();
    let servers = product.status()["servers"].clone();
    assert_eq!(servers[1]["driver"], "command", "{servers:#}");
}

#[test]
fn kill_switch_waits_for_no_sidecar() {
    let folder = Folder::new();
    let own = tempfile::tempdir().unwrap();
    let mut sidecar = Sidecar::start(own.path(), &folder.settings());
    let origin = Origin::answering("served");
    let upstream = format!("http://{}", origin.address);
    let pool = "[[pool]]\nname = 'normal'\npaths = ['/app']\n";
    let product = Product::new(&(site(&[upstream]) + &local_link("127.0.0.1", own.path()) + pool));
    product.publish(&config("M90.1", "", "idle", "normal"));
    let daemon = product.start();
    product.becomes("M90.1", "Applied");
    assert_eq!(
        [get(&daemon, "/app/x"), get(&daemon, "/application")],
        [503, 200]
    );

    sidecar.kill();
    // As an operator without the program would.
    fs::write(product.state().join("kill-switch"), "").unwrap();
    let killed = product.mitigation("M90.1", |found| {
        let reason = found["reason"].as_str().unwrap();
        found["state"] == "KillSwitch" && reason.contains("not given up yet")
    });
    assert!(
        standing(&killed, "127.0.0.1").starts_with("Partial"),
        "{killed:#}"
    );
    assert_eq!([get(&daemon, "/app/x"), get(&daemon, "/evil")], [200, 200]);
    assert_eq!(
        folder.is("normal"),
        (false, true),
        "nobody could restore it yet"
    );

    let _sidecar = Sidecar::start(own.path(), &folder.settings());
    product.is_given_up("M90.1");
    folder.check_originals();
    fs::remove_file(product.state().join("kill-switch")).unwrap();
    product.becomes("M90.1", "Applied");
    assert_eq!(get(&daemon, "/app/x"), 503);
}

/// The proxy answers 503 before any sidecar has done anything, and without one.
#[test]
fn paths_of_a_stopped_pool_are_refused_without_a_sidecar() {
    let origin = Origin::answering("served");
    let upstream = format!("http://{}", origin.address);
    let decisions = tempfile::NamedTempFile::new().unwrap();
    let log = format!("[log]\ndecisions = '{}'\n", decisions.path().display());
    let product = Product::new(&(site(&[upstream]) + &log));
    let pool = |id: &str, pool: &str, attributes: &str| {
        format!(
            "<Config id=\"{id}\" desc=\"\"><ActionList><Action type=\"AppPool\" scope=\"Server\" desc=\"\" {attributes}>\
             <Value>{pool}</Value></Action></ActionList></Config>"
        )
    };
    let silent = "sg:proxy503=\"false\"";
    product.publish(
        &(pool("M90.1", "MSExchangeServicesAppPool", "")
            + &pool("M91.1", "MSExchangeOABAppPool", silent)
            + &pool("M92.1", "Unheard", "")),
    );
    let daemon = product.start();
    let partial = product.becomes("M90.1", "Partial");
    assert_eq!(
        partial["reason"],
        "no sidecar configured: application pool MSExchangeServicesAppPool"
    );
    for (target, status) in [
        ("/EWS/Exchange.asmx", 503),
        ("/%65ws", 503),
        ("/ewsx", 200),
        ("/OAB/x", 200),
    ] {
        assert_eq!(get(&daemon, target), status, "{target}");
    }
    let partial = product.becomes("M90.1", "Partial");
    assert_eq!(partial["hits"], 2);
    let unheard = product.becomes("M92.1", "Partial");
    let warning = unheard["warning"].as_str().unwrap();
    assert!(warning.contains("[[pool]]"), "{warning}");
    assert!(daemon.stop().success());
    let lines = fs::read_to_string(decisions.path()).unwrap();
    // Workers write their lines as they come to it.
    let line = lines.lines().find(|line| line.contains("/EWS/")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    for (name, value) in [
        ("action", "paused"),
        ("pool", "MSExchangeServicesAppPool"),
        ("mitigation", "M90.1"),
        ("source", "test"),
        ("target", "/EWS/Exchange.asmx"),
    ] {
        assert_eq!(line[name], value, "{line:#}");
    }
    assert_eq!(line["status"], 503);
}

/// A stream is answered like any request, and the others of its connection live on.
#[test]
fn paths_of_a_stopped_pool_are_refused_over_http2() {
    let origin = Origin::answering("served");
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\nhttp2 = true\n";
    let upstream = format!("http://{}", origin.address);
    let product = Product::new(&(site(&[upstream]) + listener));
    let config = |attributes: &str| {
        format!(
            "<Config id=\"M90.1\" {attributes} desc=\"\"><ActionList><Action type=\"AppPool\" scope=\"Server\" desc=\"\">\
             <Value>MSExchangeECPAppPool</Value></Action></ActionList></Config>"
        )
    };
    product.publish(&config(""));
    let daemon = product.start();
    product.becomes("M90.1", "Partial");
    let listening = daemon.greeting.iter();
    let mut listening = listening.filter_map(|line| line.split_once("listening on http://"));
    let address = listening.next_back().unwrap().1.split_whitespace().next();
    let mut client = Http2Client::connect(address.unwrap().parse().unwrap(), &[]);
    let End::Answered { status, body } = client.get(1, "/ECP/x?a", &[]) else {
        panic!("no answer");
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(status, 503);
    assert!(text.contains("reason: pool-stopped"), "{text}");
    let served = End::Answered {
        status: 200,
        body: b"served".to_vec(),
    };
    assert_eq!(client.get(3, "/owa/x", &[]), served);
    assert_eq!(origin.connections(), 1);
    product.publish(&config("sg:withdrawn=\"true\""));
    fetch(&daemon);
    product.becomes("M90.1", "Withdrawn");
    assert_eq!(client.get(5, "/ecp/x", &[]), served);
}

/// A sidecar and a pool that settings name later are taken up while the proxy runs.
#[test]
fn sidecars_and_pools_are_taken_up_by_a_reload() {
    let (folder, own) = (Folder::new(), tempfile::tempdir().unwrap());
    let _sidecar = Sidecar::start(own.path(), &folder.settings());
    let origin = Origin::answering("served");
    let site = site(&[format!("http://{}", origin.address)]);
    let product = Product::new(&site);
    product.publish(&config("M90.1", "", "idle", "normal"));
    let daemon = product.start();
    let partial = product.becomes("M90.1", "Partial");
    let reason = partial["reason"].as_str().unwrap();
    assert!(reason.starts_with("no sidecar configured"), "{reason}");
    assert_eq!(get(&daemon, "/app/x"), 200);

    let pool = "[[pool]]\nname = 'normal'\npaths = ['/app']\n";
    product.set(&(site.clone() + &local_link("127.0.0.1", own.path()) + pool));
    product.reload();
    product.becomes("M90.1", "Applied");
    assert_eq!(folder.is("normal"), (false, true));
    assert_eq!(get(&daemon, "/app/x"), 503);

    product.set(&site);
    product.reload();
    let told = daemon.logged("keeps stopped what it holds");
    assert!(told.contains("the sidecar of 127.0.0.1"), "{told}");
    product.becomes("M90.1", "Partial");
    assert_eq!(get(&daemon, "/app/x"), 200);
}

/// How often something is killed; the whole check asks for more.
fn rounds() -> u64 {
    let asked = std::env::var("STOPGAP_KILLS").ok();
    asked.map_or(24, |rounds| rounds.parse().unwrap())
}

/// The proxy, its sidecar, or both are killed while they apply or give up; nothing is ever lost.
#[test]
fn kills_at_random_moments_leave_everything_restorable() {
    let _turn = crate::support::process::turn();
    let folder = Folder::new();
    let own = tempfile::tempdir().unwrap();
    let origin = Origin::answering("served");
    let upstream = format!("http://{}", origin.address);
    let product = Product::new(&(site(&[upstream]) + &local_link("127.0.0.1", own.path())));
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut draw = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let settings = folder.settings();
    let (mut sidecar, mut daemon) = (Sidecar::start(own.path(), &settings), product.start());
    for round in 0..rounds() {
        // Each time another one, so that what is said of it cannot be old.
        let id = format!("M90.{round}");
        product.publish(&match round % 2 {
            0 => config(&id, "", "normal", "orphan"),
            _ => String::new(),
        });
        fetch(&daemon);
        // The moment of the kill is what is drawn: nothing to await.
        std::thread::sleep(std::time::Duration::from_micros(draw(60_000)));
        let victims = draw(3);
        if victims != 1 {
            sidecar.kill();
            // No journal is unreadable, or this does not start.
            sidecar = Sidecar::start(own.path(), &settings);
        }
        if victims != 0 {
            daemon.kill();
            daemon = product.start();
        }
        if round % 8 == 7 {
            product.publish(&config(&id, "", "normal", "orphan"));
            fetch(&daemon);
            product.becomes(&id, "Applied");
            assert_eq!(
                [folder.is("normal"), folder.is("orphan")],
                [(false, true); 2]
            );
            product.publish("");
            fetch(&daemon);
            let settled = || sidecar.state().is_empty();
            crate::support::proxy::eventually("everything is given up", settled);
            folder.check_originals();
        }
    }
}
