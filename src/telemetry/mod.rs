//! What the product tells about itself: counters, alarms, and lines written off the data path.
//!
//! Layer 1. Called by every part that waits; calls nothing of ours but the model.
//! Holds: labels come from closed enums only; nothing here ever blocks a request.
//! See `guide::operations` for the names an operator meets.

mod alarms;
mod events;
mod lines;
mod logging;
mod metrics;

pub use alarms::{Alarm, AlarmKind, Alarms};
pub use events::Event;
pub use lines::LineWriter;
pub use logging::init;
pub use metrics::{Counter, Counters, Gauge, Gauges, Histogram, Label, Labelled, Metrics};
