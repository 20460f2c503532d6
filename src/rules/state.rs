//! The URL under judgement: its views, and what rules made of it so far.

use super::scratch::change_field;
use super::target::{self, Target};
use super::template::{Sight, Variable};
use super::{FieldChange, RequestView};
use crate::canon::{split_target, uppercase_escapes};

/// What rules have made of the request so far.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) original: Target,
    current: Target,
    /// `scheme://authority` of an absolute rewritten URL; empty for one on this host.
    base: Vec<u8>,
    /// The rewritten URL as the rules wrote it; empty if there is none.
    url: Vec<u8>,
    keeps_escapes: bool,
    /// Whether rules want more views than IIS's own.
    hardened: bool,
    pub(crate) fields: Vec<FieldChange>,
    pub(crate) variables: Vec<(String, Variable, Vec<u8>)>,
    /// Counts changes that may give an input another value, over all requests.
    pub(crate) epoch: u64,
    /// The set that judged the request; 0 for none.
    pub(crate) set: u64,
}

impl State {
    /// Forgets the request before and takes a new one, whose views are made by [`see`](Self::see).
    pub(crate) fn begin(&mut self, set: u64, target: &[u8], hardened: bool) {
        self.original.take(target);
        self.url.clear();
        self.fields.clear();
        self.variables.clear();
        self.hardened = hardened;
        self.epoch += 1;
        self.set = set;
    }

    /// Makes the views of the target, unless they are made; a request that is known from the one before needs none.
    pub(crate) fn see(&mut self) {
        self.original.see(self.hardened);
    }

    /// Whether everything that rules read is as it came.
    pub(crate) fn is_untouched(&self) -> bool {
        self.url.is_empty() && self.fields.is_empty() && self.variables.is_empty()
    }

    /// The URL as the next rule sees it.
    pub(crate) fn current(&self) -> &Target {
        if self.url.is_empty() {
            &self.original
        } else {
            &self.current
        }
    }

    /// How many views there are to judge.
    pub(crate) fn view_count(&self) -> usize {
        self.original.len().max(self.current().len())
    }

    pub(crate) fn rewritten_url(&self) -> Option<&[u8]> {
        (!self.url.is_empty()).then_some(&self.url)
    }

    /// Makes `url`, a path with its query or an absolute URL, the current one.
    pub(crate) fn rewrite(&mut self, url: Vec<u8>, keeps_escapes: bool) {
        let (base, local) = target::split_base(&url);
        self.base = base.to_vec();
        let (path, query) = split_target(local);
        let path = if path.is_empty() { b"/" } else { path };
        let sent = target::wire(path, query, keeps_escapes);
        self.current
            .take_rewritten(path, query, &sent, self.hardened);
        self.keeps_escapes = keeps_escapes;
        self.url = url;
        self.epoch += 1;
    }

    /// The rewritten URL in the form that may be sent.
    pub(crate) fn wire_target(&self) -> Option<Vec<u8>> {
        self.rewritten_url()?;
        let view = self.current.view(0);
        let mut sent = target::legal(&self.base).into_owned();
        sent.extend_from_slice(&target::wire(view.path(), view.query(), self.keeps_escapes));
        Some(sent)
    }

    pub(crate) fn set_field(&mut self, name: &str, value: &[u8]) {
        change_field(&mut self.fields, name, value);
        self.epoch += 1;
    }

    pub(crate) fn set_variable(&mut self, name: &str, variable: &Variable, value: Vec<u8>) {
        self.variables.retain(|(known, ..)| known != name);
        self.variables
            .push((name.to_owned(), variable.clone(), value));
        self.epoch += 1;
    }

    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let change = self.fields.iter().find(|change| change.name == name)?;
        Some(&change.value)
    }

    pub(crate) fn variable(&self, wanted: &Variable) -> Option<&[u8]> {
        let found = self
            .variables
            .iter()
            .find(|(_, variable, _)| variable == wanted)?;
        Some(&found.2)
    }
}

/// What variables read in one view of the request.
pub(crate) struct RequestSight<'a> {
    pub(crate) request: &'a RequestView<'a>,
    pub(crate) state: &'a State,
    pub(crate) view: usize,
    pub(crate) document_root: &'a [u8],
}

