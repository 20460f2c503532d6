//! Who a request is from: the client of its connection, or whom a trusted proxy on that connection speaks for.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::admit::{host_name, is_host};
use super::claims::{self, Hop};
use super::connection::Ends;
use super::short_text::ShortText;
use super::{ClientField, Forwarding, ForwardingFields, TrustedProxies};
use crate::filter::Peer;

pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Proxies in a row that are looked at for the client behind them.
const HOPS: usize = 32;

/// Who a request is from, and what its server is told of that.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The client's address; a client on the same machine may have none.
    pub(super) address: Option<IpAddr>,
    /// What rules see of the connection.
    pub(super) peer: Peer,
    pub(super) forwarded: Forwarded,
}

/// The values that tell a server of the client, beside the host, which is the request's own.
#[derive(Clone, Debug)]
pub(super) struct Forwarded {
    /// The client's address as shown.
    pub(super) client: ShortText,
    /// The client, and the proxies it came by, if there are any.
    pub(super) proxied: Option<Vec<u8>>,
    /// The host that a trusted proxy was asked for.
    pub(super) asked: Option<HeaderValue>,
    /// The address that the client connected to.
    pub(super) local: Option<SocketAddr>,
    pub(super) port: ShortText,
    pub(super) scheme: &'static str,
    /// How `Forwarded` names the client, and the proxies it came by; only when that is sent.
    pub(super) nodes: Vec<String>,
    /// Which fields are set.
    pub(super) send: ForwardingFields,
    /// Whether it was told by a proxy that is believed.
    pub(super) believed: bool,
}

impl Caller {
    /// The client at the other end of a connection.
    pub(super) fn of_connection(ends: Ends, secure: bool, forwarding: &Forwarding) -> Self {
        let peer = Peer {
            secure,
            remote: ends.remote,
            local: ends.local,
        };
        Self::new(peer, &[ends.remote], None, None, forwarding)
    }

    /// The client for whom the peer of this connection, which is trusted, makes a request.
    pub(super) fn behind(
        &self,
        fields: &HeaderMap,
        trusted: &TrustedProxies,
        forwarding: &Forwarding,
    ) -> Self {
        match forwarding.read {
            ClientField::Forwarded => {
                let (chain, first) = walk(claims::forwarded(fields), trusted);
                let host = first.and_then(|hop| hop.host);
                let secure = first.and_then(|hop| hop.secure);
                self.described(&chain, secure, host, None, forwarding)
            }
            ClientField::XForwardedFor => {
                let (chain, _) = walk(claims::x_forwarded_for(fields), trusted);
                let said = |name| claims::aligned(fields, name, chain.len().saturating_sub(1));
                let secure = said(X_FORWARDED_PROTO).and_then(claims::is_secure);
                let (host, port) = (said(X_FORWARDED_HOST), said(X_FORWARDED_PORT));
                self.described(&chain, secure, host, port, forwarding)
            }
        }
    }

    /// `chain` are the steps behind the peer, nearest first.
    fn described(
        &self,
        chain: &[Option<SocketAddr>],
        secure: Option<bool>,
        host: Option<&[u8]>,
        port: Option<&[u8]>,
        forwarding: &Forwarding,
    ) -> Self {
        let mut steps = vec![self.peer.remote];
        steps.extend(chain);
        let peer = Peer {
            secure: secure.unwrap_or(self.peer.secure),
            remote: steps.last().copied().flatten(),
            local: self.peer.local,
        };
        let host = host.filter(|host| is_host(host));
        let digits = |port: &&[u8]| port.iter().all(u8::is_ascii_digit);
        let port = port
            .filter(digits)
            .and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
        // A proxy that ends TLS listens elsewhere than we do.
        let own = || secure.map(|secure| host.and_then(port_of).unwrap_or(default_port(secure)));
        let host = host.and_then(|host| HeaderValue::from_bytes(host).ok());
        let mut caller = Self::new(peer, &steps, host, port.or_else(own), forwarding);
        caller.forwarded.believed = true;
        caller
    }

    /// `steps` are the way back to the client, nearest first; the last is the client's.
    fn new(
        peer: Peer,
        steps: &[Option<SocketAddr>],
        asked: Option<HeaderValue>,
        port: Option<u16>,
        forwarding: &Forwarding,
    ) -> Self {
        let mut addresses = steps
            .iter()
            .rev()
            .map(|step| step.map(|step| step.ip().to_canonical()));
        let nodes = match forwarding.send.forwarded {
            true => addresses.clone().map(claims::forwarded_node).collect(),
            false => Vec::new(),
        };
        let first = addresses.next().flatten();
        // Nearly every client comes by no other proxy.
        let proxied = (addresses.len() > 0).then(|| {
            let mut chain = Vec::from(ShortText::of_address(first).as_bytes());
            for proxy in addresses {
                chain.extend_from_slice(b", ");
                chain.extend_from_slice(ShortText::of_address(proxy).as_bytes());
            }
            chain
        });
        let local_port = || peer.local.map(|local| local.port());
        Self {
            address: first,
            peer,
            forwarded: Forwarded {
                client: ShortText::of_address(first),
                proxied,
                asked,
                local: peer.local,
                port: ShortText::of_number(
                    port.or_else(local_port)
                        .unwrap_or(default_port(peer.secure)),
                ),
                scheme: if peer.secure { "https" } else { "http" },
                nodes,
                send: forwarding.send,
                believed: false,
            },
        }
    }
}

