/* What the files of mysql.proto share: the fields of a packet go to and come from a Lua table. */
#ifndef MYSQL_PROTO_H
#define MYSQL_PROTO_H

#include <lauxlib.h>
#include <lua.h>

#include "fields.h"
#include "packet.h"

/* The functions of the other files, for luaL_register. */
extern const luaL_Reg proto_change_user_functions[];
extern const luaL_Reg proto_stmt_functions[];
extern const luaL_Reg proto_masterinfo_functions[];

/* Connection attributes: reads them into a table at "attributes" of the table on the top of the stack; a wrong length
 * fails the cursor. And those at "attributes" of the table at index 1 as they are on the wire, without the length
 * before them: NULL if there is no such table. They stay on the stack. */
void proto_read_attributes(lua_State *L, struct cursor *c);
const char *proto_attributes_block(lua_State *L, size_t *length);

static inline struct cursor check_payload(lua_State *L) {
  size_t length;
  const char *payload = luaL_checklstring(L, 1, &length);
  return cursor_over(payload, length);
}

static inline int malformed(lua_State *L, const char *packet) {
  return luaL_error(L, "the %s packet is malformed: it ends too early, or a length in it is wrong", packet);
}

static inline void set_string(lua_State *L, const char *key, const uint8_t *bytes, size_t length) {
  if (!bytes || length == 0) return;
  lua_pushlstring(L, (const char *)bytes, length);
  lua_setfield(L, -2, key);
}

/* The number at table[key]; a missing one is `otherwise`. */
static inline uint64_t get_number(lua_State *L, const char *key, uint64_t otherwise) {
  lua_getfield(L, 1, key);
  uint64_t value = otherwise;
  if (lua_isnumber(L, -1)) {
    if (!to_uint64(lua_tonumber(L, -1), &value)) luaL_error(L, ".%s has to be from 0 to 2^64 - 1", key);
  } else if (!lua_isnil(L, -1)) {
    luaL_error(L, ".%s has to be a number", key);
  }
  lua_pop(L, 1);
  return value;
}

/* The string at table[key]; a missing one is `otherwise`. It stays on the stack, which keeps it alive (it may come from
 * a metamethod): all strings are fetched before a luaL_Buffer begins. */
static inline const char *get_string(lua_State *L, const char *key, const char *otherwise, size_t *length) {
  lua_getfield(L, 1, key);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushstring(L, otherwise);
  }
  if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, ".%s has to be a string", key);
  return lua_tolstring(L, -1, length);
}

static inline void add_uint(luaL_Buffer *b, uint64_t value, unsigned size) {
  uint8_t bytes[8];
  store_uint(bytes, value, size);
  luaL_addlstring(b, (const char *)bytes, size);
}

static inline void add_lenenc(luaL_Buffer *b, uint64_t value) {
  if (value < 0xfb) {
    add_uint(b, value, 1);
    return;
  }
  unsigned size = value <= 0xffff ? 2 : value <= 0xffffff ? 3 : 8;
  luaL_addchar(b, size == 2 ? '\xfc' : size == 3 ? '\xfd' : '\xfe');
  add_uint(b, value, size);
}

static inline void add_zeros(luaL_Buffer *b, unsigned count) {
  while (count--) luaL_addchar(b, '\0');
}

static inline void add_string_nul(luaL_Buffer *b, const char *bytes, size_t length) {
  luaL_addlstring(b, bytes, length);
  luaL_addchar(b, '\0');
}

#endif
