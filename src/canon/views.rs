//! The views of one request target.

use std::borrow::Cow;

use super::fold::fold_lookalikes;
use super::percent::{MAX_DECODES, percent_decode, wide_decode};
use super::segments::{resolve, resolve_and_strip};
use super::target::split_target;

/// How a [`View`] was made from the target, in the order in which views are judged.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Decoding {
    /// As IIS hands it to its rules: the path decoded once with `%2F` too, slashes folded, dot segments resolved;
    /// the query as sent.
    Iis,
    /// As sent.
    Raw,
    /// Path and query percent-decoded once.
    Once,
    /// Path and query decoded until nothing changes, at most [`MAX_DECODES`] times, `%uXXXX` included.
    Stable,
    /// [`Stable`](Self::Stable), and in the path `\` as `/`, slashes folded, dot segments resolved.
    Resolved,
    /// [`Resolved`](Self::Resolved), with look-alikes folded to ASCII and without what a server may ignore: path
    /// parameters, cookieless segments, dots and spaces at the end of a segment; `+` in the query is a space.
    Stripped,
}

/// One way to read a request target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct View<'t> {
    /// How it was made.
    pub decoding: Decoding,
    /// The path, with its leading slash.
    pub path: Cow<'t, [u8]>,
    /// What follows the first `?` of the target, without it.
    pub query: Option<Cow<'t, [u8]>>,
}

/// The views of one target: IIS's own first, equal ones left out.
#[derive(Clone, Debug)]
pub struct Views<'t> {
    first: View<'t>,
    others: Vec<View<'t>>,
}

impl<'t> Views<'t> {
    /// IIS's own view, which faithful judging and everything but stopping uses alone.
    ///
    /// Source: URL Rewrite's documented input of `<match url>`; HTTP.sys decodes UTF-8 once, `%2F` included, and
    /// resolves dot segments after that.
    pub fn iis(target: &'t [u8]) -> View<'t> {
        let (path, query) = split_target(target);
        View {
            decoding: Decoding::Iis,
            path: if path_is_plain(path) {
                Cow::Borrowed(path)
            } else {
                then(percent_decode(path), resolve)
            },
            query: query.map(Cow::Borrowed),
        }
    }

    /// Every view, for rules that stop requests.
    ///
    /// Takes time and memory in proportion to the target's length; allocates nothing when all views are equal.
    pub fn hardened(target: &'t [u8]) -> Self {
        let (path, query) = split_target(target);
        let mut views = Self {
            first: Self::iis(target),
            others: Vec::new(),
        };
        if is_plain(path, query) {
            return views;
        }
        views.push(Decoding::Raw, Cow::Borrowed(path), query.map(Cow::Borrowed));
        views.push(
            Decoding::Once,
            percent_decode(path),
            query.map(percent_decode),
        );
        let (stable_path, stable_query) = (stable(path), query.map(stable));
        let resolved_path = then(stable_path.clone(), resolve);
        views.push(Decoding::Stable, stable_path, stable_query.clone());
        views.push(Decoding::Resolved, resolved_path, stable_query);
        views.push(
            Decoding::Stripped,
            then(folded(path), resolve_and_strip),
            query.map(|query| then(plus_as_space(query), folded)),
        );
        views
    }

    /// The views in the order of [`Decoding`].
    pub fn iter(&self) -> impl Iterator<Item = &View<'t>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn push(&mut self, decoding: Decoding, path: Cow<'t, [u8]>, query: Option<Cow<'t, [u8]>>) {
        if self
            .iter()
            .all(|view| view.path != path || view.query != query)
        {
            self.others.push(View {
                decoding,
                path,
                query,
            });
        }
    }
}

/// Whether no view can differ from the target as sent. May say no too often, never yes wrongly.
fn is_plain(path: &[u8], query: Option<&[u8]>) -> bool {
    let query = query.unwrap_or_default();
    path_is_plain(path) && query.is_ascii() && memchr::memchr2(b'%', b'+', query).is_none()
}

