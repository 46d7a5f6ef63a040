/* A C library that fails on command, for LD_PRELOAD: benchmarks/rig/faulty.py is its other half.
 *
 * It moves the wall clock, lets writes below one directory fail with a chosen errno or reads hang there, and keeps what a disk with a
 * volatile cache would still have after a power cut: of every file its contents as of its last fsync, of every
 * directory its names as of its own last fsync. Everything else goes straight to the kernel.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t clock_offset_s;
    int32_t write_errno; /* 0: writes succeed */
    int32_t failures;    /* so far */
    int32_t reads_hang;  /* 0: they do not */
    int32_t hanging;     /* reads that hang now */
};

static struct control nothing, *volatile control = &nothing;
static const char *watched = "";
static const char *shadow = "";
static pthread_mutex_t shadow_lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULTY_CONTROL");
    int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared == MAP_FAILED)
        return;
    watched = getenv("FAULTY_DIRECTORY") ? getenv("FAULTY_DIRECTORY") : "";
    shadow = getenv("FAULTY_SHADOW") ? getenv("FAULTY_SHADOW") : "";
    control = shared;
}

/* The path behind fd if it lies in the watched directory. */
static int is_watched(int fd, char *path, size_t size) {
    if (!*watched)
        return 0;
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    size_t prefix = strlen(watched);
    return !strncmp(path, watched, prefix) && (path[prefix] == '/' || path[prefix] == 0);
}

static int fails(int fd) {
    char path[4096];
    int saved = errno;
    int wanted = control->write_errno && is_watched(fd, path, sizeof path);
    errno = saved;
    if (!wanted)
        return 0;
    __sync_fetch_and_add(&control->failures, 1);
    errno = control->write_errno;
    return 1;
}

/* Inode numbers are used again; together with the time of birth they name a file for good. */
static void identify(int at, const char *name, int flags, char *identity, size_t size) {
    struct statx facts;
    memset(&facts, 0, sizeof facts);
    syscall(SYS_statx, at, name, flags | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &facts);
    snprintf(identity, size, "%llu-%lld-%u", (unsigned long long)facts.stx_ino, (long long)facts.stx_btime.tv_sec,
             facts.stx_btime.tv_nsec);
}

static void keep_contents(int fd, FILE *copy) {
    char block[65536], link[32];
    off_t position = 0;
    ssize_t got;
    int other = -1;
    if (pread(fd, block, 1, 0) < 0) { /* opened for writing only */
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        fd = other = open(link, O_RDONLY | O_CLOEXEC);
    }
    while ((got = pread(fd, block, sizeof block, position)) > 0) {
        fwrite(block, 1, (size_t)got, copy);
        position += got;
    }
    if (other >= 0)
        close(other);
}

static void keep_names(const char *path, FILE *copy) {
    DIR *directory = opendir(path);
    struct dirent *entry;
    char identity[80];
    while (directory && (entry = readdir(directory))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        identify(dirfd(directory), entry->d_name, 0, identity, sizeof identity);
        fprintf(copy, "%s %d %s\n", identity, entry->d_type == DT_DIR, entry->d_name);
    }
    if (directory)
        closedir(directory);
}

static void keep(int fd) {
    char path[4096], identity[80], temporary[4200], kept[4200];
    struct stat facts;
    int saved = errno;
    if (*shadow && is_watched(fd, path, sizeof path) && !fstat(fd, &facts)) {
        pthread_mutex_lock(&shadow_lock);
        identify(fd, "", AT_EMPTY_PATH, identity, sizeof identity);
        snprintf(temporary, sizeof temporary, "%s/temporary", shadow);
        snprintf(kept, sizeof kept, "%s/%s", shadow, strcmp(path, watched) ? identity : "root");
        FILE *copy = fopen(temporary, "we");
        if (copy) {
            S_ISDIR(facts.st_mode) ? keep_names(path, copy) : keep_contents(fd, copy);
            fclose(copy);
            rename(temporary, kept);
        }
        pthread_mutex_unlock(&shadow_lock);
    }
    errno = saved;
}

ssize_t read(int fd, void *data, size_t size) {
    char path[4096];
    if (control->reads_hang && is_watched(fd, path, sizeof path)) {
        __sync_fetch_and_add(&control->hanging, 1);
        while (control->reads_hang)
            usleep(10000);
        __sync_fetch_and_sub(&control->hanging, 1);
    }
    return syscall(SYS_read, fd, data, size);
}

ssize_t write(int fd, const void *data, size_t size) {
    return fails(fd) ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t position) {
    return fails(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, position);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t position) {
    return fails(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, position);
}

int ftruncate(int fd, off_t size) {
    return fails(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate64(int fd, off64_t size) {
    return fails(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int posix_fallocate(int fd, off_t position, off_t size) {
    if (fails(fd))
        return errno;
    return syscall(SYS_fallocate, fd, 0, position, size) ? errno : 0;
}

int posix_fallocate64(int fd, off64_t position, off64_t size) {
    return posix_fallocate(fd, position, size);
}

int fsync(int fd) {
    if (fails(fd))
        return -1;
    int result = (int)syscall(SYS_fsync, fd);
    if (!result)
        keep(fd);
    return result;
}

int fdatasync(int fd) {
    if (fails(fd))
        return -1;
    int result = (int)syscall(SYS_fdatasync, fd);
    if (!result)
        keep(fd);
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (!result && clock == CLOCK_REALTIME)
        now->tv_sec += control->clock_offset_s;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    int result = (int)syscall(SYS_gettimeofday, now, zone);
    if (!result)
        now->tv_sec += control->clock_offset_s;
    return result;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
