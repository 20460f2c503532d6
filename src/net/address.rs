//! Where a listener is: an address and a port, or a file.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the name of a Unix socket begins with.
const UNIX: &str = "unix:";

/// Bytes that the path of a Unix socket may have (unix(7)).
const PATH_LIMIT: usize = 107;

/// Where a listener is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ListenAddress {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// The address, unless it is a path.
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// The text says no place to listen at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidAddress {
    /// It is neither an address with a port nor a path.
    Form,
    /// The path does not begin with a slash, or is too long.
    Path,
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str(
                "this is no place to listen at: write an address with a port, such as 127.0.0.1:8080 or [::1]:8080, or unix:/PATH",
            ),
            Self::Path => write!(
                f,
                "the path of a Unix socket begins with a slash and has at most {PATH_LIMIT} bytes"
            ),
        }
    }
}

impl std::error::Error for InvalidAddress {}

impl FromStr for ListenAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        match text.strip_prefix(UNIX) {
            Some(path) => socket_path(path).map(Self::Unix),
            None => match text.parse() {
                Ok(address) => Ok(Self::Tcp(address)),
                Err(_) => Err(InvalidAddress::Form),
            },
        }
    }
}

/// Checks the path of a Unix socket.
///
/// # Errors
///
/// When it is relative, too long, or ends with a slash.
pub fn socket_path(text: &str) -> Result<PathBuf, InvalidAddress> {
    let usable = text.starts_with('/')
        && !text.ends_with('/')
        && text.len() <= PATH_LIMIT
        && !text.contains('\0');
    match usable {
        true => Ok(Path::new(text).to_owned()),
        false => Err(InvalidAddress::Path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths_are_told_apart() {
        for text in ["127.0.0.1:80", "[::1]:0", "unix:/run/stopgap/http.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        let long = |length: usize| format!("unix:/{}", "a".repeat(length - 1));
        assert!(long(PATH_LIMIT).parse::<ListenAddress>().is_ok());
        for text in [
            &long(PATH_LIMIT + 1),
            "unix:",
            "unix:a.sock",
            "unix:/a/",
            "unix:/",
        ] {
            assert_eq!(
                text.parse::<ListenAddress>(),
                Err(InvalidAddress::Path),
                "{text}"
            );
        }
        for text in ["", "127.0.0.1", "localhost:80", "/run/a.sock"] {
            assert_eq!(
                text.parse::<ListenAddress>(),
                Err(InvalidAddress::Form),
                "{text}"
            );
        }
    }
}
