/* Lua module "mysql-proxy.process": what a daemon needs of POSIX and luv does not have.
 *
 * Nothing here needs luv: daemonize() forks, and a fork must come before luv has made its loop.
 * Functions that fail return nil, message, errno; a wrong argument is a Lua error. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Files that the daemon or a script makes are not for everybody. Historically the daemon ran with 0, which made
 * every file of a careless script world-writable. */
#define DAEMON_UMASK 027

#define REPORT_READY '\0' /* what the daemon writes to its parent instead of an error message */

static int report_fd = -1; /* the daemon's end of the pipe to its parent, until it has reported */

static int fail(lua_State *L, int code, const char *what) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s (%d)", what, strerror(code), code);
  lua_pushinteger(L, code);
  return 3;
}

/* All of the bytes; false (and errno) if they cannot be written. */
static bool write_all(int fd, const char *data, size_t length) {
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

/* The parent's part of daemonize(): waits for the report, repeats an error on standard error, and ends. It leaves
 * by _exit, as the Lua state and the buffers of stdio belong to the child now. */
static _Noreturn void await_report(int fd, pid_t child) {
  char report[PIPE_BUF];
  size_t length = 0;
  for (;;) {
    ssize_t got = read(fd, report + length, sizeof report - length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    length += (size_t)got;
  }
  if (length > 0 && report[0] == REPORT_READY) _exit(EXIT_SUCCESS);
  if (length > 0) {
    write_all(STDERR_FILENO, report, length);
    write_all(STDERR_FILENO, "\n", 1);
  } else {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
      ;
    if (WIFSIGNALED(status))
      dprintf(STDERR_FILENO, "the daemon died on signal %d before it was ready\n", WTERMSIG(status));
    else
      dprintf(STDERR_FILENO, "the daemon ended with status %d before it was ready\n", WEXITSTATUS(status));
  }
  _exit(EXIT_FAILURE);
}

/* daemonize() -> true | nil, message, errno
 * Goes on as a daemon: a child process in a session of its own, in the folder /. Only the child returns. The
 * parent waits until the child calls ready() or failed() or ends, and leaves with status 0 or 1. */
static int l_daemonize(lua_State *L) {
  if (report_fd >= 0) return luaL_error(L, "daemonize() was called already");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(L, errno, "making a pipe for the daemon failed");
  fflush(NULL); /* or both processes would write what is buffered now */
  pid_t child = fork();
  if (child < 0) {
    int code = errno;
    close(ends[0]);
    close(ends[1]);
    return fail(L, code, "starting the daemon failed");
  }
  if (child > 0) {
    close(ends[1]);
    await_report(ends[0], child);
  }
  close(ends[0]);
  report_fd = ends[1];
  setsid();
  umask(DAEMON_UMASK);
  if (chdir("/") != 0) {
    dprintf(report_fd, "changing to the folder / failed: %s", strerror(errno));
    _exit(EXIT_FAILURE);
  }
  lua_pushboolean(L, true);
  return 1;
}

static int report(lua_State *L, const char *text, size_t length) {
  if (report_fd < 0) return fail(L, EPIPE, "reporting to the process that started the daemon failed");
  bool written = write_all(report_fd, text, length < PIPE_BUF ? length : PIPE_BUF);
  int code = errno;
  close(report_fd);
  report_fd = -1;
  if (!written) return fail(L, code, "reporting to the process that started the daemon failed");
  lua_pushboolean(L, true);
  return 1;
}

/* ready(keep_stderr) -> true | nil, message, errno
 * The daemon has started: its standard streams become the null device (but not standard error if `keep_stderr`),
 * and its parent leaves with status 0. Fails if the parent is gone, that is, if the start was broken off: the
 * caller ends the daemon then. (SIGPIPE must be ignored.) */
static int l_ready(lua_State *L) {
  if (report_fd < 0) return luaL_error(L, "ready() is for a daemon that has not reported yet");
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return fail(L, errno, "opening /dev/null failed");
  fflush(NULL);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  if (!lua_toboolean(L, 1)) dup2(null, STDERR_FILENO);
  if (null > STDERR_FILENO) close(null);
  return report(L, (const char[]){REPORT_READY}, 1);
}

/* failed(message) -> true | nil, message, errno
 * The daemon could not start: its parent writes the message (at most PIPE_BUF bytes) to standard error and leaves
 * with status 1. The caller ends the daemon. Fails if the parent is gone. */
static int l_failed(lua_State *L) {
  size_t length;
  const char *message = luaL_checklstring(L, 1, &length);
  if (length == 0) return luaL_argerror(L, 1, "an error message expected");
  return report(L, message, length);
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

/* set_user(name) -> true | nil, message, errno
 * Gives up being root for good: supplementary groups, group and user become those of `name`. */
static int l_set_user(lua_State *L) {
  const struct passwd *user = find_user(L, luaL_checkstring(L, 1));
  if (!user) return 3;
  if (initgroups(user->pw_name, user->pw_gid) != 0) return fail(L, errno, "setting the groups of --user failed");
  if (setgid(user->pw_gid) != 0) return fail(L, errno, "setting the group of --user failed");
  if (setuid(user->pw_uid) != 0) return fail(L, errno, "setting the user of --user failed");
  lua_pushboolean(L, true);
  return 1;
}

static void set_text(lua_State *L, const char *key, const char *text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, key);
}

static void set_number(lua_State *L, const char *key, lua_Number number) {
  lua_pushnumber(L, number);
  lua_setfield(L, -2, key);
}

/* account(uid) -> table | nil
 * name, uid, gid, dir and shell of any user; luv knows the current one only. */
static int l_account(lua_State *L) {
  const struct passwd *user = getpwuid((uid_t)luaL_checkinteger(L, 1));
  if (!user) return 0;
  lua_createtable(L, 0, 5);
  set_text(L, "name", user->pw_name);
  set_number(L, "uid", (lua_Number)user->pw_uid);
  set_number(L, "gid", (lua_Number)user->pw_gid);
  set_text(L, "dir", user->pw_dir);
  set_text(L, "shell", user->pw_shell);
  return 1;
}

static void push_limit(lua_State *L, rlim_t limit) {
  lua_pushnumber(L, limit == RLIM_INFINITY ? (lua_Number)INT_MAX : (lua_Number)limit);
}

/* max_open_files() -> soft limit, hard limit | nil, message, errno
 * Of the number of open file descriptors; a limit that is none is given as 2^31 - 1. */
static int l_max_open_files(lua_State *L) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return fail(L, errno, "reading the limit of open files failed");
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
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return fail(L, errno, "reading the limit of open files failed");
  limit.rlim_cur = (rlim_t)wanted;
  if (limit.rlim_max < limit.rlim_cur) limit.rlim_max = limit.rlim_cur;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    int code = errno;
    char what[64];
    snprintf(what, sizeof what, "setting fdlimit = %d failed", (int)wanted);
    return fail(L, code, what);
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
    return fail(L, code, lua_pushfstring(L, "open(%s) failed", path));
  }
  bool done = !contents || (fchmod(fd, (mode_t)mode) == 0 && write_all(fd, contents, length));
  int code = errno;
  if (close(fd) != 0 && done) {
    done = false;
    code = errno;
  }
  if (!done) return fail(L, code, lua_pushfstring(L, "writing %s failed", path));
  lua_pushboolean(L, true);
  return 1;
}