impl Forwarded {
    /// The client, and the proxies it came by.
    pub(super) fn chain(&self) -> &[u8] {
        self.proxied.as_deref().unwrap_or(self.client.as_bytes())
    }

    /// Stands in for a `Host` that an HTTP/1.0 client did not send.
    pub(super) fn host(&self) -> HeaderValue {
        self.local
            .and_then(|local| HeaderValue::try_from(local.to_string()).ok())
            .unwrap_or(HeaderValue::from_static("localhost"))
    }
}

/// Follows the steps back as far as each was described by a trusted proxy, and what the last of those has said.
fn walk<'f>(
    hops: impl Iterator<Item = Option<Hop<'f>>>,
    trusted: &TrustedProxies,
) -> (Vec<Option<SocketAddr>>, Option<Hop<'f>>) {
    let (mut chain, mut last) = (Vec::new(), None);
    for hop in hops.take(HOPS) {
        let Some(hop) = hop else {
            break;
        };
        chain.push(Some(hop.address));
        last = Some(hop);
        if !trusted.contains(Some(hop.address.ip())) {
            break;
        }
    }
    (chain, last)
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// The port that a host names.
fn port_of(host: &[u8]) -> Option<u16> {
    let port = host.get(host_name(host).len() + 1..)?;
    std::str::from_utf8(port).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, read: ClientField, fields: &[(&str, &str)]) -> Caller {
        let forwarding = Forwarding {
            read,
            send: ForwardingFields {
                forwarded: true,
                ..ForwardingFields::default()
            },
        };
        let trusted = TrustedProxies {
            networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            unix: false,
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let ends = Ends {
            remote: Some(peer.parse().unwrap()),
            local: Some("10.9.9.9:8080".parse().unwrap()),
        };
        let peer = Caller::of_connection(ends, false, &forwarding);
        peer.behind(&map, &trusted, &forwarding)
    }

    fn chain(caller: &Caller) -> &str {
        std::str::from_utf8(caller.forwarded.chain()).unwrap()
    }

    #[test]
    fn client_is_the_last_that_no_trusted_proxy_is() {
        for (value, client, sent) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.1, 10.0.0.1"),
            ("6.6.6.6, 192.0.2.1", "192.0.2.1", "192.0.2.1, 10.0.0.1"),
            (
                "192.0.2.1, 10.0.0.2",
                "192.0.2.1",
                "192.0.2.1, 10.0.0.2, 10.0.0.1",
            ),
            ("fd00::1, fd00::2", "fd00::1", "fd00::1, fd00::2, 10.0.0.1"),
            (
                "192.0.2.1, junk, 10.0.0.2",
                "10.0.0.2",
                "10.0.0.2, 10.0.0.1",
            ),
            ("192.0.2.1, unknown", "10.0.0.1", "10.0.0.1"),
        ] {
            let caller = of(
                "10.0.0.1:5",
                ClientField::XForwardedFor,
                &[("x-forwarded-for", value)],
            );
            let address = caller.address.unwrap().to_string();
            assert_eq!(
                (address.as_str(), chain(&caller)),
                (client, sent),
                "{value}"
            );
        }
    }

    #[test]
    fn proxies_in_a_row_are_bounded() {
        let proxies = |count: usize| vec!["10.0.0.7"; count].join(", ");
        let client = |count: usize| {
            let value = format!("192.0.2.1, {}", proxies(count));
            let fields = [("x-forwarded-for", value.as_str())];
            of("10.0.0.1:5", ClientField::XForwardedFor, &fields)
                .address
                .unwrap()
                .to_string()
        };
        assert_eq!(client(HOPS - 1), "192.0.2.1");
        assert_eq!(client(HOPS), "10.0.0.7");
    }

    #[test]
    fn only_the_named_field_is_read() {
        let fields = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "one"),
            ("forwarded", "for=192.0.2.2;proto=http;host=\"two:81\""),
        ];
        let caller = of("10.0.0.1:5", ClientField::XForwardedFor, &fields);
        let told = |caller: &Caller| {
            let Forwarded {
                asked,
                port,
                scheme,
                nodes,
                ..
            } = &caller.forwarded;
            let asked = asked.as_ref().map_or("", |asked| asked.to_str().unwrap());
            let port = std::str::from_utf8(port.as_bytes()).unwrap();
            format!("{asked} {port} {scheme} {}", nodes.join(", "))
        };
        assert_eq!(told(&caller), "one 443 https for=192.0.2.1, for=10.0.0.1");
        assert!(caller.peer.secure);
        let caller = of("10.0.0.1:5", ClientField::Forwarded, &fields);
        assert_eq!(told(&caller), "two:81 81 http for=192.0.2.2, for=10.0.0.1");
        assert_eq!(caller.peer.remote, Some("192.0.2.2:0".parse().unwrap()));
    }

    #[test]
    fn what_makes_no_sense_is_not_passed_on() {
        let fields = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "a, b c"),
            ("x-forwarded-port", "+80"),
        ];
        let caller = of("10.0.0.1:5", ClientField::XForwardedFor, &fields);
        assert_eq!(caller.forwarded.asked, None);
        assert_eq!(caller.forwarded.port, ShortText::of_number(8_080));
        assert_eq!(caller.forwarded.scheme, "http");
    }
}
