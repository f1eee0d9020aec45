//! The helpers for links, addresses and routes.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use uvs_device::net::{Cause, Namespace, Net, VipRoute, read_sysctl, sysctl};
use uvs_device::{Device, DeviceSpec};
use uvs_director::spec::MacAddr;

use crate::harness::{MAC, isolated, tap, tun};

#[test]
fn a_link_becomes_what_it_is_told_to_be() {
    isolated(async |net| {
        net.veth("v0", "v1", Namespace::Here).await.unwrap();
        net.bridge("br0").await.unwrap();
        let mac = MacAddr([2, 0, 0, 0, 0, 0x33]);
        net.set_mac("v0", mac).await.unwrap();
        net.set_mtu("v0", 1400).await.unwrap();
        net.set_master("v0", "br0").await.unwrap();
        net.set_up("v0").await.unwrap();
        let (link, bridge) = (net.link("v0").await.unwrap(), net.link("br0").await.unwrap());
        assert_eq!((link.mac, link.mtu, link.up), (Some(mac), 1400, true));
        assert_eq!(link.master, Some(bridge.index));
        assert!(bridge.is_bridge && !link.is_bridge && !bridge.up);
        net.clear_master("v0").await.unwrap();
        net.set_down("v0").await.unwrap();
        let link = net.link("v0").await.unwrap();
        assert_eq!((link.up, link.master), (false, None));
        net.delete_link("v0").await.unwrap();
        let names: Vec<_> = net.links().await.unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["lo", "br0"], "both ends of the pair are gone");
    });
}

#[test]
fn addresses_and_routes_are_listed_as_they_were_added() {
    isolated(async |net| {
        net.veth("v0", "v1", Namespace::Here).await.unwrap();
        net.set_up("v0").await.unwrap();
        net.set_up("v1").await.unwrap();
        let index = net.link_index("v0").await.unwrap();
        let address = "10.1.0.1/24".parse().unwrap();
        net.add_address("v0", address).await.unwrap();
        assert!(net.addresses().await.unwrap().contains(&(index, address)));
        let cases = [
            ("198.51.100.0/24", Some("10.1.0.7"), None, "by a gateway"),
            ("203.0.113.0/24", None, Some("v0"), "out of a link"),
            ("0.0.0.0/0", Some("10.1.0.8"), Some("v0"), "the default route, by both"),
        ];
        for (to, via, device, case) in cases {
            let via = via.map(|via| via.parse().unwrap());
            net.add_route(to.parse().unwrap(), via, device)
                .await
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            let routes = net.routes().await.unwrap();
            let found = routes.iter().find(|route| route.table == 254 && route.to.to_string() == to);
            let found = found.unwrap_or_else(|| panic!("{case}: {routes:?}"));
            assert_eq!((found.via, found.device), (via, Some(index)), "{case}");
        }
        net.remove_address(index, address).await.unwrap();
        assert!(!net.addresses().await.unwrap().contains(&(index, address)));
    });
}

#[test]
fn links_are_moved_into_other_namespaces() {
    isolated(async |net| {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let neighbour = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let id = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
            tell.send((id, std::fs::File::open("/proc/thread-self/ns/net").unwrap())).unwrap();
            ended.recv().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut links = runtime.block_on(async { Net::new().unwrap().links().await.unwrap() });
            links.sort_by(|a, b| a.name.cmp(&b.name));
            links.into_iter().map(|link| link.name).collect::<Vec<_>>()
        });
        let (pid, namespace) = told.recv().unwrap();
        net.veth("a0", "a1", Namespace::Pid(pid)).await.unwrap();
        net.veth("b0", "b1", Namespace::Fd(namespace.as_fd())).await.unwrap();
        net.veth("c0", "c1", Namespace::Here).await.unwrap();
        net.move_to_pid("c1", pid).await.unwrap();
        let mut here: Vec<_> = net.links().await.unwrap().into_iter().map(|link| link.name).collect();
        here.sort();
        assert_eq!(here, ["a0", "b0", "c0", "lo"]);
        end.send(()).unwrap();
        assert_eq!(neighbour.join().unwrap(), ["a1", "b1", "c1", "lo"]);
    });
}

