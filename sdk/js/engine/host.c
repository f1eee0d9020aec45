/* The module "uvs-scheduler": what the director lends, addresses, and the memory of clients. */

#include "host.h"

#include <stdlib.h>
#include <string.h>

static JSClassID address_class, affinity_class;

/* ---- Addresses ---- */

static char *put_decimal(char *to, uint32_t number) {
    char digits[10];
    int count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        *to++ = digits[--count];
    }
    return to;
}

static char *put_hex(char *to, uint32_t group) {
    for (int shift = 12, begun = 0; shift >= 0; shift -= 4) {
        uint32_t digit = group >> shift & 15;
        begun |= digit != 0 || shift == 0;
        if (begun) {
            *to++ = "0123456789abcdef"[digit];
        }
    }
    return to;
}

/* As RFC 5952 writes it; a mapped address as IPv4. At most 40 bytes. */
static size_t text_of(uvs_address address, char *text) {
    char *to = text;
    if (address.hi == 0 && address.lo >> 32 == 0xffff) {
        for (int shift = 24; shift >= 0; shift -= 8) {
            to = put_decimal(to, (uint32_t)(address.lo >> shift) & 0xff);
            if (shift > 0) {
                *to++ = '.';
            }
        }
        return (size_t)(to - text);
    }
    uint32_t groups[8];
    for (int i = 0; i < 8; i++) {
        groups[i] = (uint32_t)((i < 4 ? address.hi : address.lo) >> (48 - i % 4 * 16)) & 0xffff;
    }
    /* The longest run of zeros, the first among equals, if it is longer than one. */
    int start = -1, length = 1;
    for (int i = 0; i < 8; i++) {
        int end = i;
        while (end < 8 && groups[end] == 0) {
            end++;
        }
        if (end - i > length) {
            start = i;
            length = end - i;
        }
    }
    for (int i = 0; i < 8;) {
        if (i == start) {
            *to++ = ':';
            *to++ = ':';
            i += length;
            continue;
        }
        if (i > 0 && i != start + length) {
            *to++ = ':';
        } else if (i > 0 && start < 0) {
            *to++ = ':';
        }
        to = put_hex(to, groups[i++]);
    }
    return (size_t)(to - text);
}

static void free_address(JSRuntime *runtime, JSValueConst object) { js_free_rt(runtime, JS_GetOpaque(object, address_class)); }

static JSValue address_to_string(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)argc;
    (void)argv;
    const uvs_address *address = JS_GetOpaque2(ctx, self, address_class);
    if (address == NULL) {
        return JS_EXCEPTION;
    }
    char text[48];
    return JS_NewStringLen(ctx, text, text_of(*address, text));
}

static JSValue address_hi(JSContext *ctx, JSValueConst self) {
    const uvs_address *address = JS_GetOpaque2(ctx, self, address_class);
    return address == NULL ? JS_EXCEPTION : JS_NewBigUint64(ctx, address->hi);
}

static JSValue address_lo(JSContext *ctx, JSValueConst self) {
    const uvs_address *address = JS_GetOpaque2(ctx, self, address_class);
    return address == NULL ? JS_EXCEPTION : JS_NewBigUint64(ctx, address->lo);
}

static const JSCFunctionListEntry address_members[] = {
    JS_CFUNC_DEF("toString", 0, address_to_string),
    JS_CGETSET_DEF("hi", address_hi, NULL),
    JS_CGETSET_DEF("lo", address_lo, NULL),
};

JSValue uvs_host_address(JSContext *ctx, uvs_address address) {
    JSValue object = JS_NewObjectClass(ctx, (int)address_class);
    if (JS_IsException(object)) {
        return object;
    }
    uvs_address *kept = js_malloc(ctx, sizeof *kept);
    if (kept == NULL) {
        JS_FreeValue(ctx, object);
        return JS_EXCEPTION;
    }
    *kept = address;
    JS_SetOpaque(object, kept);
    return object;
}

/* ---- Affinity ---- */

static void free_affinity(JSRuntime *runtime, JSValueConst object) {
    (void)runtime;
    uvs_affinity_free(JS_GetOpaque(object, affinity_class));
}

static JSValue affinity_new(JSContext *ctx, JSValueConst target, int argc, JSValueConst *argv) {
    uint32_t capacity;
    int64_t ttl_ms;
    if (argc < 2 || JS_ToUint32(ctx, &capacity, argv[0]) < 0 || JS_ToInt64(ctx, &ttl_ms, argv[1]) < 0) {
        return argc < 2 ? JS_ThrowTypeError(ctx, "Affinity takes a capacity and a time in ms") : JS_EXCEPTION;
    }
    if (capacity == 0 || capacity > 1000000 || ttl_ms < 0) {
        return JS_ThrowRangeError(ctx, "the capacity of an Affinity is 1 to 1000000, its time is not negative");
    }
    JSValue prototype = JS_GetPropertyStr(ctx, target, "prototype");
    JSValue object = JS_NewObjectProtoClass(ctx, prototype, affinity_class);
    JS_FreeValue(ctx, prototype);
    if (!JS_IsException(object)) {
        JS_SetOpaque(object, uvs_affinity_new(capacity, (uint64_t)ttl_ms));
    }
    return object;
}

