//! HTTP/2 clients that mean harm: each attack ends, costs the process little, and other clients are served meanwhile.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, End, HEADERS, Http2Client, PADDED, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, head, request,
};
use crate::support::origin::{Origin, Then};
use crate::support::process::{Daemon, turn};

/// What an attack may take of the process at most, above what it held before: memory at its peak, and time of the
/// processor. A client that takes nothing of 100 answers at once holds two reads of each and what the library has of it,
/// 320 KiB. The binary under test is not optimised.
const MEMORY: u64 = 40 * 1_024 * 1_024;
const PROCESSOR: Duration = Duration::from_secs(6);

/// How long an attack may last, and an honest request that comes meanwhile.
const LENGTH: Duration = Duration::from_secs(20);
const HONEST: Duration = Duration::from_secs(10);

/// Streams that one connection tries to have at most in an attack: more than any of them gets.
const STREAMS: u32 = 20_000;

/// Streams that are begun together before anything is wrong with them.
const WAVE: usize = 40;

/// Requests of one attack that a server behind the proxy may see.
const REACHED: usize = 500;

/// Error codes (RFC 9113 section 7).
const PROTOCOL_ERROR: u32 = 1;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A proxy process before a server that answers late, much, or at once.
struct Attacked {
    daemon: Daemon,
    /// Requests that came to the server, other than of honest clients.
    reached: Arc<AtomicUsize>,
    _origin: Origin,
    _folder: tempfile::TempDir,
}

impl Attacked {
    fn start() -> Self {
        let reached = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reached);
        let origin = Origin::start(move |connection, seen| {
            if seen.target() != "/honest" {
                count.fetch_add(1, Ordering::Relaxed);
            }
            match seen.target() {
                "/late" => {
                    // Until the proxy gives up.
                    let _ = connection.read(&mut [0]);
                    return Then::Close;
                }
                "/large" => connection.answer("200 OK", "", &"a".repeat(1_024 * 1_024)),
                _ if connection.body(&seen).is_none() => return Then::Close,
                _ => connection.answer("200 OK", "", "hello"),
            }
            Then::Keep
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stopgap.toml");
        let settings = format!(
            "workers = 1\n[limits]\nbody_timeout = \"1s\"\nhead_timeout = \"1s\"\n\
             idle_timeout = \"1s\"\n[[site]]\n\
             name = \"Default Web Site\"\nupstreams = [\"http://{}\"]\n",
            origin.address
        );
        std::fs::write(&file, settings).unwrap();
        let arguments = ["--http2-cleartext", "--config", file.to_str().unwrap()];
        let daemon = Daemon::start(&folder.path().join("state"), &arguments);
        Self {
            daemon,
            reached,
            _origin: origin,
            _folder: folder,
        }
    }

    fn connect(&self, settings: &[(u16, u32)]) -> Http2Client {
        Http2Client::connect(self.daemon.address, settings)
    }

    /// Makes an attack while honest clients ask, and holds it to what it may take; requests that reached the server.
    fn attack(&self, name: &str, attack: impl FnOnce()) -> usize {
        let _turn = turn();
        let honest = Honest::start(self.daemon.address);
        let (process, reached) = (self.daemon.id(), self.reached.load(Ordering::Relaxed));
        let (held, used) = (memory(process, "VmRSS"), processor(process));
        // The peak is counted from here on (proc_pid_clear_refs(5)).
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
        let began = Instant::now();
        attack();
        let length = began.elapsed();
        let took = memory(process, "VmHWM").saturating_sub(held);
        let used = processor(process) - used;
        let reached = self.reached.load(Ordering::Relaxed) - reached;
        let slowest = honest.end();
        println!(
            "{name}: {length:.1?}, {took} bytes, {used:?} of the processor, {reached} requests, honest {slowest:.1?}"
        );
        assert!(length < LENGTH, "{name} lasted {length:?}");
        assert!(took < MEMORY, "{name} took {took} bytes");
        assert!(used < PROCESSOR, "{name} used {used:?}");
        assert!(slowest < HONEST, "{name} held others up for {slowest:?}");
        assert!(
            reached < REACHED,
            "{name} brought {reached} requests to the server"
        );
        reached
    }
}

/// A count of `/proc/PID/status`, in bytes.
fn memory(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let count = line.unwrap().trim().trim_end_matches(" kB");
    count.parse::<u64>().unwrap() * 1_024
}

/// Time of the processor that a process has used, by `/proc/PID/stat`.
fn processor(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|count| count.parse::<u64>().unwrap()).sum();
    // What Linux tells user space, whatever it counts by.
    Duration::from_millis(ticks * 10)
}

