//! URLs: the views of a target, and putting together what an action writes.

use std::borrow::Cow;
use std::ops::Range;

use crate::canon::{Decoding, View, Views, percent_encode, split_target};

/// The views of one URL, in buffers that are used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// As sent, or as it would be sent.
    raw: Vec<u8>,
    views: Vec<ViewText>,
    count: usize,
}

/// What one view makes of a URL, kept.
#[derive(Debug, Default)]
struct ViewText {
    path: Part,
    query: Option<Part>,
    decoding: Option<Decoding>,
    /// Path and query, as far as they are not as sent.
    text: Vec<u8>,
}

/// Where a part of a URL stands.
#[derive(Clone, Debug)]
enum Part {
    /// In the URL as sent.
    Sent(Range<usize>),
    /// In the view's own text.
    Text(Range<usize>),
}

impl Default for Part {
    fn default() -> Self {
        Self::Sent(0..0)
    }
}

impl ViewText {
    fn append(&mut self, part: &[u8]) -> Part {
        let start = self.text.len();
        self.text.extend_from_slice(part);
        Part::Text(start..self.text.len())
    }

    fn part<'t>(&'t self, sent: &'t [u8], part: &Part) -> &'t [u8] {
        match part {
            Part::Sent(range) => &sent[range.clone()],
            Part::Text(range) => &self.text[range.clone()],
        }
    }
}

/// One view of a URL; IIS's own is the first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen<'t> {
    path: &'t [u8],
    query: Option<&'t [u8]>,
    decoding: Option<Decoding>,
    /// What [`write`](Self::write) writes, if it stands somewhere in one piece.
    whole: Option<&'t [u8]>,
}

impl<'t> Seen<'t> {
    /// How it was made from what was sent; `None` for a URL as a rule wrote it.
    pub(crate) const fn decoding(self) -> Option<Decoding> {
        self.decoding
    }

    pub(crate) const fn path(self) -> &'t [u8] {
        self.path
    }

    pub(crate) const fn query(self) -> Option<&'t [u8]> {
        self.query
    }

    /// Path and query, without a `?` if the query is empty, where they stand; `None` if they have to be written.
    pub(crate) const fn whole(self) -> Option<&'t [u8]> {
        self.whole
    }

    /// Appends path and query, without a `?` if the query is empty.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.path);
        if let Some(query) = self.query.filter(|query| !query.is_empty()) {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }
}

impl Target {
    /// Takes a target as a client sent it, and leaves its views for [`see`](Self::see) to make.
    pub(crate) fn take(&mut self, target: &[u8]) {
        self.raw.clear();
        self.raw.extend_from_slice(target);
        self.count = 0;
    }

    /// Makes the views of what was taken, unless they are made.
    pub(crate) fn see(&mut self, hardened: bool) {
        if self.count > 0 {
            return;
        }
        let raw = std::mem::take(&mut self.raw);
        if hardened {
            for view in Views::hardened(&raw).iter() {
                self.push_view(&raw, view);
            }
        } else {
            self.push_view(&raw, &Views::iis(&raw));
        }
        self.raw = raw;
    }

    /// Takes what a rule wrote: IIS hands that to the next rule as it is.
    pub(crate) fn take_rewritten(
        &mut self,
        path: &[u8],
        query: Option<&[u8]>,
        sent: &[u8],
        hardened: bool,
    ) {
        self.raw.clear();
        self.raw.extend_from_slice(sent);
        self.count = 0;
        let query_part = |query: &[u8]| Part::Text(path.len()..path.len() + query.len());
        let view = self.next();
        view.text.extend_from_slice(path);
        view.text.extend_from_slice(query.unwrap_or_default());
        view.path = Part::Text(0..path.len());
        view.query = query.map(query_part);
        view.decoding = None;
        if hardened {
            for view in Views::hardened(sent).iter() {
                if view.path != path || view.query.as_deref() != query {
                    self.push_view(sent, view);
                }
            }
        }
    }

