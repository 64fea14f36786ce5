/* Lua module "mysql-proxy.process", continued: what a service manager and the system's log speak.
 *
 * systemd is spoken to by hand: a datagram to a socket whose name is in the environment, and descriptors that are
 * there from the start. Its documentation, sd_notify(3), advises that for programs that need no more of libsystemd,
 * which would bring five other libraries into every process. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

/* notify(socket, state) -> true | nil, message, errno
 * Sends a state such as "READY=1" to the service manager; socket: what NOTIFY_SOCKET says, a path or an abstract name
 * with @ in front. sd_notify(3). */
static int l_notify(lua_State *L) {
  size_t name_length, length;
  const char *name = luaL_checklstring(L, 1, &name_length);
  const char *state = luaL_checklstring(L, 2, &length);
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  const char *what = lua_pushfstring(L, "telling the service manager (%s) failed", name);
  if (name_length < 2 || name_length >= sizeof to.sun_path || (*name != '/' && *name != '@'))
    return process_fail(L, EINVAL, what);
  memcpy(to.sun_path, name, name_length);
  if (*name == '@') to.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return process_fail(L, errno, what);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name_length);
  ssize_t sent = sendto(fd, state, length, MSG_NOSIGNAL, (struct sockaddr *)&to, size);
  int code = errno;
  close(fd);
  if (sent < 0) return process_fail(L, code, what);
  lua_pushboolean(L, true);
  return 1;
}

/* check_listener(fd) -> true | nil, message
 * Whether a descriptor that the process was started with is a listening stream socket. From now on it is not passed to
 * other programs. sd_listen_fds(3). */
static int l_check_listener(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1), type = 0, listening = 0;
  socklen_t type_size = sizeof type, listening_size = sizeof listening;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0 ||
      getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_size) != 0)
    return process_fail(L, errno, lua_pushfstring(L, "descriptor %d of LISTEN_FDS is no socket", fd));
  if (type != SOCK_STREAM || !listening) {
    lua_pushnil(L);
    lua_pushfstring(L, "descriptor %d of LISTEN_FDS is no listening stream socket", fd);
    return 2;
  }
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  lua_pushboolean(L, true);
  return 1;
}

static const char *const levels[] = {"error", "critical", "warning", "message", "info", "debug", NULL};
static const int priorities[] = {LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG};

/* open_syslog(): lines go to the system's log as those of a daemon, with the process id. */
static int l_open_syslog(lua_State *L) {
  (void)L;
  openlog("mysql-proxy", LOG_PID | LOG_NDELAY, LOG_DAEMON);
  return 0;
}

/* syslog(level, text): writes a line of one of the log's levels. */
static int l_syslog(lua_State *L) {
  int level = luaL_checkoption(L, 1, NULL, levels);
  syslog(priorities[level], "%s", luaL_checkstring(L, 2));
  return 0;
}

const luaL_Reg process_service_functions[] = {
    {"check_listener", l_check_listener},
    {"notify", l_notify},
    {"open_syslog", l_open_syslog},
    {"syslog", l_syslog},
    {NULL, NULL},
};
