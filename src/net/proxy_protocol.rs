//! What a proxy in front says about its client, before the client's first byte: the PROXY protocol, versions 1 and 2.
//!
//! The format is that of HAProxy's `doc/proxy-protocol.txt`, section 2. Nothing of it is read too far, so that a TLS
//! handshake can follow on the same socket.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of a header of version 1, its line end among them.
const LINE_LIMIT: usize = 107;

/// Bytes behind the fixed part of version 2 that are taken; those behind the addresses are thrown away.
const TAIL_LIMIT: usize = 4_096;

/// The two ends of the connection that a proxy has taken from its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxiedEnds {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// Reads a header. Who is at both ends; `None` when the proxy speaks for itself, or names no address.
///
/// Takes as long as the peer does: bound it.
///
/// # Errors
///
/// When the stream ends, or does not begin with a header.
pub async fn read_proxy_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<ProxiedEnds>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(stream).await;
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        if line.len() == LINE_LIMIT || !line.starts_with(b"PROXY ") {
            return Err(invalid());
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line).ok_or_else(invalid)?
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "no header of the PROXY protocol",
    )
}

/// Section 2.1: words with one space between, and nothing that two readers could read differently.
fn parse_line(line: &[u8]) -> Option<io::Result<Option<ProxiedEnds>>> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Ok(None));
    }
    let mut address = || words.next()?.parse::<IpAddr>().ok();
    let (source, destination) = (address()?, address()?);
    let mut port = || {
        let word = words.next()?;
        let plain = word == "0" || !word.starts_with(['0', '+']);
        word.parse::<u16>().ok().filter(|_| plain)
    };
    let (source_port, destination_port) = (port()?, port()?);
    let expected = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    let ends = ProxiedEnds {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    (expected && words.next().is_none()).then_some(Ok(Some(ends)))
}

/// Section 2.2, behind the signature.
async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<ProxiedEnds>> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > TAIL_LIMIT {
        return Err(invalid());
    }
    let mut tail = vec![0; length];
    stream.read_exact(&mut tail).await?;
    match (command, family) {
        (0x20, _) | (0x21, 0x00 | 0x31) => Ok(None),
        (0x21, 0x11) => found::<4>(&tail).map(Some).ok_or_else(invalid),
        (0x21, 0x21) => found::<16>(&tail).map(Some).ok_or_else(invalid),
        _ => Err(invalid()),
    }
}

/// Both addresses, then both ports.
fn found<const N: usize>(tail: &[u8]) -> Option<ProxiedEnds>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = tail.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    let end = |address: &[u8; N], port: &[u8; 2]| {
        SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(*port))
    };
    Some(ProxiedEnds {
        source: end(source, source_port),
        destination: end(destination, destination_port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a header comes to, and what is left behind it.
    fn read(bytes: &[u8]) -> Option<(Option<String>, usize)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut rest = bytes;
        let found = runtime.block_on(read_proxy_header(&mut rest)).ok()?;
        let shown = |ends: ProxiedEnds| format!("{} {}", ends.source, ends.destination);
        Some((found.map(shown), rest.len()))
    }

    fn binary(command: u8, family: u8, tail: &[u8]) -> Vec<u8> {
        let length = u16::try_from(tail.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, tail, b"GET"].concat()
    }

    #[test]
    fn headers_of_both_versions_are_read_and_no_byte_more() {
        let found = |address: &str| Some((Some(address.to_owned()), 3));
        let v1 = |text: &str| read(format!("{text}\r\nGET").as_bytes());
        assert_eq!(
            v1("PROXY TCP4 192.0.2.1 198.51.100.1 1234 443"),
            found("192.0.2.1:1234 198.51.100.1:443")
        );
        assert_eq!(
            v1("PROXY TCP6 2001:db8::1 ::1 1 0"),
            found("[2001:db8::1]:1 [::1]:0")
        );
        assert_eq!(v1("PROXY UNKNOWN"), Some((None, 3)));
        assert_eq!(v1("PROXY UNKNOWN ffff::1 ::1 1 2"), Some((None, 3)));
        let four = [192, 0, 2, 1, 198, 51, 100, 1, 4, 210, 1, 187];
        assert_eq!(
            read(&binary(0x21, 0x11, &four)),
            found("192.0.2.1:1234 198.51.100.1:443")
        );
        let with_more = [&four[..], &[4, 0, 1, 9]].concat();
        assert_eq!(
            read(&binary(0x21, 0x11, &with_more)),
            found("192.0.2.1:1234 198.51.100.1:443")
        );
        let mut six = [0; 36];
        (six[0], six[15], six[33]) = (0x20, 1, 80);
        assert_eq!(
            read(&binary(0x21, 0x21, &six)),
            found("[2000::1]:80 [::]:0")
        );
        assert_eq!(read(&binary(0x20, 0x00, &[])), Some((None, 3)));
        assert_eq!(read(&binary(0x21, 0x31, &[0; 216])), Some((None, 3)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "GET / HTTP/1.1",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1234",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1234 443 5",
            "PROXY TCP4 192.0.2.1  198.51.100.1 1234 443",
            "PROXY TCP4 ::1 ::1 1234 443",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 2",
            "PROXY TCP4 192.0.2.1 198.51.100.1 01234 443",
            "PROXY TCP4 192.0.2.1 198.51.100.1 99999 443",
            "proxy TCP4 192.0.2.1 198.51.100.1 1 2",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 2",
        ] {
            assert_eq!(read(format!("{text}\r\nGET").as_bytes()), None, "{text}");
        }
        assert_eq!(read(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\nGET"), None);
        assert_eq!(
            read(format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).as_bytes()),
            None
        );
        assert_eq!(read(b"PROXY"), None);
        for (command, family, length) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x21, 0x12, 12),
            (0x21, 0x11, 9),
            (0x21, 0x21, 35),
        ] {
            assert_eq!(read(&binary(command, family, &vec![0; length])), None);
        }
        assert_eq!(read(&binary(0x21, 0x11, &vec![0; TAIL_LIMIT + 1])), None);
        assert!(read(&binary(0x21, 0x11, &vec![0; TAIL_LIMIT])).is_some());
    }
}
