/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the flow cache does with a packet; see flows.h. */

/* Whether there is a cache at all; the loader says. Without, the verifier never sees what is below. */
const volatile __u32 caching = 0;

/* What both families have in common once the headers are read. */
struct packet {
	__u32 header;		/* bytes from the frame's start to the L4 header */
	__u32 length;		/* of the packet, as its header says */
	__u32 wire;		/* of the longest packet that leaves: of a GSO packet, one segment */
	__u8 protocol;
	__u8 flags;
	__u8 tos;
	__u8 ttl;
	__u8 dont_fragment;
	__u8 checksummed;	/* has an L4 checksum */
	__u8 gso;		/* several packets in one */
	__u8 fragment;		/* the first of several */
	__u8 special;		/* the director handles it, whatever its flow says */
};

struct tcp {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledged;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 check;
	__be16 urgent;
};

struct udp {
	__be16 source;
	__be16 destination;
	__be16 length;
	__be16 check;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Linux 6.16 and its elders of that summer; without it the sum of a card over the whole packet is not kept right. */
#define CSUM_IPV6 (1ULL << 7)

static __always_inline __u32 tick_now(void)
{
	return bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
}

/* True if so many bytes of the frame can be read directly. Pointers into it are void afterwards. */
static __always_inline int reach(struct __sk_buff *skb, __u32 length)
{
	if ((void *)(long)skb->data + length <= (void *)(long)skb->data_end)
		return 1;
	return !bpf_skb_pull_data(skb, length);
}

/* Reads ports, flags and lengths. `l4` is followed by at least 20 bytes of a TCP packet, 8 of UDP. */
static __always_inline void read_l4(const struct __sk_buff *skb, const void *l4, struct packet *packet, __be16 *source,
				   __be16 *destination)
{
	__u32 network = packet->header - ETH_HLEN, header, length;

	if (packet->protocol == IPPROTO_TCP) {
		const struct tcp *tcp = l4;

		*source = tcp->source;
		*destination = tcp->destination;
		packet->flags = tcp->flags;
		packet->checksummed = 1;
		header = (tcp->offset >> 4) * 4;
		/* One of these flags every packet has that means anything. */
		packet->special |= header < sizeof(*tcp) || !(tcp->flags & (TCP_ACK | TCP_FIN | TCP_RST));
	} else {
		const struct udp *udp = l4;

		*source = udp->source;
		*destination = udp->destination;
		packet->flags = 0;
		packet->checksummed = udp->check != 0;
		header = sizeof(*udp);
		length = bpf_ntohs(udp->length);
		/* Of the whole datagram, and of all of those in one: that of a fragment says nothing here. */
		packet->special |= length < header || (!packet->fragment && network + length > packet->length);
	}
	packet->special |= packet->fragment || packet->length < network + header || packet->length + ETH_HLEN > skb->len;
	packet->gso = skb->gso_size != 0;
	packet->wire = skb->gso_size ? network + header + skb->gso_size : packet->length;
}

/* Whether the director has to know of a packet. */
static __always_inline int is_reported(const struct flow *flow, const struct packet *packet)
{
	return (flow->marks & WATCH) || (packet->flags & (TCP_SYN | TCP_FIN | TCP_RST));
}

/* Takes room in the ring for what there is to tell of a packet. 0: there is none. */
static __always_inline struct event *event_of(const struct flow *flow, const struct packet *packet,
					      const __be32 *source, const __be32 *destination, __u32 words,
					      __be16 source_port, __be16 destination_port)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	__u32 i;

	if (!event) {
		__u32 all = 0;
		struct census *census = bpf_map_lookup_elem(&censuses, &all);

		if (census)
			census->unreported++;
		return 0;
	}
	event->at = bpf_ktime_get_ns();
	for (i = 0; i < 4; i++) {
		event->source[i] = i < words ? source[i] : 0;
		event->destination[i] = i < words ? destination[i] : 0;
	}
	event->source_port = source_port;
	event->destination_port = destination_port;
	event->protocol = packet->protocol;
	event->version = words == 1 ? 4 : 6;
	event->flags = packet->flags;
	event->act = flow->act;
	return event;
}

