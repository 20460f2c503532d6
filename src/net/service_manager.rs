//! Tells the service manager how far this process is (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// The service manager that started this process, if one wants to be told.
#[derive(Debug, Default)]
pub struct ServiceManager {
    wire: Option<(UnixDatagram, SocketAddr)>,
}

impl ServiceManager {
    /// One that listens at this path, or at an abstract name behind `@`.
    ///
    /// # Errors
    ///
    /// When this is no such name, or the kernel grants no socket.
    pub fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = UnixDatagram::unbound()?;
        // One that does not listen must not hold up traffic.
        socket.set_nonblocking(true)?;
        Ok(Self {
            wire: Some((socket, address)),
        })
    }

    /// This process serves, or serves again.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// Settings are being read again; [`ready`](Self::ready) follows.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// This process takes no more connections.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Another process serves in place of this one from now on.
    pub fn succeeded_by(&self, process: u32) {
        self.tell(&format!("MAINPID={process}\nREADY=1"));
    }

    fn tell(&self, words: &str) {
        if let Some((socket, address)) = &self.wire
            && let Err(error) = socket.send_to_addr(words.as_bytes(), address)
        {
            tracing::warn!(%error, "the service manager was not told");
        }
    }
}
