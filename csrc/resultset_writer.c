/* Lua module mysql.resultset, the writer: packets of answers that a script has made.
 *
 * to_packets(resultset, capabilities, sequence): the packets of a result set, the sequence number that follows, and an
 * array of warnings. resultset: { fields = {{ name =, type = }, ...}, rows = {{ cell, ... }, ...}, charset = } is
 * encoded for a client with these capabilities; with binary = true, as the answer to COM_STMT_EXECUTE.
 * to_definitions({ fields =, charset =, defaults = }, capabilities, sequence): the packets of the column definitions
 * alone, with defaults = true as the answer to COM_FIELD_LIST. frame(payloads, sequence): packets of these payloads,
 * and the sequence number that follows. renumber(packets, sequence): the same packets, numbered from there, and the
 * same.
 *
 * What has a wrong shape raises an error that names its place in proxy.response, where scripts put it.
 * Source: "Text Protocol" and "Column Definition Packet" of the MySQL and MariaDB documentation. */
#include <stdlib.h>

#include "resultset.h"

#define OUTPUT_TYPE "mysql.resultset.output"

enum { MYSQL_TYPE_LONG = 3, MYSQL_TYPE_DOUBLE = 5, MYSQL_TYPE_LONGLONG = 8 };
enum { MYSQL_TYPE_STRING = 254, CHARSET_LATIN1 = 8, FLAG_PRI_KEY = 2, COLUMN_LENGTH = 32 };
enum { SERVER_STATUS_AUTOCOMMIT = 2 };
enum { FIXED_LENGTH = 12 }; /* of what stands behind the names in a column definition */

/* Packets in the making. It is a userdata, so that an error anywhere frees it. */
struct output {
  uint8_t *data;
  size_t length, capacity;
  size_t packet; /* where the current packet begins */
  uint8_t sequence;
};

/* --- packets ----------------------------------------------------------------------------------------------- */

static int free_output(lua_State *L) {
  struct output *o = luaL_checkudata(L, 1, OUTPUT_TYPE);
  free(o->data);
  o->data = NULL;
  return 0;
}

static struct output *push_output(lua_State *L, uint8_t sequence) {
  struct output *o = lua_newuserdata(L, sizeof *o);
  memset(o, 0, sizeof *o);
  o->sequence = sequence;
  luaL_getmetatable(L, OUTPUT_TYPE);
  lua_setmetatable(L, -2);
  return o;
}

/* Room for that many bytes more at the end. */
static uint8_t *reserve(lua_State *L, struct output *o, size_t more) {
  if (more > o->capacity - o->length) {
    size_t wanted = o->capacity < 4096 ? 4096 : o->capacity <= SIZE_MAX / 2 ? o->capacity * 2 : SIZE_MAX;
    if (more > SIZE_MAX - o->length) luaL_error(L, "not enough memory");
    if (wanted < o->length + more) wanted = o->length + more;
    uint8_t *grown = realloc(o->data, wanted);
    if (!grown) luaL_error(L, "not enough memory");
    o->data = grown;
    o->capacity = wanted;
  }
  return o->data + o->length;
}

static void add_bytes(lua_State *L, struct output *o, const void *bytes, size_t length) {
  memcpy(reserve(L, o, length), bytes, length);
  o->length += length;
}

static void add_uint(lua_State *L, struct output *o, uint64_t value, unsigned size) {
  store_uint(reserve(L, o, size), value, size);
  o->length += size;
}

static void add_lenenc(lua_State *L, struct output *o, uint64_t value) {
  if (value < 0xfb) {
    add_uint(L, o, value, 1);
    return;
  }
  unsigned size = value <= 0xffff ? 2 : value <= 0xffffff ? 3 : 8;
  add_uint(L, o, size == 2 ? 0xfc : size == 3 ? 0xfd : 0xfe, 1);
  add_uint(L, o, value, size);
}

