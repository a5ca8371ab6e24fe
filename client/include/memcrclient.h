/* libmemcrclient.so: asks a memcr daemon to put processes to sleep and to wake them. Link with -lmemcrclient.
 *
 * The first four functions, memcr_client_*, are those of the original memcr. The others are newer: they say why
 * something failed, and what was done. doc/c-library.md has an example of both.
 *
 * Made by cbindgen from client/src/c_interface: change the comments there. */

#ifndef MEMCRCLIENT_H
#define MEMCRCLIENT_H

#include <stdint.h>

/**
 * Outcome of a function. Numbers and names stay as they are; later versions may have more of them.
 */
enum memcr_code
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    MEMCR_CODE_OK = 0,
    /**
     * Daemon and library don't understand each other.
     */
    MEMCR_CODE_PROTOCOL = 1,
    /**
     * The daemon's policy denies it.
     */
    MEMCR_CODE_DENIED = 2,
    /**
     * There is no such process.
     */
    MEMCR_CODE_NO_SUCH_PROCESS = 3,
    /**
     * The process is asleep already.
     */
    MEMCR_CODE_ALREADY_ASLEEP = 4,
    /**
     * The process is not asleep.
     */
    MEMCR_CODE_NOT_ASLEEP = 5,
    /**
     * Another operation on the same process is under way.
     */
    MEMCR_CODE_BUSY = 6,
    /**
     * The process is in a state in which this can't be done safely.
     */
    MEMCR_CODE_TARGET_REFUSED = 7,
    /**
     * The image could not be written; the process runs on unharmed.
     */
    MEMCR_CODE_STORAGE = 8,
    /**
     * It took too long; undone.
     */
    MEMCR_CODE_TIMEOUT = 9,
    /**
     * It was called off by another request; undone.
     */
    MEMCR_CODE_ABORTED = 10,
    /**
     * The process is gone: it died by itself, or its image could not be read back.
     */
    MEMCR_CODE_TARGET_LOST = 11,
    /**
     * The system, this version or this protocol lacks something that is needed.
     */
    MEMCR_CODE_UNSUPPORTED = 12,
    /**
     * A limit of the daemon was reached.
     */
    MEMCR_CODE_LIMIT = 13,
    /**
     * A fault of memcr itself; undone.
     */
    MEMCR_CODE_INTERNAL = 14,
    /**
     * There is too little memory to give the process's back; it sleeps on.
     */
    MEMCR_CODE_OUT_OF_MEMORY = 15,
    /**
     * A null pointer, a structure of an impossible size, a location that can be none.
     */
    MEMCR_CODE_INVALID_ARGUMENT = 100,
    /**
     * Nobody listens at that location, or it may not be connected to.
     */
    MEMCR_CODE_NOT_CONNECTED = 101,
    /**
     * The connection broke: it isn't known whether the request was done.
     */
    MEMCR_CODE_DISCONNECTED = 102,
    /**
     * The daemon said nothing for too long: it isn't known whether the request was done.
     */
    MEMCR_CODE_SILENT = 103,
    /**
     * Not done; over TCP the daemon doesn't say why.
     */
    MEMCR_CODE_NOT_DONE = 104,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum memcr_code memcr_code;
#else
typedef int32_t memcr_code;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How the memory in an image is compressed.
 */
enum memcr_compression
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * As the daemon does by default.
     */
    MEMCR_COMPRESSION_DEFAULT = 0,
    /**
     * Not at all.
     */
    MEMCR_COMPRESSION_NONE = 1,
    /**
     * LZ4: fast.
     */
    MEMCR_COMPRESSION_LZ4 = 2,
    /**
     * Zstandard: smaller.
     */
    MEMCR_COMPRESSION_ZSTD = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum memcr_compression memcr_compression;
#else
typedef int32_t memcr_compression;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What is going on with a process.
 */
enum memcr_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It runs; nothing is known of it.
     */
    MEMCR_STATE_RUNNING = 0,
    /**
     * Its threads are being frozen.
     */
    MEMCR_STATE_ATTACHING = 1,
    /**
     * Its memory is being written.
     */
    MEMCR_STATE_DUMPING = 2,
    /**
     * It sleeps.
     */
    MEMCR_STATE_ASLEEP = 3,
    /**
     * Its memory is being put back.
     */
    MEMCR_STATE_RESTORING = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum memcr_state memcr_state;
