//! Every bound of the data plane, in one place.

use std::time::Duration;

use crate::net::HeadLimits;

/// Bounds on what clients and upstreams may take: bytes, fields, connections and time.
///
/// Times are kept to a tenth of a second.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bounds on the bytes and fields of a request head; a head that exceeds one gets 431, a target 414.
    pub head: HeadLimits,
    /// From the first byte of a head to its last; on a new connection, from accept.
    pub head_timeout: Duration,
    /// How long a client connection may wait between requests.
    pub idle_timeout: Duration,
    /// How long a body may make no progress, either way.
    pub body_timeout: Duration,
    /// Bytes of a body that have to move within `body_timeout`, either way; not on
    /// [`long_poll_paths`](Self::long_poll_paths).
    pub body_minimum: usize,
    /// From the last byte of a request to the head of its response.
    pub response_timeout: Duration,
    /// Stands in for [`body_timeout`](Self::body_timeout) and [`response_timeout`](Self::response_timeout) on
    /// [`long_poll_paths`](Self::long_poll_paths).
    pub long_poll_timeout: Duration,
    /// Path prefixes on which servers answer late on purpose, such as `/Microsoft-Server-ActiveSync`.
    ///
    /// Compared without regard to case on whole segments.
    pub long_poll_paths: Vec<String>,
    /// How long one address of an upstream server may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long a client that has ended its side of the connection still gets the head of its response.
    pub half_close_timeout: Duration,
    /// Client connections in all.
    pub connections: usize,
    /// Client connections from one address.
    pub connections_per_client: usize,
    /// Requests that one HTTP/2 connection may have in progress.
    pub http2_streams: u32,
    /// Idle upstream connections that one worker keeps for one server, beside those that were used a moment ago.
    pub idle_upstream_connections: usize,
    /// How long an upstream connection is kept idle.
    pub idle_upstream_timeout: Duration,
    /// Bytes of an unread request body that are read and thrown away to keep a connection; beyond, it is closed.
    pub drained_body: u64,
}

impl Limits {
    /// Head, keep-alive and connection bounds of the contract.
    pub const DEFAULT: Self = Self {
        head: HeadLimits::DEFAULT,
        head_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(120),
        body_timeout: Duration::from_secs(60),
        body_minimum: 1_024,
        response_timeout: Duration::from_secs(60),
        long_poll_timeout: Duration::from_secs(60 * 60),
        long_poll_paths: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        half_close_timeout: Duration::from_secs(5),
        connections: 65_536,
        connections_per_client: 4_096,
        http2_streams: 100,
        idle_upstream_connections: 64,
        idle_upstream_timeout: Duration::from_secs(30),
        drained_body: 64 * 1_024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
