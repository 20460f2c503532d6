//! Finds the places of an input at which one of many texts may stand, by hashing a few bytes at every so many.

use std::cmp::Ordering;

/// The longest stride: a text must be long enough to be met wherever it begins.
const MAX_STRIDE: usize = 8;

/// Bytes that are looked into in a row, at short strides and at long ones.
const BLOCK: usize = 32;
const LONG_BLOCK: usize = 64;

/// Bytes that are hashed, unless a text is shorter.
const GRAM: usize = size_of::<u32>();

/// Bits of the filter for each entry; more would cost cache and save little.
const BITS_PER_ENTRY: usize = 64;

/// Sizes of the filter in words: few, since the scan is compiled for each, which saves it a comparison at every place.
const WORDS: [usize; 5] = [1 << 8, 1 << 11, 1 << 13, 1 << 15, 1 << 17];

/// Texts of a length that one stride suits, and how to meet them.
#[derive(Debug)]
pub(super) struct Table {
    stride: usize,
    /// How many bytes are hashed, and the [`mask`] for so many.
    width: usize,
    mask: u32,
    /// A bit for each hash that an entry has.
    filter: Box<[u32]>,
    /// Where the entries of each bucket begin, and at last where all end.
    starts: Box<[u32]>,
    bucket_shift: u32,
    entries: Box<[Entry]>,
}

/// A hash that a text shows at a place in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// The hash.
    tag: u32,
    text: u32,
    /// The [`key`] of some bytes of the text far from the place; most inputs that only look like the text lack them.
    check: u32,
    /// The place, from the text's beginning.
    offset: u8,
    /// From the place to those bytes.
    to_check: i8,
}

/// Entries of a bucket that are compared one by one; more are kept in order and searched, since texts that share all their
/// places would otherwise make an input of nothing but these slow.
const CROWD: usize = 8;

/// The longest text that a table takes, so that places in it fit a byte.
pub(super) const MAX_TEXT: usize = 64;

impl Entry {
    fn new(tag: u32, number: u32, text: &[u8], offset: usize, width: usize, ends: &Ends) -> Self {
        let last = text.len() - width;
        // The end that fewer texts share, or that is farther from what was hashed.
        let shared = ends.of(text);
        let place = match shared.0.cmp(&shared.1) {
            Ordering::Less => 0,
            Ordering::Equal if offset > last / 2 => 0,
            Ordering::Equal | Ordering::Greater => last,
        };
        Self {
            tag,
            text: number,
            check: key(&text[place..], width),
            offset: offset as u8,
            to_check: (place as isize - offset as isize) as i8,
        }
    }

    /// Where the text would begin in the input, unless its checked bytes are not there.
    fn start(&self, input: &[u8], at: usize, mask: u32) -> Option<usize> {
        let there = self.checked(input, at)?;
        (there | mask == self.check).then(|| at.checked_sub(self.offset.into()))?
    }

    /// The bytes of the input that are checked for what stands at a place of it.
    fn checked(&self, input: &[u8], at: usize) -> Option<u32> {
        let place = at.wrapping_add_signed(self.to_check.into());
        input.get(place..).map(gram)
    }
}

