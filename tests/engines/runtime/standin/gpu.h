/* A GPU made of threads, so that code which drives one can be tested without one; see gpu.c and libcuda.c. */
#ifndef GPU_H
#define GPU_H
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
       INVALID_CONTEXT = 201, INVALID_HANDLE = 400, ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900,
       CAPTURE_INVALIDATED = 901, CAPTURE_ISOLATION = 905, CAPTURE_WRONG_THREAD = 908 };

enum { STREAMS = 96, HOST = 0, TOUCHES = 32 };  /* clocks: the host's is number 0 */

struct clock { long at[STREAMS]; };

enum memory_kind { DEVICE_MEMORY, HOST_MEMORY };

struct allocation {
    struct allocation *next;
    enum memory_kind kind;
    int device;
    uint64_t address;     /* what the caller sees: of device memory no address that the host could follow */
    unsigned char *real;  /* where its bytes are */
    size_t size;
    int writer;           /* the clock that wrote last, and when; when each read last */
    long written;
    long read[STREAMS];
};

struct touch { uint64_t address; size_t size; int write; };

struct event { struct clock seen; long recorded, completed; int waiting, destroyed; };

enum op_kind { COPY, FILL, RECORD, WAIT, CALL };

struct op {
    struct op *next;
    enum op_kind kind;
    uint64_t to, from;
    size_t size;
    int value;
    struct event *event;
    long generation;
    void (*function)(void *);
    void *data;
    struct touch touches[TOUCHES];
    int n_touches;
};

struct graph { struct op *first; int launched_in; long launched; };

struct stream {
    struct stream *next;
    pthread_t thread;
    struct op *first;
    struct clock seen;
    int number, busy, closing, detached;
    unsigned random;
    struct graph *capturing;
    pthread_t capturer;
    int invalidated;
};

extern pthread_mutex_t gpu;    /* held for everything below */
extern pthread_cond_t changed;
extern int broken;             /* a failure that stays: every call returns it */
extern long limit, races, faults;
extern int allocating_on;

void complain(long *counter, const char *format, ...);
struct allocation *find(uint64_t address, size_t size);
struct allocation *find_any(uint64_t address);
int allocate(enum memory_kind kind, size_t size, uint64_t *address);
int release(enum memory_kind kind, uint64_t address);
void release_all(void);
long live_memory(enum memory_kind kind);

struct stream *stream_open(void);
struct stream *stream_of(void *handle);
void stream_close(struct stream *stream);
void streams_end(void);
int stream_idle(const struct stream *stream);
void merge(struct clock *into, const struct clock *from);
int put(struct stream *stream, const struct op *op);
void launch(struct stream *stream, struct graph *graph);
struct graph *graph_copy(const struct graph *graph);
void graph_free(struct graph *graph);
extern struct clock host;
extern long delay_us, live_streams;
#endif
