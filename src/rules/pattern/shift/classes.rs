//! The classes of units that programs tell apart.

use crate::rules::pattern::unit_set::UnitSet;

/// Classes of units that a program can tell apart.
const MAX_CLASSES: usize = 255;

/// The class of every unit.
#[derive(Debug)]
pub(super) struct ClassMap {
    /// The class of each unit of ASCII.
    ascii: Box<[u8; 128]>,
    /// The other units in order: where each run of one class begins.
    wide: Box<[(u16, u8)]>,
}

impl ClassMap {
    /// The class of the unit that begins here, and how many bytes it has.
    #[inline]
    pub(super) fn class(&self, bytes: &[u8], at: usize) -> (usize, usize) {
        match self.ascii.get(usize::from(bytes[at])) {
            Some(class) => (usize::from(*class), 1),
            None => self.wide_class(bytes, at),
        }
    }

    #[cold]
    fn wide_class(&self, bytes: &[u8], at: usize) -> (usize, usize) {
        let part = |ahead: usize| u16::from(bytes.get(at + ahead).copied().unwrap_or(0) & 0x3f);
        let lead = bytes[at];
        let (unit, length) = if lead < 0xe0 {
            (u16::from(lead & 0x1f) << 6 | part(1), 2)
        } else {
            (u16::from(lead & 0x0f) << 12 | part(1) << 6 | part(2), 3)
        };
        let run = self.wide.partition_point(|(start, _)| *start <= unit);
        let class = run.checked_sub(1).map_or(0, |run| self.wide[run].1);
        (usize::from(class), length)
    }

    /// How many bytes it occupies beside itself.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.ascii) + size_of_val(&*self.wide)
    }
}

/// Units that no set of a program tells apart are one class.
pub(super) struct Classes {
    pub(super) count: usize,
    pub(super) map: ClassMap,
    /// The classes of each set.
    pub(super) of_sets: Vec<Vec<u8>>,
}

impl Classes {
    /// The classes for these sets; `None` if there would have to be too many.
    pub(super) fn new(sets: &[UnitSet]) -> Option<Self> {
        let mut parts: Vec<u128> = vec![u128::MAX];
        for set in sets {
            let bits = set.ascii();
            for at in 0..parts.len() {
                let (inside, outside) = (parts[at] & bits, parts[at] & !bits);
                if inside != 0 && outside != 0 {
                    parts[at] = inside;
                    parts.push(outside);
                }
            }
        }
        let mut ascii = Box::new([0; 128]);
        let mut of_sets: Vec<Vec<u8>> = vec![Vec::new(); sets.len()];
        for (class, part) in (0..).zip(&parts) {
            for (set, classes) in sets.iter().zip(&mut of_sets) {
                if part & set.ascii() != 0 {
                    classes.push(class);
                }
            }
            let mut rest = *part;
            while rest != 0 {
                ascii[rest.trailing_zeros() as usize] = class;
                rest &= rest - 1;
            }
        }
        let mut count = parts.len();
        let wide = wide_classes(sets, &mut of_sets, &mut count)?;
        Some(Self {
            count,
            map: ClassMap {
                ascii,
                wide: wide.into(),
            },
            of_sets,
        })
    }
}

fn wide_classes(
    sets: &[UnitSet],
    of_sets: &mut [Vec<u8>],
    count: &mut usize,
) -> Option<Vec<(u16, u8)>> {
    let mut starts = vec![0x80];
    for (first, last) in sets.iter().flat_map(UnitSet::wide) {
        starts.push(*first);
        starts.extend(last.checked_add(1));
    }
    starts.sort_unstable();
    starts.dedup();
    let mut known: Vec<(Vec<bool>, u8)> = Vec::new();
    let mut wide = Vec::with_capacity(starts.len());
    for start in starts {
        let inside: Vec<bool> = sets.iter().map(|set| set.contains(start)).collect();
        let class = match known.iter().find(|(other, _)| *other == inside) {
            Some((_, class)) => *class,
            None => {
                if *count >= MAX_CLASSES {
                    return None;
                }
                let class = *count as u8;
                *count += 1;
                for (classes, _) in of_sets
                    .iter_mut()
                    .zip(&inside)
                    .filter(|(_, inside)| **inside)
                {
                    classes.push(class);
                }
                known.push((inside, class));
                class
            }
        };
        wide.push((start, class));
    }
    Some(wide)
}
