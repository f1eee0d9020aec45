//! A host with a network card, the director's TAP beside it, and a station on the wire.
//!
//! ```text
//!   [ wire: station (TAP) -- br0 -- port ]----[ eth0, 10.0.0.9 :host ... uvs0 (TAP): the director ]
//! ```

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uvs_attach::{Attachments, OBJECT, Pair};
use uvs_device::{Device, DeviceSpec, Kind, Poller, StopHandle};
use uvs_director::spec::MacAddr;
use uvs_director::{Frame, PortId};
use uvs_lab::net::{End, connect};
use uvs_lab::{Host, privilege};

pub(crate) const DIRECTOR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
pub(crate) const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x57]);
pub(crate) const DIRECTOR_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const HOST_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
pub(crate) const STATION_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 87);
pub(crate) const BROADCAST: MacAddr = MacAddr::BROADCAST;

/// How long whatever should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Lab {
    pub(crate) wire: Host,
    pub(crate) host: Host,
    /// A TAP on the wire's switch.
    pub(crate) station: Device,
    /// The director's.
    pub(crate) tap: Device,
}

/// The object under test: the committed one, or another that was just built.
pub(crate) fn object(name: &str, committed: &[u8]) -> Vec<u8> {
    match std::env::var_os("UVS_TEST_BPF") {
        Some(folder) => fs::read(Path::new(&folder).join(name)).unwrap(),
        None => committed.to_vec(),
    }
}

/// What is attached in the lab.
pub(crate) fn pair() -> Pair {
    Pair {
        device: "uvs0".to_owned(),
        mac: DIRECTOR,
        mtu: 1500,
        link: "eth0".to_owned(),
        port: PortId(0),
        cached: false,
    }
}

pub(crate) async fn attach() -> Attachments {
    Attachments::with_object(vec![pair()], None, &object("attach.bpf.o", OBJECT))
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Runs `body` on a thread in the host's namespace, one test at a time, or says why not.
pub(crate) fn in_lab(offload: bool, body: impl AsyncFnOnce(&Lab) + Send) {
    alone(|| {
        let lab = Lab::new(offload);
        lab.host
            .run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(body(&lab));
            })
            .unwrap();
    });
}

/// Runs `body`, one test at a time, or says why not.
pub(crate) fn alone(body: impl FnOnce()) {
    static TURN: Mutex<()> = Mutex::new(());
    let lacking = if privilege::has_capabilities().unwrap() { privilege::check_tun().err() } else { None };
    if lacking.is_some() || !privilege::has_capabilities().unwrap() {
        assert!(
            std::env::var_os("UVS_REQUIRE_ROOT_TESTS").is_none(),
            "missing: root and /dev/net/tun: {lacking:?}"
        );
        println!("skipped: needs root and /dev/net/tun");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    body();
}

impl Lab {
    fn new(offload: bool) -> Self {
        let [wire, host] = ["wire", "host"].map(|name| Host::new(name).unwrap());
        wire.net().add_bridge("br0", MacAddr([2, 0, 0, 0, 0, 0xff])).unwrap();
        plug_card(&wire, &host);
        let open = |on: &Host, name: &str, mac, offload| {
            let spec = DeviceSpec {
                name: name.to_owned(),
                kind: Kind::Tap { mac },
                mtu: 1500,
                queues: 1,
                offload,
                tunnel_gso: false,
            };
            on.run(|| Device::open(&spec).unwrap()).unwrap()
        };
        let station = open(&wire, "station", STATION, false);
        wire.net().plug("station", "br0").unwrap();
        let tap = open(&host, "uvs0", DIRECTOR, offload);
        Self { wire, host, station, tap }
    }
}

/// Lays the cable between the switch and the host's card, which gets its address.
pub(crate) fn plug_card(wire: &Host, host: &Host) {
    let far = End { host: wire, name: "port", mac: MacAddr([0xfe, 0, 0, 0, 0, 9]) };
    connect(End { host, name: "eth0", mac: HOST }, far).unwrap();
    wire.net().plug("port", "br0").unwrap();
    host.net().add_address("eth0", format!("{HOST_IP}/24").parse().unwrap()).unwrap();
}

/// Writes a frame as the one who reads from the device would.
pub(crate) fn send(device: &Device, frame: &[u8]) {
    device.queues()[0].send(&Frame::from_bytes(frame)).unwrap();
}

/// All frames until `last`, which is the last of them.
pub(crate) fn hear_until(device: &Device, last: impl Fn(&Frame) -> bool) -> Vec<Frame> {
    let queue = &device.queues()[0];
    let mut poller = Poller::new([queue], &StopHandle::new().unwrap()).unwrap();
    let deadline = Instant::now() + SOON;
    let mut heard = Vec::new();
    loop {
        let mut frame = Frame::new();
        while queue.receive(&mut frame).unwrap() {
            let is_last = last(&frame);
            heard.push(std::mem::replace(&mut frame, Frame::new()));
            if is_last {
                return heard;
            }
        }
        let left = deadline.checked_duration_since(Instant::now());
        let told = || heard.iter().map(|frame| format!("{:02x?}\n", frame.bytes())).collect::<String>();
        poller.wait(Some(left.unwrap_or_else(|| panic!("not within {SOON:?}; heard:\n{}", told())))).unwrap();
    }
}
