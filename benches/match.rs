//! What judging a request costs, by the number of rules and the kind of traffic; see `README.md` beside it.

#![allow(missing_docs)]

mod data;

use std::hint::black_box;
use std::time::Instant;

use data::{BATCH, Counting, Request, sets, synthetic};
use stopgap::rules::{RuleSet, Scratch};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COUNTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];
const KINDS: [&str; 4] = ["benign", "repeated", "attack", "hostile"];

/// Batches of which the fastest counts; the others measure the machine's other work.
const BATCHES: usize = 12;

fn main() {
    let seed = data::seed();
    if let Some(kind) = data::option("--count-instructions") {
        let count = data::option("--rules").map_or(1_000, |count| count.parse().expect("a number"));
        count_instructions(count, &kind, seed);
        return;
    }
    if data::has_option("--peers") {
        peers(seed);
        return;
    }
    if data::has_option("--adversary") {
        adversary(seed);
        return;
    }
    println!(
        "kind,rules,seed,bytes,nanoseconds,linear_nanoseconds,stopped,allocations,heap_growth"
    );
    for name in sets::SETS {
        let Some(text) = sets::document(name, seed) else {
            eprintln!("{name}: not installed, left out");
            continue;
        };
        let set = data::compile_what_can_be(&text);
        let rules = set.rules().count();
        for (kind, requests) in [("benign", data::benign(seed)), ("noise", data::noise(seed))] {
            let row = measure(&set, &requests);
            let bytes = data::mean_bytes(&requests);
            println!("{name}-{kind},{rules},{seed},{bytes},{row}");
        }
    }
    for count in COUNTS {
        let rules = synthetic::rules(count, seed);
        let set = data::compile(&synthetic::iis(&rules));
        for kind in KINDS {
            let requests = requests(kind, &rules, &set, seed);
            let row = measure(&set, &requests);
            let bytes = data::mean_bytes(&requests);
            println!("{kind},{count},{seed},{bytes},{row}");
        }
    }
}

/// Nanoseconds for each byte that a client who knows the rules makes the gate take, over all its texts.
fn adversary(seed: u64) {
    println!("adversary,rules,seed,texts,median,of_100_99,most");
    for count in [1_000, 10_000] {
        let rules = synthetic::rules(count, seed);
        let set = data::compile(&synthetic::iis(&rules));
        let all = data::adversary::nanoseconds_a_byte(&rules, &set, seed);
        let of = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
        println!(
            "adversary,{count},{seed},{},{:.2},{:.2},{:.2}",
            all.len(),
            of(0.5),
            of(0.99),
            of(1.0)
        );
    }
}

/// The same benign requests by other libraries, on the same machine.
fn peers(seed: u64) {
    println!("peer,rules,seed,compile_ms,nanoseconds");
    let requests = data::benign(seed);
    for count in COUNTS {
        let rules = synthetic::rules(count, seed);
        let row = |name: &str, compiled: Instant, judge: &mut dyn FnMut(&Request) -> usize| {
            let compile = compiled.elapsed().as_secs_f64() * 1e3;
            // One after the other takes milliseconds at the end.
            let some = if name == "sequential" { 16 } else { BATCH };
            let some = &requests[..some];
            let fastest = (0..BATCHES).map(|_| {
                let start = Instant::now();
                for request in some {
                    black_box(judge(request));
                }
                start.elapsed().as_nanos() as f64 / some.len() as f64
            });
            let fastest = fastest.fold(f64::INFINITY, f64::min);
            println!("{name},{count},{seed},{compile:.1},{fastest:.0}");
        };
        let start = Instant::now();
        let set = data::compile(&synthetic::iis(&rules));
        let mut scratch = Scratch::default();
        row("stopgap with XML and inputs", start, &mut |request| {
            usize::from(request.judge(&set, &mut scratch).verdict.stops())
        });
        let start = Instant::now();
        let mut sequential = data::peers::Sequential::new(&rules);
        row("sequential", start, &mut |request| {
            usize::from(sequential.stops(request))
        });
        let start = Instant::now();
        let mut together = data::peers::Together::new(&rules);
        row("regex set with a large cache", start, &mut |request| {
            together.matches(request)
        });
        #[cfg(feature = "peer-vectorscan")]
        {
            let start = Instant::now();
            let mut vectorscan = data::peers::vectorscan::Vectorscan::new(&rules);
            row("vectorscan", start, &mut |request| {
                vectorscan.matches(request)
            });
        }
    }
}

fn requests(kind: &str, rules: &[synthetic::Rule], set: &RuleSet, seed: u64) -> Vec<Request> {
    match kind {
        "attack" => data::attacks(rules, seed),
        "hostile" => data::hostile(rules, set, seed),
        "noise" => data::noise(seed),
        "repeated" => data::benign(seed).into_iter().take(1).collect(),
        _ => data::benign(seed),
    }
}

fn measure(set: &RuleSet, requests: &[Request]) -> String {
    let mut scratch = Scratch::default();
    let (_, heap) = data::allocated();
    let stopped = batch(set, requests, &mut scratch);
    batch(set, requests, &mut scratch);
    let (before, warm_heap) = data::allocated();
    batch(set, requests, &mut scratch);
    let allocations = data::allocated().0 - before;
    let fastest = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            black_box(batch(set, requests, &mut scratch));
            start.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .fold(f64::INFINITY, f64::min);
    let linear = linear(set, requests);
    let allocations = allocations as f64 / BATCH as f64;
    let growth = warm_heap.saturating_sub(heap);
    format!("{fastest:.0},{linear},{stopped},{allocations:.2},{growth}")
}

/// Judges a batch of requests; how many were stopped.
#[inline(never)]
fn batch(set: &RuleSet, requests: &[Request], scratch: &mut Scratch) -> usize {
    let requests = requests.iter().cycle().take(BATCH);
    requests
        .filter(|request| request.judge(set, scratch).verdict.stops())
        .count()
}

/// The same by the linear matcher; not for the largest set, which takes it minutes.
fn linear(set: &RuleSet, requests: &[Request]) -> String {
    if set.rules().count() > 1_000 || requests.is_empty() {
        return String::new();
    }
    let mut scratch = Scratch::default();
    let mut fastest = f64::INFINITY;
    let some = &requests[..requests.len().min(16)];
    for _ in 0..3 {
        let start = Instant::now();
        for request in some {
            black_box(set.judge_linear(&request.view(), &mut scratch));
        }
        fastest = fastest.min(start.elapsed().as_nanos() as f64 / some.len() as f64);
    }
    format!("{fastest:.0}")
}

/// Judges 32 requests in a function that callgrind can be told to look at, when everything is warm.
fn count_instructions(count: usize, kind: &str, seed: u64) {
    let rules = synthetic::rules(count, seed);
    let set = match data::option("--set").and_then(|name| sets::document(&name, seed)) {
        Some(text) => data::compile_what_can_be(&text),
        None => data::compile(&synthetic::iis(&rules)),
    };
    let requests = requests(kind, &rules, &set, seed);
    let mut scratch = Scratch::default();
    for request in requests.iter().chain(&requests) {
        black_box(request.judge(&set, &mut scratch));
    }
    let requests: Vec<&Request> = requests.iter().cycle().take(32).collect();
    counted(&set, &requests, &mut scratch);
}

#[inline(never)]
fn counted(set: &RuleSet, requests: &[&Request], scratch: &mut Scratch) {
    for request in requests {
        black_box(request.judge(black_box(set), scratch));
    }
}
