/* Where clients were sent lately: a hash map whose entries are also in a list by use. */

#include <stdlib.h>
#include <string.h>

#include "uvs_scheduler.h"

#define END UINT32_MAX
#define MAGIC "UVSAFF01"
#define MAGIC_LEN 8
#define SAVED_LEN 28

typedef struct {
    uvs_address client;
    uint64_t used_ms;
    uint32_t id;
    uint32_t next; /* in its chain, or among the free ones */
    uint32_t older, newer;
} entry;

struct uvs_affinity {
    uint64_t ttl_ms, now_ms;
    uint64_t key[2]; /* keys the hash, so that clients cannot choose addresses that collide */
    uint32_t capacity, chains, len;
    uint32_t oldest, newest, free;
    uint32_t *heads;
    entry *entries;
};

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void clear(uvs_affinity *a) {
    memset(a->heads, 0xff, a->chains * sizeof *a->heads);
    for (uint32_t at = 0; at < a->capacity; at++) {
        a->entries[at].next = at + 1 < a->capacity ? at + 1 : END;
    }
    a->len = 0;
    a->oldest = a->newest = END;
    a->free = 0;
}

uvs_affinity *uvs_affinity_new(uint32_t capacity, uint64_t ttl_ms) {
    if (capacity == 0 || capacity > 1000000) {
        abort();
    }
    uvs_affinity *a = allocate(sizeof *a);
    *a = (uvs_affinity){.ttl_ms = ttl_ms, .key = {uvs_random(), uvs_random()}, .capacity = capacity, .chains = 1};
    while (a->chains < capacity / 2) {
        a->chains *= 2;
    }
    a->heads = allocate(a->chains * sizeof *a->heads);
    a->entries = allocate(capacity * sizeof *a->entries);
    clear(a);
    return a;
}

void uvs_affinity_free(uvs_affinity *a) {
    if (a != NULL) {
        free(a->heads);
        free(a->entries);
        free(a);
    }
}

/* A mix whose every bit depends on every bit of address and key. */
static uint32_t chain(const uvs_affinity *a, uvs_address client) {
    uint64_t hash = (client.hi ^ a->key[0]) * 0xff51afd7ed558ccdu;
    hash = (hash ^ hash >> 32 ^ client.lo ^ a->key[1]) * 0xc4ceb9fe1a85ec53u;
    hash = (hash ^ hash >> 29 ^ a->key[0]) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32) & (a->chains - 1);
}

/* A time that is still to come was another director's: it says nothing. */
static bool is_fresh(const uvs_affinity *a, const entry *e) {
    return e->used_ms <= a->now_ms && a->now_ms - e->used_ms < a->ttl_ms;
}

static uint32_t find(const uvs_affinity *a, uvs_address client) {
    uint32_t at = a->heads[chain(a, client)];
    while (at != END) {
        const entry *e = &a->entries[at];
        if (e->client.lo == client.lo && e->client.hi == client.hi) {
            break;
        }
        at = e->next;
    }
    return at;
}

/* Takes an entry out of the list by use. */
static void unlink_entry(uvs_affinity *a, uint32_t at) {
    entry *e = &a->entries[at];
    *(e->older == END ? &a->oldest : &a->entries[e->older].newer) = e->newer;
    *(e->newer == END ? &a->newest : &a->entries[e->newer].older) = e->older;
}

static void remove_oldest(uvs_affinity *a) {
    uint32_t victim = a->oldest;
    unlink_entry(a, victim);
    uint32_t *link = &a->heads[chain(a, a->entries[victim].client)];
    while (*link != victim) {
        link = &a->entries[*link].next;
    }
    *link = a->entries[victim].next;
    a->entries[victim].next = a->free;
    a->free = victim;
    a->len--;
}

static void insert(uvs_affinity *a, uvs_address client, uint32_t id, uint64_t used_ms) {
    uint32_t at = find(a, client);
    if (at != END) {
        unlink_entry(a, at);
    } else {
        if (a->len == a->capacity) {
            remove_oldest(a);
        }
        at = a->free;
        a->free = a->entries[at].next;
        uint32_t *head = &a->heads[chain(a, client)];
        a->entries[at].client = client;
        a->entries[at].next = *head;
        *head = at;
        a->len++;
    }
    entry *e = &a->entries[at];
    e->id = id;
    e->used_ms = used_ms;
    e->older = a->newest;
    e->newer = END;
    *(a->newest == END ? &a->oldest : &a->entries[a->newest].newer) = at;
    a->newest = at;
}

void uvs_affinity_tick(uvs_affinity *a) {
    a->now_ms = uvs_now_ms();
    /* A pick remembers one client at most: to forget two keeps up, and no pick has to forget them all. */
    for (int i = 0; i < 2 && a->oldest != END && !is_fresh(a, &a->entries[a->oldest]); i++) {
        remove_oldest(a);
    }
}

bool uvs_affinity_get(const uvs_affinity *a, uvs_address client, uint32_t *id) {
    uint32_t at = find(a, client);
    if (at == END || !is_fresh(a, &a->entries[at])) {
        return false;
    }
    *id = a->entries[at].id;
    return true;
}

void uvs_affinity_put(uvs_affinity *a, uvs_address client, uint32_t id) { insert(a, client, id, a->now_ms); }

/* wasm32 is little-endian, and so is the state. */
uvs_bytes uvs_affinity_save(const uvs_affinity *a) {
    uvs_bytes state = {.len = MAGIC_LEN + (size_t)a->len * SAVED_LEN};
    uint8_t *to = state.data = allocate(state.len);
    memcpy(to, MAGIC, MAGIC_LEN);
    to += MAGIC_LEN;
    for (uint32_t at = a->oldest; at != END; at = a->entries[at].newer) {
        const entry *e = &a->entries[at];
        memcpy(to, &e->client.hi, 8);
        memcpy(to + 8, &e->client.lo, 8);
        memcpy(to + 16, &e->used_ms, 8);
        memcpy(to + 24, &e->id, 4);
        to += SAVED_LEN;
    }
    return state;
}

bool uvs_affinity_restore(uvs_affinity *a, const uint8_t *state, size_t len) {
    if (len < MAGIC_LEN || memcmp(state, MAGIC, MAGIC_LEN) != 0 || (len - MAGIC_LEN) % SAVED_LEN != 0 ||
        (len - MAGIC_LEN) / SAVED_LEN > a->capacity) {
        return false;
    }
    clear(a);
    for (const uint8_t *from = state + MAGIC_LEN; from < state + len; from += SAVED_LEN) {
        uvs_address client;
        uint64_t used_ms;
        uint32_t id;
        memcpy(&client.hi, from, 8);
        memcpy(&client.lo, from + 8, 8);
        memcpy(&used_ms, from + 16, 8);
        memcpy(&id, from + 24, 4);
        insert(a, client, id, used_ms);
    }
    return true;
}
