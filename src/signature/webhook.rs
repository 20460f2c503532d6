//! Signs what is sent to webhooks, as the Standard Webhooks specification has it.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a secret in base64 begins with.
const PREFIX: &str = "whsec_";

/// The shortest secret, in octets.
pub const WEBHOOK_SECRET_MIN: usize = 24;

/// The longest secret, in octets.
pub const WEBHOOK_SECRET_MAX: usize = 1_024;

/// A secret that whoever sends to a webhook shares with whoever receives.
#[derive(Clone)]
pub struct WebhookKey {
    key: hmac::Key,
}

impl WebhookKey {
    /// Reads a secret: base64 behind `whsec_`, or the octets of the text themselves.
    ///
    /// # Errors
    ///
    /// When it is no base64 behind `whsec_`, or has less than [`WEBHOOK_SECRET_MIN`] or more than
    /// [`WEBHOOK_SECRET_MAX`] octets. The text of the error holds nothing of the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let octets = match text.strip_prefix(PREFIX) {
            Some(coded) => STANDARD
                .decode(coded)
                .map_err(|_| format!("what follows {PREFIX} is no base64"))?,
            None => text.as_bytes().to_vec(),
        };
        if !(WEBHOOK_SECRET_MIN..=WEBHOOK_SECRET_MAX).contains(&octets.len()) {
            return Err(format!(
                "a secret has {WEBHOOK_SECRET_MIN} to {WEBHOOK_SECRET_MAX} octets, and this has {}",
                octets.len()
            ));
        }
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &octets),
        })
    }

    /// The signature as it stands in the field `webhook-signature`: `v1,` and the base64 of HMAC-SHA256 over the id, the
    /// seconds since 1970 and the body, apart by full stops.
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for WebhookKey {
    /// Nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_specification() {
        // The example that the specification's own libraries are tested with.
        let key = WebhookKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{key:?}"), "WebhookKey");
    }

    #[test]
    fn secrets_are_bounded_on_both_sides() {
        for (length, taken) in [
            (WEBHOOK_SECRET_MIN - 1, false),
            (WEBHOOK_SECRET_MIN, true),
            (WEBHOOK_SECRET_MAX, true),
            (WEBHOOK_SECRET_MAX + 1, false),
        ] {
            let text = "a".repeat(length);
            assert_eq!(WebhookKey::parse(&text).is_ok(), taken, "{length}");
            let coded = format!("{PREFIX}{}", STANDARD.encode(&text));
            assert_eq!(WebhookKey::parse(&coded).is_ok(), taken, "{length}");
        }
        let error = WebhookKey::parse("whsec_secret!").unwrap_err();
        assert!(!error.contains("secret!"), "{error}");
        let plain = WebhookKey::parse(&"a".repeat(24)).unwrap();
        let coded = format!("{PREFIX}{}", STANDARD.encode("a".repeat(24)));
        let coded = WebhookKey::parse(&coded).unwrap();
        assert_eq!(plain.sign("a", 1, b"b"), coded.sign("a", 1, b"b"));
    }
}
