/* mysql.proto: master.info, the file in which a replica keeps where its primary is and how far it has read. One value
 * per line; the first line says how many lines there are. */
#include "proto.h"

#include <stdio.h>

enum { MAX_DIGITS = 18 };
enum { MIN_LINES = 14, VERIFY_LINES = 15 }; /* master_ssl_verify_server_cert came with line 15 */

struct field {
  const char *key;
  bool is_number;
};

/* In line order, after master_lines. */
static const struct field fields[] = {{"master_log_file", false},     {"master_log_pos", true},
                                      {"master_host", false},         {"master_user", false},
                                      {"master_password", false},     {"master_port", true},
                                      {"master_connect_retry", true}, {"master_ssl", true},
                                      {"master_ssl_ca", false},       {"master_ssl_capath", false},
                                      {"master_ssl_cert", false},     {"master_ssl_cipher", false},
                                      {"master_ssl_key", false},      {"master_ssl_verify_server_cert", true}};

static unsigned field_count(uint64_t lines) { return lines >= VERIFY_LINES ? VERIFY_LINES - 1 : MIN_LINES - 1; }

static const uint8_t *read_line(struct cursor *c, size_t *length) {
  const uint8_t *newline = cursor_left(c) && !c->failed ? memchr(c->at, '\n', cursor_left(c)) : NULL;
  *length = newline ? (size_t)(newline - c->at) : 0;
  if (!newline) c->failed = true;
  const uint8_t *line = cursor_bytes(c, *length);
  cursor_bytes(c, 1);
  return line;
}

static double read_number(struct cursor *c) {
  size_t length;
  const uint8_t *digits = read_line(c, &length);
  if (length == 0 || length > MAX_DIGITS) c->failed = true;
  double value = 0;
  for (size_t i = 0; i < length && !c->failed; i++) {
    if (digits[i] < '0' || digits[i] > '9') c->failed = true;
    value = value * 10 + (digits[i] - '0');
  }
  return value;
}

/* from_masterinfo_string(text): master_lines and the keys above. The lines that later servers append, which have no
 * key, are in further_lines as they are, so that to_masterinfo_string() gives the same file again. */
static int from_masterinfo_string(lua_State *L) {
  struct cursor c = check_payload(L);
  double lines = read_number(&c);
  if (c.failed || lines < MIN_LINES) return malformed(L, "masterinfo");
  lua_createtable(L, 0, VERIFY_LINES + 1);
  set_number(L, "master_lines", lines);
  unsigned count = field_count((uint64_t)lines);
  for (unsigned i = 0; i < count; i++) {
    size_t length;
    if (fields[i].is_number) {
      set_number(L, fields[i].key, read_number(&c));
    } else {
      const uint8_t *text = read_line(&c, &length);
      set_string(L, fields[i].key, text, length);
    }
  }
  if (c.failed) return malformed(L, "masterinfo");
  set_string(L, "further_lines", c.at, cursor_left(&c));
  return 1;
}

static void add_number(luaL_Buffer *b, uint64_t value) {
  char text[24];
  int length = snprintf(text, sizeof text, "%llu\n", (unsigned long long)value);
  luaL_addlstring(b, text, (size_t)length);
}

/* The keys of from_masterinfo_string(). Numbers default to 0, but master_lines to 15; strings to empty lines. */
static int to_masterinfo_string(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  uint64_t lines = get_number(L, "master_lines", VERIFY_LINES);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  add_number(&b, lines);
  unsigned count = field_count(lines);
  for (unsigned i = 0; i < count; i++) {
    if (fields[i].is_number) {
      add_number(&b, get_number(L, fields[i].key, 0));
    } else {
      size_t length;
      const char *text = get_string(L, fields[i].key, "", &length);
      if (memchr(text, '\n', length)) luaL_error(L, ".%s has to be one line", fields[i].key);
      luaL_addvalue(&b);
      luaL_addchar(&b, '\n');
    }
  }
  size_t length;
  get_string(L, "further_lines", "", &length);
  luaL_addvalue(&b);
  luaL_pushresult(&b);
  return 1;
}

const luaL_Reg proto_masterinfo_functions[] = {
    {"from_masterinfo_string", from_masterinfo_string}, {"to_masterinfo_string", to_masterinfo_string}, {NULL, NULL}};
