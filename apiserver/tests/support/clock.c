/* Shifts the clock of a process by the seconds that a file holds: preloaded, so that a test can set the clock of the
 * program under test and of nothing else. The monotonic clock stays as it is, as it does when a real clock is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *ts) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(id, ts);
  const char *path = getenv("TEST_CLOCK_SHIFT");
  if (result != 0 || id != CLOCK_REALTIME || !path) return result;
  char text[32] = {0};
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return result;
  if (read(file, text, sizeof text - 1) > 0) ts->tv_sec += atol(text);
  close(file);
  return result;
}
