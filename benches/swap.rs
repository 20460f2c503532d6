//! What requests take while rule sets are replaced; see `README.md` beside it.

#![allow(missing_docs)]

mod data;
mod loopback;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stopgap::filter::Snapshot;
use stopgap::model::Revision;

const REQUESTS: usize = 40_000;
const RULES: usize = 1_000;

/// How long a set is in use.
const PERIOD: Duration = Duration::from_millis(50);

fn main() {
    let count =
        data::option("--requests").map_or(REQUESTS, |count| count.parse().expect("a number"));
    let seed = data::seed();
    let text = |seed| data::synthetic::iis(&data::synthetic::rules(RULES, seed));
    let texts = [text(seed), text(seed + 1)];
    let (_running, address, handle) = loopback::proxy(loopback::origin(), data::compile(&texts[0]));
    println!("swaps,requests,p50_us,p90_us,p99_us,p999_us");
    let row = |swaps: usize, times: &[f64]| {
        println!("{swaps},{},{}", times.len(), loopback::percentiles(times));
    };
    row(0, &loopback::ask(address, count));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swaps = 0;
            while !ended.load(Ordering::Relaxed) {
                let set = data::compile(&texts[swaps % 2]);
                swaps += 1;
                handle.publish(Snapshot::single(Revision(swaps as u64 + 1), set));
                std::thread::sleep(PERIOD);
            }
            swaps
        });
        let times = loopback::ask(address, count);
        ended.store(true, Ordering::Relaxed);
        row(swapping.join().expect("a set compiles"), &times);
    });
}
