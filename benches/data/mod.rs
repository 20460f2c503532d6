//! What the benches judge: rules and requests drawn from a seed.

#![allow(dead_code)]

pub(crate) mod adversary;
pub(crate) mod peers;
pub(crate) mod sets;
#[path = "../../tests/support/synthetic.rs"]
pub(crate) mod synthetic;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use stopgap::rules::{
    Decision, RequestView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin,
};

use synthetic::{Place, Random, Rule};

/// How many requests a batch has.
pub(crate) const BATCH: usize = 256;

/// The seed that rules are drawn from, unless `--seed N` says another.
const SEED: u64 = 1;

/// One request: target, and fields as received.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) target: Vec<u8>,
    pub(crate) fields: Vec<(&'static str, Vec<u8>)>,
}

impl Request {
    pub(crate) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: "GET",
            target: &self.target,
            version: "HTTP/1.1",
            secure: true,
            remote: Some(([192, 0, 2, 1], 50_000).into()),
            local: None,
            fields: &self.fields,
            variables: &[],
        }
    }

    pub(crate) fn judge(&self, set: &RuleSet, scratch: &mut Scratch) -> Decision {
        set.judge(&self.view(), scratch)
    }

    fn bytes(&self) -> usize {
        let fields = self.fields.iter();
        self.target.len()
            + fields
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
    }
}

/// The mean size of requests, target and fields.
pub(crate) fn mean_bytes(requests: &[Request]) -> usize {
    requests.iter().map(Request::bytes).sum::<usize>() / requests.len().max(1)
}

/// Requests of a browser that reads mail: about 1.9 KB, most of it cookies, no two alike.
pub(crate) fn benign(seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed ^ 0xbe);
    (0..BATCH).map(|_| honest(&mut random)).collect()
}

/// Requests whose cookie is random letters, digits and signs: what keeps most patterns half matched.
pub(crate) fn noise(seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed ^ 0x0f);
    let mut noise = |length: usize| -> Vec<u8> {
        const SIGNS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789_=.;/-";
        (0..length)
            .map(|_| SIGNS[random.below(SIGNS.len())])
            .collect()
    };
    let request = |mut request: Request| {
        request.target.extend(noise(200));
        request.fields[COOKIE].1 = noise(2_000);
        request
    };
    benign(seed).into_iter().map(request).collect()
}

/// Requests full of texts of the rules, each with one character changed, none of which is stopped.
pub(crate) fn hostile(rules: &[Rule], set: &RuleSet, seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed ^ 0x40);
    let mut scratch = Scratch::default();
    let mut requests = Vec::new();
    while requests.len() < BATCH {
        let mut request = honest(&mut random);
        let start = request.target.len();
        request.target.extend_from_slice(b"&q=");
        for _ in 0..8 {
            let kept = request.target.len();
            request
                .target
                .extend(near_miss(rules, Place::Uri, &mut random));
            if request.judge(set, &mut scratch).verdict.stops() {
                request.target.truncate(kept.max(start));
            }
        }
        for _ in 0..40 {
            let kept = request.fields[COOKIE].1.len();
            let text = near_miss(rules, Place::Cookie, &mut random);
            let cookie = &mut request.fields[COOKIE].1;
            cookie.extend_from_slice(b"; ");
            cookie.extend(text);
            if request.judge(set, &mut scratch).verdict.stops() {
                request.fields[COOKIE].1.truncate(kept);
            }
        }
        requests.push(request);
    }
    requests
}

fn near_miss(rules: &[Rule], place: Place, random: &mut Random) -> Vec<u8> {
    let (before, behind) = rules.split_at(random.below(rules.len()));
    let rule = behind.iter().chain(before).find(|rule| rule.place == place);
    let mut text = rule.map(|rule| rule.sample.clone()).unwrap_or_default();
    if !text.is_empty() {
        let at = random.below(text.len());
        text[at] = b'a' + random.below(26) as u8;
    }
    text
}