impl Sight for RequestSight<'_> {
    fn read(&self, variable: &Variable, out: &mut Vec<u8>) {
        if let Some(value) = self.state.variable(variable) {
            out.extend_from_slice(value);
            return;
        }
        if let Some(value) = self.given(variable) {
            out.extend_from_slice(value.as_bytes());
            return;
        }
        match variable {
            Variable::CacheUrl
            | Variable::HttpUrl
            | Variable::PhysicalPath
            | Variable::PhysicalRoot
            | Variable::QueryString
            | Variable::RequestUri
            | Variable::UnencodedUrl
            | Variable::Url => self.read_target(variable, out),
            Variable::AllHttp
            | Variable::AllRaw
            | Variable::OriginalUrl
            | Variable::RequestField(_) => self.read_fields(variable, out),
            // Not set; or bound for the response only, and read there from the response itself.
            Variable::Custom(_) | Variable::ResponseField(_) | Variable::ResponseStatus => {}
            _ => self.read_connection(variable, out),
        }
    }
}

impl<'a> RequestSight<'a> {
    /// A variable's value where it stands already; `None` if it has to be read.
    pub(crate) fn lend(&self, variable: &Variable) -> Option<&'a [u8]> {
        if !self.state.is_untouched() || !self.request.variables.is_empty() {
            return None;
        }
        let target = &self.state.original;
        match variable {
            Variable::QueryString => Some(target.view(self.view).query().unwrap_or_default()),
            Variable::RequestField(name) => self.request.fields.lone(name),
            Variable::RequestUri => target.view(self.view).whole(),
            Variable::Url => Some(target.view(self.view).path()),
            _ => None,
        }
    }
}

impl RequestSight<'_> {
    /// What the caller says instead of what is known here; not for the URL, which rules follow as they rewrite it.
    fn given(&self, variable: &Variable) -> Option<&str> {
        if variable.is_of_target() {
            return None;
        }
        let mut given = self.request.variables.iter();
        let found = given.find(|(name, _)| Variable::custom_or_named(name) == *variable)?;
        Some(&found.1)
    }

    fn read_target(&self, variable: &Variable, out: &mut Vec<u8>) {
        let (original, current) = (&self.state.original, self.state.current());
        match variable {
            Variable::CacheUrl => {
                out.extend_from_slice(self.scheme());
                out.extend_from_slice(b"://");
                self.read(&Variable::ServerName, out);
                out.push(b':');
                self.read(&Variable::ServerPort, out);
                original.view(self.view).write(out);
            }
            Variable::HttpUrl => current.write_raw(self.view, out),
            Variable::PhysicalPath => {
                out.extend_from_slice(self.document_root);
                out.extend_from_slice(current.view(self.view).path());
            }
            Variable::PhysicalRoot => out.extend_from_slice(self.document_root),
            Variable::QueryString => {
                out.extend_from_slice(current.view(self.view).query().unwrap_or_default());
            }
            Variable::RequestUri => original.view(self.view).write(out),
            // IIS writes the digits of escapes in upper case.
            Variable::UnencodedUrl if self.view == 0 => {
                out.extend_from_slice(&uppercase_escapes(original.raw()));
            }
            Variable::UnencodedUrl => original.write_raw(self.view, out),
            _ => out.extend_from_slice(current.view(self.view).path()),
        }
    }

    fn read_fields(&self, variable: &Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::AllHttp => self.request.fields.each(&mut |name, value| {
                let name = name.to_ascii_uppercase().replace('-', "_");
                out.extend_from_slice(b"HTTP_");
                write_field(&name, ":", value, "\n", out);
            }),
            Variable::AllRaw => self
                .request
                .fields
                .each(&mut |name, value| write_field(name, ": ", value, "\r\n", out)),
            Variable::OriginalUrl if self.state.rewritten_url().is_some() => {
                out.extend_from_slice(self.state.original.raw());
            }
            Variable::OriginalUrl => self.read_field("x-original-url", out),
            Variable::RequestField(name) => self.read_field(name, out),
            _ => {}
        }
    }

    fn read_field(&self, name: &str, out: &mut Vec<u8>) {
        match self.state.field(name) {
            Some(value) => out.extend_from_slice(value),
            None => {
                super::view::read_field(self.request.fields, name, out);
            }
        }
    }

    fn read_connection(&self, variable: &Variable, out: &mut Vec<u8>) {
        let request = self.request;
        match variable {
            Variable::GatewayInterface => out.extend_from_slice(b"CGI/1.1"),
            Variable::Https => out.extend_from_slice(if request.secure { b"on" } else { b"off" }),
            Variable::LocalAddress => write_address(request.local, out),
            Variable::Method => out.extend_from_slice(request.method.as_bytes()),
            Variable::Protocol => out.extend_from_slice(request.version.as_bytes()),
            Variable::RemoteAddress => write_address(request.remote, out),
            Variable::RemotePort => {
                if let Some(remote) = request.remote {
                    out.extend_from_slice(remote.port().to_string().as_bytes());
                }
            }
            Variable::ServerName => {
                let start = out.len();
                self.read_field("host", out);
                let name = split_host(&out[start..]).0.len();
                out.truncate(start + name);
            }
            Variable::ServerPort => self.read_port(out),
            Variable::ServerPortSecure => out.push(if request.secure { b'1' } else { b'0' }),
            _ => {}
        }
    }

    /// The port the client connected to; if that is not known, the one it named.
    fn read_port(&self, out: &mut Vec<u8>) {
        if let Some(local) = self.request.local {
            out.extend_from_slice(local.port().to_string().as_bytes());
            return;
        }
        let start = out.len();
        self.read_field("host", out);
        let port = split_host(&out[start..]).1;
        let port = port.filter(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit));
        let port = match port {
            Some(port) => port.to_vec(),
            None if self.request.secure => b"443".to_vec(),
            None => b"80".to_vec(),
        };
        out.truncate(start);
        out.extend_from_slice(&port);
    }

    const fn scheme(&self) -> &'static [u8] {
        if self.request.secure {
            b"https"
        } else {
            b"http"
        }
    }
}

