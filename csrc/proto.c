/* Lua module mysql.proto: decodes and encodes the packets of the connection phase and the generic answers.
 *
 * from_*(payload) takes a packet's payload without its 4-byte header and returns a table; it raises if the payload is
 * malformed. A string that is empty is absent from the table. to_*(table) returns a payload; unknown keys are ignored.
 * Source: "Connection Phase Packets" and "Generic Response Packets" of the MySQL protocol documentation; MariaDB's
 * "Connecting", for the extended capabilities. COM_STMT_* is in proto_stmt.c, master.info in proto_masterinfo.c. */
#include "proto.h"

#include <stdio.h>

#define CLIENT_LONG_PASSWORD 0x1u /* MariaDB: CLIENT_MYSQL; clear if the extended capabilities are meant */
#define CLIENT_CONNECT_WITH_DB 0x8u
#define CLIENT_PROTOCOL_41 0x200u
#define CLIENT_SSL 0x800u
#define CLIENT_SECURE_CONNECTION 0x8000u
#define CLIENT_PLUGIN_AUTH 0x80000u
#define CLIENT_CONNECT_ATTRS 0x100000u
#define CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA 0x200000u

enum { SSL_REQUEST_LENGTH = 32 };
enum { SCRAMBLE_FIRST = 8, SCRAMBLE_LENGTH = 20 };

struct flag {
  const char *name;
  double value;
};

static const struct flag capabilities[] = {{"CLIENT_LONG_PASSWORD", 1},
                                           {"CLIENT_FOUND_ROWS", 2},
                                           {"CLIENT_LONG_FLAG", 4},
                                           {"CLIENT_CONNECT_WITH_DB", 8},
                                           {"CLIENT_NO_SCHEMA", 0x10},
                                           {"CLIENT_COMPRESS", 0x20},
                                           {"CLIENT_ODBC", 0x40},
                                           {"CLIENT_LOCAL_FILES", 0x80},
                                           {"CLIENT_IGNORE_SPACE", 0x100},
                                           {"CLIENT_PROTOCOL_41", 0x200},
                                           {"CLIENT_INTERACTIVE", 0x400},
                                           {"CLIENT_SSL", 0x800},
                                           {"CLIENT_IGNORE_SIGPIPE", 0x1000},
                                           {"CLIENT_TRANSACTIONS", 0x2000},
                                           {"CLIENT_SECURE_CONNECTION", 0x8000},
                                           {"CLIENT_MULTI_STATEMENTS", 0x10000},
                                           {"CLIENT_MULTI_RESULTS", 0x20000},
                                           {"CLIENT_PS_MULTI_RESULTS", 0x40000},
                                           {"CLIENT_PLUGIN_AUTH", 0x80000},
                                           {"CLIENT_CONNECT_ATTRS", 0x100000},
                                           {"CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA", 0x200000},
                                           {"CLIENT_CAN_HANDLE_EXPIRED_PASSWORDS", 0x400000},
                                           {"CLIENT_SESSION_TRACK", 0x800000},
                                           {"CLIENT_DEPRECATE_EOF", 0x1000000},
                                           {"CLIENT_OPTIONAL_RESULTSET_METADATA", 0x2000000},
                                           {"CLIENT_ZSTD_COMPRESSION_ALGORITHM", 0x4000000},
                                           {"CLIENT_QUERY_ATTRIBUTES", 0x8000000},
                                           {"CLIENT_PROGRESS_OBSOLETE", 0x20000000},
                                           {NULL, 0}};

static const struct flag extended_capabilities[] = {{"MARIADB_CLIENT_PROGRESS", 1},
                                                    {"MARIADB_CLIENT_STMT_BULK_OPERATIONS", 4},
                                                    {"MARIADB_CLIENT_EXTENDED_METADATA", 8},
                                                    {"MARIADB_CLIENT_CACHE_METADATA", 0x10},
                                                    {"MARIADB_CLIENT_BULK_UNIT_RESULTS", 0x20},
                                                    {NULL, 0}};

/* --- OK, ERR, EOF ------------------------------------------------------------------------------------------ */

/* affected_rows, insert_id, server_status, warnings. Takes an OK packet that stands for EOF (0xfe) too. */
static int from_ok_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  uint8_t header = (uint8_t)cursor_uint(&c, 1);
  uint64_t affected_rows = cursor_lenenc(&c);
  uint64_t insert_id = cursor_lenenc(&c);
  uint64_t status = cursor_uint(&c, 2);
  uint64_t warnings = cursor_uint(&c, 2);
  if (c.failed || (header != 0 && header != 0xfe)) return malformed(L, "OK");
  lua_createtable(L, 0, 4);
  set_number(L, "affected_rows", (double)affected_rows);
  set_number(L, "insert_id", (double)insert_id);
  set_number(L, "server_status", (double)status);
  set_number(L, "warnings", (double)warnings);
  return 1;
}

