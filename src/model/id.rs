//! The name of a mitigation: `PING1`, `M1.1`, `M2.1.0`.

use std::fmt;
use std::str::FromStr;

/// A mitigation's id: capital letters, then one to three numbers, as in `PING1`, `M1.1` and `M2.1.0`.
///
/// The numbers are mitigation, variant and revision; a leading zero means nothing (`M01.1` is `M1.1`).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MitigationId {
    letters: String,
    numbers: Vec<u32>,
}

impl MitigationId {
    /// Whether both name one mitigation: equal up to the variant, so `M1.1` and `M1.1.0` are one.
    pub fn same_mitigation(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    /// Letters and up to two numbers: what two ids of the same mitigation share.
    pub fn key(&self) -> (&str, &[u32]) {
        (&self.letters, &self.numbers[..self.numbers.len().min(2)])
    }

    /// Whether a block written as `self` covers `other`: `M2` covers `M2`, `M2.1` and `M2.1.0`.
    ///
    /// Compares up to the variant, as [`same_mitigation`](Self::same_mitigation) does.
    pub fn covers(&self, other: &Self) -> bool {
        let (letters, numbers) = self.key();
        letters == other.letters && other.numbers.starts_with(numbers)
    }
}

/// The text is no mitigation id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidMitigationId {
    text: String,
}

impl fmt::Display for InvalidMitigationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no mitigation id: write capital letters and one to three numbers, like M1.1",
            self.text
        )
    }
}

impl std::error::Error for InvalidMitigationId {}

impl FromStr for MitigationId {
    type Err = InvalidMitigationId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMitigationId {
            text: text.chars().take(64).collect(),
        };
        let split = text
            .find(|c: char| !c.is_ascii_uppercase())
            .ok_or_else(invalid)?;
        let (letters, rest) = text.split_at(split);
        let numbers = rest
            .split('.')
            .map(|part| match part.bytes().all(|b| b.is_ascii_digit()) {
                true => part.parse().map_err(|_| invalid()),
                false => Err(invalid()),
            })
            .collect::<Result<Vec<u32>, _>>()?;
        if letters.is_empty() || letters.len() > 32 || numbers.len() > 3 {
            return Err(invalid());
        }
        Ok(Self {
            letters: letters.to_owned(),
            numbers,
        })
    }
}

impl fmt::Display for MitigationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.letters)?;
        for (index, number) in self.numbers.iter().enumerate() {
            write!(f, "{}{number}", if index == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MitigationId {
        text.parse().unwrap()
    }

    #[test]
    fn text_reads_back() {
        for text in ["PING1", "M1.1", "M2.1.0"] {
            assert_eq!(id(text).to_string(), text);
        }
        assert_eq!(id("M01.1"), id("M1.1"));
        for text in [
            "",
            "M",
            "1",
            "m1",
            "M1.",
            "M1..2",
            "M1.1.1.1",
            "M-1",
            "M1x",
            "M99999999999",
        ] {
            assert!(text.parse::<MitigationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn same_up_to_the_variant() {
        assert!(id("M1.1").same_mitigation(&id("M1.1.0")));
        assert!(!id("M1.1").same_mitigation(&id("M1.2")));
        assert!(!id("M1.1").same_mitigation(&id("M1")));
        assert!(!id("M1").same_mitigation(&id("PING1")));
    }

    #[test]
    fn block_covers_what_is_below_it() {
        assert!(id("M2").covers(&id("M2.1.0")));
        assert!(id("M2.1.0").covers(&id("M2.1")));
        assert!(!id("M2").covers(&id("M21.1")));
        assert!(!id("M2.1").covers(&id("M2")));
    }
}
