/* A script at the hot path: see relay_script.h. */
#include "relay_script.h"

#include "hook.h"
#include "queue.h"
#include "relay.h"
#include "resultset.h"

/* Places in the table. The first five are the arguments of relay:script, in their order. */
enum { ENVIRONMENT = 1, VIEW, QUEUE, INJECTION, HOOKS, CALL, LOOK_UP, NAMES };
enum name { READ_QUERY, READ_QUERY_RESULT, RESPONSE, ID, QUERY, RESULTSET, LAST_NAME };
enum { RESPONSE_IS_THERE = 1 };
enum { PROXY_SEND_QUERY = 1 };

static int look_up(lua_State *L) {
  lua_gettable(L, 1);
  return 1;
}

void script_attach(lua_State *L, struct relay *r) {
  static const char *const names[] = {"read_query", "read_query_result", "response", "id", "query", "resultset"};
  for (int place = ENVIRONMENT; place < HOOKS; place++)
    if (place != QUEUE) luaL_checktype(L, 1 + place, LUA_TTABLE);
  struct hooks *hooks = luaL_checkudata(L, 1 + HOOKS, HOOKS_TYPE);
  struct queue *queue = luaL_checkudata(L, 1 + QUEUE, QUEUE_TYPE);
  luaL_argcheck(L, !r->script.table, 1, "a relay without a script expected");
  lua_createtable(L, NAMES + LAST_NAME, 0);
  for (int place = ENVIRONMENT; place <= HOOKS; place++) {
    lua_pushvalue(L, 1 + place);
    lua_rawseti(L, -2, place);
  }
  lua_pushcfunction(L, look_up);
  lua_rawseti(L, -2, LOOK_UP);
  for (int i = 0; i < LAST_NAME; i++) {
    lua_pushstring(L, names[i]);
    lua_rawseti(L, -2, NAMES + i);
  }
  r->script.queue = queue;
  r->script.hooks = hooks;
  r->script.table = luaL_ref(L, LUA_REGISTRYINDEX);
}

void script_serve(lua_State *L, struct relay *r) {
  if (!r->script.table) return;
  lua_settop(L, 3);
  r->script.number = lua_isnil(L, 2) ? 0 : luaL_checknumber(L, 3);
  push_reference(L, r->script.table);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, CALL);
}

static void push_name(lua_State *L, int table, enum name name) { lua_rawgeti(L, table, NAMES + (int)name); }

/* proxy.response is made anew for each command in which the script looks at it: the view's first place says that it is
 * there (lua/mysql-proxy/scripting/response.lua). */
static void forget_response(lua_State *L, int table) {
  int view = table + 1;
  lua_rawgeti(L, table, VIEW);
  lua_rawgeti(L, view, RESPONSE_IS_THERE);
  if (lua_toboolean(L, -1)) {
    lua_pushboolean(L, false);
    lua_rawseti(L, view, RESPONSE_IS_THERE);
    push_name(L, table, RESPONSE);
    lua_pushnil(L);
    lua_rawset(L, view);
  }
  lua_settop(L, table);
}

/* Pushes the script's globals and a hook. False if it cannot be called here: it is no function, or the session's call
 * is used. To find what the script has not defined itself may take a metamethod of its: that may fail, or have used it.
 */
static bool push_hook(lua_State *L, const struct relay *r, int table, enum name name, lua_Number number) {
  int environment = lua_gettop(L) + 1, hook = environment + 1;
  lua_rawgeti(L, table, ENVIRONMENT);
  push_name(L, table, name);
  lua_rawget(L, environment);
  if (lua_isnil(L, hook)) {
    lua_settop(L, environment);
    lua_rawgeti(L, table, LOOK_UP);
    lua_pushvalue(L, environment);
    push_name(L, table, name);
    if (lua_pcall(L, 2, 1, 0) != 0) return false;
  }
  bool callable = lua_isnil(L, hook) || lua_isfunction(L, hook);
  return callable && r->script.number == number && !hook_runs(r->script.hooks, number);
}

/* Calls the hook on top of the stack, if it is not nil, and leaves what has come of that, as hook_call does. */
static enum hook_status call_hook(lua_State *L, struct relay *r, int argument, lua_Number number) {
  if (lua_isnil(L, -1)) return HOOK_DONE;
  lua_pushvalue(L, argument);
  return hook_call(L, r->script.hooks, number);
}

/* Text of a statement that is no USE, which changes what scripts see. */
static bool is_plain_query(const char *packet, size_t length) {
  return length < 4 || (packet[1] | 32) != 'u' || (packet[2] | 32) != 's' || (packet[3] | 32) != 'e';
}

/* A command that changes nothing that scripts see. */
static bool is_plain(const char *packet, size_t length) {
  switch ((uint8_t)packet[0]) {
  case COM_QUERY: return is_plain_query(packet, length);
  case COM_INIT_DB:
  case COM_CHANGE_USER: return false;
  default: return true;
  }
}

static void set(lua_State *L, int table, int object, enum name name, int value) {
  push_name(L, table, name);
  lua_pushvalue(L, value);
  lua_rawset(L, object);
}

