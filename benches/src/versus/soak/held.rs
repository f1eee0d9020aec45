//! Connections that stay from the beginning to the end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::versus::bulk::PATIENCE;
use crate::versus::pattern::{self, MESSAGE};
use crate::versus::world::{ECHO, World};

const CONNECTIONS: u32 = 64;
/// How long the client is silent between two words on all of them.
const PAUSE: Duration = Duration::from_millis(200);

/// What came through.
pub(super) struct Total {
    pub(super) connections: usize,
    pub(super) exchanges: u64,
}

/// Opens them, asks on each now and then until `stop`, and once more then.
pub(super) fn run(world: &World, stop: &AtomicBool) -> Result<Total> {
    let target = world.target(ECHO);
    let streams = world.client.run(|| {
        (0..CONNECTIONS)
            .map(|_| {
                let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(stream)
            })
            .collect::<std::io::Result<Vec<_>>>()
    })??;
    let (mut exchanges, mut round) = (0, 0);
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        for (number, mut stream) in (0..).zip(&streams) {
            let request = pattern::message(number, round);
            let mut answer = [0; MESSAGE];
            stream
                .write_all(&request)
                .and_then(|()| stream.read_exact(&mut answer))
                .with_context(|| format!("connection {number} is lost after {round} exchanges"))?;
            ensure!(answer == *pattern::answer(&request), "connection {number}: a wrong answer");
            exchanges += 1;
        }
        if stopped {
            return Ok(Total { connections: streams.len(), exchanges });
        }
        round += 1;
        thread::sleep(PAUSE);
    }
}
