/* Lua module mysql.stream: see stream.h for what a stream is, relay.h for relay().
 *
 * A stream's owner is told what happens by methods of its own:
 *   owner:on_connection(listener, stream, last)  a listener accepted a client; the listener's owner owns it at first;
 *                                                last: the process has hardly a descriptor left
 *   owner:on_connect(stream, message, code)      a connect() ended; message is nil if it succeeded
 *   owner:on_packet(stream, payload, sequence)   a whole packet, in packet mode
 *   owner:on_end(stream, message, code)          the peer has closed (message nil) or failed; the stream is closed
 *   owner:on_timeout(stream)                     nothing moved for as long as timeout() said
 *   owner:on_drain(stream)                       all has been written that drained() said was waiting
 * An error in one of them goes to the function given to on_error(), and the loop goes on. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <luv/luv.h>

#include "hook.h"
#include "local_socket.h"
#include "queue.h"
#include "relay.h"
#include "resultset.h"
#include "stream.h"

#define STREAM_TYPE "mysql.stream"

/* A peer whose machine has gone is noticed after two minutes; with the kernel's interval and count it would be 12. */
enum { KEEPALIVE_IDLE = 60, KEEPALIVE_INTERVAL = 10, KEEPALIVE_PROBES = 6 };

enum { SPARE_DESCRIPTORS = 8, ACCEPT_AGAIN_MS = 100 };

static const char shared_key = 0;

/* --- making streams ---------------------------------------------------------------------------------------- */

static struct stream_loop *shared_of(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&shared_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  struct stream_loop *shared = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return shared;
}

/* A new stream on the stack, owned by the table at index `owner`. */
static struct stream *new_stream(lua_State *L, int owner, bool local) {
  struct stream_loop *shared = shared_of(L);
  struct stream *s = lua_newuserdata(L, sizeof *s);
  memset(s, 0, sizeof *s);
  s->shared = shared;
  s->descriptor = -1;
  s->closed = true; /* until its handles exist */
  luaL_getmetatable(L, STREAM_TYPE);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, owner);
  lua_setfenv(L, -2);
  lua_pushvalue(L, -1);
  s->reference = luaL_ref(L, LUA_REGISTRYINDEX);
  if (!round_join(&shared->round, shared->loop)) {
    luaL_unref(L, LUA_REGISTRYINDEX, s->reference);
    luaL_error(L, "not enough memory for a stream");
  }
  uv_timer_init(shared->loop, &s->timer); /* cannot fail */
  int status = local ? uv_pipe_init(shared->loop, &s->uv.pipe, 0) : uv_tcp_init(shared->loop, &s->uv.tcp);
  if (status != 0) {
    round_leave(&shared->round);
    luaL_unref(L, LUA_REGISTRYINDEX, s->reference);
    luaL_error(L, "cannot make a socket handle: %s", uv_strerror(status));
  }
  s->open_handles = 2;
  s->closed = false;
  return s;
}