static int to_ok_packet(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addchar(&b, '\0');
  add_lenenc(&b, get_number(L, "affected_rows", 0));
  add_lenenc(&b, get_number(L, "insert_id", 0));
  add_uint(&b, get_number(L, "server_status", 0), 2);
  add_uint(&b, get_number(L, "warnings", 0), 2);
  luaL_pushresult(&b);
  return 1;
}

/* errcode, sqlstate (absent if the packet has none), errmsg. */
static int from_err_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  uint8_t header = (uint8_t)cursor_uint(&c, 1);
  uint64_t code = cursor_uint(&c, 2);
  if (c.failed || header != 0xff) return malformed(L, "ERR");
  const uint8_t *sqlstate = NULL;
  if (cursor_left(&c) >= 6 && *c.at == '#') sqlstate = cursor_bytes(&c, 6) + 1;
  lua_createtable(L, 0, 3);
  set_number(L, "errcode", (double)code);
  set_string(L, "sqlstate", sqlstate, 5);
  set_string(L, "errmsg", c.at, cursor_left(&c));
  return 1;
}

/* errcode (default 0), sqlstate (default "07000"), errmsg. With protocol_41 = false: without the SQL state, as a
 * server says it before it knows its client. */
static int to_err_packet(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  size_t state_length, text_length;
  const char *state = get_string(L, "sqlstate", "07000", &state_length);
  const char *text = get_string(L, "errmsg", "", &text_length);
  luaL_argcheck(L, state_length == 5, 1, ".sqlstate has to be a string of 5 characters");
  lua_getfield(L, 1, "protocol_41");
  bool protocol_41 = !lua_isboolean(L, -1) || lua_toboolean(L, -1);
  lua_pop(L, 1);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addchar(&b, '\xff');
  add_uint(&b, get_number(L, "errcode", 0), 2);
  if (protocol_41) {
    luaL_addchar(&b, '#');
    luaL_addlstring(&b, state, 5);
  }
  luaL_addlstring(&b, text, text_length);
  luaL_pushresult(&b);
  return 1;
}

/* server_status, warnings. */
static int from_eof_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  uint8_t header = (uint8_t)cursor_uint(&c, 1);
  uint64_t warnings = cursor_uint(&c, 2);
  uint64_t status = cursor_uint(&c, 2);
  if (c.failed || header != 0xfe) return malformed(L, "EOF");
  lua_createtable(L, 0, 2);
  set_number(L, "server_status", (double)status);
  set_number(L, "warnings", (double)warnings);
  return 1;
}

static int to_eof_packet(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addchar(&b, '\xfe');
  add_uint(&b, get_number(L, "warnings", 0), 2);
  add_uint(&b, get_number(L, "server_status", 0), 2);
  luaL_pushresult(&b);
  return 1;
}

/* --- greeting: "Protocol::HandshakeV10" -------------------------------------------------------------------- */

struct greeting {
  uint8_t protocol_version;
  const uint8_t *version;
  size_t version_length;
  uint32_t thread_id;
  const uint8_t *scramble_first, *scramble_rest;
  size_t scramble_rest_length;
  const uint8_t *low_flags, *high_flags; /* where the two halves of the capabilities are; high may be missing */
  uint32_t flags, extended_flags;
  uint8_t charset;
  uint16_t status;
  const uint8_t *plugin;
  size_t plugin_length;
};

