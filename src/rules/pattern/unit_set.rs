//! Sets of UTF-16 code units, the alphabet of ECMAScript patterns.

use std::borrow::Cow;

use super::case;

/// A set of code units: one bit for each of ASCII, sorted ranges for the rest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::rules) struct UnitSet {
    ascii: u128,
    /// Disjoint, ascending, not adjacent, ends included, all of them 0x80 or above. Most sets have one of a few parts,
    /// which take no memory.
    wide: Cow<'static, [(u16, u16)]>,
}

/// The first unit that is not ASCII.
const WIDE: u16 = 0x80;

/// Everything that is not ASCII.
const ALL_WIDE: &[(u16, u16)] = &[(WIDE, u16::MAX)];

/// Line feed and carriage return.
const ASCII_LINE_TERMINATORS: u128 = 1 << b'\n' | 1 << b'\r';

impl UnitSet {
    const fn fixed(ascii: u128, wide: &'static [(u16, u16)]) -> Self {
        Self {
            ascii,
            wide: Cow::Borrowed(wide),
        }
    }

    /// Every unit.
    pub(in crate::rules) const fn all() -> Self {
        Self::fixed(u128::MAX, ALL_WIDE)
    }

    /// `\d`: the ASCII digits.
    pub(in crate::rules) const fn digits() -> Self {
        Self::fixed(ascii_between(b'0', b'9'), &[])
    }

    /// `\w`: ASCII letters, digits and `_`, whatever the case option (ES5.1 section 15.10.2.6).
    pub(in crate::rules) const fn word() -> Self {
        let letters = ascii_between(b'A', b'Z') | ascii_between(b'a', b'z');
        Self::fixed(ascii_between(b'0', b'9') | letters | 1 << b'_', &[])
    }

    /// `\s`: WhiteSpace and LineTerminator of ES5.1 sections 7.2 and 7.3, with the space separators (Zs) of Unicode
    /// since 6.3, which took U+180E out of them.
    pub(in crate::rules) const fn white_space() -> Self {
        let wide = &[
            (0xa0, 0xa0),
            (0x1680, 0x1680),
            (0x2000, 0x200a),
            (0x2028, 0x2029),
            (0x202f, 0x202f),
            (0x205f, 0x205f),
            (0x3000, 0x3000),
            (0xfeff, 0xfeff),
        ];
        Self::fixed(ascii_between(b'\t', b'\r') | 1 << b' ', wide)
    }

    /// LineTerminator, which `.` leaves out (ES5.1 sections 7.3 and 15.10.2.8).
    pub(in crate::rules) const fn line_terminators() -> Self {
        Self::fixed(ASCII_LINE_TERMINATORS, &[(0x2028, 0x2029)])
    }

    /// `.`: all but [line terminators](Self::line_terminators).
    pub(in crate::rules) const fn within_line() -> Self {
        let wide = &[(WIDE, 0x2027), (0x202a, u16::MAX)];
        Self::fixed(!ASCII_LINE_TERMINATORS, wide)
    }

    /// Adds the units from `first` to `last`, both included.
    pub(in crate::rules) fn insert(&mut self, first: u16, last: u16) {
        if first < WIDE {
            self.ascii |= ascii_between(first as u8, last.min(WIDE - 1) as u8);
        }
        if last >= WIDE {
            self.insert_wide(first.max(WIDE), last);
        }
    }

    fn insert_wide(&mut self, first: u16, last: u16) {
        // The ranges that touch or overlap the new one become one with it.
        let from = self
            .wide
            .partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self
            .wide
            .partition_point(|(start, _)| *start <= last.saturating_add(1));
        let merged = match self.wide.get(from..to) {
            Some([(start, end)]) => (first.min(*start), last.max(*end)),
            Some([(start, _), .., (_, end)]) => (first.min(*start), last.max(*end)),
            _ => (first, last),
        };
        self.wide.to_mut().splice(from..to.max(from), [merged]);
    }

