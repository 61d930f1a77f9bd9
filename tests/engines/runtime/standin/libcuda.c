/* The part of CUDA's driver API that the session uses, over the GPU of gpu.c, as strict as the documentation allows:
a call without a current context, a copy from memory that is not pinned, waiting during a capture fail here. */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef uint64_t CUdeviceptr;

enum { DEEPEST = 16 };

static int devices = 1, started, retains, refusing;
static long live_events, live_graphs, live_executables, calls, fail_at = -1;
static int fail_with, fail_for_good, primary;
static char failed_in[100], names[1 << 20];
static size_t names_end;
static __thread void *current[DEEPEST];
static __thread int depth;
static __thread struct touch touches[TOUCHES];
static __thread int n_touches;
static __thread struct stream *captures;

static CUresult enter(const char *name, int wants_context) {
    pthread_mutex_lock(&gpu);
    if (names_end + strlen(name) + 2 < sizeof names) names_end += sprintf(names + names_end, "%s\n", name);
    if (calls++ == fail_at) {
        snprintf(failed_in, sizeof failed_in, "%s", name);
        if (fail_for_good && retains) broken = fail_with; /* a failure for good is a context's */
        return fail_with;
    }
    if (!started) return NOT_INITIALIZED;
    if (broken) return broken;
    if (wants_context && !(depth && current[depth - 1] && retains)) return INVALID_CONTEXT;
    return SUCCESS;
}

static CUresult leave(CUresult result) {
    pthread_mutex_unlock(&gpu);
    return result;
}

#define ENTER(wants_context) \
    do { \
        CUresult entered = enter(__func__, wants_context); \
        if (entered) return leave(entered); \
    } while (0)

static CUresult forbid_capture(void) { /* what may not be called by a thread that captures */
    if (!captures) return SUCCESS;
    captures->invalidated = 1;
    return CAPTURE_UNSUPPORTED;
}

/* what tests set and ask */

void standin_devices(int n) { devices = n; }
void standin_delay(long most_us) { delay_us = most_us; }
void standin_memory(long bytes) { limit = bytes; }
void standin_allocate_on(int device) { allocating_on = device; }
void standin_refuse_capture(int refuse) { refusing = refuse; }
void standin_break(int code) { pthread_mutex_lock(&gpu), broken = code, pthread_mutex_unlock(&gpu); }
const char *standin_failed_in(void) { return failed_in; }
const char *standin_calls(void) { return names; }
long standin_races(void) { return races; }
long standin_faults(void) { return faults; }

void standin_fail(long nth, int code, int for_good) {
    calls = 0, fail_at = nth, fail_with = code, fail_for_good = for_good, failed_in[0] = 0, names_end = 0, names[0] = 0;
}

long standin_live(int kind) { /* bytes, bytes, streams, events, graphs, executables, contexts */
    long live[] = {live_memory(DEVICE_MEMORY), live_memory(HOST_MEMORY), live_streams, live_events,
                   live_graphs, live_executables, retains};
    return live[kind];
}

static void end_of_context(void) { live_streams = live_events = live_graphs = live_executables = 0; }
void standin_settle(void) { end_of_context(), depth = 0; }

void standin_touch(uint64_t address, size_t size, int write) { /* what the next cuLaunchHostFunc of this thread uses */
    if (n_touches == TOUCHES) abort();
    touches[n_touches++] = (struct touch){address, size, write};
}

/* driver and device */

CUresult cuInit(unsigned int flags) {
    started = 1;
    ENTER(0);
    if (!devices) started = 0;
    return leave(flags ? INVALID_VALUE : devices ? SUCCESS : NO_DEVICE);
}

CUresult cuDriverGetVersion(int *version) {
    ENTER(0);
    return *version = 12060, leave(SUCCESS);
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == NO_DEVICE ? "no CUDA-capable device is detected"
          : error == INVALID_CONTEXT ? "invalid device context" : error == INVALID_VALUE ? "invalid argument"
          : error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
          : error == CAPTURE_UNSUPPORTED ? "operation not permitted when stream is capturing"
          : error == CAPTURE_INVALIDATED ? "operation failed due to a previous error during capture" : NULL;
    return *text ? SUCCESS : INVALID_VALUE;
}

CUresult cuDeviceGetCount(int *count) {
    ENTER(0);
    return *count = devices, leave(SUCCESS);
}

CUresult cuDeviceGet(int *device, int ordinal) {
    ENTER(0);
    if (ordinal < 0 || ordinal >= devices) return leave(INVALID_DEVICE);
    return *device = ordinal, leave(SUCCESS);
}

