//! Hosts in network namespaces: what `uvs demo`, the namespace tests and the benches run on.
//!
//! A [`Host`] is a network namespace of this process; [`net::connect`] lays a cable between two,
//! [`topology`] builds the networks of the three forwarding methods, [`capture`] listens on them and
//! [`director`] starts `uvs run` and `uvs realserver` in them. Nothing is left when the process ends, however it
//! ends: no namespace, no device, no process, no file.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use uvs_lab::{Host, net, privilege, topology::mac};
//!
//! privilege::acquire()?; // root, or root in a user namespace; before any thread is started
//! let (a, b) = (Host::new("a")?, Host::new("b")?);
//! let end = |host, last| net::End { host, name: "eth0", mac: mac(1, last) };
//! net::connect(end(&a, 1), end(&b, 2))?;
//! a.net().add_address("eth0", "10.0.0.1/24".parse().expect("a prefix"))?;
//! b.net().add_address("eth0", "10.0.0.2/24".parse().expect("a prefix"))?;
//! a.run(|| std::net::UdpSocket::bind("10.0.0.1:53"))??;
//! # Ok(())
//! # }
//! ```

pub mod capture;
pub mod director;
mod host;
pub mod net;
pub mod offload;
pub mod privilege;
mod process;
pub mod server;
pub mod topology;

pub use host::Host;
pub use process::{Process, build_uvs, uvs_binary};
