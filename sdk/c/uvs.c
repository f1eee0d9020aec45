/* The component's side of wit/scheduler.wit: what the canonical ABI asks of a core module.
 *
 * What the host passes lies in an arena behind the static data, which is empty again at the end of each call; there is no
 * other heap.
 */
#include "uvs.h"

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("$root"), import_name(name)))

IMPORT("log") void import_log(uint32_t level, const char *text, size_t length);
IMPORT("random") uint64_t import_random(void);
IMPORT("now-ms") uint64_t import_now_ms(void);

uvs_destination uvs_destinations[UVS_MAX_DESTINATIONS];
uint32_t uvs_count;

static uint32_t changed_positions[UVS_MAX_DESTINATIONS];
static uint8_t saved[UVS_MAX_STATE];
static bool is_changed[UVS_MAX_DESTINATIONS];

/* Compilers call these two for structures and loops; with bulk memory they are one instruction. */
void *memcpy(void *restrict to, const void *restrict from, size_t length) {
    return __builtin_memcpy(to, from, length);
}

void *memset(void *to, int byte, size_t length) {
    return __builtin_memset(to, byte, length);
}

uint64_t uvs_random(void) {
    return import_random();
}

uint64_t uvs_now_ms(void) {
    return import_now_ms();
}

static size_t length_of(const char *text) {
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

void uvs_log(uint8_t level, const char *message) {
    import_log(level, message, length_of(message));
}

/* The arena. */

extern uint8_t __heap_base;
static uintptr_t arena_top;

static void *take(size_t align, size_t size) {
    if (!arena_top)
        arena_top = (uintptr_t)&__heap_base;
    uintptr_t start = (arena_top + align - 1) & ~(uintptr_t)(align - 1);
    if (size > UINTPTR_MAX - start)
        __builtin_trap();
    uintptr_t end = start + size;
    uintptr_t held = (uintptr_t)__builtin_wasm_memory_size(0) << 16;
    if (end > held && __builtin_wasm_memory_grow(0, (end - held + 0xffff) >> 16) == SIZE_MAX)
        __builtin_trap();
    arena_top = end;
    return (void *)start;
}

EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    void *new = take(align, new_size);
    if (old)
        __builtin_memcpy(new, old, old_size < new_size ? old_size : new_size);
    return new;
}

static void release(void) {
    arena_top = (uintptr_t)&__heap_base;
}

static const char *terminated(const char *text, size_t length) {
    char *copy = take(1, length + 1);
    __builtin_memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

/* The exports. */

typedef struct {
    uint8_t is_error;
    const char *text;
    size_t length;
} init_result;

EXPORT("init") init_result *export_init(const char *service, size_t service_length, const char *options,
                                        size_t options_length) {
    static init_result result;
    uvs_count = 0;
    const char *refusal = scheduler_init(terminated(service, service_length), terminated(options, options_length));
    result.is_error = refusal != NULL;
    result.text = refusal;
    result.length = refusal ? length_of(refusal) : 0;
    release();
    return &result;
}

/* record destination, as the canonical ABI lays it out. */
typedef struct {
    uint32_t id, weight;
    uint64_t address_hi, address_lo;
    uint16_t port;
} wire_destination;

EXPORT("update") void export_update(const wire_destination *list, size_t length) {
    uvs_count = length < UVS_MAX_DESTINATIONS ? length : UVS_MAX_DESTINATIONS;
    for (uint32_t i = 0; i < uvs_count; i++) {
        const wire_destination *wire = &list[i];
        uvs_destinations[i] = (uvs_destination){
            .id = wire->id,
            .weight = wire->weight,
            .address = {wire->address_hi, wire->address_lo},
            .port = wire->port,
            .available = true,
        };
    }
    release();
    scheduler_update();
}

typedef struct {
    uint8_t is_some;
    uint32_t position;
} pick_result;

EXPORT("schedule") pick_result *export_schedule(uint32_t protocol, uint64_t client_hi, uint64_t client_lo,
                                                uint32_t client_port, uint64_t virtual_hi, uint64_t virtual_lo,
                                                uint32_t virtual_port, uint32_t mark, const uint64_t *words,
                                                size_t length) {
    static pick_result result;
    uint32_t changed = 0;
    for (size_t i = 0; i < length; i++) {
        uint64_t word = words[i];
        uint32_t position = word >> 48;
        if (position >= uvs_count)
            continue;
        uvs_destination *destination = &uvs_destinations[position];
        destination->available = !(word >> 47 & 1);
        destination->active = word >> 24 & 0x7fffff;
        destination->inactive = word & 0xffffff;
        if (!is_changed[position]) {
            is_changed[position] = true;
            changed_positions[changed++] = position;
        }
    }
    for (uint32_t i = 0; i < changed; i++)
        is_changed[changed_positions[i]] = false;
    release();
    uvs_flow flow = {
        .client = {client_hi, client_lo},
        .virtual_addr = {virtual_hi, virtual_lo},
        .mark = mark,
        .client_port = client_port,
        .virtual_port = virtual_port,
        .protocol = protocol,
    };
    int32_t position = scheduler_schedule(&flow, changed_positions, changed);
    result.is_some = position >= 0;
    result.position = position;
    return &result;
}

typedef struct {
    const uint8_t *bytes;
    size_t length;
} list_result;

EXPORT("save") list_result *export_save(void) {
    static list_result result;
    size_t length = scheduler_save(saved);
    result.bytes = saved;
    result.length = length < UVS_MAX_STATE ? length : UVS_MAX_STATE;
    return &result;
}

EXPORT("restore") uint32_t export_restore(const uint8_t *state, size_t length) {
    bool used = scheduler_restore(state, length);
    release();
    return used;
}
