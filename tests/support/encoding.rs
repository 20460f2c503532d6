//! What the corpora are packed in: base64, and zlib (RFC 1950, RFC 1951) for the long lines.

/// Decodes standard base64 with padding.
pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS
            .iter()
            .position(|&known| known == digit)
            .expect("a base64 digit");
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Unpacks a zlib stream. Its checksum is not looked at: the corpora state lengths.
pub(crate) fn inflate(packed: &[u8]) -> Vec<u8> {
    let mut bits = Bits {
        bytes: &packed[2..],
        at: 0,
    };
    let mut out = Vec::new();
    loop {
        let last = bits.take(1) == 1;
        match bits.take(2) {
            0 => stored(&mut bits, &mut out),
            1 => {
                let lengths: Vec<u8> = (0..288)
                    .map(|n| match n {
                        0..=143 => 8,
                        144..=255 => 9,
                        256..=279 => 7,
                        _ => 8,
                    })
                    .collect();
                compressed(
                    &mut bits,
                    &mut out,
                    &Codes::new(&lengths),
                    &Codes::new(&[5; 30]),
                );
            }
            2 => {
                let (literals, distances) = tables(&mut bits);
                compressed(&mut bits, &mut out, &literals, &distances);
            }
            kind => panic!("block type {kind}"),
        }
        if last {
            return out;
        }
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |value, shift| {
            let bit = self.bytes[self.at / 8] >> (self.at % 8) & 1;
            self.at += 1;
            value | usize::from(bit) << shift
        })
    }
}

/// A canonical Huffman code: how many codes there are of each length, and their symbols in order.
struct Codes {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Codes {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; 16];
        lengths
            .iter()
            .for_each(|&length| counts[usize::from(length)] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len())
            .filter(|&symbol| lengths[symbol] > 0)
            .collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        Self { counts, symbols }
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }
}

fn stored(bits: &mut Bits<'_>, out: &mut Vec<u8>) {
    bits.at = bits.at.next_multiple_of(8);
    let length = bits.take(16);
    bits.take(16);
    let start = bits.at / 8;
    out.extend_from_slice(&bits.bytes[start..start + length]);
    bits.at += length * 8;
}

fn tables(bits: &mut Bits<'_>) -> (Codes, Codes) {
    const ORDER: [usize; 19] = [
        16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
    ];
    let (literals, distances, meta) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
    let mut lengths = [0_u8; 19];
    for &symbol in &ORDER[..meta] {
        lengths[symbol] = bits.take(3) as u8;
    }
    let codes = Codes::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (value, times) = match codes.symbol(bits) {
            16 => (*lengths.last().unwrap(), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            symbol => (symbol as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(value, times));
    }
    (
        Codes::new(&lengths[..literals]),
        Codes::new(&lengths[literals..]),
    )
}

fn compressed(bits: &mut Bits<'_>, out: &mut Vec<u8>, literals: &Codes, distances: &Codes) {
    loop {
        match literals.symbol(bits) {
            256 => return,
            symbol @ 0..256 => out.push(symbol as u8),
            symbol => {
                let length = length(symbol, bits);
                let distance = distance(distances.symbol(bits), bits);
                for _ in 0..length {
                    out.push(out[out.len() - distance]);
                }
            }
        }
    }
}

fn length(symbol: usize, bits: &mut Bits<'_>) -> usize {
    match symbol {
        285 => 258,
        257..265 => symbol - 254,
        _ => {
            let extra = (symbol - 261) / 4;
            ((4 + (symbol - 261) % 4) << extra) + 3 + bits.take(extra)
        }
    }
}

fn distance(symbol: usize, bits: &mut Bits<'_>) -> usize {
    match symbol {
        0..4 => symbol + 1,
        _ => {
            let extra = symbol / 2 - 1;
            ((2 + symbol % 2) << extra) + 1 + bits.take(extra)
        }
    }
}
