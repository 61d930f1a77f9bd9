/* A GPU made of threads: streams do their work later, beside each other, in an order that only events decide.

Device memory has addresses that the host cannot follow, with guard bytes on both sides, full of NaNs when it is taken.
Races are found without waiting for them to happen: every piece of work carries a vector clock (what it is ordered
behind, by its stream, by events and by the host's waiting), and one that touches memory without being ordered behind
who touched it before is a race, however the threads happen to run. The host counts as one thread. */
#include "gpu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAR 0x4000000000000000ull /* added to device addresses: no pointer of the host's */
#define GUARD 256
#define GUARD_BYTE 0xC5
#define FRESH_BYTE 0xFF /* a NaN in half and in single precision */

pthread_mutex_t gpu = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
int broken, allocating_on;
long limit = 1l << 40, races, faults, delay_us, live_streams;
struct clock host;

static struct allocation *allocations;
static struct stream *streams, *legacy, *per_thread;
static int numbers[STREAMS] = {1};
static long at[STREAMS];
static char said[2000];

void complain(long *counter, const char *format, ...) {
    va_list list;
    size_t used = strlen(said);
    ++*counter;
    va_start(list, format);
    vsnprintf(said + used, sizeof said - used, format, list);
    va_end(list);
}

const char *standin_said(void) { return said; }
void standin_forget(void) { said[0] = 0, races = faults = 0; }

/* memory */

struct allocation *find_any(uint64_t address) {
    for (struct allocation *each = allocations; each; each = each->next)
        if (address >= each->address && address < each->address + each->size) return each;
    return NULL;
}

struct allocation *find(uint64_t address, size_t size) {
    struct allocation *found = find_any(address);
    return found && address + size <= found->address + found->size ? found : NULL;
}

int allocate(enum memory_kind kind, size_t size, uint64_t *address) {
    struct allocation *new;
    if (!size) return INVALID_VALUE;
    if (live_memory(kind) + (long)size > limit) return OUT_OF_MEMORY;
    new = calloc(1, sizeof *new);
    if (posix_memalign((void **)&new->real, GUARD, size + 2 * GUARD)) abort();
    memset(new->real, GUARD_BYTE, size + 2 * GUARD);
    memset(new->real += GUARD, FRESH_BYTE, size);
    new->kind = kind, new->size = size, new->device = allocating_on;
    new->address = *address = (uint64_t)new->real + (kind == DEVICE_MEMORY ? FAR : 0);
    new->next = allocations, allocations = new;
    return SUCCESS;
}

static void check_free(struct allocation *one) {
    for (size_t i = 0; i < GUARD; ++i)
        if (one->real[-1 - (long)i] != GUARD_BYTE || one->real[one->size + i] != GUARD_BYTE) {
            complain(&faults, "bytes beside an allocation of %zu were written; ", one->size);
            break;
        }
    for (int i = 1; i < STREAMS; ++i)
        if (one->read[i] > host.at[i] || (one->writer == i && one->written > host.at[i]))
            complain(&races, "%zu bytes were freed while stream %d may use them; ", one->size, i);
}

static void drop(struct allocation **at_) {
    struct allocation *one = *at_;
    *at_ = one->next;
    memset(one->real, GUARD_BYTE, one->size);
    free(one->real - GUARD);
    free(one);
}

int release(enum memory_kind kind, uint64_t address) {
    for (struct allocation **each = &allocations; *each; each = &(*each)->next)
        if ((*each)->address == address && (*each)->kind == kind) {
            check_free(*each);
            drop(each);
            return SUCCESS;
        }
    complain(&faults, "freed what is not there; ");
    return INVALID_VALUE;
}

void release_all(void) {
    while (allocations) drop(&allocations);
}

long live_memory(enum memory_kind kind) {
    long bytes = 0;
    for (struct allocation *each = allocations; each; each = each->next) bytes += each->kind == kind ? each->size : 0;
    return bytes;
}

void *standin_real(uint64_t address, size_t size) { /* for who computes in a stream's place */
    pthread_mutex_lock(&gpu);
    struct allocation *found = find(address, size);
    void *real = found ? found->real + (address - found->address) : NULL;
    if (!real) complain(&faults, "%zu bytes are used that were not taken; ", size);
    pthread_mutex_unlock(&gpu);
    return real;
}

/* what is ordered behind what */

void merge(struct clock *into, const struct clock *from) {
    for (int i = 0; i < STREAMS; ++i)
        if (from->at[i] > into->at[i]) into->at[i] = from->at[i];
}

static int touch(struct stream *stream, uint64_t address, size_t size, int write) {
    struct allocation *one = find(address, size);
    if (!one) {
        complain(&faults, "stream %d is to %s %zu bytes that were not taken; ", stream->number, write ? "write" : "read", size);
        return ILLEGAL_ADDRESS;
    }
    if (one->written > stream->seen.at[one->writer])
        complain(&races, "stream %d %s %zu bytes beside stream %d, which writes them; ", stream->number,
                 write ? "writes" : "reads", one->size, one->writer);
    for (int i = 1; write && i < STREAMS; ++i)
        if (one->read[i] > stream->seen.at[i])
            complain(&races, "stream %d writes %zu bytes beside stream %d, which reads them; ", stream->number, one->size, i);
    if (write) one->writer = stream->number, one->written = stream->seen.at[stream->number];
    else one->read[stream->number] = stream->seen.at[stream->number];
    return SUCCESS;
}

