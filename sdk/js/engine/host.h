/* The module "uvs-scheduler" that JavaScript imports. */
#ifndef UVS_JS_HOST_H
#define UVS_JS_HOST_H

#include "quickjs.h"
#include "uvs_scheduler.h"

/* Makes the classes; first of all, once for a context. */
void uvs_host_classes(JSContext *ctx);
/* The module. */
JSModuleDef *uvs_host_module(JSContext *ctx);
/* An Address. */
JSValue uvs_host_address(JSContext *ctx, uvs_address address);
/* The director's table, and its destinations as objects, which the table's functions look at. */
extern const uvs_table *uvs_host_current;
extern JSValue *uvs_host_objects;
/* A table without destinations, which has functions only. */
JSValue uvs_host_table(JSContext *ctx);

#endif
