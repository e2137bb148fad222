/* Preloaded into storage by tests: writes down every change of the database's files and every sync of them, so that the
 * test can make what a power cut would have left.
 *
 * A record in FAULT_RECORD: kind (0 write, 1 sync, 2 truncate), file (0 the database, 1 its log), offset, size, as
 * int64 each, then the bytes of a write. Changes are noted before they are made, syncs when they are done.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE, SYNC, TRUNCATE };

static int record = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_RECORD");
    if (path) record = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
}

static int ends_with(const char *path, ssize_t size, const char *end) {
    ssize_t length = (ssize_t)strlen(end);
    return size >= length && !memcmp(path + size - length, end, length);
}

/* Number of the file, -1 = none of ours. */
static int number_of(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    if (ends_with(path, size, "/tidegate.db")) return 0;
    return ends_with(path, size, "/tidegate.db-wal") ? 1 : -1;
}

static void note(int64_t kind, int fd, int64_t offset, int64_t size, const void *bytes) {
    int64_t file = record < 0 ? -1 : number_of(fd);
    if (file < 0) return;
    int64_t head[4] = {kind, file, offset, size};
    struct iovec parts[2] = {{head, sizeof head}, {(void *)bytes, bytes ? (size_t)size : 0}};
    pthread_mutex_lock(&turn);
    if (writev(record, parts, 2) != (ssize_t)(parts[0].iov_len + parts[1].iov_len)) abort();
    pthread_mutex_unlock(&turn);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    NEXT(pwrite);
    note(WRITE, fd, at, (int64_t)size, bytes);
    return next(fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    NEXT(pwrite64);
    note(WRITE, fd, at, (int64_t)size, bytes);
    return next(fd, bytes, size, at);
}
int fsync(int fd) {
    NEXT(fsync);
    int status = next(fd);
    if (!status) note(SYNC, fd, 0, 0, NULL);
    return status;
}
int fdatasync(int fd) {
    NEXT(fdatasync);
    int status = next(fd);
    if (!status) note(SYNC, fd, 0, 0, NULL);
    return status;
}
int ftruncate(int fd, off_t size) {
    NEXT(ftruncate);
    note(TRUNCATE, fd, size, 0, NULL);
    return next(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    NEXT(ftruncate64);
    note(TRUNCATE, fd, size, 0, NULL);
    return next(fd, size);
}
