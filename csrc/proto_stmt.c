/* mysql.proto: the packets of prepared statements, as a script sees them in read_query and read_query_result.
 * Source: "Prepared Statements" and "Binary Protocol Value" of the MySQL protocol documentation. */
#include "proto.h"

#include <stdio.h>

enum { COM_STMT_PREPARE = 22, COM_STMT_EXECUTE = 23, COM_STMT_CLOSE = 25 };
enum { PARAMETER_COUNT_AVAILABLE = 8 }; /* flag of COM_STMT_EXECUTE: counts and names its parameters itself */
enum { MAX_PARAMS = 65535 };

/* Types of "Protocol::MYSQL_TYPE_*". Their names are proxy.MYSQL_TYPE_* in scripts. */
enum {
  TYPE_TINY = 1,
  TYPE_SHORT = 2,
  TYPE_LONG = 3,
  TYPE_FLOAT = 4,
  TYPE_DOUBLE = 5,
  TYPE_TIMESTAMP = 7,
  TYPE_LONGLONG = 8,
  TYPE_INT24 = 9,
  TYPE_DATE = 10,
  TYPE_TIME = 11,
  TYPE_DATETIME = 12,
  TYPE_YEAR = 13,
  TYPE_VARCHAR = 15,
  TYPE_NEWDECIMAL = 246,
  TYPE_STRING = 254
};

/* stmt_text */
static int from_stmt_prepare_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  if (cursor_uint(&c, 1) != COM_STMT_PREPARE || c.failed) return malformed(L, "stmt_prepare");
  lua_createtable(L, 0, 1);
  set_string(L, "stmt_text", c.at, cursor_left(&c));
  return 1;
}

/* The first packet of the answer to COM_STMT_PREPARE: stmt_id, num_columns, num_params, warnings. */
static int from_stmt_prepare_ok_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  uint8_t header = (uint8_t)cursor_uint(&c, 1);
  uint64_t id = cursor_uint(&c, 4);
  uint64_t columns = cursor_uint(&c, 2);
  uint64_t params = cursor_uint(&c, 2);
  /* Servers before 5.0 end here. */
  uint64_t warnings = 0;
  if (cursor_left(&c)) {
    cursor_uint(&c, 1);
    warnings = cursor_uint(&c, 2);
  }
  if (c.failed || header != 0) return malformed(L, "stmt_prepare_ok");
  lua_createtable(L, 0, 4);
  set_number(L, "stmt_id", (double)id);
  set_number(L, "num_columns", (double)columns);
  set_number(L, "num_params", (double)params);
  set_number(L, "warnings", (double)warnings);
  return 1;
}

/* The same keys; the warnings are none. */
static int to_stmt_prepare_ok_packet(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  add_uint(&b, 0, 1);
  add_uint(&b, get_number(L, "stmt_id", 0), 4);
  add_uint(&b, get_number(L, "num_columns", 0), 2);
  add_uint(&b, get_number(L, "num_params", 0), 2);
  add_zeros(&b, 3);
  luaL_pushresult(&b);
  return 1;
}

/* --- values ------------------------------------------------------------------------------------------------- */

static void push_integer(lua_State *L, struct cursor *c, unsigned size, bool is_unsigned) {
  uint64_t value = cursor_uint(c, size);
  uint64_t sign = UINT64_C(1) << (8 * size - 1);
  if (is_unsigned || !(value & sign))
    lua_pushnumber(L, (double)value);
  else
    lua_pushnumber(L, -(double)((sign << 1) - value)); /* sign << 1 is 0 for 8 bytes: 2^64 */
}

static void push_float(lua_State *L, struct cursor *c) {
  uint32_t bits = (uint32_t)cursor_uint(c, 4);
  float value;
  memcpy(&value, &bits, sizeof value);
  lua_pushnumber(L, value);
}

static void push_double(lua_State *L, struct cursor *c) {
  uint64_t bits = cursor_uint(c, 8);
  double value;
  memcpy(&value, &bits, sizeof value);
  lua_pushnumber(L, value);
}

static void push_string(lua_State *L, struct cursor *c) {
  uint64_t length = cursor_lenenc(c);
  const uint8_t *bytes = cursor_bytes(c, length);
  if (bytes)
    lua_pushlstring(L, (const char *)bytes, length);
  else
    lua_pushnil(L);
}

