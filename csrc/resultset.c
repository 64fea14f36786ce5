/* Lua module mysql.resultset, the reader: what a server answered to a command, as scripts see it. Nothing is decoded
 * before it is asked for. resultset_writer.c has the functions that make answers, resultset_classic.c one that changes
 * their form.
 *
 * new(bytes, command, capabilities): bytes are the packets of the complete answer to a command, headers included.
 * capabilities: the flags that client and server have agreed on, MariaDB's extended ones multiplied by 2^32.
 * packets(answer): these bytes again. take_back(answer): it cannot be looked at any more. Other answers come from a
 * relay; of those that it has passed on only the counters are known.
 *
 * An answer has these keys, all others are nil. Bytes that are no answer raise an error when they are looked at; so
 * does an answer whose hook is over, but not its fields.
 *   fields, rows      of the first result set: rows is an iterator that begins anew each time it is read, or nil
 *   raw               payload of the first packet
 *   row_count, bytes  rows of all result sets, and the size of their packets
 *   flags             in_trans, auto_commit, no_good_index_used, no_index_used: booleans
 *   affected_rows, insert_id, warning_count, query_status
 *
 * Source: "Text Protocol" and "Column Definition Packet" of the MySQL and MariaDB documentation. */
#include "resultset.h"

#define FIELDS_TYPE "mysql.resultset.fields"
#define FIELD_TYPE "mysql.resultset.field"

enum { HEADER_NULL = 0xfb, HEADER_ERR = 0xff };
enum { QUERY_OK = 0, QUERY_ERR = 255 };
enum { MOST_CELLS = 4096 }; /* that a row is made for at once; what is NULL behind them takes no place */

/* Places in an answer's table: its fields; what was lent to it, as its own. */
enum { FIELDS = 1, OWN_BYTES = 2 };

/* Beside its name in the registry, which takes longer to look up. */
static const char metatable_key = 0;

/* A copy of the column definitions, so that it does not need the answer. */
struct fields {
  uint64_t capabilities;
  size_t count;
  const uint8_t *end;       /* of the packets, which lie behind this */
  const uint8_t *packets[]; /* where they begin */
};

/* A walk through an answer, packet by packet, with the recogniser to say what each is. */
struct walk {
  struct response answer;
  struct cursor rest;
};

static int malformed(lua_State *L, const char *what, const char *why) {
  return luaL_error(L, "the %s is malformed: %s", what, why);
}

static int taken_back(lua_State *L) {
  return luaL_error(L, "an answer can be looked at as long as its read_query_result runs, and that is over");
}

static const char *const cut_off = "it ends too early";
static const char *const wrong_length = "it ends too early, or a length in it is wrong";

/* --- packets ----------------------------------------------------------------------------------------------- */

/* The next packet with all that belongs to its chain, headers included. */
static struct cursor take_chain(struct cursor *rest) {
  const uint8_t *begin = rest->at;
  uint32_t length;
  do {
    length = (uint32_t)cursor_uint(rest, 3);
    cursor_uint(rest, 1);
    cursor_bytes(rest, length);
  } while (length == PACKET_MAX_PAYLOAD && !rest->failed);
  return cursor_over(begin, rest->failed ? 0 : (size_t)(rest->at - begin));
}

/* The payload of a chain. Pushes what keeps it alive: if it is more than one packet, a copy in one piece. */
static struct cursor push_payload(lua_State *L, struct cursor chain) {
  struct cursor parts = chain;
  uint32_t length = (uint32_t)cursor_uint(&chain, 3);
  cursor_uint(&chain, 1);
  if (length < PACKET_MAX_PAYLOAD) {
    lua_pushnil(L);
    return chain;
  }
  uint8_t *whole = lua_newuserdata(L, cursor_left(&parts)), *to = whole;
  while (cursor_left(&parts)) {
    length = (uint32_t)cursor_uint(&parts, 3);
    cursor_uint(&parts, 1);
    const uint8_t *part = cursor_bytes(&parts, length);
    if (!part) break;
    memcpy(to, part, length);
    to += length;
  }
  return cursor_over(whole, (size_t)(to - whole));
}

