//! Who is at the other end of the control socket, as the kernel says.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

/// Whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The process that connected, with the rights it had at that moment.
    Process {
        /// Its process id, for the log.
        pid: i32,
        /// Its effective user.
        uid: u32,
    },
    /// Somebody with a browser at that address, who knew the token of the page.
    Page(IpAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, uid } => write!(f, "uid {uid} pid {pid}"),
            Self::Page(addr) => write!(f, "page at {addr}"),
        }
    }
}

impl Peer {
    /// Whether it could open itself what the director can.
    pub(crate) fn has_the_directors_rights(&self) -> bool {
        matches!(self, Self::Process { uid, .. } if *uid == 0 || *uid == geteuid().as_raw())
    }
}

/// Who may speak: root, the director's own user, members of the socket's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The director's own user.
    pub(crate) uid: u32,
    /// The group of the socket.
    pub(crate) gid: u32,
}

impl Admission {
    /// Tells who connected, or why it may not speak. The mode of the socket says the same, until somebody changes it.
    ///
    /// # Errors
    /// A sentence for the peer.
    pub(crate) fn judge(self, socket: &impl AsFd) -> Result<Peer, String> {
        let unknown = |error: io::Error| format!("the director cannot tell who you are: {error}");
        let credentials =
            getsockopt(socket, sockopt::PeerCredentials).map_err(|errno| unknown(errno.into()))?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let groups = peer_groups(socket).map_err(unknown)?;
        if self.admits(uid, gid, &groups) {
            Ok(Peer::Process { pid: credentials.pid(), uid })
        } else {
            Err(format!(
                "user {uid} may not control this director: be root, user {}, or a member of group {}",
                self.uid, self.gid
            ))
        }
    }

    fn admits(self, uid: u32, gid: u32, groups: &[u32]) -> bool {
        uid == 0 || uid == self.uid || gid == self.gid || groups.contains(&self.gid)
    }
}

/// The supplementary groups of whoever connected (`SO_PEERGROUPS`, unix(7) of Linux 4.13).
fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut groups: Vec<libc::gid_t> = Vec::new();
    loop {
        let bytes = size_of::<libc::gid_t>() * groups.len();
        let mut len = libc::socklen_t::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: `fd` is open as long as `socket` is borrowed; the buffer holds `len` bytes, which is how many the
        // kernel writes at most, and any bits are a group; `len` is a valid place for the length.
        #[expect(unsafe_code, reason = "nix has no option of variable length for it")]
        let status = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = usize::try_from(len).map_err(io::Error::other)? / size_of::<libc::gid_t>();
        if status == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        match io::Error::last_os_error() {
            // What the kernel says it needs.
            error if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0);
            }
            // A kernel without the option: the mode of the socket has to do.
            error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => return Ok(Vec::new()),
            error => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use nix::unistd::{getegid, getgroups};

    use super::*;

    #[test]
    fn root_the_own_user_and_the_group_are_admitted() {
        let admission = Admission { uid: 500, gid: 600 };
        let cases: &[(u32, u32, &[u32], bool, &str)] = &[
            (0, 0, &[], true, "root"),
            (500, 1, &[], true, "the director's user"),
            (7, 600, &[], true, "its group"),
            (7, 7, &[1, 600, 2], true, "one of its groups"),
            (7, 7, &[1, 2], false, "a stranger"),
            (600, 500, &[500], false, "a user with the number of the group"),
        ];
        for &(uid, gid, groups, admitted, why) in cases {
            assert_eq!(admission.admits(uid, gid, groups), admitted, "{why}");
        }
    }

    #[test]
    fn the_kernel_tells_who_we_are() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut groups = peer_groups(&one).unwrap();
        let mut own: Vec<u32> = getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
        let admission = Admission { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        let peer = admission.judge(&one).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(peer, Peer::Process { pid, uid: geteuid().as_raw() });
        assert!(peer.has_the_directors_rights());
        assert!(!Peer::Page([127, 0, 0, 1].into()).has_the_directors_rights(), "a token is not root");
    }
}
