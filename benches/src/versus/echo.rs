//! The real servers' side of requests: one thread that answers every message on every connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use super::pattern::{self, MESSAGE};
use super::world::{ECHO, World};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// The listener's token; connections have their place in the list.
const LISTENER: u64 = u64::MAX;
/// How often the thread looks whether it is to stop, in ms.
const TICK_MS: u8 = 50;

/// Takes connections for [`serve`].
///
/// # Errors
/// The port is taken.
pub(crate) fn listen(world: &World) -> Result<TcpListener> {
    let listen = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&std::net::SocketAddr::from(([0; 4], ECHO)).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    world.servers.run(listen)?.context("cannot listen on the real servers")
}

struct Connection {
    stream: TcpStream,
    message: [u8; MESSAGE],
    length: usize,
}

/// Answers until `stop`.
///
/// # Errors
/// The system is out of descriptors.
pub(crate) fn serve(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = [EpollEvent::empty(); 64];
    while !stop.load(Ordering::Relaxed) {
        let ready = match epoll.wait(&mut events, EpollTimeout::from(TICK_MS)) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("cannot wait for requests"),
        };
        for event in events.iter().take(ready) {
            if event.data() == LISTENER {
                accept(listener, &epoll, &mut connections, &mut free)?;
                continue;
            }
            let place = usize::try_from(event.data()).expect("a token is a place");
            let slot = connections.get_mut(place).expect("a token is a place");
            let done = slot.as_mut().is_none_or(|connection| !connection.answer());
            if done {
                // Closed, it leaves the epoll set, too.
                *slot = None;
                free.push(place);
            }
        }
    }
    Ok(())
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // It was reset while it waited.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error).context("cannot accept a connection"),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let place = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, place as u64))?;
        let slot = connections.get_mut(place).expect("a free place");
        *slot = Some(Connection { stream, message: [0; MESSAGE], length: 0 });
    }
}

impl Connection {
    /// Reads what is there and answers a whole message. Whether the connection goes on.
    fn answer(&mut self) -> bool {
        let rest = self.message.get_mut(self.length..).expect("a message is not longer than its buffer");
        match self.stream.read(rest) {
            Ok(0) => return false,
            Ok(length) => self.length += length,
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
        if self.length < MESSAGE {
            return true;
        }
        self.length = 0;
        // The client sends no request before it has the answer, so there is room for one.
        self.stream.write_all(&pattern::answer(&self.message)).is_ok()
    }
}