static uint8_t first_byte(struct cursor chain) {
  cursor_bytes(&chain, PACKET_HEADER_SIZE);
  return (uint8_t)cursor_uint(&chain, 1);
}

static void begin_walk(struct walk *w, const struct resultset *rs) {
  response_begin(&w->answer, rs->outcome->command, rs->outcome->capabilities);
  w->rest = cursor_over(rs->bytes, rs->length);
}

/* The answer's next packet. False if none is left. */
static bool next_packet(lua_State *L, struct walk *w, struct cursor *chain) {
  if (w->answer.state >= RESPONSE_DONE || !cursor_left(&w->rest)) return false;
  *chain = take_chain(&w->rest);
  if (w->rest.failed) malformed(L, "answer", cut_off);
  response_feed(&w->answer, chain->at, cursor_left(chain));
  if (w->answer.state == RESPONSE_BROKEN) malformed(L, "answer", w->answer.problem);
  return true;
}

static bool has_binary_rows(uint8_t command) {
  return command == COM_STMT_EXECUTE || command == COM_STMT_BULK_EXECUTE || command == COM_STMT_FETCH;
}

static bool may_have_result_sets(uint8_t command) {
  return command == COM_QUERY || command == COM_PROCESS_INFO || command == COM_STMT_EXECUTE ||
         command == COM_STMT_BULK_EXECUTE;
}

/* Walks to the first result set, behind its column count. */
static bool find_result_set(lua_State *L, const struct resultset *rs, struct walk *w) {
  struct cursor chain;
  begin_walk(w, rs);
  if (!may_have_result_sets(rs->outcome->command)) return false;
  while (w->answer.state == RESPONSE_HEADER && next_packet(L, w, &chain)) {
    if (w->answer.state != RESPONSE_HEADER && w->answer.state != RESPONSE_DONE) return true;
  }
  if (w->answer.state != RESPONSE_DONE && !w->answer.local_infile) malformed(L, "answer", cut_off);
  return false;
}

/* --- column definitions ------------------------------------------------------------------------------------ */

/* fields[i] is a userdata whose environment has what it shows. */
static int field_index(lua_State *L) {
  luaL_checkudata(L, 1, FIELD_TYPE);
  lua_getfenv(L, 1);
  lua_pushvalue(L, 2);
  lua_rawget(L, -2);
  return 1;
}

static void set_string(lua_State *L, const char *key, struct cursor *c) {
  uint64_t length = cursor_lenenc(c);
  const uint8_t *text = cursor_bytes(c, length);
  if (!text) return;
  lua_pushlstring(L, (const char *)text, (size_t)length);
  lua_setfield(L, -2, key);
}

/* A table of what "Column Definition Packet" says. */
static void push_definition(lua_State *L, struct cursor c, uint64_t capabilities, int number) {
  lua_createtable(L, 0, 6);
  cursor_bytes(&c, cursor_lenenc(&c)); /* catalog */
  set_string(L, "db", &c);
  set_string(L, "table", &c);
  set_string(L, "org_table", &c);
  set_string(L, "name", &c);
  set_string(L, "org_name", &c);
  if (capabilities & MARIADB_CLIENT_EXTENDED_METADATA) cursor_bytes(&c, cursor_lenenc(&c));
  cursor_lenenc(&c);  /* length of what follows */
  cursor_uint(&c, 2); /* character set */
  cursor_uint(&c, 4); /* length of the column */
  uint8_t type = (uint8_t)cursor_uint(&c, 1);
  if (c.failed) malformed(L, lua_pushfstring(L, "column definition %d", number), wrong_length);
  lua_pushinteger(L, type);
  lua_setfield(L, -2, "type");
}

static void push_field(lua_State *L, const struct fields *f, size_t index) {
  struct cursor rest = cursor_over(f->packets[index], (size_t)(f->end - f->packets[index]));
  struct cursor payload = push_payload(L, take_chain(&rest));
  lua_newuserdata(L, 0);
  luaL_getmetatable(L, FIELD_TYPE);
  lua_setmetatable(L, -2);
  push_definition(L, payload, f->capabilities, (int)index + 1);
  lua_setfenv(L, -2);
  lua_remove(L, -2);
}

