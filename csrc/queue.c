/* Lua module mysql.queue: commands that a script wants to be sent, each with a number of its choice. This is what
 * scripts have as proxy.queries.
 *
 * new(): an empty queue, and a table whose [0] is always how many commands are in it: to look there is quicker than to
 * call. A queue has the methods append(id, packet [, { resultset_is_needed = boolean }]), prepend(the same), reset(),
 * len(), and `#`. take(queue): removes the first command, and returns its packet, id, and whether it is streamed, which
 * is to say that its result is not needed; nil if there is none. */
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdbool.h>

#include "packet.h"

#define QUEUE_TYPE "mysql.queue"

enum { FIRST = 1 << 20 };                        /* so that there is room in front */
enum { PACKET, ID, STREAMED, PARTS, COUNT = 0 }; /* of a command, which is in the environment at PARTS * number */

struct queue {
  int first, last; /* numbers of commands */
};

/* A method's upvalue is the metatable of queues. Leaves the environment on the stack, behind the arguments. */
static struct queue *check_queue(lua_State *L) {
  struct queue *q = lua_touserdata(L, 1);
  if (!q || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1)))
    luaL_error(L, "call it with a colon: proxy.queries:append(...), :prepend(...), :reset(), :len()");
  lua_pop(L, 1);
  return q;
}

static int count_of(const struct queue *q) { return q->last - q->first + 1; }

/* With the environment on top of the stack. */
static void set_count(lua_State *L, const struct queue *q) {
  lua_pushinteger(L, count_of(q));
  lua_rawseti(L, -2, COUNT);
}

/* { resultset_is_needed = boolean } at index 4. */
static bool check_streamed(lua_State *L) {
  if (lua_isnoneornil(L, 4)) return false;
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_getfield(L, 4, "resultset_is_needed");
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

static void put(lua_State *L, struct queue *q, bool front) {
  lua_Number id = luaL_checknumber(L, 2);
  size_t length;
  luaL_checklstring(L, 3, &length);
  luaL_argcheck(L, length > 0, 3, "a command of at least 1 byte expected");
  bool streamed = check_streamed(L);
  int number = front ? q->first - 1 : q->last + 1;
  if (number <= 0 || number >= FIRST * 2) luaL_error(L, "too many commands in proxy.queries");
  lua_getfenv(L, 1);
  lua_pushvalue(L, 3);
  lua_rawseti(L, -2, PARTS * number + PACKET);
  lua_pushnumber(L, id < 0 ? ceil(id) : floor(id));
  lua_rawseti(L, -2, PARTS * number + ID);
  lua_pushboolean(L, streamed);
  lua_rawseti(L, -2, PARTS * number + STREAMED);
  if (front)
    q->first = number;
  else
    q->last = number;
  set_count(L, q);
}

static int append(lua_State *L) {
  put(L, check_queue(L), false);
  return 0;
}

static int prepend(lua_State *L) {
  put(L, check_queue(L), true);
  return 0;
}

/* Removes the first command; with the environment on top of the stack. */
static void drop_first(lua_State *L, struct queue *q) {
  for (int part = 0; part < PARTS; part++) {
    lua_pushnil(L);
    lua_rawseti(L, -2, PARTS * q->first + part);
  }
  q->first++;
  if (count_of(q) == 0) {
    q->first = FIRST;
    q->last = FIRST - 1;
  }
}

static int reset(lua_State *L) {
  struct queue *q = check_queue(L);
  lua_getfenv(L, 1);
  while (count_of(q)) drop_first(L, q);
  set_count(L, q);
  return 0;
}

static int len(lua_State *L) {
  lua_pushinteger(L, count_of(check_queue(L)));
  return 1;
}

static int take(lua_State *L) {
  struct queue *q = check_queue(L);
  if (count_of(q) == 0) return 0;
  lua_getfenv(L, 1);
  lua_rawgeti(L, -1, PARTS * q->first + PACKET);
  lua_rawgeti(L, -2, PARTS * q->first + ID);
  lua_rawgeti(L, -3, PARTS * q->first + STREAMED);
  lua_pushvalue(L, -4);
  drop_first(L, q);
  set_count(L, q);
  lua_pop(L, 1);
  return 3;
}

static int new (lua_State *L) {
  struct queue *q = lua_newuserdata(L, sizeof *q);
  q->first = FIRST;
  q->last = FIRST - 1;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_setmetatable(L, -2);
  lua_createtable(L, 0, 4);
  set_count(L, q);
  lua_pushvalue(L, -1);
  lua_setfenv(L, -3);
  return 2;
}

static int to_string(lua_State *L) {
  lua_pushfstring(L, "proxy.queries (%d)", count_of(check_queue(L)));
  return 1;
}

LUA_MODULE luaopen_mysql_queue(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"append", append}, {"prepend", prepend}, {"reset", reset}, {"len", len}, {NULL, NULL}};
  static const luaL_Reg metamethods[] = {{"__len", len}, {"__tostring", to_string}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"new", new}, {"take", take}, {NULL, NULL}};
  luaL_newmetatable(L, QUEUE_TYPE);
  lua_pushvalue(L, -1);
  luaL_openlib(L, NULL, metamethods, 1);
  lua_newtable(L);
  lua_pushvalue(L, -2);
  luaL_openlib(L, NULL, methods, 1);
  lua_setfield(L, -2, "__index");
  lua_newtable(L);
  lua_insert(L, -2);
  luaL_openlib(L, NULL, functions, 1);
  return 1;
}