/* Tells the director of a packet that is about to leave, if there is anything to tell. */
static __always_inline void report(struct event *event, struct flow *flow, const struct packet *packet)
{
	if (!event)
		return;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	/* Other CPUs change marks, too. An answer to a SYN says less than what follows. */
	if (!(packet->flags & TCP_SYN) && (flow->marks & WATCH))
		__sync_fetch_and_and(&flow->marks, ~WATCH);
	if (packet->flags & TCP_FIN)
		__sync_fetch_and_or(&flow->marks, FINISHED);
	if (packet->flags & TCP_RST)
		__sync_fetch_and_or(&flow->marks, RESET);
	/* Of the first one there is always something to tell. */
	if (!(flow->marks & PASSED))
		__sync_fetch_and_or(&flow->marks, PASSED);
}

/* Drops a packet that cannot be sent on, nor be brought back to what it was. */
static __always_inline int drop(void)
{
	__u32 all = 0;
	struct census *census = bpf_map_lookup_elem(&censuses, &all);

	if (census)
		census->dropped++;
	return TC_ACT_SHOT;
}

/* As many as `gates` has room for. */
#define GATES 65536

/* How long a flow waits for a moment at which none of its packets is with the director: 60 ticks, one second. */
#define PATIENCE 60

/* Of a flow that is shut: whether it may open, which it does then. */
static __always_inline int opens(struct flow *flow)
{
	__u32 index = flow->gate & (GATES - 1), ticket = flow->ticket;
	const struct gate *gate = bpf_map_lookup_elem(&gates, &index);
	__u64 through;

	if (!gate)
		return 0;
	through = gate->through;
	if (through >> 32 != flow->gate || (__u32)through >> 16 != ticket >> 16 ||
	    ((through & 0xffff) != WHOLE && (through & 0xffff) != (ticket & 0xffff))) {
		/*
		 * Its packets come so fast that some are always there. Better out of order once than slow for good. The
		 * clock may be behind that of the director, which set the tick.
		 */
		if ((__s32)(tick_now() - flow->shut_at) <= PATIENCE)
			return 0;
	}
	__sync_fetch_and_and(&flow->marks, ~SHUT);
	return 1;
}

/*
 * Sends a packet of a flow to the director, with a ticket, so that none overtakes it. Pointers into the frame are
 * void afterwards. `why_not`: it would have to go there even if the flow were open.
 */
static __always_inline int miss(struct __sk_buff *skb, struct flow *flow, int why_not)
{
	__u32 old = flow->ticket, segments = skb->gso_size ? skb->gso_segs : 1, next;

	if (why_not) {
		flow->shut_at = tick_now();
		if (!(flow->marks & SHUT))
			__sync_fetch_and_or(&flow->marks, SHUT);
	}
	next = ((old >> 16) + 1) << 16 | (segments & 0xffff);
	/* Another CPU has one, too: who of both is last, nobody knows. Both have an old ticket then, which opens nothing. */
	if (__sync_val_compare_and_swap(&flow->ticket, old, next) != old) {
		__sync_fetch_and_add(&flow->ticket, 1 << 16);
		next = old;
	}
	bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), next >> 16);
	return MISS;
}

/*
 * Sends a packet to the director whose headers are not those of one that passes: options, extension headers, a
 * fragment. None behind it may overtake it if its flow is in the cache.
 */
static __always_inline int detour4(struct __sk_buff *skb, const struct iphdr *ip)
{
	const __u32 length = (*(__u8 *)ip & 0xf) * 4;
	struct key4 key = { .source = ip->saddr, .destination = ip->daddr, .protocol = ip->protocol };
	struct flow4 *found;
	__be16 ports[2];

	if (*(__u8 *)ip >> 4 != 4 || length < sizeof(*ip) || ip->frag_off & bpf_htons(0x1fff))
		return MISS;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + length, ports, sizeof(ports)))
		return MISS;
	key.source_port = ports[0];
	key.destination_port = ports[1];
	found = bpf_map_lookup_elem(&flows4, &key);
	return found ? miss(skb, &found->flow, 1) : MISS;
}

/* Extension headers that are looked behind. */
#define EXTENSIONS 4

