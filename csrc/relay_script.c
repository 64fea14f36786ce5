/* A script at the hot path: see relay_script.h. */
#include "relay_script.h"

#include "hook.h"
#include "queue.h"
#include "relay.h"
#include "resultset.h"

/* Places in the table. The first five are the arguments of relay:script, in their order. */
enum { ENVIRONMENT = 1, VIEW, QUEUE, INJECTION, RUNNING, CALL, THREAD, RESPONSE, LOOK_UP, NAMES };
enum name { READ_QUERY, READ_QUERY_RESULT, RESPONSE_NAME, ID, QUERY, RESULTSET, LAST_NAME };
enum { PROXY_SEND_QUERY = 1 };

static int look_up(lua_State *L) {
  lua_gettable(L, 1);
  return 1;
}

void script_attach(lua_State *L, struct relay *r) {
  static const char *const names[] = {"read_query", "read_query_result", "response", "id", "query", "resultset"};
  for (int place = ENVIRONMENT; place <= RUNNING; place++)
    if (place != QUEUE) luaL_checktype(L, 1 + place, LUA_TTABLE);
  struct queue *queue = luaL_checkudata(L, 1 + QUEUE, QUEUE_TYPE);
  luaL_argcheck(L, !r->script.table, 1, "a relay without a script expected");
  lua_createtable(L, NAMES + LAST_NAME, 0);
  for (int place = ENVIRONMENT; place <= RUNNING; place++) {
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
  r->script.table = luaL_ref(L, LUA_REGISTRYINDEX);
}

void script_serve(lua_State *L, struct relay *r) {
  if (!r->script.table) return;
  lua_settop(L, 3);
  push_reference(L, r->script.table);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, CALL);
  lua_pushvalue(L, 3);
  lua_rawseti(L, -2, THREAD);
  r->script.thread = lua_tothread(L, 3);
}

static void push_name(lua_State *L, int table, enum name name) { lua_rawgeti(L, table, NAMES + (int)name); }

/* proxy.response is an empty table for each command: a new one if the last has been used. */
static void renew_response(lua_State *L, struct relay *r, int table) {
  lua_rawgeti(L, table, VIEW);
  push_name(L, table, RESPONSE_NAME);
  lua_rawget(L, -2);
  bool unused = r->script.response && lua_topointer(L, -1) == r->script.response &&
                !lua_getmetatable(L, -1); /* of the script's */
  if (unused) {
    lua_pushnil(L);
    unused = !lua_next(L, -2);
  }
  if (!unused) {
    lua_settop(L, table + 1);
    push_name(L, table, RESPONSE_NAME);
    lua_createtable(L, 0, 0);
    r->script.response = lua_topointer(L, -1);
    lua_pushvalue(L, -1);
    lua_rawseti(L, table, RESPONSE);
    lua_rawset(L, -3);
  }
  lua_settop(L, table);
}

/* Pushes a hook. False if it cannot be called here: it is no function, or the coroutine serves another. To find what
 * the script has not defined itself may take a metamethod of its: that may fail, or end that the relay has a coroutine.
 */
static bool push_hook(lua_State *L, const struct relay *r, int table, enum name name, lua_State *thread) {
  int hook = lua_gettop(L) + 1;
  lua_rawgeti(L, table, ENVIRONMENT);
  push_name(L, table, name);
  lua_rawget(L, hook);
  if (lua_isnil(L, -1)) {
    lua_settop(L, hook - 1);
    lua_rawgeti(L, table, LOOK_UP);
    lua_rawgeti(L, table, ENVIRONMENT);
    push_name(L, table, name);
    if (lua_pcall(L, 2, 1, 0) != 0) return false;
  } else {
    lua_replace(L, hook);
  }
  return lua_isnil(L, hook) || (lua_isfunction(L, hook) && r->script.thread == thread && hook_is_free(thread));
}

