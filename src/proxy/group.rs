//! Servers that stand in for each other, as the settings describe them.

use std::time::Duration;

use super::Server;

/// Servers that answer the same requests, and how one of them is chosen for each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerGroup {
    /// Groups of the same name are one: what is known of their servers is shared. Empty for one of its own.
    pub name: String,
    /// The servers; at most [`SERVERS`](Self::SERVERS).
    pub members: Vec<Member>,
    /// How one is chosen.
    pub balance: Balance,
    /// How servers are looked at beside the requests that they get; not at all when this is `None`.
    pub health: Option<HealthCheck>,
    /// When a server that fails is left out.
    pub ejection: Ejection,
    /// How long a server that comes back takes to get its whole share; zero for at once.
    pub slow_start: Duration,
    /// Servers that are tried for one request before its head could be sent to any.
    pub attempts: usize,
    /// Connections to one server that are in use at once, over all workers; `None` for no bound. Idle ones that are
    /// kept do not count.
    pub connections: Option<usize>,
    /// Requests that wait while every server has as many connections as it may have, over all workers.
    pub queue: usize,
    /// How long one waits there.
    pub queue_timeout: Duration,
    /// Stands in for the limit of the same name.
    pub connect_timeout: Option<Duration>,
    /// Stands in for the limit of the same name.
    pub response_timeout: Option<Duration>,
    /// Stands in for [`Limits::idle_upstream_connections`](super::Limits::idle_upstream_connections).
    pub idle_connections: Option<usize>,
}

/// A server in a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The server.
    pub server: Server,
    /// Its share in comparison with the others; at least 1.
    pub weight: u16,
    /// Whether it gets requests only while no other server is fit.
    pub backup: bool,
}

/// How a server is chosen for a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// The same client address gets the same server as long as that is fit (rendezvous hashing, so that the clients
    /// of other servers stay where they are when one goes or comes).
    ClientAddress,
    /// The server with the fewest connections in use on this worker, by weight.
    LeastConnections,
    /// In turn, by weight.
    #[default]
    RoundRobin,
}

/// How servers are asked whether they are well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthCheck {
    /// The method, such as `GET`.
    pub method: http::Method,
    /// The target, in origin form.
    pub target: String,
    /// The value of `Host`; the server's own address when this is `None`.
    pub host: Option<String>,
    /// Status codes of a server that is well, first and last of each range.
    pub expected: Vec<(u16, u16)>,
    /// Time between two checks of one server, a tenth more or less.
    pub interval: Duration,
    /// Time for one check, connecting included.
    pub timeout: Duration,
    /// Good checks in a row that bring a server back.
    pub rise: u32,
    /// Bad checks in a row that take it out.
    pub fall: u32,
}

/// When a server is left out because requests fail on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// Failures in a row that take a server out; 0 for never. The last fit server of a group is never taken out.
    pub failures: u32,
    /// Whether an answer with 500, 502, 503 or 504 is a failure, beside a connection that cannot be made and a
    /// request that is not answered.
    pub server_errors: bool,
    /// How long it is left out the first time; twice as long each time that it fails again soon after.
    pub time: Duration,
    /// The longest time.
    pub longest: Duration,
}

/// What is known of an upstream while it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamStatus {
    /// Its name; empty when it has none.
    pub name: String,
    /// How a server is chosen.
    pub balance: &'static str,
    /// Requests that wait for a connection.
    pub waiting: usize,
    /// Its servers, in their order.
    pub servers: Vec<ServerStatus>,
}

/// What is known of one of its servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerStatus {
    /// Its URL.
    pub server: String,
    /// Its weight.
    pub weight: u16,
    /// Whether it is a backup.
    pub backup: bool,
    /// `up`, `down` (by health checks), `ejected` (by failed requests) or `not checked`.
    pub state: &'static str,
    /// Why it gets no requests; empty when it gets some.
    pub reason: String,
    /// Failed requests in a row.
    pub failures: u32,
    /// Connections in use, when there is a bound on them.
    pub in_use: Option<usize>,
}

impl ServerGroup {
    /// The largest number of servers.
    pub const SERVERS: usize = 64;

    /// The servers.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.members.iter().map(|member| &member.server)
    }

    /// Whether there is no server.
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl Default for ServerGroup {
    fn default() -> Self {
        Self {
            name: String::new(),
            members: Vec::new(),
            balance: Balance::default(),
            health: None,
            ejection: Ejection::default(),
            slow_start: Duration::ZERO,
            attempts: 3,
            connections: None,
            queue: 256,
            queue_timeout: Duration::from_secs(5),
            connect_timeout: None,
            response_timeout: None,
            idle_connections: None,
        }
    }
}

impl FromIterator<Server> for ServerGroup {
    fn from_iter<I: IntoIterator<Item = Server>>(servers: I) -> Self {
        Self {
            members: servers.into_iter().map(Member::from).collect(),
            ..Self::default()
        }
    }
}

impl From<Server> for Member {
    fn from(server: Server) -> Self {
        Self {
            server,
            weight: 1,
            backup: false,
        }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            server_errors: false,
            time: Duration::from_secs(10),
            longest: Duration::from_secs(300),
        }
    }
}

impl HealthCheck {
    /// `GET` of this target, expected to be answered with 200 every 10 s.
    pub fn of(target: &str) -> Self {
        Self {
            method: http::Method::GET,
            target: target.to_owned(),
            host: None,
            expected: vec![(200, 200)],
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            rise: 2,
            fall: 3,
        }
    }

    /// Whether this status is that of a server that is well.
    pub fn expects(&self, status: u16) -> bool {
        self.expected
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl Balance {
    /// Every way to choose, in the order of their words.
    pub const ALL: [Self; 3] = [
        Self::ClientAddress,
        Self::LeastConnections,
        Self::RoundRobin,
    ];

    /// The word for it in settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ClientAddress => "client-address",
            Self::LeastConnections => "least-connections",
            Self::RoundRobin => "round-robin",
        }
    }
}