static __always_inline int detour6(struct __sk_buff *skb, const struct ipv6hdr *ip)
{
	struct {
		__u8 next;
		__u8 length;
		__be16 offset;
	} header;
	__u32 at = ETH_HLEN + sizeof(*ip), i;
	struct flow6 *found;
	struct key6 key;
	__be16 ports[2];
	__u8 next = ip->nexthdr;

	__builtin_memcpy(key.source, &ip->saddr, 16);
	__builtin_memcpy(key.destination, &ip->daddr, 16);
	for (i = 0; i < EXTENSIONS && next != IPPROTO_TCP && next != IPPROTO_UDP; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_FRAGMENT && next != IPPROTO_DSTOPTS)
			return MISS;
		if (bpf_skb_load_bytes(skb, at, &header, sizeof(header)))
			return MISS;
		/* Only the first fragment has ports. */
		if (next == IPPROTO_FRAGMENT && header.offset & bpf_htons(0xfff8))
			return MISS;
		at += next == IPPROTO_FRAGMENT ? 8 : (header.length + 1) * 8;
		next = header.next;
	}
	if ((next != IPPROTO_TCP && next != IPPROTO_UDP) || bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return MISS;
	key.source_port = ports[0];
	key.destination_port = ports[1];
	key.protocol = next;
	found = bpf_map_lookup_elem(&flows6, &key);
	return found ? miss(skb, &found->flow, 1) : MISS;
}

/* Whether a flow holds, and for this packet; then its next hop. */
static __always_inline struct next_hop *next_hop_of(const struct flow *flow, const struct packet *packet)
{
	__u32 index = flow->destination, wire = packet->wire;
	const __u32 *generation = bpf_map_lookup_elem(&destinations, &index);
	struct next_hop *next_hop;

	if (packet->special || !generation || *generation != flow->generation)
		return 0;
	index = flow->next_hop & 0xffff;
	next_hop = bpf_map_lookup_elem(&next_hops, &index);
	if (!next_hop || !next_hop->link || next_hop->generation != flow->next_hop >> 16)
		return 0;
	if (flow->act >= IN_IPV4) {
		wire += flow->act == IN_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
		/* A GSO packet may be longer than a header can say. */
		if (packet->length + sizeof(struct ipv6hdr) > 0xffff)
			return 0;
		/* Who takes a tunnel's packets off a raw socket could not tell datagrams of a GSO packet apart. */
		if (packet->gso && packet->protocol == IPPROTO_UDP)
			return 0;
	}
	if (wire > next_hop->mtu)
		return 0;
	/* Translated, a packet without checksum would get one. */
	if (flow->act <= NEW_SOURCE && !packet->checksummed)
		return 0;
	/* A new connection, and a connection that may begin anew, are the director's. */
	if ((packet->flags & TCP_SYN) && (flow->act != NEW_SOURCE || !(packet->flags & TCP_ACK)))
		return 0;
	return next_hop;
}

static __always_inline void count(struct flow *flow, struct next_hop *next_hop, const struct packet *packet)
{
	__u32 now = tick_now(), index = flow->destination, out, bytes_out;
	struct tally *tally = bpf_map_lookup_elem(&tallies, &index);

	if (flow->seen != now)
		flow->seen = now;
	if (next_hop->seen != now)
		next_hop->seen = now;
	if (!tally)
		return;
	/* No choice of a place: without CAP_PERFMON the verifier wants to see which one it is. */
	out = flow->act == NEW_SOURCE;
	bytes_out = out ? packet->length : 0;
	tally->packets_in += !out;
	tally->bytes_in += packet->length - bytes_out;
	tally->packets_out += out;
	tally->bytes_out += bytes_out;
}

/* Into the namespace behind a veth without its queue, as the kernel's own routing of containers does. */
static __always_inline int leave(const struct next_hop *next_hop)
{
	return next_hop->to_peer ? bpf_redirect_peer(next_hop->link, 0) : bpf_redirect(next_hop->link, 0);
}

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Of a header without options, as it lies there: 0xffff if its checksum is right. */
static __always_inline __u16 sum_of(const struct iphdr *ip)
{
	const __u16 *half = (const void *)ip;
	__u32 sum = 0, i;

#pragma unroll
	for (i = 0; i < sizeof(*ip) / 2; i++)
		sum += half[i];
	return fold(sum);
}

static __always_inline void seal(struct iphdr *ip)
{
	ip->check = 0;
	ip->check = ~sum_of(ip);
}

