/* The tutorial of the SDKs: fewest connections per weight, sticky for 30 s by client.
 *
 * A client that came within the last 30 s goes where it went then, if that destination is still there and eligible. Any other
 * goes where the fewest connections are for the weight. */

#include "uvs_scheduler.h"

static uvs_affinity *clients;

const char *uvs_init(const char *service, const char *options) {
    (void)service;
    if (options[0] != 0) {
        return "sticky takes no options";
    }
    clients = uvs_affinity_new(10000, 30000);
    return NULL;
}

static uint32_t connections(const uvs_destination *destination) { return destination->active + destination->inactive; }

uint32_t uvs_schedule(const uvs_flow *flow, const uvs_table *table) {
    uvs_affinity_tick(clients);
    uint32_t id, position = UVS_NONE;
    if (uvs_affinity_get(clients, flow->client, &id)) {
        position = uvs_position_of(table, id);
    }
    if (position == UVS_NONE || !uvs_eligible(&table->list[position])) {
        position = uvs_least(table, connections);
    }
    if (position != UVS_NONE) {
        uvs_affinity_put(clients, flow->client, table->list[position].id);
    }
    return position;
}

uvs_bytes uvs_save(void) { return uvs_affinity_save(clients); }

bool uvs_restore(const uint8_t *state, size_t len) { return uvs_affinity_restore(clients, state, len); }
