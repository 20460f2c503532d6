//! How the process knows its own probes among requests: by a secret that never leaves it but in them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{HeaderMap, HeaderName};

use crate::model::{CannedResponse, MitigationId};

/// The field that carries the secret.
///
/// # Examples
///
/// ```
/// assert_eq!(stopgap::filter::PROBE_FIELD, "x-stopgap-probe");
/// ```
pub const PROBE_FIELD: &str = "x-stopgap-probe";

const FIELD: HeaderName = HeaderName::from_static(PROBE_FIELD);

/// The mark of this process's probes, and what they come to. Clones share it.
///
/// A probe is answered behind the filter and goes nowhere else, so whoever knew the secret could not get further with
/// it than without. Between rounds of probing, a request costs one look at a flag.
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use stopgap::filter::{PROBE_FIELD, Probes};
///
/// let probes = Probes::new(&[7; 32]);
/// let mark = HeaderValue::from_str(probes.secret())?;
/// let mut fields: HeaderMap = [(PROBE_FIELD.parse()?, mark)].into_iter().collect();
/// assert!(!probes.recognise(&mut fields), "nothing is probed now");
/// probes.set_active(true);
/// assert!(probes.recognise(&mut fields));
/// assert!(fields.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Probes {
    inner: Arc<Inner>,
}

struct Inner {
    /// Hexadecimal digits.
    secret: String,
    active: AtomicBool,
    current: Mutex<Current>,
}

/// The probe that is under way: there is one at a time.
#[derive(Default)]
struct Current {
    response: Option<CannedResponse>,
    seen: Option<Seen>,
}

/// What became of a probe.
///
/// # Examples
///
/// ```
/// use stopgap::filter::{Probes, Seen};
///
/// let probes = Probes::new(&[7; 32]);
/// probes.begin(None);
/// probes.see(Seen::Stopped(Some("M1.1".parse()?)));
/// assert_eq!(probes.end(), Some(Seen::Stopped(Some("M1.1".parse()?))));
/// assert_eq!(probes.end(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// It came through to where a server would have been asked; response rules of these mitigations acted.
    Passed(Vec<MitigationId>),
    /// It was refused before any rule.
    Refused,
    /// A rule of this mitigation, or a local one, stopped it.
    Stopped(Option<MitigationId>),
}

impl Probes {
    /// Probes marked by `secret`.
    pub fn new(secret: &[u8; 32]) -> Self {
        let secret = secret.iter().map(|octet| format!("{octet:02x}"));
        Self {
            inner: Arc::new(Inner {
                secret: secret.collect(),
                active: AtomicBool::new(false),
                current: Mutex::default(),
            }),
        }
    }

    /// The value of [`PROBE_FIELD`] in a probe.
    pub fn secret(&self) -> &str {
        &self.inner.secret
    }

    /// Whether probes are on their way; requests are looked at only then.
    pub fn set_active(&self, active: bool) {
        self.inner.active.store(active, Ordering::Release);
    }

    /// Makes ready for one probe, whose server would answer `response`.
    pub fn begin(&self, response: Option<CannedResponse>) {
        *self.lock() = Current {
            response,
            seen: None,
        };
    }

    /// What became of the probe; nothing if it was not seen.
    pub fn end(&self) -> Option<Seen> {
        self.lock().seen.take()
    }

    /// Whether these are the fields of a probe. The mark is taken out, so that no rule sees it.
    pub fn recognise(&self, fields: &mut HeaderMap) -> bool {
        self.inner.active.load(Ordering::Acquire) && self.is_marked(fields)
    }

    /// The answer of the server that there is none of.
    pub fn response(&self) -> Option<CannedResponse> {
        self.lock().response.clone()
    }

    /// Notes what became of the probe.
    pub fn see(&self, seen: Seen) {
        self.lock().seen = Some(seen);
    }

    #[cold]
    fn is_marked(&self, fields: &mut HeaderMap) -> bool {
        let secret = self.inner.secret.as_bytes();
        let marked = fields
            .get(FIELD)
            .is_some_and(|value| is_same(value.as_bytes(), secret));
        if marked {
            fields.remove(FIELD);
        }
        marked
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.inner
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes as long for any two texts of one length.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: &str) -> HeaderMap {
        [(FIELD, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn only_the_secret_marks_and_only_while_probing() {
        let probes = Probes::new(&[7; 32]);
        let secret = probes.secret().to_owned();
        assert!(!probes.recognise(&mut fields(&secret)));
        probes.set_active(true);
        let mut marked = fields(&secret);
        assert!(probes.recognise(&mut marked));
        assert!(marked.is_empty(), "no rule sees the mark");
        let other = Probes::new(&[8; 32]);
        for value in [
            "",
            "07",
            &secret[1..],
            &format!("{secret}0"),
            other.secret(),
        ] {
            let mut forged = fields(value);
            assert!(!probes.recognise(&mut forged), "{value}");
            assert_eq!(forged.len(), 1, "a field of the client's stays");
        }
        assert!(!format!("{probes:?}").contains(&secret));
    }

    #[test]
    fn what_one_probe_came_to_is_not_told_of_the_next() {
        let probes = Probes::new(&[7; 32]);
        probes.begin(None);
        probes.see(Seen::Refused);
        probes.begin(None);
        assert_eq!(probes.end(), None);
    }
}