/* They are decoded one by one, and kept in the environment. */
static int fields_index(lua_State *L) {
  const struct fields *f = luaL_checkudata(L, 1, FIELDS_TYPE);
  lua_Number number = luaL_checknumber(L, 2);
  if (!(number >= 1 && number < (lua_Number)f->count + 1)) return 0;
  size_t index = (size_t)number;
  lua_getfenv(L, 1);
  lua_rawgeti(L, -1, (int)index);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    push_field(L, f, index - 1);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, (int)index);
  }
  return 1;
}

static int fields_length(lua_State *L) {
  const struct fields *f = luaL_checkudata(L, 1, FIELDS_TYPE);
  lua_pushnumber(L, (lua_Number)f->count);
  return 1;
}

/* Walks through the column definitions, and notes where they are. Result: how many there are. */
static size_t walk_definitions(lua_State *L, struct walk *w, struct fields *f) {
  struct cursor chain;
  size_t count = 0;
  while (w->answer.state == RESPONSE_COLUMNS) {
    uint32_t before = w->answer.definitions;
    if (!next_packet(L, w, &chain)) malformed(L, "answer", cut_off);
    if (w->answer.definitions == before) continue; /* a progress report */
    if (f) f->packets[count] = chain.at;
    count++;
  }
  return count;
}

static void push_copied_fields(lua_State *L, const struct resultset *rs) {
  struct walk w;
  if (!find_result_set(L, rs, &w)) w.rest = cursor_over(rs->bytes, 0);
  struct walk again = w;
  size_t count = walk_definitions(L, &w, NULL), length = (size_t)(w.rest.at - again.rest.at);
  struct fields *f = lua_newuserdata(L, sizeof *f + count * sizeof *f->packets + length);
  uint8_t *copy = (uint8_t *)(f->packets + count);
  if (length) memcpy(copy, again.rest.at, length);
  again.rest = cursor_over(copy, length);
  f->capabilities = rs->outcome->capabilities;
  f->end = copy + length;
  f->count = walk_definitions(L, &again, f);
  luaL_getmetatable(L, FIELDS_TYPE);
  lua_setmetatable(L, -2);
  lua_createtable(L, (int)(count < MOST_CELLS ? count : MOST_CELLS), 0);
  lua_setfenv(L, -2);
}

static void push_table(lua_State *L, int index, struct resultset *rs) {
  if (rs->has_table) {
    lua_getfenv(L, index);
    return;
  }
  lua_createtable(L, OWN_BYTES, 0);
  lua_pushvalue(L, -1);
  lua_setfenv(L, index);
  rs->has_table = true;
}

static int push_fields(lua_State *L, struct resultset *rs) {
  push_table(L, 1, rs);
  lua_rawgeti(L, -1, FIELDS);
  if (lua_isnil(L, -1)) {
    push_copied_fields(L, rs);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -4, FIELDS);
  }
  return 1;
}

/* The recogniser's verdict. A server's request for a file ends what is known so far. */
static const struct response *outcome(lua_State *L, struct resultset *rs) {
  if (!rs->counted) {
    struct response o = *rs->outcome;
    for (size_t at = 0; at < rs->length && o.state < RESPONSE_DONE;)
      at += response_feed(&o, rs->bytes + at, rs->length - at);
    bool file_wanted = o.local_infile && o.state == RESPONSE_HEADER && framing_at_boundary(&o.framing);
    if (o.state == RESPONSE_BROKEN) malformed(L, "answer", o.problem);
    if (o.state != RESPONSE_DONE && !file_wanted) malformed(L, "answer", cut_off);
    *rs->outcome = o;
    rs->counted = true;
  }
  return rs->outcome;
}

/* --- rows -------------------------------------------------------------------------------------------------- */

/* The next row of the first result set; what is none there is a progress report. False behind the last. */
static bool take_row(struct cursor *rest, struct cursor *row) {
  while (cursor_left(rest)) {
    *row = take_chain(rest);
    if (first_byte(*row) != HEADER_ERR) return true;
  }
  return false;
}