static void set_options(struct stream *s) {
  if (s->uv.handle.type != UV_TCP) return;
  const struct {
    int level, name, value;
  } options[] = {
      {IPPROTO_TCP, TCP_NODELAY, 1},
      {SOL_SOCKET, SO_KEEPALIVE, 1},
      {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE},
      {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL},
      {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
  };
  uv_os_fd_t fd;
  if (uv_fileno(&s->uv.handle, &fd) != 0) return;
  for (size_t i = 0; i < sizeof options / sizeof *options; i++)
    setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

/* Clients have what was set for their listener, which saves four calls of the kernel for each; unless they came when
 * nothing was, to a socket that was made elsewhere. */
static void inherit_options(struct stream *client) {
  int probes = 0;
  socklen_t size = sizeof probes;
  if (client->uv.handle.type != UV_TCP) return;
  getsockopt(client->descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, &size);
  if (probes != KEEPALIVE_PROBES) set_options(client); /* what others set is not so */
}

/* Descriptors are given out lowest first. With none left libuv closes new connections without a word. */
static bool is_one_of_the_last(struct stream *s) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
  return (rlim_t)s->descriptor + SPARE_DESCRIPTORS >= limit.rlim_cur;
}

struct connection_event {
  struct owner_event event;
  struct stream *client;
};

static int push_client(lua_State *L, struct owner_event *event) {
  struct stream *listener = event->stream;
  stream_push(L, listener);
  lua_getfenv(L, OWNER_STREAM);
  struct stream *s = new_stream(L, lua_gettop(L), listener->uv.handle.type == UV_NAMED_PIPE);
  ((struct connection_event *)event)->client = s;
  stream_use(s);
  int status = uv_accept(&listener->uv.stream, &s->uv.stream);
  if (status != 0) return luaL_error(L, "a client cannot be accepted: %s", uv_strerror(status));
  uv_fileno(&s->uv.handle, &s->descriptor); /* cannot fail any more */
  inherit_options(s);
  lua_remove(L, -2);
  lua_pushboolean(L, is_one_of_the_last(s));
  return 3;
}

static void accept_again(uv_timer_t *timer);

/* The client has been accepted by libuv, which accepts no other until this one is taken over. Where memory does not
 * suffice for that it is tried again. */
static void accept_client(struct stream *listener) {
  struct connection_event e = {.event = {.method = ON_CONNECTION, .push = push_client, .keeps = listener->reference}};
  bool told = owner_tell(listener, &e.event) == OWNER_TOLD;
  if (!e.client) {
    if (!listener->closed) uv_timer_start(&listener->timer, accept_again, ACCEPT_AGAIN_MS, 0);
    return;
  }
  if (!told) stream_close(e.client);
  stream_let_go(e.client);
}

static void accept_again(uv_timer_t *timer) {
  accept_client((struct stream *)((char *)timer - offsetof(struct stream, timer)));
}

static void on_connection(uv_stream_t *handle, int status) {
  if (status >= 0) accept_client((struct stream *)handle);
}

static void on_connected(uv_connect_t *request, int status) {
  struct stream *s = (struct stream *)request->handle;
  free(request);
  if (s->closed) return;
  if (status == 0) {
    uv_fileno(&s->uv.handle, &s->descriptor); /* cannot fail any more */
    set_options(s);
  }
  stream_tell_owner(s, ON_CONNECT, status);
  if (status != 0) stream_close(s);
}

struct stream *stream_check(lua_State *L, int index) {
  return luaL_checkudata(L, index, STREAM_TYPE);
}

static int parse_address(lua_State *L, int index, struct sockaddr_storage *address) {
  const char *ip = luaL_checkstring(L, index);
  int port = luaL_checkint(L, index + 1);
  luaL_argcheck(L, port >= 0 && port <= 65535, index + 1, "a port is a number from 0 to 65535");
  if (uv_ip4_addr(ip, port, (struct sockaddr_in *)address) == 0) return 0;
  return uv_ip6_addr(ip, port, (struct sockaddr_in6 *)address);
}

/* stream.connect(owner, ip, port) or stream.connect(owner, path): begins to connect.
 * Result: the stream, whose owner gets on_connect; or nil, message, code. */
static int connect_stream(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  bool local = lua_isnoneornil(L, 3);
  const char *path = luaL_checkstring(L, 2);
  struct sockaddr_storage address;
  if (!local) {
    int status = parse_address(L, 2, &address);
    if (status != 0) return stream_push_failure(L, status);
  }
  struct stream *s = new_stream(L, 1, local);
  uv_connect_t *request = malloc(sizeof *request);
  int status = request ? 0 : UV_ENOMEM;
  if (request && local)
    uv_pipe_connect(request, &s->uv.pipe, path, on_connected);
  else if (request)
    status = uv_tcp_connect(request, &s->uv.tcp, (struct sockaddr *)&address, on_connected);
  if (status == 0) return 1;
  free(request);
  stream_close(s);
  return stream_push_failure(L, status);
}

static int open_socket(struct stream *s, int fd) {
  int status = s->uv.handle.type == UV_NAMED_PIPE ? uv_pipe_open(&s->uv.pipe, fd) : uv_tcp_open(&s->uv.tcp, fd);
  if (status != 0) close(fd);
  return status;
}

/* From now on clients wait in the kernel's queue; they are accepted here only if the listener is not `idle`. */
static int start_listening(struct stream *s, int backlog, bool idle) {
  uv_os_fd_t fd;
  set_options(s);
  if (!idle) return uv_listen(&s->uv.stream, backlog, on_connection);
  struct sockaddr_storage address;
  int size = sizeof address;
  int status = uv_fileno(&s->uv.handle, &fd);
  if (status == 0 && s->uv.handle.type == UV_TCP) /* which tells what libuv has kept of a failed bind */
    status = uv_tcp_getsockname(&s->uv.tcp, (struct sockaddr *)&address, &size);
  if (status == 0 && listen(fd, backlog) != 0) status = -errno;
  return status;
}

/* stream.listen(owner, ip, port, backlog [, idle]) or stream.listen(owner, path, nil, backlog [, idle]): an idle
 * listener accepts nobody: it is for processes that inherit its descriptor. The file of a path stays when the listener
 * closes. Result: the listening stream, whose owner gets on_connection; or nil, message, code. */
static int listen_stream(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  bool local = lua_isnoneornil(L, 3);
  const char *path = luaL_checkstring(L, 2);
  int backlog = luaL_checkint(L, 4);
  bool idle = lua_toboolean(L, 5);
  struct sockaddr_storage address;
  int status = local ? 0 : parse_address(L, 2, &address);
  if (status != 0) return stream_push_failure(L, status);
  struct stream *s = new_stream(L, 1, local);
  int fd = local ? local_socket(path) : -1;
  if (local)
    status = fd < 0 ? fd : open_socket(s, fd);
  else
    status = uv_tcp_bind(&s->uv.tcp, (struct sockaddr *)&address, 0);
  if (status == 0) status = start_listening(s, backlog, idle);
  if (status == 0) return 1;
  stream_close(s);
  return stream_push_failure(L, status);
}

/* stream.listen_on(owner, descriptor, backlog [, idle]): takes over a listening socket that was made elsewhere. From
 * now on no other program inherits it unasked. Result: as that of listen(). */
static int listen_on(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  int fd = luaL_checkint(L, 2);
  int backlog = luaL_checkint(L, 3);
  bool idle = lua_toboolean(L, 4);
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  if (getsockname(fd, (struct sockaddr *)&address, &size) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
    return stream_push_failure(L, -errno);
  struct stream *s = new_stream(L, 1, address.ss_family == AF_UNIX);
  int status = open_socket(s, fd);
  if (status == 0) status = start_listening(s, backlog, idle);
  if (status == 0) return 1;
  stream_close(s);
  return stream_push_failure(L, status);
}

/* stream.open(owner, descriptor): takes over a connected socket that was made elsewhere. Result: the stream; or nil,
 * message, code. */
static int open_descriptor(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  int fd = luaL_checkint(L, 2);
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) return stream_push_failure(L, -errno);
  struct stream *s = new_stream(L, 1, address.ss_family == AF_UNIX);
  int status = open_socket(s, fd);
  if (status == 0) uv_fileno(&s->uv.handle, &s->descriptor);
  if (status == 0) return 1;
  stream_close(s);
  return stream_push_failure(L, status);
}

/* stream:descriptor() -> the number of its socket; or nil, message, code. */
static int descriptor(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  uv_os_fd_t fd;
  int status = s->closed ? UV_EBADF : uv_fileno(&s->uv.handle, &fd);
  if (status != 0) return stream_push_failure(L, status);
  lua_pushinteger(L, fd);
  return 1;
}

/* --- methods ----------------------------------------------------------------------------------------------- */

static int push_status(lua_State *L, bool ok) {
  if (!ok) return stream_push_failure(L, UV_EPIPE);
  lua_pushboolean(L, 1);
  return 1;
}

/* stream:read_packets(limit): from now on the owner gets on_packet; a payload of more than `limit` bytes ends the
 * stream with EMSGSIZE. Result: true, or nil, message, code. */
static int read_packets(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  return push_status(L, stream_read_packets(s, (size_t)luaL_checknumber(L, 2)));
}

/* stream:hold_packets(): no on_packet until read_packets() is called again. What comes is kept, about as much as one
 * packet may have; a relay takes it over. */
static int hold_packets(lua_State *L) {
  stream_check(L, 1)->packets = false;
  return 0;
}

/* stream:send(payload, sequence): writes a payload in packets of its own.
 * Result: the sequence number that follows, or nil, message, code. */
static int send_packet(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  size_t left;
  const uint8_t *payload = (const uint8_t *)luaL_checklstring(L, 2, &left);
  uint8_t sequence = (uint8_t)luaL_checkint(L, 3);
  uint8_t small[1024];
  for (;;) {
    uint32_t length = left < PACKET_MAX_PAYLOAD ? (uint32_t)left : PACKET_MAX_PAYLOAD;
    uint8_t *end = store_header(small, length, sequence++);
    bool ok;
    if (length <= sizeof small - PACKET_HEADER_SIZE) { /* one write for header and payload */
      memcpy(end, payload, length);
      ok = stream_write(s, small, length + PACKET_HEADER_SIZE);
    } else {
      ok = stream_write(s, small, PACKET_HEADER_SIZE) && stream_write(s, payload, length);
    }
    if (!ok) return push_status(L, false);
    payload += length;
    left -= length;
    if (length < PACKET_MAX_PAYLOAD) break;
  }
  lua_pushinteger(L, sequence);
  return 1;
}

/* stream:write(bytes): result true, or nil, message, code. */
static int write_bytes(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  size_t length;
  const char *data = luaL_checklstring(L, 2, &length);
  return push_status(L, stream_write(s, (const uint8_t *)data, length));
}

/* stream:drained(): whether the kernel has taken all that was written; if not, the owner gets on_drain when it has. */
static int drained(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  s->tell_drained = !s->closed && s->queued > 0;
  lua_pushboolean(L, !s->tell_drained);
  return 1;
}

/* stream:idle(): seconds since the last byte came or went (packet mode: the last packet came). */
static int idle(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  lua_pushnumber(L, (lua_Number)(uv_now(s->shared->loop) - s->active_at) / 1000);
  return 1;
}

/* stream:finish(): closes when everything has been written. The owner hears no more of it. */
static int finish(lua_State *L) {
  stream_finish(stream_check(L, 1));
  return 0;
}

/* stream:close(): closes at once. The owner hears no more of it. */
static int close_now(lua_State *L) {
  stream_close(stream_check(L, 1));
  return 0;
}

/* stream:timeout(seconds): the owner gets on_timeout when no packet was read and no byte written for so long; nil or 0:
 * never. */
static int timeout(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  lua_Number seconds = luaL_optnumber(L, 2, 0);
  if (!s->closed && !s->finishing) stream_set_timeout(s, seconds > 0 ? (uint64_t)(seconds * 1000 + 0.5) : 0);
  return 0;
}

/* stream:owner([table]): who is told of events; with an argument, who is from now on. */
static int owner(lua_State *L) {
  stream_check(L, 1);
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushvalue(L, 2);
    lua_setfenv(L, 1);
  }
  lua_getfenv(L, 1);
  return 1;
}

