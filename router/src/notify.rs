//! Tells systemd how we are (`sd_notify(3)`), where a unit of `Type=notify` asks for it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The director handles packets.
pub const READY: &str = "READY=1";
/// The director shuts down.
pub const STOPPING: &str = "STOPPING=1";

/// Sends `state` to the socket that the service manager named in `NOTIFY_SOCKET`; without one it does
/// nothing. A failure is logged: it is no reason to stop forwarding.
pub fn notify(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, state)
    {
        tracing::warn!(socket = ?socket, %error, "the service manager could not be told {state:?}");
    }
}

/// The reload that now begins, with the time that `Type=notify-reload` wants beside it.
pub fn reloading() -> String {
    let micros = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000)
        .unwrap_or_default();
    format!("RELOADING=1\nMONOTONIC_USEC={micros}")
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    // A leading @ stands for the zero byte of an abstract address.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 128];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[test]
    fn both_kinds_of_socket_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), READY).unwrap();
        assert_eq!(received(&by_path), "READY=1");

        let name = format!("uvs-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), STOPPING).unwrap();
        assert_eq!(received(&by_name), "STOPPING=1");
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        assert!(send(OsStr::new("/nonexistent/notify"), READY).is_err());
    }

    #[test]
    fn a_reload_carries_its_time() {
        let text = reloading();
        let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
    }
}
