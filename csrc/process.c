/* Lua module "mysql-proxy.process": what a daemon needs of POSIX and luv does not have. This file: users, limits,
 * files.
 *
 * Nothing here needs luv: daemonize() forks, and a fork must come before luv has made its loop.
 * Functions that fail return nil, message, errno; a wrong argument is a Lua error. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fields.h"

int process_fail(lua_State *L, int code, const char *what) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s (%d)", what, strerror(code), code);
  lua_pushinteger(L, code);
  return 3;
}

bool process_write_all(int fd, const char *data, size_t length) {
  while (length > 0) {
    ssize_t written = write(fd, data, length);
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) {
      data += written;
      length -= (size_t)written;
    }
  }
  return true;
}

/* The user's entry; NULL after pushing nil, message, errno. */
static const struct passwd *find_user(lua_State *L, const char *name) {
  if (geteuid() != 0) {
    lua_pushnil(L);
    lua_pushliteral(L, "can only use the --user switch if running as root");
    lua_pushinteger(L, EPERM);
    return NULL;
  }
  errno = 0;
  const struct passwd *user = getpwnam(name);
  if (!user) {
    int code = errno ? errno : ENOENT;
    lua_pushnil(L);
    lua_pushfstring(L, "unknown user: %s", name);
    lua_pushinteger(L, code);
  }
  return user;
}

/* check_user(name) -> uid, gid | nil, message, errno
 * Whether set_user(name) can be done, and the ids that it will set. */
static int l_check_user(lua_State *L) {
  const struct passwd *user = find_user(L, luaL_checkstring(L, 1));
  if (!user) return 3;
  lua_pushnumber(L, (lua_Number)user->pw_uid);
  lua_pushnumber(L, (lua_Number)user->pw_gid);
  return 2;
}

/* is_user(name) -> whether this process belongs to that user already */
static int l_is_user(lua_State *L) {
  const struct passwd *user = getpwnam(luaL_checkstring(L, 1));
  lua_pushboolean(L, user && user->pw_uid == geteuid());
  return 1;
}

/* set_user(name) -> true | nil, message, errno
 * Gives up being root for good: supplementary groups, group and user become those of `name`. */
static int l_set_user(lua_State *L) {
  const struct passwd *user = find_user(L, luaL_checkstring(L, 1));
  if (!user) return 3;
  if (initgroups(user->pw_name, user->pw_gid) != 0)
    return process_fail(L, errno, "setting the groups of --user failed");
  if (setgid(user->pw_gid) != 0) return process_fail(L, errno, "setting the group of --user failed");
  if (setuid(user->pw_uid) != 0) return process_fail(L, errno, "setting the user of --user failed");
  lua_pushboolean(L, true);
  return 1;
}

/* account(uid) -> table | nil
 * name, uid, gid, dir and shell of any user; luv knows the current one only. */
static int l_account(lua_State *L) {
  const struct passwd *user = getpwuid((uid_t)luaL_checkinteger(L, 1));
  if (!user) {
    lua_pushnil(L); /* one that a caller may pass on */
    return 1;
  }
  lua_createtable(L, 0, 5);
  set_text(L, "name", user->pw_name, strlen(user->pw_name));
  set_number(L, "uid", (lua_Number)user->pw_uid);
  set_number(L, "gid", (lua_Number)user->pw_gid);
  set_text(L, "dir", user->pw_dir, strlen(user->pw_dir));
  set_text(L, "shell", user->pw_shell, strlen(user->pw_shell));
  return 1;
}

static void push_limit(lua_State *L, rlim_t limit) {
  lua_pushnumber(L, limit == RLIM_INFINITY ? (lua_Number)INT_MAX : (lua_Number)limit);
}

/* max_open_files() -> soft limit, hard limit | nil, message, errno
 * Of the number of open file descriptors; a limit that is none is given as 2^31 - 1. */
static int l_max_open_files(lua_State *L) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return process_fail(L, errno, "reading the limit of open files failed");
  push_limit(L, limit.rlim_cur);
  push_limit(L, limit.rlim_max);
  return 2;
}

/* set_max_open_files(n) -> true | nil, message, errno
 * Sets the soft limit, and the hard limit too where that is lower (which only root can do). */
static int l_set_max_open_files(lua_State *L) {
  lua_Number wanted = luaL_checknumber(L, 1);
  luaL_argcheck(L, wanted >= 1 && wanted <= INT_MAX, 1, "1 ... 2147483647 expected");
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return process_fail(L, errno, "reading the limit of open files failed");
  limit.rlim_cur = (rlim_t)wanted;
  if (limit.rlim_max < limit.rlim_cur) limit.rlim_max = limit.rlim_cur;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    int code = errno;
    char what[64];
    snprintf(what, sizeof what, "setting fdlimit = %d failed", (int)wanted);
    return process_fail(L, code, what);
  }
  lua_pushboolean(L, true);
  return 1;
}

