//! `attach`, `link` and `accelerate` of an interface.

use crate::address::is_device_name;
use crate::model::{Accelerate, Direct};
use crate::read::Table;

/// How a TAP's frames get to a link of the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attach {
    Bridge,
    Tcx,
}

pub(crate) fn read_direct(table: &Table<'_>, tap: bool) -> Option<Direct> {
    let doc = table.doc;
    let attach = table.choice("attach", &[("bridge", Attach::Bridge), ("tcx", Attach::Tcx)], &[]);
    let link = table.string("link", "eth0").filter(|link| is_device_name(doc, "link", link));
    if !tap {
        return None; // which was said
    }
    match attach.as_ref().map(|attach| attach.value) {
        Some(Attach::Tcx) => {
            if table.has("bridge") {
                let what = "bridge does not go with attach = \"tcx\": the frames take no bridge";
                let fix = "remove bridge and name the network card: link = \"eth0\"; or remove attach";
                doc.error(&table.place("bridge"), what, fix);
            }
            table.require("link", "\"eth0\", the network card or veth that the frames come in on");
            Some(Direct { link: link?.value.to_owned() })
        }
        _ => {
            // Without an attach that can be read, nothing is known about it.
            if table.has("link") && (attach.is_some() || !table.has("attach")) {
                let what = "link does not go with a bridge";
                let fix =
                    "add attach = \"tcx\", or name it in bridge = { name = \"br0\", ports = [\"eth0\"] }";
                doc.error(&table.place("link"), what, fix);
            }
            None
        }
    }
}

pub(crate) fn read_accelerate(table: &Table<'_>, is_direct: bool) -> Accelerate {
    let words = [("off", Accelerate::Off), ("auto", Accelerate::Auto), ("on", Accelerate::On)];
    let wish = table.choice("accelerate", &words, &[("true", "on"), ("false", "off")]);
    // The fastest way that is safe and costs nothing to try.
    let wish = wish.map_or(if is_direct { Accelerate::Auto } else { Accelerate::Off }, |found| found.value);
    // Of an attach that is wrong was said what is.
    if wish == Accelerate::On && !is_direct && !table.has("attach") {
        let what = "accelerate = \"on\" does not go with a bridge: the flow cache is where frames come in";
        let fix =
            "add attach = \"tcx\" and link = \"eth0\" in place of the bridge; or write accelerate = \"auto\"";
        table.doc.error(&table.place("accelerate"), what, fix);
    }
    wish
}