static int malformed_row(lua_State *L, const struct resultset *rs, const uint8_t *end) {
  struct cursor rest = cursor_over(rs->bytes, (size_t)(end - rs->bytes)), row;
  int number = 0;
  cursor_bytes(&rest, rs->outcome->rows_begin);
  while (take_row(&rest, &row)) number++;
  return malformed(L, lua_pushfstring(L, "row %d", number), "it does not have the cells of its columns");
}

/* False if it is malformed. */
static bool push_row(lua_State *L, struct cursor c, uint32_t columns) {
  uint32_t column = 0;
  lua_createtable(L, (int)(columns < MOST_CELLS ? columns : MOST_CELLS), 0);
  while (!c.failed && column < columns) {
    column++;
    if (cursor_left(&c) && *c.at == HEADER_NULL) {
      cursor_bytes(&c, 1);
      continue;
    }
    uint64_t length = cursor_lenenc(&c);
    const uint8_t *text = cursor_bytes(&c, length);
    if (!text) break;
    lua_pushlstring(L, (const char *)text, (size_t)length);
    lua_rawseti(L, -2, (int)column);
  }
  return !c.failed && !cursor_left(&c);
}

/* Upvalues: the answer; where in its bytes the next packet begins. */
static int next_row(lua_State *L) {
  const struct resultset *rs = lua_touserdata(L, lua_upvalueindex(1));
  if (!rs->outcome) return taken_back(L);
  const struct response *o = rs->outcome;
  struct cursor rest = cursor_over(rs->bytes, (size_t)o->rows_end), row;
  cursor_bytes(&rest, (uint64_t)lua_tonumber(L, lua_upvalueindex(2)));
  if (!take_row(&rest, &row)) return 0;
  lua_pushnumber(L, (lua_Number)(rest.at - rs->bytes));
  lua_replace(L, lua_upvalueindex(2));
  if (!push_row(L, push_payload(L, row), o->first_columns)) return malformed_row(L, rs, rest.at);
  return 1;
}

/* Of the first result set. */
static int push_rows(lua_State *L, struct resultset *rs) {
  const struct response *o = outcome(L, rs);
  if (o->command == COM_STMT_FETCH ? !o->rows && !o->ended_in_rows : !o->first_columns) return 0;
  if (has_binary_rows(o->command)) return luaL_error(L, ".resultset.rows isn't available for prepared statements");
  lua_pushvalue(L, 1);
  lua_pushnumber(L, (lua_Number)(o->rows_end ? o->rows_begin : 0));
  lua_pushcclosure(L, next_row, 2);
  return 1;
}

/* --- what the answer was ----------------------------------------------------------------------------------- */

/* Payload of the first packet that is no progress report. */
static int push_raw(lua_State *L, struct resultset *rs) {
  struct walk w;
  struct cursor chain;
  begin_walk(&w, rs);
  while (next_packet(L, &w, &chain)) {
    if (first_byte(chain) == HEADER_ERR && w.answer.state < RESPONSE_DONE) continue;
    struct cursor payload = push_payload(L, chain);
    lua_pushlstring(L, (const char *)payload.at, cursor_left(&payload));
    return 1;
  }
  return malformed(L, "answer", cut_off);
}

/* Column definitions in answer to COM_FIELD_LIST are no rows, though they come like them. */
static int push_row_count(lua_State *L, struct resultset *rs) {
  lua_pushnumber(L, rs->outcome->command == COM_FIELD_LIST ? 0 : (lua_Number)outcome(L, rs)->rows);
  return 1;
}

static int push_row_bytes(lua_State *L, struct resultset *rs) {
  lua_pushnumber(L, rs->outcome->command == COM_FIELD_LIST ? 0 : (lua_Number)outcome(L, rs)->row_bytes);
  return 1;
}

