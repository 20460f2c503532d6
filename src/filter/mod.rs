//! The in-process request filter: judges HTTP messages by the published rule set, and swaps that set under traffic.
//!
//! Layer 2. Called by the proxy and by embedders; calls `rules` and `canon`.
//! Holds: a request keeps the snapshot it began with, its response rules included;
//!        nothing here waits or reads a clock; a body that no rule wants passes through untouched.
//! See `guide::architecture` for where it stands.
//!
//! # Examples
//!
//! In front of any tower service, with rules from a file's text:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::{Empty, Full};
//! use stopgap::filter::{FilterLayer, Handle, Snapshot};
//! use stopgap::model::Revision;
//! use stopgap::rules::{RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = r#"<rules>
//!   <rule name="no traces">
//!     <match url="^trace\.axd" />
//!     <action type="CustomResponse" statusCode="403" statusDescription="Not here." />
//!   </rule>
//! </rules>"#;
//! let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
//! let mut builder = RuleSet::builder(RuleLimits::default());
//! builder.add(&source, RuleOrigin::local("rules.xml"))?;
//!
//! // Keep the handle: `handle.publish(..)` replaces the rules while requests are served.
//! let handle = Handle::new(Snapshot::single(Revision(1), builder.build()));
//! let service = FilterLayer::new(handle).layer(tower::service_fn(
//!     |_: Request<Empty<Bytes>>| async { Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::from("hello")))) },
//! ));
//!
//! let stopped = service.clone().oneshot(Request::get("/trace.axd").body(Empty::new())?).await?;
//! assert_eq!(stopped.status(), StatusCode::FORBIDDEN);
//! let passed = service.oneshot(Request::get("/index.html").body(Empty::new())?).await?;
//! assert_eq!(passed.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```

mod apply;
mod audit;
mod body;
mod error;
mod except;
mod fields;
mod judge;
mod layer;
mod paused;
#[cfg(feature = "daemon")]
mod probes;
mod rewrite;
mod service;
mod snapshot;

pub use apply::{absolute_location, apply};
pub use audit::{Audit, BodyWatch, SAMPLE_LENGTH, SAMPLE_LIMIT, Samples};
pub use body::{Data, FilterBody};
pub use error::FilterError;
pub use except::{ActiveException, Excepted, Exceptions};
pub use judge::{Filter, Filtered, Head, Judged, Peer, ResponseFilter};
pub use layer::{FilterLayer, Observe};
pub use paused::{Paused, PausedPool, PoolTable};
#[cfg(feature = "daemon")]
pub use probes::{PROBE_FIELD, Probes, Seen};
pub use rewrite::BodyTransform;
pub use service::{FilterService, ResponseFuture};
pub use snapshot::{Handle, Snapshot};

/// What a client is told to wait before it asks again for a path that nobody serves: a mitigation stays for hours.
pub const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(300);