/// Requests that a rule stops each.
pub(crate) fn attacks(rules: &[Rule], seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed ^ 0xa7);
    let request = |_| {
        let rule = &rules[random.below(rules.len())];
        let mut request = honest(&mut random);
        match rule.place {
            Place::Cookie => request.fields[COOKIE].1 = rule.sample.clone(),
            Place::Uri => request.target = rule.target(&rule.sample),
        }
        request
    };
    (0..BATCH).map(request).collect()
}

/// Where the cookie stands among the fields.
const COOKIE: usize = 8;

fn honest(random: &mut Random) -> Request {
    let number = random.below(100_000_000);
    let hex = |random: &mut Random, length: usize| -> String {
        (0..length)
            .map(|_| char::from(b"0123456789abcdef"[random.below(16)]))
            .collect()
    };
    let base64 = |random: &mut Random, length: usize| -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..length)
            .map(|_| char::from(DIGITS[random.below(64)]))
            .collect()
    };
    let cookie = format!(
        "ClientId={}; OIDC=1; UC={}{number:08}; X-OWA-CANARY={}.; cadata={}; cadataTTL={}; cadataKey={}; cadataIV={}; \
         cadataSig={}; PrivateComputer=true; PBack=0",
        hex(random, 32),
        hex(random, 24),
        base64(random, 76),
        base64(random, 236),
        base64(random, 24),
        base64(random, 344),
        base64(random, 344),
        base64(random, 128),
    );
    let fields = [
        ("Host", "mail.contoso.example".to_owned()),
        (
            "User-Agent",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 \
             Safari/537.36"
                .to_owned(),
        ),
        ("Accept", "application/json, text/plain, */*".to_owned()),
        ("Accept-Language", "en-US,en;q=0.9,de;q=0.8".to_owned()),
        ("Accept-Encoding", "gzip, deflate, br".to_owned()),
        ("Referer", "https://mail.contoso.example/owa/".to_owned()),
        ("X-Requested-With", "XMLHttpRequest".to_owned()),
        ("X-OWA-CorrelationId", format!("{}_{number}", hex(random, 36))),
        ("Cookie", cookie),
    ];
    Request {
        target: format!("/owa/service.svc?action=GetConversationItems&app=Mail&n={number:08}&EP=1")
            .into_bytes(),
        fields: fields
            .map(|(name, value)| (name, value.into_bytes()))
            .into(),
    }
}

/// The compiled rules of a document.
pub(crate) fn compile(text: &str) -> RuleSet {
    let source = RuleSource::parse(text, &SourceOrigin::named("generated")).expect("generated");
    let mut builder = RuleSet::builder(RuleLimits::default());
    builder
        .add(&source, RuleOrigin::local("generated"))
        .expect("generated");
    builder.build()
}

/// The rules of a document that can be compiled; the Core Rule Set has some that are no ECMAScript.
pub(crate) fn compile_what_can_be(text: &str) -> RuleSet {
    let mut builder = RuleSet::builder(RuleLimits::default());
    for rule in text.split("<rule ").skip(1) {
        let rule = rule.trim_end_matches("</rules></rewrite>");
        let text = format!("<rewrite><rules><rule {rule}</rules></rewrite>");
        if let Ok(source) = RuleSource::parse(&text, &SourceOrigin::named("set")) {
            let _ = builder.add(&source, RuleOrigin::local("set"));
        }
    }
    builder.build()
}

/// Whether an option is there.
pub(crate) fn has_option(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

/// What follows an option of the command line.
pub(crate) fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

/// The seed to draw from.
pub(crate) fn seed() -> u64 {
    option("--seed").map_or(SEED, |seed| seed.parse().expect("--seed takes a number"))
}

/// Counts what is allocated, for figures about memory.
pub(crate) struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory of it.
#[allow(unsafe_code, reason = "an allocator can be written in no other way")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What was allocated so far: calls, and bytes that are still in use.
pub(crate) fn allocated() -> (usize, usize) {
    (
        ALLOCATIONS.load(Ordering::Relaxed),
        LIVE.load(Ordering::Relaxed),
    )
}

/// The most bytes in use at a time since the last call.
pub(crate) fn take_peak() -> usize {
    PEAK.swap(LIVE.load(Ordering::Relaxed), Ordering::Relaxed)
}
