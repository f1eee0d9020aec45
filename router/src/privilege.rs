//! The rights of the director that programs of its own do not get.

use nix::errno::Errno;
use nix::libc;

/// Takes care that what this process starts from now on has none of its capabilities: with a user of its own, which
/// systemd gives them as ambient ones, each program of a check or of `[[notify]]` would inherit them. Only for the
/// calling thread and for those that it starts from now on. Root's programs are root, as ever.
pub(crate) fn keep_to_ourselves() {
    // SAFETY: with these numbers prctl(2) reads no memory of ours and writes none.
    #[expect(unsafe_code, reason = "nix has no wrapper for it")]
    let status = unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0)
    };
    if let Err(error) = Errno::result(status) {
        tracing::warn!("programs of checks and of [[notify]] have the capabilities of the director: {error}");
    }
}
