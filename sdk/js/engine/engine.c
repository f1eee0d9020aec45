/* QuickJS as a scheduler: calls the functions that a JavaScript module exports.
 *
 * The module's text is in uvs_script, which is linked to this file. It is compiled when the director calls init. What it may
 * import is the module "uvs-scheduler" of host.c; uvs-scheduler.d.ts describes it for people and for TypeScript. */

#include "host.h"

#include <stdlib.h>
#include <string.h>

extern const char uvs_script[];
extern const unsigned long uvs_script_len;

/* Of the 256 KiB that the linker grants. */
#define JS_STACK_BYTES (160 * 1024)

static JSContext *ctx;

/* The module's functions, undefined where it exports none. */
static JSValue js_update, js_schedule, js_save, js_restore;

/* The table as the module sees it; uvs_host_objects are the objects in its list once more. */
static JSValue js_table;
static uint32_t js_list_len;

static struct {
    JSAtom active, inactive, available, eligible, changed, id, weight, address, port, list;
    JSAtom protocol, client, client_port, virtual_addr, virtual_port, mark;
} name;

/* What was thrown, with its stack, in memory from malloc. */
static char *thrown(void) {
    JSValue error = JS_GetException(ctx);
    const char *text = JS_ToCString(ctx, error);
    JSValue stack = JS_IsError(error) ? JS_GetPropertyStr(ctx, error, "stack") : JS_UNDEFINED;
    const char *trace = JS_IsString(stack) ? JS_ToCString(ctx, stack) : NULL;
    size_t text_len = text != NULL ? strlen(text) : 0, trace_len = trace != NULL ? strlen(trace) : 0;
    char *all = malloc(text_len + trace_len + 2);
    if (all == NULL) {
        abort();
    }
    memcpy(all, text, text_len);
    all[text_len] = trace_len > 0 ? '\n' : 0;
    memcpy(all + text_len + 1, trace, trace_len);
    all[text_len + 1 + trace_len] = 0;
    JS_FreeCString(ctx, text);
    JS_FreeCString(ctx, trace);
    JS_FreeValue(ctx, stack);
    JS_FreeValue(ctx, error);
    return all;
}

/* Ends the instance; the director picks by its own scheduler and starts another one. */
static _Noreturn void fail(const char *why) {
    uvs_log(UVS_ERROR, why);
    __builtin_trap();
}

static JSValue checked(JSValue value) {
    if (JS_IsException(value)) {
        fail(thrown());
    }
    return value;
}

static JSValue call(JSValueConst function, int argc, JSValueConst *argv) {
    return checked(JS_Call(ctx, function, JS_UNDEFINED, argc, argv));
}

/* What runs later, as after a promise is kept, runs before the director's call ends. */
static void run_jobs(void) {
    JSContext *of;
    int ran;
    while ((ran = JS_ExecutePendingJob(JS_GetRuntime(ctx), &of)) > 0) {
    }
    if (ran < 0) {
        fail(thrown());
    }
}

static void make_names(void) {
    name.active = JS_NewAtom(ctx, "active");
    name.inactive = JS_NewAtom(ctx, "inactive");
    name.available = JS_NewAtom(ctx, "available");
    name.eligible = JS_NewAtom(ctx, "eligible");
    name.changed = JS_NewAtom(ctx, "changed");
    name.id = JS_NewAtom(ctx, "id");
    name.weight = JS_NewAtom(ctx, "weight");
    name.address = JS_NewAtom(ctx, "address");
    name.port = JS_NewAtom(ctx, "port");
    name.list = JS_NewAtom(ctx, "list");
    name.protocol = JS_NewAtom(ctx, "protocol");
    name.client = JS_NewAtom(ctx, "client");
    name.client_port = JS_NewAtom(ctx, "clientPort");
    name.virtual_addr = JS_NewAtom(ctx, "virtualAddress");
    name.virtual_port = JS_NewAtom(ctx, "virtualPort");
    name.mark = JS_NewAtom(ctx, "mark");
}

static void set(JSValueConst object, JSAtom property, JSValue value) {
    checked(value);
    if (JS_SetProperty(ctx, object, property, value) < 0) {
        fail(thrown());
    }
}

