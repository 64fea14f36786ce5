#include "local_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

/* A socket file that nobody listens on any more is in the way of a new listener: removes it. */
static void remove_stale_socket(const char *path) {
  struct stat st;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (stat(path, &st) != 0 || !S_ISSOCK(st.st_mode) || strlen(path) >= sizeof address.sun_path) return;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED) unlink(path);
  close(fd);
}

int local_socket(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return UV_ENAMETOOLONG;
  strcpy(address.sun_path, path);
  remove_stale_socket(path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  /* like a server's own socket: who may log in is decided by the login */
  if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && chmod(path, 0777) == 0) return fd;
  int code = -errno;
  close(fd);
  return code;
}
