/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Carries frames between a TAP of the director and a link of the host (a network card, a veth), in place of a bridge.
 *
 *                  the host's own stack
 *                       ^        |
 *             (passed on)        | link_egress: to the director's MAC address
 *                       |        v
 *   wire --> link_ingress ---> TAP ---> the director
 *   wire <----- link <--- tap_ingress <---'
 *                       `--> the host's own stack: to the link's own MAC address
 *
 * The link stays what it is to the host: only frames to the director's MAC address are taken, and what the director
 * needs of those to everybody (ARP, neighbour discovery, MLD) is copied. Frames with a VLAN tag belong to the host: a
 * director in a VLAN is attached to the host's device of that VLAN, on which they have none.
 *
 * What goes to the director may be in the flow cache (flows.h); it changes no other frame, so segmentation offload
 * and partial checksums pass through. What it does not take goes on to the programs behind it (TC_ACT_UNSPEC, which
 * tcx calls TCX_NEXT), and to the host after the last.
 */
#include "headers.h"

/* 48 bits, in loads of 16: what every machine can do at the alignment that a frame has. */
struct mac {
	__u16 part[3];
};

/* One interface of the director; `Port` in ../src/program.rs. */
struct port {
	__u32 tap;		/* interface index of the TAP */
	__u32 link;		/* that of the link */
	struct mac director;	/* the director's address */
	struct mac host;	/* the link's own */
	__u32 cached;		/* whether what comes in over the link may be in the flow cache */
	__u32 to_peer;		/* the link is a veth, and what it would send its peer gets at once */
};

/* By the index of the TAP and by that of the link. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct port);
} ports SEC(".maps");

struct ethernet {
	struct mac to;
	struct mac from;
	__be16 type;
};

#include "flows.h"
#include "forward.h"

static __always_inline int same(const struct mac *a, const struct mac *b)
{
	return a->part[0] == b->part[0] && a->part[1] == b->part[1] && a->part[2] == b->part[2];
}

/* The first bit on the wire: to a group, or to everybody. */
static __always_inline int is_group(const struct mac *mac)
{
	return mac->part[0] & bpf_htons(0x0100);
}

static __always_inline const struct port *port_of(const struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;

	return bpf_map_lookup_elem(&ports, &index);
}

/*
 * Copies its Ethernet header, unless it is a tagged frame or none at all. A copy: a verifier that does not trust us
 * (CAP_PERFMON) refuses to compare pointers into a frame with anything but its end.
 */
static __always_inline int read_header(const struct __sk_buff *skb, struct ethernet *copy)
{
	const struct ethernet *header = (void *)(long)skb->data;

	if ((void *)(header + 1) > (void *)(long)skb->data_end)
		return 0;
	*copy = *header;
	return !skb->vlan_present;
}

/* Virtual routers tell one another who is active (RFC 9568); the kernel has no name for it. */
#define VRRP 112

/*
 * Whether the director has a use for a frame to a group: ARP, VRRP, and what IPv6 hosts tell one another on a link
 * (neighbour discovery, and MLD behind its hop-by-hop header). Of all else that is sent to groups it would only count
 * the drops.
 */
static __always_inline int concerns_director(struct __sk_buff *skb, __be16 type)
{
	__u32 at;
	__u8 next;

	if (type == bpf_htons(ETH_P_ARP))
		return 1;
	if (type == bpf_htons(ETH_P_IP))
		at = ETH_HLEN + __builtin_offsetof(struct iphdr, protocol);
	else if (type == bpf_htons(ETH_P_IPV6))
		at = ETH_HLEN + __builtin_offsetof(struct ipv6hdr, nexthdr);
	else
		return 0;
	if (bpf_skb_load_bytes(skb, at, &next, 1))
		return 0;
	if (next == VRRP)
		return 1;
	return type == bpf_htons(ETH_P_IPV6) && (next == IPPROTO_ICMPV6 || next == IPPROTO_HOPOPTS);
}

/* A frame on its way over the link, from the wire or to it. */
static __always_inline int over_link(struct __sk_buff *skb, int from_wire)
{
	const struct port *port = port_of(skb);
	struct ethernet header;

	/* What the director itself has sent comes by here again, on its way out and on its way to the host. */
	if (!port || !read_header(skb, &header) || same(&header.from, &port->director))
		return TC_ACT_UNSPEC;
	if (same(&header.to, &port->director)) {
		__u32 tap = port->tap;

		if (caching && from_wire && port->cached) {
			int verdict = forward(skb, header.type);

			if (verdict != MISS)
				return verdict;
		}
		return bpf_redirect(tap, 0);
	}
	/* A copy that cannot be made is a frame lost to the director, as on a full queue. */
	if (is_group(&header.to) && concerns_director(skb, header.type))
		bpf_clone_redirect(skb, port->tap, 0);
	return TC_ACT_UNSPEC;
}

SEC("classifier")
int link_ingress(struct __sk_buff *skb)
{
	return over_link(skb, 1);
}

SEC("classifier")
int link_egress(struct __sk_buff *skb)
{
	return over_link(skb, 0);
}

/* A frame that the director has written. */
SEC("classifier")
int tap_ingress(struct __sk_buff *skb)
{
	const struct port *port = port_of(skb);
	struct ethernet header;
	__u32 link, to_peer;

	/* The host's stack behind the TAP has no use for it. */
	if (!port || !read_header(skb, &header))
		return TC_ACT_SHOT;
	link = port->link;
	to_peer = port->to_peer;
	if (same(&header.to, &port->host))
		return bpf_redirect(link, BPF_F_INGRESS);
	if (is_group(&header.to))
		bpf_clone_redirect(skb, link, BPF_F_INGRESS);
	/* What waits in a queue of this CPU could be overtaken by packets of its flow that pass on another one. */
	return to_peer ? bpf_redirect_peer(link, 0) : bpf_redirect(link, 0);
}

/* In the kernel's words. It calls no helper that is for programs under the GPL alone. */
char _license[] SEC("license") = "Dual MIT/GPL";
