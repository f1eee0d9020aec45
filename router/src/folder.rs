//! The director's folder in `/run`: its control socket, and records of what was done to the host.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;

/// Where it is; the unit of the package has it made for the director's user.
pub(crate) const RUN: &str = "/run/uvs";

/// Makes it where it is not there.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make() -> io::Result<()> {
    match fs::create_dir(RUN) {
        // Who may use the socket has to come to it, whatever the umask is.
        Ok(()) => fs::set_permissions(RUN, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
