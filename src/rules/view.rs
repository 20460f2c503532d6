//! What a rule can see of a request and of a response, borrowed and free of any HTTP library's types.

use std::net::SocketAddr;

/// Header fields of one message.
///
/// Names are matched without regard to case. Implemented here for vectors and arrays of pairs, and by [`crate::filter`] for
/// [`http::HeaderMap`].
///
/// # Examples
///
/// ```
/// use stopgap::rules::Fields;
///
/// let fields = [("Cookie", "a=1"), ("COOKIE", "b=2"), ("Host", "h")];
/// let mut values = Vec::new();
/// fields.values("cookie", &mut |value| values.push(value.to_vec()));
/// assert_eq!(values, [b"a=1", b"b=2"]);
/// ```
pub trait Fields {
    /// Calls `visit` with every field, name and value, in the order received.
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8]));

    /// Calls `visit` with every value of the field `name`, in the order received.
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.each(&mut |other, value| {
            if other.eq_ignore_ascii_case(name) {
                visit(value);
            }
        });
    }

    /// Calls `visit` with every value of the field that a server variable reads, in the order received: `name` is in
    /// lower case, and a `-` in it also stands for `_`.
    fn variants(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.each(&mut |other, value| {
            if is_same_name(other.as_bytes(), name.as_bytes()) {
                visit(value);
            }
        });
    }

    /// The value of the one field that a server variable reads, so that it need not be copied: `name` is in lower
    /// case, and a `-` in it also stands for `_`.
    ///
    /// `None` says nothing: none or several fields may have the name, or values cannot be lent, as by default.
    fn lone(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Fields for [(N, V)] {
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self {
            visit(name.as_ref(), value.as_ref());
        }
    }

    fn lone(&self, name: &str) -> Option<&[u8]> {
        let named = |(other, _): &&(N, V)| is_same_name(other.as_ref().as_bytes(), name.as_bytes());
        let mut fields = self.iter().filter(named);
        let (_, value) = fields.next()?;
        fields.next().is_none().then_some(value.as_ref())
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Fields for Vec<(N, V)> {
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.as_slice().each(visit);
    }

    fn lone(&self, name: &str) -> Option<&[u8]> {
        self.as_slice().lone(name)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const COUNT: usize> Fields for [(N, V); COUNT] {
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.as_slice().each(visit);
    }

    fn lone(&self, name: &str) -> Option<&[u8]> {
        self.as_slice().lone(name)
    }
}

/// A request before anything was changed in it.
///
/// # Examples
///
/// ```
/// use stopgap::rules::RequestView;
///
/// let fields = [("Host", "mail.example"), ("Cookie", "a=1")];
/// let request = RequestView {
///     secure: true,
///     remote: Some("192.0.2.1:50000".parse()?),
///     ..RequestView::new("POST", b"/ews/exchange.asmx", &fields)
/// };
/// assert_eq!(request.version, "HTTP/1.1");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The request target in origin form: path, and `?` with the query if there was one, as sent (RFC 9112
    /// section 3.2.1).
    pub target: &'a [u8],
    /// The protocol version, such as `HTTP/1.1`.
    pub version: &'a str,
    /// Whether the client speaks TLS to us.
    pub secure: bool,
    /// The client's address.
    pub remote: Option<SocketAddr>,
    /// The address that the client connected to.
    pub local: Option<SocketAddr>,
    /// The request fields, before hop-by-hop fields are removed.
    pub fields: &'a dyn Fields,
    /// Further server variables, by name without braces; they come before those known from the rest, but for parts
    /// of the URL.
    pub variables: &'a [(String, String)],
}

impl<'a> RequestView<'a> {
    /// A plain HTTP/1.1 request of which nothing else is known; `target` is in origin form.
    pub fn new(method: &'a str, target: &'a [u8], fields: &'a dyn Fields) -> Self {
        Self {
            method,
            target,
            version: "HTTP/1.1",
            secure: false,
            remote: None,
            local: None,
            fields,
            variables: &[],
        }
    }
}

/// A response as it came from the upstream.
///
/// # Examples
///
/// ```
/// use stopgap::rules::ResponseView;
///
/// // An empty reason is the usual one of the code.
/// let response = ResponseView { status: 404, reason: "", fields: &[("Content-Length", "0")] };
/// assert_eq!(response.status, 404);
/// ```
#[derive(Clone, Copy)]
pub struct ResponseView<'a> {
    /// The status code.
    pub status: u16,
    /// The reason phrase; empty for the usual one.
    pub reason: &'a str,
    /// The response fields.
    pub fields: &'a dyn Fields,
}

/// Appends a field's value, joined over all its lines: `; ` between cookies (RFC 6265 section 5.4), `, ` between
/// others (RFC 9110 section 5.3).
///
/// A `-` in `name` also stands for `_`, since IIS gives both to one server variable.
pub(crate) fn read_field(fields: &dyn Fields, name: &str, out: &mut Vec<u8>) -> bool {
    let separator: &[u8] = if name == "cookie" { b"; " } else { b", " };
    let mut is_first = true;
    let mut append = |value: &[u8]| {
        if !is_first {
            out.extend_from_slice(separator);
        }
        is_first = false;
        out.extend_from_slice(value);
    };
    if name.contains('-') {
        fields.variants(name, &mut append);
    } else {
        fields.values(name, &mut append);
    }
    !is_first
}

/// Whether a field's name is the one in lower case, in which `-` also stands for `_`.
pub(crate) fn is_same_name(other: &[u8], name: &[u8]) -> bool {
    let fold = |byte: u8| {
        if byte == b'_' {
            b'-'
        } else {
            byte.to_ascii_lowercase()
        }
    };
    other.len() == name.len() && other.iter().zip(name).all(|(&a, &b)| fold(a) == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_joined() {
        let fields = [
            ("Cookie", "a=1"),
            ("X_Forwarded-For", "1"),
            ("cookie", "b=2"),
            ("x-forwarded-for", "2"),
        ];
        let read = |name: &str| {
            let mut out = Vec::new();
            let found = read_field(&fields, name, &mut out);
            (found, String::from_utf8(out).unwrap())
        };
        assert_eq!(read("cookie"), (true, "a=1; b=2".to_owned()));
        assert_eq!(read("x-forwarded-for"), (true, "1, 2".to_owned()));
        assert_eq!(read("accept"), (false, String::new()));
        let one = [("Accept", "a"), ("X_Y", "b")];
        assert_eq!(one.lone("accept"), Some(&b"a"[..]));
        assert_eq!(one.lone("x-y"), Some(&b"b"[..]));
        for name in ["cookie", "x-forwarded-for", "host"] {
            assert_eq!(fields.lone(name), None, "{name}");
        }
    }
}
