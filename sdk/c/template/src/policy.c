/* The destination with the fewest active connections for its weight; a client that comes back within 30 seconds goes
 * where it went before.
 */
#include "uvs.h"

/* Clients that are remembered: a power of two. Two that fall on the same place share it, the later one stays. */
#define CLIENTS 16384
#define STICKY_MS 30000

typedef struct {
    uvs_address client;
    uint64_t until_ms; /* 0: nobody */
    uint32_t destination; /* its id */
    uint32_t unused;
} memory;

static memory clients[CLIENTS];
/* Added to the director's clock: after a restore, time goes on where it stopped. */
static uint64_t behind_ms, latest_ms;
static bool restored;

static uint64_t now_ms(void) {
    uint64_t now = uvs_now_ms();
    if (restored && now < latest_ms)
        behind_ms = latest_ms - now; /* another host's clock */
    restored = false;
    return latest_ms = now + behind_ms;
}

static memory *place_of(uvs_address client) {
    uint64_t hash = (client.hi ^ client.lo * 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
    return &clients[hash >> 32 & (CLIENTS - 1)];
}

static bool same(uvs_address a, uvs_address b) {
    return a.hi == b.hi && a.lo == b.lo;
}

/* Whether `a` has fewer active connections for its weight than `b`. */
static bool lighter(const uvs_destination *a, const uvs_destination *b) {
    return (uint64_t)a->active * b->weight < (uint64_t)b->active * a->weight;
}

const char *scheduler_init(const char *service, const char *options) {
    (void)service;
    return options[0] ? "{{name}} takes no options" : NULL;
}

void scheduler_update(void) {}

int32_t scheduler_schedule(const uvs_flow *flow, const uint32_t *changed, uint32_t changed_count) {
    (void)changed, (void)changed_count;
    uint64_t now = now_ms();
    memory *known = place_of(flow->client);
    bool sticks = known->until_ms > now && same(known->client, flow->client);
    int32_t best = UVS_NONE;
    for (uint32_t i = 0; i < uvs_count; i++) {
        const uvs_destination *destination = &uvs_destinations[i];
        if (!uvs_eligible(destination))
            continue;
        if (sticks && destination->id == known->destination) {
            best = i;
            break;
        }
        if (best == UVS_NONE || lighter(destination, &uvs_destinations[best]))
            best = i;
    }
    if (best != UVS_NONE)
        *known = (memory){flow->client, now + STICKY_MS, uvs_destinations[best].id, 0};
    return best;
}

/* The state: a mark, the time, and whoever still sticks. */
static const char MAGIC[8] = "sticky1";

size_t scheduler_save(uint8_t *state) {
    size_t length = 0;
    __builtin_memcpy(state, MAGIC, sizeof MAGIC), length += sizeof MAGIC;
    __builtin_memcpy(state + length, &latest_ms, sizeof latest_ms), length += sizeof latest_ms;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        if (clients[i].until_ms <= latest_ms)
            continue;
        __builtin_memcpy(state + length, &clients[i], sizeof clients[i]), length += sizeof clients[i];
    }
    return length;
}

static bool marked(const uint8_t *state) {
    for (size_t i = 0; i < sizeof MAGIC; i++) {
        if (state[i] != (uint8_t)MAGIC[i])
            return false;
    }
    return true;
}

bool scheduler_restore(const uint8_t *state, size_t length) {
    size_t head = sizeof MAGIC + sizeof latest_ms;
    if (length < head || (length - head) % sizeof(memory) || !marked(state))
        return false;
    __builtin_memset(clients, 0, sizeof clients);
    __builtin_memcpy(&latest_ms, state + sizeof MAGIC, sizeof latest_ms);
    restored = true;
    for (size_t at = head; at < length; at += sizeof(memory)) {
        memory entry;
        __builtin_memcpy(&entry, state + at, sizeof entry);
        *place_of(entry.client) = entry;
    }
    return true;
}
