//! Writes DER, and takes it apart just enough to find a certificate's issuer and serial number.

/// One value.
pub(super) fn value(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let content = contents.concat();
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length @ 0..=0xff => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(content);
    out
}

/// One constructed value of indefinite length.
pub(super) fn indefinite(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x80], content, &[0, 0]].concat()
}

pub(super) fn sequence(contents: &[&[u8]]) -> Vec<u8> {
    value(0x30, contents)
}

/// A set in DER's order.
pub(super) fn set(mut members: Vec<Vec<u8>>) -> Vec<u8> {
    members.sort();
    value(0x31, &[&members.concat()])
}

pub(super) fn octets(content: &[u8]) -> Vec<u8> {
    value(0x04, &[content])
}

pub(super) fn integer(number: u8) -> Vec<u8> {
    value(0x02, &[&[number]])
}

/// An object identifier from its dotted form.
pub(super) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut content = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    value(0x06, &[&content])
}

/// The values that stand one after the other, each as its tag and its encoding, with the length of its header.
pub(super) fn split(mut octets: &[u8]) -> Vec<(u8, &[u8], usize)> {
    let mut values = Vec::new();
    while !octets.is_empty() {
        let (header, length) = match octets[1] {
            length @ 0..=0x7f => (2, usize::from(length)),
            more => {
                let more = usize::from(more & 0x7f);
                let length = octets[2..2 + more]
                    .iter()
                    .fold(0, |sum, octet| sum << 8 | usize::from(*octet));
                (2 + more, length)
            }
        };
        let (value, rest) = octets.split_at(header + length);
        values.push((value[0], value, header));
        octets = rest;
    }
    values
}

/// What is inside the first value.
pub(super) fn inside(octets: &[u8]) -> &[u8] {
    let (_, value, header) = split(octets)[0];
    &value[header..]
}