static __always_inline void address(struct ethernet *header, const struct next_hop *next_hop)
{
	header->to = next_hop->to;
	header->from = next_hop->from;
}

/* Of the outer header; RFC 3168 section 9.1.1. */
static __always_inline __u8 outer_tos(__u8 tos)
{
	return (tos & 3) == 3 ? tos & ~1 : tos;
}

/*
 * Takes one off the TTL and puts an outer IP header in front. 0: it is as it was. -1: it is broken, and must go.
 */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct next_hop *next_hop,
				       const struct packet *packet, __u8 act, __u8 inner)
{
	const __u32 outer = act == IN_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 headers = ETH_HLEN + outer + (inner == IPPROTO_IPIP ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET |
		      (act == IN_IPV4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6);
	struct ethernet *header;
	void *within;

	if (bpf_skb_adjust_room(skb, outer, BPF_ADJ_ROOM_MAC, flags))
		return 0;
	if (!reach(skb, headers))
		return -1;
	header = (void *)(long)skb->data;
	if ((void *)header + headers > (void *)(long)skb->data_end)
		return -1;
	address(header, next_hop);
	if (act == IN_IPV4) {
		struct iphdr *ip = (void *)(header + 1);

		header->type = bpf_htons(ETH_P_IP);
		ip->version = 4;
		ip->ihl = 5;
		ip->tos = outer_tos(packet->tos);
		ip->tot_len = bpf_htons(packet->length + sizeof(*ip));
		/* RFC 6864: what cannot be fragmented needs none. */
		ip->id = packet->dont_fragment ? 0 : bpf_get_prandom_u32();
		ip->frag_off = packet->dont_fragment ? bpf_htons(0x4000) : 0;
		ip->ttl = packet->ttl;
		ip->protocol = inner;
		ip->saddr = next_hop->outer_source[0];
		ip->daddr = next_hop->outer_destination[0];
		seal(ip);
		within = ip + 1;
	} else {
		struct ipv6hdr *ip = (void *)(header + 1);

		header->type = bpf_htons(ETH_P_IPV6);
		*(__be32 *)ip = bpf_htonl(6U << 28 | (__u32)outer_tos(packet->tos) << 20);
		ip->payload_len = bpf_htons(packet->length);
		ip->nexthdr = inner;
		ip->hop_limit = packet->ttl;
		__builtin_memcpy(&ip->saddr, next_hop->outer_source, 16);
		__builtin_memcpy(&ip->daddr, next_hop->outer_destination, 16);
		within = ip + 1;
	}
	if (inner == IPPROTO_IPIP) {
		struct iphdr *ip = within;

		ip->ttl = packet->ttl;
		seal(ip);
	} else {
		((struct ipv6hdr *)within)->hop_limit = packet->ttl;
	}
	return 1;
}

static __always_inline int tunnel(struct __sk_buff *skb, struct flow *flow, struct next_hop *next_hop,
				  const struct packet *packet, struct event *event, __u8 inner)
{
	int done;

	if (flow->act == IN_IPV4)
		done = encapsulate(skb, next_hop, packet, IN_IPV4, inner);
	else
		done = encapsulate(skb, next_hop, packet, IN_IPV6, inner);
	if (done == 0) {
		if (event)
			bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
		return miss(skb, flow, 1);
	}
	report(event, flow, packet);
	if (done < 0)
		return drop();
	count(flow, next_hop, packet);
	return leave(next_hop);
}

/* The checksum of L4 after addresses and ports were replaced. */
static __always_inline __u32 sum_offset(const struct packet *packet)
{
	return packet->header + (packet->protocol == IPPROTO_TCP ? __builtin_offsetof(struct tcp, check)
								 : __builtin_offsetof(struct udp, check));
}

static __always_inline __u64 sum_flags(const struct packet *packet)
{
	return packet->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

/* Brings the checksum of L4 up to date after a port was replaced. */
static __always_inline long port_sum(struct __sk_buff *skb, const struct packet *packet, __be16 old_port,
				     __be16 new_port)
{
	if (old_port == new_port)
		return 0;
	return bpf_l4_csum_replace(skb, sum_offset(packet), old_port, new_port, sum_flags(packet) | 2);
}

/*
 * Whether a packet may pass now: then its next hop, and in `event` what there is to report of it. 0: it goes to the
 * director, with a ticket; pointers into the frame are void then.
 */
static __always_inline struct next_hop *admit(struct __sk_buff *skb, struct flow *flow, const struct packet *packet,
					      const __be32 *source, const __be32 *destination, __u32 words,
					      __be16 source_port, __be16 destination_port, struct event **event)
{
	struct next_hop *next_hop = next_hop_of(flow, packet);

	if (!next_hop) {
		miss(skb, flow, 1);
		return 0;
	}
	if ((flow->marks & SHUT) && !opens(flow)) {
		miss(skb, flow, 0);
		return 0;
	}
	if (is_reported(flow, packet)) {
		*event = event_of(flow, packet, source, destination, words, source_port, destination_port);
		if (!*event) {
			miss(skb, flow, 1);
			return 0;
		}
	}
	return next_hop;
}

static __always_inline int forward4(struct __sk_buff *skb)
{
	const __u32 headers = sizeof(struct ethernet) + sizeof(struct iphdr);
	struct packet packet = { .header = headers };
	struct ethernet *ethernet;
	struct flow4 *found;
	struct next_hop *next_hop;
	struct iphdr *ip;
	struct key4 key;
	struct event *event = 0;
	__be16 *port, old_port, new_port;
	__be32 old_addr, new_addr;
	__u8 act;

	if (!reach(skb, headers + sizeof(struct udp)))
		return MISS;
	ethernet = (void *)(long)skb->data;
	ip = (void *)(ethernet + 1);
	if ((void *)(ip + 1) + sizeof(struct udp) > (void *)(long)skb->data_end)
		return MISS;
	if (*(__u8 *)ip != 0x45)
		return detour4(skb, ip);
	packet.protocol = ip->protocol;
	if (packet.protocol == IPPROTO_TCP) {
		if (!reach(skb, headers + sizeof(struct tcp)))
			return MISS;
		ethernet = (void *)(long)skb->data;
		ip = (void *)(ethernet + 1);
		if ((void *)(ip + 1) + sizeof(struct tcp) > (void *)(long)skb->data_end)
			return MISS;
	} else if (packet.protocol != IPPROTO_UDP) {
		return MISS;
	}
	/* Later fragments have no ports; what has a wrong checksum is dropped. */
	if (ip->frag_off & bpf_htons(0x1fff) || sum_of(ip) != 0xffff)
		return MISS;
	packet.special = ip->ttl <= 1;
	packet.fragment = !!(ip->frag_off & bpf_htons(0x2000));
	packet.length = bpf_ntohs(ip->tot_len);
	packet.tos = ip->tos;
	packet.ttl = ip->ttl - 1;
	packet.dont_fragment = !!(ip->frag_off & bpf_htons(0x4000));
	key.source = ip->saddr;
	key.destination = ip->daddr;
	key.protocol = packet.protocol;
	read_l4(skb, ip + 1, &packet, &key.source_port, &key.destination_port);
	found = bpf_map_lookup_elem(&flows4, &key);
	if (!found)
		return MISS;
	next_hop = admit(skb, &found->flow, &packet, &key.source, &key.destination, 1, key.source_port,
			 key.destination_port, &event);
	if (!next_hop)
		return MISS;
	act = found->flow.act;
	new_addr = found->addr;
	new_port = found->flow.port;
	if (act >= IN_IPV4)
		return tunnel(skb, &found->flow, next_hop, &packet, event, IPPROTO_IPIP);
	report(event, &found->flow, &packet);
	count(&found->flow, next_hop, &packet);
	address(ethernet, next_hop);
	ip->ttl = packet.ttl;
	if (act == AS_IS) {
		seal(ip);
		return leave(next_hop);
	}
	port = (void *)(ip + 1);
	if (act == NEW_DESTINATION) {
		old_addr = key.destination;
		old_port = key.destination_port;
		ip->daddr = new_addr;
		port[1] = new_port;
	} else {
		old_addr = key.source;
		old_port = key.source_port;
		ip->saddr = new_addr;
		port[0] = new_port;
	}
	seal(ip);
	if (bpf_l4_csum_replace(skb, sum_offset(&packet), old_addr, new_addr, BPF_F_PSEUDO_HDR | sum_flags(&packet) | 4))
		return drop();
	return port_sum(skb, &packet, old_port, new_port) ? drop() : leave(next_hop);
}

static __always_inline int forward6(struct __sk_buff *skb)
{
	const __u32 headers = sizeof(struct ethernet) + sizeof(struct ipv6hdr);
	struct packet packet = { .header = headers };
	struct ethernet *ethernet;
	struct flow6 *found;
	struct ipv6hdr *ip;
	struct next_hop *next_hop;
	struct key6 key;
	struct event *event = 0;
	__be16 *port, old_port, new_port;
	__be32 old_addr[4], new_addr[4];
	__s64 difference;
	__u8 act;

	if (!reach(skb, headers + sizeof(struct udp)))
		return MISS;
	ethernet = (void *)(long)skb->data;
	ip = (void *)(ethernet + 1);
	if ((void *)(ip + 1) + sizeof(struct udp) > (void *)(long)skb->data_end)
		return MISS;
	packet.protocol = ip->nexthdr;
	if (packet.protocol == IPPROTO_TCP) {
		if (!reach(skb, headers + sizeof(struct tcp)))
			return MISS;
		ethernet = (void *)(long)skb->data;
		ip = (void *)(ethernet + 1);
		if ((void *)(ip + 1) + sizeof(struct tcp) > (void *)(long)skb->data_end)
			return MISS;
	} else if (packet.protocol != IPPROTO_UDP) {
		return *(__u8 *)ip >> 4 == 6 ? detour6(skb, ip) : MISS;
	}
	if (*(__u8 *)ip >> 4 != 6)
		return MISS;
	packet.special = ip->hop_limit <= 1;
	packet.length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	packet.tos = bpf_ntohl(*(__be32 *)ip) >> 20;
	packet.ttl = ip->hop_limit - 1;
	__builtin_memcpy(key.source, &ip->saddr, 16);
	__builtin_memcpy(key.destination, &ip->daddr, 16);
	key.protocol = packet.protocol;
	read_l4(skb, ip + 1, &packet, &key.source_port, &key.destination_port);
	found = bpf_map_lookup_elem(&flows6, &key);
	if (!found)
		return MISS;
	next_hop = admit(skb, &found->flow, &packet, key.source, key.destination, 4, key.source_port,
			 key.destination_port, &event);
	if (!next_hop)
		return MISS;
	act = found->flow.act;
	new_port = found->flow.port;
	__builtin_memcpy(new_addr, found->addr, 16);
	if (act >= IN_IPV4)
		return tunnel(skb, &found->flow, next_hop, &packet, event, IPPROTO_IPV6);
	report(event, &found->flow, &packet);
	count(&found->flow, next_hop, &packet);
	address(ethernet, next_hop);
	ip->hop_limit = packet.ttl;
	if (act == AS_IS)
		return leave(next_hop);
	port = (void *)(ip + 1);
	if (act == NEW_DESTINATION) {
		__builtin_memcpy(old_addr, key.destination, 16);
		old_port = key.destination_port;
		__builtin_memcpy(&ip->daddr, new_addr, 16);
		port[1] = new_port;
	} else {
		__builtin_memcpy(old_addr, key.source, 16);
		old_port = key.source_port;
		__builtin_memcpy(&ip->saddr, new_addr, 16);
		port[0] = new_port;
	}
	difference = bpf_csum_diff(old_addr, 16, new_addr, 16, 0);
	if (difference < 0)
		return drop();
	if (bpf_l4_csum_replace(skb, sum_offset(&packet), 0, difference, BPF_F_PSEUDO_HDR | CSUM_IPV6 | sum_flags(&packet)) &&
	    bpf_l4_csum_replace(skb, sum_offset(&packet), 0, difference, BPF_F_PSEUDO_HDR | sum_flags(&packet)))
		return drop();
	return port_sum(skb, &packet, old_port, new_port) ? drop() : leave(next_hop);
}

/* A frame to the director. MISS: it is the director's; nothing has changed about it, but it may have a ticket. */
static __always_inline int forward(struct __sk_buff *skb, __be16 type)
{
	if (type == bpf_htons(ETH_P_IP))
		return forward4(skb);
	if (type == bpf_htons(ETH_P_IPV6))
		return forward6(skb);
	return MISS;
}
