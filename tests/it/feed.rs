//! Feeds over real sockets: what arrives, what is refused, and what survives a restart.

use std::time::Duration;

use base64::Engine;
use http::Uri;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use stopgap::feed::{FORMER, Feed, FeedConfig, REDIRECT_LIMIT, Trust, fetch};
use stopgap::model::UnixTime;
use stopgap::signature::XmlDsigPolicy;
use stopgap::store::StateDir;
use stopgap::telemetry::AlarmKind;

use crate::support::feed_server::{FeedServer, Mode, TunnelProxy};
use crate::support::signer::{Options, Publisher};

const DOCUMENT: &[u8] = b"<EOCS version=\"1.0\"/>";

fn config(url: &str) -> FeedConfig {
    FeedConfig::new("test", url.parse().unwrap(), Trust::MicrosoftEocs)
}

#[tokio::test]
async fn document_arrives_as_it_is() {
    let server = FeedServer::start(Mode::Answer(DOCUMENT.to_vec()));
    let bytes = fetch(&config(&server.url())).await.unwrap();
    assert_eq!(bytes, DOCUMENT);
    let request = server.request();
    assert!(
        request.starts_with("GET /feed.xml HTTP/1.1\r\n"),
        "{request}"
    );
    let lower = request.to_ascii_lowercase();
    assert!(
        lower.contains(&format!("host: {}\r\n", server.address)),
        "{request}"
    );
    assert!(lower.contains("accept-encoding: identity\r\n"), "{request}");
}

#[tokio::test]
async fn each_way_to_fail_is_told_apart() {
    let document = vec![b' '; 10_000];
    let cases = [
        (Mode::Truncated(document.clone()), "cut short"),
        (Mode::TruncatedChunks(document.clone()), "cut short"),
        (Mode::Endless, "larger than 20000 bytes"),
        (Mode::Answer(vec![b' '; 20_001]), "larger than 20000 bytes"),
        (Mode::Slow(document.clone()), "not fetched within 0.3 s"),
        (Mode::Silent, "not fetched within 0.3 s"),
        (Mode::Status(404), "status 404"),
        (Mode::Status(206), "status 206"),
        (Mode::Encoded("gzip", document.clone()), "as \"gzip\""),
        (
            Mode::RedirectTo("http://127.0.0.1:9/feed.xml".into()),
            "redirected to http://127.0.0.1:9/feed.xml",
        ),
        (Mode::RedirectTo("/again".into()), "more than 5 times"),
    ];
    let server = FeedServer::start(Mode::Silent);
    let mut config = config(&server.url());
    config.size_limit = 20_000;
    for (mode, reason) in cases {
        config.deadline = match reason.contains("not fetched within") {
            true => Duration::from_millis(300),
            false => Duration::from_secs(30),
        };
        server.set(mode.clone());
        let error = fetch(&config).await.unwrap_err().explain();
        let shown = format!("{mode:?}").chars().take(40).collect::<String>();
        assert!(error.contains(reason), "{shown}: {error}");
    }
    // Both sides of the limit.
    server.set(Mode::Answer(vec![b' '; 20_000]));
    assert_eq!(fetch(&config).await.unwrap().len(), 20_000);
    server.set(Mode::Encoded("identity", document));
    assert_eq!(fetch(&config).await.unwrap().len(), 10_000);
}

#[tokio::test]
async fn redirections_are_counted() {
    let server = FeedServer::start(Mode::RedirectTo("/again".into()));
    fetch(&config(&server.url())).await.unwrap_err();
    for _ in 0..=REDIRECT_LIMIT {
        server.request();
    }
    server.set(Mode::Answer(DOCUMENT.to_vec()));
    fetch(&config(&server.url())).await.unwrap();
    let request = server.request();
    assert!(
        request.starts_with("GET /feed.xml "),
        "one too many: {request}"
    );
}