static int push_socket_name(lua_State *L, struct stream *s, bool peer) {
  char text[256];
  if (s->uv.handle.type == UV_NAMED_PIPE) {
    size_t length = sizeof text;
    int status =
        peer ? uv_pipe_getpeername(&s->uv.pipe, text, &length) : uv_pipe_getsockname(&s->uv.pipe, text, &length);
    if (status != 0) return stream_push_failure(L, status);
    lua_pushlstring(L, text, length);
    return 1;
  }
  struct sockaddr_storage address;
  int size = sizeof address;
  int status = peer ? uv_tcp_getpeername(&s->uv.tcp, (struct sockaddr *)&address, &size)
                    : uv_tcp_getsockname(&s->uv.tcp, (struct sockaddr *)&address, &size);
  if (status != 0) return stream_push_failure(L, status);
  bool v6 = address.ss_family == AF_INET6;
  if (v6)
    uv_ip6_name((struct sockaddr_in6 *)&address, text, sizeof text);
  else
    uv_ip4_name((struct sockaddr_in *)&address, text, sizeof text);
  int port = ntohs(v6 ? ((struct sockaddr_in6 *)&address)->sin6_port : ((struct sockaddr_in *)&address)->sin_port);
  lua_pushfstring(L, v6 ? "[%s]:%d" : "%s:%d", text, port);
  lua_pushstring(L, text);
  lua_pushinteger(L, port);
  return 3;
}