CUresult cuDeviceGetName(char *name, int size, int device) {
    ENTER(0);
    return snprintf(name, size, "GPU of threads %d", device), leave(SUCCESS);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) {
    ENTER(0);
    return *bytes = limit, leave(device < devices ? SUCCESS : INVALID_DEVICE);
}

CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER(0);
    if (attribute != 75 && attribute != 76) return leave(INVALID_VALUE);
    return *value = attribute == 75 ? 8 : 6, leave(device < devices ? SUCCESS : INVALID_DEVICE);
}

CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER(0);
    return ++retains, *context = &primary, leave(device < devices ? SUCCESS : INVALID_DEVICE);
}

CUresult cuDevicePrimaryCtxRelease_v2(int device) {
    CUresult entered = enter(__func__, 0);
    if (entered && entered != broken) return leave(entered);
    if (!retains || device >= devices) return leave(INVALID_CONTEXT);
    if (!--retains) { /* ends with all that is in it */
        long memory = live_memory(DEVICE_MEMORY) + live_memory(HOST_MEMORY);
        if (memory && !broken && !failed_in[0]) complain(&faults, "%ld bytes were not given back; ", memory);
        streams_end();
        release_all();
        if (broken) end_of_context();
        broken = 0;
    }
    return leave(SUCCESS);
}

CUresult cuCtxPushCurrent_v2(void *context) {
    CUresult entered = enter(__func__, 0);
    if (entered && entered != broken) return leave(entered);
    if (context != &primary || !retains || depth == DEEPEST) return leave(INVALID_CONTEXT);
    return current[depth++] = context, leave(SUCCESS);
}

CUresult cuCtxPopCurrent_v2(void **context) {
    CUresult entered = enter(__func__, 0);
    if (entered && entered != broken) return leave(entered);
    if (!depth) return leave(INVALID_CONTEXT);
    return *context = current[--depth], leave(SUCCESS);
}

/* memory */

CUresult cuMemGetInfo_v2(size_t *free_, size_t *total) {
    ENTER(1);
    return *total = limit, *free_ = limit - live_memory(DEVICE_MEMORY), leave(SUCCESS);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    ENTER(1);
    CUresult captured = forbid_capture();
    return leave(captured ? captured : allocate(DEVICE_MEMORY, size, address));
}

CUresult cuMemFree_v2(CUdeviceptr address) {
    ENTER(1);
    return leave(release(DEVICE_MEMORY, address));
}

CUresult cuMemHostAlloc(void **pointer, size_t size, unsigned int flags) {
    ENTER(1);
    CUresult captured = forbid_capture();
    if (flags & ~7u) return leave(INVALID_VALUE);
    return leave(captured ? captured : allocate(HOST_MEMORY, size, (uint64_t *)pointer));
}

CUresult cuMemFreeHost(void *pointer) {
    ENTER(1);
    return leave(release(HOST_MEMORY, (uint64_t)pointer));
}

CUresult cuPointerGetAttribute(void *value, int attribute, CUdeviceptr address) {
    ENTER(0);
    struct allocation *found = find_any(address);
    if (!found || (attribute != 2 && attribute != 9)) return leave(INVALID_VALUE);
    return *(int *)value = attribute == 9 ? found->device : found->kind == DEVICE_MEMORY ? 2 : 1, leave(SUCCESS);
}

static CUresult copy(uint64_t to, enum memory_kind to_kind, uint64_t from, enum memory_kind from_kind, size_t size, void *stream) {
    struct stream *in = stream_of(stream);
    struct allocation *target = find(to, size), *source = find(from, size);
    if (!in) return INVALID_HANDLE;
    if (!target || !source || target->kind != to_kind || source->kind != from_kind) {
        complain(&faults, "a copy of %zu bytes beyond its memory, or from or to memory that is not pinned; ", size);
        return INVALID_VALUE;
    }
    return put(in, &(struct op){.kind = COPY, .to = to, .from = from, .size = size});
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, void *stream) {
    ENTER(1);
    return leave(copy(to, DEVICE_MEMORY, (uint64_t)from, HOST_MEMORY, size, stream));
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, void *stream) {
    ENTER(1);
    return leave(copy((uint64_t)to, HOST_MEMORY, from, DEVICE_MEMORY, size, stream));
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, void *stream) {
    ENTER(1);
    return leave(copy(to, DEVICE_MEMORY, from, DEVICE_MEMORY, size, stream));
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, void *stream) {
    ENTER(1);
    struct stream *in = stream_of(stream);
    return leave(in ? put(in, &(struct op){.kind = FILL, .to = to, .size = size, .value = value}) : INVALID_HANDLE);
}

/* streams and events */

