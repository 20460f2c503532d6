//! The same rules by libraries that match many patterns, or one after the other.

use regex_automata::meta::{Cache, Regex};
use regex_automata::util::syntax;
use regex_automata::{Input, PatternSet};

use super::synthetic::{Place, Rule};
use super::{COOKIE, Request};

/// Bytes of the cache of lazy states of all patterns together: enough for none to be cleared.
const LARGE_CACHE: usize = 200 << 20;

/// The patterns of each rule over one input; more than one where it is a conjunction of look-aheads, which none of the
/// peers has.
fn patterns(rules: &[Rule], place: Place) -> Vec<Vec<String>> {
    let rules = rules.iter().filter(|rule| rule.place == place);
    rules
        .map(|rule| match rule.pattern.strip_prefix("(?=") {
            Some(looks) => looks
                .split("(?=")
                .map(|look| look.trim_end_matches(')').to_owned())
                .collect(),
            None => vec![rule.pattern.clone()],
        })
        .collect()
}

/// The two inputs; benign targets need no decoding.
fn inputs(request: &Request) -> [&[u8]; 2] {
    [&request.target, &request.fields[COOKIE].1]
}

fn build(patterns: &[String], cache: usize) -> Regex {
    Regex::builder()
        .syntax(
            syntax::Config::new()
                .case_insensitive(true)
                .unicode(false)
                .utf8(false),
        )
        .configure(
            Regex::config()
                .utf8_empty(false)
                .nfa_size_limit(None)
                .hybrid_cache_capacity(cache),
        )
        .build_many(patterns)
        .expect("the patterns are generated")
}

/// Every rule one after the other, until one matches.
pub(crate) struct Sequential([Vec<Vec<(Regex, Cache)>>; 2]);

impl Sequential {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let one = |pattern: String| {
            let regex = build(&[pattern], 2 << 20);
            let cache = regex.create_cache();
            (regex, cache)
        };
        Self([Place::Uri, Place::Cookie].map(|place| {
            let rules = patterns(rules, place).into_iter();
            rules
                .map(|all| all.into_iter().map(one).collect())
                .collect()
        }))
    }

    pub(crate) fn stops(&mut self, request: &Request) -> bool {
        let mut inputs = self.0.iter_mut().zip(inputs(request));
        inputs.any(|(rules, input)| {
            rules.iter_mut().any(|all| {
                all.iter_mut().all(|(regex, cache)| {
                    regex.search_half_with(cache, &Input::new(input)).is_some()
                })
            })
        })
    }
}

/// All patterns of an input as one automaton whose states are made when they are needed.
pub(crate) struct Together([(Regex, Cache, PatternSet); 2]);

impl Together {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        Self([Place::Uri, Place::Cookie].map(|place| {
            let regex = build(&patterns(rules, place).concat(), LARGE_CACHE);
            let cache = regex.create_cache();
            let found = PatternSet::new(regex.pattern_len());
            (regex, cache, found)
        }))
    }

    /// How many patterns match.
    pub(crate) fn matches(&mut self, request: &Request) -> usize {
        let inputs = self.0.iter_mut().zip(inputs(request));
        inputs
            .map(|((regex, cache, found), input)| {
                found.clear();
                regex.which_overlapping_matches_with(cache, &Input::new(input), found);
                found.len()
            })
            .sum()
    }
}

/// Vectorscan, through the C interface that it shares with Hyperscan.
#[cfg(feature = "peer-vectorscan")]
pub(crate) mod vectorscan {
    use std::ffi::{CString, c_char, c_int, c_uint, c_ulonglong, c_void};
    use std::ptr::{null, null_mut};

    use super::{Place, Request, Rule, inputs, patterns};

    const CASELESS: c_uint = 1;
    const SINGLEMATCH: c_uint = 8;
    const BLOCK: c_uint = 1;

    type OnMatch = extern "C" fn(c_uint, c_ulonglong, c_ulonglong, c_uint, *mut c_void) -> c_int;

    #[link(name = "hs")]
    // SAFETY: the declarations are those of the library's header, hs_compile.h and hs_runtime.h of version 5.4.
    #[allow(unsafe_code, reason = "the library speaks C")]
    unsafe extern "C" {
        fn hs_compile_multi(
            expressions: *const *const c_char,
            flags: *const c_uint,
            ids: *const c_uint,
            elements: c_uint,
            mode: c_uint,
            platform: *const c_void,
            database: *mut *mut c_void,
            error: *mut *mut c_void,
        ) -> c_int;
        fn hs_alloc_scratch(database: *const c_void, scratch: *mut *mut c_void) -> c_int;
        fn hs_scan(
            database: *const c_void,
            data: *const c_char,
            length: c_uint,
            flags: c_uint,
            scratch: *mut c_void,
            on_match: OnMatch,
            context: *mut c_void,
        ) -> c_int;
    }

    extern "C" fn count(
        _: c_uint,
        _: c_ulonglong,
        _: c_ulonglong,
        _: c_uint,
        context: *mut c_void,
    ) -> c_int {
        // SAFETY: the context is the counter that `matches` passes, which nothing else touches meanwhile.
        #[allow(unsafe_code, reason = "the library speaks C")]
        unsafe {
            *context.cast::<usize>() += 1;
        }
        0
    }

    /// A database for each input that has patterns; they live as long as the program does.
    pub(crate) struct Vectorscan([Option<(*mut c_void, *mut c_void)>; 2]);

    impl Vectorscan {
        pub(crate) fn new(rules: &[Rule]) -> Self {
            Self([Place::Uri, Place::Cookie].map(|place| {
                let all = patterns(rules, place).concat();
                if all.is_empty() {
                    return None;
                }
                let texts: Vec<CString> = all
                    .into_iter()
                    .map(|text| CString::new(text).expect("no pattern has a zero"))
                    .collect();
                let pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
                let flags = vec![CASELESS | SINGLEMATCH; texts.len()];
                let ids: Vec<c_uint> = (0..).take(texts.len()).collect();
                let (mut database, mut error, mut scratch) = (null_mut(), null_mut(), null_mut());
                // SAFETY: the three arrays have as many elements as is said, and live through the call.
                #[allow(unsafe_code, reason = "the library speaks C")]
                let compiled = unsafe {
                    hs_compile_multi(
                        pointers.as_ptr(),
                        flags.as_ptr(),
                        ids.as_ptr(),
                        texts.len() as c_uint,
                        BLOCK,
                        null(),
                        &mut database,
                        &mut error,
                    )
                };
                assert_eq!(compiled, 0, "vectorscan compiles the patterns");
                // SAFETY: the database was compiled.
                #[allow(unsafe_code, reason = "the library speaks C")]
                let allocated = unsafe { hs_alloc_scratch(database, &mut scratch) };
                assert_eq!(allocated, 0, "vectorscan has memory");
                Some((database, scratch))
            }))
        }

        /// How many patterns match.
        pub(crate) fn matches(&mut self, request: &Request) -> usize {
            let mut found = 0_usize;
            for (known, input) in self.0.iter().zip(inputs(request)) {
                let Some((database, scratch)) = known else {
                    continue;
                };
                // SAFETY: database and scratch belong together, the input lives through the call, and so does the
                // counter.
                #[allow(unsafe_code, reason = "the library speaks C")]
                let scanned = unsafe {
                    hs_scan(
                        *database,
                        input.as_ptr().cast(),
                        input.len() as c_uint,
                        0,
                        *scratch,
                        count,
                        (&raw mut found).cast(),
                    )
                };
                assert_eq!(scanned, 0, "vectorscan scans to the end");
            }
            found
        }
    }
}
