/* What a scheduler in C depends on: the destinations with their loads, the functions it has to write, those it may call.
 *
 * Freestanding C11 for wasm32, no libc. Include this in one file only, define the five `scheduler_` functions, and
 * compile it together with uvs.c.
 */
#ifndef UVS_H
#define UVS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A load word has 16 bits for a position. */
#define UVS_MAX_DESTINATIONS 65536
/* The largest state a scheduler may hand over, in bytes. */
#define UVS_MAX_STATE (1024 * 1024)
/* No destination can take the connection. */
#define UVS_NONE (-1)

/* An IPv6 address, or an IPv4 address mapped into one (::ffff:a.b.c.d), as two halves. */
typedef struct {
    uint64_t hi, lo;
} uvs_address;

typedef struct {
    uint32_t id;       /* stable for as long as the destination belongs to the service */
    uint32_t weight;   /* 0 quiesces: nothing new may be scheduled to it */
    uvs_address address;
    uint32_t active;   /* connections in an active state */
    uint32_t inactive; /* connections in any other state; all of UDP */
    uint16_t port;
    bool available;    /* false: overloaded, nothing new may be scheduled to it */
} uvs_destination;

typedef enum { UVS_TCP, UVS_UDP, UVS_SCTP } uvs_protocol;

/* A new connection. */
typedef struct {
    uvs_address client;       /* CIP */
    uvs_address virtual_addr; /* the address the client asked for: the VIP */
    uint32_t mark;            /* the firewall mark; 0 is none */
    uint16_t client_port;
    uint16_t virtual_port;
    uvs_protocol protocol;
} uvs_flow;

/* The destinations in the kernel's list order, the one added last first, with their loads as of this call. */
extern uvs_destination uvs_destinations[UVS_MAX_DESTINATIONS];
extern uint32_t uvs_count;

/* Whether a new connection may go to it. */
static inline bool uvs_eligible(const uvs_destination *destination) {
    return destination->available && destination->weight > 0;
}

/* What the director lends; there is no other way to the outside. */
uint64_t uvs_random(void);                         /* 64 random bits */
uint64_t uvs_now_ms(void);                         /* milliseconds; never runs backwards */
void uvs_log(uint8_t level, const char *message);  /* 0 error, 1 warning, 2 information, 3 debugging */

/* To be written by the author. */

/* Bound to a service. NULL: all is well; else a sentence for the operator against `options`. */
const char *scheduler_init(const char *service, const char *options);
/* The set of destinations changed; all loads read zero until the next pick. */
void scheduler_update(void);
/* One pick: a position in uvs_destinations, or UVS_NONE. `changed` lists positions whose load this pick brought. */
int32_t scheduler_schedule(const uvs_flow *flow, const uint32_t *changed, uint32_t changed_count);
/* Writes what a later instance needs to go on from here, at most UVS_MAX_STATE bytes; returns how many. */
size_t scheduler_save(uint8_t *state);
/* Takes over such a state; false: could not use it, and nothing has changed. */
bool scheduler_restore(const uint8_t *state, size_t length);

#endif