    /// Adds every unit of another set.
    pub(in crate::rules) fn union(&mut self, other: &Self) {
        self.ascii |= other.ascii;
        if self.wide.is_empty() {
            self.wide = other.wide.clone();
            return;
        }
        for (first, last) in &*other.wide {
            self.insert_wide(*first, *last);
        }
    }

    /// The units that are not in the set.
    pub(in crate::rules) fn complement(&self) -> Self {
        let ascii = !self.ascii;
        if self.wide.is_empty() {
            return Self::fixed(ascii, ALL_WIDE);
        }
        if *self.wide == *ALL_WIDE {
            return Self::fixed(ascii, &[]);
        }
        let mut wide = Vec::with_capacity(self.wide.len() + 1);
        let mut next = u32::from(WIDE);
        for (first, last) in &*self.wide {
            if next < u32::from(*first) {
                wide.push((next as u16, first - 1));
            }
            next = u32::from(*last) + 1;
        }
        if next <= u32::from(u16::MAX) {
            wide.push((next as u16, u16::MAX));
        }
        let wide = Cow::Owned(wide);
        Self { ascii, wide }
    }

    /// Adds every unit that equals one of the set when case is ignored.
    pub(in crate::rules) fn close_over_case(&mut self) {
        const UPPER: u128 = ((1 << 26) - 1) << b'A';
        const LOWER: u128 = ((1 << 26) - 1) << b'a';
        self.ascii |= (self.ascii & UPPER) << 32 | (self.ascii & LOWER) >> 32;
        // No ASCII unit equals one outside it, so the whole rest is closed, and so is none of it.
        if self.wide.is_empty() || *self.wide == *ALL_WIDE {
            return;
        }
        let ranges = self.wide.iter();
        let others: Vec<u16> = ranges
            .flat_map(|(first, last)| case::equivalents_outside(*first, *last))
            .collect();
        for other in others {
            if !self.contains(other) {
                self.insert_wide(other, other);
            }
        }
    }

    /// Whether the unit is in the set.
    pub(in crate::rules) fn contains(&self, unit: u16) -> bool {
        if unit < WIDE {
            self.ascii >> unit & 1 == 1
        } else {
            let at = self.wide.partition_point(|(_, last)| *last < unit);
            self.wide.get(at).is_some_and(|(first, _)| *first <= unit)
        }
    }

    /// The part in ASCII: a bit for each unit.
    pub(in crate::rules) const fn ascii(&self) -> u128 {
        self.ascii
    }

    /// The part beyond ASCII: sorted ranges, both ends included.
    pub(in crate::rules) fn wide(&self) -> &[(u16, u16)] {
        &self.wide
    }

    /// The ASCII part as sorted ranges, both ends included.
    pub(in crate::rules) fn ascii_ranges(&self) -> impl Iterator<Item = (u8, u8)> + use<> {
        let mut rest = self.ascii;
        let mut base = 0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let skip = rest.trailing_zeros();
            rest >>= skip;
            let length = rest.trailing_ones();
            let first = base + skip;
            rest = rest.checked_shr(length).unwrap_or(0);
            base = first + length;
            Some((first as u8, (base - 1) as u8))
        })
    }
}