static void add_string(lua_State *L, struct output *o, const char *text, size_t length) {
  add_lenenc(L, o, length);
  add_bytes(L, o, text, length);
}

static void begin_packet(lua_State *L, struct output *o) {
  o->packet = o->length;
  add_uint(L, o, 0, PACKET_HEADER_SIZE);
}

/* Writes the header; a long payload is cut into packets from its end on, so that each byte moves once. */
static void end_packet(lua_State *L, struct output *o) {
  size_t payload = o->length - o->packet - PACKET_HEADER_SIZE, more = payload / PACKET_MAX_PAYLOAD;
  reserve(L, o, more * PACKET_HEADER_SIZE);
  uint8_t *begin = o->data + o->packet;
  for (size_t i = more; i > 0; i--) {
    size_t at = PACKET_HEADER_SIZE + i * PACKET_MAX_PAYLOAD, length = payload - i * PACKET_MAX_PAYLOAD;
    if (length > PACKET_MAX_PAYLOAD) length = PACKET_MAX_PAYLOAD;
    uint8_t *header = begin + i * (PACKET_HEADER_SIZE + PACKET_MAX_PAYLOAD);
    memmove(header + PACKET_HEADER_SIZE, begin + at, length);
    store_header(header, (uint32_t)length, (uint8_t)(o->sequence + i));
  }
  store_header(begin, more ? PACKET_MAX_PAYLOAD : (uint32_t)payload, o->sequence);
  o->length += more * PACKET_HEADER_SIZE;
  o->sequence = (uint8_t)(o->sequence + more + 1);
}

/* --- result sets made by hand ------------------------------------------------------------------------------ */

static int wrong_type(lua_State *L, const char *place, const char *wanted, int index) {
  lua_pushfstring(L, "proxy.response.%s should be a %s, but is a %s", place, wanted, luaL_typename(L, index));
  return lua_error(L);
}

static int wrong_element(lua_State *L, const char *array, int number, const char *wanted) {
  return wrong_type(L, lua_pushfstring(L, "%s[%d]", array, number), wanted, -2);
}

/* Pushes table[key]. */
static void get_index(lua_State *L, int table, int key) {
  lua_pushinteger(L, key);
  lua_gettable(L, table);
}

/* Adds to the warnings that a key of fields[number], which is on top of the stack, is not as it has to be. */
static void warn(lua_State *L, int warnings, int number, const char *key, const char *wanted, const char *instead) {
  lua_pushfstring(L,
                  "proxy.response.type = OK, but proxy.response.resultset.fields[%d].%s is not a %s (is %s), using %s",
                  number, key, wanted, luaL_typename(L, -1), instead);
  lua_rawseti(L, warnings, (int)lua_objlen(L, warnings) + 1);
}

/* The name of fields[number], which is on top of the stack. */
static void add_name(lua_State *L, struct output *o, int warnings, int number) {
  size_t length;
  lua_getfield(L, -1, "name");
  if (!lua_isstring(L, -1)) {
    warn(L, warnings, number, "name", "string", "default");
    lua_pop(L, 1);
    lua_pushliteral(L, "no-field-name");
  }
  const char *name = lua_tolstring(L, -1, &length);
  add_string(L, o, name, length);
  lua_pop(L, 1);
}

static uint8_t field_type(lua_State *L, int warnings, int number) {
  lua_getfield(L, -1, "type");
  lua_Number type = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : -1;
  if (!(type >= 0 && type < 256)) {
    warn(L, warnings, number, "type", "integer", "MYSQL_TYPE_STRING");
    type = MYSQL_TYPE_STRING;
  }
  lua_pop(L, 1);
  return (uint8_t)type;
}

