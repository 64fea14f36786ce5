/* Lua module mysql.resultset: answers that scripts write as servers wrote them before anything was negotiated.
 *
 * from_classic(payloads, command, capabilities): the payloads of a complete answer to `command` in that form, as
 * sessions with these capabilities have it: an array. That form: OK and ERR packets; a column count alone in its
 * packet, column definitions, EOF, rows, EOF or ERR; more of these while the status says so. What does not have exactly
 * this form, and what is answered in others, is the same array again.
 *
 * OK packets have one form: what a session that tracks its state finds behind the counters is there if the status says
 * so, and the text of statements' results had its length in front of it always.
 *
 * Source: "Text Protocol", "Binary Protocol Resultset", "OK_Packet" and "EOF_Packet" of the MySQL documentation,
 * "Result Set Packets" of MariaDB's. */
#include "resultset.h"

enum { HEADER_OK = 0x00, HEADER_NULL = 0xfb, HEADER_EOF = 0xfe, HEADER_ERR = 0xff };
enum {
  SERVER_STATUS_AUTOCOMMIT = 0x0002,
  SERVER_MORE_RESULTS_EXISTS = 0x0008,
  SERVER_PS_OUT_PARAMS = 0x1000,
  SERVER_SESSION_STATE_CHANGED = 0x4000
};
enum { EOF_LENGTH = 5, EOF_LENGTH_4_1 = 1 }; /* the first servers of 4.1 send neither warnings nor status */
enum { NAMES = 6, FIXED_LENGTH = 12 };       /* of a column definition: strings, and the bytes behind them */

#define COLUMN_COUNT_SAYS_MORE (CLIENT_OPTIONAL_RESULTSET_METADATA | MARIADB_CLIENT_CACHE_METADATA)
#define OTHER_FORM (CLIENT_DEPRECATE_EOF | COLUMN_COUNT_SAYS_MORE | MARIADB_CLIENT_EXTENDED_METADATA)

/* On its way through an answer, packet by packet. */
struct translation {
  struct response classic; /* what the recogniser makes of it if nothing was negotiated */
  uint64_t capabilities;   /* of the session */
  uint32_t columns;        /* of this result set */
  uint16_t more;           /* what the status before the row of OUT parameters says, and that behind it may not */
};

/* A payload, which is also on top of the stack. */
static void feed(struct response *r, struct cursor payload) {
  size_t part;
  do {
    uint8_t header[PACKET_HEADER_SIZE];
    part = cursor_left(&payload) < PACKET_MAX_PAYLOAD ? cursor_left(&payload) : PACKET_MAX_PAYLOAD;
    store_header(header, (uint32_t)part, 0);
    response_feed(r, header, sizeof header);
    response_feed(r, cursor_bytes(&payload, part), part);
  } while (part == PACKET_MAX_PAYLOAD);
}

static bool push_same(lua_State *L) {
  lua_pushvalue(L, -1);
  return true;
}

static bool push_ok(lua_State *L, struct cursor c) {
  cursor_uint(&c, 1);
  cursor_lenenc(&c); /* affected rows */
  cursor_lenenc(&c); /* insert id */
  cursor_uint(&c, 4);
  return !c.failed && push_same(L);
}

static bool push_column_count(lua_State *L, struct translation *t, struct cursor c) {
  cursor_lenenc(&c);
  if (t->classic.state != RESPONSE_COLUMNS || cursor_left(&c)) return false;
  t->columns = t->classic.definitions;
  push_same(L);
  if (t->capabilities & COLUMN_COUNT_SAYS_MORE) {
    lua_pushliteral(L, "\1"); /* definitions follow */
    lua_concat(L, 2);
  }
  return true;
}

/* A string that may be NULL. */
static void skip_cell(struct cursor *c) {
  if (cursor_left(c) && *c->at == HEADER_NULL)
    cursor_bytes(c, 1);
  else
    cursor_bytes(c, cursor_lenenc(c));
}

static bool push_definition(lua_State *L, const struct translation *t, struct cursor c) {
  const uint8_t *begin = c.at;
  for (int i = 0; i < NAMES; i++) cursor_bytes(&c, cursor_lenenc(&c));
  const uint8_t *behind_names = c.at;
  if (cursor_lenenc(&c) != FIXED_LENGTH) return false;
  cursor_bytes(&c, FIXED_LENGTH);
  if (t->classic.command == COM_FIELD_LIST && cursor_left(&c)) skip_cell(&c); /* the default */
  if (c.failed || cursor_left(&c)) return false;
  if (!(t->capabilities & MARIADB_CLIENT_EXTENDED_METADATA)) return push_same(L);
  lua_pushlstring(L, (const char *)begin, (size_t)(behind_names - begin));
  lua_pushlstring(L, "", 1); /* nothing more to say */
  lua_pushlstring(L, (const char *)behind_names, (size_t)(c.end - behind_names));
  lua_concat(L, 3);
  return true;
}

