use tokio::sync::mpsc;

use super::*;

#[test]
fn a_probe_asks_as_nobody() {
    let (own, vip) = ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(192, 0, 2, 10));
    let mut bytes = [0; ethernet::HEADER_LEN + uvs_wire::arp::LEN];
    ethernet::write(&mut bytes, [0xff; 6], own, ethernet::ETHERTYPE_ARP);
    let announcement = ArpRepr {
        operation: uvs_wire::arp::Operation::Request,
        sender_mac: own,
        sender_ip: vip,
        target_mac: [0; 6],
        target_ip: vip,
    };
    announcement.emit(&mut bytes[ethernet::HEADER_LEN..]);
    let probe = probe_of(Frame::from_bytes(&bytes)).unwrap();
    assert_eq!(probe.bytes()[..ethernet::HEADER_LEN], bytes[..ethernet::HEADER_LEN]);
    let asked = ArpRepr::parse(&probe.bytes()[ethernet::HEADER_LEN..]).unwrap();
    assert_eq!(asked, ArpRepr { sender_ip: Ipv4Addr::UNSPECIFIED, ..announcement });
    ethernet::write(&mut bytes, [0xff; 6], own, ethernet::ETHERTYPE_IPV6);
    for other in [&bytes[..], &bytes[..12]] {
        assert!(probe_of(Frame::from_bytes(other)).is_none(), "no ARP");
    }
}

#[test]
fn a_stream_of_broken_frames_ends_a_round_as_others_do() {
    let lane = Lane::new(1);
    let mut frames: [Frame; GROUP] = std::array::from_fn(|_| Frame::new());
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "no frame");
    let mut round = |next: &mut dyn FnMut(&mut Frame) -> io::Result<bool>| {
        receive_round(&mut frames, &lane, PortId(0), next).unwrap()
    };
    assert_eq!(
        round(&mut |_| Err(broken())),
        Received { frames: 0, rejected: BATCH, is_drained: false },
        "there is no end to them"
    );
    let mut some = [Ok(true), Err(broken()), Ok(true), Ok(false)].into_iter();
    assert_eq!(round(&mut |_| some.next().unwrap()), Received { frames: 2, rejected: 1, is_drained: true });
    assert_eq!(round(&mut |_| Ok(true)), Received { frames: GROUP, rejected: 0, is_drained: false });
    let gone = receive_round(&mut frames, &lane, PortId(0), |_| Err(io::Error::from_raw_os_error(77)));
    assert_eq!(gone.unwrap_err().raw_os_error(), Some(77));
}

#[test]
fn a_thread_that_dies_says_so() {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut workers = Workers { stop: StopHandle::new().unwrap(), threads: Vec::new() };
    workers.spawn("one".to_owned(), &sender, || panic!("at frame {}", 7)).unwrap();
    let ended = receiver.blocking_recv().unwrap();
    assert_eq!(ended.thread, "one");
    assert_eq!(ended.error.unwrap().to_string(), "panicked: at frame 7");
    workers.spawn("two".to_owned(), &sender, || Ok(())).unwrap();
    assert!(receiver.blocking_recv().unwrap().error.is_none());
    workers.stop().unwrap();
}

#[test]
fn a_thread_that_never_ends_is_named_and_left_behind() {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut workers = Workers { stop: StopHandle::new().unwrap(), threads: Vec::new() };
    // What it waits for comes only after the director has given it up.
    let (release, held) = std::sync::mpsc::channel::<()>();
    workers.spawn("uvs0-0".to_owned(), &sender, || Ok(())).unwrap();
    workers.spawn("uvs0-1".to_owned(), &sender, move || Ok(held.recv()?)).unwrap();
    workers.spawn("timer".to_owned(), &sender, || Ok(())).unwrap();
    let begun = Instant::now();
    let stuck = workers.stop_within(Duration::from_millis(100)).unwrap_err().to_string();
    let took = begun.elapsed();
    assert!(stuck.starts_with("worker uvs0-1 did not end within 100ms"), "{stuck}");
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(5), "{took:?}");
    release.send(()).unwrap();
    let ended: Vec<_> = (0..3).map(|_| receiver.blocking_recv().unwrap()).collect();
    assert!(ended.iter().all(|it| it.error.is_none()), "{ended:?}");
}