/* "Protocol::ColumnDefinition41" of the field on top of the stack; for COM_FIELD_LIST with a default, which is NULL. */
static void add_definition(lua_State *L, struct output *o, uint64_t capabilities, uint16_t charset, int warnings,
                           int number, bool defaults) {
  begin_packet(L, o);
  add_string(L, o, "def", 3);
  add_uint(L, o, 0, 3); /* db, table, org_table */
  add_name(L, o, warnings, number);
  add_uint(L, o, 0, 1); /* org_name */
  if (capabilities & MARIADB_CLIENT_EXTENDED_METADATA) add_uint(L, o, 0, 1);
  add_uint(L, o, FIXED_LENGTH, 1);
  add_uint(L, o, charset, 2);
  add_uint(L, o, COLUMN_LENGTH, 4);
  add_uint(L, o, field_type(L, warnings, number), 1);
  add_uint(L, o, FLAG_PRI_KEY, 2);
  add_uint(L, o, 0, 1); /* decimals */
  add_uint(L, o, 0, 2);
  if (defaults) add_uint(L, o, 0xfb, 1);
  end_packet(L, o);
}

static void add_eof(lua_State *L, struct output *o) {
  begin_packet(L, o);
  add_uint(L, o, 0xfe, 1);
  add_uint(L, o, 0, 2); /* warnings */
  add_uint(L, o, SERVER_STATUS_AUTOCOMMIT, 2);
  end_packet(L, o);
}

static void add_ok_as_eof(lua_State *L, struct output *o) {
  begin_packet(L, o);
  add_uint(L, o, 0xfe, 1);
  add_uint(L, o, 0, 2); /* affected rows, insert id */
  add_uint(L, o, SERVER_STATUS_AUTOCOMMIT, 2);
  add_uint(L, o, 0, 2); /* warnings */
  end_packet(L, o);
}

static void add_end(lua_State *L, struct output *o, uint64_t capabilities) {
  if (capabilities & CLIENT_DEPRECATE_EOF)
    add_ok_as_eof(L, o);
  else
    add_eof(L, o);
}

/* How many elements the array of fields has; each is a table. */
static int count_fields(lua_State *L, int fields) {
  for (int count = 0;; count++) {
    get_index(L, fields, count + 1);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      return count;
    }
    if (!lua_istable(L, -1)) wrong_element(L, "resultset.fields", count + 1, "table");
    lua_pop(L, 1);
  }
}

static void add_definitions(lua_State *L, struct output *o, uint64_t capabilities, uint16_t charset, int warnings,
                            int fields, int count, bool defaults) {
  for (int number = 1; number <= count; number++) {
    get_index(L, fields, number);
    if (!lua_istable(L, -1)) wrong_element(L, "resultset.fields", number, "table"); /* a metatable may say so */
    add_definition(L, o, capabilities, charset, warnings, number, defaults);
    lua_pop(L, 1);
  }
}

static void add_columns(lua_State *L, struct output *o, uint64_t capabilities, uint16_t charset, int warnings,
                        int fields, int count) {
  begin_packet(L, o);
  add_lenenc(L, o, (uint64_t)count);
  if (capabilities & (CLIENT_OPTIONAL_RESULTSET_METADATA | MARIADB_CLIENT_CACHE_METADATA))
    add_uint(L, o, 1, 1); /* definitions follow */
  end_packet(L, o);
  add_definitions(L, o, capabilities, charset, warnings, fields, count, false);
}

/* The row on top of the stack, for as many cells as there are fields. */
static void add_row(lua_State *L, struct output *o, int row, int cells) {
  begin_packet(L, o);
  for (int i = 1; i <= cells; i++) {
    size_t length;
    get_index(L, row, i);
    const char *text = lua_tolstring(L, -1, &length); /* NULL if it is neither a string nor a number */
    if (text)
      add_string(L, o, text, length);
    else
      add_uint(L, o, 0xfb, 1);
    lua_pop(L, 1);
  }
  end_packet(L, o);
}

