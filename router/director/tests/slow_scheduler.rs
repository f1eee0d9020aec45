//! What goes on while a change waits for its scheduler.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use uvs_director::scheduler::{NativeOnly, Scheduler, SchedulerFactory};
use uvs_director::spec::{Change, Limits, Protocol, SchedulerSpec, ServiceKey, ServiceSpec};
use uvs_director::{Director, Instant, Outbox};

/// Makes a scheduler once it is told to, as if a module took that long to compile.
struct Slow {
    asked: SyncSender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl SchedulerFactory for Slow {
    fn create(&self, spec: &SchedulerSpec, service: &str) -> Result<Box<dyn Scheduler>, String> {
        if spec.options == "slow" {
            self.asked.send(()).expect("the test waits for it");
            self.go_on.lock().expect("no panic").recv().expect("the test goes on");
        }
        NativeOnly.create(spec, service)
    }
}

fn service(port: u16, options: &str) -> ServiceSpec {
    let addr = format!("192.0.2.10:{port}").parse().expect("an address");
    let scheduler = SchedulerSpec { name: "wlc".into(), options: options.into() };
    ServiceSpec::new(ServiceKey::Address { protocol: Protocol::Tcp, addr }, scheduler)
}

#[test]
fn timers_go_on_while_a_scheduler_is_made() {
    let ((asked, is_asked), (go_on, told)) = (sync_channel(1), sync_channel(1));
    let factory = Arc::new(Slow { asked, go_on: Mutex::new(told) });
    let director = Director::new(Limits::default(), 1, factory);
    let at = Instant::from_secs;
    director.apply(Change::AddService(service(80, "")), at(0)).expect("a service");
    let slow = [
        ("added", Change::AddService(service(81, "slow"))),
        ("edited", Change::EditService(service(80, "slow"))),
        ("renewed", Change::RenewScheduler(service(80, "slow").key)),
    ];
    for (step, (name, change)) in (1..).zip(slow) {
        thread::scope(|scope| {
            let changing = scope.spawn(|| director.apply(change, at(10 * step)));
            is_asked.recv_timeout(Duration::from_secs(10)).expect(name);
            let (done, is_done) = sync_channel(1);
            let director = &director;
            // Estimates are due each two seconds.
            scope.spawn(move || {
                director.handle_timeout(at(10 * step), &mut Outbox::new());
                done.send(()).expect("the test waits for it");
            });
            let timers = is_done.recv_timeout(Duration::from_secs(5));
            go_on.send(()).expect("a change waits");
            changing.join().expect("no panic").expect(name);
            timers.unwrap_or_else(|_| panic!("{name}: timers waited for the scheduler"));
        });
    }
}
