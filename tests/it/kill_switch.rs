//! The kill switch under load, for every kind of action, while feed, sidecar and admin side are dead.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::sidecar_process::Folder;
use crate::support::client::{Client, Lost, Reply};
use crate::support::origin::{Origin, Then};
use crate::support::process::{Daemon, run, turn};
use crate::support::product::{Product, local_link, standing};
use crate::support::proxy::eventually;
use crate::support::sidecar::Sidecar;

/// How soon everything is lifted.
const LIFTED: Duration = Duration::from_secs(1);

/// How long the load goes on behind that.
const BEYOND: Duration = Duration::from_millis(500);

/// Clients that make requests at once.
const CLIENTS: usize = 3;

/// Requests that each client has answered before the switch is thrown.
const BEFORE: usize = 24;

/// One action of every kind, and of rewrite rules every kind that acts.
const ALL: &str = r#"<Config id="M90.1" desc="Every kind."><ActionList>
<Action type="UrlRewrite" scope="Server" desc=""><Value><![CDATA[<rewrite><rules>
<rule name="abort" stopProcessing="true"><match url="^abort$"/><action type="AbortRequest"/></rule>
<rule name="refuse" stopProcessing="true"><match url="^refuse$"/>
<action type="CustomResponse" statusCode="403" statusReason="No" statusDescription="No"/></rule>
<rule name="redirect" stopProcessing="true"><match url="^redirect$"/>
<action type="Redirect" url="/elsewhere" redirectType="Found"/></rule>
<rule name="rewrite" stopProcessing="true"><match url="^rewrite$"/><action type="Rewrite" url="/rewritten"/></rule>
</rules><outboundRules>
<rule name="field"><match serverVariable="RESPONSE_X_Secret" pattern=".+"/><action type="Rewrite" value="hidden"/></rule>
<rule name="body"><match pattern="told"/><action type="Rewrite" value="kept"/></rule>
</outboundRules></rewrite>]]></Value></Action>
<Action type="Service" scope="Server" desc=""><Value>idle</Value></Action>
<Action type="AppPool" scope="Server" desc=""><Value>normal</Value></Action></ActionList></Config>"#;

/// What is asked for, one for each kind of action that shows in an answer.
const TARGETS: [&str; 6] = [
    "/abort",
    "/refuse",
    "/redirect",
    "/rewrite",
    "/app/x",
    "/plain",
];

/// Whether an answer is one without the mitigation, or one with it; nothing for one that is neither.
fn is_lifted(target: &str, answer: &Result<Reply, Lost>) -> Option<bool> {
    let reply = match (target, answer) {
        ("/abort", Err(Lost::Reset)) => return Some(false),
        (_, Ok(reply)) => reply,
        _ => return None,
    };
    let stopped = match target {
        "/refuse" => 403,
        "/redirect" => 302,
        "/app/x" => 503,
        _ => 0,
    };
    if reply.status == stopped {
        return Some(false);
    }
    let secret = (reply.field("x-secret"), reply.text());
    let text = |asked: &str, word: &str| format!("<p>{asked} {word}</p>");
    match (reply.status, secret) {
        (200, (Some("secret"), body)) if body == text(target, "told") => Some(true),
        // Response rules may still be in force for a request that no rule stops, and the other way round: each answer is
        // of one set of rules, so all of it is as with the mitigation.
        (200, (Some("hidden"), body)) => {
            let asked = if target == "/rewrite" {
                "/rewritten"
            } else {
                target
            };
            let rewritten = ["/rewrite", "/plain"].contains(&target);
            (rewritten && body == text(asked, "kept")).then_some(false)
        }
        _ => None,
    }
}

/// A request as it went.
#[derive(Debug)]
struct Went {
    target: &'static str,
    begun: Instant,
    ended: Instant,
    lifted: Option<bool>,
    /// For whoever reads of a failure.
    answer: String,
}

/// Makes one request after the other until told to stop.
fn load(address: SocketAddr, count: &AtomicUsize, stop: &AtomicBool) -> Vec<Went> {
    let mut all = Vec::new();
    let mut client = Client::connect(address);
    while !stop.load(Ordering::Relaxed) {
        for target in TARGETS {
            let begun = Instant::now();
            let answer = client.get(target, &[]);
            all.push(Went {
                target,
                begun,
                ended: Instant::now(),
                lifted: is_lifted(target, &answer),
                answer: format!("{answer:?}"),
            });
            count.fetch_add(1, Ordering::Relaxed);
            if answer.is_err() {
                client = Client::connect(address);
            }
        }
    }
    all
}

