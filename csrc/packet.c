/* Lua module mysql.packet: packets and length-encoded values, for whoever speaks the protocol by hand.
 * Source: "MySQL Packets", "Protocol::LengthEncodedInteger", "Protocol::LengthEncodedString". */
#include "packet.h"

#include <lauxlib.h>
#include <lua.h>

/* frame(payload, sequence): the bytes on the wire, split where the payload is of 16 MiB - 1 or more; and the sequence
 * number that follows. */
static int frame(lua_State *L) {
  size_t left;
  const char *payload = luaL_checklstring(L, 1, &left);
  uint8_t sequence = (uint8_t)luaL_checkint(L, 2);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (;;) {
    uint32_t length = left < PACKET_MAX_PAYLOAD ? (uint32_t)left : PACKET_MAX_PAYLOAD;
    uint8_t header[PACKET_HEADER_SIZE];
    store_header(header, length, sequence++);
    luaL_addlstring(&b, (const char *)header, sizeof header);
    luaL_addlstring(&b, payload, length);
    payload += length;
    left -= length;
    if (length < PACKET_MAX_PAYLOAD) break;
  }
  luaL_pushresult(&b);
  lua_pushinteger(L, sequence);
  return 2;
}

static struct cursor check_bytes(lua_State *L) {
  size_t length;
  const char *bytes = luaL_checklstring(L, 1, &length);
  lua_Integer offset = luaL_optinteger(L, 2, 1);
  luaL_argcheck(L, offset >= 1 && (size_t)offset <= length + 1, 2, "an offset from 1 to the end of the bytes expected");
  return cursor_over(bytes + offset - 1, length - (size_t)(offset - 1));
}

static void push_offset(lua_State *L, const struct cursor *c) {
  lua_pushinteger(L, (lua_Integer)(c->at - (const uint8_t *)lua_tostring(L, 1)) + 1);
}

/* parse(bytes [, offset]): payload, sequence number of the last packet of its chain, offset behind it; nothing if it is
 * not complete. */
static int parse(lua_State *L) {
  struct cursor c = check_bytes(L);
  struct cursor whole = c;
  uint32_t length;
  uint8_t sequence;
  do {
    length = (uint32_t)cursor_uint(&whole, 3);
    sequence = (uint8_t)cursor_uint(&whole, 1);
    cursor_bytes(&whole, length);
  } while (length == PACKET_MAX_PAYLOAD && !whole.failed);
  if (whole.failed) return 0;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  while (c.at < whole.at) {
    length = (uint32_t)cursor_uint(&c, 3);
    cursor_uint(&c, 1);
    luaL_addlstring(&b, (const char *)cursor_bytes(&c, length), length);
  }
  luaL_pushresult(&b);
  lua_pushinteger(L, sequence);
  push_offset(L, &c);
  return 3;
}

/* to_lenenc_int(number): the bytes of a length-encoded integer. */
static int to_lenenc_int(lua_State *L) {
  uint64_t value = 0;
  luaL_argcheck(L, to_uint64(luaL_checknumber(L, 1), &value), 1, "a number from 0 to 2^64 - 1 expected");
  uint8_t bytes[9];
  lua_pushlstring(L, (const char *)bytes, (size_t)(store_lenenc(bytes, value) - bytes));
  return 1;
}

/* to_lenenc_string(string): its length and itself. */
static int to_lenenc_string(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  uint8_t bytes[9];
  lua_pushlstring(L, (const char *)bytes, (size_t)(store_lenenc(bytes, length) - bytes));
  lua_pushlstring(L, text, length);
  lua_concat(L, 2);
  return 1;
}

/* from_lenenc_int(bytes [, offset]): the number, and the offset behind it; nothing if there is none. */
static int from_lenenc_int(lua_State *L) {
  struct cursor c = check_bytes(L);
  uint64_t value = cursor_lenenc(&c);
  if (c.failed) return 0;
  lua_pushnumber(L, (lua_Number)value);
  push_offset(L, &c);
  return 2;
}

/* from_lenenc_string(bytes [, offset]): the string, and the offset behind it; nothing if it is not all there. */
static int from_lenenc_string(lua_State *L) {
  struct cursor c = check_bytes(L);
  uint64_t length = cursor_lenenc(&c);
  const uint8_t *text = cursor_bytes(&c, length);
  if (!text) return 0;
  lua_pushlstring(L, (const char *)text, (size_t)length);
  push_offset(L, &c);
  return 2;
}

LUA_MODULE luaopen_mysql_packet(lua_State *L) {
  static const luaL_Reg functions[] = {{"frame", frame},
                                       {"parse", parse},
                                       {"to_lenenc_int", to_lenenc_int},
                                       {"to_lenenc_string", to_lenenc_string},
                                       {"from_lenenc_int", from_lenenc_int},
                                       {"from_lenenc_string", from_lenenc_string},
                                       {NULL, NULL}};
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
