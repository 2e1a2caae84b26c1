/* Journal of what a process does to the files below one folder, for simulated power cuts.
 *
 * Loaded with LD_PRELOAD. Every write, truncation, creation, rename, removal and new folder below $CUT_DIR
 * is noted in $CUT_JOURNAL together with what undoing it needs, and so is every completed fsync, with the
 * last operation that it covers. sync_file_range does not count: by its man page it flushes neither
 * metadata nor the device's cache. Files that a rename replaces or that are removed get a second name in
 * $CUT_SAVED first, so that they can be brought back.
 *
 * After kill -9 the page cache still holds all of it; tests/crash/powercut.rs then takes back what no sync
 * covered. The journal itself needs no sync, since the machine stays up.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE = 1, TRUNCATE, SYNC, CREATE, RENAME, REMOVE, FOLDER, SYNC_FOLDER };

struct entry {
  uint32_t magic, kind;
  uint64_t seq, inode, offset, old_size, covered;
  uint32_t replaced, path_len, to_len, old_len, new_len, reserved;
};

static const uint32_t MAGIC = 0x43555421;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char dir[PATH_MAX], saved[PATH_MAX];
static size_t dir_len;
static int journal = -1;
static uint64_t last_seq;

static int (*real_open)(const char *, int, ...), (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t), (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *), (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);

static void start(void) {
  real_open = dlsym(RTLD_NEXT, "open64");
  real_openat = dlsym(RTLD_NEXT, "openat64");
  real_write = dlsym(RTLD_NEXT, "write");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_rename = dlsym(RTLD_NEXT, "rename");
  real_unlink = dlsym(RTLD_NEXT, "unlink");
  real_mkdir = dlsym(RTLD_NEXT, "mkdir");
  const char *name = getenv("CUT_JOURNAL"), *below = getenv("CUT_DIR"), *keep = getenv("CUT_SAVED");
  if (name && below && keep && realpath(below, dir) && realpath(keep, saved)) {
    dir_len = strlen(dir);
    journal = real_open(name, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600);
  }
  /* Children are not watched: their operations would be numbered apart from ours. */
  unsetenv("LD_PRELOAD");
}

static void begin(void) { pthread_once(&once, start); }

static int below(const char *path) {
  return journal >= 0 && strncmp(path, dir, dir_len) == 0 && (path[dir_len] == '/' || path[dir_len] == 0);
}

/* The absolute path of a name whose folder exists. */
static int absolute(const char *name, char *out) {
  char copy[PATH_MAX], folder[PATH_MAX];
  if (strlen(name) >= PATH_MAX) return 0;
  strcpy(copy, name);
  char *slash = strrchr(copy, '/');
  const char *base = slash ? slash + 1 : copy;
  const char *parent = ".";
  if (slash == copy) parent = "/";
  else if (slash) { *slash = 0; parent = copy; }
  if (!realpath(parent, folder)) return 0;
  return snprintf(out, PATH_MAX, "%s/%s", folder, base) < PATH_MAX;
}

static int path_of(int fd, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, out, PATH_MAX - 1);
  if (n < 0) return 0;
  out[n] = 0;
  return below(out);
}

/* Is this a file below the folder? */
static int watched(int fd, struct stat *st, char *path) {
  begin();
  return journal >= 0 && fd > 2 && fd != journal && fstat(fd, st) == 0 && S_ISREG(st->st_mode) && path_of(fd, path);
}

static void note(struct entry e, const char *path, const char *to, const void *old, const void *new) {
  e.magic = MAGIC;
  e.path_len = strlen(path);
  e.to_len = to ? strlen(to) : 0;
  size_t size = sizeof e + e.path_len + e.to_len + e.old_len + e.new_len, done = 0;
  char *all = malloc(size), *p = all;
  memcpy(p, &e, sizeof e), p += sizeof e;
  memcpy(p, path, e.path_len), p += e.path_len;
  if (to) memcpy(p, to, e.to_len), p += e.to_len;
  if (e.old_len) memcpy(p, old, e.old_len), p += e.old_len;
  if (e.new_len) memcpy(p, new, e.new_len);
  while (done < size) {
    ssize_t n = real_write(journal, all + done, size - done);
    if (n <= 0) abort();
    done += n;
  }
  free(all);
}

