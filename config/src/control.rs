//! `[control]`: the socket on which the running director takes requests.

use std::path::{Path, PathBuf};

use crate::read::{Keys, Table};

pub(crate) const CONTROL: Keys = &["socket", "group"];

/// Where it is where nothing is said.
pub(crate) const USUAL: &str = "/run/uvs/uvs.sock";
/// What the file says to have no socket.
const NONE: &str = "none";
/// What fits into the address of a Unix socket on Linux, its final NUL not counted.
const PATH_MAX: usize = 107;

/// Where the running director takes requests, and from whom beside root and its own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The socket.
    pub socket: Socket,
    /// The group whose members may use it, by name or number; whether it exists is for the caller to find out.
    pub group: Option<String>,
}

/// The path of the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Socket {
    /// Nothing is said: the usual path, where that is possible.
    #[default]
    Usual,
    /// There.
    At(PathBuf),
    /// There is none.
    None,
}

pub(crate) fn control(root: &Table<'_>) -> Control {
    let Some(table) = root.section("control", CONTROL) else { return Control::default() };
    let socket = table.parsed("socket", "/run/uvs/uvs.sock", parse_socket);
    let group = table.parsed("group", "adm", |text| match text {
        "" => Err("the group of the control socket is empty".to_owned()),
        name => Ok(name.to_owned()),
    });
    Control {
        socket: socket.map(|socket| socket.value).unwrap_or_default(),
        group: group.map(|group| group.value),
    }
}

/// An absolute path, or `none`.
///
/// # Errors
/// A sentence without a fix.
pub fn parse_socket(text: &str) -> Result<Socket, String> {
    if text == NONE {
        return Ok(Socket::None);
    }
    if !Path::new(text).is_absolute() {
        return Err(format!("control socket {text:?} is neither an absolute path nor {NONE:?}"));
    }
    if text.len() > PATH_MAX {
        return Err(format!(
            "control socket {text:?} has {} bytes, and the path of a socket at most {PATH_MAX}",
            text.len()
        ));
    }
    Ok(Socket::At(text.into()))
}