/* The type of fields[number]. */
static uint8_t binary_type(lua_State *L, int fields, int number) {
  get_index(L, fields, number);
  lua_getfield(L, -1, "type");
  uint8_t type = (uint8_t)lua_tointeger(L, -1);
  lua_pop(L, 2);
  return type;
}

/* "Binary Protocol Value" of the cell on top of the stack. */
static void add_binary_cell(lua_State *L, struct output *o, uint8_t type) {
  lua_Number number = lua_tonumber(L, -1);
  uint64_t bits;
  size_t length;
  const char *text;
  switch (type) {
  case MYSQL_TYPE_LONG:
  case MYSQL_TYPE_LONGLONG:
    if (!(number > -9.2e18 && number < 9.2e18)) number = 0;
    add_uint(L, o, (uint64_t)(int64_t)number, type == MYSQL_TYPE_LONG ? 4 : 8);
    return;
  case MYSQL_TYPE_DOUBLE:
    memcpy(&bits, &number, sizeof bits);
    add_uint(L, o, bits, 8);
    return;
  default: text = lua_tolstring(L, -1, &length); add_string(L, o, text, length);
  }
}

/* "Binary Protocol Resultset Row" of the row on top of the stack. */
static void add_binary_row(lua_State *L, struct output *o, int row, int cells, int fields) {
  size_t bitmap = ((size_t)cells + 7 + 2) / 8; /* its first two bits are not used */
  begin_packet(L, o);
  add_uint(L, o, 0, 1);
  size_t nulls = o->length;
  memset(reserve(L, o, bitmap), 0, bitmap);
  o->length += bitmap;
  for (int i = 1; i <= cells; i++) {
    get_index(L, row, i);
    if (lua_isstring(L, -1))
      add_binary_cell(L, o, binary_type(L, fields, i));
    else
      o->data[nulls + ((size_t)i + 1) / 8] |= (uint8_t)(1 << ((i + 1) % 8));
    lua_pop(L, 1);
  }
  end_packet(L, o);
}