/* What stands in the file from `offset` on, at most `most` bytes of it. */
static void *content(const char *path, uint64_t offset, uint64_t most, uint64_t size, uint32_t *len) {
  *len = 0;
  if (offset >= size) return NULL;
  uint64_t want = size - offset < most ? size - offset : most;
  char *bytes = malloc(want);
  int fd = real_open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = fd >= 0 ? pread(fd, bytes, want, offset) : -1;
  if (fd >= 0) close(fd);
  *len = got > 0 ? got : 0;
  return bytes;
}

static void note_write(int fd, struct stat *st, const char *path, off_t offset, const void *bytes, size_t n) {
  fstat(fd, st);
  struct entry e = {.kind = WRITE, .seq = ++last_seq, .inode = st->st_ino, .offset = offset, .old_size = st->st_size};
  void *old = content(path, offset, n, st->st_size, &e.old_len);
  e.new_len = n;
  note(e, path, NULL, old, bytes);
  free(old);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t offset) {
  struct stat st;
  char path[PATH_MAX];
  if (!watched(fd, &st, path)) return real_pwrite(fd, bytes, n, offset);
  pthread_mutex_lock(&one_at_a_time);
  note_write(fd, &st, path, offset, bytes, n);
  ssize_t r = real_pwrite(fd, bytes, n, offset);
  pthread_mutex_unlock(&one_at_a_time);
  return r;
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) { return pwrite64(fd, bytes, n, offset); }

ssize_t write(int fd, const void *bytes, size_t n) {
  struct stat st;
  char path[PATH_MAX];
  if (!watched(fd, &st, path)) return real_write(fd, bytes, n);
  pthread_mutex_lock(&one_at_a_time);
  fstat(fd, &st);
  off_t at = fcntl(fd, F_GETFL) & O_APPEND ? st.st_size : lseek(fd, 0, SEEK_CUR);
  note_write(fd, &st, path, at, bytes, n);
  ssize_t r = real_write(fd, bytes, n);
  pthread_mutex_unlock(&one_at_a_time);
  return r;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  ssize_t all = 0;
  for (int i = 0; i < count; i++) {
    ssize_t n = write(fd, parts[i].iov_base, parts[i].iov_len);
    if (n < 0) return all ? all : n;
    all += n;
    if ((size_t)n < parts[i].iov_len) break;
  }
  return all;
}