/* stream:address("peer" or "local"): "ip:port", ip, port; the path alone of a unix socket ("" if it has none);
 * or nil, message, code. */
static int address(lua_State *L) {
  static const char *const ends[] = {"local", "peer", NULL};
  struct stream *s = stream_check(L, 1);
  int end = luaL_checkoption(L, 2, NULL, ends);
  return s->closed ? stream_push_failure(L, UV_ENOTCONN) : push_socket_name(L, s, end == 1);
}

/* stream.on_error(handler): handler(traceback) is called when an owner's method fails. */
static int on_error(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawseti(L, LUA_REGISTRYINDEX, shared_of(L)->calls.on_error);
  return 0;
}

/* stream.relayed(): how often relays have read something so far. */
static int relayed(lua_State *L) {
  lua_pushnumber(L, (lua_Number)shared_of(L)->relayed);
  return 1;
}

/* stream.time_calls(yes): whether the calls of owners' methods are counted and timed. */
static int time_calls(lua_State *L) {
  shared_of(L)->calls.timed = lua_toboolean(L, 1);
  return 0;
}

/* stream.call_times(): of each method of owners, { calls, seconds }, as far as they were timed. */
static int call_times(lua_State *L) {
  owner_push_times(L, &shared_of(L)->calls);
  return 1;
}

