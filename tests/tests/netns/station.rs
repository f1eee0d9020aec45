//! A station on a segment that sends whatever it is told to: a TAP device plugged into the switch.

use std::time::{Duration, Instant};

use uvs_device::{Device, DeviceSpec, Kind, Poller, StopHandle};
use uvs_director::Frame;
use uvs_director::spec::MacAddr;
use uvs_lab::Host;

/// A station without a network stack.
pub(crate) struct Station {
    device: Device,
}

impl Station {
    /// Plugs a new station into a switch of a topology.
    pub(crate) fn plug_in(switch: &Host, mac: MacAddr) -> Self {
        let spec = DeviceSpec {
            name: "station".to_owned(),
            kind: Kind::Tap { mac },
            mtu: 1500,
            queues: 1,
            offload: false,
            tunnel_gso: false,
        };
        let device = switch.run(|| Device::open(&spec).unwrap()).unwrap();
        switch.net().plug("station", "br0").unwrap();
        Self { device }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        self.device.queues()[0].send(&Frame::from_bytes(frame)).unwrap();
    }

    /// Every frame that comes in until `last` is true of one, which is the last of them; `None`: that did not
    /// come in time.
    pub(crate) fn hear_until(
        &self,
        patience: Duration,
        mut last: impl FnMut(&[u8]) -> bool,
    ) -> Option<Vec<Vec<u8>>> {
        let queue = &self.device.queues()[0];
        let mut poller = Poller::new([queue], &StopHandle::new().unwrap()).unwrap();
        let deadline = Instant::now() + patience;
        let (mut frame, mut heard) = (Frame::new(), Vec::new());
        loop {
            while queue.receive(&mut frame).unwrap() {
                heard.push(frame.bytes().to_vec());
                if last(frame.bytes()) {
                    return Some(heard);
                }
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            poller.wait(Some(left)).unwrap();
        }
    }
}