/* Calls the hook on top of the stack, if it is not nil, and leaves what has come of that. */
static enum hook_status call_hook(lua_State *L, int table, int argument, lua_State *thread) {
  if (lua_isnil(L, -1)) return HOOK_DONE;
  int hook = lua_gettop(L), running = hook + 2;
  lua_rawgeti(L, table, THREAD); /* on the stack it lives on, whatever becomes of the session meanwhile */
  lua_rawgeti(L, table, RUNNING);
  lua_rawgeti(L, running, 1);
  lua_rawgeti(L, table, CALL);
  lua_rawseti(L, running, 1);
  lua_pushvalue(L, hook);
  lua_pushvalue(L, argument);
  enum hook_status status = hook_resume(L, thread, 2);
  lua_replace(L, hook);
  lua_rawseti(L, running, 1);
  lua_settop(L, hook);
  return status;
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
  int queue = lua_gettop(L) + 1, packet = queue + 1, id = queue + 2, injection = queue + 3;
  lua_rawgeti(L, table, QUEUE);
  const struct queued *first = queue_push_first(L, queue, r->script.queue);
  const char *bytes = lua_tolstring(L, packet, &length);
  bool own = lua_rawequal(L, packet, payload);
  if (first->streamed || bytes[0] != COM_QUERY || (!own && !is_plain_query(bytes, length))) return false;
  lua_pushnumber(L, first->id);
  lua_rawgeti(L, table, INJECTION);
  set(L, table, injection, ID, id);
  set(L, table, injection, QUERY, packet);
  queue_drop_first(L, queue, r->script.queue);
  r->script.asked = true;
  if (!relay_inject(r, own ? NULL : (const uint8_t *)bytes, length, TO_OWNER)) luaL_error(L, "not enough memory");
  return true;
}

/* What the hook has decided about the client's command, with its result on top of the stack. False: it is for Lua. */
static bool decide(lua_State *L, struct relay *r, int table, int payload) {
  if (r->ended || !r->server || !r->waiting) return false;
  if (lua_isnil(L, -1) && !r->script.queue->count) {
    if (!relay_forward(r, false)) luaL_error(L, "not enough memory");
    return true;
  }
  return r->script.queue->count && lua_type(L, -1) == LUA_TNUMBER && lua_tonumber(L, -1) == PROXY_SEND_QUERY &&
         lua_tostring(L, payload)[0] == COM_QUERY && send_first(L, r, table, payload);
}

/* On the stack: relay, payload, byte; table, result. To Lua: relay, payload, byte, status, result. */
int script_command(lua_State *L, struct relay *r) {
  int top = lua_gettop(L), payload = top - 1, table = top + 1;
  lua_State *thread = r->script.thread;
  size_t length;
  const char *packet = lua_tolstring(L, payload, &length);
  if (!thread || r->script.queue->count || !is_plain(packet, length)) return 3;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  push_reference(L, r->script.table);
  renew_response(L, r, table);
  if (!push_hook(L, r, table, READ_QUERY, thread)) return lua_settop(L, top), 3;
  enum hook_status status = call_hook(L, table, payload, thread);
  if (status == HOOK_DONE && r->script.thread == thread && decide(L, r, table, payload)) return -1;
  hook_push_status(L, status);
  lua_replace(L, table);
  lua_settop(L, table + 1);
  return 5;
}

int script_hand_over(lua_State *L, struct relay *r) {
  r->script.asked = false;
  bool known = r->waiting && relay_waiting_command(r) && relay_push_command(L, r);
  if (!known) lua_pushliteral(L, "\3"); /* the session has ended in the hook: it was a query */
  return 1;
}

/* On the stack: relay, error, kept; table, injection, result. To Lua: relay, error, kept, command, status, result. */
int script_answer(lua_State *L, struct relay *r) {
  int kept = lua_gettop(L), table = kept + 1, injection = kept + 2, result = kept + 3;
  lua_State *thread = r->script.thread;
  r->script.asked = false;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  push_reference(L, r->script.table);
  lua_rawgeti(L, table, INJECTION);
  if (!thread || !lua_isuserdata(L, kept) || !push_hook(L, r, table, READ_QUERY_RESULT, thread)) {
    lua_settop(L, kept);
    return 3 + script_hand_over(L, r);
  }
  set(L, table, injection, RESULTSET, kept);
  enum hook_status status = call_hook(L, table, injection, thread);
  if (status == HOOK_DONE && lua_isnil(L, result) && r->script.thread == thread && !r->script.queue->count &&
      r->waiting && !r->ended) {
    const struct resultset *answer = lua_touserdata(L, kept);
    set(L, table, injection, RESULTSET, result);
    relay_reply(r, answer->bytes, answer->length);
    return -1;
  }
  hook_push_status(L, status);
  lua_replace(L, injection);
  script_hand_over(L, r);
  lua_replace(L, table);
  return 6;
}
