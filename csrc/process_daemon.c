/* Lua module "mysql-proxy.process", continued: going into the background, keeping a worker process
 * alive, and what is left to say when it dies. */
#include "process.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Files that the daemon or a script makes are not for everybody. Historically the daemon ran with 0, which made
 * every file of a careless script world-writable. */
#define DAEMON_UMASK 027

#define REPORT_READY '\0' /* what the daemon writes to its parent instead of an error message */

static int report_fd = -1; /* the daemon's end of the pipe to its parent, until it has reported */

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
    if (report[0] == REPORT_READY) _exit(EXIT_SUCCESS);
  }
  if (length > 0) {
    process_write_all(STDERR_FILENO, report, length);
    process_write_all(STDERR_FILENO, "\n", 1);
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
  if (pipe2(ends, O_CLOEXEC) != 0) return process_fail(L, errno, "making a pipe for the daemon failed");
  fflush(NULL); /* or both processes would write what is buffered now */
  pid_t child = fork();
  if (child < 0) {
    int code = errno;
    close(ends[0]);
    close(ends[1]);
    return process_fail(L, code, "starting the daemon failed");
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
  if (report_fd < 0) return process_fail(L, EPIPE, "reporting to the process that started the daemon failed");
  bool written = process_write_all(report_fd, text, length < PIPE_BUF ? length : PIPE_BUF);
  int code = errno;
  close(report_fd);
  report_fd = -1;
  if (!written) return process_fail(L, code, "reporting to the process that started the daemon failed");
  lua_pushboolean(L, true);
  return 1;
}

/* The standard streams become the null device. false (and errno) if it cannot be opened. */
static bool detach(bool keep_stderr) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return false;
  fflush(NULL);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  if (!keep_stderr) dup2(null, STDERR_FILENO);
  if (null > STDERR_FILENO) close(null);
  return true;
}

/* ready(keep_stderr) -> true | nil, message, errno
 * The daemon has started: its standard streams become the null device (but not standard error if `keep_stderr`),
 * and its parent leaves with status 0. Fails if the parent is gone, that is, if the start was broken off: the
 * caller ends the daemon then. (SIGPIPE must be ignored.) */
static int l_ready(lua_State *L) {
  if (report_fd < 0) return luaL_error(L, "ready() is for a daemon that has not reported yet");
  if (!detach(lua_toboolean(L, 1))) return process_fail(L, errno, "opening /dev/null failed");
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

/* The signals that a parent waits for: the end of its worker, and those that it passes on to it. */
static const struct {
  int number;
  const char *name;
} signals[] = {{SIGCHLD, "CHLD"}, {SIGTERM, "TERM"}, {SIGINT, "INT"},
               {SIGHUP, "HUP"},   {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}};

enum { SIGNAL_COUNT = sizeof signals / sizeof *signals };

static sigset_t former_mask;           /* the worker's */
static volatile bool *worker_is_ready; /* in memory that parent and worker share */

static void fill_signals(sigset_t *set) {
  sigemptyset(set);
  for (int i = 0; i < SIGNAL_COUNT; i++) sigaddset(set, signals[i].number);
}

/* fork_worker() -> 0 in the worker | its process id in the parent | nil, message, errno
 * From now on the parent takes signals with next_signal() only. A worker after the first does not report to the shell
 * that started the daemon, if the first was ready. */
static int l_fork_worker(lua_State *L) {
  if (!worker_is_ready) {
    sigset_t set;
    fill_signals(&set);
    void *shared = mmap(NULL, sizeof *worker_is_ready, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return process_fail(L, errno, "sharing memory with the worker failed");
    worker_is_ready = shared;
    sigprocmask(SIG_BLOCK, &set, &former_mask);
  }
  if (*worker_is_ready && report_fd >= 0) {
    close(report_fd);
    report_fd = -1;
  }
  fflush(NULL); /* or both processes would write what is buffered now */
  pid_t worker = fork();
  if (worker < 0) return process_fail(L, errno, "starting the worker failed");
  if (worker == 0) sigprocmask(SIG_SETMASK, &former_mask, NULL);
  lua_pushinteger(L, worker);
  return 1;
}

/* worker_ready(): in the worker: it has started. */
static int l_worker_ready(lua_State *L) {
  if (!worker_is_ready) return luaL_error(L, "worker_ready() is for a worker");
  *worker_is_ready = true;
  return 0;
}

/* worker_was_ready() -> whether any worker has been */
static int l_worker_was_ready(lua_State *L) {
  lua_pushboolean(L, worker_is_ready && *worker_is_ready);
  return 1;
}

/* detach(keep_stderr) -> true | nil, message, errno
 * The standard streams become the null device, but not standard error if `keep_stderr`. */
static int l_detach(lua_State *L) {
  if (!detach(lua_toboolean(L, 1))) return process_fail(L, errno, "opening /dev/null failed");
  lua_pushboolean(L, true);
  return 1;
}

/* next_signal([seconds]) -> "CHLD", "TERM", "INT", "HUP", "USR1" or "USR2" | nil when the time is over
 * In a parent after fork_worker(). */
static int l_next_signal(lua_State *L) {
  lua_Number seconds = luaL_optnumber(L, 1, INT_MAX);
  luaL_argcheck(L, seconds >= 0 && seconds <= INT_MAX, 1, "a number of seconds expected");
  struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (lua_Number)(time_t)seconds) * 1e9)};
  sigset_t set;
  fill_signals(&set);
  int number;
  do number = sigtimedwait(&set, NULL, &left);
  while (number < 0 && errno == EINTR);
  for (int i = 0; i < SIGNAL_COUNT; i++)
    if (signals[i].number == number) {
      lua_pushstring(L, signals[i].name);
      return 1;
    }
  return 0;
}