/* current_folder() -> path | nil, message, errno */
static int l_current_folder(lua_State *L) {
  char path[PATH_MAX];
  if (!getcwd(path, sizeof path)) return fail(L, errno, "finding the current folder failed");
  lua_pushstring(L, path);
  return 1;
}

/* program() -> path of the running program | nil, message, errno */
static int l_program(lua_State *L) {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length < 0) return fail(L, errno, "finding the program failed");
  lua_pushlstring(L, path, (size_t)length);
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
    {"daemonize", l_daemonize},
    {"failed", l_failed},
    {"hide_argument", l_hide_argument},
    {"id", l_id},
    {"max_open_files", l_max_open_files},
    {"program", l_program},
    {"ready", l_ready},
    {"set_max_open_files", l_set_max_open_files},
    {"set_user", l_set_user},
    {NULL, NULL},
};

/* Lua takes the part of a module's name after a hyphen for the name of this function. */
__attribute__((visibility("default"))) int luaopen_proxy_process(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  lua_pushliteral(L, MYSQL_PROXY_VERSION); /* CMakeLists.txt states it, and gives it to this file only */
  lua_setfield(L, -2, "version");
  lua_pushliteral(L, MYSQL_PROXY_LUV_VERSION); /* luv itself cannot be asked */
  lua_setfield(L, -2, "luv_version");
  lua_pushliteral(L, LUA_RELEASE);
  lua_setfield(L, -2, "lua_release");
  return 1;
}