/// Clients of both versions that ask one thing after another.
struct Honest {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Duration>>,
}

impl Honest {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ask = |http2: bool| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    ask(address, http2);
                    slowest = slowest.max(began.elapsed());
                }
                slowest
            })
        };
        let clients = vec![ask(false), ask(true)];
        Self { stop, clients }
    }

    /// The longest that a request took.
    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let slowest = self.clients.into_iter().map(|one| one.join().unwrap());
        slowest.max().unwrap()
    }
}

/// Asks once, on a connection of its own.
fn ask(address: SocketAddr, http2: bool) {
    if http2 {
        let end = Http2Client::connect(address, &[]).get(1, "/honest", &[]);
        assert!(matches!(end, End::Answered { status: 200, .. }), "{end:?}");
    } else {
        let reply = Client::connect(address).get("/honest", &[]).unwrap();
        assert_eq!(reply.status, 200);
    }
}

/// Has a connection send what `next` gives until it gives nothing more or the proxy takes nothing more, and waits for
/// the connection's end; the code that was said.
fn until_gone(
    mut client: Http2Client,
    next: impl FnMut(u32) -> Option<Vec<u8>> + Send + 'static,
) -> Option<u32> {
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let mut pieces = (0..).map_while(next);
        pieces.all(|piece| sender.write_all(&piece).is_ok())
    });
    let code = client.gone();
    sending.join().unwrap();
    code
}

/// The same for as many streams as [`STREAMS`], each with its identifier.
fn streams_until_gone(
    client: Http2Client,
    stream: impl Fn(u32) -> Vec<u8> + Send + 'static,
) -> Option<u32> {
    until_gone(client, move |number| {
        (number < STREAMS).then(|| stream(2 * number + 1))
    })
}

