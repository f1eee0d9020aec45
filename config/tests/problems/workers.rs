//! Workers, queues, offload.

use super::{Case, added, replaced};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "unknown offload",
            replaced("device = 'tap'", "device = 'tap'\noffload = 'offf'"),
            r#"
error: unknown offload "offf"
  where: edge.toml:4, interface uvs0
  fix:   did you mean "off"? It is one of "auto", "on", "off"
"#,
        ),
        (
            "offload as a boolean",
            replaced("device = 'tap'", "device = 'tap'\noffload = true"),
            r#"
error: offload must be a string, not a boolean
  where: edge.toml:4, interface uvs0
  fix:   write offload = "auto"
"#,
        ),
        (
            "queues out of range",
            replaced("device = 'tap'", "device = 'tap'\nqueues = 0"),
            r#"
error: number of queues 0 is out of range
  where: edge.toml:4, interface uvs0
  fix:   use 1 to 256
"#,
        ),
        (
            "no range of ports",
            added("[local]\nports = '50000'"),
            r#"
error: "50000" is no range of ports
  where: edge.toml:19, local
  fix:   write ports as in "49152-65535"
"#,
        ),
        (
            "an empty range of ports",
            added("[local]\nports = '50001-50000'"),
            r#"
error: the range of ports "50001-50000" is empty
  where: edge.toml:19, local
  fix:   write ports as in "49152-65535"
"#,
        ),
        (
            "ports of services",
            added("[local]\nports = '80-50000'"),
            r#"
error: port 80 is below 1024: those ports are services'
  where: edge.toml:19, local
  fix:   write ports as in "49152-65535"
"#,
        ),
        (
            "too long a spin",
            added("[workers]\nbusy_poll_us = 10001"),
            r#"
error: busy_poll_us 10001 is out of range
  where: edge.toml:19, workers
  fix:   use 0 to 10000 microseconds (0: sleep at once)
"#,
        ),
        (
            "CPUs that are none",
            added("[workers]\ncpus = [0, -1, 8192, '2', 0]"),
            r#"
error: CPU -1 is out of range
  where: edge.toml:19, workers
  fix:   use 0 to 8191, the numbers that lscpu shows
error: CPU 8192 is out of range
  where: edge.toml:19, workers
  fix:   use 0 to 8191, the numbers that lscpu shows
error: an entry of cpus must be an integer, not a string
  where: edge.toml:19, workers
  fix:   use 0 to 8191, the numbers that lscpu shows
"#,
        ),
        (
            "a CPU twice",
            added("[workers]\ncpus = [0, 1, 0]"),
            r#"
error: CPU 0 is given twice
  where: edge.toml:19, workers
  fix:   name each CPU once
"#,
        ),
        (
            "no CPU at all",
            added("[workers]\ncpus = []"),
            r#"
error: cpus names no CPU
  where: edge.toml:19, workers
  fix:   write cpus = [0, 1], or remove the key: then the system places the workers
"#,
        ),
        (
            "CPUs that are one",
            added("[workers]\ncpus = 1"),
            r#"
error: cpus must be an array, not an integer
  where: edge.toml:19, workers
  fix:   write cpus = [0]
"#,
        ),
    ]
}