/// The same for a path: no segment is empty, begins with a dot or a space, or ends with one.
fn path_is_plain(path: &[u8]) -> bool {
    // What the byte before forbids; a dot forbids nothing behind it but the end of its segment.
    let mut forbidden = NEVER;
    let mut found = 0;
    for &byte in path {
        let class = CLASSES[usize::from(byte)];
        found |= class & forbidden;
        forbidden = class >> 4 | NEVER;
    }
    found == 0 && !matches!(path, [b' ' | b'.', ..] | [.., b' ' | b'.'])
}

/// Classes of bytes, as far as they make a path other than plain.
const SLASH: u8 = 1;
const DOT: u8 = 2;
const NEVER: u8 = 4;

/// For each byte its class, and from bit 4 on the classes that may not follow it.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'%' | b'(' | b';' | b'\\' | 0x80.. => NEVER,
            b' ' | b'.' => DOT | SLASH << 4,
            b'/' => SLASH | (SLASH | DOT) << 4,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Decodes until nothing changes, within [`MAX_DECODES`].
fn stable(bytes: &[u8]) -> Cow<'_, [u8]> {
    repeat(Cow::Borrowed(bytes), wide_decode)
}

/// Decodes and folds look-alikes until nothing changes, within [`MAX_DECODES`]: a folded character may complete
/// an escape.
fn folded(bytes: &[u8]) -> Cow<'_, [u8]> {
    repeat(Cow::Borrowed(bytes), |bytes| {
        then(wide_decode(bytes), fold_lookalikes)
    })
}

fn repeat(mut bytes: Cow<'_, [u8]>, step: fn(&[u8]) -> Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    for _ in 0..MAX_DECODES {
        let before = bytes.len();
        bytes = then(bytes, step);
        // Every step shrinks what it changes.
        if bytes.len() == before {
            break;
        }
    }
    bytes
}

fn plus_as_space(query: &[u8]) -> Cow<'_, [u8]> {
    if !query.contains(&b'+') {
        return Cow::Borrowed(query);
    }
    let space = |&byte: &u8| if byte == b'+' { b' ' } else { byte };
    Cow::Owned(query.iter().map(space).collect())
}