CUresult cuStreamCreate(void **stream, unsigned int flags) {
    ENTER(1);
    if (flags > 1) return leave(INVALID_VALUE);
    return ++live_streams, *stream = stream_open(), leave(SUCCESS);
}

CUresult cuStreamDestroy_v2(void *stream) {
    ENTER(1);
    struct stream *one = stream_of(stream);
    if (!one) return leave(INVALID_HANDLE);
    return --live_streams, stream_close(one), leave(SUCCESS);
}

CUresult cuStreamSynchronize(void *stream) {
    ENTER(1);
    struct stream *one = stream_of(stream);
    if (!one) return leave(INVALID_HANDLE);
    if (one->capturing) return one->invalidated = 1, leave(CAPTURE_UNSUPPORTED);
    while (!stream_idle(one)) pthread_cond_wait(&changed, &gpu);
    merge(&host, &one->seen);
    return leave(broken);
}

CUresult cuStreamWaitEvent(void *stream, void *event, unsigned int flags) {
    ENTER(1);
    struct stream *in = stream_of(stream);
    return leave(flags ? INVALID_VALUE : in ? put(in, &(struct op){.kind = WAIT, .event = event}) : INVALID_HANDLE);
}

CUresult cuEventCreate(void **event, unsigned int flags) {
    ENTER(1);
    if (flags & ~7u) return leave(INVALID_VALUE);
    return ++live_events, *event = calloc(1, sizeof(struct event)), leave(SUCCESS);
}

CUresult cuEventRecord(void *event, void *stream) {
    ENTER(1);
    struct stream *in = stream_of(stream);
    return leave(in ? put(in, &(struct op){.kind = RECORD, .event = event}) : INVALID_HANDLE);
}

CUresult cuEventSynchronize(void *event_) {
    ENTER(1);
    struct event *event = event_;
    long generation = event->recorded;
    struct clock seen = event->seen;
    while (event->completed < generation) pthread_cond_wait(&changed, &gpu);
    merge(&host, &seen);
    return leave(broken);
}

CUresult cuEventDestroy_v2(void *event_) {
    ENTER(1);
    struct event *event = event_;
    --live_events, event->destroyed = 1;
    if (!event->waiting) free(event);
    return leave(SUCCESS);
}

CUresult cuLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    struct op op = {.kind = CALL, .function = function, .data = data, .n_touches = n_touches};
    memcpy(op.touches, touches, sizeof touches);
    n_touches = 0;
    ENTER(1);
    struct stream *in = stream_of(stream);
    return leave(in ? put(in, &op) : INVALID_HANDLE);
}

/* graphs */

CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
    ENTER(1);
    struct stream *in = stream_of(stream);
    if (!in || in->capturing || (uintptr_t)stream <= 1) return leave(INVALID_HANDLE);
    if (mode != 1) complain(&faults, "captured in another mode than the thread's own; ");
    if (refusing) return leave(CAPTURE_UNSUPPORTED);
    in->capturing = calloc(1, sizeof(struct graph)), in->capturer = pthread_self(), in->invalidated = 0, captures = in;
    return leave(SUCCESS);
}

CUresult cuStreamEndCapture(void *stream, void **graph) {
    CUresult entered = enter(__func__, 1); /* whatever it returns, the capture has ended */
    struct stream *in = stream_of(stream);
    *graph = NULL;
    if (in && in->capturing && entered) {
        graph_free(in->capturing), in->capturing = NULL, captures = NULL;
        return leave(entered);
    }
    if (!in || !in->capturing) return leave(INVALID_VALUE);
    if (!pthread_equal(in->capturer, pthread_self())) return leave(CAPTURE_WRONG_THREAD);
    captures = NULL;
    if (in->invalidated) {
        graph_free(in->capturing), in->capturing = NULL;
        return leave(CAPTURE_INVALIDATED);
    }
    return ++live_graphs, *graph = in->capturing, in->capturing = NULL, leave(SUCCESS);
}

CUresult cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    ENTER(1);
    if (flags) return leave(INVALID_VALUE);
    return ++live_executables, *executable = graph_copy(graph), leave(SUCCESS);
}

CUresult cuGraphLaunch(void *executable, void *stream) {
    ENTER(1);
    struct stream *in = stream_of(stream);
    if (in) launch(in, executable);
    return leave(in ? broken : INVALID_HANDLE);
}

CUresult cuGraphDestroy(void *graph) {
    ENTER(1);
    return --live_graphs, graph_free(graph), leave(SUCCESS);
}

CUresult cuGraphExecDestroy(void *executable) {
    ENTER(1);
    return --live_executables, graph_free(executable), leave(SUCCESS);
}
