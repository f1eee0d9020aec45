//! The schedulers that are built into uvs.

/// The components that are built into uvs.
pub const SHIPPED: [(&str, &[u8]); 19] = [
    ("chbl", include_bytes!("../../../schedulers/prebuilt/chbl.wasm")),
    ("dh", include_bytes!("../../../schedulers/prebuilt/dh.wasm")),
    ("fo", include_bytes!("../../../schedulers/prebuilt/fo.wasm")),
    ("lblc", include_bytes!("../../../schedulers/prebuilt/lblc.wasm")),
    ("lblcr", include_bytes!("../../../schedulers/prebuilt/lblcr.wasm")),
    ("lc", include_bytes!("../../../schedulers/prebuilt/lc.wasm")),
    ("lrt", include_bytes!("../../../schedulers/prebuilt/lrt.wasm")),
    ("maglev", include_bytes!("../../../schedulers/prebuilt/maglev.wasm")),
    ("mh", include_bytes!("../../../schedulers/prebuilt/mh.wasm")),
    ("nq", include_bytes!("../../../schedulers/prebuilt/nq.wasm")),
    ("ovf", include_bytes!("../../../schedulers/prebuilt/ovf.wasm")),
    ("p2c", include_bytes!("../../../schedulers/prebuilt/p2c.wasm")),
    ("rr", include_bytes!("../../../schedulers/prebuilt/rr.wasm")),
    ("sed", include_bytes!("../../../schedulers/prebuilt/sed.wasm")),
    ("sh", include_bytes!("../../../schedulers/prebuilt/sh.wasm")),
    ("swrr", include_bytes!("../../../schedulers/prebuilt/swrr.wasm")),
    ("twos", include_bytes!("../../../schedulers/prebuilt/twos.wasm")),
    ("wlc", include_bytes!("../../../schedulers/prebuilt/wlc.wasm")),
    ("wrr", include_bytes!("../../../schedulers/prebuilt/wrr.wasm")),
];
