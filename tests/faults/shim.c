/* Preloaded into storage by tests: lets chosen calls on the database's files fail, or be the last of the process.
 *
 * The block of numbers below is a file shared with the test (FAULT_CONTROL), so that a test can wait until storage is
 * up, look at the counts, and then choose the call that fails. A file counts when "tidegate.db" is in its path.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { WRITE, SYNC, TRUNCATE, KINDS };

struct control {
    int64_t counts[KINDS]; /* calls so far */
    int64_t first[KINDS];  /* calls first … last of a kind fail; 0 = none */
    int64_t last[KINDS];
    int64_t error;     /* errno of a failed call; 0 = the process is killed instead */
    int64_t hits;      /* calls that failed */
    int64_t read_only; /* statvfs says that the file system is read-only */
};

static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *found = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED) control = found;
    close(fd);
}

static int is_ours(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return strstr(path, "tidegate.db") != NULL;
}

/* Whether this call is to fail; errno is set then. */
static int fails(int kind, int fd) {
    if (!control || !is_ours(fd)) return 0;
    int64_t number = __atomic_add_fetch(&control->counts[kind], 1, __ATOMIC_SEQ_CST);
    if (!control->first[kind] || number < control->first[kind] || number > control->last[kind]) return 0;
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST);
    if (!control->error) kill(getpid(), SIGKILL);
    errno = (int)control->error;
    return 1;
}

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *bytes, size_t size) {
    NEXT(write);
    return fails(WRITE, fd) ? -1 : next(fd, bytes, size);
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    NEXT(pwrite);
    return fails(WRITE, fd) ? -1 : next(fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    NEXT(pwrite64);
    return fails(WRITE, fd) ? -1 : next(fd, bytes, size, at);
}
int fsync(int fd) {
    NEXT(fsync);
    return fails(SYNC, fd) ? -1 : next(fd);
}
int fdatasync(int fd) {
    NEXT(fdatasync);
    return fails(SYNC, fd) ? -1 : next(fd);
}
int ftruncate(int fd, off_t size) {
    NEXT(ftruncate);
    return fails(TRUNCATE, fd) ? -1 : next(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    NEXT(ftruncate64);
    return fails(TRUNCATE, fd) ? -1 : next(fd, size);
}
int statvfs(const char *path, struct statvfs *found) {
    NEXT(statvfs);
    int status = next(path, found);
    if (!status && control && control->read_only) found->f_flag |= ST_RDONLY;
    return status;
}
int statvfs64(const char *path, struct statvfs64 *found) {
    NEXT(statvfs64);
    int status = next(path, found);
    if (!status && control && control->read_only) found->f_flag |= ST_RDONLY;
    return status;
}
