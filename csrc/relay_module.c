/* The relay's face to Lua: stream.relay() and the methods of what it returns. */
#include <stdlib.h>

#include "relay.h"
#include "resultset.h"

#define RELAY_TYPE "mysql.relay"

/* A method's upvalue is the metatable of relays: to compare is quicker than to look it up by its name. */
static struct relay *check_relay(lua_State *L) {
  struct relay *r = lua_touserdata(L, 1);
  if (!r || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1))) luaL_typerror(L, 1, RELAY_TYPE);
  lua_pop(L, 1);
  return r;
}

static uint64_t option_ms(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  lua_Number seconds = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return seconds > 0 ? (uint64_t)(seconds * 1000 + 0.5) : 0;
}

static size_t option_size(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  lua_Number bytes = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return bytes > 0 ? (size_t)bytes : SIZE_MAX;
}

/* A side's capabilities: the CLIENT_* flags, MariaDB's extended ones above them. */
static uint64_t check_capabilities(lua_State *L, int index) {
  luaL_checktype(L, index, LUA_TTABLE);
  lua_getfield(L, index, "capabilities");
  lua_getfield(L, index, "extended_capabilities");
  uint64_t flags = (uint64_t)luaL_checknumber(L, -2) | (uint64_t)luaL_optnumber(L, -1, 0) << 32;
  lua_pop(L, 2);
  return flags;
}

/* stream.relay(client, server, challenge, response, options): joins two streams whose login is over.
 * server may be nil: then commands can be answered by the owner alone. challenge and response: tables with capabilities
 * and extended_capabilities, as mysql.proto decodes the greeting and the handshake response; what both name is
 * negotiated. options: read_timeout and write_timeout (seconds, nil or 0: none); command_limit and answer_limit: bytes
 * that a watched command may have, without the headers of its packets, and an answer kept for the owner, with them
 * (nil: any number). Nothing moves before start(). */
static int new_relay(lua_State *L) {
  struct stream *client = stream_check(L, 1);
  struct stream *server = lua_isnil(L, 2) ? NULL : stream_check(L, 2);
  uint64_t capabilities = check_capabilities(L, 3) & check_capabilities(L, 4);
  luaL_checktype(L, 5, LUA_TTABLE);
  luaL_argcheck(L, !client->closed && !client->relay, 1, "an open stream without a relay expected");
  luaL_argcheck(L, !server || (!server->closed && !server->relay), 2, "an open stream without a relay expected");
  struct relay *r = lua_newuserdata(L, sizeof *r);
  memset(r, 0, sizeof *r);
  luaL_getmetatable(L, RELAY_TYPE);
  lua_setmetatable(L, -2);
  r->shared = client->shared;
  r->client = client;
  r->server = server;
  r->pending = r->pending_inline;
  r->pending_capacity = PENDING_INLINE;
  r->capabilities = capabilities;
  r->read_limit = option_ms(L, 5, "read_timeout");
  r->write_limit = option_ms(L, 5, "write_timeout");
  r->command_limit = option_size(L, 5, "command_limit");
  r->answer_limit = option_size(L, 5, "answer_limit");
  lua_pushvalue(L, -1);
  r->reference = luaL_ref(L, LUA_REGISTRYINDEX);
  client->packets = false;
  client->relay = r;
  if (server) server->packets = false;
  if (server) server->relay = r;
  return 1;
}

/* What a stream has read before. */
static void take_rest(struct relay *r, struct stream *s) {
  if (r->ended || !s) return;
  struct input rest = s->input;
  memset(&s->input, 0, sizeof rest);
  if (rest.length) relay_read(r, s, rest.data, rest.length);
  input_free(&rest);
}

/* relay:start(): from here on bytes move, those first that the streams have read already. */
static int start(lua_State *L) {
  struct relay *r = check_relay(L);
  if (r->ended) return 0;
  uint64_t limit =
      !r->write_limit || (r->read_limit && r->read_limit < r->write_limit) ? r->read_limit : r->write_limit;
  if (r->server) stream_set_timeout(r->server, 0);
  stream_set_timeout(r->client, limit);
  take_rest(r, r->client);
  take_rest(r, r->server); /* which the owner may have detached meanwhile */
  relay_settle(r);
  return 0;
}

