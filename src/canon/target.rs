//! The two parts of a request target, and path prefixes.

/// Splits a target in origin form at its first `?`: the path, and the query without the `?`.
///
/// The query is `None` when there is no `?`, and empty when nothing follows it (RFC 9112 section 3.2.1).
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// Whether `path` is `prefix` or lies below it: letter case is ignored (ASCII), segments count whole.
///
/// `/owa` covers `/owa`, `/owa/` and `/OWA/x`, and not `/owax`. A slash at the end of `prefix` means nothing, so
/// an empty prefix and `/` cover every path.
pub fn path_has_prefix(path: &[u8], prefix: &[u8]) -> bool {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    match path.split_at_checked(prefix.len()) {
        Some((head, rest)) => {
            head.eq_ignore_ascii_case(prefix)
                && (prefix.is_empty() || rest.first().is_none_or(|&byte| byte == b'/'))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_splits_at_the_first_question_mark() {
        let split = |target: &'static str| split_target(target.as_bytes());
        assert_eq!(split("/a"), (&b"/a"[..], None));
        assert_eq!(split("/a?"), (&b"/a"[..], Some(&b""[..])));
        assert_eq!(split("/a?b?c"), (&b"/a"[..], Some(&b"b?c"[..])));
        assert_eq!(split(""), (&b""[..], None));
    }

    #[test]
    fn prefix_covers_whole_segments() {
        for (path, prefix, covered) in [
            ("/owa", "/owa", true),
            ("/OWA/x", "/owa", true),
            ("/owa/", "/owa/", true),
            ("/owa", "/owa/", true),
            ("/owax", "/owa", false),
            ("/ow", "/owa", false),
            ("/x/owa", "/owa", false),
            ("/anything", "", true),
            ("/anything", "/", true),
            ("", "/", true),
        ] {
            let found = path_has_prefix(path.as_bytes(), prefix.as_bytes());
            assert_eq!(found, covered, "{prefix} covers {path}");
        }
    }
}