/* stream.on_slow(handler): handler(owner, seconds, method) is called after an owner's method has held up the loop for
 * more than a second. */
static int on_slow(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawseti(L, LUA_REGISTRYINDEX, shared_of(L)->calls.on_slow);
  return 0;
}

/* Runs a callback for luv, which would end the process after an error. The contract is that of luv_cfpcall(). While the
 * Lua state closes luv calls those of all that it cancels, when what they use has been collected: they are left out. */
static int guarded_call(lua_State *L, int arguments, int results, int flags) {
  (void)flags;
  const struct stream_loop *shared = shared_of(L);
  if (shared->closing) {
    lua_pop(L, arguments + 1);
    return -LUA_ERRRUN;
  }
  const struct owner_calls *calls = &shared->calls;
  int base = lua_gettop(L) - arguments;
  push_reference(L, calls->traceback);
  lua_insert(L, base);
  int status = lua_pcall(L, arguments, results, base);
  if (status != 0) owner_report_error(L, calls);
  lua_remove(L, base);
  return status != 0 ? -status : results == LUA_MULTRET ? lua_gettop(L) - base + 1 : results;
}

/* stream.guard_callbacks(): from now on an error in any callback of luv goes to on_error's handler too. */
static int guard_callbacks(lua_State *L) {
  luv_set_callback(L, guarded_call);
  return 0;
}

