/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The other end of IP tunnelling (LVS-TUN) on a real server: takes the outer header off IP-in-IP packets to an
 * address of this host (the RIP) with a packet to a VIP inside, in any combination of the two families, before the
 * host's own stack looks at them.
 *
 *   link --> [ Ethernet | outer IP to the RIP | IP to the VIP ] --> [ Ethernet | IP to the VIP ] --> the host's stack
 *
 * A GSO packet of segments stays one. All else goes on as it came (TC_ACT_UNSPEC, which tcx calls TCX_NEXT), also
 * what only looks strange: fragments, options, a header that is wrong. `uvs realserver` has a raw socket behind the
 * stack for it.
 */
#include "headers.h"

/* Of bpf_skb_adjust_room, since Linux 6.3; headers of distributions may be older. */
#define DECAP_L3_IPV4 (1ULL << 7)
#define DECAP_L3_IPV6 (1ULL << 8)

/* Protocol numbers of packets in packets (RFC 2003, RFC 2473). */
#define IPV4_INSIDE 4
#define IPV6_INSIDE 41

/* The low bits of TOS and traffic class (RFC 3168): all set, the packet met congestion. */
#define ECN 3

/* What an address of `addresses` is: bits; `RIP` and `VIP` in ../src/decapsulator.rs. */
#define IS_RIP 1
#define IS_VIP 2

/* IPv4 addresses are mapped ones (RFC 4291 section 2.5.5.2). */
struct address {
	__be32 word[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct address);
	__type(value, __u32);
} addresses SEC(".maps");

enum counter { DECAPSULATED, CONGESTED, COUNTERS };

/* Packets, of GSO packets each of theirs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct ipv4 {
	__u8 version_and_length;
	__u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 from;
	__be32 to;
};

struct ipv6 {
	__be32 version_and_class;
	__be16 payload_length;
	__u8 next;
	__u8 hop_limit;
	struct address from;
	struct address to;
};

/* What of the outer header matters once it was checked. */
struct tunnel {
	__u32 header_length;
	__u32 payload_length;
	__u8 inside;
	__u8 congested;
};

static __always_inline void count(__u32 which, __u32 packets)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &which);

	if (counter)
		*counter += packets ? packets : 1;
}

static __always_inline int known(const struct address *address, __u32 as)
{
	const __u32 *what = bpf_map_lookup_elem(&addresses, address);

	return what && *what & as;
}

static __always_inline int known_v4(__be32 address, __u32 as)
{
	const struct address mapped = { { 0, 0, bpf_htonl(0xffff), address } };

	return known(&mapped, as);
}

static __always_inline __u32 traffic_class(const struct ipv6 *header)
{
	return bpf_ntohl(header->version_and_class) >> 20 & 0xff;
}

/* Whether the one's complement sum over the header, checksum included, is what it has to be (RFC 1071). */
static __always_inline int header_is_whole(struct ipv4 *header)
{
	__s64 sum = bpf_csum_diff(0, 0, (__be32 *)header, sizeof(*header), 0);
	__u32 folded = (__u32)sum;

	folded = (folded & 0xffff) + (folded >> 16);
	folded = (folded & 0xffff) + (folded >> 16);
	return folded == 0xffff;
}

static __always_inline int outer_v4(struct __sk_buff *skb, struct tunnel *tunnel)
{
	struct ipv4 outer;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &outer, sizeof(outer)))
		return 0;
	if (outer.protocol != IPV4_INSIDE && outer.protocol != IPV6_INSIDE)
		return 0;
	/* Options, fragments (the bit that none may be made is no matter), damage. */
	if (outer.version_and_length != 0x45 || outer.fragment & bpf_htons(0xbfff) || !header_is_whole(&outer))
		return 0;
	if (bpf_ntohs(outer.length) < sizeof(outer) || !known_v4(outer.to, IS_RIP))
		return 0;
	tunnel->header_length = sizeof(outer);
	tunnel->payload_length = bpf_ntohs(outer.length) - sizeof(outer);
	tunnel->inside = outer.protocol;
	tunnel->congested = (outer.tos & ECN) == ECN;
	return 1;
}