/// Sends the same again and again, and reads nothing, until the proxy has closed.
fn until_refused(client: &mut Http2Client, bytes: &[u8]) {
    let began = Instant::now();
    while client.stream.write_all(bytes).is_ok() {
        assert!(began.elapsed() < LENGTH, "it is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A whole request that is answered late.
fn ended(stream: u32) -> Vec<u8> {
    head(stream, &request("POST", "/late", &[]), true)
}

fn with(fields: &[(&str, &str)], stream: u32) -> Vec<u8> {
    head(stream, &request("POST", "/late", fields), false)
}

/// Frames of one stream.
type Make = fn(u32) -> Vec<u8>;

/// Each makes the proxy reset a stream (CVE-2025-8671): what begins it, and what is wrong behind that.
const PROVOKED: [(&str, Make, Make); 11] = [
    ("window that overflows", ended, |stream| {
        frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])
    }),
    ("window of nothing", ended, |stream| {
        frame(WINDOW_UPDATE, 0, stream, &[0; 4])
    }),
    ("priority before itself", ended, |stream| {
        let own = [&stream.to_be_bytes()[..], &[0]].concat();
        frame(PRIORITY, 0, stream, &own)
    }),
    ("priority cut short", ended, |stream| {
        frame(PRIORITY, 0, stream, &[0; 4])
    }),
    ("body behind the end", ended, |stream| {
        frame(DATA, 0, stream, b"more")
    }),
    ("head behind the end", ended, ended),
    ("trailers that end nothing", begun, |stream| {
        frame(HEADERS, END_HEADERS, stream, &block(&[("x-a", "1")]))
    }),
    ("body longer than announced", announced, |stream| {
        frame(DATA, END_STREAM, stream, b"too long")
    }),
    ("body shorter than announced", announced, |stream| {
        frame(DATA, END_STREAM, stream, b"")
    }),
    ("field of a connection", nothing, |stream| {
        with(&[("connection", "close")], stream)
    }),
    ("name in upper case", nothing, |stream| {
        with(&[("X-Upper", "1")], stream)
    }),
];

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

fn begun(stream: u32) -> Vec<u8> {
    with(&[], stream)
}

fn announced(stream: u32) -> Vec<u8> {
    with(&[("content-length", "3")], stream)
}

#[test]
fn resets_that_a_client_provokes_end_its_connection() {
    let attacked = Attacked::start();
    for (name, begin, wrong) in PROVOKED {
        attacked.attack(name, || {
            let code = streams_until_gone(attacked.connect(&[]), move |stream| {
                [begin(stream), wrong(stream)].concat()
            });
            assert_ne!(code, Some(0), "{name}");
        });
    }
}

#[test]
fn resets_that_a_client_provokes_of_requests_under_way_end_its_connection() {
    let attacked = Attacked::start();
    for (name, begin, wrong) in PROVOKED {
        attacked.attack(&format!("{name}, in waves"), || {
            let mut client = attacked.connect(&[]);
            let mut sender = client.stream.try_clone().unwrap();
            let reading = std::thread::spawn(move || client.gone());
            let streams: Vec<u32> = (0..STREAMS).map(|number| 2 * number + 1).collect();
            let wave = |make: Make, streams: &[u32]| {
                let frames = streams.iter().flat_map(|stream| make(*stream));
                frames.collect::<Vec<u8>>()
            };
            let ended = streams.chunks(WAVE).any(|streams| {
                let reached = attacked.reached.load(Ordering::Relaxed);
                // A proxy that has ended it takes what still comes for a moment.
                if reading.is_finished() || sender.write_all(&wave(begin, streams)).is_err() {
                    return true;
                }
                // Under way, or ended before that.
                while !reading.is_finished()
                    && !begin(1).is_empty()
                    && attacked.reached.load(Ordering::Relaxed) < reached + WAVE
                {
                    std::thread::yield_now();
                }
                sender.write_all(&wave(wrong, streams)).is_err()
            });
            assert!(ended, "{name}: the connection is still there");
            assert_ne!(reading.join().unwrap(), Some(0), "{name}");
        });
    }
}

#[test]
fn resets_by_a_client_end_its_connection() {
    let attacked = Attacked::start();
    for delay in [0, 7] {
        let name = format!("rapid reset, {delay} streams behind");
        attacked.attack(&name, || {
            let code = streams_until_gone(attacked.connect(&[]), move |stream| {
                let begun = ended(stream);
                match stream.checked_sub(2 * delay) {
                    Some(earlier) => {
                        let reset = frame(RST_STREAM, 0, earlier, &[0, 0, 0, 8]);
                        [begun, reset].concat()
                    }
                    None => begun,
                }
            });
            assert!(
                code.is_none_or(|code| code == ENHANCE_YOUR_CALM),
                "{code:?}"
            );
        });
    }
}

#[test]
fn heads_that_unfold_are_not_kept() {
    let attacked = Attacked::start();
    // An entry of the table, then a name and value of 4 KB for each octet.
    let entry = [
        block(&request("GET", "/", &[])),
        vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e],
        vec![b'a'; 4_000],
    ]
    .concat();
    let bomb = [block(&request("GET", "/", &[])), vec![0xbe; 16_000]].concat();
    let ends = END_HEADERS | END_STREAM;
    attacked.attack("references to one large field", || {
        let mut client = attacked.connect(&[]);
        client.send(&frame(HEADERS, ends, 1, &entry));
        assert!(matches!(client.end(1), End::Answered { .. }));
        for stream in (3..200).step_by(2) {
            client.send(&frame(HEADERS, ends, stream, &bomb));
            let end = client.end(stream);
            let refused = matches!(&end, End::Answered { status: 431, .. } | End::Reset(_));
            assert!(refused || matches!(end, End::Gone(_)), "{end:?}");
            if !refused {
                return;
            }
        }
    });
    // As many references in as many frames as it takes.
    attacked.attack("references without an end", || {
        let mut client = attacked.connect(&[]);
        client.send(&frame(HEADERS, ends, 1, &entry));
        let code = until_gone(client, move |number| {
            Some(match number {
                0 => frame(HEADERS, END_STREAM, 3, &bomb),
                _ => frame(CONTINUATION, 0, 3, &[0xbe; 16_000]),
            })
        });
        assert_ne!(code, Some(0));
    });
    let fields = block(&request("GET", "/honest", &[]));
    attacked.attack("changes of the table's size", || {
        let mut client = attacked.connect(&[]);
        for stream in (1..400).step_by(2) {
            // To nothing and to all of it, in turn.
            let sizes = [0x20, 0x3f, 0xe1, 0x1f].repeat(4_000);
            let head = [sizes.as_slice(), &fields].concat();
            client.send(&frame(HEADERS, ends, stream, &head));
            match client.end(stream) {
                End::Answered { .. } | End::Reset(_) => {}
                End::Gone(code) => {
                    assert_ne!(code, Some(0));
                    return;
                }
            }
        }
    });
    for (name, field) in [
        ("table larger than allowed", &[0x3f, 0xe2, 0x1f][..]),
        ("number without an end", &[0xff; 40]),
        ("entry that is not there", &[0xff, 0x80, 0x01]),
    ] {
        attacked.attack(name, || {
            let mut client = attacked.connect(&[]);
            client.send(&frame(HEADERS, ends, 1, &[field, &fields].concat()));
            let code = client.gone();
            assert!(
                matches!(code, Some(PROTOCOL_ERROR | COMPRESSION_ERROR)),
                "{name}: {code:?}"
            );
        });
    }
}

