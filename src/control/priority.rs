//! Which work gives way when a machine has too little time for all of it.

/// How much nicer than the process a thread is that gives way: it still gets about a tenth of the time that one beside it
/// gets (sched(7)), so it goes on however busy the workers are.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Has this thread, and it alone, give way to those that serve traffic, as far as the system lets it.
pub(super) fn give_way() {
    // Only Linux has a niceness for each thread (setpriority(2)); elsewhere that of the whole process would change.
    #[cfg(target_os = "linux")]
    if let Err(error) = lower() {
        tracing::debug!(%error, "work of the control side does not give way to traffic");
    }
}

/// Sets the niceness of this thread, which may have been started by one that gives way already, after that of the first
/// thread.
#[cfg(target_os = "linux")]
fn lower() -> std::io::Result<()> {
    use rustix::process::{getpid, getpriority_process, setpriority_process};

    let of_process = getpriority_process(Some(getpid()))?;
    Ok(setpriority_process(None, of_process + NICENESS)?)
}

/// The niceness of this thread, and that of a thread that gives way.
#[cfg(all(test, target_os = "linux"))]
pub(super) fn niceness() -> (i32, i32) {
    use rustix::process::{getpid, getpriority_process};

    let of_process = getpriority_process(Some(getpid())).unwrap();
    let own = getpriority_process(None).unwrap();
    // The system knows none above 19.
    (own, (of_process + NICENESS).min(19))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn one_thread_gives_way_and_no_other() {
        let (before, lowered) = niceness();
        let nested = std::thread::spawn(|| {
            give_way();
            let nested = std::thread::spawn(|| {
                give_way();
                niceness().0
            });
            (niceness().0, nested.join().unwrap())
        });
        assert_eq!(nested.join().unwrap(), (lowered, lowered));
        assert_eq!(niceness().0, before);
    }
}
