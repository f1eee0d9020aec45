/* A scheduler for uvs in C: which destination takes each new connection of a virtual service.
 *
 * You write uvs_init and uvs_schedule, and uvs_update, uvs_save and uvs_restore if you need them. The rest is here: the
 * destinations with their loads, kept between picks, and what the director lends a module. There is no other way to the
 * outside: what reaches for files, clocks or the standard streams does not load. README.md tells how to build.
 *
 * The director calls one function at a time, and uvs_schedule once for each new connection, never per packet. A trap (or
 * abort) ends the instance: the director picks by its own scheduler meanwhile and starts a fresh one.
 */
#ifndef UVS_SCHEDULER_H
#define UVS_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No destination. */
#define UVS_NONE UINT32_MAX

/* An IPv6 address, or an IPv4 address mapped into one (::ffff:a.b.c.d), as two halves. */
typedef struct {
    uint64_t hi, lo;
} uvs_address;

typedef enum { UVS_TCP = 0, UVS_UDP = 1, UVS_SCTP = 2 } uvs_protocol;

/* A new connection. */
typedef struct {
    uvs_protocol protocol;
    uvs_address client; /* CIP */
    uint16_t client_port;
    uvs_address virtual_addr; /* the address the client asked for: the VIP */
    uint16_t virtual_port;
    uint32_t mark; /* the firewall mark; 0 is none */
} uvs_flow;

/* One destination. */
typedef struct {
    uint32_t id;         /* stable for as long as the destination belongs to the service */
    uint32_t weight;     /* 0 quiesces: nothing new may be scheduled to it; at most 2^31 - 1 */
    uvs_address address; /* RIP */
    uint16_t port;
    uint32_t active;   /* connections in an active state; below 2^23 */
    uint32_t inactive; /* connections in any other state, all of UDP; below 2^24 */
    bool available;    /* false: over its upper threshold, nothing new may be scheduled to it */
} uvs_destination;

/* The destinations in the kernel's list order: the one added last comes first. A position is an index into the list; it is
 * good until the next uvs_update. */
typedef struct {
    const uvs_destination *list;
    uint32_t len;
    const uint32_t *changed; /* the positions whose load came with this pick, in no special order */
    uint32_t changed_len;
} uvs_table;

/* Bytes from malloc. */
typedef struct {
    uint8_t *data;
    size_t len;
} uvs_bytes;

/* ---- What you write ---- */

/* Bound to a service, which `service` names (`tcp 192.0.2.10:443`); `options` is the text from the configuration, empty where
 * there is none. NULL, or a sentence for the operator: what is wrong with the options. It may be static or from malloc: it is
 * not freed. */
const char *uvs_init(const char *service, const char *options);

/* The set of destinations changed: one was added (at the front), removed or edited. Loads read zero until the next pick.
 * Optional. */
void uvs_update(const uvs_table *table);

/* One pick: a position in the table, or UVS_NONE when nothing can take the connection. A position that is not eligible is
 * refused by the director and counts as a failure. */
uint32_t uvs_schedule(const uvs_flow *flow, const uvs_table *table);

/* What a later instance needs to go on from here, at most 1 MiB; the SDK frees it. Optional. */
uvs_bytes uvs_save(void);

/* Takes over what uvs_save of an earlier instance returned; comes after uvs_update. False: could not use it, and nothing has
 * changed. Optional. */
bool uvs_restore(const uint8_t *state, size_t len);

/* ---- What you may write: to hear how destinations take connections ---- */

typedef enum {
    UVS_ANSWERED = 0,  /* by a SYN-ACK */
    UVS_REFUSED = 1,   /* by a RST */
    UVS_UNANSWERED = 2 /* not so far: the client repeated its SYN, or the connection expired */
} uvs_response;

/* An event. */
typedef struct {
    uint32_t position; /* in the table */
    uvs_response response;
    uint64_t micros; /* since the first SYN of the connection */
} uvs_event;

/* One event, the oldest first; they come right before a pick, for TCP by NAT. A policy that has this function writes
 * UVS_EXPORT_OBSERVE once, in one of its files, on a line of its own. */
void uvs_observe(const uvs_event *event, const uvs_table *table);

/* What the macro calls. */
void uvs_observe_words(uint64_t *words, size_t count, void (*observe)(const uvs_event *event, const uvs_table *table));

#define UVS_EXPORT_OBSERVE                                                                                                 \
    __attribute__((export_name("uvs:scheduler/feedback@0.1.0#observe"))) void uvs_export_observe(uint64_t *words,           \
                                                                                                 size_t count);            \
    void uvs_export_observe(uint64_t *words, size_t count) { uvs_observe_words(words, count, uvs_observe); }

/* ---- What the director lends you ---- */

typedef enum { UVS_ERROR = 0, UVS_WARN = 1, UVS_INFO = 2, UVS_DEBUG = 3 } uvs_level;

/* A line in the director's log. */
void uvs_log(uvs_level level, const char *message);
/* 64 random bits. */
uint64_t uvs_random(void);
/* Milliseconds since some moment in the past; never runs backwards. */
uint64_t uvs_now_ms(void);

/* ---- What most schedulers need ---- */

/* Whether a new connection may go to it: available and not quiesced. */
static inline bool uvs_eligible(const uvs_destination *destination) {
    return destination->available && destination->weight > 0;
}

/* Whether the first has less load for its weight than the second, exactly. */
static inline bool uvs_less(uint32_t load, uint32_t weight, uint32_t other_load, uint32_t other_weight) {
    return (uint64_t)load * other_weight < (uint64_t)other_load * weight;
}

/* Where the destination with this id is, or UVS_NONE; walks the list. */
uint32_t uvs_position_of(const uvs_table *table, uint32_t id);

/* The eligible destination with the least load for its weight, the first in list order among equals; UVS_NONE where none is
 * eligible. `load` says what a destination carries. */
uint32_t uvs_least(const uvs_table *table, uint32_t (*load)(const uvs_destination *destination));

/* Remembers where clients were sent lately: at most `capacity` of them, each for `ttl_ms` after it came last. When it is
 * full, the client that stayed away longest makes room. All SDKs have it, with one layout of the saved state
 * (sdk/README.md). */
typedef struct uvs_affinity uvs_affinity;

/* Remembers nobody yet. To be called from uvs_init or later, with a capacity from 1 to 1000000. */
uvs_affinity *uvs_affinity_new(uint32_t capacity, uint64_t ttl_ms);
/* Gives its memory back. */
void uvs_affinity_free(uvs_affinity *affinity);
/* Sets the clock and forgets up to two clients whose time is over; to be called at the beginning of each pick. */
void uvs_affinity_tick(uvs_affinity *affinity);
/* The destination id of a client into `id`; false: it is not known, or its time is over. Does not count as a use. */
bool uvs_affinity_get(const uvs_affinity *affinity, uvs_address client, uint32_t *id);
/* Remembers that the client goes to destination `id`; its time starts anew. */
void uvs_affinity_put(uvs_affinity *affinity, uvs_address client, uint32_t id);
/* The state, for uvs_save. */
uvs_bytes uvs_affinity_save(const uvs_affinity *affinity);
/* Takes over a state. False: it was not such a state or has more clients than fit, and nothing has changed. */
bool uvs_affinity_restore(uvs_affinity *affinity, const uint8_t *state, size_t len);

#endif