/* The length of a date or time says which of its fields are there; the others are 0. */
static struct cursor temporal_fields(struct cursor *c, unsigned most, unsigned without_fraction, unsigned days_only) {
  unsigned length = (unsigned)cursor_uint(c, 1);
  if (length != 0 && length != most && length != without_fraction && length != days_only) c->failed = true;
  const uint8_t *bytes = cursor_bytes(c, length);
  return cursor_over(bytes ? bytes : (const uint8_t *)"", bytes ? length : 0);
}

static void push_date(lua_State *L, struct cursor *c, bool with_clock) {
  struct cursor fields = temporal_fields(c, 11, 7, 4);
  unsigned year = (unsigned)cursor_uint(&fields, 2);
  unsigned month = (unsigned)cursor_uint(&fields, 1);
  unsigned day = (unsigned)cursor_uint(&fields, 1);
  unsigned hour = (unsigned)cursor_uint(&fields, 1);
  unsigned minute = (unsigned)cursor_uint(&fields, 1);
  unsigned second = (unsigned)cursor_uint(&fields, 1);
  unsigned fraction = (unsigned)cursor_uint(&fields, 4);
  char text[64];
  int length = snprintf(text, sizeof text, "%04u-%02u-%02u", year, month, day);
  if (with_clock)
    length +=
        snprintf(text + length, sizeof text - (size_t)length, " %02u:%02u:%02u.%09u", hour, minute, second, fraction);
  lua_pushlstring(L, text, (size_t)length);
}

static void push_time(lua_State *L, struct cursor *c) {
  struct cursor fields = temporal_fields(c, 12, 8, 0);
  bool negative = cursor_uint(&fields, 1) != 0;
  unsigned days = (unsigned)cursor_uint(&fields, 4);
  unsigned hour = (unsigned)cursor_uint(&fields, 1);
  unsigned minute = (unsigned)cursor_uint(&fields, 1);
  unsigned second = (unsigned)cursor_uint(&fields, 1);
  unsigned fraction = (unsigned)cursor_uint(&fields, 4);
  char text[64];
  int length = snprintf(text, sizeof text, "%s%u %02u:%02u:%02u.%09u", negative ? "-" : "", days, hour, minute, second,
                        fraction);
  lua_pushlstring(L, text, (size_t)length);
}

static void push_value(lua_State *L, struct cursor *c, unsigned type, bool is_unsigned) {
  switch (type) {
  case TYPE_TINY: push_integer(L, c, 1, is_unsigned); return;
  case TYPE_SHORT:
  case TYPE_YEAR: push_integer(L, c, 2, is_unsigned); return;
  case TYPE_LONG:
  case TYPE_INT24: push_integer(L, c, 4, is_unsigned); return;
  case TYPE_LONGLONG: push_integer(L, c, 8, is_unsigned); return;
  case TYPE_FLOAT: push_float(L, c); return;
  case TYPE_DOUBLE: push_double(L, c); return;
  case TYPE_DATE: push_date(L, c, false); return;
  case TYPE_DATETIME:
  case TYPE_TIMESTAMP: push_date(L, c, true); return;
  case TYPE_TIME: push_time(L, c); return;
  default: break;
  }
  if (type != TYPE_VARCHAR && !(type >= TYPE_NEWDECIMAL && type <= TYPE_STRING))
    luaL_error(L, "can't decode type %d yet", (int)type);
  push_string(L, c);
}

/* --- COM_STMT_EXECUTE --------------------------------------------------------------------------------------- */

static uint64_t read_execute_header(struct cursor *c) {
  uint8_t command = (uint8_t)cursor_uint(c, 1);
  if (command != COM_STMT_EXECUTE) c->failed = true;
  return cursor_uint(c, 4);
}

/* The types, and after them the values; or the values alone, of known types. All of `params` get an entry in the array
 * at "params", what is behind them (query attributes) in "query_attributes". */
static void read_params(lua_State *L, struct cursor *c, const uint8_t *nulls, unsigned params, unsigned count,
                        bool named, const struct cursor *known) {
  struct cursor types = known ? *known : *c;
  for (unsigned i = 0; i < count && !known; i++) {
    cursor_uint(c, 2);
    if (named) cursor_bytes(c, cursor_lenenc(c));
  }
  lua_newtable(L);
  for (unsigned i = 0; i < count && !c->failed; i++) {
    if (i == params) {
      lua_setfield(L, -2, "params");
      lua_newtable(L);
    }
    lua_createtable(L, 0, 2);
    unsigned type = (unsigned)cursor_uint(&types, 1);
    bool is_unsigned = cursor_uint(&types, 1) & 0x80;
    set_number(L, "type", type);
    if (named) {
      uint64_t length = cursor_lenenc(&types);
      set_string(L, "name", cursor_bytes(&types, length), length);
    }
    if (!(nulls[i / 8] & 1 << i % 8)) {
      push_value(L, c, type, is_unsigned);
      lua_setfield(L, -2, "value");
    }
    lua_rawseti(L, -2, (int)(i < params ? i : i - params) + 1);
  }
  lua_setfield(L, -2, count > params ? "query_attributes" : "params");
}