static __always_inline int outer_v6(struct __sk_buff *skb, struct tunnel *tunnel)
{
	struct ipv6 outer;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &outer, sizeof(outer)))
		return 0;
	if (outer.next != IPV4_INSIDE && outer.next != IPV6_INSIDE)
		return 0;
	if (bpf_ntohl(outer.version_and_class) >> 28 != 6 || !known(&outer.to, IS_RIP))
		return 0;
	tunnel->header_length = sizeof(outer);
	tunnel->payload_length = bpf_ntohs(outer.payload_length);
	tunnel->inside = outer.next;
	tunnel->congested = (traffic_class(&outer) & ECN) == ECN;
	return 1;
}

/* Whether the inner packet is whole and for a VIP. Its stack will check the rest, as of one without a tunnel. */
static __always_inline int inner_v4(struct __sk_buff *skb, const struct tunnel *tunnel, __u32 at, __u8 *ecn)
{
	struct ipv4 inner;
	__u32 header_length, length;

	if (bpf_skb_load_bytes(skb, at, &inner, sizeof(inner)))
		return 0;
	header_length = (inner.version_and_length & 0xf) * 4;
	length = bpf_ntohs(inner.length);
	if (inner.version_and_length >> 4 != 4 || header_length < sizeof(inner) || length < header_length)
		return 0;
	*ecn = inner.tos & ECN;
	return length <= tunnel->payload_length && known_v4(inner.to, IS_VIP);
}

static __always_inline int inner_v6(struct __sk_buff *skb, const struct tunnel *tunnel, __u32 at, __u8 *ecn)
{
	struct ipv6 inner;

	if (bpf_skb_load_bytes(skb, at, &inner, sizeof(inner)))
		return 0;
	if (bpf_ntohl(inner.version_and_class) >> 28 != 6)
		return 0;
	*ecn = traffic_class(&inner) & ECN;
	return sizeof(inner) + bpf_ntohs(inner.payload_length) <= tunnel->payload_length && known(&inner.to, IS_VIP);
}

SEC("classifier")
int decapsulate(struct __sk_buff *skb)
{
	struct tunnel tunnel = {};
	/* Of a GSO packet; once its header is off, nobody has counted. */
	const __u32 packets = skb->gso_segs;
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
	__u8 ecn = 0;
	__be16 type;
	int found;

	/* A tagged frame is on its way to the host's device of that VLAN. */
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return TC_ACT_UNSPEC;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		found = outer_v4(skb, &tunnel);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		found = outer_v6(skb, &tunnel);
	else
		return TC_ACT_UNSPEC;
	if (!found)
		return TC_ACT_UNSPEC;

	if (tunnel.inside == IPV4_INSIDE) {
		found = inner_v4(skb, &tunnel, ETH_HLEN + tunnel.header_length, &ecn);
		flags |= DECAP_L3_IPV4;
		type = bpf_htons(ETH_P_IP);
	} else {
		found = inner_v6(skb, &tunnel, ETH_HLEN + tunnel.header_length, &ecn);
		flags |= DECAP_L3_IPV6;
		type = bpf_htons(ETH_P_IPV6);
	}
	if (!found)
		return TC_ACT_UNSPEC;
	/* A sender that is not told of congestion has to lose the packet (RFC 6040 section 4.2). */
	if (tunnel.congested && !ecn) {
		count(CONGESTED, packets);
		return TC_ACT_SHOT;
	}

	if (bpf_skb_adjust_room(skb, -(__s32)tunnel.header_length, BPF_ADJ_ROOM_MAC, flags))
		return TC_ACT_UNSPEC;
	/* The stack goes by what adjust_room has set; who listens to frames goes by this. */
	bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &type, sizeof(type), 0);
	if (tunnel.congested)
		bpf_skb_ecn_set_ce(skb);
	count(DECAPSULATED, packets);
	return TC_ACT_UNSPEC;
}

/* In the kernel's words. It calls no helper that is for programs under the GPL alone. */
char _license[] SEC("license") = "Dual MIT/GPL";
