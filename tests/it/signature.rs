//! Signed documents: what is proven, and every way of cheating that is refused.

use std::time::Instant;

use stopgap::model::UnixTime;
use stopgap::signature::{Fault, Verifier};

/// Names a file with the feed as Microsoft serves it, which is not ours to copy.
const FEED_VARIABLE: &str = "STOPGAP_MS_FEED";

#[test]
fn microsofts_own_feed() {
    let Some(path) = std::env::var_os(FEED_VARIABLE) else {
        println!("SKIPPED: {FEED_VARIABLE} names no captured feed");
        return;
    };
    let feed = std::fs::read(path).expect("the feed is readable");
    let now = UnixTime::new(1_790_000_000);
    let verifier = Verifier::microsoft_eocs().expect("the bundled roots are the pinned ones");
    let started = Instant::now();
    let verified = verifier
        .verify(&feed, now, None)
        .expect("the feed is genuine");
    println!("verified {} octets in {:?}", feed.len(), started.elapsed());
    assert_eq!(verified.value().len(), 333);
    assert_eq!(verified.signed_at(), Some(UnixTime::new(1_631_724_128)));
    assert!(verifier.verify(&feed, now, verified.signed_at()).is_ok());

    let text = String::from_utf8(feed).expect("the feed is UTF-8");
    let refused = |text: &str| {
        verifier
            .verify(text.as_bytes(), now, None)
            .expect_err("it was changed")
            .fault()
    };
    assert_eq!(
        refused(&text.replacen("DoNothing<", "DoNothinG<", 1)),
        Fault::Digest
    );
    let same = |text: &str| {
        verifier
            .verify(text.as_bytes(), now, None)
            .expect("it means the same")
            .into_value()
    };
    assert_eq!(&same(&text.replace("\r\n", "\n")), verified.value());
    assert_eq!(&same(&format!("\u{feff}{text}")), verified.value());

    let later = Some(UnixTime::new(1_631_724_129));
    let error = verifier
        .verify(text.as_bytes(), now, later)
        .expect_err("it is older");
    assert_eq!(error.fault(), Fault::Rollback);
    let early = UnixTime::new(1_631_724_128 - 301);
    let error = verifier
        .verify(text.as_bytes(), early, None)
        .expect_err("it is in the future");
    assert_eq!(error.fault(), Fault::Future);
    assert!(
        verifier
            .verify(text.as_bytes(), UnixTime::new(1_631_724_128 - 300), None)
            .is_ok()
    );
}