#[test]
fn heads_without_an_end_end_the_connection() {
    let attacked = Attacked::start();
    let fields = block(&request("GET", "/late", &[]));
    let text = block(&[("x-a", &"a".repeat(16_000))]);
    for (name, piece) in [
        ("nothing in each frame", Vec::new()),
        ("one octet in each frame", vec![0x82]),
        (
            "whole fields in each frame",
            block(&[("x-a", "1"), ("x-b", "2")]),
        ),
        ("16 KB in each frame", text),
    ] {
        let fields = fields.clone();
        attacked.attack(name, || {
            let code = until_gone(attacked.connect(&[]), move |number| {
                Some(match number {
                    0 => frame(HEADERS, END_STREAM, 1, &fields),
                    _ => frame(CONTINUATION, 0, 1, &piece),
                })
            });
            assert_ne!(code, Some(0), "{name}");
        });
    }
}

#[test]
fn windows_that_stay_shut_hold_little_and_not_for_long() {
    let attacked = Attacked::start();
    let large = |client: &mut Http2Client, count: u32| {
        for stream in 0..count {
            client.send(&head(2 * stream + 1, &request("GET", "/large", &[]), true));
        }
    };
    for (name, window) in [
        ("windows of nothing", 0),
        ("windows of one octet", 1),
        (
            "windows without an end but the connection's own",
            0x7fff_ffff,
        ),
    ] {
        attacked.attack(name, || {
            let mut clients: Vec<_> = (0..4).map(|_| attacked.connect(&[(4, window)])).collect();
            for client in &mut clients {
                client.takes = false;
                large(client, 100);
            }
            for client in &mut clients {
                client.gone();
            }
        });
    }
    // A window that opens by an octet now and then is as good as shut.
    attacked.attack("windows that open by octets", || {
        let mut client = attacked.connect(&[(4, 0)]);
        client.takes = false;
        large(&mut client, 100);
        until_gone(client, |number| {
            // What is tested is the passing of time.
            std::thread::sleep(Duration::from_millis(20));
            let stream = 2 * (number % 100) + 1;
            Some(frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]))
        });
    });
    attacked.attack("a socket that nobody reads", || {
        let mut client = attacked.connect(&[(4, 0x7fff_ffff)]);
        client.send(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]));
        large(&mut client, 100);
        until_refused(&mut client, &frame(PING, 0, 0, &[0; 8]));
    });
}

#[test]
fn floods_whose_answers_nobody_reads_end() {
    let attacked = Attacked::start();
    let sizes = [[0, 4, 0, 0, 0xff, 0xff], [0, 4, 0, 0, 0, 0]].concat();
    for (name, flood) in [
        ("questions", frame(PING, 0, 0, &[0; 8]).repeat(100)),
        ("settings", frame(SETTINGS, 0, 0, b"").repeat(100)),
        (
            "windows changed by settings",
            frame(SETTINGS, 0, 0, &sizes).repeat(100),
        ),
        (
            "frames that mean nothing",
            frame(0xbe, 0, 0, b"").repeat(100),
        ),
        ("bodies of nothing", frame(DATA, 0, 1, b"").repeat(100)),
        (
            "requests that are refused",
            head(1, &request("GET", "/%00", &[]), true),
        ),
    ] {
        attacked.attack(name, || {
            let mut client = attacked.connect(&[]);
            client.send(&begun(1));
            until_refused(&mut client, &flood);
        });
    }
}

#[test]
fn padding_is_no_body() {
    let attacked = Attacked::start();
    let padded = [&[255], &[0; 255][..]].concat();
    attacked.attack("padding", || {
        let mut client = attacked.connect(&[]);
        client.send(&begun(1));
        let mut sender = client.stream.try_clone().unwrap();
        let (stop, stopped) = sync_channel::<()>(1);
        let sending = std::thread::spawn(move || {
            let padded = frame(DATA, PADDED, 1, &padded);
            let pause = Duration::from_millis(1);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if sender.write_all(&padded).is_err() {
                    return;
                }
            }
        });
        let end = client.end(1);
        drop(stop);
        sending.join().unwrap();
        let given_up = matches!(end, End::Answered { status: 408, .. } | End::Reset(_));
        assert!(given_up || matches!(end, End::Gone(_)), "{end:?}");
    });
}