fn origin() -> Origin {
    Origin::start(|connection, seen| {
        let target = seen.target().to_owned();
        if connection.body(&seen).is_none() {
            return Then::Close;
        }
        let fields = "Content-Type: text/html\r\nX-Secret: secret\r\n";
        connection.answer("200 OK", fields, &format!("<p>{target} told</p>"));
        Then::Keep
    })
}

/// How the switch is thrown.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Throw {
    Command,
    File,
    Signal,
}

impl Throw {
    fn throw(self, product: &Product, daemon: &Daemon) {
        match self {
            Self::Command => {
                let thrown = run(&product.state(), &["kill-switch", "on"]);
                assert!(thrown.status.success(), "{thrown:?}");
            }
            Self::File => std::fs::write(product.state().join("kill-switch"), "").unwrap(),
            Self::Signal => daemon.signal("RTMIN"),
        }
    }
}

/// Throws the switch under load, with feed and sidecar dead, and `admin` too where nobody needs it.
fn thrown(throw: Throw, admin_is_dead: bool) {
    let _turn = turn();
    let (folder, own) = (Folder::new(), tempfile::tempdir().unwrap());
    let mut sidecar = Sidecar::start(own.path(), &folder.settings());
    let origin = origin();
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = match admin_is_dead {
        // Neither can be bound: somebody has the address, and the socket's folder is not there.
        true => format!(
            "address = '{}'\nsocket = '{}'\n",
            occupied.local_addr().unwrap(),
            own.path().join("none/control.sock").display()
        ),
        false => "address = '127.0.0.1:0'\n".to_owned(),
    };
    let settings = format!(
        "[[site]]\nname = 'Default Web Site'\nupstreams = ['http://{}']\n[[pool]]\nname = 'normal'\npaths = ['/app']\n{}",
        origin.address,
        local_link("127.0.0.1", own.path())
    );
    let product = Product::with_admin(&admin, &settings);
    product.publish(ALL);
    let daemon = product.start();
    eventually("the pool is stopped", || {
        folder.is("normal") == (false, true)
    });

    let (count, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (went, at) = std::thread::scope(|scope| {
        let clients = [(); CLIENTS].map(|()| scope.spawn(|| load(daemon.address, &count, &stop)));
        eventually("there is load", || {
            count.load(Ordering::Relaxed) >= CLIENTS * BEFORE
        });
        sidecar.kill();
        product.lose_feed();
        let at = Instant::now();
        throw.throw(&product, &daemon);
        // The load itself is what is watched.
        std::thread::sleep(LIFTED + BEYOND);
        stop.store(true, Ordering::Relaxed);
        let went = clients.map(|client| client.join().unwrap());
        (went.into_iter().flatten().collect::<Vec<_>>(), at)
    });
    let failed = went.iter().filter(|own| own.lifted.is_none());
    let failed: Vec<_> = failed.map(|own| (own.target, &own.answer)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for target in TARGETS {
        let own = || went.iter().filter(|own| own.target == target);
        let before: Vec<_> = own().filter(|own| own.ended < at).collect();
        assert!(
            !before.is_empty() && before.iter().all(|own| own.lifted == Some(false)),
            "{before:#?}"
        );
        let late: Vec<_> = own().filter(|own| own.begun >= at + LIFTED).collect();
        assert!(!late.is_empty(), "{target}: no request came late enough");
        let stopped: Vec<_> = late
            .iter()
            .filter(|own| own.lifted == Some(false))
            .collect();
        assert!(stopped.is_empty(), "{stopped:#?}");
    }
    // Nobody could restore the service and the pool yet, and it is said so.
    assert_eq!(folder.is("normal"), (false, true));
    if !admin_is_dead {
        let killed = product.becomes("M90.1", "KillSwitch");
        let text = standing(&killed, "127.0.0.1");
        assert!(text.starts_with("Partial: not given up yet"), "{text}");
    }
    let _sidecar = Sidecar::start(own.path(), &folder.settings());
    eventually("the pool is restored", || {
        folder.is("normal") == (true, false)
    });
    eventually("the service is restored", || {
        folder.is("idle") == (false, false)
    });
    folder.check_originals();
}

#[test]
fn file_lifts_everything_while_all_else_is_dead() {
    thrown(Throw::File, true);
}

#[test]
fn signal_lifts_everything_while_all_else_is_dead() {
    thrown(Throw::Signal, true);
}

#[test]
fn command_lifts_everything_while_feed_and_sidecar_are_dead() {
    thrown(Throw::Command, false);
}