static bool read_greeting(struct cursor *c, struct greeting *g) {
  memset(g, 0, sizeof *g);
  g->protocol_version = (uint8_t)cursor_uint(c, 1);
  g->version = cursor_string_nul(c, &g->version_length);
  g->thread_id = (uint32_t)cursor_uint(c, 4);
  g->scramble_first = cursor_bytes(c, SCRAMBLE_FIRST);
  cursor_uint(c, 1);
  g->low_flags = c->at;
  g->flags = (uint32_t)cursor_uint(c, 2);
  if (c->failed || g->protocol_version != 10) return false;
  if (cursor_left(c) == 0) return true;
  g->charset = (uint8_t)cursor_uint(c, 1);
  g->status = (uint16_t)cursor_uint(c, 2);
  g->high_flags = c->at;
  g->flags |= (uint32_t)cursor_uint(c, 2) << 16;
  uint8_t scramble_length = (uint8_t)cursor_uint(c, 1);
  cursor_bytes(c, 6);
  uint32_t extended = (uint32_t)cursor_uint(c, 4);
  if (!(g->flags & CLIENT_LONG_PASSWORD)) g->extended_flags = extended;
  if (c->failed) return false;
  if (g->flags & (CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH)) {
    size_t rest = scramble_length > SCRAMBLE_FIRST + 13 ? scramble_length - SCRAMBLE_FIRST : 13;
    if (cursor_left(c) < rest) rest = cursor_left(c); /* some servers leave the final NUL out */
    g->scramble_rest = cursor_bytes(c, rest);
    g->scramble_rest_length = rest;
  }
  if (g->flags & CLIENT_PLUGIN_AUTH) {
    g->plugin = c->at; /* its NUL is missing in servers 5.5.7 to 5.5.9 */
    const uint8_t *nul = cursor_left(c) ? memchr(c->at, 0, cursor_left(c)) : NULL;
    g->plugin_length = nul ? (size_t)(nul - c->at) : cursor_left(c);
  }
  return !c->failed;
}

/* "5.0.45-log" -> 50045, "10.11.6-MariaDB" -> 101106; parts that are missing count 0. */
static double version_number(const uint8_t *text, size_t length) {
  double parts[3] = {0, 0, 0};
  size_t at = 0;
  for (int i = 0; i < 3; i++) {
    size_t begin = at;
    while (at < length && at - begin < 4 && text[at] >= '0' && text[at] <= '9')
      parts[i] = parts[i] * 10 + (text[at++] - '0');
    if (at == begin || at == length || text[at] != '.') break;
    at++;
  }
  return parts[0] * 10000 + parts[1] * 100 + parts[2];
}

/* protocol_version, server_version (number), server_version_text, thread_id, capabilities (32 bits),
 * extended_capabilities (MariaDB), charset, server_status, challenge, auth_plugin_name. */
static int from_challenge_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  struct greeting g;
  if (!read_greeting(&c, &g)) return malformed(L, "challenge");
  lua_createtable(L, 0, 10);
  set_number(L, "protocol_version", g.protocol_version);
  set_number(L, "server_version", version_number(g.version, g.version_length));
  set_string(L, "server_version_text", g.version, g.version_length);
  set_number(L, "thread_id", g.thread_id);
  set_number(L, "capabilities", g.flags);
  set_number(L, "extended_capabilities", g.extended_flags);
  set_number(L, "charset", g.charset);
  set_number(L, "server_status", g.status);
  /* Without plugins the second half ends before its NUL. */
  size_t rest = g.scramble_rest_length;
  if (!(g.flags & CLIENT_PLUGIN_AUTH) && rest > SCRAMBLE_LENGTH - SCRAMBLE_FIRST)
    rest = SCRAMBLE_LENGTH - SCRAMBLE_FIRST;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addlstring(&b, (const char *)g.scramble_first, SCRAMBLE_FIRST);
  if (rest) luaL_addlstring(&b, (const char *)g.scramble_rest, rest);
  luaL_pushresult(&b);
  lua_setfield(L, -2, "challenge");
  set_string(L, "auth_plugin_name", g.plugin, g.plugin_length);
  return 1;
}

/* The text of a server_version: "5.00.34" for 50034; a number that is no version of its time gives "5.0.99". */
static void version_text(lua_State *L, char *text, size_t size) {
  uint64_t number = get_number(L, "server_version", 0);
  snprintf(text, size, "5.0.99");
  if (number > 30000 && number < 100000)
    snprintf(text, size, "%u.%02u.%02u", (unsigned)number / 10000, (unsigned)number / 100 % 100,
             (unsigned)number % 100);
}

