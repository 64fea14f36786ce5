/* A script at the hot path: see relay_script.h. */
#include "relay_script.h"

#include "hook.h"
#include "queue.h"
#include "relay.h"
#include "resultset.h"

/* Upvalues of a caller: what an event needs lies together, and takes one look into the registry. Those from ENVIRONMENT
 * to HOOKS are the arguments of relay:script, in their order. */
enum {
  STREAM = 1,
  RELAY,
  CALL,
  READ_QUERY,
  ENVIRONMENT,
  VIEW,
  QUEUE,
  INJECTION,
  HOOKS,
  READ_QUERY_RESULT,
  RESPONSE,
  ID,
  QUERY,
  RESULTSET,
  UPVALUES = RESULTSET
};
enum { RESPONSE_IS_THERE = 1 };
enum { PROXY_SEND_QUERY = 1 };

static void push(lua_State *L, int upvalue) { lua_pushvalue(L, lua_upvalueindex(upvalue)); }

void script_push_relay(lua_State *L) { push(L, RELAY); }

static int caller(lua_State *L) {
  push(L, STREAM);
  owner_call(L, lua_touserdata(L, 1));
  return 0;
}

void script_calls(const struct relay *r, struct owner_event *event) {
  event->keeps = r->script.caller;
  event->has_caller = true;
}

void script_attach(lua_State *L, struct relay *r) {
  static const char *const names[UPVALUES + 1] = {
      [READ_QUERY] = "read_query", [READ_QUERY_RESULT] = "read_query_result",
      [RESPONSE] = "response",     [ID] = "id",
      [QUERY] = "query",           [RESULTSET] = "resultset"};
  enum { FIRST_ARGUMENT = 2 };
  for (int i = ENVIRONMENT; i < HOOKS; i++)
    if (i != QUEUE) luaL_checktype(L, i - ENVIRONMENT + FIRST_ARGUMENT, LUA_TTABLE);
  struct queue *queue = luaL_checkudata(L, QUEUE - ENVIRONMENT + FIRST_ARGUMENT, QUEUE_TYPE);
  struct hooks *hooks = luaL_checkudata(L, HOOKS - ENVIRONMENT + FIRST_ARGUMENT, HOOKS_TYPE);
  luaL_argcheck(L, !r->script.caller, 1, "a relay without a script expected");
  for (int i = 1; i <= UPVALUES; i++) {
    if (names[i])
      lua_pushstring(L, names[i]);
    else if (i == STREAM)
      stream_push(L, r->client);
    else if (i == RELAY)
      lua_pushvalue(L, 1);
    else if (i == CALL)
      lua_pushnil(L);
    else
      lua_pushvalue(L, i - ENVIRONMENT + FIRST_ARGUMENT);
  }
  lua_pushcclosure(L, caller, UPVALUES);
  r->script.queue = queue;
  r->script.hooks = hooks;
  r->script.caller = luaL_ref(L, LUA_REGISTRYINDEX);
}

void script_serve(lua_State *L, struct relay *r) {
  if (!r->script.caller) return;
  lua_settop(L, 3);
  r->script.number = lua_isnil(L, 2) ? 0 : luaL_checknumber(L, 3);
  push_reference(L, r->script.caller);
  lua_pushvalue(L, 2);
  lua_setupvalue(L, -2, CALL);
}

/* proxy.response is made anew for each command in which the script looks at it: the view's first place says that it is
 * there (lua/mysql-proxy/scripting/response.lua). */
static void forget_response(lua_State *L) {
  push(L, VIEW);
  lua_rawgeti(L, -1, RESPONSE_IS_THERE);
  if (lua_toboolean(L, -1)) {
    lua_pushboolean(L, false);
    lua_rawseti(L, -3, RESPONSE_IS_THERE);
    push(L, RESPONSE);
    lua_pushnil(L);
    lua_rawset(L, -4);
  }
  lua_pop(L, 2);
}

static int look_up(lua_State *L) {
  lua_gettable(L, 1);
  return 1;
}

/* Pushes the script's globals and what they have of that name. To find what the script has not defined itself may take
 * a metamethod of its: that can do anything, and fail, which is false. */
static bool push_global(lua_State *L, int name) {
  push(L, ENVIRONMENT);
  push(L, name);
  lua_rawget(L, -2);
  if (!lua_isnil(L, -1)) return true;
  lua_pop(L, 1);
  lua_pushcfunction(L, look_up);
  lua_pushvalue(L, -2);
  push(L, name);
  return lua_pcall(L, 2, 1, 0) == 0;
}

/* Pushes the script's globals and a hook. False if it cannot be called here: it is no function, or the session's call
 * is used. */