/* A function that the module exports, or undefined. */
static JSValue exported(JSValueConst namespace, const char *called) {
    JSValue function = checked(JS_GetPropertyStr(ctx, namespace, called));
    if (!JS_IsUndefined(function) && !JS_IsFunction(ctx, function)) {
        fail("an export of the module is not a function");
    }
    return function;
}

static JSModuleDef *load_module(JSContext *of, const char *wanted, void *opaque) {
    (void)opaque;
    if (strcmp(wanted, "uvs-scheduler") == 0) {
        return uvs_host_module(of);
    }
    JS_ThrowReferenceError(of, "there is no module \"%s\": bundle what the scheduler is made of into one file", wanted);
    return NULL;
}

/* Runs the text; what is wrong with it, or NULL. */
static const char *load_script(JSValue *namespace) {
    JSValue module = JS_Eval(ctx, uvs_script, uvs_script_len, "scheduler.js", JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(module)) {
        return thrown();
    }
    JSModuleDef *definition = JS_VALUE_GET_PTR(module);
    JSValue promise = JS_EvalFunction(ctx, module);
    if (JS_IsException(promise)) {
        return thrown();
    }
    run_jobs();
    if (JS_PromiseState(ctx, promise) == JS_PROMISE_REJECTED) {
        JS_Throw(ctx, JS_PromiseResult(ctx, promise));
        return thrown();
    }
    JS_FreeValue(ctx, promise);
    *namespace = checked(JS_GetModuleNamespace(ctx, definition));
    return NULL;
}

const char *uvs_init(const char *service, const char *options) {
    JSRuntime *runtime = JS_NewRuntime();
    if (runtime == NULL) {
        abort();
    }
    JS_SetMaxStackSize(runtime, JS_STACK_BYTES);
    JS_SetModuleLoaderFunc(runtime, NULL, load_module, NULL);
    ctx = JS_NewContext(runtime);
    if (ctx == NULL) {
        abort();
    }
    uvs_host_classes(ctx);
    make_names();
    js_table = uvs_host_table(ctx);
    set(js_table, name.list, JS_NewArray(ctx));
    set(js_table, name.changed, JS_NewArray(ctx));

    JSValue namespace;
    const char *wrong = load_script(&namespace);
    if (wrong != NULL) {
        return wrong;
    }
    js_update = exported(namespace, "update");
    js_schedule = exported(namespace, "schedule");
    js_save = exported(namespace, "save");
    js_restore = exported(namespace, "restore");
    JSValue init = exported(namespace, "init");
    JS_FreeValue(ctx, namespace);
    if (JS_IsUndefined(js_schedule)) {
        return "the module exports no function \"schedule\"";
    }
    if (JS_IsUndefined(init)) {
        return options[0] == 0 ? NULL : "it takes no options";
    }
    JSValue arguments[] = {checked(JS_NewString(ctx, service)), checked(JS_NewString(ctx, options))};
    JSValue answer = JS_Call(ctx, init, JS_UNDEFINED, 2, arguments);
    const char *refusal = NULL;
    if (JS_IsException(answer)) {
        // What is thrown as a text is a sentence for the operator; an error has its trace.
        refusal = thrown();
    } else {
        run_jobs();
    }
    JS_FreeValue(ctx, arguments[0]);
    JS_FreeValue(ctx, arguments[1]);
    JS_FreeValue(ctx, answer);
    JS_FreeValue(ctx, init);
    return refusal;
}

static void set_load(JSValueConst object, const uvs_destination *destination) {
    set(object, name.active, JS_NewUint32(ctx, destination->active));
    set(object, name.inactive, JS_NewUint32(ctx, destination->inactive));
    set(object, name.available, JS_NewBool(ctx, destination->available));
    set(object, name.eligible, JS_NewBool(ctx, uvs_eligible(destination)));
}