int ftruncate64(int fd, off_t length) {
  struct stat st;
  char path[PATH_MAX];
  if (!watched(fd, &st, path)) return real_ftruncate(fd, length);
  pthread_mutex_lock(&one_at_a_time);
  fstat(fd, &st);
  struct entry e = {.kind = TRUNCATE, .seq = ++last_seq, .inode = st.st_ino, .offset = length, .old_size = st.st_size};
  void *old = content(path, length, UINT32_MAX, st.st_size, &e.old_len);
  note(e, path, NULL, old, NULL);
  free(old);
  int r = real_ftruncate(fd, length);
  pthread_mutex_unlock(&one_at_a_time);
  return r;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int sync_with(int fd, int (*real)(int)) {
  struct stat st;
  char path[PATH_MAX];
  if (journal < 0 || fstat(fd, &st) || !path_of(fd, path)) return real(fd);
  pthread_mutex_lock(&one_at_a_time);
  uint64_t covered = last_seq;
  pthread_mutex_unlock(&one_at_a_time);
  int r = real(fd);
  if (r == 0) {
    pthread_mutex_lock(&one_at_a_time);
    struct entry e = {.kind = S_ISDIR(st.st_mode) ? SYNC_FOLDER : SYNC, .inode = st.st_ino, .covered = covered};
    note(e, path, NULL, NULL, NULL);
    pthread_mutex_unlock(&one_at_a_time);
  }
  return r;
}

int fsync(int fd) { begin(); return sync_with(fd, real_fsync); }
int fdatasync(int fd) { begin(); return sync_with(fd, real_fdatasync); }

static int open_noted(int folder, const char *name, int flags, mode_t mode) {
  begin();
  char path[PATH_MAX];
  struct stat st;
  int makes = (flags & O_CREAT) && (folder == AT_FDCWD || name[0] == '/') && absolute(name, path) && below(path);
  int cuts = flags & O_TRUNC;
  if (!makes && !cuts) return real_openat(folder, name, flags, mode);
  pthread_mutex_lock(&one_at_a_time);
  int existed = makes && lstat(path, &st) == 0;
  /* Truncation goes through our ftruncate, so that it is noted. */
  int fd = real_openat(folder, name, flags & ~O_TRUNC, mode);
  int error = errno;
  if (fd >= 0 && makes && !existed && fstat(fd, &st) == 0) {
    struct entry e = {.kind = CREATE, .seq = ++last_seq, .inode = st.st_ino};
    note(e, path, NULL, NULL, NULL);
  }
  pthread_mutex_unlock(&one_at_a_time);
  if (fd >= 0 && cuts && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) ftruncate64(fd, 0);
  errno = error;
  return fd;
}

#define MODE(flags, mode)                                     \
  mode_t mode = 0;                                            \
  if ((flags) & (O_CREAT | O_TMPFILE)) {                      \
    va_list more;                                             \
    va_start(more, flags);                                    \
    mode = va_arg(more, mode_t);                              \
    va_end(more);                                             \
  }

int open64(const char *name, int flags, ...) { MODE(flags, mode) return open_noted(AT_FDCWD, name, flags, mode); }
int open(const char *name, int flags, ...) { MODE(flags, mode) return open_noted(AT_FDCWD, name, flags, mode); }
int openat64(int d, const char *name, int flags, ...) { MODE(flags, mode) return open_noted(d, name, flags, mode); }
int openat(int d, const char *name, int flags, ...) { MODE(flags, mode) return open_noted(d, name, flags, mode); }

/* A second name for a file that is about to lose its own. */
static uint32_t save(const char *path, uint64_t seq) {
  char keep[PATH_MAX];
  if (snprintf(keep, sizeof keep, "%s/%llu", saved, (unsigned long long)seq) >= (int)sizeof keep) return 0;
  return link(path, keep) == 0;
}

int rename(const char *from, const char *to) {
  begin();
  char a[PATH_MAX], b[PATH_MAX];
  if (journal < 0 || !absolute(from, a) || !absolute(to, b) || !below(b)) return real_rename(from, to);
  pthread_mutex_lock(&one_at_a_time);
  struct entry e = {.kind = RENAME, .seq = ++last_seq};
  e.replaced = save(b, e.seq);
  note(e, a, b, NULL, NULL);
  int r = real_rename(from, to);
  pthread_mutex_unlock(&one_at_a_time);
  return r;
}

int unlink(const char *name) {
  begin();
  char path[PATH_MAX];
  if (journal < 0 || !absolute(name, path) || !below(path)) return real_unlink(name);
  pthread_mutex_lock(&one_at_a_time);
  struct entry e = {.kind = REMOVE, .seq = ++last_seq};
  e.replaced = save(path, e.seq);
  if (e.replaced) note(e, path, NULL, NULL, NULL);
  int r = real_unlink(name);
  pthread_mutex_unlock(&one_at_a_time);
  return r;
}

int mkdir(const char *name, mode_t mode) {
  begin();
  char path[PATH_MAX];
  if (journal < 0 || !absolute(name, path) || !below(path)) return real_mkdir(name, mode);
  pthread_mutex_lock(&one_at_a_time);
  int r = real_mkdir(name, mode);
  int error = errno;
  if (r == 0) {
    struct entry e = {.kind = FOLDER, .seq = ++last_seq};
    note(e, path, NULL, NULL, NULL);
  }
  pthread_mutex_unlock(&one_at_a_time);
  errno = error;
  return r;
}