static JSValue affinity_tick(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)argc;
    (void)argv;
    uvs_affinity *affinity = JS_GetOpaque2(ctx, self, affinity_class);
    if (affinity == NULL) {
        return JS_EXCEPTION;
    }
    uvs_affinity_tick(affinity);
    return JS_UNDEFINED;
}

static JSValue affinity_get(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    const uvs_affinity *affinity = JS_GetOpaque2(ctx, self, affinity_class);
    const uvs_address *client = JS_GetOpaque2(ctx, argc > 0 ? argv[0] : JS_UNDEFINED, address_class);
    if (affinity == NULL || client == NULL) {
        return JS_EXCEPTION;
    }
    uint32_t id;
    return uvs_affinity_get(affinity, *client, &id) ? JS_NewUint32(ctx, id) : JS_UNDEFINED;
}

static JSValue affinity_put(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    uvs_affinity *affinity = JS_GetOpaque2(ctx, self, affinity_class);
    const uvs_address *client = JS_GetOpaque2(ctx, argc > 0 ? argv[0] : JS_UNDEFINED, address_class);
    uint32_t id;
    if (affinity == NULL || client == NULL || JS_ToUint32(ctx, &id, argc > 1 ? argv[1] : JS_UNDEFINED) < 0) {
        return JS_EXCEPTION;
    }
    uvs_affinity_put(affinity, *client, id);
    return JS_UNDEFINED;
}

static JSValue affinity_save(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)argc;
    (void)argv;
    const uvs_affinity *affinity = JS_GetOpaque2(ctx, self, affinity_class);
    if (affinity == NULL) {
        return JS_EXCEPTION;
    }
    uvs_bytes state = uvs_affinity_save(affinity);
    JSValue bytes = JS_NewUint8ArrayCopy(ctx, state.data, state.len);
    free(state.data);
    return bytes;
}

static JSValue affinity_restore(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    uvs_affinity *affinity = JS_GetOpaque2(ctx, self, affinity_class);
    size_t len;
    const uint8_t *state = JS_GetUint8Array(ctx, &len, argc > 0 ? argv[0] : JS_UNDEFINED);
    if (affinity == NULL || state == NULL) {
        return JS_EXCEPTION;
    }
    return JS_NewBool(ctx, uvs_affinity_restore(affinity, state, len));
}

static const JSCFunctionListEntry affinity_members[] = {
    JS_CFUNC_DEF("tick", 0, affinity_tick), JS_CFUNC_DEF("get", 1, affinity_get),   JS_CFUNC_DEF("put", 2, affinity_put),
    JS_CFUNC_DEF("save", 0, affinity_save), JS_CFUNC_DEF("restore", 1, affinity_restore),
};

/* ---- What the director lends ---- */

static JSValue host_log(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self;
    int32_t level;
    if (JS_ToInt32(ctx, &level, argc > 0 ? argv[0] : JS_UNDEFINED) < 0) {
        return JS_EXCEPTION;
    }
    const char *message = JS_ToCString(ctx, argc > 1 ? argv[1] : JS_UNDEFINED);
    if (message == NULL) {
        return JS_EXCEPTION;
    }
    uvs_log(level < UVS_ERROR ? UVS_ERROR : level > UVS_DEBUG ? UVS_DEBUG : (uvs_level)level, message);
    JS_FreeCString(ctx, message);
    return JS_UNDEFINED;
}

static JSValue host_random(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self;
    (void)argc;
    (void)argv;
    return JS_NewBigUint64(ctx, uvs_random());
}

/* Of a double's 53 bits, which is what Math.random gives elsewhere. */
static JSValue host_random_below(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self;
    uint32_t bound;
    if (JS_ToUint32(ctx, &bound, argc > 0 ? argv[0] : JS_UNDEFINED) < 0) {
        return JS_EXCEPTION;
    }
    if (bound == 0) {
        return JS_ThrowRangeError(ctx, "there is no number below 0");
    }
    return JS_NewUint32(ctx, (uint32_t)((uvs_random() >> 32) * bound >> 32));
}

static JSValue host_now_ms(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self;
    (void)argc;
    (void)argv;
    return JS_NewInt64(ctx, (int64_t)uvs_now_ms());
}

static JSValue host_less(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self;
    uint32_t numbers[4];
    for (int i = 0; i < 4; i++) {
        if (JS_ToUint32(ctx, &numbers[i], i < argc ? argv[i] : JS_UNDEFINED) < 0) {
            return JS_EXCEPTION;
        }
    }
    return JS_NewBool(ctx, uvs_less(numbers[0], numbers[1], numbers[2], numbers[3]));
}

