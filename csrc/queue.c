/* Lua module mysql.queue: commands that a script wants to be sent, each with a number of its choice. This is what
 * scripts have as proxy.queries.
 *
 * new(): an empty queue. A queue has the methods append(id, packet [, { resultset_is_needed = boolean }]), prepend(the
 * same), reset(), len(), and `#`. plan(queue): what is in it now was planned. take(queue): removes the first command,
 * and returns its packet, id, whether it is streamed, which is to say that its result is not needed, and whether it was
 * planned; nil if there is none. */
#include "queue.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 4, MOST = 1 << 20 };

/* A method's upvalues are the metatable of queues, and the name of the option, which would have to be hashed. */
static struct queue *check_queue(lua_State *L) {
  struct queue *q = lua_touserdata(L, 1);
  if (!q || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1)))
    luaL_error(L, "call it with a colon: proxy.queries:append(...), :prepend(...), :reset(), :len()");
  lua_pop(L, 1);
  return q;
}

/* { resultset_is_needed = boolean } at index 4. */
static bool check_streamed(lua_State *L) {
  if (lua_isnoneornil(L, 4)) return false;
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_gettable(L, 4);
  bool given = !lua_isnil(L, -1), needed = lua_toboolean(L, -1);
  if (given && !lua_isboolean(L, -1)) {
    lua_Debug ar;
    const char *name = lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name ? ar.name : "append";
    luaL_argerror(
        L, 4, lua_pushfstring(L, "(:%s(..., { resultset_is_needed = boolean } ), is %s)", name, luaL_typename(L, -1)));
  }
  lua_pop(L, 1);
  return given && !needed;
}

/* The commands are in a row again, in a ring of twice the size. */
static void grow(lua_State *L, struct queue *q) {
  int before = q->capacity, capacity = before ? before * 2 : FIRST_CAPACITY;
  if (capacity > MOST) luaL_error(L, "too many commands in proxy.queries");
  lua_createtable(L, capacity, 0);
  if (q->capacity != before) { /* what the collector has finalized for that has queued others */
    lua_pop(L, 1);
    return;
  }
  lua_getfenv(L, 1);
  struct queued *grown = malloc((size_t)capacity * sizeof *grown);
  if (!grown) luaL_error(L, "not enough memory");
  for (int i = 0; i < q->count; i++) {
    int place = (q->first + i) % q->capacity;
    grown[i] = q->commands[place];
    lua_rawgeti(L, -1, place + 1);
    lua_rawseti(L, -3, i + 1);
  }
  free(q->commands);
  q->commands = grown;
  q->capacity = capacity;
  q->first = 0;
  lua_pop(L, 1);
  lua_setfenv(L, 1);
}

static void put(lua_State *L, struct queue *q, bool front) {
  lua_Number id = luaL_checknumber(L, 2);
  size_t length;
  luaL_checklstring(L, 3, &length);
  luaL_argcheck(L, length > 0, 3, "a command of at least 1 byte expected");
  bool streamed = check_streamed(L);
  while (q->count == q->capacity) grow(L, q); /* a collected object may fill it again */
  if (front) q->first = (q->first + q->capacity - 1) % q->capacity;
  int place = front ? q->first : (q->first + q->count) % q->capacity;
  q->commands[place] = (struct queued){id < 0 ? ceil(id) : floor(id), streamed, false};
  q->count++;
  lua_getfenv(L, 1);
  lua_pushvalue(L, 3);
  lua_rawseti(L, -2, place + 1);
}

static int append(lua_State *L) {
  put(L, check_queue(L), false);
  return 0;
}

static int prepend(lua_State *L) {
  put(L, check_queue(L), true);
  return 0;
}

const struct queued *queue_push_first(lua_State *L, int packets, const struct queue *q) {
  lua_rawgeti(L, packets, q->first + 1);
  return &q->commands[q->first];
}

void queue_drop_first(lua_State *L, int packets, struct queue *q) {
  lua_pushboolean(L, false);
  lua_rawseti(L, packets, q->first + 1);
  q->first = (q->first + 1) % q->capacity;
  q->count--;
}

void queue_plan(struct queue *q) {
  for (int i = 0; i < q->count; i++) q->commands[(q->first + i) % q->capacity].planned = true;
}

static int plan(lua_State *L) {
  queue_plan(check_queue(L));
  return 0;
}

static int reset(lua_State *L) {
  struct queue *q = check_queue(L);
  lua_settop(L, 1);
  lua_getfenv(L, 1);
  while (q->count > 0) queue_drop_first(L, 2, q);
  return 0;
}

static int len(lua_State *L) {
  lua_pushinteger(L, check_queue(L)->count);
  return 1;
}

static int take(lua_State *L) {
  struct queue *q = check_queue(L);
  if (q->count == 0) return 0;
  lua_settop(L, 1);
  lua_getfenv(L, 1);
  const struct queued *command = queue_push_first(L, 2, q);
  lua_pushnumber(L, command->id);
  lua_pushboolean(L, command->streamed);
  lua_pushboolean(L, command->planned);
  queue_drop_first(L, 2, q);
  return 4;
}

static int new (lua_State *L) {
  struct queue *q = lua_newuserdata(L, sizeof *q);
  *q = (struct queue){NULL, 0, 0, 0};
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_setmetatable(L, -2);
  return 1;
}

static int collect(lua_State *L) {
  struct queue *q = check_queue(L);
  free(q->commands);
  *q = (struct queue){NULL, 0, 0, 0};
  return 0;
}

static int to_string(lua_State *L) {
  lua_pushfstring(L, "proxy.queries (%d)", check_queue(L)->count);
  return 1;
}

LUA_MODULE luaopen_mysql_queue(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"append", append}, {"prepend", prepend}, {"reset", reset}, {"len", len}, {NULL, NULL}};
  static const luaL_Reg metamethods[] = {{"__gc", collect}, {"__len", len}, {"__tostring", to_string}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"new", new}, {"plan", plan}, {"take", take}, {NULL, NULL}};
  luaL_newmetatable(L, QUEUE_TYPE);
  lua_pushvalue(L, -1);
  luaL_openlib(L, NULL, metamethods, 1);
  lua_newtable(L);
  lua_pushvalue(L, -2);
  lua_pushliteral(L, "resultset_is_needed");
  luaL_openlib(L, NULL, methods, 2);
  lua_setfield(L, -2, "__index");
  lua_newtable(L);
  lua_insert(L, -2);
  luaL_openlib(L, NULL, functions, 1);
  return 1;
}