/* relay:watch(command, ...): these command bytes are shown to the owner from now on. */
static int watch(lua_State *L) {
  struct relay *r = check_relay(L);
  for (int i = 2; i <= lua_gettop(L); i++) {
    int command = luaL_checkint(L, i);
    luaL_argcheck(L, command >= 0 && command <= 255, i, "a command is a number from 0 to 255");
    r->watched[command / 8] |= (uint8_t)(1 << (command % 8));
    r->watching = true;
  }
  return 0;
}

/* relay:script(environment, view, queue, injection, hooks): the hooks of a script can be called from here on. These are
 * its globals, its `proxy`, its proxy.queries (mysql.queue), what read_query_result gets, and what runs it
 * (mysql.hook).
 */
static int script(lua_State *L) {
  struct relay *r = check_relay(L);
  if (!r->ended) script_attach(L, r);
  return 0;
}

/* relay:serve(call, number): from here on these hooks are called by the relay, as that number, and what it cannot deal
 * with is told with that table. nil: the owner calls them. */
static int serve(lua_State *L) {
  script_serve(L, check_relay(L));
  return 0;
}

static void check_waiting(lua_State *L, const struct relay *r) {
  if (!r->waiting) luaL_error(L, "no command is waiting for a decision: call this once for each on_command");
}

/* relay:forward([notify]): the waiting command goes to the server as it came. With notify the owner gets on_answer
 * when it has been answered, before any later command is looked at. */
static int forward(lua_State *L) {
  struct relay *r = check_relay(L);
  if (r->ended) return 0;
  check_waiting(L, r);
  if (!relay_forward(r, lua_toboolean(L, 2))) return luaL_error(L, "not enough memory");
  return 0;
}

/* Packets for the client: a string, or a kept answer. */
static const uint8_t *check_packets(lua_State *L, int index, size_t *length) {
  const uint8_t *bytes;
  if (lua_isuserdata(L, index)) {
    const struct resultset *answer = resultset_check(L, index);
    bytes = answer->bytes;
    *length = answer->length;
  } else {
    bytes = (const uint8_t *)luaL_checklstring(L, index, length);
  }
  luaL_argcheck(L, *length == 0 || *length >= PACKET_HEADER_SIZE, index, "packets with their headers expected");
  return bytes;
}

/* relay:answer(packets): the client gets these packets (a string, headers included, or a kept mysql.resultset) as the
 * answer to the waiting command; they are numbered on from it. The command goes on waiting. */
static int answer(lua_State *L) {
  struct relay *r = check_relay(L);
  size_t length;
  if (r->ended) return 0;
  check_waiting(L, r);
  const uint8_t *packets = check_packets(L, 2, &length);
  if (length) relay_answer(r, packets, length); /* else it is what a script wants */
  return 0;
}

/* relay:reply([packets]): the waiting command is done: it has been answered, has no answer, or these packets are it. */
static int reply(lua_State *L) {
  struct relay *r = check_relay(L);
  size_t length = 0;
  if (r->ended) return 0;
  check_waiting(L, r);
  const uint8_t *packets = lua_isnoneornil(L, 2) ? NULL : check_packets(L, 2, &length);
  relay_reply(r, packets, length);
  return 0;
}

/* relay:inject(payload [, to_client]): sends the server a command, in the form that scripts know, or with nil the
 * waiting command as it came. Its answer comes with on_answer, or goes to the client before that. A command without an
 * answer has no on_answer; it is not sent if it is so short that some servers give it one.
 * Result: true; nil, message, code if it was not sent; nothing if the relay has ended. */
static int inject(lua_State *L) {
  struct relay *r = check_relay(L);
  size_t length;
  const uint8_t *payload = (const uint8_t *)luaL_optlstring(L, 2, NULL, &length);
  luaL_argcheck(L, !payload || length > 0, 2, "a command of at least 1 byte expected");
  if (r->ended) return 0;
  if (!payload) check_waiting(L, r);
  if (payload && length < response_shortest(payload[0])) {
    lua_pushnil(L);
    lua_pushfstring(L, "a command %d has at least %d bytes, and this one has %d", (int)payload[0],
                    (int)response_shortest(payload[0]), (int)length);
    lua_pushliteral(L, "EINVAL");
    return 3;
  }
  if (!relay_inject(r, payload, length, lua_toboolean(L, 3) ? TO_CLIENT_NOTIFY : TO_OWNER))
    return luaL_error(L, "not enough memory");
  relay_update_reading(r);
  lua_pushboolean(L, true);
  return 1;
}

/* relay:due(): how many commands have not been answered yet. */
static int due(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_relay(L)->pending_count);
  return 1;
}

/* relay:statement(): of the command whose answer comes next, the digest and the text as statistics:digests() has them.
 * Nothing if no answer is due, or if it is not counted. */