static bool push_hook(lua_State *L, const struct relay *r, int name, lua_Number number) {
  if (!push_global(L, name)) return false;
  int type = lua_type(L, -1);
  bool callable = type == LUA_TFUNCTION || type == LUA_TNIL;
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

static void set(lua_State *L, int object, int name, int value) {
  push(L, name);
  lua_pushvalue(L, value);
  lua_rawset(L, object);
}

/* Whether nobody looks at answers: what is sent for the client is answered to him then. */
static bool has_no_result_hook(lua_State *L) {
  int top = lua_gettop(L);
  bool none = !push_global(L, READ_QUERY_RESULT) || lua_isnil(L, -1);
  lua_settop(L, top);
  return none;
}

/* Whether there still is something to decide. */
static bool is_open(const struct relay *r) { return !r->ended && r->server && r->waiting; }

/* Sends the first command of the queue. False if that is for Lua, and it is still there: it is no text, its answer is
 * not needed, or goes to the client by itself and another is behind it, or is numbered otherwise. */
static bool send_first(lua_State *L, struct relay *r, int payload) {
  bool unseen = has_no_result_hook(L);
  if (!is_open(r) || r->script.queue->count <= 0) return false; /* a metamethod */
  size_t length;
  int packets = lua_gettop(L) + 2, packet = packets + 1, injection = packets + 2, id = packets + 3;
  push(L, QUEUE);
  lua_getfenv(L, -1);
  const struct queued *first = queue_push_first(L, packets, r->script.queue);
  const char *bytes = lua_tolstring(L, packet, &length);
  bool own = lua_rawequal(L, packet, payload);
  if (first->streamed || bytes[0] != COM_QUERY || (!own && !is_plain_query(bytes, length))) return false;
  if (unseen) {
    if (r->script.queue->count > 1 || !(own || relay_can_replace(r, length))) return false;
    queue_drop_first(L, packets, r->script.queue);
    bool sent = own ? relay_forward(r, false) : relay_replace(r, (const uint8_t *)bytes, length);
    return sent || luaL_error(L, "not enough memory");
  }
  push(L, INJECTION);
  lua_pushnumber(L, first->id);
  set(L, injection, ID, id);
  set(L, injection, QUERY, packet);
  queue_drop_first(L, packets, r->script.queue);
  queue_plan(r->script.queue);
  r->script.asked = true;
  if (!relay_inject(r, own ? NULL : (const uint8_t *)bytes, length, TO_OWNER)) luaL_error(L, "not enough memory");
  return true;
}

/* What the hook has decided about the client's command, with its result on top of the stack. False: it is for Lua. */
static bool decide(lua_State *L, struct relay *r, int payload, uint8_t command) {
  if (!is_open(r)) return false;
  if (r->script.queue->count)
    return lua_tonumber(L, -1) == PROXY_SEND_QUERY && command == COM_QUERY && send_first(L, r, payload);
  if (!lua_isnil(L, -1)) return false;
  if (!relay_forward(r, false)) luaL_error(L, "not enough memory");
  return true;
}

/* Both are called with few values on the stack of a C function of their own: there is room for what they push. What
 * they leave for Lua is put in its order only then, in the places of what they do not need any more. */

/* On the stack: relay, payload; byte, call, globals, result, coroutine.
 * To Lua:       relay, payload; byte, call, status, result, coroutine. */
int script_command(lua_State *L, struct relay *r) {
  enum { payload = OWNER_STREAM + 2, byte, call, globals, result };
  lua_Number number = r->script.number;
  size_t length;
  const char *packet = lua_tolstring(L, payload, &length);
  uint8_t command = (uint8_t)packet[0];
  bool called = false;
  lua_pushinteger(L, command);
  if (number && !r->script.queue->count && is_plain(packet, length)) {
    forget_response(L);
    push(L, CALL);
    called = push_hook(L, r, READ_QUERY, number);
  }
  if (called) {
    enum hook_status status = call_hook(L, r, payload, number);
    if (status == HOOK_DONE && r->script.number == number && decide(L, r, payload, command)) return -1;
    lua_settop(L, result + 1);
    hook_push_status(L, status);
    lua_replace(L, globals);
  } else {
    lua_settop(L, byte);
  }
  return lua_gettop(L) - OWNER_STREAM;
}

int script_hand_over(lua_State *L, struct relay *r) {
  r->script.asked = false;
  bool known = r->waiting && relay_waiting_command(r) && relay_push_command(L, r);
  if (!known) lua_pushliteral(L, "\3"); /* the session has ended in the hook: it was a query */
  return 1;
}

/* On the stack: relay, error, kept; injection, call, globals, result, coroutine.
 * To Lua:       relay, error, kept; command, call, status, result, coroutine. */
int script_answer(lua_State *L, struct relay *r, const struct lent *lent) {
  enum { kept = OWNER_STREAM + 3, injection, call, globals, result };
  lua_Number number = r->script.number;
  struct resultset *answer = lua_touserdata(L, kept);
  bool called = false;
  r->script.asked = false;
  push(L, INJECTION);
  if (number && answer) {
    push(L, CALL);
    called = push_hook(L, r, READ_QUERY_RESULT, number);
  }
  if (called) {
    set(L, injection, RESULTSET, kept);
    if (lent && !hook_is_ready(r->script.hooks)) { /* an error before the hook must leave nothing lent */
      resultset_own(L, kept, lent->outcome, lent->bytes, lent->length);
      lent = NULL;
    }
    if (lent) resultset_lend(answer, lent->outcome, lent->bytes, lent->length);
    const uint8_t *bytes = answer->bytes;
    size_t length = answer->length;
    enum hook_status status = call_hook(L, r, injection, number);
    bool all = status == HOOK_DONE && lua_isnil(L, result) && r->script.number == number && !r->script.queue->count &&
               r->waiting && !r->ended;
    if (all || lent) resultset_take_back(answer);
    if (all) {
      set(L, injection, RESULTSET, result);
      relay_reply(r, bytes, length);
      return -1;
    }
    lua_settop(L, result + 1);
    hook_push_status(L, status);
    lua_replace(L, globals);
  } else {
    lua_settop(L, injection);
  }
  if (lent) resultset_own(L, kept, lent->outcome, lent->bytes, lent->length);
  script_hand_over(L, r);
  lua_replace(L, injection);
  return lua_gettop(L) - OWNER_STREAM;
}
