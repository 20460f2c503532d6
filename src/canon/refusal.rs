//! Targets that no honest client sends.

use std::borrow::Cow;

use super::percent::{MAX_DECODES, find_percent, octet, percent_decode, wide_unit};
use super::target::split_target;

/// Why a target is refused before any rule sees it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    /// The path holds an ASCII control character, or decodes to one; or the query holds one that is not encoded.
    ControlCharacter,
    /// The target holds `#`, which a client never sends (RFC 9112 section 3.2).
    Fragment,
    /// The path decodes to octets that are no UTF-8 as RFC 3629 defines it, overlong forms included.
    IllFormedUtf8,
    /// The path holds a `%` that no two hexadecimal digits follow.
    MalformedEscape,
    /// The path still changes after it was decoded [`MAX_DECODES`] times.
    NestedEscape,
    /// The path names an NTFS stream (`::$`).
    StreamName,
    /// The path holds `%uXXXX`, which no standard defines.
    UnicodeEscape,
}

impl Refusal {
    /// Every reason, in the order of their names.
    pub const ALL: [Self; 7] = [
        Self::ControlCharacter,
        Self::Fragment,
        Self::IllFormedUtf8,
        Self::MalformedEscape,
        Self::NestedEscape,
        Self::StreamName,
        Self::UnicodeEscape,
    ];

    /// One lower-case word for logs, metrics and settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ControlCharacter => "control-character",
            Self::Fragment => "fragment",
            Self::IllFormedUtf8 => "ill-formed-utf8",
            Self::MalformedEscape => "malformed-escape",
            Self::NestedEscape => "nested-escape",
            Self::StreamName => "stream-name",
            Self::UnicodeEscape => "unicode-escape",
        }
    }
}

/// Which refusals are on, and whether fields are removed that would undo them; all of it by default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusals {
    /// Whether [`Refusal::ControlCharacter`] is on.
    pub control_character: bool,
    /// Whether [`Refusal::Fragment`] is on.
    pub fragment: bool,
    /// Whether [`Refusal::IllFormedUtf8`] is on.
    pub ill_formed_utf8: bool,
    /// Whether [`Refusal::MalformedEscape`] is on.
    pub malformed_escape: bool,
    /// Whether [`Refusal::NestedEscape`] is on.
    pub nested_escape: bool,
    /// Whether [`Refusal::StreamName`] is on.
    pub stream_name: bool,
    /// Whether [`Refusal::UnicodeEscape`] is on.
    pub unicode_escape: bool,
    /// Whether fields by which a client names another target or method than those that were judged, such as
    /// `X-Original-URL`, are removed.
    pub override_fields: bool,
}

impl Refusals {
    /// Every refusal off, and no field removed.
    pub const NONE: Self = Self {
        control_character: false,
        fragment: false,
        ill_formed_utf8: false,
        malformed_escape: false,
        nested_escape: false,
        stream_name: false,
        unicode_escape: false,
        override_fields: false,
    };

    /// Whether `refusal` is on.
    pub const fn contains(&self, refusal: Refusal) -> bool {
        match refusal {
            Refusal::ControlCharacter => self.control_character,
            Refusal::Fragment => self.fragment,
            Refusal::IllFormedUtf8 => self.ill_formed_utf8,
            Refusal::MalformedEscape => self.malformed_escape,
            Refusal::NestedEscape => self.nested_escape,
            Refusal::StreamName => self.stream_name,
            Refusal::UnicodeEscape => self.unicode_escape,
        }
    }

    /// Switches `refusal` on or off.
    pub const fn set(&mut self, refusal: Refusal, on: bool) {
        match refusal {
            Refusal::ControlCharacter => self.control_character = on,
            Refusal::Fragment => self.fragment = on,
            Refusal::IllFormedUtf8 => self.ill_formed_utf8 = on,
            Refusal::MalformedEscape => self.malformed_escape = on,
            Refusal::NestedEscape => self.nested_escape = on,
            Refusal::StreamName => self.stream_name = on,
            Refusal::UnicodeEscape => self.unicode_escape = on,
        }
    }
}

impl Default for Refusals {
    fn default() -> Self {
        let mut refusals = Self::NONE;
        Refusal::ALL
            .iter()
            .for_each(|&refusal| refusals.set(refusal, true));
        refusals.override_fields = true;
        refusals
    }
}

/// Why this target is refused, if it is; of several reasons, the first found.
///
/// The query is judged by rules and not refused, but for octets that no target may hold unencoded. UTF-8 is checked
/// after the first decoding only, since a name such as `50%ff`, once encoded, is honest.
pub fn refuse(target: &[u8], refusals: &Refusals) -> Option<Refusal> {
    let (path, query) = split_target(target);
    if refusals.fragment && memchr::memchr(b'#', target).is_some() {
        return Some(Refusal::Fragment);
    }
    if refusals.control_character && query.is_some_and(has_control) {
        return Some(Refusal::ControlCharacter);
    }
    if is_plain(path) {
        return None;
    }
    refuse_escape(path, refusals).or_else(|| refuse_decoded(path, refusals))
}

/// Whether nothing in the path can be refused: ASCII without control characters, escapes and stream names.
fn is_plain(path: &[u8]) -> bool {
    // Without an early exit, so that the compiler can look at many bytes at once.
    path.iter().fold(true, |plain, &byte| {
        plain & (b' '..=b'~').contains(&byte) & (byte != b'%') & (byte != b':')
    })
}