fn write_field(name: &str, colon: &str, value: &[u8], end: &str, out: &mut Vec<u8>) {
    for part in [name.as_bytes(), colon.as_bytes(), value, end.as_bytes()] {
        out.extend_from_slice(part);
    }
}

fn write_address(address: Option<std::net::SocketAddr>, out: &mut Vec<u8>) {
    if let Some(address) = address {
        // A dual-stack listener shows IPv4 clients as mapped addresses; rules are written for the plain form.
        out.extend_from_slice(address.ip().to_canonical().to_string().as_bytes());
    }
}

/// Host and port of a `Host` field (RFC 9110 section 7.2); the brackets of an IPv6 address stay.
fn split_host(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let after_address = host.iter().rposition(|byte| *byte == b']').unwrap_or(0);
    match host[after_address..].iter().position(|byte| *byte == b':') {
        Some(colon) => {
            let colon = after_address + colon;
            (&host[..colon], Some(&host[colon + 1..]))
        }
        None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variable: &Variable, host: &str, local: Option<&str>, secure: bool) -> String {
        let fields = [("Host", host)];
        let request = RequestView {
            method: "GET",
            target: b"/",
            version: "HTTP/1.1",
            secure,
            remote: Some("[::ffff:192.0.2.1]:99".parse().unwrap()),
            local: local.map(|local| local.parse().unwrap()),
            fields: &fields,
            variables: &[],
        };
        let sight = RequestSight {
            request: &request,
            state: &State::default(),
            view: 0,
            document_root: b"",
        };
        let mut out = Vec::new();
        sight.read(variable, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn host_and_port_are_told_apart() {
        for (host, local, secure, name, port) in [
            ("h", None, false, "h", "80"),
            ("h", None, true, "h", "443"),
            ("h:8080", None, false, "h", "8080"),
            ("h:8080", Some("127.0.0.1:81"), false, "h", "81"),
            ("h:", None, false, "h", "80"),
            ("h:x", None, false, "h", "80"),
            ("[::1]", None, false, "[::1]", "80"),
            ("[::1]:82", None, false, "[::1]", "82"),
            ("", None, false, "", "80"),
        ] {
            assert_eq!(
                read(&Variable::ServerName, host, local, secure),
                name,
                "{host}"
            );
            assert_eq!(
                read(&Variable::ServerPort, host, local, secure),
                port,
                "{host}"
            );
        }
    }

    #[test]
    fn addresses_have_their_plain_form() {
        let read = |variable| read(&variable, "h", Some("[2001:db8::1]:80"), false);
        assert_eq!(read(Variable::RemoteAddress), "192.0.2.1");
        assert_eq!(read(Variable::RemotePort), "99");
        assert_eq!(read(Variable::LocalAddress), "2001:db8::1");
    }
}
