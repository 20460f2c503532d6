//! Properties over generated values, against models.

use proptest::prelude::*;
use stopgap::signature::envelope::{Envelope, FeedPayload, RootBuilder, RootMetadata};

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn payloads_read_back(
        name in "[^\\p{Cc}]{0,31}[a-z]",
        rules in "(?s).{1,300}",
        version in 1_u64..,
        issued in 0_u64..253_402_300_000,
        valid in 1_u64..299,
    ) {
        let (issued, expires) = (UnixTime::new(issued), UnixTime::new(issued + valid));
        let payload = FeedPayload::first(&name, &rules, issued, expires).unwrap();
        let payload = payload.with_version(version).unwrap();
        let mut envelope = payload.to_envelope().unwrap();
        envelope.sign(&PUBLISHER.feeds[0].product).unwrap();
        envelope.sign(&PUBLISHER.feeds[2].product).unwrap();
        let json = envelope.to_json().unwrap();
        let read = Envelope::parse(json.as_bytes()).unwrap();
        prop_assert_eq!(&read, &envelope);
        prop_assert_eq!(FeedPayload::parse(read.unverified_payload()).unwrap(), payload);
        let client = FeedState::new(&name, &PUBLISHER.first_root()).unwrap();
        let now = UnixTime::new(issued.seconds().min(NOW.seconds()));
        let accepted = client.accept(json.as_bytes(), issued.max(now)).map(|taken| {
            taken.content.rules.into_value()
        });
        match issued < later(365 * DAY) {
            true => prop_assert_eq!(accepted.unwrap(), rules.into_bytes()),
            false => prop_assert_eq!(fault(accepted), Some(Fault::RootExpired)),
        }
    }

    #[test]
    fn roots_read_back(
        roots in 1_usize..6,
        feeds in 1_usize..6,
        thresholds in (0_usize..6, 0_usize..6),
        expires in 0_u64..253_402_300_800,
    ) {
        let mut builder = RootBuilder::init(UnixTime::new(expires))
            .root_threshold(thresholds.0 % roots + 1)
            .feed_threshold(thresholds.1 % feeds + 1);
        for _ in 0..roots {
            builder = builder.add_root_key(Key::new().public());
        }
        for _ in 0..feeds {
            builder = builder.add_feed_key(Key::new().public());
        }
        let root = builder.build().unwrap();
        let envelope = root.to_envelope().unwrap();
        prop_assert_eq!(RootMetadata::parse(envelope.unverified_payload()).unwrap(), root);
    }

    /// A document is accepted if and only if enough distinct trusted keys signed it, whatever stands beside them.
    #[test]
    fn thresholds_count_distinct_trusted_keys(
        threshold in 1_u64..=3,
        signers in proptest::sample::subsequence(vec![0, 1, 2, 3, 4], 0..=5),
        spoiled in proptest::collection::vec(any::<bool>(), 5),
    ) {
        let Publisher { roots: [root_one, root_two, _], feeds: [one, two, three], stranger } = &*PUBLISHER;
        let keys = [one, two, three, stranger, root_one];
        let second = PUBLISHER.rotated(2, role(threshold, &keys[..3]), &[root_one, root_two]);
        let client = PUBLISHER.client().advance(&second).unwrap();
        let signed: Vec<&Key> = signers.iter().map(|index| keys[*index]).collect();
        let mut document = seal(FEED_TYPE, &feed(json!({})), &signed);
        let mut good = 0;
        for (at, index) in signers.iter().enumerate() {
            if spoiled[at] {
                document["signatures"][at]["sig"] = json!(STANDARD.encode([7; 64]));
            } else if *index < 3 {
                good += 1;
            }
        }
        let result = client.accept(&bytes(&document), NOW);
        prop_assert_eq!(result.is_ok(), good >= threshold);
    }

    /// Against a model: while the keys stay, versions only rise, and one version has one content, over any restarts.
    #[test]
    fn versions_only_rise(
        steps in proptest::collection::vec((1_u64..6, 0_u8..2, 0_usize..3, any::<bool>()), 1..24),
    ) {
        let mut state = PUBLISHER.client();
        let mut held: Option<(u64, u8)> = None;
        for (version, content, absent, restarts) in steps {
            let signers: Vec<&Key> = (0..3)
                .filter(|index| *index != absent)
                .map(|index| &PUBLISHER.feeds[index])
                .collect();
            let payload = feed(json!({"version": version, "rules": format!("<EOCS a='{content}'/>")}));
            let result = state.accept(&bytes(&seal(FEED_TYPE, &payload, &signers)), NOW);
            let expected = match held {
                Some((newest, _)) if version < newest => Some(Fault::Rollback),
                Some((newest, kept)) if version == newest && content != kept => {
                    Some(Fault::Equivocation)
                }
                _ => None,
            };
            if expected.is_none() {
                held = Some((version, content));
            }
            match result {
                Ok(accepted) => {
                    prop_assert_eq!(expected, None);
                    state = accepted.state;
                    prop_assert_eq!(
                        state.digest(),
                        Some(sha256(payload.to_string().as_bytes()))
                    );
                }
                Err(error) => prop_assert_eq!(Some(error.fault()), expected),
            }
            if restarts {
                state = restart(&PUBLISHER, &state);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(garbage in proptest::collection::vec(any::<u8>(), 0..400)) {
        let client = PUBLISHER.client();
        prop_assert!(client.accept(&garbage, NOW).is_err());
        prop_assert!(client.advance(&garbage).is_err());
        prop_assert!(FeedState::restore("prod", &PUBLISHER.first_root(), &garbage).is_err());
        prop_assert!(PublicKey::from_pem(&garbage).is_err());
        prop_assert!(FeedPayload::parse(&garbage).is_err());
        prop_assert!(RootMetadata::parse(&garbage).is_err());
    }
}