static int order(struct stream *stream, struct op *op) {
    int result = SUCCESS;
    merge(&stream->seen, &host);
    stream->seen.at[stream->number] = ++at[stream->number];
    if (op->kind == COPY && (result = touch(stream, op->from, op->size, 0))) return result;
    if ((op->kind == COPY || op->kind == FILL) && (result = touch(stream, op->to, op->size, 1))) return result;
    for (int i = 0; i < op->n_touches && !result; ++i)
        result = touch(stream, op->touches[i].address, op->touches[i].size, op->touches[i].write);
    if (op->kind == RECORD) op->event->seen = stream->seen, op->generation = ++op->event->recorded;
    if (op->kind == WAIT) op->generation = op->event->recorded, merge(&stream->seen, &op->event->seen);
    if (op->event) ++op->event->waiting;
    return result;
}

/* streams */

static void append(struct op **list, struct op *op) {
    while (*list) list = &(*list)->next;
    op->next = NULL, *list = op;
}

static struct op *copied(const struct op *op) {
    struct op *new = malloc(sizeof *new);
    *new = *op;
    return new;
}

int put(struct stream *stream, const struct op *op) {
    struct op *new;
    int result;
    if (stream->capturing) {
        if (op->kind == WAIT || op->kind == RECORD) return stream->invalidated = 1, CAPTURE_ISOLATION;
        append(&stream->capturing->first, copied(op));
        return SUCCESS;
    }
    new = copied(op);
    if ((result = order(stream, new))) return free(new), result;
    append(&stream->first, new);
    pthread_cond_broadcast(&changed);
    return SUCCESS;
}

static void perform(struct op *op) {
    struct allocation *to, *from;
    pthread_mutex_lock(&gpu);
    to = op->kind == COPY || op->kind == FILL ? find(op->to, op->size) : NULL;
    from = op->kind == COPY ? find(op->from, op->size) : NULL;
    if (broken || ((op->kind == COPY || op->kind == FILL) && !to) || (op->kind == COPY && !from)) {
        if (!broken) complain(&faults, "what a stream was to use is gone; "), broken = ILLEGAL_ADDRESS;
        pthread_mutex_unlock(&gpu);
        return;
    }
    pthread_mutex_unlock(&gpu);
    if (op->kind == COPY) memcpy(to->real + (op->to - to->address), from->real + (op->from - from->address), op->size);
    if (op->kind == FILL) memset(to->real + (op->to - to->address), op->value, op->size);
    if (op->kind == CALL) op->function(op->data);
}

static void *work(void *given) {
    struct stream *stream = given;
    pthread_mutex_lock(&gpu);
    for (;;) {
        while (!stream->first && !stream->closing) pthread_cond_wait(&changed, &gpu);
        if (!stream->first) break;
        struct op *op = stream->first;
        stream->first = op->next, stream->busy = 1;
        while (op->kind == WAIT && op->event->completed < op->generation) pthread_cond_wait(&changed, &gpu);
        long pause = delay_us ? rand_r(&stream->random) % (delay_us + 1) : 0;
        pthread_mutex_unlock(&gpu);
        if (pause) usleep(pause);
        perform(op);
        pthread_mutex_lock(&gpu);
        if (op->kind == RECORD && op->event->completed < op->generation) op->event->completed = op->generation;
        if (op->event && !--op->event->waiting && op->event->destroyed) free(op->event);
        free(op);
        stream->busy = 0;
        pthread_cond_broadcast(&changed);
    }
    numbers[stream->number] = 0;
    stream->detached = 2;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&gpu);
    return NULL;
}

struct stream *stream_open(void) {
    struct stream *new = calloc(1, sizeof *new);
    while (new->number < STREAMS && numbers[new->number]) ++new->number;
    if (new->number == STREAMS) abort();
    numbers[new->number] = 1;
    new->seen.at[new->number] = at[new->number];
    new->random = 12345 + new->number;
    new->next = streams, streams = new;
    if (pthread_create(&new->thread, NULL, work, new)) abort();
    return new;
}

struct stream *stream_of(void *handle) {
    if ((uintptr_t)handle <= 1) return legacy ? legacy : (legacy = stream_open());
    if ((uintptr_t)handle == 2) return per_thread ? per_thread : (per_thread = stream_open());
    for (struct stream *each = streams; each; each = each->next)
        if (each == handle && !each->closing) return each;
    complain(&faults, "a stream that is not there; ");
    return NULL;
}

int stream_idle(const struct stream *stream) { return !stream->first && !stream->busy; }

void stream_close(struct stream *stream) { /* what is in it is still done */
    stream->closing = 1;
    pthread_cond_broadcast(&changed);
}

void streams_end(void) {
    for (struct stream *each = streams; each; each = each->next) stream_close(each);
    while (streams) {
        struct stream *one = streams;
        streams = one->next;
        while (one->detached != 2) pthread_cond_wait(&changed, &gpu);
        pthread_mutex_unlock(&gpu);
        pthread_join(one->thread, NULL);
        pthread_mutex_lock(&gpu);
        free(one);
    }
    legacy = per_thread = NULL;
}

void launch(struct stream *stream, struct graph *graph) {
    for (struct op *each = graph->first; each; each = each->next) {
        int result = put(stream, each);
        if (result && !broken) broken = result;
    }
    graph->launched_in = stream->number, graph->launched = at[stream->number];
}

struct graph *graph_copy(const struct graph *graph) {
    struct graph *new = calloc(1, sizeof *new);
    for (struct op *each = graph->first; each; each = each->next) append(&new->first, copied(each));
    return new;
}

void graph_free(struct graph *graph) {
    if (graph->launched > host.at[graph->launched_in] && !broken)
        complain(&races, "a graph was destroyed that stream %d may be doing; ", graph->launched_in);
    while (graph->first) {
        struct op *one = graph->first;
        graph->first = one->next;
        free(one);
    }
    free(graph);
}