#[tokio::test]
async fn closed_port_is_told_with_its_address() {
    let address = FeedServer::start(Mode::Silent).address;
    let error = fetch(&config(&format!("http://{address}/")))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn plain_requests_name_the_whole_url_to_a_proxy() {
    let proxy = FeedServer::start(Mode::Answer(DOCUMENT.to_vec()));
    let mut config = config("http://feed.invalid/feed.xml");
    config.proxy = Some(format!("http://{}", proxy.address).parse::<Uri>().unwrap());
    assert_eq!(fetch(&config).await.unwrap(), DOCUMENT);
    let request = proxy.request();
    assert!(
        request.starts_with("GET http://feed.invalid/feed.xml HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request
            .to_ascii_lowercase()
            .contains("host: feed.invalid\r\n")
    );
}

/// A certificate for `feed.test`, its key, and the PEM file that makes it trusted.
fn identity() -> (ServerConfig, tempfile::NamedTempFile) {
    let made = rcgen::generate_simple_self_signed(vec!["feed.test".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(made.cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    std::fs::write(file.path(), pem).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let tls = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (tls, file)
}

#[tokio::test]
async fn secure_feed_through_a_tunnel_is_checked_against_the_configured_authorities() {
    let (tls, authorities) = identity();
    let server = FeedServer::start_secure(Mode::Answer(DOCUMENT.to_vec()), tls);
    let through = |host: &str| {
        let proxy = TunnelProxy::start(server.address, None);
        let mut config = config(&format!("https://{host}/feed.xml"));
        config.proxy = Some(format!("http://{}", proxy.address).parse::<Uri>().unwrap());
        (proxy, config)
    };
    let (_proxy, unknown) = through("feed.test");
    let error = fetch(&unknown).await.unwrap_err().explain();
    assert!(error.contains("no TLS with feed.test"), "{error}");

    let (proxy, mut known) = through("feed.test");
    known.ca_file = Some(authorities.path().to_owned());
    assert_eq!(fetch(&known).await.unwrap(), DOCUMENT);
    let asked = proxy.asked();
    assert!(
        asked.starts_with("CONNECT feed.test:443 HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(server.request().starts_with("GET /feed.xml HTTP/1.1\r\n"));

    let (_proxy, mut other) = through("other.test");
    other.ca_file = Some(authorities.path().to_owned());
    let error = fetch(&other).await.unwrap_err().explain();
    assert!(error.contains("no TLS with other.test"), "{error}");
}

#[tokio::test]
async fn proxy_that_refuses_is_told_apart() {
    let proxy = TunnelProxy::start("127.0.0.1:9".parse().unwrap(), Some(407));
    let mut config = config("https://feed.test/feed.xml");
    config.proxy = Some(format!("http://{}", proxy.address).parse::<Uri>().unwrap());
    let error = fetch(&config).await.unwrap_err().explain();
    assert!(
        error.contains("the proxy refused to connect with status 407"),
        "{error}"
    );
}

/// A moment at which the publishers' certificates are valid.
const NOW: UnixTime = UnixTime::new(1_795_000_000);

fn later(seconds: u64) -> UnixTime {
    UnixTime::new(NOW.seconds() + seconds)
}

/// A document with a heartbeat of this description.
fn ping(description: &str) -> String {
    format!(
        "<EOCS version=\"1.0.4\"><Config id=\"PING1\" desc=\"{description}\"><ActionList>\
         <Action type=\"DoNothing\" scope=\"Server\"><Value>DoNothing</Value></Action>\
         </ActionList></Config></EOCS>"
    )
}

fn trusting(policy: XmlDsigPolicy, state: &StateDir) -> Feed {
    let mut config = config("https://feed.test/feed.xml");
    config.trust = Trust::XmlDsigX509(policy);
    Feed::new(config, state).unwrap()
}

fn description(feed: &Feed) -> Option<&str> {
    let mitigations = &feed.accepted()?.document.mitigations;
    Some(&mitigations.first()?.description)
}

#[test]
fn only_what_a_trusted_publisher_signed_is_read() {
    let publisher = Publisher::new();
    let mut feed = trusting(publisher.policy(), &StateDir::memory());
    let good = publisher.sign(&ping("one"));
    let acceptance = feed.accept(&good, NOW).unwrap();
    assert!(acceptance.changed && !acceptance.signer_changed);
    assert!(!feed.accept(&good, NOW).unwrap().changed);
    assert_eq!(feed.accepted().unwrap().signer, publisher.signer_digest());

    let text = String::from_utf8(good.clone()).unwrap();
    let refused = [
        (ping("unsigned").into_bytes(), AlarmKind::SignatureRefused),
        (
            text.replace("\"one\"", "\"two\"").into_bytes(),
            AlarmKind::SignatureRefused,
        ),
        (
            Publisher::new().sign(&ping("stranger")),
            AlarmKind::SignatureRefused,
        ),
        (good[..good.len() / 2].to_vec(), AlarmKind::Refused),
        (Vec::new(), AlarmKind::Refused),
        (
            publisher.sign("<EOCS version=\"2.0\"></EOCS>"),
            AlarmKind::Refused,
        ),
    ];
    for (bytes, alarm) in refused {
        let error = feed.accept(&bytes, NOW).unwrap_err();
        assert_eq!(error.alarm(), alarm, "{}", error.explain());
        assert_eq!(feed.refusal().unwrap().reason, error.explain());
        assert_eq!(description(&feed), Some("one"), "{}", error.explain());
    }
    feed.accept(&good, NOW).unwrap();
    assert_eq!(feed.refusal(), None);
}

#[test]
fn another_signer_is_accepted_and_told() {
    let (first, second) = (Publisher::new(), Publisher::new());
    let mut policy = first.policy();
    policy.roots =
        stopgap::signature::TrustAnchors::from_der([first.root_der(), second.root_der()]).unwrap();
    let mut feed = trusting(policy, &StateDir::memory());
    assert!(
        !feed
            .accept(&first.sign(&ping("one")), NOW)
            .unwrap()
            .signer_changed
    );
    assert!(
        feed.accept(&second.sign(&ping("two")), NOW)
            .unwrap()
            .signer_changed
    );
}

#[test]
fn no_document_goes_back_in_time_even_across_a_restart() {
    let publisher = Publisher::with(Options {
        timestamp: Some(NOW),
        ..Options::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let old = publisher.sign_at(&ping("old"), Some(NOW));
    let new = publisher.sign_at(&ping("new"), Some(later(60)));
    {
        let state = StateDir::open(folder.path()).unwrap();
        let mut feed = trusting(publisher.policy(), &state);
        feed.accept(&old, later(100)).unwrap();
        feed.accept(&new, later(100)).unwrap();
        let error = feed.accept(&old, later(100)).unwrap_err();
        assert_eq!(error.alarm(), AlarmKind::Rollback);
        assert!(error.is_untrusted());
    }
    let state = StateDir::open(folder.path()).unwrap();
    let mut feed = trusting(publisher.policy(), &state);
    assert!(feed.restore().unwrap());
    assert_eq!(description(&feed), Some("new"));
    assert_eq!(feed.last_success(), Some(later(100)));
    assert_eq!(feed.accepted().unwrap().signed_at, Some(later(60)));
    let error = feed.accept(&old, later(200)).unwrap_err();
    assert_eq!(error.alarm(), AlarmKind::Rollback);
    assert_eq!(description(&feed), Some("new"));
}

/// Without a timestamp nothing in a document says when it was made: what this client has seen is all that there is.
#[test]
fn former_documents_do_not_come_back_even_across_a_restart() {
    let publisher = Publisher::new();
    let folder = tempfile::tempdir().unwrap();
    let [one, two, three] = ["one", "two", "three"].map(|word| publisher.sign(&ping(word)));
    {
        let state = StateDir::open(folder.path()).unwrap();
        let mut feed = trusting(publisher.policy(), &state);
        for document in [&one, &two, &two, &three] {
            feed.accept(document, NOW).unwrap();
        }
        let error = feed.accept(&one, NOW).unwrap_err();
        assert_eq!(error.alarm(), AlarmKind::Rollback, "{}", error.explain());
        assert!(error.explain().contains("accept_former"), "{error}");
    }
    {
        let state = StateDir::open(folder.path()).unwrap();
        let mut feed = trusting(publisher.policy(), &state);
        assert!(feed.restore().unwrap());
        // Another signature and other octets around what is signed make no other document of it.
        let signed_again = publisher.sign(&ping("two"));
        assert_ne!(signed_again, two);
        let respelled = String::from_utf8(two.clone()).unwrap();
        let respelled = respelled.replace("<Value>DoNothing<", "<Value><![CDATA[DoNothing]]><");
        for document in [&one, &two, &signed_again, &respelled.into_bytes()] {
            let error = feed.accept(document, NOW).unwrap_err();
            assert_eq!(error.alarm(), AlarmKind::Rollback);
        }
        assert!(!feed.accept(&three, NOW).unwrap().changed);
    }
    // An administrator who wants it back says so.
    let state = StateDir::open(folder.path()).unwrap();
    let mut settings = config("https://feed.test/feed.xml");
    settings.trust = Trust::XmlDsigX509(publisher.policy());
    settings.accept_former = true;
    let mut feed = Feed::new(settings, &state).unwrap();
    assert!(feed.restore().unwrap());
    feed.accept(&one, NOW).unwrap();
    assert_eq!(description(&feed), Some("one"));
    drop((feed, state));
    // Then what came between is the former one.
    let state = StateDir::open(folder.path()).unwrap();
    let mut feed = trusting(publisher.policy(), &state);
    assert!(feed.restore().unwrap());
    let error = feed.accept(&three, NOW).unwrap_err();
    assert_eq!(error.alarm(), AlarmKind::Rollback);
}

#[test]
fn remembered_documents_have_a_bound() {
    let publisher = Publisher::new();
    let state = StateDir::memory();
    let first = publisher.sign(&ping("0"));
    let seen = |count: usize| {
        let lines: String = (0..count).map(|n| format!("seen {n:064x}\n")).collect();
        let head = format!("accepted {}\n{lines}", NOW.seconds());
        [head.as_bytes(), &first].concat()
    };
    for (count, good) in [(FORMER, true), (FORMER + 1, false)] {
        state.slot("feed-test").replace(&seen(count)).unwrap();
        let mut feed = trusting(publisher.policy(), &state);
        assert_eq!(feed.restore().is_ok(), good, "{count}");
    }
    // The oldest is forgotten first.
    state.slot("feed-test").replace(&seen(FORMER)).unwrap();
    let mut feed = trusting(publisher.policy(), &state);
    feed.restore().unwrap();
    feed.accept(&publisher.sign(&ping("1")), NOW).unwrap();
    let kept = state.slot("feed-test").read().unwrap().unwrap();
    let kept = String::from_utf8(kept).unwrap();
    assert_eq!(kept.matches("\nseen ").count(), FORMER);
    assert!(!kept.contains(&format!("{:064x}", 1)));
    assert!(feed.accept(&first, NOW).is_err());
}

#[test]
fn two_documents_of_one_second_are_told() {
    let publisher = Publisher::with(Options {
        timestamp: Some(NOW),
        ..Options::default()
    });
    let mut feed = trusting(publisher.policy(), &StateDir::memory());
    feed.accept(&publisher.sign(&ping("one")), later(9))
        .unwrap();
    // Signed and stamped again it is the same document.
    feed.accept(&publisher.sign(&ping("one")), later(9))
        .unwrap();
    let other = publisher.sign(&ping("other"));
    let error = feed.accept(&other, later(9)).unwrap_err();
    assert_eq!(
        error.alarm(),
        AlarmKind::Equivocation,
        "{}",
        error.explain()
    );
    assert_eq!(description(&feed), Some("one"));
    // What a publisher signs anew is new, though its content was there before.
    let next = publisher.sign_at(&ping("other"), Some(later(1)));
    feed.accept(&next, later(9)).unwrap();
    let back = publisher.sign_at(&ping("one"), Some(later(2)));
    feed.accept(&back, later(9)).unwrap();
}

#[test]
fn kept_document_outlives_certificates_and_clocks() {
    let mut options = Options::default();
    options.signer.years = (2020, 2030);
    let publisher = Publisher::with(options);
    let state = StateDir::memory();
    let document = publisher.sign(&ping("one"));
    trusting(publisher.policy(), &state)
        .accept(&document, NOW)
        .unwrap();
    let mut feed = trusting(publisher.policy(), &state);
    assert!(feed.restore().unwrap());
    // In 2033 it would be refused as new, and what is in force stays.
    let ended = UnixTime::new(2_000_000_000);
    let error = feed.accept(&document, ended).unwrap_err();
    assert_eq!(error.alarm(), AlarmKind::SignatureRefused);
    assert_eq!(description(&feed), Some("one"));
    assert!(!feed.is_fresh(ended));
}

#[test]
fn kept_document_is_verified_again() {
    let publisher = Publisher::new();
    let document = String::from_utf8(publisher.sign(&ping("one"))).unwrap();
    let accepted = format!("accepted {}\n", NOW.seconds());
    let cases = [
        (format!("{accepted}{document}"), true),
        (
            format!("{accepted}{}", document.replace("one", "two")),
            false,
        ),
        (format!("{accepted}{}", ping("unsigned")), false),
        (document.clone(), false),
        (format!("accepted soon\n{document}"), false),
        (String::new(), false),
    ];
    for (kept, good) in cases {
        let state = StateDir::memory();
        state.slot("feed-test").replace(kept.as_bytes()).unwrap();
        let mut feed = trusting(publisher.policy(), &state);
        assert_eq!(feed.restore().is_ok(), good, "{kept:.40}");
        assert_eq!(description(&feed).is_some(), good, "{kept:.40}");
        // Damage is overcome by the next document.
        feed.accept(document.as_bytes(), NOW).unwrap();
    }
}

/// Runs when the variable names the capture; it is not kept here.
#[test]
fn captured_feed_is_accepted_as_it_is() {
    let Some(path) = std::env::var_os("STOPGAP_MS_FEED") else {
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let mut feed = Feed::new(config("https://feed.test/"), &StateDir::memory()).unwrap();
    feed.accept(&bytes, NOW).unwrap();
    let document = &feed.accepted().unwrap().document;
    assert_eq!(document.mitigations.len(), 1);
    assert_eq!(document.mitigations[0].id.to_string(), "PING1");
    assert_eq!(document.mitigations[0].failure, None);
    assert_eq!(document.notices, Vec::<String>::new());
}
