//! Texts so short that they need no memory of their own.

use std::fmt;
use std::net::IpAddr;

/// Bytes of the longest address as text: eight groups of four digits, and the colons between.
const ROOM: usize = 39;

/// An address, or a number, as text.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct ShortText {
    bytes: [u8; ROOM],
    length: usize,
}

impl ShortText {
    const EMPTY: Self = Self {
        bytes: [0; ROOM],
        length: 0,
    };

    /// The address as it is shown; `unknown` if there is none.
    pub(super) fn of_address(address: Option<IpAddr>) -> Self {
        let mut text = Self::EMPTY;
        match address {
            // Every new connection comes here, and formatting takes 1,400 instructions.
            Some(IpAddr::V4(address)) => {
                for (place, octet) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        text.push(b".");
                    }
                    text.push(itoa::Buffer::new().format(octet).as_bytes());
                }
            }
            Some(IpAddr::V6(address)) => {
                // It fits, as tests show of the longest.
                let _ = fmt::Write::write_fmt(&mut text, format_args!("{address}"));
            }
            None => {
                text.push(b"unknown");
            }
        }
        text
    }

    /// The number in decimal.
    pub(super) fn of_number(number: u16) -> Self {
        let mut text = Self::EMPTY;
        text.push(itoa::Buffer::new().format(number).as_bytes());
        text
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Appends what fits; whether that is all.
    fn push(&mut self, piece: &[u8]) -> bool {
        let length = piece.len().min(ROOM - self.length);
        self.bytes[self.length..][..length].copy_from_slice(&piece[..length]);
        self.length += length;
        length == piece.len()
    }
}

impl fmt::Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.push(text.as_bytes()) {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_formatting_would() {
        for text in [
            "0.0.0.0",
            "1.20.255.99",
            "100.101.110.200",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1:0:0:2",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let address = text.parse().unwrap();
            assert_eq!(
                ShortText::of_address(Some(address)).as_bytes(),
                text.as_bytes()
            );
        }
        assert_eq!(ShortText::of_address(None).as_bytes(), b"unknown");
    }

    #[test]
    fn numbers_are_shown_as_formatting_would() {
        for number in 0..=u16::MAX {
            let text = number.to_string();
            assert_eq!(ShortText::of_number(number).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut text = ShortText::EMPTY;
        assert!(text.push(&[b'x'; ROOM]));
        assert!(!text.push(b"x"));
        assert_eq!(text.as_bytes(), [b'x'; ROOM]);
    }
}
