//! Sets of short strings, all of them in one piece of memory.

/// The strings of any number of sets.
#[derive(Debug, Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    /// Where each string lies in the bytes.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    end: u32,
}

/// A set: the number of its first string, and that behind its last one. It may hold a string twice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    start: u32,
    end: u32,
}

impl Set {
    pub(super) const fn count(self) -> usize {
        (self.end - self.start) as usize
    }
}

impl Strings {
    /// Forgets all sets, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// A set of nothing, to which strings are added while no other set is begun.
    pub(super) fn begin(&self) -> Set {
        let start = self.places.len() as u32;
        Set { start, end: start }
    }

    /// The strings of a set in its order.
    pub(super) fn of(&self, set: Set) -> impl Iterator<Item = &[u8]> + Clone {
        let places = self.places[set.start as usize..set.end as usize].iter();
        places.map(|place| self.text(*place))
    }

    /// Adds a string to the set that was begun last.
    pub(super) fn push(&mut self, set: Set, text: &[u8]) -> Set {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text);
        let end = self.bytes.len() as u32;
        self.places.push(Place { start, end });
        self.up_to_here(set)
    }

    /// Adds the strings of another set to the set that was begun last.
    pub(super) fn extend(&mut self, set: Set, other: Set) -> Set {
        self.places
            .extend_from_within(other.start as usize..other.end as usize);
        self.up_to_here(set)
    }

    /// Appends a text to each string of the set that was begun last.
    pub(super) fn append(&mut self, set: Set, text: &[u8]) {
        let places = &mut self.places[set.start as usize..];
        for place in places {
            if place.end as usize != self.bytes.len() {
                let start = self.bytes.len() as u32;
                self.bytes
                    .extend_from_within(place.start as usize..place.end as usize);
                place.start = start;
            }
            self.bytes.extend_from_slice(text);
            place.end = self.bytes.len() as u32;
        }
    }

    /// The set of each string of one set followed by each of another.
    pub(super) fn multiply(&mut self, heads: Set, tails: Set) -> Set {
        let product = self.begin();
        for head in heads.start..heads.end {
            for tail in tails.start..tails.end {
                let start = self.bytes.len() as u32;
                for part in [head, tail] {
                    let Place { start, end } = self.places[part as usize];
                    self.bytes.extend_from_within(start as usize..end as usize);
                }
                let end = self.bytes.len() as u32;
                self.places.push(Place { start, end });
            }
        }
        self.up_to_here(product)
    }

    /// The same set in order, each string once.
    pub(super) fn sort(&mut self, set: Set) -> Set {
        let Self { bytes, places } = self;
        let text = |place: &Place| &bytes[place.start as usize..place.end as usize];
        let members = &mut places[set.start as usize..set.end as usize];
        if members.len() < 2 {
            return set;
        }
        members.sort_unstable_by(|one, other| text(one).cmp(text(other)));
        let mut kept = 1;
        for at in 1..members.len() {
            if text(&members[at]) != text(&members[kept - 1]) {
                members[kept] = members[at];
                kept += 1;
            }
        }
        let sorted = Set {
            end: set.start + kept as u32,
            ..set
        };
        if set.end as usize == places.len() {
            places.truncate(sorted.end as usize);
        }
        sorted
    }

    fn text(&self, place: Place) -> &[u8] {
        &self.bytes[place.start as usize..place.end as usize]
    }

    fn up_to_here(&self, set: Set) -> Set {
        let end = self.places.len() as u32;
        Set { end, ..set }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(strings: &mut Strings, texts: &[&str]) -> Set {
        let begun = strings.begin();
        let add = |set, text: &&str| strings.push(set, text.as_bytes());
        texts.iter().fold(begun, add)
    }

    fn texts(strings: &Strings, set: Set) -> Vec<&str> {
        let texts = strings.of(set);
        texts.map(|text| str::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn sets_multiply_and_come_in_order() {
        let mut strings = Strings::default();
        let heads = set(&mut strings, &["b", "a", ""]);
        let tails = set(&mut strings, &["a", ""]);
        let product = strings.multiply(heads, tails);
        assert_eq!(
            texts(&strings, product),
            ["ba", "b", "aa", "a", "a", ""],
            "a string can come about twice"
        );
        let sorted = strings.sort(product);
        assert_eq!(texts(&strings, sorted), ["", "a", "aa", "b", "ba"]);
        assert_eq!(texts(&strings, heads), ["b", "a", ""]);
    }

    #[test]
    fn what_is_appended_leaves_other_sets_alone() {
        let mut strings = Strings::default();
        let first = set(&mut strings, &["x", "y"]);
        let begun = strings.begin();
        let copy = strings.extend(begun, first);
        strings.append(copy, b"z");
        strings.append(copy, b"!");
        assert_eq!(texts(&strings, copy), ["xz!", "yz!"]);
        assert_eq!(texts(&strings, first), ["x", "y"]);
        strings.clear();
        let single = set(&mut strings, &[""]);
        strings.append(single, b"ab");
        strings.append(single, b"c");
        assert_eq!(texts(&strings, single), ["abc"]);
    }
}
