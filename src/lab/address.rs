//! A URL taken apart, with its target left as it is written.

/// Where a request goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    /// Whether the scheme is `https`.
    pub secure: bool,
    /// Host and port as written; `localhost` for a URL without scheme.
    pub authority: String,
    /// The request target as written, with its leading slash.
    pub target: String,
}

impl Address {
    /// Takes a URL apart. Nothing in it is decoded, resolved or refused, since rules judge what clients may send.
    ///
    /// # Examples
    ///
    /// ```
    /// use stopgap::lab::Address;
    ///
    /// let address = Address::parse("https://mail.example:444/a/../%2e?b");
    /// assert_eq!((address.secure, address.port()), (true, 444));
    /// assert_eq!(address.target, "/a/../%2e?b");
    /// ```
    pub fn parse(url: &str) -> Self {
        let (secure, rest) = match url.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                (scheme.eq_ignore_ascii_case("https"), rest)
            }
            _ => (false, url),
        };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, target) = if rest.len() == url.len() {
            ("localhost", url)
        } else {
            rest.split_at(end)
        };
        let slash = if target.starts_with('/') { "" } else { "/" };
        Self {
            secure,
            authority: authority.to_owned(),
            target: format!("{slash}{target}"),
        }
    }

    /// The port: as written, else that of the scheme.
    pub fn port(&self) -> u16 {
        let written = self.authority.rsplit_once(':');
        written
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// A `Location` as IIS sends it: absolute.
    pub(super) fn resolve(&self, location: &str, host: &str) -> String {
        if location.starts_with('/') {
            let scheme = if self.secure { "https" } else { "http" };
            return format!("{scheme}://{host}{location}");
        }
        location.to_owned()
    }
}
