//! Durations and sizes, written with their unit: `"60s"`, `"4MiB"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The units of a duration, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// The units of a size, in bytes.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// A duration as written, longer than zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileDuration(pub(super) Duration);

/// A number of bytes as written, one at least.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileSize(pub(super) usize);

/// The text is no quantity of the kind that is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct InvalidQuantity {
    text: String,
    remedy: &'static str,
}

impl fmt::Display for InvalidQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot be used: {}", self.text, self.remedy)
    }
}

impl FromStr for FileDuration {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const REMEDY: &str =
            "write a whole number above zero and one of the units ms, s, m, h and d";
        scaled(text, &DURATION_UNITS, REMEDY)
            .map(|milliseconds| Self(Duration::from_millis(milliseconds)))
    }
}

impl FromStr for FileSize {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const REMEDY: &str =
            "write a whole number above zero and one of the units B, KiB, MiB and GiB";
        let bytes = scaled(text, &SIZE_UNITS, REMEDY)?;
        usize::try_from(bytes)
            .map(Self)
            .map_err(|_| InvalidQuantity {
                text: text.to_owned(),
                remedy: "it is more than this machine can address",
            })
    }
}

fn scaled(text: &str, units: &[(&str, u64)], remedy: &'static str) -> Result<u64, InvalidQuantity> {
    let invalid = || InvalidQuantity {
        text: text.chars().take(64).collect(),
        remedy,
    };
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(invalid)?;
    let (number, unit) = text.split_at(split);
    let (_, factor) = units
        .iter()
        .find(|(name, _)| *name == unit.trim_start())
        .ok_or_else(invalid)?;
    let number: u64 = number.parse().map_err(|_| invalid())?;
    number
        .checked_mul(*factor)
        .filter(|product| *product > 0)
        .ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, milliseconds) in [
            ("60s", Some(60_000)),
            ("250ms", Some(250)),
            ("2 m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("60", None),
            ("0s", None),
            ("1.5s", None),
            ("-1s", None),
            ("s", None),
            ("", None),
            ("1S", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            let parsed = text.parse::<FileDuration>().ok();
            assert_eq!(
                parsed,
                milliseconds.map(|count| FileDuration(Duration::from_millis(count))),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        for (text, bytes) in [
            ("1B", Some(1)),
            ("128KiB", Some(131_072)),
            ("4 MiB", Some(4_194_304)),
            ("4096", None),
            ("4MB", None),
            ("0B", None),
        ] {
            assert_eq!(text.parse::<FileSize>().ok(), bytes.map(FileSize), "{text}");
        }
    }
}
