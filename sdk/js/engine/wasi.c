/* QuickJS and the C library may refer to WASI, and a scheduler is given none: what they ask for is answered here.
 *
 * There is no stream, no environment and no argument, and the clock is the director's. */

#include <stdint.h>

#include "uvs_scheduler.h"

#define WASI(function) __imported_wasi_snapshot_preview1_##function
/* "Bad file descriptor" and "no such capability" of WASI. */
#define BADF 8
#define NOTCAPABLE 76

int32_t WASI(clock_time_get)(int32_t clock, int64_t precision, int32_t result) {
    (void)clock;
    (void)precision;
    *(uint64_t *)result = uvs_now_ms() * 1000000;
    return 0;
}

int32_t WASI(fd_close)(int32_t fd) {
    (void)fd;
    return BADF;
}

int32_t WASI(fd_fdstat_get)(int32_t fd, int32_t result) {
    (void)fd;
    (void)result;
    return BADF;
}

int32_t WASI(fd_seek)(int32_t fd, int64_t offset, int32_t whence, int32_t result) {
    (void)fd;
    (void)offset;
    (void)whence;
    (void)result;
    return BADF;
}

int32_t WASI(fd_write)(int32_t fd, int32_t buffers, int32_t count, int32_t result) {
    (void)fd;
    (void)buffers;
    (void)count;
    (void)result;
    return BADF;
}

_Noreturn void WASI(proc_exit)(int32_t status) {
    (void)status;
    __builtin_trap();
}
