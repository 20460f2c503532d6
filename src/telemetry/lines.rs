//! Lines written by a thread of their own, so that no request ever waits for a disk.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::metrics::Counter;

/// Batches that may wait for the writer before lines are dropped.
const QUEUE: usize = 1_024;

/// Hands lines to a writer thread. Clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct LineWriter {
    queue: SyncSender<Job>,
    dropped: Counter,
}

/// What the thread is given to do.
#[derive(Debug)]
enum Job {
    Lines(Vec<u8>),
    /// Say when everything before this is written.
    Flush(SyncSender<()>),
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
        match self.queue.try_send(Job::Lines(lines)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.inc();
            }
        }
    }

    /// Waits until everything that was queued before is written, for `patience` at most; `false` if it is not.
    ///
    /// For the end of a process: it is the one place that waits for the disk.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, written) = sync_channel(1);
        self.queue.send(Job::Flush(done)).is_ok() && written.recv_timeout(patience).is_ok()
    }
}

fn write_all(jobs: &Receiver<Job>, mut output: impl Write) {
    while let Ok(first) = jobs.recv() {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                // An unwritable log must not end the writer: the next line may get through.
                Job::Lines(lines) => drop(output.write_all(&lines)),
                Job::Flush(done) => waiting.push(done),
            }
            next = jobs.try_recv().ok();
        }
        let _ = output.flush();
        for done in waiting {
            // Whoever waited may have lost patience.
            let _ = done.try_send(());
        }
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

    #[test]
    fn flush_waits_for_what_was_queued() {
        let (open, gate) = sync_channel(1);
        let (sink, written) = sync_channel(QUEUE);
        let dropped = Metrics::default().counter("dropped", "Dropped");
        let writer = LineWriter::spawn("test", Gate(gate, sink), dropped).unwrap();
        writer.write(b"line\n".to_vec());
        assert!(!writer.flush(Duration::from_millis(1)));
        open.send(()).unwrap();
        assert!(writer.flush(Duration::from_secs(20)));
        assert_eq!(written.try_recv().unwrap(), b"line\n");
    }
}