static int statement(lua_State *L) {
  struct relay *r = check_relay(L);
  if (!r->counting || !r->pending_count) return 0;
  const struct digest *d = statistics_find(r->counting->statistics, relay_pending_at(r, 0)->statement);
  if (!d) return 0;
  char name[DIGEST_NAME];
  digest_name(d, name);
  lua_pushstring(L, name);
  lua_pushlstring(L, d->text, d->text_length);
  return 2;
}

/* relay:detach(): the server's stream leaves the relay, to be used for another client; no answer may be due.
 * Result: the stream, which belongs to its owner again, and whether it is doubtful that others can use it, as the
 * server may say what belongs to no command of theirs; nil if nobody can. */
static int detach(lua_State *L) {
  struct relay *r = check_relay(L);
  struct stream *server = r->server;
  if (!server || r->pending_count || server->closed || server->finishing) return 0;
  stream_push(L, server);
  r->server = NULL;
  server->relay = NULL;
  lua_pushboolean(L, r->doubtful);
  return 2;
}

/* relay:attach(server): goes on with another server, that negotiated the same capabilities. */
static int attach(lua_State *L) {
  struct relay *r = check_relay(L);
  struct stream *server = stream_check(L, 2);
  luaL_argcheck(L, !r->server, 1, "a relay without a server expected");
  luaL_argcheck(L, !server->closed && !server->relay, 2, "an open stream without a relay expected");
  if (r->ended) return 0;
  server->packets = false;
  server->relay = r;
  r->server = server;
  r->deaf = r->doubtful = false;
  stream_set_timeout(server, 0);
  relay_update_reading(r);
  return 0;
}

/* relay:expect_second_error(): this server answers a COM_CHANGE_USER that it refuses with two ERR packets (bug 25371 of
 * MySQL). Nobody gets the second; the command has to be forwarded with notify, or injected. */
static int expect_second_error(lua_State *L) {
  check_relay(L)->second_error = true;
  return 0;
}

/* relay:summary(): what the last answer was, of which the client has got the packets: a mysql.resultset with counters
 * alone. */
static int summary(lua_State *L) {
  uint8_t *no_bytes;
  resultset_push(L, &check_relay(L)->answer, true, false, 0, &no_bytes);
  return 1;
}

/* 0 for an answer that a server has sent in advance. */
static lua_Number microseconds(uint64_t from, uint64_t to) { return to > from ? (lua_Number)((to - from) / 1000) : 0; }

/* relay:times(): microseconds from the last injected command to the first byte of its answer and to the last. */
static int times(lua_State *L) {
  struct relay *r = check_relay(L);
  lua_pushnumber(L, microseconds(r->sent_at, r->first_byte_at));
  lua_pushnumber(L, microseconds(r->sent_at, r->ended_at));
  return 2;
}

/* relay:close_when_idle(): ends the session once no answer is due, with on_relay_end(relay, "idle"). */
static int close_when_idle(lua_State *L) {
  struct relay *r = check_relay(L);
  r->close_when_idle = true;
  if (!r->ended) relay_close_if_idle(r);
  return 0;
}

/* relay:close_after_answer(yes): ends the session once the client's command at hand has been answered, with
 * on_relay_end(relay, "idle"), or not after all. What it has sent behind that command is not looked at. */
static int close_after_answer(lua_State *L) {
  struct relay *r = check_relay(L);
  r->close_after_answer = lua_toboolean(L, 2);
  if (!r->ended) relay_close_if_idle(r);
  return 0;
}

/* relay:client_has_left(): whether it sends no more, and is there for its answers at the most. */
static int client_has_left(lua_State *L) {
  lua_pushboolean(L, check_relay(L)->client_done);
  return 1;
}

/* relay:count(statistics, backend, user, schema [, seconds, log_slow]): from here on commands are counted in a
 * mysql.statistics, and for a server (nil: none) and an account; log_slow(command) is called for each that has taken so
 * many seconds (relay_slow.c says what it gets). To be called again when it has another server, or the account has
 * changed without a command of the session's. */
