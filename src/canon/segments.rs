//! Path segments: slashes, dot segments, and what servers and frameworks ignore inside a segment.

use std::borrow::Cow;

/// Turns `\` into `/`, folds runs of slashes into one, and resolves dot segments (RFC 3986 section 5.2.4).
///
/// Borrows when the path is already so. A `..` above the root is dropped; `.` or `..` at the end leaves a slash.
pub(super) fn resolve(path: &[u8]) -> Cow<'_, [u8]> {
    rebuild(path, |segment| segment)
}

/// Does what [`resolve`] does and removes path parameters (`;x`), ASP.NET's cookieless segments (`(S(x))`), and the
/// dots and spaces at the end of a segment, which Windows drops from file names.
pub(super) fn resolve_and_strip(path: &[u8]) -> Cow<'_, [u8]> {
    rebuild(path, strip)
}

/// Takes the path apart at its slashes and puts the segments that `clean` leaves together again.
fn rebuild(path: &[u8], clean: fn(&[u8]) -> &[u8]) -> Cow<'_, [u8]> {
    if is_clean(path, clean) {
        return Cow::Borrowed(path);
    }
    let rooted = path.first().is_some_and(is_slash);
    let mut output = Vec::with_capacity(path.len());
    let mut ends_open = false;
    for segment in path.split(is_slash) {
        let segment = clean(segment);
        ends_open = matches!(segment, b"" | b"." | b"..");
        if segment == b".." {
            let parent = output.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            output.truncate(parent);
        } else if !ends_open {
            if rooted || !output.is_empty() {
                output.push(b'/');
            }
            output.extend_from_slice(segment);
        }
    }
    if ends_open && (rooted || !output.is_empty()) {
        output.push(b'/');
    }
    Cow::Owned(output)
}

fn is_clean(path: &[u8], clean: fn(&[u8]) -> &[u8]) -> bool {
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    let (parents, last) = match relative.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (Some(&relative[..at]), &relative[at + 1..]),
        None => (None, relative),
    };
    let is_kept = |segment: &[u8]| {
        !matches!(segment, b"." | b"..")
            && !segment.contains(&b'\\')
            && clean(segment).len() == segment.len()
    };
    is_kept(last)
        && parents.is_none_or(|parents| {
            parents
                .split(|&byte| byte == b'/')
                .all(|segment| !segment.is_empty() && is_kept(segment))
        })
}

fn strip(segment: &[u8]) -> &[u8] {
    let end = segment.iter().position(|&byte| byte == b';');
    let segment = &segment[..end.unwrap_or(segment.len())];
    if is_cookieless(segment) {
        return b"";
    }
    let mut stripped = segment.trim_ascii_end();
    if matches!(stripped, b"." | b"..") {
        return stripped;
    }
    while let [rest @ .., b'.' | b' '] = stripped {
        stripped = rest;
    }
    stripped
}

/// Whether this is `(` followed by one or more of letter, `(`, anything, `)`, and then `)`.
fn is_cookieless(segment: &[u8]) -> bool {
    let Some(mut rest) = segment
        .strip_prefix(b"(")
        .and_then(|rest| rest.strip_suffix(b")"))
    else {
        return false;
    };
    if rest.is_empty() {
        return false;
    }
    while let [letter, b'(', value @ ..] = rest {
        let Some(end) = value.iter().position(|&byte| byte == b')') else {
            return false;
        };
        if !letter.is_ascii_alphabetic() {
            return false;
        }
        rest = &value[end + 1..];
    }
    rest.is_empty()
}

const fn is_slash(byte: &u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dot_segments_and_slashes_resolve() {
        for (path, resolved) in [
            ("", ""),
            ("*", "*"),
            ("/", "/"),
            ("/a/b.c/", "/a/b.c/"),
            ("//a///b//", "/a/b/"),
            ("/./a/./b/.", "/a/b/"),
            ("/x/../a/y/..", "/a/"),
            ("/../../a", "/a"),
            ("/a/...", "/a/..."),
            (r"\a\..\b", "/b"),
            (r"/a\", "/a/"),
            ("a/../b", "b"),
            ("..", ""),
            ("/a;b/..;/c", "/a;b/..;/c"),
        ] {
            assert_eq!(&*resolve(path.as_bytes()), resolved.as_bytes(), "{path}");
        }
    }

    #[test]
    fn ignored_parts_are_stripped() {
        for (path, stripped) in [
            ("/a;x=1/b;y", "/a/b"),
            ("/a/..;/b", "/b"),
            ("/(S(x))/a/(A(y)F(z))/b", "/a/b"),
            ("/a/(S(x))", "/a/"),
            ("/(x)/(S(x)/()", "/(x)/(S(x)/()"),
            ("/(S(x))y/b", "/(S(x))y/b"),
            ("/a./b /c. . ", "/a/b/c"),
            ("/a/.. /b/. /c", "/b/c"),
            ("/a/.../b", "/a/b"),
        ] {
            assert_eq!(
                &*resolve_and_strip(path.as_bytes()),
                stripped.as_bytes(),
                "{path}"
            );
        }
    }

    #[test]
    fn clean_path_borrows() {
        for path in ["", "/", "/a/b.c", "/a/b/", "a"] {
            assert!(
                matches!(resolve_and_strip(path.as_bytes()), Cow::Borrowed(_)),
                "{path}"
            );
        }
        assert!(matches!(resolve(b"/a;x/b."), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn resolving_twice_changes_nothing_more(path in r"[/\\.;() aS]{0,24}") {
            for step in [resolve, resolve_and_strip] {
                let once = step(path.as_bytes());
                prop_assert!(once.len() <= path.len());
                prop_assert!(matches!(step(&once), Cow::Borrowed(_)), "{:?}", &*once);
            }
        }
    }
}