/// A bit for each unit of ASCII from `first` to `last`, both included.
const fn ascii_between(first: u8, last: u8) -> u128 {
    u128::MAX << first & u128::MAX >> (127 - last)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl UnitSet {
        fn from_ranges(ranges: &[(u16, u16)]) -> Self {
            let mut set = Self::default();
            for (first, last) in ranges {
                set.insert(*first, *last);
            }
            set
        }
    }

    #[test]
    fn ranges_merge_and_complement() {
        for (ranges, wide) in [
            (
                &[(0x90, 0xa0), (0xb0, 0xc0)][..],
                &[(0x90, 0xa0), (0xb0, 0xc0)][..],
            ),
            (&[(0xb0, 0xc0), (0x90, 0xa0)], &[(0x90, 0xa0), (0xb0, 0xc0)]),
            (&[(0x90, 0xa0), (0xa1, 0xc0)], &[(0x90, 0xc0)]),
            (&[(0x90, 0xa0), (0xb0, 0xc0), (0x95, 0xb5)], &[(0x90, 0xc0)]),
            (&[(0x90, 0xff), (0xa0, 0xa1)], &[(0x90, 0xff)]),
            (
                &[(0x20, 0xff), (0xfff0, 0xffff)],
                &[(0x80, 0xff), (0xfff0, 0xffff)],
            ),
        ] {
            let set = UnitSet::from_ranges(ranges);
            assert_eq!(set.wide(), wide, "{ranges:x?}");
            let twice = set.complement().complement();
            assert_eq!(twice, set);
            for unit in 0..=u16::MAX {
                let inside = ranges.iter().any(|(a, b)| (*a..=*b).contains(&unit));
                assert_eq!(set.contains(unit), inside, "{unit:x}");
                assert_eq!(set.complement().contains(unit), !inside, "{unit:x}");
            }
        }
    }

    #[test]
    fn ascii_ranges_are_the_bits() {
        for ranges in [
            &[][..],
            &[(0, 0)],
            &[(0, 127)],
            &[(127, 127)],
            &[(0x30, 0x39), (0x41, 0x5a)],
            &[(0, 1), (3, 3), (120, 127)],
        ] {
            let wide: Vec<_> = ranges
                .iter()
                .map(|(a, b)| (u16::from(*a), u16::from(*b)))
                .collect();
            let found: Vec<(u8, u8)> = UnitSet::from_ranges(&wide).ascii_ranges().collect();
            assert_eq!(found, ranges);
        }
    }

    #[test]
    fn white_space_has_twenty_five_units() {
        let set = UnitSet::white_space();
        assert_eq!(
            (0..=u16::MAX).filter(|unit| set.contains(*unit)).count(),
            25
        );
    }

    #[test]
    fn a_dot_leaves_line_terminators_out() {
        assert_eq!(
            UnitSet::within_line(),
            UnitSet::line_terminators().complement()
        );
    }

    #[test]
    fn case_is_closed_over_for_any_ranges() {
        for ranges in [
            &[(0x80, 0xfffe)][..],
            &[(0x81, 0xffff)],
            &[(0xb5, 0xb5)],
            &[(0x3a3, 0x3a3), (0x3c3, 0x3c3)],
            &[(0x80, 0x250), (0x10a0, 0x2c6f), (0xab70, 0xab80)],
            &[(0xe0, 0xe0), (0xe2, 0xe2), (0xe4, 0xe4), (0x345, 0x345)],
        ] {
            let set = UnitSet::from_ranges(ranges);
            let mut closed = set.clone();
            closed.close_over_case();
            let expected: Vec<u16> = (WIDE..=u16::MAX)
                .filter(|unit| case::equivalents(*unit).any(|equal| set.contains(equal)))
                .collect();
            let found: Vec<u16> = (WIDE..=u16::MAX)
                .filter(|unit| closed.contains(*unit))
                .collect();
            assert!(found == expected, "{ranges:x?}");
        }
        for known in [UnitSet::white_space(), UnitSet::white_space().complement()] {
            let mut closed = known.clone();
            closed.close_over_case();
            assert_eq!(closed, known);
        }
    }

    #[test]
    fn case_never_crosses_the_ascii_barrier() {
        let mut set = UnitSet::from_ranges(&[(0x61, 0x7a), (0xe0, 0xe1)]);
        set.close_over_case();
        assert!(set.contains(b'K'.into()) && set.contains(0xc1));
        assert!(!set.contains(0x212a) && !set.contains(0x17f));
    }
}