static int count(lua_State *L) {
  struct relay *r = check_relay(L);
  struct statistics *statistics = luaL_checkudata(L, 2, STATISTICS_TYPE);
  struct tally *backend = lua_isnil(L, 3) ? NULL : luaL_checkudata(L, 3, STATISTICS_BACKEND_TYPE);
  size_t user_length, schema_length;
  const char *user = luaL_checklstring(L, 4, &user_length), *schema = luaL_checklstring(L, 5, &schema_length);
  uint64_t slow = NEVER_SLOW;
  lua_settop(L, 7);
  if (!lua_isnil(L, 6)) {
    lua_Number seconds = luaL_checknumber(L, 6);
    luaL_argcheck(L, seconds >= 0 && seconds <= INT32_MAX, 6, "a number of seconds expected");
    luaL_checktype(L, 7, LUA_TFUNCTION);
    slow = (uint64_t)(seconds * 1e9);
  }
  if (r->ended) return 0;
  lua_createtable(L, 3, 0); /* keeps them */
  const int kept[] = {2, 3, 7};
  for (int i = 0; i < 3; i++) {
    lua_pushvalue(L, kept[i]);
    lua_rawseti(L, -2, i + 1);
  }
  struct account *account = account_new(user, user_length, schema, schema_length);
  if (!account || !counting_begin(r, statistics, backend, account, slow))
    return free(account), luaL_error(L, "not enough memory");
  lua_setfenv(L, 1);
  return 0;
}

/* relay:counters(): commands, bytes from the client, bytes from the server. */
static int counters(lua_State *L) {
  struct relay *r = check_relay(L);
  lua_pushnumber(L, (lua_Number)r->commands);
  lua_pushnumber(L, (lua_Number)r->from_client);
  lua_pushnumber(L, (lua_Number)r->from_server);
  return 3;
}

static int to_string(lua_State *L) {
  struct relay *r = check_relay(L);
  lua_pushfstring(L, "mysql.relay (%s, %d answers due)", r->ended ? "ended" : "open", (int)r->pending_count);
  return 1;
}

static int collect(lua_State *L) {
  struct relay *r = check_relay(L);
  input_free(&r->held);
  input_free(&r->collected);
  relay_pending_drop(r);
  counting_free(r->counting);
  r->counting = NULL;
  return 0;
}

/* Flags that say nothing of how a session goes on after its login. */
#define LOGIN_FLAGS                                                                                                    \
  (1 /* LONG_PASSWORD */ | 1 << 3 /* CONNECT_WITH_DB */ | 1 << 4 /* NO_SCHEMA */ | 1 << 6 /* ODBC */ |                 \
   1 << 10 /* INTERACTIVE */ | 1 << 19 /* PLUGIN_AUTH */ | 1 << 20 /* CONNECT_ATTRS */ |                               \
   1 << 21 /* PLUGIN_AUTH_LENENC */ | 1 << 22 /* CAN_HANDLE_EXPIRED_PASSWORDS */ | UINT64_C(3) << 30)

/* stream.negotiated(challenge, response): the capabilities that both sides named, as a number (MariaDB's extended ones
 * times 2^32), without those that end with the login: sessions that have the same speak alike. And all of them. */
static int negotiated(lua_State *L) {
  uint64_t flags = check_capabilities(L, 1) & check_capabilities(L, 2);
  lua_pushnumber(L, (lua_Number)(flags & ~(uint64_t)LOGIN_FLAGS));
  lua_pushnumber(L, (lua_Number)flags);
  return 2;
}

void relay_open(lua_State *L) {
  static const luaL_Reg methods[] = {{"summary", summary},
                                     {"answer", answer},
                                     {"expect_second_error", expect_second_error},
                                     {"due", due},
                                     {"statement", statement},
                                     {"detach", detach},
                                     {"attach", attach},
                                     {"start", start},
                                     {"watch", watch},
                                     {"forward", forward},
                                     {"reply", reply},
                                     {"inject", inject},
                                     {"close_when_idle", close_when_idle},
                                     {"close_after_answer", close_after_answer},
                                     {"client_has_left", client_has_left},
                                     {"count", count},
                                     {"counters", counters},
                                     {"times", times},
                                     {"script", script},
                                     {"serve", serve},
                                     {NULL, NULL}};
  resultset_open_types(L);
  luaL_newmetatable(L, RELAY_TYPE);
  lua_pushvalue(L, -1);
  luaL_openlib(L, NULL, (const luaL_Reg[]){{"__gc", collect}, {"__tostring", to_string}, {NULL, NULL}}, 1);
  lua_newtable(L);
  lua_pushvalue(L, -2);
  luaL_openlib(L, NULL, methods, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_pushcfunction(L, new_relay);
  lua_setfield(L, -2, "relay");
  lua_pushcfunction(L, negotiated);
  lua_setfield(L, -2, "negotiated");
}
