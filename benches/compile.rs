//! What compiling rules costs in time and memory, by their number; see `README.md` beside it.

#![allow(missing_docs)]

mod data;

use std::hint::black_box;
use std::time::Instant;

use data::{Counting, synthetic};
use stopgap::rules::{RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds of which the fastest counts.
const ROUNDS: usize = 5;

fn main() {
    let seed = data::seed();
    println!(
        "rules,seed,parse_ms,compile_ms,index_ms,set_bytes,index_bytes,peak_bytes,first_confirm_us,first_confirm_bytes"
    );
    let only = data::option("--rules").map(|count| count.parse().expect("--rules takes a number"));
    for count in [100, 1_000, 10_000] {
        if only.is_some_and(|only: usize| only != count) {
            continue;
        }
        let text = synthetic::iis(&synthetic::rules(count, seed));
        let fastest = (0..ROUNDS)
            .map(|_| round(&text))
            .fold([f64::INFINITY; 3], |a, b| {
                std::array::from_fn(|at| a[at].min(b[at]))
            });
        let [parse, compile, index] = fastest;
        let source =
            RuleSource::parse(&text, &SourceOrigin::named("generated")).expect("generated");
        let before = data::allocated().1;
        data::take_peak();
        let set = build(&source).build();
        let peak = data::take_peak() - before;
        let bytes = data::allocated().1 - before;
        let (confirm, confirm_bytes) = first_confirm(count, seed, &set);
        println!(
            "{count},{seed},{parse:.2},{compile:.2},{index:.2},{bytes},{},{peak},{confirm:.1},{confirm_bytes}",
            set.index_memory()
        );
    }
}

/// Milliseconds for reading the text, for compiling, and for the index.
fn round(text: &str) -> [f64; 3] {
    let start = Instant::now();
    let source = RuleSource::parse(text, &SourceOrigin::named("generated")).expect("generated");
    let parsed = start.elapsed();
    let builder = build(&source);
    let compiled = start.elapsed();
    black_box(builder.build());
    let indexed = start.elapsed();
    [parsed, compiled - parsed, indexed - compiled].map(|time| time.as_secs_f64() * 1e3)
}

#[inline(never)]
fn build(source: &RuleSource) -> stopgap::rules::RuleSetBuilder {
    let mut builder = RuleSet::builder(RuleLimits::default());
    builder
        .add(source, RuleOrigin::local("generated"))
        .expect("generated");
    builder
}

/// Microseconds of the median first request that a rule has to be tried for, and the median of bytes that it leaves.
fn first_confirm(count: usize, seed: u64, set: &RuleSet) -> (f64, usize) {
    let rules = synthetic::rules(count, seed);
    let (mut times, mut bytes): (Vec<f64>, Vec<usize>) = data::attacks(&rules, seed)
        .iter()
        .map(|request| {
            let mut scratch = Scratch::default();
            // Everything but what the rule needs is warm.
            let plain = &data::benign(seed)[0];
            black_box(plain.judge(set, &mut scratch));
            let before = data::allocated().1;
            let start = Instant::now();
            let decision = black_box(request.judge(set, &mut scratch));
            let time = start.elapsed().as_secs_f64() * 1e6;
            drop(decision);
            (time, data::allocated().1.saturating_sub(before))
        })
        .unzip();
    times.sort_by(f64::total_cmp);
    bytes.sort_unstable();
    (times[times.len() / 2], bytes[bytes.len() / 2])
}