#else
typedef int32_t memcr_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What happens to a sleeping process should memcr's processes be killed.
 */
enum memcr_guard
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It isn't known: nothing was reported.
     */
    MEMCR_GUARD_UNKNOWN = 0,
    /**
     * It waits for its memory.
     */
    MEMCR_GUARD_FULL = 1,
    /**
     * It dies rather than run on wrong memory.
     */
    MEMCR_GUARD_EXIT_KILL = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum memcr_guard memcr_guard;
#else
typedef int32_t memcr_guard;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A connection to a daemon. One thread uses it at a time; several connections may be used at the same time.
 */
typedef struct memcr_connection memcr_connection;

/**
 * How to put a process to sleep. A member that is zero means: as the daemon does by default.
 */
typedef struct memcr_checkpoint_options {
    /**
     * sizeof(memcr_checkpoint_options).
     */
    uint32_t size;
    /**
     * How the image is compressed: one of enum memcr_compression.
     */
    int32_t compression;
    /**
     * One of the daemon's image directories, as it was given to the daemon; its first if NULL.
     */
    const char *directory;
} memcr_checkpoint_options;

/**
 * A process that was put to sleep. Sizes are bytes, times are microseconds. Over TCP nothing is reported: all
 * is zero.
 */
typedef struct memcr_sleep_result {
    /**
     * sizeof(memcr_sleep_result); to be set before the call.
     */
    uint32_t size;
    /**
     * Threads frozen.
     */
    uint32_t threads;
    /**
     * One of enum memcr_guard.
     */
    int32_t guard;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Anonymous resident memory before.
     */
    uint64_t rss_before;
    /**
     * Anonymous resident memory asleep.
     */
    uint64_t rss_asleep;
    /**
     * Memory taken away, pages of zeros included.
     */
    uint64_t dumped;
    /**
     * Memory taken away that was all zero and takes no bytes of the image.
     */
    uint64_t zero;
    /**
     * Pages taken away.
     */
    uint64_t pages;
    /**
     * Size of the image.
     */
    uint64_t image;
    /**
     * Memory of mapped files that was dropped besides; it comes back from the files.
     */
    uint64_t file_dropped;
    /**
     * From the request to all threads frozen.
     */
    uint64_t attach_micros;
    /**
     * Writing the image.
     */
    uint64_t dump_micros;
    /**
     * Guarding and freeing the pages.
     */
    uint64_t free_micros;
    /**
     * MD5 of the memory in hexadecimal; empty unless the daemon makes checksums.
     */
    char checksum[40];
} memcr_sleep_result;

/**
 * A process that was woken. Sizes are bytes, times are microseconds. Over TCP nothing is reported: all is zero.
 */
typedef struct memcr_wake_result {
    /**
     * sizeof(memcr_wake_result); to be set before the call.
     */
    uint32_t size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Memory given back, pages of zeros included.
     */
    uint64_t restored;
    /**
     * Pages given back.
     */
    uint64_t pages;
    /**
     * Anonymous resident memory after.
     */
    uint64_t rss_after;
    /**
     * From the order to the process running on.
     */
    uint64_t restore_micros;
    /**
     * MD5 of the memory in hexadecimal, which was compared before any of it was given back; empty if the
     * image has none.
     */
    char checksum[40];
} memcr_wake_result;

/**
 * The state of a process.
 */
typedef struct memcr_status_result {
    /**
     * sizeof(memcr_status_result); to be set before the call.
     */
    uint32_t size;
    /**
     * One of enum memcr_state.
     */
    int32_t state;
    /**
     * Its number for the daemon.
     */
    int32_t pid;
    /**
     * Its effective user id.
     */
    uint32_t uid;
    /**
     * Seconds since this state began.
     */
    uint64_t since_seconds;
} memcr_status_result;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Connects to a daemon. `location` is the path of its UNIX socket (`/tmp/memcrcom`), a TCP port of this
 * machine (`9000`), or an address with a port (`127.0.0.1:12345`, `[::1]:9000`).
 *
 * Gives the descriptor of the connected socket, or -1. It belongs to this library: end it by
 * memcr_client_disconnect(). If the daemon closes the connection between two requests, the next one
 * connects anew under the same descriptor.
 *
 * Several threads may use different descriptors at the same time; requests on one descriptor wait for each
 * other.
 */