void uvs_update(const uvs_table *table) {
    uvs_host_current = table;
    for (uint32_t at = 0; at < js_list_len; at++) {
        JS_FreeValue(ctx, uvs_host_objects[at]);
    }
    free(uvs_host_objects);
    js_list_len = table->len;
    uvs_host_objects = malloc(table->len > 0 ? table->len * sizeof *uvs_host_objects : 1);
    if (uvs_host_objects == NULL) {
        abort();
    }
    JSValue list = checked(JS_NewArray(ctx));
    for (uint32_t at = 0; at < table->len; at++) {
        const uvs_destination *destination = &table->list[at];
        JSValue object = checked(JS_NewObject(ctx));
        set(object, name.id, JS_NewUint32(ctx, destination->id));
        set(object, name.weight, JS_NewUint32(ctx, destination->weight));
        set(object, name.address, uvs_host_address(ctx, destination->address));
        set(object, name.port, JS_NewInt32(ctx, destination->port));
        set_load(object, destination);
        uvs_host_objects[at] = JS_DupValue(ctx, object);
        if (JS_SetPropertyUint32(ctx, list, at, object) < 0) {
            fail(thrown());
        }
    }
    set(js_table, name.list, list);
    set(js_table, name.changed, JS_NewArray(ctx));
    if (!JS_IsUndefined(js_update)) {
        JS_FreeValue(ctx, call(js_update, 1, &js_table));
        run_jobs();
    }
}

uint32_t uvs_schedule(const uvs_flow *from, const uvs_table *table) {
    static const char *const protocols[] = {"tcp", "udp", "sctp"};
    JSValue changed = checked(JS_NewArray(ctx));
    for (uint32_t at = 0; at < table->changed_len; at++) {
        uint32_t position = table->changed[at];
        set_load(uvs_host_objects[position], &table->list[position]);
        if (JS_SetPropertyUint32(ctx, changed, at, JS_NewUint32(ctx, position)) < 0) {
            fail(thrown());
        }
    }
    set(js_table, name.changed, changed);
    JSValue flow = checked(JS_NewObject(ctx));
    set(flow, name.protocol, JS_NewString(ctx, protocols[from->protocol]));
    set(flow, name.client, uvs_host_address(ctx, from->client));
    set(flow, name.client_port, JS_NewInt32(ctx, from->client_port));
    set(flow, name.virtual_addr, uvs_host_address(ctx, from->virtual_addr));
    set(flow, name.virtual_port, JS_NewInt32(ctx, from->virtual_port));
    set(flow, name.mark, JS_NewUint32(ctx, from->mark));

    JSValue arguments[] = {flow, js_table};
    JSValue answer = call(js_schedule, 2, arguments);
    JS_FreeValue(ctx, flow);
    run_jobs();
    if (JS_IsUndefined(answer) || JS_IsNull(answer)) {
        return UVS_NONE;
    }
    double position = -1;
    if (!JS_IsNumber(answer) || JS_ToFloat64(ctx, &position, answer) < 0 || !(position >= 0 && position < UVS_NONE) ||
        position != (double)(uint32_t)position) {
        fail("schedule answers neither a position nor undefined");
    }
    return (uint32_t)position;
}

uvs_bytes uvs_save(void) {
    uvs_bytes state = {NULL, 0};
    if (JS_IsUndefined(js_save)) {
        return state;
    }
    JSValue answer = call(js_save, 0, NULL);
    size_t len;
    const uint8_t *bytes = JS_GetUint8Array(ctx, &len, answer);
    if (bytes == NULL) {
        fail("save answers no Uint8Array");
    }
    state.data = malloc(len > 0 ? len : 1);
    if (state.data == NULL) {
        abort();
    }
    memcpy(state.data, bytes, len);
    state.len = len;
    JS_FreeValue(ctx, answer);
    return state;
}

bool uvs_restore(const uint8_t *state, size_t len) {
    if (JS_IsUndefined(js_restore)) {
        return false;
    }
    JSValue bytes = checked(JS_NewUint8ArrayCopy(ctx, state, len));
    JSValue answer = call(js_restore, 1, &bytes);
    JS_FreeValue(ctx, bytes);
    bool used = JS_ToBool(ctx, answer) == 1;
    JS_FreeValue(ctx, answer);
    return used;
}
