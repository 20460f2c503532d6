//! Unix sockets on both sides: listeners with their files, and servers behind.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use stopgap::net::ListenAddress;
use stopgap::proxy::{HealthCheck, Limits, Listener, Server, Upstream};

use crate::support::client::{Client, Lost};
use crate::support::origin::{Origin, Then};
use crate::support::process::{Daemon, run, stopgap};
use crate::support::proxy::{Builder, before, block_on, eventually, serving};

fn at(builder: Builder, path: &Path) -> Builder {
    let address = ListenAddress::Unix(path.to_owned());
    builder.config(|config| config.listeners[0] = Listener::plain(address))
}

fn server(path: &Path) -> Upstream {
    let url = format!("unix:{}", path.display());
    Upstream::Servers([url.parse::<Server>().unwrap()].into_iter().collect())
}

/// A server that answers each request with its target.
fn echo(path: &Path) -> Origin {
    Origin::start_unix(path, |connection, seen| {
        let target = seen.target().to_owned();
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        connection.answer("200 OK", "", &target);
        Then::Keep
    })
}

#[test]
fn requests_go_from_socket_to_socket_on_connections_that_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (front, back) = (folder.path().join("front"), folder.path().join("back"));
    let origin = echo(&back);
    let proxy = at(serving(server(&back)), &front).start();
    let mut client = Client::connect_unix(&front).unwrap();
    let body = vec![b'x'; 300_000];
    for target in ["/a", "/b"] {
        let reply = client.request("POST", target, &[], &body).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, target));
        let seen = origin.next();
        assert_eq!(seen.body.as_ref().map(Vec::len), Some(body.len()));
        // Nobody on a Unix socket has an address.
        assert_eq!(seen.values("x-forwarded-for"), ["unknown"]);
    }
    assert_eq!(origin.connections(), 1);
    drop(proxy);
    assert!(!front.exists());
}

#[test]
fn whoever_connects_to_a_socket_may_be_a_proxy_that_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let front = folder.path().join("front");
    let origin = Origin::answering("hello");
    let fields = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
    ];
    let proxy = at(before(&[&origin]), &front)
        .config(|config| config.listeners[0].trusted.unix = true)
        .start();
    let mut client = Client::connect_unix(&front).unwrap();
    assert_eq!(client.get("/", &fields).unwrap().status, 200);
    let seen = origin.next();
    assert_eq!(seen.values("x-forwarded-for"), ["192.0.2.1, unknown"]);
    assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
    drop((client, proxy));

    let proxy = at(before(&[&origin]), &front)
        .config(|config| config.listeners[0].proxies.unix = true)
        .start();
    let mut client = Client::connect_unix(&front).unwrap();
    client
        .send(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r\n")
        .unwrap();
    assert_eq!(client.get("/", &fields).unwrap().status, 200);
    assert_eq!(origin.next().values("x-forwarded-for"), ["192.0.2.7"]);
    drop(proxy);
}

#[test]
fn abort_closes_a_socket_without_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let front = folder.path().join("front");
    let origin = Origin::answering("hello");
    let rule = r#"<rule name="r"><match url="^evil" /><action type="AbortRequest" /></rule>"#;
    let _proxy = at(before(&[&origin]), &front).rules(rule).start();
    let ended = Client::connect_unix(&front).unwrap().get("/evil", &[]);
    assert!(
        matches!(ended, Err(Lost::Closed | Lost::Reset)),
        "{ended:?}"
    );
    assert!(origin.others().is_empty());
}

#[test]
fn server_that_is_away_gives_502_and_is_checked_as_others_are() {
    let folder = tempfile::tempdir().unwrap();
    let back = folder.path().join("back");
    let proxy = serving(server(&back)).start();
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 502);
    let origin = echo(&back);
    // It rests for a moment, but is the only one.
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
    drop(proxy);
    let mut upstream = server(&back);
    if let Upstream::Servers(group) = &mut upstream {
        let mut check = HealthCheck::of("/health");
        check.interval = Duration::from_millis(10);
        group.health = Some(check);
    }
    let proxy = serving(upstream).start();
    eventually("the server is checked", || {
        proxy.running.upstreams()[0].servers[0].state == "up"
    });
    let asked = |seen: crate::support::origin::Seen| seen.target().to_owned();
    let targets: Vec<String> = origin.others().into_iter().map(asked).collect();
    assert!(targets.contains(&"/health".to_owned()), "{targets:?}");
}

#[test]
fn files_of_the_dead_give_way_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let front = folder.path().join("front");
    let origin = Origin::answering("hello");
    drop(UnixListener::bind(&front).unwrap());
    assert!(front.exists());
    let proxy = at(before(&[&origin]), &front)
        .config(|config| config.listeners[0].mode = Some(0o600))
        .start();
    let mode = front.symlink_metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let fail = || {
        let config = at(before(&[&origin]), &front).config;
        let handle = proxy.handle.clone();
        let bound = stopgap::proxy::Proxy::bind(config, handle, &Default::default());
        let error = bound.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        (error.to_string(), cause)
    };
    let (said, _) = fail();
    assert!(
        said.contains(&format!("unix:{}", front.display())),
        "{said}"
    );
    let mut client = Client::connect_unix(&front).unwrap();
    assert_eq!(client.get("/", &[]).unwrap().status, 200);
    // A settings change keeps the socket, and may open it to others.
    let mut config = at(before(&[&origin]), &front).config;
    config.listeners[0].mode = Some(0o666);
    config.limits = Limits::default();
    let next = proxy.running.successor(config).unwrap().start().unwrap();
    block_on(proxy.running.drain(Duration::from_secs(20)));
    let mode = front.symlink_metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    let mut client = Client::connect_unix(&front).unwrap();
    assert_eq!(client.get("/", &[]).unwrap().status, 200);
    drop(next);
    assert!(!front.exists());
    std::fs::write(&front, "mine").unwrap();
    assert!(fail().1.contains("left alone"));
    assert_eq!(std::fs::read(&front).unwrap(), b"mine");
}

#[test]
fn next_process_has_the_socket_and_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let front = folder.path().join("front");
    let settings = folder.path().join("stopgap.toml");
    let listeners = format!("['127.0.0.1:0', 'unix:{}']", front.display());
    std::fs::write(
        &settings,
        format!("listen = {listeners}\n[admin]\naddress = '127.0.0.1:0'\n"),
    )
    .unwrap();
    let state = folder.path().join("state");
    let arguments = ["run", "--config", settings.to_str().unwrap()];
    let daemon = Daemon::from_command(stopgap(&state, &arguments));
    let get = || {
        Client::connect_unix(&front)
            .unwrap()
            .get("/", &[])
            .unwrap()
            .status
    };
    assert_eq!(get(), 200);
    // A process that cannot start harms nothing.
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, "wrokers = 1\n").unwrap();
    daemon.signal("USR2");
    daemon.logged("no next process serves");
    assert_eq!(get(), 200);
    std::fs::write(&settings, text).unwrap();
    daemon.signal("USR2");
    let told = daemon.logged("the next process serves");
    let next: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(daemon.wait().success());
    assert_eq!(get(), 200);
    let next = next["fields"]["process"].as_u64().unwrap().to_string();
    eventually("the next process answers", || {
        run(&state, &["status"]).status.success()
    });
    let ended = std::process::Command::new("kill")
        .args(["-TERM", &next])
        .status()
        .unwrap();
    assert!(ended.success());
    eventually("the file goes with the last process", || !front.exists());
}