/* The keys of from_challenge_packet; an empty table gives the greeting of a mock server. */
static int to_challenge_packet(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  char number[32];
  version_text(L, number, sizeof number);
  size_t version_length, challenge_length, plugin_length;
  const char *version = get_string(L, "server_version_text", number, &version_length);
  const char *challenge = get_string(L, "challenge", "01234567890123456789", &challenge_length);
  const char *plugin = get_string(L, "auth_plugin_name", "", &plugin_length);
  luaL_argcheck(L, challenge_length >= SCRAMBLE_FIRST, 1, ".challenge has to have 8 bytes or more");
  uint32_t flags = (uint32_t)get_number(L, "capabilities", CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION);
  if (plugin_length) flags |= CLIENT_PLUGIN_AUTH;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  add_uint(&b, get_number(L, "protocol_version", 10), 1);
  add_string_nul(&b, version, version_length);
  add_uint(&b, get_number(L, "thread_id", 0), 4);
  add_string_nul(&b, challenge, SCRAMBLE_FIRST);
  add_uint(&b, flags & 0xffff, 2);
  add_uint(&b, get_number(L, "charset", 0), 1);
  add_uint(&b, get_number(L, "server_status", 0), 2);
  add_uint(&b, flags >> 16, 2);
  add_uint(&b, plugin_length ? SCRAMBLE_LENGTH + 1 : 0, 1);
  add_zeros(&b, 6);
  add_uint(&b, get_number(L, "extended_capabilities", 0), 4);
  size_t rest = challenge_length - SCRAMBLE_FIRST;
  if (rest > SCRAMBLE_LENGTH - SCRAMBLE_FIRST) rest = SCRAMBLE_LENGTH - SCRAMBLE_FIRST;
  luaL_addlstring(&b, challenge + SCRAMBLE_FIRST, rest);
  add_zeros(&b, (unsigned)(SCRAMBLE_LENGTH - SCRAMBLE_FIRST - rest + 1));
  if (plugin_length) add_string_nul(&b, plugin, plugin_length);
  luaL_pushresult(&b);
  return 1;
}

/* mask_capabilities(greeting, mask): the greeting with those capability bits cleared and nothing else changed. */
static int mask_capabilities(lua_State *L) {
  struct cursor c = check_payload(L);
  const uint8_t *payload = c.at;
  size_t length = cursor_left(&c);
  uint32_t mask = (uint32_t)luaL_checknumber(L, 2);
  struct greeting g;
  if (!read_greeting(&c, &g)) return malformed(L, "challenge");
  size_t low = (size_t)(g.low_flags - payload), high = g.high_flags ? (size_t)(g.high_flags - payload) : length;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addlstring(&b, (const char *)payload, low);
  add_uint(&b, g.flags & ~mask & 0xffff, 2);
  luaL_addlstring(&b, (const char *)payload + low + 2, high - low - 2);
  if (g.high_flags) {
    add_uint(&b, (g.flags & ~mask) >> 16, 2);
    luaL_addlstring(&b, (const char *)payload + high + 2, length - high - 2);
  }
  luaL_pushresult(&b);
  return 1;
}

/* --- login: "Protocol::HandshakeResponse41" ---------------------------------------------------------------- */

static void read_login_41(lua_State *L, struct cursor *c, uint32_t flags) {
  size_t length;
  const uint8_t *username = cursor_string_nul(c, &length);
  set_string(L, "username", username, length);
  const uint8_t *response;
  uint64_t response_length;
  if (flags & CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA) {
    response_length = cursor_lenenc(c);
    response = cursor_bytes(c, response_length);
  } else if (flags & CLIENT_SECURE_CONNECTION) {
    response_length = cursor_uint(c, 1);
    response = cursor_bytes(c, response_length);
  } else {
    response = cursor_string_nul(c, &length);
    response_length = length;
  }
  set_string(L, "response", response, response_length);
  if (flags & CLIENT_CONNECT_WITH_DB) {
    const uint8_t *database = cursor_string_nul(c, &length);
    set_string(L, "database", database, length);
  }
  if (flags & CLIENT_PLUGIN_AUTH && cursor_left(c)) {
    const uint8_t *plugin = cursor_string_nul(c, &length);
    set_string(L, "auth_plugin_name", plugin, length);
  }
  if (flags & CLIENT_CONNECT_ATTRS && cursor_left(c)) proto_read_attributes(L, c);
}

/* from_response_packet(payload, server_capabilities): capabilities, extended_capabilities, server_capabilities,
 * protocol_41 (boolean), ssl_request (true if it is one), and, of a 4.1 login: max_packet_size, charset, username,
 * response, database, auth_plugin_name, attributes (as a string, not taken apart). */
