//! What the tests of the lab share.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;
use std::sync::OnceLock;

use uvs_lab::privilege;

/// Whether the test may go on; where it may not, says so, or fails if it has to be able to.
pub(crate) fn root() -> bool {
    if privilege::has_capabilities().unwrap() {
        return true;
    }
    require("root (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW)");
    false
}

/// Says that a test is skipped for want of `what`, or fails where that must not be.
pub(crate) fn require(what: &str) {
    assert!(
        std::env::var_os("UVS_REQUIRE_ROOT_TESTS").is_none(),
        "UVS_REQUIRE_ROOT_TESTS is set; missing: {what}"
    );
    eprintln!("skipped: needs {what}");
}

/// The `uvs` binary of this very tree, built if it is not.
pub(crate) fn build_uvs() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| uvs_lab::build_uvs(env!("CARGO")).unwrap()).clone()
}
