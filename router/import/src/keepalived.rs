//! From keepalived.conf.

use std::io;
use std::path::Path;
use std::sync::Arc;

use uvs_director::Duration;
use uvs_director::spec::Timeouts;

use crate::files::Files;
use crate::grammar::conf;
use crate::imported::Imported;
use crate::lexer::{FILE_MAX, lex};
use crate::network::Wish;
use crate::output::Output;
use crate::remark::{At, Remarks};
use crate::resolve::{Resolved, resolve};
use crate::tree::tree;

/// Reads a keepalived.conf and what it includes. `id` is the name that `@` conditions look at: what keepalived is given
/// as `--config-id`, else the name of the host up to its first dot.
///
/// # Errors
/// The file itself cannot be read. Whatever else is wrong is a remark.
pub fn keepalived(path: &Path, id: &str, files: &dyn Files, wish: &Wish) -> io::Result<Imported> {
    let bytes = files.read(path, FILE_MAX)?;
    let mut remarks = Remarks::default();
    let tokens = lex(path, &bytes, id, files, &mut remarks);
    let nodes = tree(tokens, &mut remarks);
    let conf = conf(&nodes, &mut remarks);
    let Resolved { services, checks, scripts, .. } = resolve(&conf, &mut remarks);
    let timeouts = conf.timeouts.iter().any(Option::is_some).then(|| {
        let [tcp, tcp_fin, udp] = conf.timeouts;
        let or = |seconds: Option<u64>, usual| seconds.map_or(usual, Duration::from_secs);
        let usual = Timeouts::default();
        Timeouts { tcp: or(tcp, usual.tcp), tcp_fin: or(tcp_fin, usual.tcp_fin), udp: or(udp, usual.udp) }
    });
    let output = Output { timeouts, network: None, checks, notify: scripts.into_notify(), services };
    let at = At { file: Arc::from(path.to_string_lossy().escape_debug().to_string()), line: 0 };
    Ok(Imported::new(output, wish, conf.addresses, at, remarks))
}