/* Sends the first command of the queue, unless it is no text, or its answer is not needed: then it is still there. */
static bool send_first(lua_State *L, struct relay *r, int table, int payload) {
  size_t length;
  int packets = lua_gettop(L) + 2, packet = packets + 1, injection = packets + 2, id = packets + 3;
  lua_rawgeti(L, table, QUEUE);
  lua_getfenv(L, -1);
  const struct queued *first = queue_push_first(L, packets, r->script.queue);
  const char *bytes = lua_tolstring(L, packet, &length);
  bool own = lua_rawequal(L, packet, payload);
  if (first->streamed || bytes[0] != COM_QUERY || (!own && !is_plain_query(bytes, length))) return false;
  lua_rawgeti(L, table, INJECTION);
  lua_pushnumber(L, first->id);
  set(L, table, injection, ID, id);
  set(L, table, injection, QUERY, packet);
  queue_drop_first(L, packets, r->script.queue);
  r->script.asked = true;
  if (!relay_inject(r, own ? NULL : (const uint8_t *)bytes, length, TO_OWNER)) luaL_error(L, "not enough memory");
  return true;
}

/* What the hook has decided about the client's command, with its result on top of the stack. False: it is for Lua. */
static bool decide(lua_State *L, struct relay *r, int table, int payload, char command) {
  if (r->ended || !r->server || !r->waiting) return false;
  if (r->script.queue->count)
    return lua_tonumber(L, -1) == PROXY_SEND_QUERY && command == COM_QUERY && send_first(L, r, table, payload);
  if (!lua_isnil(L, -1)) return false;
  if (!relay_forward(r, false)) luaL_error(L, "not enough memory");
  return true;
}

/* Both are called with few values on the stack of a C function of their own: there is room for what they push. What
 * they leave for Lua is put in its order only then, in the places of what they do not need any more. */

/* On the stack: relay, payload; table, call, globals, result, coroutine.
 * To Lua:       relay, payload; byte, call, status, result, coroutine. */
int script_command(lua_State *L, struct relay *r) {
  int payload = lua_gettop(L), table = payload + 1, result = payload + 4;
  lua_Number number = r->script.number;
  size_t length;
  const char *packet = lua_tolstring(L, payload, &length);
  uint8_t command = (uint8_t)packet[0];
  bool called = false;
  if (number && !r->script.queue->count && is_plain(packet, length)) {
    push_reference(L, r->script.table);
    forget_response(L, table);
    lua_rawgeti(L, table, CALL);
    called = push_hook(L, r, table, READ_QUERY, number);
  }
  if (called) {
    enum hook_status status = call_hook(L, r, payload, number);
    if (status == HOOK_DONE && r->script.number == number && decide(L, r, table, payload, (char)command)) return -1;
    lua_settop(L, result + 1);
    hook_push_status(L, status);
    lua_replace(L, result - 1);
  } else {
    lua_settop(L, table);
  }
  lua_pushinteger(L, command);
  lua_replace(L, table);
  return lua_gettop(L) - payload + 2;
}

int script_hand_over(lua_State *L, struct relay *r) {
  r->script.asked = false;
  bool known = r->waiting && relay_waiting_command(r) && relay_push_command(L, r);
  if (!known) lua_pushliteral(L, "\3"); /* the session has ended in the hook: it was a query */
  return 1;
}

/* On the stack: relay, error, kept; table, call, globals, result, coroutine, with the injection behind the table.
 * To Lua:       relay, error, kept; command, call, status, result, coroutine. */
int script_answer(lua_State *L, struct relay *r, const struct lent *lent) {
  int kept = lua_gettop(L), table = kept + 1, injection = kept + 2, result = kept + 5;
  lua_Number number = r->script.number;
  struct resultset *answer = lua_touserdata(L, kept);
  bool called = false;
  r->script.asked = false;
  if (number && answer) {
    push_reference(L, r->script.table);
    lua_rawgeti(L, table, INJECTION);
    lua_rawgeti(L, table, CALL);
    called = push_hook(L, r, table, READ_QUERY_RESULT, number);
  }
  if (called) {
    set(L, table, injection, RESULTSET, kept);
    if (lent) resultset_lend(answer, lent->outcome, lent->bytes, lent->length);
    enum hook_status status = call_hook(L, r, injection, number);
    const uint8_t *bytes = answer->bytes;
    size_t length = answer->length;
    bool all = status == HOOK_DONE && lua_isnil(L, result) && r->script.number == number && !r->script.queue->count &&
               r->waiting && !r->ended;
    if (all || lent) resultset_take_back(answer);
    if (all) {
      set(L, table, injection, RESULTSET, result);
      relay_reply(r, bytes, length);
      return -1;
    }
    lua_settop(L, result + 1);
    hook_push_status(L, status);
    lua_replace(L, result - 1);
    lua_remove(L, injection);
  } else {
    lua_settop(L, table);
  }
  if (lent) resultset_own(L, kept, lent->outcome, lent->bytes, lent->length);
  script_hand_over(L, r);
  lua_replace(L, table);
  return lua_gettop(L) - kept + 3;
}
