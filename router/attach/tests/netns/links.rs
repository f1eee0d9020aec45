//! Links that come and go, and links that will not do.

use std::time::{Duration, Instant};

use rtnetlink::LinkVeth;
use uvs_attach::{AttachError, Attachments, Pair};
use uvs_device::{Device, Poller, StopHandle};
use uvs_director::Frame;
use uvs_director::spec::MacAddr;
use uvs_lab::net::{End, connect};

use crate::lab::{DIRECTOR, HOST, Lab, SOON, STATION, attach, hear_until, in_lab, pair, plug_card, send};

fn works(lab: &Lab, host: MacAddr, round: u8) {
    let started = Instant::now();
    let mut frame = [DIRECTOR.0, STATION.0].concat();
    frame.extend([0x88, 0xb5, round]);
    frame.resize(60, 0);
    // A switch takes its time before it uses a port that has come up.
    while !hears_soon(&lab.tap, &frame) {
        assert!(started.elapsed() < SOON, "round {round}: the director hears nothing");
        send(&lab.station, &frame);
    }
    // To the host, by way of its card: it comes in there and is not for the wire.
    let mut to_host = [host.0, DIRECTOR.0].concat();
    to_host.extend([0x88, 0xb5, round]);
    to_host.resize(60, 0);
    send(&lab.tap, &to_host);
    let last = [&STATION.0[..], &to_host[6..]].concat();
    send(&lab.tap, &last);
    let heard = hear_until(&lab.station, |heard| heard.bytes() == last);
    assert!(!heard.iter().any(|heard| heard.bytes() == to_host), "round {round}: the host's own stays there");
}

/// Whether that frame comes within a moment.
fn hears_soon(device: &Device, wanted: &[u8]) -> bool {
    let queue = &device.queues()[0];
    let mut poller = Poller::new([queue], &StopHandle::new().unwrap()).unwrap();
    poller.wait(Some(Duration::from_millis(50))).unwrap();
    let mut frame = Frame::new();
    while queue.receive(&mut frame).unwrap() {
        if frame.bytes() == wanted {
            return true;
        }
    }
    false
}

fn attached(attachments: &Attachments) -> bool {
    let states: Vec<bool> = attachments.states().map(|(_, attached)| attached).collect();
    assert_eq!(states.len(), 1);
    states[0]
}

#[test]
fn a_link_that_goes_is_attached_again_when_it_comes_back() {
    in_lab(false, async |lab| {
        let mut attachments = attach().await;
        works(lab, HOST, 0);
        assert!(!attachments.check().await.again, "nothing has happened");
        works(lab, HOST, 1);

        lab.host.net().delete("eth0").unwrap();
        assert!(!attachments.check().await.again);
        assert!(!attached(&attachments), "the link has gone");
        assert!(!attachments.check().await.again, "and stays away");
        plug_card(&lab.wire, &lab.host);
        assert!(attachments.check().await.again, "it is back");
        assert!(attached(&attachments));
        works(lab, HOST, 2);

        // Away and back before anybody looked: another link of the same name.
        lab.host.net().delete("eth0").unwrap();
        plug_card(&lab.wire, &lab.host);
        assert!(attachments.check().await.again);
        works(lab, HOST, 3);

        // Taken down and up it stays what it is.
        lab.host.net().down("eth0").unwrap();
        assert!(!attachments.check().await.again);
        lab.host.net().up("eth0").unwrap();
        assert!(!attachments.check().await.again);
        works(lab, HOST, 4);

        let other = MacAddr([2, 0, 0, 0, 0, 10]);
        lab.host.net().set_mac("eth0", other).unwrap();
        assert!(!attachments.check().await.again);
        works(lab, other, 5);
    });
}

/// A new link with the name and the index of the old one: all that tells them apart is that the programs are not there.
#[test]
fn programs_that_are_lost_are_put_back() {
    in_lab(false, async |lab| {
        let mut attachments = attach().await;
        let find = || lab.host.net().links().unwrap().into_iter().find(|it| it.name == "eth0").unwrap();
        let before = find().index;
        lab.host.net().delete("eth0").unwrap();
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let mut pair = LinkVeth::new("eth0", "port").build();
        pair.header.index = before;
        handle.link().add(pair).execute().await.unwrap();
        lab.host.net().set_mac("eth0", HOST).unwrap();
        lab.host.net().up("eth0").unwrap();
        lab.host.net().move_to("port", &lab.wire).unwrap();
        lab.wire.net().plug("port", "br0").unwrap();
        lab.wire.net().up("port").unwrap();
        assert_eq!(find().index, before, "the very case this is about");
        assert!(attachments.check().await.again);
        works(lab, HOST, 0);
        assert!(!attachments.check().await.again);
        works(lab, HOST, 1);
    });
}

#[test]
fn what_cannot_be_attached_to_is_said() {
    in_lab(false, async |lab| {
        lab.host.net().add_bridge("br0", MacAddr([2, 0, 0, 0, 0, 0xbb])).unwrap();
        let end = |host, name, last| End { host, name, mac: MacAddr([2, 0, 0, 0, 1, last]) };
        connect(end(&lab.host, "veth0", 1), end(&lab.wire, "veth0", 2)).unwrap();
        lab.host.net().plug("veth0", "br0").unwrap();
        let with = |link: &str, mac| Pair { link: link.to_owned(), mac, ..pair() };
        let cases = [
            (with("eth7", DIRECTOR), "there is no link eth7", "ip link"),
            (with("br0", DIRECTOR), "br0 is a bridge", "bridge = { name = \"br0\" }"),
            (with("veth0", DIRECTOR), "veth0 is a port of a bridge", "name the bridge"),
            (with("lo", DIRECTOR), "lo carries no Ethernet", "name a network card"),
            (with("eth0", HOST), "both have the MAC address 02:00:00:00:00:09", "mac = "),
            (Pair { device: "uvs7".to_owned(), ..pair() }, "there is no link uvs7", "ip link"),
        ];
        for (pair, what, fix) in cases {
            let error: AttachError = Attachments::new(vec![pair], None).await.err().expect(what);
            let text = error.to_string();
            assert!(text.contains(what) && text.contains("fix:") && text.contains(fix), "{text}");
        }
    });
}