/// Looks at the escapes of the path as sent.
fn refuse_escape(path: &[u8], refusals: &Refusals) -> Option<Refusal> {
    let mut at = 0;
    while let Some(found) = find_percent(path, at) {
        let escape = &path[found..];
        let refusal = if wide_unit(escape).is_some() {
            Refusal::UnicodeEscape
        } else {
            Refusal::MalformedEscape
        };
        if octet(escape).is_none() && refusals.contains(refusal) {
            return Some(refusal);
        }
        at = found + 1;
    }
    None
}

/// Looks at the path in every round of decoding.
fn refuse_decoded(path: &[u8], refusals: &Refusals) -> Option<Refusal> {
    let mut decoded = percent_decode(path);
    if refusals.ill_formed_utf8 && str::from_utf8(&decoded).is_err() {
        return Some(Refusal::IllFormedUtf8);
    }
    // Decoding moves neither a control character nor a stream name out of sight, so the raw path needs no look.
    for round in 1.. {
        if refusals.control_character && has_control(&decoded) {
            return Some(Refusal::ControlCharacter);
        }
        if refusals.stream_name && decoded.windows(3).any(|three| three == b"::$") {
            return Some(Refusal::StreamName);
        }
        let next = match percent_decode(&decoded) {
            Cow::Borrowed(_) => break,
            Cow::Owned(next) => next,
        };
        if round == MAX_DECODES {
            return refusals.nested_escape.then_some(Refusal::NestedEscape);
        }
        decoded = Cow::Owned(next);
    }
    None
}

fn has_control(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(false, |found, byte| found | byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::percent::{is_unreserved, percent_encode};
    use super::*;

    const CASES: [(&str, Refusal); 17] = [
        ("/a%00", Refusal::ControlCharacter),
        ("/a%2509", Refusal::ControlCharacter),
        ("/\ta", Refusal::ControlCharacter),
        ("/%7F", Refusal::ControlCharacter),
        ("/a?b\tc", Refusal::ControlCharacter),
        ("/a#b", Refusal::Fragment),
        ("/a?b#", Refusal::Fragment),
        ("/%C0%AF", Refusal::IllFormedUtf8),
        ("/%E0%81%A1", Refusal::IllFormedUtf8),
        ("/%FF", Refusal::IllFormedUtf8),
        ("/%ED%A0%80", Refusal::IllFormedUtf8),
        ("/a%", Refusal::MalformedEscape),
        ("/%zz?x", Refusal::MalformedEscape),
        ("/%u00", Refusal::MalformedEscape),
        ("/%2525252541", Refusal::NestedEscape),
        ("/a%3a:$DATA", Refusal::StreamName),
        ("/%u0061", Refusal::UnicodeEscape),
    ];

    #[test]
    fn dishonest_targets_are_refused_each_by_its_own_switch() {
        for (target, refusal) in CASES {
            let target = target.as_bytes();
            assert_eq!(
                refuse(target, &Refusals::default()),
                Some(refusal),
                "{target:?}"
            );
            let mut only = Refusals::NONE;
            only.set(refusal, true);
            assert_eq!(refuse(target, &only), Some(refusal), "{target:?}");
            let mut others = Refusals::default();
            others.set(refusal, false);
            assert_ne!(refuse(target, &others), Some(refusal), "{target:?}");
            assert_eq!(refuse(target, &Refusals::NONE), None);
        }
    }

    #[test]
    fn raw_octets_that_are_no_utf8_are_refused() {
        let refused = |target: &[u8]| refuse(target, &Refusals::default());
        assert_eq!(refused(b"/\xe9"), Some(Refusal::IllFormedUtf8));
        assert_eq!(refused("/\u{e9}".as_bytes()), None);
        assert_eq!(refused(b"/?\xe9"), None);
    }

    #[test]
    fn honest_targets_pass() {
        for target in [
            "/",
            "*",
            "/a%20b%2Fc",
            "/?x=%0D%0A%00",
            "/?%zz%&%u0061&%FF&%C0%AF",
            "/?x=::$DATA",
            "/50%25ff",
            "/100%25",
            "/%25252541",
            "/(S(x))/a;b=c",
            r"/a\b",
        ] {
            assert_eq!(
                refuse(target.as_bytes(), &Refusals::default()),
                None,
                "{target}"
            );
        }
    }

    #[test]
    fn words_are_distinct() {
        let mut words: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.word()).collect();
        assert!(words.is_sorted());
        words.dedup();
        assert_eq!(words.len(), Refusal::ALL.len());
    }

    proptest! {
        #[test]
        fn once_encoded_text_is_never_refused(
            segments in prop::collection::vec(r"[^\x00-\x1f\x7f%]{0,12}", 0..6),
            query in prop::option::of(any::<String>()),
        ) {
            let keep = |byte: u8| is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte);
            let mut target = Vec::new();
            for segment in &segments {
                prop_assume!(!segment.contains("::$"));
                target.push(b'/');
                target.extend_from_slice(&percent_encode(segment.as_bytes(), keep));
            }
            if let Some(query) = &query {
                target.push(b'?');
                let keep = |byte: u8| keep(byte) || matches!(byte, b'/' | b'?');
                target.extend_from_slice(&percent_encode(query.as_bytes(), keep));
            }
            prop_assert_eq!(refuse(&target, &Refusals::default()), None);
        }

        #[test]
        fn any_octets_are_judged_without_a_panic(target: Vec<u8>) {
            let _ = refuse(&target, &Refusals::default());
        }
    }
}