/// Applies a step that borrows exactly when it changes nothing, and keeps what is owned then.
fn then<'t>(bytes: Cow<'t, [u8]>, step: fn(&[u8]) -> Cow<'_, [u8]>) -> Cow<'t, [u8]> {
    match bytes {
        Cow::Borrowed(bytes) => step(bytes),
        Cow::Owned(bytes) => match step(&bytes) {
            Cow::Borrowed(_) => Cow::Owned(bytes),
            Cow::Owned(changed) => Cow::Owned(changed),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::super::percent::percent_encode;
    use super::*;

    fn shown(target: &str) -> Vec<(Decoding, String, Option<String>)> {
        let text = |bytes: &Cow<'_, [u8]>| String::from_utf8_lossy(bytes).into_owned();
        Views::hardened(target.as_bytes())
            .iter()
            .map(|view| {
                (
                    view.decoding,
                    text(&view.path),
                    view.query.as_ref().map(text),
                )
            })
            .collect()
    }

    fn paths(target: &str) -> Vec<(Decoding, String)> {
        let views = shown(target).into_iter();
        views.map(|(decoding, path, _)| (decoding, path)).collect()
    }

    #[test]
    fn plain_target_has_one_borrowed_view() {
        for target in [
            "/",
            "/owa/auth/logon.aspx?url=https://mail.example.test/owa/&reason=2",
            "/a.b/c-d/?",
            "*",
            "",
        ] {
            let views = Views::hardened(target.as_bytes());
            assert_eq!(views.iter().count(), 1, "{target}");
            assert_eq!(views.others.capacity(), 0);
            assert!(matches!(views.first.path, Cow::Borrowed(_)));
            assert!(
                is_plain(split_target(target.as_bytes()).0, None),
                "{target}"
            );
        }
    }

    #[test]
    fn path_is_seen_in_every_form() {
        use Decoding::*;
        let path = |decoding, path: &str| (decoding, path.to_owned());
        assert_eq!(paths("/a%2Fb"), [path(Iis, "/a/b"), path(Raw, "/a%2Fb")]);
        assert_eq!(
            paths("/x/%2e%2e/%2561"),
            [
                path(Iis, "/%61"),
                path(Raw, "/x/%2e%2e/%2561"),
                path(Once, "/x/../%61"),
                path(Stable, "/x/../a"),
                path(Resolved, "/a"),
            ]
        );
        assert_eq!(
            paths("/a;b//c."),
            [
                path(Iis, "/a;b/c."),
                path(Raw, "/a;b//c."),
                path(Stripped, "/a/c")
            ]
        );
        assert_eq!(
            paths("/%u0061%EF%BD%82"),
            [
                path(Iis, "/%u0061\u{ff42}"),
                path(Raw, "/%u0061%EF%BD%82"),
                path(Stable, "/a\u{ff42}"),
                path(Stripped, "/ab"),
            ]
        );
    }

    #[test]
    fn query_is_seen_in_every_form() {
        let queries: Vec<String> = shown("/?a+%252B%u0062")
            .into_iter()
            .filter_map(|(_, _, query)| query)
            .collect();
        assert_eq!(queries, ["a+%252B%u0062", "a+%2B%u0062", "a++b", "a +b"]);
    }

    #[test]
    fn decoding_stops_after_the_limit() {
        let nested = |depth: usize| format!("/?%{}61", "25".repeat(depth - 1));
        let last = |target: &str| shown(target).pop().and_then(|(_, _, query)| query);
        assert_eq!(last(&nested(MAX_DECODES)).as_deref(), Some("a"));
        assert_eq!(last(&nested(MAX_DECODES + 1)).as_deref(), Some("%61"));
    }

    proptest! {
        #[test]
        fn views_are_distinct_bounded_and_ordered(
            target in r"/([a-z/\\.;()+ ?é%]|%2[0-9A-F]|%25|%u00[4-7][0-9]|\xEF\xBD\x81){0,24}",
        ) {
            let views = Views::hardened(target.as_bytes());
            let views: Vec<_> = views.iter().collect();
            prop_assert_eq!(views[0], &Views::iis(target.as_bytes()));
            for (index, view) in views.iter().enumerate() {
                let query = view.query.as_ref().map_or(0, |query| query.len() + 1);
                prop_assert!(view.path.len() + query <= target.len());
                for other in &views[..index] {
                    prop_assert!(other.decoding < view.decoding);
                    prop_assert!(other.path != view.path || other.query != view.query);
                }
            }
        }

        #[test]
        fn plain_means_one_view(target in r"/?[a-z/.;( +?\\é]{0,12}") {
            let (path, query) = split_target(target.as_bytes());
            let others = [
                then(folded(path), resolve_and_strip),
                Views::iis(target.as_bytes()).path,
            ];
            if is_plain(path, query) {
                prop_assert!(others.iter().all(|other| **other == *path));
            }
        }

        #[test]
        fn plain_form_shows_under_every_encoding(
            plain in "/[a-z]{1,6}(/[a-z]{1,6}){0,2}",
            rounds in prop::collection::vec(any::<u64>(), 1..=MAX_DECODES),
        ) {
            let mut encoded = plain.clone().into_bytes();
            for mask in rounds {
                let bits = Cell::new(mask);
                let keep = |byte: u8| {
                    bits.set(bits.get().rotate_left(1));
                    byte == b'%' && bits.get() & 2 == 0 || byte != b'%' && bits.get() & 1 == 0
                };
                // The leading slash makes it a path at all.
                let rest = percent_encode(&encoded[1..], keep).into_owned();
                encoded.truncate(1);
                encoded.extend(rest);
            }
            let mut target = encoded.clone();
            target.push(b'?');
            target.extend_from_slice(&encoded);
            let views = Views::hardened(&target);
            let shows = |bytes: &Cow<'_, [u8]>| **bytes == *plain.as_bytes();
            prop_assert!(views.iter().any(|view| {
                shows(&view.path) && view.query.as_ref().is_some_and(shows)
            }), "{}", String::from_utf8_lossy(&target));
        }

        #[test]
        fn stripped_path_is_stable(path in r"/([a-z/\\.;()]|%2[0-9A-F]){0,16}") {
            let strip = |path: &[u8]| then(folded(path), resolve_and_strip).into_owned();
            let once = strip(path.as_bytes());
            prop_assert_eq!(strip(&once), once);
        }
    }
}