static const JSCFunctionListEntry functions[] = {
    JS_CFUNC_DEF("log", 2, host_log),
    JS_CFUNC_DEF("random", 0, host_random),
    JS_CFUNC_DEF("randomBelow", 1, host_random_below),
    JS_CFUNC_DEF("nowMs", 0, host_now_ms),
    JS_CFUNC_DEF("less", 4, host_less),
    JS_PROP_INT32_DEF("ERROR", UVS_ERROR, 0),
    JS_PROP_INT32_DEF("WARN", UVS_WARN, 0),
    JS_PROP_INT32_DEF("INFO", UVS_INFO, 0),
    JS_PROP_INT32_DEF("DEBUG", UVS_DEBUG, 0),
};

#define COUNT(list) ((int)(sizeof(list) / sizeof(*(list))))

static JSValue affinity_constructor;

void uvs_host_classes(JSContext *ctx) {
    static const JSClassDef address = {.class_name = "Address", .finalizer = free_address};
    static const JSClassDef affinity = {.class_name = "Affinity", .finalizer = free_affinity};
    JSRuntime *runtime = JS_GetRuntime(ctx);
    JS_NewClassID(runtime, &address_class);
    JS_NewClassID(runtime, &affinity_class);
    JS_NewClass(runtime, address_class, &address);
    JS_NewClass(runtime, affinity_class, &affinity);
    JSValue prototype = JS_NewObject(ctx);
    JS_SetPropertyFunctionList(ctx, prototype, address_members, COUNT(address_members));
    JS_SetClassProto(ctx, address_class, prototype);
    prototype = JS_NewObject(ctx);
    JS_SetPropertyFunctionList(ctx, prototype, affinity_members, COUNT(affinity_members));
    affinity_constructor = JS_NewCFunction2(ctx, affinity_new, "Affinity", 2, JS_CFUNC_constructor, 0);
    JS_SetConstructor(ctx, affinity_constructor, prototype);
    JS_SetClassProto(ctx, affinity_class, prototype);
}

static int set_exports(JSContext *ctx, JSModuleDef *module) {
    JS_SetModuleExportList(ctx, module, functions, COUNT(functions));
    return JS_SetModuleExport(ctx, module, "Affinity", JS_DupValue(ctx, affinity_constructor));
}

JSModuleDef *uvs_host_module(JSContext *ctx) {
    JSModuleDef *module = JS_NewCModule(ctx, "uvs-scheduler", set_exports);
    if (module != NULL) {
        JS_AddModuleExportList(ctx, module, functions, COUNT(functions));
        JS_AddModuleExport(ctx, module, "Affinity");
    }
    return module;
}

const uvs_table *uvs_host_current;
JSValue *uvs_host_objects;

static JSValue table_position_of(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self;
    uint32_t id;
    if (argc == 0 || JS_IsUndefined(argv[0]) || uvs_host_current == NULL) {
        return JS_UNDEFINED;
    }
    if (JS_ToUint32(ctx, &id, argv[0]) < 0) {
        return JS_EXCEPTION;
    }
    uint32_t position = uvs_position_of(uvs_host_current, id);
    return position == UVS_NONE ? JS_UNDEFINED : JS_NewUint32(ctx, position);
}

static JSValue table_least(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self;
    if (argc == 0 || !JS_IsFunction(ctx, argv[0])) {
        return JS_ThrowTypeError(ctx, "least takes a function that says what a destination carries");
    }
    const uvs_table *table = uvs_host_current;
    uint32_t best = UVS_NONE, best_load = 0;
    for (uint32_t position = 0; table != NULL && position < table->len; position++) {
        const uvs_destination *it = &table->list[position];
        if (!uvs_eligible(it)) {
            continue;
        }
        JSValue load = JS_Call(ctx, argv[0], JS_UNDEFINED, 1, &uvs_host_objects[position]);
        uint32_t its_load;
        if (JS_IsException(load) || JS_ToUint32(ctx, &its_load, load) < 0) {
            return JS_EXCEPTION;
        }
        JS_FreeValue(ctx, load);
        if (best == UVS_NONE || uvs_less(its_load, it->weight, best_load, table->list[best].weight)) {
            best = position;
            best_load = its_load;
        }
    }
    return best == UVS_NONE ? JS_UNDEFINED : JS_NewUint32(ctx, best);
}

JSValue uvs_host_table(JSContext *ctx) {
    JSValue table = JS_NewObject(ctx);
    JS_SetPropertyStr(ctx, table, "least", JS_NewCFunction(ctx, table_least, "least", 1));
    JS_SetPropertyStr(ctx, table, "positionOf", JS_NewCFunction(ctx, table_position_of, "positionOf", 1));
    return table;
}
