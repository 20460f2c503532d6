//! Settings: which proxies in front are believed, which field of theirs is read, and what servers are told.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::model::Network;

/// What is read of proxies in front, and what servers behind are told of clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Forwarding {
    /// Where trusted proxies name the client.
    pub read: ClientField,
    /// What is set on requests to servers.
    pub send: ForwardingFields,
}

/// Proxies whose word about the clients behind them is taken.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustedProxies {
    /// Where they connect from.
    pub networks: Vec<Network>,
    /// Whether whoever connects to a Unix socket is one.
    pub unix: bool,
}

impl FromIterator<Network> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self {
            networks: networks.into_iter().collect(),
            unix: false,
        }
    }
}

impl TrustedProxies {
    /// Whether the peer of a connection is one of them; one without an address is on a Unix socket.
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(peer) => self.networks.iter().any(|network| network.contains(peer)),
            None => self.unix,
        }
    }

    /// Whether nobody is trusted.
    pub const fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        let networks = self.networks.iter().map(ToString::to_string);
        networks
            .chain(self.unix.then(|| "unix".to_owned()))
            .collect()
    }
}

/// The field in which trusted proxies name the client.
///
/// Only one is read: a proxy that writes one of them may pass on what a client wrote into the other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientField {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`, and `X-Forwarded-Proto`, `-Host` and `-Port` beside it.
    #[default]
    XForwardedFor,
}

impl ClientField {
    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::XForwardedFor => "x-forwarded-for",
        }
    }
}

/// Which fields tell servers of clients. What a client sent of them never passes, set or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ForwardingFields {
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// `X-Forwarded-For`: the client, then the trusted proxies that it came by.
    pub x_forwarded_for: bool,
    /// `X-Forwarded-Host`: the host that the client asked for.
    pub x_forwarded_host: bool,
    /// `X-Forwarded-Port`: the port that the client connected to.
    pub x_forwarded_port: bool,
    /// `X-Forwarded-Proto`: `https` or `http`.
    pub x_forwarded_proto: bool,
    /// `X-Real-IP`: the client alone.
    pub x_real_ip: bool,
}

impl ForwardingFields {
    /// None of them.
    pub const NONE: Self = Self {
        forwarded: false,
        x_forwarded_for: false,
        x_forwarded_host: false,
        x_forwarded_port: false,
        x_forwarded_proto: false,
        x_real_ip: false,
    };

    /// Adds another's.
    pub fn add(&mut self, field: ForwardingField) {
        *self.switch(field) = true;
    }

    /// Those that are set, by name.
    pub fn names(mut self) -> Vec<&'static str> {
        let set = |(field, name): &(ForwardingField, &'static str)| {
            let on = *self.switch(*field);
            on.then_some(*name)
        };
        ForwardingField::ALL.iter().filter_map(set).collect()
    }

    const fn switch(&mut self, field: ForwardingField) -> &mut bool {
        match field {
            ForwardingField::Forwarded => &mut self.forwarded,
            ForwardingField::XForwardedFor => &mut self.x_forwarded_for,
            ForwardingField::XForwardedHost => &mut self.x_forwarded_host,
            ForwardingField::XForwardedPort => &mut self.x_forwarded_port,
            ForwardingField::XForwardedProto => &mut self.x_forwarded_proto,
            ForwardingField::XRealIp => &mut self.x_real_ip,
        }
    }
}

impl Default for ForwardingFields {
    /// The four of `X-Forwarded-*`.
    fn default() -> Self {
        Self {
            x_forwarded_for: true,
            x_forwarded_host: true,
            x_forwarded_port: true,
            x_forwarded_proto: true,
            ..Self::NONE
        }
    }
}

/// A field that tells servers of clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardingField {
    /// `Forwarded`
    Forwarded,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// `X-Forwarded-Port`
    XForwardedPort,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Real-IP`
    XRealIp,
}

impl ForwardingField {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Forwarded, "forwarded"),
        (Self::XForwardedFor, "x-forwarded-for"),
        (Self::XForwardedHost, "x-forwarded-host"),
        (Self::XForwardedPort, "x-forwarded-port"),
        (Self::XForwardedProto, "x-forwarded-proto"),
        (Self::XRealIp, "x-real-ip"),
    ];
}

/// The text names no field that tells servers of clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownField;

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields are ")?;
        for (index, (_, name)) in ForwardingField::ALL.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownField {}

impl FromStr for ForwardingField {
    type Err = UnknownField;

    fn from_str(text: &str) -> Result<Self, UnknownField> {
        let named = |(_, name): &&(Self, &str)| name.eq_ignore_ascii_case(text);
        let found = Self::ALL.iter().find(named);
        found.map(|(field, _)| *field).ok_or(UnknownField)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_and_listed() {
        let mut fields = ForwardingFields::NONE;
        for name in ["X-Real-IP", "forwarded"] {
            fields.add(name.parse().unwrap());
        }
        assert_eq!(fields.names(), ["forwarded", "x-real-ip"]);
        let default = ForwardingFields::default().names();
        assert_eq!(default.len(), 4);
        let again = default
            .iter()
            .fold(ForwardingFields::NONE, |mut fields, name| {
                fields.add(name.parse().unwrap());
                fields
            });
        assert_eq!(again, ForwardingFields::default());
        let error = "via".parse::<ForwardingField>().unwrap_err().to_string();
        assert!(
            error.contains("x-forwarded-for, x-forwarded-host"),
            "{error}"
        );
    }
}