static int push_flags(lua_State *L, struct resultset *rs) {
  static const struct {
    const char *name;
    uint16_t bit;
  } flags[] = {
      {"in_trans", 0x0001}, {"auto_commit", 0x0002}, {"no_good_index_used", 0x0010}, {"no_index_used", 0x0020}};
  uint16_t status = outcome(L, rs)->status;
  lua_createtable(L, 0, sizeof flags / sizeof *flags);
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    lua_pushboolean(L, status & flags[i].bit);
    lua_setfield(L, -2, flags[i].name);
  }
  return 1;
}

static bool has_counts(const struct response *o) { return o->has_ok && !o->ended_in_rows; }

static int push_affected_rows(lua_State *L, struct resultset *rs) {
  const struct response *o = outcome(L, rs);
  if (has_counts(o)) lua_pushnumber(L, (lua_Number)o->affected_rows);
  return has_counts(o);
}

static int push_insert_id(lua_State *L, struct resultset *rs) {
  const struct response *o = outcome(L, rs);
  if (has_counts(o)) lua_pushnumber(L, (lua_Number)o->last_insert_id);
  return has_counts(o);
}

static int push_warning_count(lua_State *L, struct resultset *rs) {
  lua_pushinteger(L, outcome(L, rs)->warnings);
  return 1;
}

static int push_query_status(lua_State *L, struct resultset *rs) {
  const struct response *o = outcome(L, rs);
  if (o->state != RESPONSE_DONE) return 0;
  bool failed = o->failed;
  if (o->command == COM_STATISTICS) failed = rs->length && first_byte(cursor_over(rs->bytes, rs->length)) == HEADER_ERR;
  lua_pushinteger(L, failed ? QUERY_ERR : QUERY_OK);
  return 1;
}

/* --- the module -------------------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  int (*push)(lua_State *L, struct resultset *rs);
  bool needs_bytes;
} keys[] = {{"fields", push_fields, true},
            {"rows", push_rows, true},
            {"raw", push_raw, true},
            {"row_count", push_row_count, false},
            {"bytes", push_row_bytes, false},
            {"flags", push_flags, false},
            {"affected_rows", push_affected_rows, false},
            {"insert_id", push_insert_id, false},
            {"warning_count", push_warning_count, false},
            {"query_status", push_query_status, false}};

/* Its upvalue is the metatable of answers: to compare is quicker than to look it up by its name. */
static int resultset_index(lua_State *L) {
  struct resultset *rs = lua_touserdata(L, 1);
  if (!rs || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1))) rs = resultset_check(L, 1);
  if (!rs->outcome) return taken_back(L);
  if (lua_type(L, 2) != LUA_TSTRING) return 0;
  const char *name = lua_tostring(L, 2);
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    if (strcmp(name, keys[i].name) != 0) continue;
    if (keys[i].needs_bytes && !rs->kept)
      return luaL_error(L, ".resultset.%s isn't available if 'resultset_is_needed ~= true'", name);
    return keys[i].push(L, rs);
  }
  return 0;
}

