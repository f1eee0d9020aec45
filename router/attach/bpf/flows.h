/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The flow cache: packets of flows that the director has decided about are rewritten and sent on here, and do not
 * pass through its TAP.
 *
 *   link_ingress --> forward --.--> in `flows4` or `flows6`, and all as it should be: rewritten, out to its next hop
 *                              `--> anything else: MISS, to the director, as if there were no cache
 *
 * The director alone decides. What is in the maps it has put there (../src/cache), and a flow holds only while the
 * numbers in it are those of its destination and its next hop: so both can be withdrawn at once, whatever flows name
 * them. What the director has to know is reported through a ring: each packet that may move the state of a
 * connection. If that cannot be, the packet is a miss.
 *
 * Order is kept. A flow of which packets are on their way through the director is shut: those that come meanwhile go
 * there, too, each with a number, its ticket, in a tag of 802.1ad (no frame to the director has a tag of its own).
 * The director says in `gates` which ticket has left it, and the flow opens at the next packet if that is the last
 * one. A packet that goes to the director for any other reason shuts its flow.
 */

/* Not the result of any program. */
#define MISS (-1)

/* About 17 ms. Wraps around after two years; who reads it looks at differences. */
#define TICK_SHIFT 24

/* What becomes of a packet; `Act` in ../src/cache/layout.rs, and so on for all below. */
enum act {
	NEW_DESTINATION = 1,	/* NAT, from the client: to flow.addr and flow.port */
	NEW_SOURCE,		/* NAT, from the destination: as from flow.addr and flow.port */
	AS_IS,			/* direct routing */
	IN_IPV4,		/* tunnelling */
	IN_IPV6,
};

struct key4 {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
};

struct key6 {
	__be32 source[4];
	__be32 destination[4];
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
};

/* One direction of a connection. */
struct flow {
	__u32 next_hop;		/* index in `next_hops` and, in the upper half, the generation that is meant */
	__u32 destination;	/* index in `destinations` and `tallies` */
	__u32 generation;	/* of the destination */
	__u32 seen;		/* tick of the last packet; written here */
	__u32 marks;		/* of `enum mark`; changed here, too, and atomically */
	__u32 gate;		/* the lower bits are the index in `gates`; all of them tell it from others that share it */
	__u32 ticket;		/* of the last packet that went to the director while shut; below it, its segments */
	__u32 shut_at;		/* tick of the last packet that went there for another reason; written here */
	__be16 port;
	__u8 act;
	__u8 unused;
};

enum mark {
	WATCH = 1,		/* the director wants to know of the next packet */
	FINISHED = 2,		/* one with FIN has passed */
	RESET = 4,		/* one with RST */
	SHUT = 8,		/* packets are on their way through the director: the next must not overtake them */
	PASSED = 16,		/* a packet has passed */
};

/* Where the packet does not need the address, it is the destination's all the same: for the next director. */
struct flow4 {
	struct flow flow;
	__be32 addr;
};

struct flow6 {
	struct flow flow;
	__be32 addr[4];
};

/* How frames leave: for each next hop, and each end of a tunnel. */
struct next_hop {
	__u32 link;		/* interface index; 0: closed for now */
	__u32 generation;	/* 16 bits */
	__u32 mtu;		/* of the link, or the tunnel's path */
	__u32 seen;		/* written here */
	struct mac to;
	struct mac from;
	__be32 outer_source[4];	/* of a tunnel */
	__be32 outer_destination[4];
	__u32 to_peer;		/* the link is a veth, and what it would send its peer gets at once */
};

struct tally {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
};

/* A packet that may move the state of its connection. */
struct event {
	__u64 at;		/* nanoseconds, CLOCK_MONOTONIC */
	__be32 source[4];	/* IPv4 in the first */
	__be32 destination[4];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 version;		/* 4 or 6 */
	__u8 flags;		/* of TCP */
	__u8 act;
};

/* What is said of the cache as a whole. */
struct census {
	__u64 unreported;		/* misses because the ring was full */
	__u64 dropped;		/* packets that the kernel did not let be rewritten */
};

/*
 * What the director has sent on of a flow that is shut: `gate`, the ticket of the last packet, and in how many frames
 * that came; WHOLE if it came in one.
 */
struct gate {
	__u64 through;		/* gate << 32 | ticket << 16 | frames */
};

#define WHOLE 0xffff

/* Sizes are those of a director without a cache; the loader sets others. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct key4);
	__type(value, struct flow4);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct key6);
	__type(value, struct flow6);
} flows6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct next_hop);
} next_hops SEC(".maps");

/* The generation of each destination. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} destinations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct census);
} censuses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gate);
} gates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");
