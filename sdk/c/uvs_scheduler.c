/* Between the generated bindings of the contract and uvs_scheduler.h. */

#include "uvs_scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "generated/scheduler.h"

static uvs_destination *destinations;
static uint32_t *changed_positions;
static uvs_table table;

static void *allocate(size_t size) {
    void *memory = malloc(size > 0 ? size : 1);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* Text of the director's, ended by a zero. */
static char *text(scheduler_string_t *from) {
    char *copy = allocate(from->len + 1);
    memcpy(copy, from->ptr, from->len);
    copy[from->len] = 0;
    scheduler_string_free(from);
    return copy;
}

bool exports_scheduler_init(scheduler_string_t *service, scheduler_string_t *options, scheduler_string_t *error) {
    char *service_text = text(service), *options_text = text(options);
    const char *refusal = uvs_init(service_text, options_text);
    if (refusal != NULL) {
        scheduler_string_dup(error, refusal);
    }
    free(service_text);
    free(options_text);
    return refusal == NULL;
}

void exports_scheduler_update(scheduler_list_destination_t *from) {
    free(destinations);
    free(changed_positions);
    destinations = allocate(from->len * sizeof *destinations);
    changed_positions = allocate(from->len * sizeof *changed_positions);
    for (size_t i = 0; i < from->len; i++) {
        const scheduler_destination_t *it = &from->ptr[i];
        destinations[i] = (uvs_destination){
            .id = it->id,
            .weight = it->weight,
            .address = {it->address_hi, it->address_lo},
            .port = it->port,
            .available = true,
        };
    }
    table = (uvs_table){.list = destinations, .len = (uint32_t)from->len, .changed = changed_positions};
    scheduler_list_destination_free(from);
    uvs_update(&table);
}

bool exports_scheduler_schedule(scheduler_flow_t *from, scheduler_list_u64_t *words, uint32_t *pick) {
    table.changed_len = 0;
    for (size_t i = 0; i < words->len; i++) {
        uint64_t word = words->ptr[i];
        uint32_t position = (uint32_t)(word >> 48);
        if (position < table.len) {
            uvs_destination *destination = &destinations[position];
            destination->available = (word >> 47 & 1) == 0;
            destination->active = (uint32_t)(word >> 24) & 0x7fffff;
            destination->inactive = (uint32_t)word & 0xffffff;
            /* The contract has one word for a position; more would not fit. */
            if (table.changed_len < table.len) {
                changed_positions[table.changed_len++] = position;
            }
        }
    }
    scheduler_list_u64_free(words);
    uvs_flow flow = {
        .protocol = (uvs_protocol)from->protocol,
        .client = {from->client_hi, from->client_lo},
        .client_port = from->client_port,
        .virtual_addr = {from->virtual_hi, from->virtual_lo},
        .virtual_port = from->virtual_port,
        .mark = from->mark,
    };
    *pick = uvs_schedule(&flow, &table);
    return *pick != UVS_NONE;
}

void exports_scheduler_save(scheduler_list_u8_t *state) {
    uvs_bytes bytes = uvs_save();
    state->ptr = bytes.data;
    state->len = bytes.len;
}

bool exports_scheduler_restore(scheduler_list_u8_t *state) {
    bool used = uvs_restore(state->ptr, state->len);
    scheduler_list_u8_free(state);
    return used;
}

void uvs_observe_words(uint64_t *words, size_t count, void (*observe)(const uvs_event *, const uvs_table *)) {
    table.changed_len = 0;
    for (size_t i = 0; i < count; i++) {
        uvs_event event = {
            .position = (uint32_t)(words[i] >> 48),
            .response = (uvs_response)(words[i] >> 44 & 0xf),
            .micros = words[i] & 0xfffffffffff,
        };
        /* A later version of the contract may know more kinds. */
        if (event.position < table.len && event.response <= UVS_UNANSWERED) {
            observe(&event, &table);
        }
    }
    if (count > 0) {
        free(words);
    }
}

/* The bindings want it linked to an object that describes the world; what makes the component knows the world by itself. */
__attribute__((weak)) void __component_type_object_force_link_scheduler(void) {}

/* Where the author has none. */

__attribute__((weak)) void uvs_update(const uvs_table *all) { (void)all; }

__attribute__((weak)) uvs_bytes uvs_save(void) { return (uvs_bytes){NULL, 0}; }

__attribute__((weak)) bool uvs_restore(const uint8_t *state, size_t len) {
    (void)state;
    (void)len;
    return false;
}

void uvs_log(uvs_level level, const char *message) {
    scheduler_string_t line = {(uint8_t *)message, strlen(message)};
    scheduler_log((uint8_t)level, &line);
}

uint64_t uvs_random(void) { return scheduler_random(); }

uint64_t uvs_now_ms(void) { return scheduler_now_ms(); }

uint32_t uvs_position_of(const uvs_table *all, uint32_t id) {
    for (uint32_t position = 0; position < all->len; position++) {
        if (all->list[position].id == id) {
            return position;
        }
    }
    return UVS_NONE;
}

uint32_t uvs_least(const uvs_table *all, uint32_t (*load)(const uvs_destination *destination)) {
    uint32_t best = UVS_NONE, best_load = 0;
    for (uint32_t position = 0; position < all->len; position++) {
        const uvs_destination *it = &all->list[position];
        if (uvs_eligible(it)) {
            uint32_t its_load = load(it);
            if (best == UVS_NONE || uvs_less(its_load, it->weight, best_load, all->list[best].weight)) {
                best = position;
                best_load = its_load;
            }
        }
    }
    return best;
}
