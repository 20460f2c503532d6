//! Shows what runs: health, metrics and status over HTTP, and a socket that takes orders.
//!
//! Layer 4. Called by app; calls control and telemetry.
//! Holds: no state of its own; the address is read-only, orders come over the socket alone;
//! every text from a feed is escaped.
//! See `guide::operations` for every path.

mod about;
mod config;
mod page;
mod router;
mod socket;
mod view;

pub use about::{About, ServerReport, SiteAbout, UpstreamReport};
pub use config::AdminConfig;
pub use router::{serve_address, serve_socket};
pub use socket::{ControlSocket, SocketError};
pub use view::{ReloadOrder, View};