/* create_file(path, mode [, contents]) -> true | nil, message, errno
 * Makes sure that the file exists. A new one gets the mode (octal digits, less the umask). With contents, these
 * replace what was in it, and the mode is set even if the file is old. */
static int l_create_file(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  const char *digits = luaL_checkstring(L, 2);
  size_t length = 0;
  const char *contents = luaL_optlstring(L, 3, NULL, &length);
  char *end;
  unsigned long mode = strtoul(digits, &end, 8);
  luaL_argcheck(L, end != digits && *end == '\0' && mode <= 0777, 2, "a file mode in octal digits expected");
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (contents ? O_TRUNC : O_APPEND), (mode_t)mode);
  if (fd < 0) {
    int code = errno;
    return process_fail(L, code, lua_pushfstring(L, "open(%s) failed", path));
  }
  bool done = !contents || (fchmod(fd, (mode_t)mode) == 0 && process_write_all(fd, contents, length));
  int code = errno;
  if (close(fd) != 0 && done) {
    done = false;
    code = errno;
  }
  if (!done) return process_fail(L, code, lua_pushfstring(L, "writing %s failed", path));
  lua_pushboolean(L, true);
  return 1;
}

/* current_folder() -> path | nil, message, errno */
static int l_current_folder(lua_State *L) {
  char path[PATH_MAX];
  if (!getcwd(path, sizeof path)) return process_fail(L, errno, "finding the current folder failed");
  lua_pushstring(L, path);
  return 1;
}

/* program() -> path of the running program | nil, message, errno
 * If its file has been replaced, Linux adds a word to the path: the new one is there then. */
static int l_program(lua_State *L) {
  static const char replaced[] = " (deleted)";
  const size_t added = sizeof replaced - 1;
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length < 0) return process_fail(L, errno, "finding the program failed");
  path[length] = '\0';
  if ((size_t)length > added && strcmp(path + length - added, replaced) == 0 && access(path, F_OK) != 0)
    path[(size_t)length - added] = '\0';
  lua_pushstring(L, path);
  return 1;
}

/* hide_argument(index, from) -> whether it was done
 * Overwrites an argument of the command line, from that byte (1 is the first) to its end, so that process lists do
 * not show it. Only the host knows where the arguments are. */
static int l_hide_argument(lua_State *L) {
  lua_Integer index = luaL_checkinteger(L, 1), from = luaL_checkinteger(L, 2);
  luaL_argcheck(L, from >= 1, 2, "a position in the argument expected");
  lua_getfield(L, LUA_REGISTRYINDEX, "mysql-proxy.argv");
  char **argv = lua_touserdata(L, -1);
  for (lua_Integer i = 0; argv && i < index && *argv; i++) argv++;
  bool found = argv && *argv && strlen(*argv) >= (size_t)from;
  if (found) {
    char *secret = *argv + from - 1;
    memset(secret, 'x', 1); /* its length is nobody's business either */
    memset(secret + 1, '\0', strlen(secret + 1));
  }
  lua_pushboolean(L, found);
  return 1;
}

/* id() -> the process id */
static int l_id(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

static const luaL_Reg functions[] = {
    {"account", l_account},
    {"check_user", l_check_user},
    {"create_file", l_create_file},
    {"current_folder", l_current_folder},
    {"hide_argument", l_hide_argument},
    {"id", l_id},
    {"is_user", l_is_user},
    {"max_open_files", l_max_open_files},
    {"program", l_program},
    {"set_max_open_files", l_set_max_open_files},
    {"set_user", l_set_user},
    {NULL, NULL},
};

/* Lua takes the part of a module's name after a hyphen for the name of this function. */
__attribute__((visibility("default"))) int luaopen_proxy_process(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  luaL_register(L, NULL, process_daemon_functions);
  luaL_register(L, NULL, process_descriptors_functions);
  luaL_register(L, NULL, process_service_functions);
  lua_pushliteral(L, MYSQL_PROXY_VERSION); /* CMakeLists.txt states it, and gives it to this file only */
  lua_setfield(L, -2, "version");
  lua_pushliteral(L, MYSQL_PROXY_LUV_VERSION); /* luv itself cannot be asked */
  lua_setfield(L, -2, "luv_version");
  lua_pushliteral(L, LUA_RELEASE);
  lua_setfield(L, -2, "lua_release");
  return 1;
}
