//! What a request through the proxy takes, with and without rules; see `README.md` beside it.

#![allow(missing_docs)]

mod data;
mod loopback;

use stopgap::rules::RuleSet;

/// Requests of one row, unless `--requests N` says another number.
const REQUESTS: usize = 40_000;

fn main() {
    let count =
        data::option("--requests").map_or(REQUESTS, |count| count.parse().expect("a number"));
    let seed = data::seed();
    let origin = loopback::origin();
    println!("rules,requests,p50_us,p90_us,p99_us,p999_us");
    let row = |name: &str, times: &[f64]| {
        println!("{name},{},{}", times.len(), loopback::percentiles(times));
    };
    row("direct", &loopback::ask(origin, count));
    for rules in [0, 10, 1_000] {
        let set = match rules {
            0 => RuleSet::empty(),
            rules => data::compile(&data::synthetic::iis(&data::synthetic::rules(rules, seed))),
        };
        let (_running, address, _) = loopback::proxy(origin, set);
        row(&rules.to_string(), &loopback::ask(address, count));
    }
}
