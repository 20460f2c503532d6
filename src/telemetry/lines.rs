//! Lines written by a thread of their own, so that no request ever waits for a disk.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::metrics::Counter;

/// Batches that may wait for the writer before lines are dropped.
const QUEUE: usize = 1_024;

/// Hands lines to a writer thread. Clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct LineWriter {
    queue: SyncSender<Vec<u8>>,
    dropped: Counter,
}

impl LineWriter {
    /// Starts a thread that writes to `output` and flushes whenever its queue runs empty.
    ///
    /// `dropped` counts the batches that found the queue full.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn spawn(
        name: &str,
        output: impl Write + Send + 'static,
        dropped: Counter,
    ) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_all(&lines, output))?;
        Ok(Self { queue, dropped })
    }

    /// Queues one line or several, each with its line feed. Never waits: a full queue drops them and counts.
    pub fn write(&self, lines: Vec<u8>) {
        match self.queue.try_send(lines) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.inc();
            }
        }
    }
}

fn write_all(lines: &Receiver<Vec<u8>>, mut output: impl Write) {
    while let Ok(first) = lines.recv() {
        // An unwritable log must not end the writer: the next line may get through.
        let _ = output.write_all(&first);
        while let Ok(more) = lines.try_recv() {
            let _ = output.write_all(&more);
        }
        let _ = output.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    struct Gate(
        std::sync::mpsc::Receiver<()>,
        std::sync::mpsc::SyncSender<Vec<u8>>,
    );

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn full_queue_drops_and_counts() {
        let (open, gate) = sync_channel(0);
        let (sink, written) = sync_channel(QUEUE * 4);
        let dropped = Metrics::default().counter("dropped", "Dropped");
        let writer = LineWriter::spawn("test", Gate(gate, sink), dropped.clone()).unwrap();
        for _ in 0..QUEUE * 2 {
            writer.write(b"line\n".to_vec());
        }
        let lost = dropped.get();
        assert!(lost >= (QUEUE - 1) as u64, "{lost}");
        drop(writer);
        drop(open);
        let arrived = written.iter().count() as u64;
        assert_eq!(arrived + lost, QUEUE as u64 * 2);
    }
}
