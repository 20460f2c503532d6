//! Finds the places of an input at which one of many texts may stand, by hashing a few bytes at every so many.

/// The longest stride: a text must be long enough to be met wherever it begins.
const MAX_STRIDE: usize = 8;

/// Places that are looked at in a row, and the bytes that they lie in at the longest stride.
const ROW: usize = 4;
const BLOCK: usize = (ROW - 1) * MAX_STRIDE + 8;

/// Bytes that are hashed, unless a text is shorter.
const GRAM: usize = 4;

/// Bits of the filter for each entry; more would cost cache and save little.
const BITS_PER_ENTRY: usize = 64;

/// Sizes of the filter in words: few, since the scan is compiled for each, which saves it a comparison at every place.
const WORDS: [usize; 5] = [1 << 8, 1 << 11, 1 << 13, 1 << 15, 1 << 17];

/// Texts of a length that one stride suits, and how to meet them.
#[derive(Debug)]
pub(super) struct Table {
    stride: usize,
    /// How many bytes are hashed.
    width: usize,
    /// A bit for each hash that an entry has.
    filter: Box<[u32]>,
    /// Where the entries of each bucket begin, and at last where all end.
    starts: Box<[u32]>,
    bucket_shift: u32,
    entries: Box<[Entry]>,
}

/// A hash that a text shows at a place in it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    text: u32,
    /// The place, from the text's beginning.
    offset: u32,
}

impl Table {
    /// A table for these texts by number, none empty.
    pub(super) fn new<'t>(texts: impl Iterator<Item = (u32, &'t [u8])> + Clone) -> Self {
        let shortest = texts.clone().map(|(_, text)| text.len()).min();
        let shortest = shortest.unwrap_or(GRAM);
        let width = shortest.min(GRAM);
        let stride = (shortest + 1 - width).min(MAX_STRIDE);
        let mut entries = Vec::new();
        let mut crowd = Crowd::new();
        for (number, text) in texts {
            let first = quietest(text, width, stride, &crowd);
            for offset in first..first + stride {
                let hash = fold(gram(&text[offset..]), width);
                crowd.add(hash);
                entries.push(Entry {
                    hash,
                    text: number,
                    offset: offset as u32,
                });
            }
        }
        Self::of_entries(entries, stride, width)
    }

    fn of_entries(mut entries: Vec<Entry>, stride: usize, width: usize) -> Self {
        let wanted = entries.len() * BITS_PER_ENTRY / 32;
        let words = WORDS.into_iter().find(|words| *words >= wanted);
        let words = words.unwrap_or(WORDS[WORDS.len() - 1]);
        let mut filter = vec![0; words].into_boxed_slice();
        let buckets = entries.len().next_power_of_two().ilog2().max(1);
        let bucket_shift = 32 - buckets;
        let mut starts = vec![0; (1 << buckets) + 1].into_boxed_slice();
        entries.sort_by_key(|entry| entry.hash);
        for entry in &entries {
            filter[(entry.hash >> (32 - words.ilog2())) as usize] |= 1 << (entry.hash & 31);
            starts[(entry.hash >> bucket_shift) as usize + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Self {
            stride,
            width,
            filter,
            starts,
            bucket_shift,
            entries: entries.into_boxed_slice(),
        }
    }

    /// Calls `meet` with every text that may stand in the input and the place where it would begin.
    ///
    /// No text that does stand there is left out, whatever the case of its letters.
    pub(super) fn scan(&self, input: &[u8], meet: &mut impl FnMut(u32, usize)) {
        match self.stride {
            1 => self.scan_by::<1>(input, meet),
            2 => self.scan_by::<2>(input, meet),
            3 => self.scan_by::<3>(input, meet),
            4 => self.scan_by::<4>(input, meet),
            5 => self.scan_by::<5>(input, meet),
            6 => self.scan_by::<6>(input, meet),
            7 => self.scan_by::<7>(input, meet),
            _ => self.scan_by::<MAX_STRIDE>(input, meet),
        }
    }

    fn scan_by<const STRIDE: usize>(&self, input: &[u8], meet: &mut impl FnMut(u32, usize)) {
        match self.filter.len() {
            0x100 => self.scan_in::<STRIDE, 0x100>(input, meet),
            0x800 => self.scan_in::<STRIDE, 0x800>(input, meet),
            0x2000 => self.scan_in::<STRIDE, 0x2000>(input, meet),
            0x8000 => self.scan_in::<STRIDE, 0x8000>(input, meet),
            _ => self.scan_in::<STRIDE, 0x2_0000>(input, meet),
        }
    }

    fn scan_in<const STRIDE: usize, const WORDS: usize>(
        &self,
        input: &[u8],
        meet: &mut impl FnMut(u32, usize),
    ) {
        let filter: &[u32; WORDS] = self.filter.first_chunk().expect("it has this size");
        let mask = mask(self.width);
        let mut probe = |bytes: u64, at: usize| {
            let hash = hash(bytes | mask);
            let word = filter[(hash >> (32 - WORDS.ilog2())) as usize];
            if word >> (hash & 31) & 1 != 0 {
                self.look_up(hash, at, meet);
            }
        };
        let mut at = 0;
        while let Some(block) = input.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
            for place in 0..ROW {
                let bytes = block[place * STRIDE..].first_chunk();
                let bytes = bytes.expect("a row lies in a block");
                probe(u64::from_le_bytes(*bytes), at + place * STRIDE);
            }
            at += ROW * STRIDE;
        }
        while at + self.width <= input.len() {
            probe(gram(&input[at..]), at);
            at += STRIDE;
        }
    }

    #[cold]
    fn look_up(&self, hash: u32, at: usize, meet: &mut impl FnMut(u32, usize)) {
        let bucket = (hash >> self.bucket_shift) as usize;
        let entries = self.starts[bucket] as usize..self.starts[bucket + 1] as usize;
        for entry in &self.entries[entries] {
            if entry.hash == hash
                && let Some(start) = at.checked_sub(entry.offset as usize)
            {
                meet(entry.text, start);
            }
        }
    }

    /// How many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.filter)
            + size_of_val(&*self.starts)
            + size_of_val(&*self.entries)
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

/// Where in a text to begin, so that its hashes are rare among honest requests and shared with few other texts.
fn quietest(text: &[u8], width: usize, stride: usize, crowd: &Crowd) -> usize {
    let noise = |offset: usize| {
        let bytes = &text[offset..];
        let honest = bytes.get(..GRAM).map_or(0, super::cost::occurrences);
        4 * u32::from(honest) + crowd.of(fold(gram(bytes), width))
    };
    let last = text.len() + 1 - width - stride;
    (0..=last)
        .min_by_key(|first| (*first..first + stride).map(noise).sum::<u32>())
        .unwrap_or(0)
}

/// The first eight bytes as a number, the first the lowest; what is missing is zero.
pub(super) fn gram(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(padded)
        }
    }
}

/// The hash of the first bytes, equal for letters that differ in case only.
pub(super) fn fold(gram: u64, width: usize) -> u32 {
    hash(gram | mask(width))
}

/// Sets the bit that tells upper from lower case, which also makes some other bytes equal, and every bit behind.
const fn mask(width: usize) -> u64 {
    const CASE: u64 = 0x2020_2020_2020_2020;
    match width {
        8.. => CASE,
        _ => CASE | u64::MAX << (8 * width),
    }
}

/// Multiplies by the golden ratio and keeps the bits that depend on most others.
const fn hash(key: u64) -> u32 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
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
}
