//! Sleeping until there is work.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// The mark of the stop event among the events of the queues, which are marked by their position.
const STOP: u64 = u64::MAX;

/// Ends the waiting of every [`Poller`] made with it or a clone of it.
#[derive(Clone, Debug)]
pub struct StopHandle {
    /// Never read, so that a stop stays a stop.
    event: Arc<EventFd>,
    /// The same for those who do not sleep.
    stopped: Arc<AtomicBool>,
}

impl StopHandle {
    /// A handle that has not been used yet.
    ///
    /// # Errors
    /// Those of eventfd(2), such as too many open files.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { event: Arc::new(event), stopped: Arc::default() })
    }

    /// Wakes all pollers, now and for good. Calling it again does nothing more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // The only error of an open eventfd is EAGAIN, when its counter is full: stopped for sure.
        let _ = self.event.write(1);
    }
}

impl StopHandle {
    /// Whether [`Self::stop`] was called: for a thread that is too busy to wait.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What [`Poller::wait`] woke up for.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'poller> {
    events: &'poller [EpollEvent],
}

impl Ready<'_> {
    /// Whether [`StopHandle::stop`] was called.
    pub fn stopped(self) -> bool {
        self.events.iter().any(|event| event.data() == STOP)
    }

    /// The sources that can be read, or that have failed and will say so when read, by their position in
    /// [`Poller::new`].
    pub fn sources(self) -> impl Iterator<Item = usize> {
        self.events
            .iter()
            .map(EpollEvent::data)
            .filter(|&mark| mark != STOP)
            .map(|mark| usize::try_from(mark).expect("marks are positions"))
    }
}

/// Waits for several queues at once, for a thread that drains each ready one until it is empty.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    _stop: StopHandle,
}

impl Poller {
    /// Watches `sources`, each known by its position, and `stop`. A source that is closed is no longer watched.
    ///
    /// # Errors
    /// Those of epoll(7), such as too many open files.
    pub fn new<S: AsFd>(sources: impl IntoIterator<Item = S>, stop: &StopHandle) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*stop.event, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let mut room = 1;
        for (source, mark) in sources.into_iter().zip(0..STOP) {
            epoll.add(source, EpollEvent::new(EpollFlags::EPOLLIN, mark))?;
            room += 1;
        }
        Ok(Self { epoll, events: vec![EpollEvent::empty(); room], _stop: stop.clone() })
    }

    /// Sleeps until a source is ready, the stop comes, a signal is handled or `timeout` is over (`None`: never);
    /// in the last two cases nothing is ready. A timeout is rounded up to milliseconds, so that whoever
    /// waits for a deadline does not wake before it.
    ///
    /// # Errors
    /// None in practice: those of epoll_wait(2) but for `EINTR`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready<'_>> {
        let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| {
            let millis = timeout.as_nanos().div_ceil(1_000_000);
            EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
        });
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        Ok(Ready { events: &self.events[..count] })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Instant;

    use super::*;

    fn ready(poller: &mut Poller) -> Vec<usize> {
        let mut sources: Vec<_> = poller.wait(Some(Duration::ZERO)).unwrap().sources().collect();
        sources.sort_unstable();
        sources
    }

    #[test]
    fn sources_are_named_until_they_are_drained() {
        let stop = StopHandle::new().unwrap();
        let pairs: Vec<_> = (0..3).map(|_| UnixDatagram::pair().unwrap()).collect();
        let mut poller = Poller::new(pairs.iter().map(|(near, _)| near), &stop).unwrap();
        assert_eq!(ready(&mut poller), [] as [usize; 0]);
        for far in [2, 0] {
            pairs[far].1.send(b"x").unwrap();
        }
        assert_eq!(ready(&mut poller), [0, 2]);
        assert_eq!(ready(&mut poller), [0, 2], "not drained yet");
        pairs[0].0.recv(&mut [0; 1]).unwrap();
        assert_eq!(ready(&mut poller), [2]);
        assert!(!poller.wait(Some(Duration::ZERO)).unwrap().stopped());
    }

    #[test]
    fn a_stop_wakes_every_poller_and_stays() {
        let stop = StopHandle::new().unwrap();
        let nothing = || std::iter::empty::<UnixDatagram>();
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let mut poller = Poller::new(nothing(), &stop).unwrap();
                std::thread::spawn(move || poller.wait(None).unwrap().stopped())
            })
            .collect();
        stop.stop();
        stop.stop();
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap());
        }
        let mut late = Poller::new(nothing(), &stop).unwrap();
        assert!(late.wait(None).unwrap().stopped(), "made after the stop");
        assert!(late.wait(None).unwrap().stopped(), "asked again");
    }

    #[test]
    fn a_timeout_never_ends_early() {
        let stop = StopHandle::new().unwrap();
        let mut poller = Poller::new(std::iter::empty::<UnixDatagram>(), &stop).unwrap();
        let (start, wish) = (Instant::now(), Duration::from_micros(1200));
        assert_eq!(poller.wait(Some(wish)).unwrap().sources().count(), 0);
        assert!(start.elapsed() >= wish);
    }
}