#[test]
fn errors_say_what_failed_on_which_link_and_how_to_fix_it() {
    isolated(async |net| {
        net.bridge("br0").await.unwrap();
        let prefix = "10.1.0.1/24".parse().unwrap();
        let cases = [
            (net.set_up("eth9").await, "bring eth9 up: there is no link eth9\n  fix: check the name"),
            (net.set_master("eth9", "br0").await, "plug eth9 into bridge br0: there is no link eth9"),
            (net.set_master("lo", "br9").await, "plug lo into bridge br9: there is no link br9"),
            (net.set_up("a-name-longer-than-any-link-has").await, "there is no link a-name-longer"),
            (
                net.add_address("eth9", prefix).await,
                "add the address 10.1.0.1/24 to eth9: there is no link eth9",
            ),
            (
                net.add_route(prefix, None, Some("eth9")).await,
                "10.1.0.1/24 out of eth9: there is no link eth9",
            ),
            (net.bridge("br0").await, "make the bridge br0: File exists"),
            (
                net.add_route(prefix, Some([10, 7, 0, 1].into()), None).await,
                "fix: the gateway must lie in a subnet",
            ),
            (net.delete_link("eth9").await, "delete the link eth9: there is no link eth9"),
        ];
        for (result, want) in cases {
            let text = result.expect_err(want).to_string();
            assert!(text.contains(want), "{want:?} is not in: {text}");
        }
        let error = net.link("eth9").await.expect_err("no such link");
        assert!(matches!(error.cause(), Cause::NoLink(name) if name == "eth9"));
        let again = net.bridge("br0").await.expect_err("it exists");
        assert_eq!(again.errno(), Some(Errno::EEXIST));
    });
}

#[test]
fn a_sysctl_is_set_in_this_namespace_and_tells_what_it_was() {
    let outside = read_sysctl("net/ipv4/conf/all/send_redirects").unwrap();
    isolated(async |_| {
        let path = "net/ipv4/conf/all/send_redirects";
        let before = read_sysctl(path).unwrap();
        let other = if before == "1" { "0" } else { "1" };
        assert_eq!(sysctl(path, other).unwrap(), before);
        assert_eq!(read_sysctl(path).unwrap(), other);
        let text = sysctl("net/ipv4/no_such_setting", "1").expect_err("no such file").to_string();
        assert!(text.contains("set net/ipv4/no_such_setting to 1"), "{text}");
    });
    assert_eq!(read_sysctl("net/ipv4/conf/all/send_redirects").unwrap(), outside);
}

/// The route to a VIP as `ip route show proto 199` has it.
fn told_routes() -> String {
    let output = std::process::Command::new("ip").args(["route", "show", "proto", "199"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_route_that_announces_a_vip_goes_with_its_device() {
    isolated(async |net| {
        let vip = Ipv4Addr::new(192, 0, 2, 10);
        let route = |device: &str, via| VipRoute {
            vip: vip.into(),
            device: device.to_owned(),
            via,
            protocol: 199,
            table: 254,
            metric: 50,
        };
        let open = async |spec: DeviceSpec| {
            let device = Device::open(&spec).unwrap();
            net.set_up(device.name()).await.unwrap();
            device
        };
        let tun_device = open(tun("uvs0")).await;
        let by_tun = route("uvs0", None);
        assert!(net.add_vip_route(&by_tun, false).await.unwrap());
        assert_eq!(told_routes(), "192.0.2.10 dev uvs0 scope link metric 50");
        for is_known in [true, false] {
            assert!(!net.add_vip_route(&by_tun, is_known).await.unwrap(), "it is there");
        }

        // Another one's route of this table and metric is not ours, and stays.
        let tap_device = open(tap("uvs1")).await;
        let via = (Ipv4Addr::new(198, 51, 100, 1).into(), MAC);
        let by_tap = route("uvs1", Some(via));
        let error = net.add_vip_route(&by_tap, false).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
        net.remove_vip_route(&by_tap).await.unwrap();
        assert_eq!(told_routes(), "192.0.2.10 dev uvs0 scope link metric 50", "not taken away");

        drop(tun_device);
        assert_eq!(told_routes(), "", "gone with the device");
        net.remove_vip_route(&by_tun).await.unwrap();

        assert!(net.add_vip_route(&by_tap, false).await.unwrap());
        assert_eq!(told_routes(), "192.0.2.10 via 198.51.100.1 dev uvs1 metric 50 onlink");
        net.remove_vip_route(&by_tap).await.unwrap();
        assert_eq!(told_routes(), "");
        assert!(net.add_vip_route(&by_tap, true).await.unwrap(), "somebody took it away");
        drop(tap_device);
        assert_eq!(told_routes(), "");
    });
}
