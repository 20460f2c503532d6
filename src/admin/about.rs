//! What the process is, as far as it does not change while it runs.

use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use crate::net::ListenAddress;

/// Where the process listens, and what it stands in front of.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Traffic listeners, with the ports they got.
    #[serde(serialize_with = "as_texts")]
    pub listeners: Vec<ListenAddress>,
    /// Those of the listeners that speak TLS.
    #[serde(serialize_with = "as_texts")]
    pub tls_listeners: Vec<ListenAddress>,
    /// Data-plane threads.
    pub workers: usize,
    /// Sites in the order of the settings.
    pub sites: Vec<SiteAbout>,
    /// The read-only address, if it could be bound.
    pub admin: Option<SocketAddr>,
    /// The state folder; nothing when state is kept in memory.
    pub state_dir: Option<String>,
    /// The target of a request that the rules stop now, for people to try; nothing when none is known.
    pub stopped_example: Option<String>,
}

/// One site.
#[derive(Clone, Debug, Serialize)]
pub struct SiteAbout {
    /// Its name.
    pub name: String,
    /// Its host names.
    pub hosts: Vec<String>,
    /// The servers behind it; none stands for the welcome page.
    pub upstreams: Vec<String>,
}

/// One upstream, as it is at this moment.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamReport {
    /// Its name; empty when it has none.
    pub name: String,
    /// How a server is chosen.
    pub balance: &'static str,
    /// Requests that wait for a connection.
    pub waiting: usize,
    /// Its servers.
    pub servers: Vec<ServerReport>,
}

/// One server of an upstream.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// Its URL.
    pub server: String,
    /// Its share in comparison with the others.
    pub weight: u16,
    /// Whether it gets requests only while no other is fit.
    pub backup: bool,
    /// `up`, `down`, `ejected` or `not checked`.
    pub state: &'static str,
    /// Why it gets no requests; empty when it gets some.
    pub reason: String,
    /// Failed requests in a row.
    pub failures: u32,
    /// Connections in use, when there is a bound on them.
    pub in_use: Option<usize>,
}

impl About {
    /// A command line that a person can try, and whose request passes.
    pub fn passing_command(&self) -> Option<String> {
        Some(format!("{}/", self.local_command("")?))
    }

    /// A command line whose request is stopped.
    pub fn stopped_command(&self) -> Option<String> {
        let target = self.stopped_example.as_deref()?;
        Some(format!("{}{target}'", self.local_command("'")?))
    }

    /// Whether a listener speaks TLS.
    pub fn is_tls(&self, address: &ListenAddress) -> bool {
        self.tls_listeners.contains(address)
    }

    /// The beginning of a command line to a plain listener, or else to the first, that this machine can connect to.
    fn local_command(&self, quote: &str) -> Option<String> {
        let mut listeners = self.listeners.iter();
        let plain = listeners.find(|address| !self.is_tls(address));
        let address = plain.or(self.listeners.first())?;
        // Nobody has a certificate for an address of this machine.
        let (options, scheme) = match plain {
            Some(_) => ("-i", "http"),
            None => ("-ik", "https"),
        };
        let mut address = match address {
            ListenAddress::Tcp(address) => *address,
            ListenAddress::Unix(path) => {
                let path = path.display();
                return Some(format!(
                    "curl {options} --unix-socket {path} {quote}{scheme}://localhost"
                ));
            }
        };
        match address {
            SocketAddr::V4(inner) if inner.ip().is_unspecified() => {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            SocketAddr::V6(inner) if inner.ip().is_unspecified() => {
                address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
            }
            _ => {}
        }
        Some(format!("curl {options} {quote}{scheme}://{address}"))
    }
}

fn as_texts<S: Serializer>(addresses: &[ListenAddress], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(addresses.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_an_address_that_can_be_reached() {
        let mut about = About {
            listeners: vec!["0.0.0.0:81".parse().unwrap()],
            tls_listeners: Vec::new(),
            workers: 1,
            sites: Vec::new(),
            admin: None,
            state_dir: None,
            stopped_example: None,
        };
        assert_eq!(
            about.passing_command().unwrap(),
            "curl -i http://127.0.0.1:81/"
        );
        assert_eq!(about.stopped_command(), None);
        about.listeners = vec!["[::]:81".parse().unwrap()];
        about.stopped_example = Some("/a?b".to_owned());
        assert_eq!(
            about.stopped_command().unwrap(),
            "curl -i 'http://[::1]:81/a?b'"
        );
        about.tls_listeners = about.listeners.clone();
        assert_eq!(
            about.stopped_command().unwrap(),
            "curl -ik 'https://[::1]:81/a?b'"
        );
        about.listeners = vec!["unix:/run/http.sock".parse().unwrap()];
        assert_eq!(
            about.passing_command().unwrap(),
            "curl -i --unix-socket /run/http.sock http://localhost/"
        );
    }
}