impl Table {
    /// A table for these texts by number, none empty.
    pub(super) fn new<'t>(texts: impl Iterator<Item = (u32, &'t [u8])> + Clone) -> Self {
        let shortest = texts.clone().map(|(_, text)| text.len()).min();
        let shortest = shortest.unwrap_or(GRAM);
        let width = shortest.min(GRAM);
        let stride = (shortest + 1 - width).min(MAX_STRIDE);
        // Where each text's places begin, and how many entries each bucket has.
        let count = texts.clone().count();
        let mut firsts: Vec<u8> = Vec::with_capacity(count);
        let words = WORDS
            .into_iter()
            .find(|words| *words >= count * stride * BITS_PER_ENTRY / 32);
        let words = words.unwrap_or(WORDS[WORDS.len() - 1]);
        let mut filter = vec![0; words].into_boxed_slice();
        let buckets = (count * stride).next_power_of_two().ilog2().max(1);
        let bucket_shift = 32 - buckets;
        let mut starts = vec![0; (1 << buckets) + 1].into_boxed_slice();
        let mut crowd = Crowd::new();
        let mut text_ends = Ends::new(width);
        for (_, text) in texts.clone() {
            let first = quietest(text, width, stride, &crowd);
            firsts.push(first as u8);
            text_ends.add(text);
            for offset in first..first + stride {
                let key = key(&text[offset..], width);
                let hash = hash(key);
                crowd.add(hash);
                filter[(hash >> (u32::BITS - words.ilog2())) as usize] |= 1 << (key & 31);
                starts[(hash >> bucket_shift) as usize + 1] += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut entries = vec![Entry::default(); count * stride].into_boxed_slice();
        // Each bucket is filled from its end, by which its start comes to be where it should.
        for ((number, text), first) in texts.zip(firsts) {
            let first = usize::from(first);
            for offset in first..first + stride {
                let tag = hash(key(&text[offset..], width));
                let end = &mut starts[(tag >> bucket_shift) as usize + 1];
                *end -= 1;
                entries[*end as usize] = Entry::new(tag, number, text, offset, width, &text_ends);
            }
        }
        starts.rotate_left(1);
        if let Some(end) = starts.last_mut() {
            *end = entries.len() as u32;
        }
        for ends in starts.windows(2) {
            let bucket = &mut entries[ends[0] as usize..ends[1] as usize];
            if bucket.len() > CROWD {
                bucket.sort_unstable_by_key(|entry| (entry.tag, entry.to_check, entry.check));
            }
        }
        Self {
            stride,
            width,
            mask: mask(width),
            filter,
            starts,
            bucket_shift,
            entries,
        }
    }

    /// Calls `meet` with the number of every text that may stand in the input, and where it would begin, in the order of the
    /// places by which they are met: it is met so wherever it stands, whatever the case of its letters.
    pub(super) fn scan(&self, input: &[u8], meet: &mut impl FnMut(u32, usize)) {
        match self.stride {
            1 => self.scan_by::<1, BLOCK>(input, meet),
            2 => self.scan_by::<2, BLOCK>(input, meet),
            3 => self.scan_by::<3, BLOCK>(input, meet),
            4 => self.scan_by::<4, LONG_BLOCK>(input, meet),
            5 => self.scan_by::<5, LONG_BLOCK>(input, meet),
            6 => self.scan_by::<6, LONG_BLOCK>(input, meet),
            7 => self.scan_by::<7, LONG_BLOCK>(input, meet),
            _ => self.scan_by::<MAX_STRIDE, LONG_BLOCK>(input, meet),
        }
    }

    fn scan_by<const STRIDE: usize, const BLOCK: usize>(
        &self,
        input: &[u8],
        meet: &mut impl FnMut(u32, usize),
    ) {
        match self.filter.len() {
            0x100 => self.scan_in::<STRIDE, BLOCK, 0x100>(input, meet),
            0x800 => self.scan_in::<STRIDE, BLOCK, 0x800>(input, meet),
            0x2000 => self.scan_in::<STRIDE, BLOCK, 0x2000>(input, meet),
            0x8000 => self.scan_in::<STRIDE, BLOCK, 0x8000>(input, meet),
            _ => self.scan_in::<STRIDE, BLOCK, 0x2_0000>(input, meet),
        }
    }

    fn scan_in<const STRIDE: usize, const BLOCK: usize, const WORDS: usize>(
        &self,
        input: &[u8],
        meet: &mut impl FnMut(u32, usize),
    ) {
        let filter: &[u32; WORDS] = self.filter.first_chunk().expect("it has this size");
        let mask = mask(self.width);
        let mut probe = |bytes: u32, at: usize| {
            let key = bytes | mask;
            let hash = hash(key);
            let word = filter[(hash >> (u32::BITS - WORDS.ilog2())) as usize];
            if word >> (key & 31) & 1 != 0 {
                self.look_up(key, input, at, meet);
            }
        };
        let places = const { (BLOCK - GRAM) / STRIDE + 1 };
        let mut at = 0;
        while let Some(block) = input.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
            for place in 0..places {
                let bytes = block[place * STRIDE..].first_chunk();
                let bytes = bytes.expect("the places lie in a block");
                probe(u32::from_le_bytes(*bytes), at + place * STRIDE);
            }
            at += places * STRIDE;
        }
        while let Some(bytes) = input.get(at..).and_then(<[u8]>::first_chunk) {
            probe(u32::from_le_bytes(*bytes), at);
            at += STRIDE;
        }
        while at + self.width <= input.len() {
            probe(gram(&input[at..]), at);
            at += STRIDE;
        }
    }

    #[cold]
    fn look_up(&self, key: u32, input: &[u8], at: usize, meet: &mut impl FnMut(u32, usize)) {
        let (tag, mask) = (hash(key), self.mask);
        let entries = self.bucket(tag);
        if entries.len() > CROWD {
            return search(entries, tag, mask, input, at, meet);
        }
        for entry in entries {
            if entry.tag == tag
                && let Some(start) = entry.start(input, at, mask)
            {
                meet(entry.text, start);
            }
        }
    }

    /// The entries among which those of a hash are.
    fn bucket(&self, tag: u32) -> &[Entry] {
        let bucket = (tag >> self.bucket_shift) as usize;
        &self.entries[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    /// How many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.filter)
            + size_of_val(&*self.starts)
            + size_of_val(&*self.entries)
    }
}

/// Looks up a hash in a bucket in order, by the bytes that are checked at each distance from the place.
#[inline(never)]
fn search(
    entries: &[Entry],
    tag: u32,
    mask: u32,
    input: &[u8],
    at: usize,
    meet: &mut impl FnMut(u32, usize),
) {
    let (_, mut rest) = entries.split_at(entries.partition_point(|entry| entry.tag < tag));
    while let Some(first) = rest.first().filter(|entry| entry.tag == tag) {
        let alike = |entry: &Entry| (entry.tag, entry.to_check) == (tag, first.to_check);
        let (alike, others) = rest.split_at(rest.partition_point(alike));
        rest = others;
        let Some(there) = first.checked(input, at).map(|there| there | mask) else {
            continue;
        };
        let alike = &alike[alike.partition_point(|entry| entry.check < there)..];
        for entry in &alike[..alike.partition_point(|entry| entry.check == there)] {
            if let Some(start) = entry.start(input, at, mask) {
                meet(entry.text, start);
            }
        }
    }
}

/// How many entries have a hash, roughly.
struct Crowd(Vec<u16>);

impl Crowd {
    fn new() -> Self {
        Self(vec![0; 1 << 16])
    }

    fn of(&self, hash: u32) -> u32 {
        self.0[(hash >> 16) as usize].into()
    }

    fn add(&mut self, hash: u32) {
        let count = &mut self.0[(hash >> 16) as usize];
        *count = count.saturating_add(1);
    }
}

/// How many texts begin, and how many end with the same bytes, so many of them, roughly.
struct Ends {
    width: usize,
    first: Crowd,
    last: Crowd,
}

impl Ends {
    fn new(width: usize) -> Self {
        Self {
            width,
            first: Crowd::new(),
            last: Crowd::new(),
        }
    }

    fn hashes(&self, text: &[u8]) -> (u32, u32) {
        let last = &text[text.len() - self.width..];
        (hash(key(text, self.width)), hash(key(last, self.width)))
    }

    fn of(&self, text: &[u8]) -> (u32, u32) {
        let (first, last) = self.hashes(text);
        (self.first.of(first), self.last.of(last))
    }

    fn add(&mut self, text: &[u8]) {
        let (first, last) = self.hashes(text);
        self.first.add(first);
        self.last.add(last);
    }
}

/// Where in a text to begin, so that its hashes are rare among honest requests and shared with few other texts.
fn quietest(text: &[u8], width: usize, stride: usize, crowd: &Crowd) -> usize {
    let last = text.len() + 1 - width - stride;
    let mut noise = [0; MAX_TEXT];
    for (offset, noise) in noise.iter_mut().enumerate().take(last + stride) {
        let bytes = &text[offset..];
        let honest = bytes.get(..GRAM).map_or(0, super::cost::occurrences);
        *noise = 4 * u32::from(honest) + crowd.of(hash(key(bytes, width)));
    }
    (0..=last)
        .min_by_key(|first| noise[*first..first + stride].iter().sum::<u32>())
        .unwrap_or(0)
}

/// The first four bytes as a number, the first the lowest; what is missing is zero.
fn gram(bytes: &[u8]) -> u32 {
    match bytes.first_chunk() {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => {
            let mut padded = [0; GRAM];
            padded[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(padded)
        }
    }
}

/// The first bytes as a number, equal for letters that differ in case only.
pub(super) fn key(bytes: &[u8], width: usize) -> u32 {
    gram(bytes) | mask(width)
}

/// Sets the bit that tells upper from lower case, which also makes some other bytes equal, and every bit behind.
const fn mask(width: usize) -> u32 {
    const CASE: u32 = 0x2020_2020;
    match width {
        GRAM.. => CASE,
        _ => CASE | u32::MAX << (8 * width),
    }
}

/// Multiplies by the golden ratio, which gives different keys different hashes whose upper bits depend on every byte.
const fn hash(key: u32) -> u32 {
    key.wrapping_mul(0x9e37_79b1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(texts: &[&[u8]], input: &[u8]) -> Vec<(u32, usize)> {
        let table = Table::new((0..).zip(texts.iter().copied()));
        let mut met = Vec::new();
        table.scan(input, &mut |text, at| met.push((text, at)));
        met
    }

    #[test]
    fn a_text_is_met_at_every_place() {
        for text in [
            &b"ab"[..],
            b"abc",
            b"abcd",
            b"abcde",
            b"abcdef",
            b"abcdefg",
            b"abcdefgh",
            b"abcdefghi",
            b"abcdefghij",
            b"abcdefghijklm",
        ] {
            for before in 0..12 {
                for after in 0..12 {
                    let upper = text.to_ascii_uppercase();
                    let input = [
                        &b"............"[..before],
                        &upper,
                        &b"............"[..after],
                    ];
                    let found = met(&[text], &input.concat());
                    assert!(found.contains(&(0, before)), "{text:?} {before} {after}");
                }
            }
        }
    }

    #[test]
    fn strides_follow_the_shortest_text() {
        for (shortest, stride, width) in [(1, 1, 1), (3, 1, 3), (4, 1, 4), (6, 3, 4), (20, 8, 4)] {
            let text = vec![b'x'; shortest];
            let texts = [&text[..], b"a much longer text"];
            let table = Table::new((0..).zip(texts));
            assert_eq!((table.stride, table.width), (stride, width), "{shortest}");
        }
    }

    #[test]
    fn texts_are_met_in_filters_of_every_size() {
        let texts: Vec<Vec<u8>> = (0..100_000_u32)
            .map(|number| format!("{:08x}", number.wrapping_mul(0x9e37_79b1)).into_bytes())
            .collect();
        let mut sizes = Vec::new();
        for count in [10, 100, 500, 3_000, 100_000] {
            let table = Table::new((0..).zip(texts[..count].iter().map(Vec::as_slice)));
            sizes.push(table.filter.len());
            for (number, text) in (0..).zip(&texts[..count]).step_by(count / 10) {
                let mut found = false;
                table.scan(text, &mut |text, at| found |= (text, at) == (number, 0));
                assert!(found, "{count} {number}");
            }
        }
        assert_eq!(sizes, WORDS);
    }

    #[test]
    fn texts_that_share_a_part_are_told_apart_by_the_rest() {
        let texts: Vec<Vec<u8>> = (1..500_u32)
            .map(|number| format!("resource={:08x}", number.wrapping_mul(0x9e37_79b1)).into_bytes())
            .collect();
        let table = Table::new((0..).zip(texts.iter().map(Vec::as_slice)));
        let mut most = 0;
        for text in &texts {
            let mut met = 0;
            table.scan(text, &mut |_, _| met += 1);
            most = most.max(met);
        }
        assert!(most <= 8, "{most}");
    }

    /// What a scan does: places looked at, buckets opened, and entries compared.
    fn steps(table: &Table, input: &[u8]) -> usize {
        let mut steps = 0;
        for at in (0..=input.len() - table.width).step_by(table.stride) {
            let key = key(&input[at..], table.width);
            let hash = hash(key);
            let word = table.filter[(hash >> (32 - table.filter.len().ilog2())) as usize];
            steps += 1;
            if word >> (key & 31) & 1 != 0 {
                let bucket = table.bucket(hash);
                let mut distances: Vec<_> = bucket
                    .iter()
                    .filter(|entry| entry.tag == hash)
                    .map(|entry| entry.to_check)
                    .collect();
                distances.sort_unstable();
                distances.dedup();
                // A search halves the bucket for the hash, and for each distance for its end and the bytes there.
                let halvings = bucket.len().max(1).ilog2() as usize + 1;
                steps += match bucket.len() > CROWD {
                    true => 1 + halvings * (1 + 3 * distances.len()),
                    false => 1 + bucket.len(),
                };
            }
        }
        let mut met = 0;
        table.scan(input, &mut |_, _| met += 1);
        steps + 2 * met
    }

    /// The worst of all inputs that a client who knows the texts would send: nothing but one of them, one character of
    /// which is changed, so that the bytes that are hashed and those that are checked stay; in a row and at every distance
    /// from the places that are looked at. Steps for each byte.
    fn worst(texts: &[String]) -> f64 {
        let table = Table::new((0..).zip(texts.iter().map(String::as_bytes)));
        let mut worst = 0.0_f64;
        for text in texts {
            for changed in [0, text.len() / 2, text.len() - 1] {
                let mut miss = text.clone().into_bytes();
                miss[changed] ^= 1;
                let aligned = miss.len().next_multiple_of(table.stride);
                for length in [miss.len(), aligned] {
                    miss.resize(length, b'.');
                    for shift in 0..table.stride {
                        let input = miss.iter().copied().cycle().skip(shift);
                        let input: Vec<u8> = input.take(512).collect();
                        worst = worst.max(steps(&table, &input) as f64 / 512.0);
                    }
                }
            }
        }
        worst
    }

    #[test]
    fn no_input_costs_more_than_a_few_steps_a_byte() {
        let mut noise = 1_u32;
        let mut word = |length: u32| -> String {
            let letter = |_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(b'a' + (noise >> 24) as u8 % 26)
            };
            (0..length).map(letter).collect()
        };
        let mut shapes = |count: u32| -> Vec<String> {
            (0..count)
                .map(|number| match number % 6 {
                    0 => format!("x-{}=", word(7 + number % 5)),
                    1 => format!("{}=", word(7 + number % 5)),
                    2 => format!("resource={}", word(7 + number % 5)),
                    3 => format!("/{}/auth/", word(4 + number % 3)),
                    4 => format!("/{}/{}.aspx?", word(7), word(7)),
                    _ => format!("jndi:ldap://{}", word(7 + number % 5)),
                })
                .collect()
        };
        let (few, many) = (worst(&shapes(200)), worst(&shapes(1_200)));
        assert!(few <= 4.0 && many <= 8.0, "{few} {many}");
    }

    #[test]
    fn texts_that_share_every_place_cost_no_more_than_a_search() {
        let texts = |count: u32| -> Vec<String> {
            let letter = |number: u32| char::from(b'a' + (number % 26) as u8);
            (0..count)
                .map(|number| {
                    let end: String = [number, number / 26, number / 676]
                        .map(letter)
                        .iter()
                        .collect();
                    format!("resource={end}")
                })
                .collect()
        };
        let (few, many) = (worst(&texts(20)), worst(&texts(400)));
        assert!(few <= 8.0 && many <= 16.0, "{few} {many}");
    }

    #[test]
    fn crowded_texts_are_met_wherever_they_stand() {
        let texts: Vec<String> = (100..900)
            .map(|number| format!("resource={number}"))
            .collect();
        let table = Table::new((0..).zip(texts.iter().map(String::as_bytes)));
        for (number, text) in (0..).zip(&texts).step_by(7) {
            let upper = text.to_ascii_uppercase();
            for before in 0..8 {
                let input = [&b"........"[..before], upper.as_bytes(), b"...."];
                let mut found = Vec::new();
                table.scan(&input.concat(), &mut |text, at| found.push((text, at)));
                assert!(
                    found.contains(&(number, before)),
                    "{text} {before} {found:?}"
                );
            }
        }
    }
}