static int from_response_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  size_t payload_length = cursor_left(&c);
  double server_capabilities = luaL_optnumber(L, 2, 4294967295.0);
  uint32_t flags = (uint32_t)cursor_uint(&c, 2);
  lua_createtable(L, 0, 12);
  set_number(L, "server_capabilities", server_capabilities);
  bool protocol_41 = flags & CLIENT_PROTOCOL_41;
  lua_pushboolean(L, protocol_41);
  lua_setfield(L, -2, "protocol_41");
  if (protocol_41) {
    flags |= (uint32_t)cursor_uint(&c, 2) << 16;
    set_number(L, "max_packet_size", (double)cursor_uint(&c, 4));
    set_number(L, "charset", (double)cursor_uint(&c, 1));
    cursor_bytes(&c, 19);
    uint32_t extended = (uint32_t)cursor_uint(&c, 4);
    set_number(L, "extended_capabilities", flags & CLIENT_LONG_PASSWORD ? 0 : extended);
    if (flags & CLIENT_SSL && payload_length == SSL_REQUEST_LENGTH) {
      lua_pushboolean(L, 1);
      lua_setfield(L, -2, "ssl_request");
    } else {
      read_login_41(L, &c, flags & (uint32_t)server_capabilities);
    }
  }
  set_number(L, "capabilities", flags);
  return c.failed ? malformed(L, "response") : 1;
}

/* The keys of from_response_packet; the flags say what is in the packet. */
static int to_response_packet(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const uint32_t usual = CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION;
  uint32_t server = (uint32_t)get_number(L, "server_capabilities", usual | CLIENT_CONNECT_WITH_DB);
  uint32_t flags = (uint32_t)get_number(L, "capabilities", usual);
  size_t user_length, response_length, database_length, plugin_length;
  const char *user = get_string(L, "username", "", &user_length);
  const char *response = get_string(L, "response", "", &response_length);
  const char *database = get_string(L, "database", "", &database_length);
  const char *plugin = get_string(L, "auth_plugin_name", "", &plugin_length);
  size_t attributes_length = 0;
  const char *attributes = proto_attributes_block(L, &attributes_length);
  bool with_database = server & CLIENT_CONNECT_WITH_DB && database_length;
  flags &= ~CLIENT_CONNECT_WITH_DB;
  if (!attributes) flags &= ~CLIENT_CONNECT_ATTRS;
  if (with_database) flags |= CLIENT_CONNECT_WITH_DB;
  uint32_t both = server & flags;
  bool lenenc = both & CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA;
  luaL_argcheck(L, lenenc || response_length < 256, 1, ".response has to be shorter than 256 bytes");
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  add_uint(&b, flags, 4);
  add_uint(&b, get_number(L, "max_packet_size", 0), 4);
  add_uint(&b, get_number(L, "charset", 0), 1);
  add_zeros(&b, 19);
  add_uint(&b, get_number(L, "extended_capabilities", 0), 4);
  add_string_nul(&b, user, user_length);
  if (lenenc)
    add_lenenc(&b, response_length);
  else if (both & CLIENT_SECURE_CONNECTION)
    add_uint(&b, response_length, 1);
  luaL_addlstring(&b, response, response_length);
  if (!lenenc && !(both & CLIENT_SECURE_CONNECTION)) luaL_addchar(&b, '\0');
  if (with_database) add_string_nul(&b, database, database_length);
  if (both & CLIENT_PLUGIN_AUTH) add_string_nul(&b, plugin, plugin_length);
  if (both & CLIENT_CONNECT_ATTRS) {
    add_lenenc(&b, attributes_length);
    luaL_addlstring(&b, attributes, attributes_length);
  }
  luaL_pushresult(&b);
  return 1;
}

/* --- module ------------------------------------------------------------------------------------------------ */

static void set_flags(lua_State *L, const char *key, const struct flag *flags) {
  lua_newtable(L);
  for (; flags->name; flags++) set_number(L, flags->name, flags->value);
  lua_setfield(L, -2, key);
}

LUA_MODULE luaopen_mysql_proto(lua_State *L) {
  static const luaL_Reg functions[] = {{"from_ok_packet", from_ok_packet},
                                       {"to_ok_packet", to_ok_packet},
                                       {"from_err_packet", from_err_packet},
                                       {"to_err_packet", to_err_packet},
                                       {"from_eof_packet", from_eof_packet},
                                       {"to_eof_packet", to_eof_packet},
                                       {"from_challenge_packet", from_challenge_packet},
                                       {"to_challenge_packet", to_challenge_packet},
                                       {"mask_capabilities", mask_capabilities},
                                       {"from_response_packet", from_response_packet},
                                       {"to_response_packet", to_response_packet},
                                       {NULL, NULL}};
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  luaL_register(L, NULL, proto_change_user_functions);
  luaL_register(L, NULL, proto_stmt_functions);
  luaL_register(L, NULL, proto_masterinfo_functions);
  set_flags(L, "capabilities", capabilities);
  set_flags(L, "extended_capabilities", extended_capabilities);
  lua_pushvalue(L, -1);
  lua_setglobal(L, "proto"); /* scripts of 2009 count on it */
  return 1;
}