static struct resultset *push_answer(lua_State *L, size_t size) {
  struct resultset *rs = lua_newuserdata(L, size);
  lua_pushlightuserdata(L, (void *)&metatable_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  lua_setmetatable(L, -2);
  return rs;
}

/* What it is about and its bytes, as its own. */
struct own {
  struct response outcome;
  uint8_t bytes[];
};

struct resultset *resultset_push(lua_State *L, const struct response *outcome, bool counted, bool kept, size_t length,
                                 uint8_t **bytes) {
  struct resultset *rs = push_answer(L, sizeof *rs + sizeof(struct own) + length);
  struct own *own = (struct own *)(rs + 1);
  own->outcome = *outcome;
  *rs = (struct resultset){&own->outcome, own->bytes, length, counted, kept, false};
  *bytes = own->bytes;
  return rs;
}

struct resultset *resultset_push_empty(lua_State *L) {
  struct resultset *rs = push_answer(L, sizeof *rs);
  *rs = (struct resultset){NULL, NULL, 0, true, true, false};
  return rs;
}

void resultset_lend(struct resultset *rs, struct response *outcome, const uint8_t *bytes, size_t length) {
  rs->outcome = outcome;
  rs->bytes = bytes;
  rs->length = length;
}

void resultset_take_back(struct resultset *rs) { resultset_lend(rs, NULL, NULL, 0); }

void resultset_own(lua_State *L, int index, const struct response *outcome, const uint8_t *bytes, size_t length) {
  struct resultset *rs = lua_touserdata(L, index);
  push_table(L, index, rs);
  struct own *own = lua_newuserdata(L, sizeof *own + length);
  own->outcome = *outcome;
  memcpy(own->bytes, bytes, length);
  lua_rawseti(L, -2, OWN_BYTES);
  lua_pop(L, 1);
  resultset_lend(rs, &own->outcome, own->bytes, length);
}

struct resultset *resultset_check(lua_State *L, int index) {
  struct resultset *rs = luaL_checkudata(L, index, RESULTSET_TYPE);
  if (!rs->outcome) taken_back(L);
  return rs;
}

static int new (lua_State *L) {
  size_t length;
  const char *bytes = luaL_checklstring(L, 1, &length);
  int command = luaL_checkint(L, 2);
  uint64_t capabilities = resultset_check_capabilities(L, 3);
  luaL_argcheck(L, command >= 0 && command <= 255, 2, "a command is a number from 0 to 255");
  struct response begun;
  response_begin(&begun, (uint8_t)command, capabilities);
  uint8_t *copy;
  resultset_push(L, &begun, false, true, length, &copy);
  memcpy(copy, bytes, length);
  return 1;
}

static int packets(lua_State *L) {
  const struct resultset *rs = resultset_check(L, 1);
  luaL_argcheck(L, rs->kept, 1, "its packets have not been kept");
  lua_pushlstring(L, (const char *)rs->bytes, rs->length);
  return 1;
}

static int take_back(lua_State *L) {
  resultset_take_back(luaL_checkudata(L, 1, RESULTSET_TYPE));
  return 0;
}

static int resultset_to_string(lua_State *L) {
  const struct resultset *rs = luaL_checkudata(L, 1, RESULTSET_TYPE);
  if (!rs->outcome)
    lua_pushliteral(L, "mysql.resultset (of a hook that is over)");
  else if (rs->kept)
    lua_pushfstring(L, "mysql.resultset (%d bytes)", (int)rs->length);
  else
    lua_pushliteral(L, "mysql.resultset (not kept)");
  return 1;
}

static int fields_to_string(lua_State *L) {
  const struct fields *f = luaL_checkudata(L, 1, FIELDS_TYPE);
  lua_pushfstring(L, "mysql.resultset.fields (%d)", (int)f->count);
  return 1;
}

static int field_to_string(lua_State *L) {
  luaL_checkudata(L, 1, FIELD_TYPE);
  lua_getfenv(L, 1);
  lua_getfield(L, -1, "name");
  lua_pushfstring(L, "mysql.resultset.field (%s)", lua_tostring(L, -1));
  return 1;
}

static void add_type(lua_State *L, const char *name, lua_CFunction index, lua_CFunction to_string) {
  luaL_newmetatable(L, name);
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, index, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, to_string);
  lua_setfield(L, -2, "__tostring");
}

void resultset_open_types(lua_State *L) {
  add_type(L, RESULTSET_TYPE, resultset_index, resultset_to_string);
  lua_pushlightuserdata(L, (void *)&metatable_key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
  add_type(L, FIELD_TYPE, field_index, field_to_string);
  add_type(L, FIELDS_TYPE, fields_index, fields_to_string);
  lua_pushcfunction(L, fields_length);
  lua_setfield(L, -2, "__len");
  lua_pop(L, 3);
}

LUA_MODULE luaopen_mysql_resultset(lua_State *L) {
  resultset_open_types(L);
  lua_newtable(L);
  lua_pushcfunction(L, new);
  lua_setfield(L, -2, "new");
  lua_pushcfunction(L, packets);
  lua_setfield(L, -2, "packets");
  lua_pushcfunction(L, take_back);
  lua_setfield(L, -2, "take_back");
  resultset_writer_open(L);
  resultset_classic_open(L);
  return 1;
}