/* Only a closed stream is collected while Lua runs; at the end of a Lua state luv runs the loop until all is closed. */
static int collect(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  if (s->closed) return 0;
  s->closed = true;
  input_free(&s->input);
  uv_close(&s->uv.handle, NULL);
  uv_close((uv_handle_t *)&s->timer, NULL);
  return 0;
}

static int to_string(lua_State *L) {
  struct stream *s = stream_check(L, 1);
  if (s->closed) {
    lua_pushliteral(L, "mysql.stream (closed)");
  } else if (push_socket_name(L, s, true) == 1) {
    lua_pushfstring(L, "mysql.stream (unix socket %s)", lua_tostring(L, -1));
  } else {
    const char *name = lua_tostring(L, -3);
    lua_pushfstring(L, "mysql.stream (%s)", name ? name : "not connected");
  }
  return 1;
}

static int collect_shared(lua_State *L) {
  struct stream_loop *shared = lua_touserdata(L, 1);
  round_close(&shared->round);
  shared->closing = true;
  return 0;
}

/* Writing to a peer that has gone is to be an error of that write, also in a program that never thought of the signal
 * (libuv sets no MSG_NOSIGNAL). A handler of the program's own stays. */
static void ignore_broken_pipes(void) {
  struct sigaction action;
  if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
}

static void open_shared(lua_State *L) {
  struct stream_loop *shared = lua_newuserdata(L, sizeof *shared);
  shared->L = luv_state(L);
  shared->loop = luv_loop(L);
  shared->closing = false;
  shared->relayed = 0;
  if (!round_open(&shared->round)) luaL_error(L, "not enough memory for the read buffer");
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, collect_shared);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  owner_open(L, &shared->calls);
  recent_open(L, &shared->recent);
  lua_pushlightuserdata(L, (void *)&shared_key);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

/* From here on `require` finds these modules in here: one copy of them is enough for the processor's caches. */
static void offer_modules(lua_State *L) {
  static const luaL_Reg modules[] = {{"mysql.hook", luaopen_mysql_hook},
                                     {"mysql.queue", luaopen_mysql_queue},
                                     {"mysql.resultset", luaopen_mysql_resultset},
                                     {NULL, NULL}};
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  luaL_register(L, NULL, modules);
  lua_pop(L, 2);
}

LUA_MODULE luaopen_mysql_stream(lua_State *L) {
  static const luaL_Reg methods[] = {{"read_packets", read_packets},
                                     {"hold_packets", hold_packets},
                                     {"send", send_packet},
                                     {"write", write_bytes},
                                     {"drained", drained},
                                     {"idle", idle},
                                     {"finish", finish},
                                     {"close", close_now},
                                     {"timeout", timeout},
                                     {"owner", owner},
                                     {"descriptor", descriptor},
                                     {"address", address},
                                     {NULL, NULL}};
  static const luaL_Reg functions[] = {{"connect", connect_stream},
                                       {"listen", listen_stream},
                                       {"listen_on", listen_on},
                                       {"open", open_descriptor},
                                       {"on_error", on_error},
                                       {"on_slow", on_slow},
                                       {"relayed", relayed},
                                       {"time_calls", time_calls},
                                       {"call_times", call_times},
                                       {"guard_callbacks", guard_callbacks},
                                       {NULL, NULL}};

  lua_getglobal(L, "require");
  lua_pushliteral(L, "luv"); /* the loop is luv's */
  lua_call(L, 1, 0);

  offer_modules(L);
  ignore_broken_pipes();
  if (!shared_of(L)) open_shared(L); /* else the module is loaded again, and there may be streams */

  luaL_newmetatable(L, STREAM_TYPE);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, to_string);
  lua_setfield(L, -2, "__tostring");
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  lua_newtable(L);
  luaL_register(L, NULL, functions);
  relay_open(L);
  return 1;
}