static void add_rows(lua_State *L, struct output *o, int rows, int cells, int binary_fields) {
  for (int number = 1;; number++) {
    get_index(L, rows, number);
    if (lua_isnil(L, -1)) break;
    if (!lua_istable(L, -1)) wrong_element(L, "resultset.rows", number, "table");
    if (binary_fields)
      add_binary_row(L, o, lua_gettop(L), cells, binary_fields);
    else
      add_row(L, o, lua_gettop(L), cells);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static uint16_t get_charset(lua_State *L) {
  lua_getfield(L, 1, "charset");
  lua_Number charset = lua_isnil(L, -1) ? CHARSET_LATIN1 : lua_tonumber(L, -1);
  if (!(charset >= 1 && charset <= 0xffff)) wrong_type(L, "resultset.charset", "number from 1 to 65535", -1);
  lua_pop(L, 1);
  return (uint16_t)charset;
}

static bool get_flag(lua_State *L, const char *key) {
  lua_getfield(L, 1, key);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

static int push_packets(lua_State *L, struct output *o) {
  lua_pushlstring(L, o->data ? (const char *)o->data : "", o->length);
  free(o->data); /* now, not when the garbage is collected */
  o->data = NULL;
  lua_pushinteger(L, o->sequence);
  return 2;
}

static int to_packets(lua_State *L) {
  enum { FIELDS = 4, ROWS, WARNINGS };
  uint64_t capabilities = resultset_check_capabilities(L, 2);
  uint8_t sequence = (uint8_t)luaL_checkinteger(L, 3);
  lua_settop(L, 3);
  if (!lua_istable(L, 1)) return wrong_type(L, "resultset", "table", 1);
  lua_getfield(L, 1, "fields");
  if (!lua_istable(L, FIELDS)) return wrong_type(L, "resultset.fields", "table", FIELDS);
  lua_getfield(L, 1, "rows");
  if (!lua_istable(L, ROWS)) return wrong_type(L, "resultset.rows", "table", ROWS);
  lua_newtable(L);
  struct output *o = push_output(L, sequence);
  bool eof = !(capabilities & CLIENT_DEPRECATE_EOF);
  int cells = count_fields(L, FIELDS);
  if (!cells) {
    lua_pushliteral(L, "proxy.response.resultset.fields should be a table of fields, but is empty");
    return lua_error(L);
  }
  add_columns(L, o, capabilities, get_charset(L), WARNINGS, FIELDS, cells);
  if (eof) add_eof(L, o);
  add_rows(L, o, ROWS, cells, get_flag(L, "binary") ? FIELDS : 0);
  add_end(L, o, capabilities);
  push_packets(L, o);
  lua_pushvalue(L, WARNINGS);
  return 3;
}

static int to_definitions(lua_State *L) {
  enum { FIELDS = 4, WARNINGS };
  uint64_t capabilities = resultset_check_capabilities(L, 2);
  uint8_t sequence = (uint8_t)luaL_checkinteger(L, 3);
  lua_settop(L, 3);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "fields");
  luaL_checktype(L, FIELDS, LUA_TTABLE);
  lua_newtable(L);
  struct output *o = push_output(L, sequence);
  bool defaults = get_flag(L, "defaults");
  add_definitions(L, o, capabilities, get_charset(L), WARNINGS, FIELDS, count_fields(L, FIELDS), defaults);
  if (defaults || !(capabilities & CLIENT_DEPRECATE_EOF)) add_end(L, o, capabilities);
  return push_packets(L, o);
}

/* --- packets made by hand or by a server ------------------------------------------------------------------- */

static int frame(lua_State *L) {
  uint8_t sequence = (uint8_t)luaL_checkinteger(L, 2);
  lua_settop(L, 2);
  if (!lua_istable(L, 1)) return wrong_type(L, "packets", "table", 1);
  struct output *o = push_output(L, sequence);
  for (int number = 1;; number++) {
    size_t length;
    get_index(L, 1, number);
    if (lua_isnil(L, -1)) break;
    if (lua_type(L, -1) != LUA_TSTRING) return wrong_element(L, "packets", number, "string");
    const char *payload = lua_tolstring(L, -1, &length);
    begin_packet(L, o);
    add_bytes(L, o, payload, length);
    end_packet(L, o);
    lua_pop(L, 1);
  }
  return push_packets(L, o);
}

/* Answers to a client's own command have the right numbers mostly: then it is the same string. */
static int renumber(lua_State *L) {
  size_t length;
  const char *packets = luaL_checklstring(L, 1, &length);
  uint8_t sequence = (uint8_t)luaL_checkinteger(L, 2);
  uint8_t *copy = NULL;
  struct cursor c = cursor_over(packets, length);
  lua_settop(L, 1);
  while (cursor_left(&c)) {
    uint32_t payload = (uint32_t)cursor_uint(&c, 3);
    size_t at = length - cursor_left(&c);
    uint8_t number = (uint8_t)cursor_uint(&c, 1);
    cursor_bytes(&c, payload);
    if (c.failed) return luaL_error(L, "the packets are malformed: the last one ends too early");
    if (number != sequence && !copy) {
      struct output *o = push_output(L, 0);
      add_bytes(L, o, packets, length);
      copy = o->data;
    }
    if (copy) copy[at] = sequence;
    sequence++;
  }
  if (copy) {
    lua_pushlstring(L, (const char *)copy, length);
    struct output *o = lua_touserdata(L, 2);
    free(o->data);
    o->data = NULL;
  }
  lua_pushinteger(L, sequence);
  return 2;
}

void resultset_writer_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"to_packets", to_packets},
                                       {"to_definitions", to_definitions},
                                       {"frame", frame},
                                       {"renumber", renumber},
                                       {NULL, NULL}};
  luaL_newmetatable(L, OUTPUT_TYPE);
  lua_pushcfunction(L, free_output);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_register(L, NULL, functions);
}
