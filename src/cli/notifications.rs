//! What became of notifications, as `stopgap status` lists it.

use serde::Deserialize;

use super::table::Table;

/// One receiver; newer instances may say more.
#[derive(Debug, Deserialize)]
pub(super) struct Receiver {
    receiver: String,
    target: String,
    delivered: u64,
    failed: u64,
    dropped: u64,
    last_failure: Option<String>,
    last_failure_time: Option<String>,
}

pub(super) fn table(receivers: &[Receiver]) -> Table {
    let mut table = Table::new(&[
        "told",
        "at",
        "delivered",
        "failed",
        "dropped",
        "last failure",
    ]);
    for receiver in receivers {
        let last = receiver.last_failure_time.as_deref();
        let last = last.zip(receiver.last_failure.as_deref());
        table.row(vec![
            receiver.receiver.clone(),
            receiver.target.clone(),
            receiver.delivered.to_string(),
            receiver.failed.to_string(),
            receiver.dropped.to_string(),
            last.map_or_else(
                || "-".to_owned(),
                |(time, reason)| format!("{time}: {reason}"),
            ),
        ]);
    }
    table
}