    fn push_view(&mut self, sent: &[u8], view: &View<'_>) {
        let kept = self.next();
        // What is borrowed is as sent: the path from the beginning on, the query up to the end.
        kept.path = match &view.path {
            Cow::Borrowed(path) => Part::Sent(0..path.len()),
            Cow::Owned(path) => kept.append(path),
        };
        kept.query = view.query.as_ref().map(|query| match query {
            Cow::Borrowed(query) => Part::Sent(sent.len() - query.len()..sent.len()),
            Cow::Owned(query) => kept.append(query),
        });
        kept.decoding = Some(view.decoding);
        debug_assert_eq!(kept.part(sent, &kept.path), &*view.path);
    }

    /// Another view, without a text.
    fn next(&mut self) -> &mut ViewText {
        if self.count == self.views.len() {
            self.views.push(ViewText::default());
        }
        self.count += 1;
        let view = &mut self.views[self.count - 1];
        view.text.clear();
        view
    }

    /// Every view, IIS's own first.
    pub(crate) fn views(&self) -> impl Iterator<Item = Seen<'_>> {
        (0..self.count).map(|number| self.view(number))
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// A view by number; IIS's own when there are fewer, since original and current URL may differ in that.
    pub(crate) fn view(&self, number: usize) -> Seen<'_> {
        debug_assert!(
            self.count > 0 || self.raw.is_empty(),
            "views are made before they are read"
        );
        let number = if number < self.count { number } else { 0 };
        let Some(view) = self.views[..self.count].get(number) else {
            return Seen::default();
        };
        let text = |part| view.part(&self.raw, part);
        let whole = match (&view.path, &view.query) {
            (Part::Sent(_), Some(Part::Sent(query))) if !query.is_empty() => Some(&*self.raw),
            (Part::Sent(path), None | Some(Part::Sent(_))) => Some(&self.raw[path.clone()]),
            _ => None,
        };
        Seen {
            path: text(&view.path),
            query: view.query.as_ref().map(text),
            decoding: view.decoding,
            whole,
        }
    }

    /// Appends the undecoded URL; for views other than IIS's own, what they see in its place.
    pub(crate) fn write_raw(&self, number: usize, out: &mut Vec<u8>) {
        if number == 0 || number >= self.count {
            out.extend_from_slice(&self.raw);
        } else {
            self.view(number).write(out);
        }
    }
}

/// What an action wrote as its URL, completed: made absolute in the site, and joined with the current query.
///
/// The rule's own query comes first and the current one after `&`, as measured on IIS. A fragment, which only a
/// redirection can have, stays at the end.
pub(crate) fn compose(
    text: &[u8],
    scope: &[u8],
    append: Option<&[u8]>,
    has_fragment: bool,
) -> Vec<u8> {
    let fragment_at = if has_fragment {
        text.iter().position(|byte| *byte == b'#')
    } else {
        None
    };
    let (text, fragment) = text.split_at(fragment_at.unwrap_or(text.len()));
    let (path, query) = split_target(text);
    let query = query.unwrap_or_default();
    let append = append.unwrap_or_default();
    let mut url = Vec::with_capacity(scope.len() + text.len() + append.len() + 2);
    if split_base(path).0.is_empty() && !path.starts_with(b"/") {
        url.extend_from_slice(scope);
        url.push(b'/');
    }
    url.extend_from_slice(path);
    if !query.is_empty() || !append.is_empty() {
        url.push(b'?');
    }
    url.extend_from_slice(query);
    if !query.is_empty() && !append.is_empty() {
        url.push(b'&');
    }
    url.extend_from_slice(append);
    url.extend_from_slice(fragment);
    url
}

/// A `Location` that may be sent, and that stays on this host unless the rule names another.
///
/// Browsers read `//host` and `/\host` as another host, and a path that a client chose could begin so.
pub(crate) fn location(url: Vec<u8>) -> Vec<u8> {
    let url = match url.iter().position(|byte| !b"/\\".contains(byte)) {
        Some(slashes) if slashes > 1 => url[slashes - 1..].to_vec(),
        None if url.len() > 1 => b"/".to_vec(),
        _ => url,
    };
    let mut location = legal(&url).into_owned();
    if url.first() == Some(&b'\\') {
        location.splice(..3, *b"/");
    }
    location
}

