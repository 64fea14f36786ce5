#include "recent.h"

#include <string.h>

#include "hash.h"

enum { STRING_HEADER = 24, PARTS = 8 };

void recent_open(lua_State *L, struct recent *recent) {
  memset(recent, 0, sizeof *recent);
  lua_createtable(L, RECENT_PLACES, 0);
  recent->strings = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void count_made(lua_State *L, struct recent *recent, size_t length) {
  recent->made += STRING_HEADER + length;
  if (recent->made < recent->limit) return;
  recent->made = 0;
  recent->limit = (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024 / PARTS;
  lua_gc(L, LUA_GCSTEP, 0);
}

/* Makes the string at a place anew, and leaves it on the stack, above the table of strings. */
static void make(lua_State *L, struct recent *recent, int place, const char *bytes, size_t length) {
  recent->places[place].bytes = NULL; /* there may be no memory for the other */
  count_made(L, recent, length);
  lua_pushlstring(L, bytes, length);
  lua_pushvalue(L, -1);
  lua_rawseti(L, -3, place + 1);
  recent->places[place].bytes = lua_tostring(L, -1);
  recent->places[place].length = (uint32_t)length;
}

void recent_push(lua_State *L, struct recent *recent, const char *bytes, size_t length) {
  if (length > RECENT_LONGEST) {
    lua_pushlstring(L, bytes, length);
    return;
  }
  uint32_t hash = (uint32_t)hash_bytes(bytes, length);
  int place = (int)(hash % RECENT_PLACES);
  bool known = recent->places[place].hash == hash && recent->places[place].length == length &&
               recent->places[place].bytes && memcmp(recent->places[place].bytes, bytes, length) == 0;
  lua_rawgeti(L, LUA_REGISTRYINDEX, recent->strings);
  if (known)
    lua_rawgeti(L, -1, place + 1);
  else
    make(L, recent, place, bytes, length);
  recent->places[place].hash = hash;
  lua_replace(L, -2);
}
