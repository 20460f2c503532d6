//! Turns addresses into listeners, and sockets into byte streams that hold only well-framed HTTP.
//!
//! Layer 1. Called by every part that has a socket; calls nothing of ours.
//! Holds: nobody sees a byte of a request whose head was not checked whole;
//!        no wait is without a bound, and bounds cost no timer each;
//!        no word of rules or mitigations.
//! See `guide::architecture` for the path of a request.

mod address;
mod admission;
mod client;
mod clock;
mod exchange;
mod framing;
mod handover;
mod http2;
mod inherited;
mod input;
mod link;
mod listener;
mod output;
mod pace;
mod plain;
mod platform;
mod private_socket;
mod proxy_protocol;
mod server;
mod service_manager;
mod socket;

mod stream;
mod tls;

pub use address::{InvalidAddress, ListenAddress, socket_path};
pub use admission::{Admission, Admitted};
pub use client::{
    ClientConnection, OwnResponse, PlainResponse, RequestLength, ResponseError, ResponseHead,
    encode, encode_plain,
};
pub use clock::{Clock, Deadlines, Registration, Slot};
pub use exchange::{ExchangeError, exchange};
pub use framing::{HeadLimits, Malformed, PlainHead, RequestFraming, RequestHead};
pub use handover::{Handover, Received, activated};
pub use http2::{
    ClientSession, ClientStream, HTTP2_PREFACE, Http2Answer, Http2Awaited, Http2Body, Http2Inbound,
    Http2Request, Http2Server, Http2Timeouts, Http2Watch, StreamReset, ask_http2,
};
pub use inherited::{Inherited, share_out};
pub use link::{Awaited, Link};
pub use listener::{Acceptor, BoundSocket, Queue, SOCKET_MODE, bind, connect_unix, listen};
pub use platform::give_memory_back;
pub use private_socket::{PrivateSocket, SocketFault, SocketFile};
pub use proxy_protocol::{ProxiedEnds, read_proxy_header};
pub use server::{IncomingBody, ServerConnection, ServerSettings, ServerTimeouts, last_response};
pub use service_manager::ServiceManager;
pub use socket::{Batch, Side, Socket};
pub use stream::Stream;
pub use tls::{
    CertificateFiles, ClientCertificates, Fingerprint, MutualClient, MutualServer, PeerTrust,
    TlsClient, TlsError, TlsServer,
};