/// Splits an absolute URL (RFC 3986 section 4.3) after its authority; the first part is empty for any other.
pub(crate) fn split_base(url: &[u8]) -> (&[u8], &[u8]) {
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let scheme = url.iter().take_while(|byte| is_scheme(byte)).count();
    if !url.first().is_some_and(u8::is_ascii_alphabetic) || !url[scheme..].starts_with(b"://") {
        return url.split_at(0);
    }
    let authority = scheme + 3;
    let end = url[authority..]
        .iter()
        .position(|byte| b"/?#".contains(byte));
    url.split_at(end.map_or(url.len(), |end| authority + end))
}

/// Path and query in the form that may be sent (RFC 3986 sections 3.3 and 3.4).
///
/// IIS encodes the `%` of what rules wrote once more, unless `useOriginalURLEncoding="false"`. That also is what makes
/// text captured from a decoded path name the same resource again.
pub(crate) fn wire(path: &[u8], query: Option<&[u8]>, keeps_escapes: bool) -> Vec<u8> {
    let mut sent = Vec::with_capacity(path.len() + 1 + query.map_or(0, <[u8]>::len));
    for (at, byte) in path.iter().enumerate() {
        let keeps = keeps_escapes && is_escape(&path[at..]);
        let is_legal = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte);
        if keeps || is_legal {
            sent.push(*byte);
        } else {
            sent.extend_from_slice(&percent_encode(&[*byte], |_| false));
        }
    }
    if let Some(query) = query {
        sent.push(b'?');
        sent.extend_from_slice(&percent_encode(query, |byte| {
            byte != b'#' && is_legal(byte)
        }));
    }
    sent
}

/// Text without the octets that no URL may hold (RFC 3986 section 2).
pub(crate) fn legal(url: &[u8]) -> Cow<'_, [u8]> {
    percent_encode(url, is_legal)
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn is_escape(text: &[u8]) -> bool {
    matches!(text, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_completed() {
        for (text, scope, append, expected) in [
            ("a.aspx?x=1", "", "o=2", "/a.aspx?x=1&o=2"),
            ("a.aspx", "/owa", "o=2", "/owa/a.aspx?o=2"),
            ("/a.aspx", "/owa", "", "/a.aspx"),
            ("", "", "", "/"),
            ("", "/owa", "", "/owa/"),
            ("?", "", "", "/"),
            ("?a", "", "b", "/?a&b"),
            ("http://h", "/owa", "b", "http://h?b"),
            ("/a#f", "", "b", "/a?b#f"),
            ("http:/x", "", "", "/http:/x"),
        ] {
            let append = (!append.is_empty()).then_some(append.as_bytes());
            let url = compose(text.as_bytes(), scope.as_bytes(), append, true);
            assert_eq!(String::from_utf8(url).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn location_cannot_leave_the_host_or_the_line() {
        for (url, expected) in [
            ("/a b?c%20", "/a%20b?c%20"),
            ("//evil.example/x", "/evil.example/x"),
            ("/\\evil.example", "/evil.example"),
            ("\\\\evil.example", "/evil.example"),
            ("///", "/"),
            ("https://h//x", "https://h//x"),
            ("/a\r\nSet-Cookie: b", "/a%0D%0ASet-Cookie:%20b"),
        ] {
            let location = location(url.as_bytes().to_vec());
            assert_eq!(String::from_utf8(location).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn wire_form_is_legal() {
        let shown = |path: &str, query: Option<&str>, keeps| {
            String::from_utf8(wire(path.as_bytes(), query.map(str::as_bytes), keeps)).unwrap()
        };
        assert_eq!(shown("/a b%20é?", None, false), "/a%20b%2520%C3%A9%3F");
        assert_eq!(shown("/a b%20%2", None, true), "/a%20b%20%252");
        assert_eq!(shown("/", Some("a b%20#?"), false), "/?a%20b%20%23?");
        assert_eq!(shown("/", Some(""), false), "/?");
    }

    #[test]
    fn base_ends_after_the_authority() {
        let base = |url: &'static str| split_base(url.as_bytes()).0;
        assert_eq!(base("http://h:1/x"), b"http://h:1");
        assert_eq!(base("http://h?x"), b"http://h");
        for url in ["/http://h", "://h", "1a://h", "http:/h", "h", ""] {
            assert_eq!(base(url), b"", "{url}");
        }
    }
}
