//! The director as a host, in the program: its sockets leave through the devices, and a thread of its own keeps them
//! going and makes probes.
//!
//! ```text
//!   worker --> Director::handle > a packet for a socket --notify--> thread "checks": Driver > sockets > probes
//!   probes > sockets --> Director::send_local --> any device
//! ```
//! The thread never waits for anything but these; the packet path never waits for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, oneshot};
use uvs_check::net::Network;
use uvs_check::outcome::{Outcome, Verdict};
use uvs_check::probe::Prober;
use uvs_check::runner::FILES;
use uvs_check::spec::ProbeSpec;
use uvs_director::local::{Binding, OpenError, Received, SocketSpec, Transport, Way};
use uvs_director::spec::ServiceKey;
use uvs_director::{DropReason, Frame, Instant as EngineInstant, Outbox};
use uvs_host::{Host, Link};

use crate::clock::Clock;
use crate::event_loop::DataPlane;

/// How long the thread may take to end once it was told to.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The director's sockets on its data plane. It does not keep the devices open: after the data plane's end there is no
/// way to anywhere.
struct Uplink {
    plane: Weak<DataPlane>,
    clock: Clock,
    out: Mutex<Outbox>,
}

impl Link for Uplink {
    fn now(&self) -> EngineInstant {
        self.clock.now()
    }

    fn open(&self, spec: &SocketSpec) -> Result<Binding, OpenError> {
        let plane = self.plane.upgrade().ok_or(OpenError::NoPorts)?;
        plane.director.open_local(spec, self.clock.now())
    }

    fn close(&self, transport: Transport, port: u16) {
        if let Some(plane) = self.plane.upgrade() {
            plane.director.close_local(transport, port);
        }
    }

    fn mtu(&self, transport: Transport, port: u16, now: EngineInstant) -> Option<u32> {
        self.plane.upgrade()?.director.local_mtu(transport, port, now)
    }

    fn way_to(&self, service: ServiceKey, destination: SocketAddr) -> Option<Way> {
        self.plane.upgrade()?.director.way_to(service, destination)
    }

    fn send(&self, packet: &mut Frame, now: EngineInstant) -> Result<(), DropReason> {
        let plane = self.plane.upgrade().ok_or(DropReason::NotHandled)?;
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        plane.send_local(packet, now, &mut out)
    }

    fn receive(&self) -> Option<Received> {
        self.plane.upgrade()?.director.receive_local()
    }
}

/// Makes probes from the director's own addresses. Clones are the same.
#[derive(Clone)]
pub struct Local {
    network: Arc<dyn Network>,
    prober: Arc<Prober>,
    runtime: Handle,
}

/// The thread. [`Self::stop`] it, or it goes on until the process ends.
pub struct LocalThread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the thread. `work` is what the director notifies when something comes; `buffer_bytes` is what the buffers of
/// all sockets may take.
///
/// # Errors
/// The thread or its runtime cannot be made.
pub fn start(
    plane: &Arc<DataPlane>,
    work: Arc<Notify>,
    buffer_bytes: usize,
) -> anyhow::Result<(Local, LocalThread)> {
    let uplink = Uplink { plane: Arc::downgrade(plane), clock: plane.clock, out: Mutex::default() };
    let (host, driver) = Host::new(Arc::new(uplink), buffer_bytes, work);
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(FILES).build();
    let runtime = runtime.context("the host's runtime cannot be made")?;
    let network = Arc::new(host) as Arc<dyn Network>;
    let prober = Arc::new(Prober::new(Arc::clone(&network)));
    let local = Local { network, prober, runtime: runtime.handle().clone() };
    let (stop, stopped) = oneshot::channel();
    let run = move || {
        runtime.block_on(async {
            tokio::select! {
                () = driver.run() => {}
                // Told to stop, or nobody is left to tell.
                _ = stopped => {}
            }
        });
        // What files and names are asked for is not waited for.
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name("checks".to_owned()).spawn(run);
    Ok((local, LocalThread { stop, thread: thread.context("thread checks cannot be started")? }))
}

impl LocalThread {
    /// Ends the thread, and with it all sockets. Waits for it, but not for ever.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let told = Instant::now();
        while !self.thread.is_finished() && told.elapsed() < STOP_WITHIN {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Local {
    /// Where the sockets are kept going. What makes many probes does it there, so that no packet wakes two threads.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The director's own addresses, for whoever makes probes himself.
    pub fn network(&self) -> Arc<dyn Network> {
        Arc::clone(&self.network)
    }

    /// Makes one probe.
    pub async fn probe(&self, spec: ProbeSpec) -> Outcome {
        let prober = Arc::clone(&self.prober);
        let began = Instant::now();
        let made = self.runtime.spawn(async move { prober.probe(&spec).await });
        made.await.unwrap_or_else(|_| {
            Outcome::plain(Verdict::Unmade("the director is stopping".into()), began.elapsed())
        })
    }
}