/* reap(pid) -> "exited", status, kB | "killed", signal, kB | nil while the child runs
 * kB: the most memory that it has had. */
static int l_reap(lua_State *L) {
  int status;
  struct rusage usage;
  if (wait4((pid_t)luaL_checkinteger(L, 1), &status, WNOHANG, &usage) <= 0) return 0;
  lua_pushstring(L, WIFEXITED(status) ? "exited" : "killed");
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  lua_pushnumber(L, (lua_Number)usage.ru_maxrss);
  return 3;
}

/* send_signal(pid, name): a name that next_signal() returns. */
static int l_send_signal(lua_State *L) {
  pid_t pid = (pid_t)luaL_checkinteger(L, 1);
  const char *name = luaL_checkstring(L, 2);
  luaL_argcheck(L, pid > 0, 1, "a process id expected");
  for (int i = 0; i < SIGNAL_COUNT; i++)
    if (strcmp(signals[i].name, name) == 0) {
      lua_pushboolean(L, kill(pid, signals[i].number) == 0);
      return 1;
    }
  return luaL_argerror(L, 2, "the name of a signal expected");
}

static int crash_fd = -1; /* where a crash is told */

/* Nothing but what is safe in a process that is broken. The signal's default action follows. */
static void tell_crash(int number) {
  void *frames[64];
  char text[] = "mysql-proxy died on signal 00, backtrace:\n";
  char *digits = strchr(text, '0');
  digits[0] = (char)('0' + number / 10 % 10);
  digits[1] = (char)('0' + number % 10);
  process_write_all(crash_fd, text, sizeof text - 1);
  backtrace_symbols_fd(frames, backtrace(frames, sizeof frames / sizeof *frames), crash_fd);
  raise(number);
}

/* backtrace_on_crash([path]) -> true | nil, message, errno
 * A signal that a bug causes writes a backtrace of the C functions to that file, or to standard error, before it ends
 * the process. To be called again when the file has been renamed. */
static int l_backtrace_on_crash(lua_State *L) {
  static char stack[64 * 1024]; /* the signal may be for a stack that is full */
  static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
  const char *path = luaL_optstring(L, 1, NULL);
  int fd = path ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return process_fail(L, errno, "opening the file for backtraces failed");
  if (crash_fd >= 0) close(crash_fd);
  crash_fd = fd;
  void *first;
  backtrace(&first, 1); /* loads what it needs, which a broken process may not be able to */
  sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
  struct sigaction action = {.sa_handler = tell_crash, .sa_flags = SA_ONSTACK | (int)SA_RESETHAND | SA_NODEFER};
  for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) sigaction(crashes[i], &action, NULL);
  lua_pushboolean(L, true);
  return 1;
}

const luaL_Reg process_daemon_functions[] = {
    {"backtrace_on_crash", l_backtrace_on_crash},
    {"daemonize", l_daemonize},
    {"detach", l_detach},
    {"failed", l_failed},
    {"fork_worker", l_fork_worker},
    {"next_signal", l_next_signal},
    {"ready", l_ready},
    {"reap", l_reap},
    {"send_signal", l_send_signal},
    {"worker_ready", l_worker_ready},
    {"worker_was_ready", l_worker_was_ready},
    {NULL, NULL},
};