/* from_stmt_execute_packet(payload, num_params [, types]): stmt_id, flags, iteration_count, new_params_bound (boolean)
 * and, if the types are in the packet, params: an array of { type, value }, where the value is absent for NULL. The
 * types need not be there from the second time on: they are the second result, a string to be given then. Query
 * attributes are in an array query_attributes, of { type, name, value }. A parameter that was sent by
 * COM_STMT_SEND_LONG_DATA has no value in the packet, which nothing in it tells: the packet is then taken for malformed
 * or its values are wrong. */
static int from_stmt_execute_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  lua_Integer params = luaL_checkinteger(L, 2);
  luaL_argcheck(L, params >= 0 && params <= MAX_PARAMS, 2, "a statement has from 0 to 65535 parameters");
  size_t length = 0;
  const char *types = luaL_optlstring(L, 3, NULL, &length);
  struct cursor known = cursor_over(types ? types : "", length);
  uint64_t id = read_execute_header(&c);
  uint64_t flags = cursor_uint(&c, 1);
  uint64_t iterations = cursor_uint(&c, 4);
  bool named = flags & PARAMETER_COUNT_AVAILABLE;
  uint64_t count = named ? cursor_lenenc(&c) : (uint64_t)params;
  const uint8_t *nulls = NULL;
  bool bound = false;
  if (count > 0) {
    nulls = cursor_bytes(&c, count <= MAX_PARAMS ? (count + 7) / 8 : UINT64_MAX);
    bound = cursor_uint(&c, 1) == 1;
  }
  if (c.failed) return malformed(L, "stmt_execute");
  lua_createtable(L, 0, 5);
  set_number(L, "stmt_id", (double)id);
  set_number(L, "flags", (double)flags);
  set_number(L, "iteration_count", (double)iterations);
  lua_pushboolean(L, bound);
  lua_setfield(L, -2, "new_params_bound");
  const uint8_t *begin = c.at;
  if (bound)
    read_params(L, &c, nulls, (unsigned)params, (unsigned)count, named, NULL);
  else if (types && count > 0 && !named && length == 2 * count)
    read_params(L, &c, nulls, (unsigned)params, (unsigned)count, false, &known);
  if (c.failed) return malformed(L, "stmt_execute");
  if (!bound || named) return 1;
  lua_pushlstring(L, (const char *)begin, 2 * (size_t)count);
  return 2;
}

/* Returns the number. */
static int stmt_id_from_stmt_execute_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  uint64_t id = read_execute_header(&c);
  if (c.failed) return malformed(L, "stmt_execute");
  lua_pushnumber(L, (double)id);
  return 1;
}

/* stmt_id_from_stmt_packet(payload): the number that COM_STMT_SEND_LONG_DATA, _RESET or any other of them is about. */
static int stmt_id_from_stmt_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  cursor_uint(&c, 1);
  uint64_t id = cursor_uint(&c, 4);
  if (c.failed) return malformed(L, "stmt");
  lua_pushnumber(L, (double)id);
  return 1;
}

/* stmt_id */
static int from_stmt_close_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  uint8_t command = (uint8_t)cursor_uint(&c, 1);
  uint64_t id = cursor_uint(&c, 4);
  if (c.failed || command != COM_STMT_CLOSE) return malformed(L, "stmt_close");
  lua_createtable(L, 0, 1);
  set_number(L, "stmt_id", (double)id);
  return 1;
}

const luaL_Reg proto_stmt_functions[] = {{"from_stmt_prepare_packet", from_stmt_prepare_packet},
                                         {"from_stmt_prepare_ok_packet", from_stmt_prepare_ok_packet},
                                         {"to_stmt_prepare_ok_packet", to_stmt_prepare_ok_packet},
                                         {"stmt_id_from_stmt_packet", stmt_id_from_stmt_packet},
                                         {"from_stmt_execute_packet", from_stmt_execute_packet},
                                         {"stmt_id_from_stmt_execute_packet", stmt_id_from_stmt_execute_packet},
                                         {"from_stmt_close_packet", from_stmt_close_packet},
                                         {NULL, NULL}};
