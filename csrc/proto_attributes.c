/* Connection attributes (CLIENT_CONNECT_ATTRS), which a handshake response and COM_CHANGE_USER end with: names and
 * values, for the server's performance_schema. Source: "Protocol::HandshakeResponse41". */
#include "proto.h"

/* As one string: hardly anybody wants to know them one by one. */
void proto_read_attributes(lua_State *L, struct cursor *c) {
  uint64_t length = cursor_lenenc(c);
  const uint8_t *bytes = cursor_bytes(c, length);
  if (!bytes) return;
  struct cursor pairs = cursor_over(bytes, length);
  const uint8_t *whole = bytes; /* up to the last pair that is */
  while (cursor_left(&pairs)) {
    cursor_bytes(&pairs, cursor_lenenc(&pairs));
    cursor_bytes(&pairs, cursor_lenenc(&pairs));
    if (pairs.failed) break;
    whole = pairs.at;
  }
  set_string(L, "attributes", bytes, (size_t)(whole - bytes));
}

static size_t lenenc_size(uint64_t value) { return value < 0xfb ? 1 : value <= 0xffff ? 3 : value <= 0xffffff ? 4 : 9; }

static uint8_t *store_lenenc_string(uint8_t *to, const char *bytes, size_t length) {
  size_t size = lenenc_size(length);
  if (size > 1) *to++ = size == 3 ? 0xfc : size == 4 ? 0xfd : 0xfe;
  to = store_uint(to, length, size > 1 ? (unsigned)size - 1 : 1);
  memcpy(to, bytes, length);
  return to + length;
}

const char *proto_attributes_block(lua_State *L, size_t *length) {
  lua_getfield(L, 1, "attributes");
  if (lua_isnil(L, -1)) return NULL;
  if (lua_type(L, -1) == LUA_TSTRING) return lua_tolstring(L, -1, length);
  if (!lua_istable(L, -1)) luaL_error(L, ".attributes has to be a table, or what from_response_packet gives");
  int table = lua_gettop(L);
  *length = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, ".attributes has to hold strings, by their names");
    size_t name = lua_objlen(L, -2), value = lua_objlen(L, -1);
    *length += lenenc_size(name) + name + lenenc_size(value) + value;
  }
  uint8_t *block = lua_newuserdata(L, *length ? *length : 1), *to = block;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    size_t name_length, value_length;
    const char *name = lua_tolstring(L, -2, &name_length), *value = lua_tolstring(L, -1, &value_length);
    to = store_lenenc_string(store_lenenc_string(to, name, name_length), value, value_length);
  }
  return (const char *)block;
}
