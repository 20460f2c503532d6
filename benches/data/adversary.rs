//! What a client who knows the rules sends: nothing but a text that the gate looks for, with one character changed.

use std::hint::black_box;
use std::time::Instant;

use stopgap::rules::{RuleSet, Scratch};

use super::synthetic::{Place, Random, Rule};
use super::{COOKIE, Request, honest};

/// Bytes of the input that is made of near misses.
const BYTES: usize = 4_096;

/// Distances between two beginnings, beyond the text's own length.
const GAPS: usize = 8;

/// Nanoseconds for each byte, by text, in order of size: the worst of every place of the change and every distance.
pub(crate) fn nanoseconds_a_byte(rules: &[Rule], set: &RuleSet, seed: u64) -> Vec<f64> {
    let mut scratch = Scratch::default();
    let mut random = Random::new(seed ^ 0xad);
    let plain = honest(&mut random);
    let mut all: Vec<f64> = set
        .costs()
        .iter()
        .zip(rules)
        .filter_map(|(cost, rule)| Some((text(&cost.chosen)?, rule.place)))
        .map(|(text, place)| worst(&text, place, &plain, set, &mut scratch))
        .collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The text by which a rule is chosen.
fn text(chosen: &str) -> Option<Vec<u8>> {
    let quoted = chosen.strip_prefix("text \"")?;
    let end = quoted.rfind('"')?;
    Some(quoted[..end].replace("\\\\", "\\").into_bytes())
}

fn worst(text: &[u8], place: Place, plain: &Request, set: &RuleSet, scratch: &mut Scratch) -> f64 {
    let mut worst = 0.0_f64;
    for changed in [0, text.len() / 2, text.len() - 1] {
        for gap in 0..GAPS {
            let mut miss = text.to_vec();
            miss[changed] = if miss[changed] == b'0' { b'1' } else { b'0' };
            miss.resize(text.len() + gap, b'.');
            let misses: Vec<u8> = miss.iter().copied().cycle().take(BYTES).collect();
            let mut requests = [0, 1].map(|_| Request {
                target: plain.target.clone(),
                fields: plain.fields.clone(),
            });
            // Two that differ in their last byte, so that neither repeats the one before.
            for (request, last) in requests.iter_mut().zip(*b"01") {
                let input = match place {
                    Place::Cookie => &mut request.fields[COOKIE].1,
                    Place::Uri => &mut request.target,
                };
                if place == Place::Cookie {
                    input.clear();
                }
                input.extend_from_slice(&misses);
                input.push(last);
            }
            let fastest = (0..3).map(|_| {
                let start = Instant::now();
                for request in &requests {
                    black_box(request.judge(set, scratch));
                }
                start.elapsed().as_nanos() as f64 / (2 * BYTES) as f64
            });
            worst = worst.max(fastest.fold(f64::INFINITY, f64::min));
        }
    }
    worst
}