int memcr_client_connect(const char *location);

/**
 * Ends a connection. What was put to sleep sleeps on. Other descriptors are left alone.
 */
void memcr_client_disconnect(int cd);

/**
 * Puts the process that has this number for the caller to sleep: frees its memory until it is woken. Returns
 * when it sleeps, or if the daemon says nothing for a minute.
 *
 * Gives 0 on success, -2 if the process is asleep already, -1 for any other error: the descriptor is none of
 * memcr_client_connect(), there is no such process, the daemon refuses or fails.
 */
int memcr_client_checkpoint(int cd, unsigned int pid);

/**
 * Wakes a process. Returns when it runs, or if the daemon says nothing for a minute.
 *
 * Gives 0 on success, -2 if the process is not asleep, -1 for any other error.
 */
int memcr_client_restore(int cd, unsigned int pid);

/**
 * Connects to a daemon. `location` is the path of its UNIX socket, a TCP port of this machine (`9000`), or an
 * address with a port (`127.0.0.1:12345`, `[::1]:9000`). `patience_seconds` is how long the daemon may say
 * nothing, now and in later requests; 0 means a minute.
 *
 * `*connection` is set also when this fails, so that memcr_error_message() can tell why, and a later request can
 * try again; it is NULL only if `location` is. End it by memcr_close() in any case.
 */
memcr_code memcr_open(const char *location,
                      uint32_t patience_seconds,
                      struct memcr_connection **connection);

/**
 * Ends a connection and frees what belongs to it; NULL is allowed. What was put to sleep sleeps on.
 */
void memcr_close(struct memcr_connection *connection);

/**
 * Puts the process that has this number for the caller to sleep: frees its memory until it is woken. Returns
 * when it sleeps.
 *
 * `options` may be NULL: as the daemon does by default. `result` may be NULL; else its size must be set, and the
 * rest is filled in on success. After a failure the process runs on, unless the code is
 * MEMCR_CODE_ALREADY_ASLEEP or MEMCR_CODE_TARGET_LOST; with MEMCR_CODE_DISCONNECTED, MEMCR_CODE_SILENT and
 * MEMCR_CODE_NOT_DONE it isn't known.
 */
memcr_code memcr_checkpoint(struct memcr_connection *connection,
                            int pid,
                            const struct memcr_checkpoint_options *options,
                            struct memcr_sleep_result *result);

/**
 * Wakes a process. Returns when it runs.
 *
 * `result` may be NULL; else its size must be set, and the rest is filled in on success. After a failure a
 * process that slept sleeps on, unless the code is MEMCR_CODE_TARGET_LOST; with MEMCR_CODE_DISCONNECTED,
 * MEMCR_CODE_SILENT and MEMCR_CODE_NOT_DONE it isn't known.
 */
memcr_code memcr_restore(struct memcr_connection *connection, int pid, struct memcr_wake_result *result);

/**
 * The state of a process. Not over TCP, where the original's protocol has no such request:
 * MEMCR_CODE_UNSUPPORTED.
 *
 * `result` and `sleep` may be NULL; else their sizes must be set, and the rest is filled in on success. `sleep`
 * is all zero unless the process sleeps.
 */
memcr_code memcr_status(struct memcr_connection *connection,
                        int pid,
                        struct memcr_status_result *result,
                        struct memcr_sleep_result *sleep);

/**
 * Why the last function failed on this connection: one sentence for people, empty if it didn't fail. Never NULL.
 * Valid until the next function on this connection.
 */
const char *memcr_error_message(const struct memcr_connection *connection);

/**
 * The name of a code, as in logs: "already-asleep", say; "unknown" for a number that is none. It lasts as long as
 * the program.
 */
const char *memcr_code_name(int32_t code);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MEMCRCLIENT_H */