static bool is_eof(struct cursor c) { return cursor_left(&c) == EOF_LENGTH || cursor_left(&c) == EOF_LENGTH_4_1; }

static uint16_t status_of(struct cursor eof) {
  cursor_uint(&eof, 1);
  cursor_uint(&eof, 2); /* warnings */
  uint16_t status = (uint16_t)cursor_uint(&eof, 2);
  return eof.failed ? SERVER_STATUS_AUTOCOMMIT : status;
}

/* The end of a result set. */
static bool push_end(lua_State *L, const struct translation *t, struct cursor c) {
  if (!is_eof(c)) return false;
  if (!(t->capabilities & CLIENT_DEPRECATE_EOF)) return push_same(L);
  uint8_t ok[7] = {HEADER_EOF, 0, 0}; /* affected rows, insert id */
  store_uint(ok + 3, (uint16_t)((status_of(c) | t->more) & ~SERVER_SESSION_STATE_CHANGED), 2);
  store_uint(ok + 5, t->classic.warnings, 2);
  lua_pushlstring(L, (const char *)ok, sizeof ok);
  return true;
}

static bool push_end_of_definitions(lua_State *L, struct translation *t, struct cursor c) {
  uint16_t status = status_of(c);
  if (!is_eof(c)) return false;
  t->more = 0;
  if (t->classic.in_cursor) return push_end(L, t, c);
  if (status & SERVER_PS_OUT_PARAMS) t->more = status & (SERVER_PS_OUT_PARAMS | SERVER_MORE_RESULTS_EXISTS);
  if (!(t->capabilities & CLIENT_DEPRECATE_EOF)) return push_same(L);
  lua_pushnil(L);
  return true;
}

static bool push_row(lua_State *L, const struct translation *t, struct cursor c) {
  uint8_t command = t->classic.command;
  if (t->classic.state != RESPONSE_ROWS) return push_end(L, t, c);
  if (command == COM_FIELD_LIST) return push_definition(L, t, c);
  if (command == COM_QUERY || command == COM_PROCESS_INFO) {
    for (uint32_t i = 0; i < t->columns && !c.failed; i++) skip_cell(&c);
    return !c.failed && !cursor_left(&c) && push_same(L);
  }
  return *c.at == HEADER_OK && push_same(L); /* "Binary Protocol Resultset Row" begins like that */
}

/* Of the packet whose payload is on top of the stack, pushes what the session has in its place, which may be nil.
 * False: it does not have the form that it has to have there. */
static bool push_translated(lua_State *L, struct translation *t) {
  size_t length;
  const char *payload = lua_tolstring(L, -1, &length);
  struct cursor c = cursor_over(payload, length);
  uint8_t state = t->classic.state;
  if (state == RESPONSE_DONE || !length) return false;
  feed(&t->classic, c);
  if (t->classic.state == RESPONSE_BROKEN) return false;
  if (*c.at == HEADER_ERR) return push_same(L);
  switch (state) {
  case RESPONSE_HEADER: return *c.at == HEADER_OK ? push_ok(L, c) : push_column_count(L, t, c);
  case RESPONSE_COLUMNS: return push_definition(L, t, c);
  case RESPONSE_COLUMNS_EOF: return push_end_of_definitions(L, t, c);
  case RESPONSE_ROWS: return push_row(L, t, c);
  default: return false;
  }
}

static bool has_other_form(uint8_t command, uint64_t capabilities) {
  switch (command) {
  case COM_QUERY:
  case COM_PROCESS_INFO:
  case COM_STMT_EXECUTE:
  case COM_STMT_BULK_EXECUTE:
  case COM_FIELD_LIST:
  case COM_STMT_FETCH: return capabilities & OTHER_FORM;
  default: return false;
  }
}

static int from_classic(lua_State *L) {
  enum { PAYLOADS = 1, TRANSLATED = 4 };
  struct translation t = {.capabilities = resultset_check_capabilities(L, 3)};
  int command = luaL_checkint(L, 2), count = 0;
  luaL_checktype(L, PAYLOADS, LUA_TTABLE);
  luaL_argcheck(L, command >= 0 && command <= 255, 2, "a command is a number from 0 to 255");
  lua_settop(L, 3);
  lua_newtable(L);
  response_begin(&t.classic, (uint8_t)command, 0);
  bool classic = has_other_form((uint8_t)command, t.capabilities);
  for (int number = 1; classic; number++) {
    lua_pushinteger(L, number);
    lua_gettable(L, PAYLOADS);
    if (lua_isnil(L, -1)) break;
    classic = lua_type(L, -1) == LUA_TSTRING && push_translated(L, &t);
    if (classic && !lua_isnil(L, -1)) lua_rawseti(L, TRANSLATED, ++count);
    lua_settop(L, TRANSLATED);
  }
  lua_pushvalue(L, classic && t.classic.state == RESPONSE_DONE ? TRANSLATED : PAYLOADS);
  return 1;
}

void resultset_classic_open(lua_State *L) {
  lua_pushcfunction(L, from_classic);
  lua_setfield(L, -2, "from_classic");
}
