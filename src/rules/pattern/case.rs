//! Case as ECMAScript ignores it without the `u` flag: ES5.1 section 15.10.2.8, `Canonicalize`.
//!
//! A unit becomes its upper case when that is one unit, unless the step would lead from outside ASCII into it: so
//! neither the Kelvin sign equals `k` nor the long s an `s`. Upper case is Unicode's of the standard library.

use std::sync::LazyLock;

/// The unit that stands for all that equal it when case is ignored.
pub(in crate::rules) fn canonicalize(unit: u16) -> u16 {
    if unit < 0x80 {
        return u16::from((unit as u8).to_ascii_uppercase());
    }
    // A half of a surrogate pair is no character and has no case.
    let Some(character) = char::from_u32(unit.into()) else {
        return unit;
    };
    let mut upper = character.to_uppercase();
    match (
        upper.next().map(|upper| u16::try_from(u32::from(upper))),
        upper.next(),
    ) {
        (Some(Ok(upper)), None) if upper >= 0x80 => upper,
        _ => unit,
    }
}

/// Every unit that equals `unit` when case is ignored, itself among them.
pub(in crate::rules) fn equivalents(unit: u16) -> impl Iterator<Item = u16> {
    let ascii = u8::try_from(unit).ok().filter(u8::is_ascii_alphabetic);
    let both = ascii.map(|letter| [letter.to_ascii_uppercase(), letter.to_ascii_lowercase()]);
    let class = if unit < 0x80 { None } else { class_of(unit) };
    let single = (both.is_none() && class.is_none()).then_some(unit);
    both.into_iter()
        .flatten()
        .map(u16::from)
        .chain(class.into_iter().flatten().copied())
        .chain(single)
}

/// The units that equal one of a range beyond ASCII when case is ignored and are outside of it, some perhaps twice.
pub(in crate::rules) fn equivalents_outside(first: u16, last: u16) -> impl Iterator<Item = u16> {
    let from = PAIRS.partition_point(|(unit, _)| *unit < first);
    let to = PAIRS.partition_point(|(unit, _)| *unit <= last);
    let others = PAIRS[from..to].iter().map(|(_, other)| *other);
    others.filter(move |other| *other < first || *other > last)
}

fn class_of(unit: u16) -> Option<&'static [u16]> {
    let canonical = canonicalize(unit);
    let at = CLASSES
        .binary_search_by_key(&canonical, |class| class[0])
        .ok()?;
    Some(&CLASSES[at])
}

/// Sorted by the first unit of each class, which is the canonical one.
static CLASSES: LazyLock<Vec<Vec<u16>>> = LazyLock::new(|| {
    let mut pairs: Vec<(u16, u16)> = (0x80..=u16::MAX)
        .map(|unit| (canonicalize(unit), unit))
        .filter(|(canonical, unit)| canonical != unit)
        .collect();
    pairs.sort_unstable();
    pairs
        .chunk_by(|one, other| one.0 == other.0)
        .map(|members| {
            let canonical = members[0].0;
            std::iter::once(canonical)
                .chain(members.iter().map(|(_, unit)| *unit))
                .collect()
        })
        .collect()
});

/// Every two units of one class, either way round, sorted.
static PAIRS: LazyLock<Vec<(u16, u16)>> = LazyLock::new(|| {
    let with_others = |unit: &'static u16, class: &'static [u16]| {
        let others = class.iter().filter(move |other| *other != unit);
        others.map(|other| (*unit, *other))
    };
    let mut pairs: Vec<(u16, u16)> = CLASSES
        .iter()
        .flat_map(|class| class.iter().flat_map(|unit| with_others(unit, class)))
        .collect();
    pairs.sort_unstable();
    pairs
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_is_single_and_stays_on_its_side_of_ascii() {
        for (unit, canonical) in [
            ('a', 'A'),
            ('_', '_'),
            ('\u{e9}', '\u{c9}'),
            ('\u{17f}', '\u{17f}'),   // long s
            ('\u{131}', '\u{131}'),   // dotless i
            ('\u{212a}', '\u{212a}'), // Kelvin sign
            ('\u{df}', '\u{df}'),     // sharp s: two letters in upper case
            ('\u{b5}', '\u{39c}'),    // micro sign
            ('\u{3c2}', '\u{3a3}'),   // final sigma
        ] {
            assert_eq!(
                u32::from(canonicalize(unit as u16)),
                u32::from(canonical),
                "{unit}"
            );
        }
        assert_eq!(canonicalize(0xd801), 0xd801);
    }

    #[test]
    fn equivalents_are_those_with_one_canonical_unit() {
        for unit in [
            0x20, 0x4b, 0x6b, 0xb5, 0xdf, 0xe9, 0x17f, 0x1c5, 0x345, 0x3c3, 0x1fbe, 0x212a,
        ] {
            let mut found: Vec<u16> = equivalents(unit).collect();
            found.sort_unstable();
            let canonical = canonicalize(unit);
            let expected: Vec<u16> = (0..=u16::MAX)
                .filter(|other| canonicalize(*other) == canonical)
                .collect();
            assert_eq!(found, expected, "{unit:x}");
        }
    }
}
