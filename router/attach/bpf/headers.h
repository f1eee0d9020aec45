/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All that the programs take from the system: `cargo xtask bpf` records what these give. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
