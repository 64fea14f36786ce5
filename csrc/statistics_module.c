/* Lua module mysql.statistics: counters that a relay keeps without Lua (relay:count()), and how they are read.
 *
 * new(limit): counters with room for so many digests (1 to a million). nil, message if there is no memory.
 * bounds: the upper ends of the histograms' buckets, in seconds; one more bucket has none. */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <time.h>

#include "fields.h"
#include "packet.h"
#include "statistics.h"
#include "statistics_dump.h"

enum { MOST_DIGESTS = 1000000 };

static struct statistics *check(lua_State *L) { return luaL_checkudata(L, 1, STATISTICS_TYPE); }

/* Adds to the table on top. */
static void set_tally(lua_State *L, const struct tally *t) {
  set_number(L, "count", (double)t->count);
  set_number(L, "errors", (double)t->errors);
  set_number(L, "rows", (double)t->rows);
  set_number(L, "bytes_from_client", (double)t->from_client);
  set_number(L, "bytes_from_server", (double)t->from_server);
  set_number(L, "seconds", (double)t->time / 1e6);
}

static void set_timed(lua_State *L, const struct timed_tally *t) {
  const struct histogram *h = &t->histogram;
  set_tally(L, &t->tally);
  set_number(L, "min", (double)h->min / 1e6);
  set_number(L, "max", (double)h->max / 1e6);
  set_number(L, "p50", histogram_quantile(h, 0.5) / 1e6);
  set_number(L, "p95", histogram_quantile(h, 0.95) / 1e6);
  set_number(L, "p99", histogram_quantile(h, 0.99) / 1e6);
}

/* statistics:commands(): an array of what has come of each type of command: command (its byte), count, errors, rows,
 * bytes_from_client, bytes_from_server, seconds (their sum), min, max, p50, p95, p99 (seconds), histogram (how many
 * have been answered within each bucket of `bounds`, and behind them those that took longer). */
static int commands(lua_State *L) {
  const struct statistics *s = check(L);
  int length = 0;
  lua_newtable(L);
  for (int command = 0; command < 256; command++) {
    const struct timed_tally *t = s->commands[command];
    if (!t || t->tally.count == 0) continue;
    lua_createtable(L, 0, 13);
    set_number(L, "command", command);
    set_timed(L, t);
    lua_createtable(L, HISTOGRAM_BOUNDS + 1, 0);
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
      lua_pushnumber(L, (lua_Number)t->histogram.buckets[i]);
      lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "histogram");
    lua_rawseti(L, -2, ++length);
  }
  return 1;
}

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What has been counted of a statement, if anything: a table on the stack. `past`: from the monotonic clock to the wall
 * clock, in ns. */
static bool push_seen(lua_State *L, const struct statement_tally *seen, int64_t past) {
  if (seen->counters.tally.count == 0) return false;
  lua_createtable(L, 0, 17);
  set_timed(L, &seen->counters);
  set_number(L, "first_seen", (double)((int64_t)seen->first_seen + past) / 1e9);
  set_number(L, "last_seen", (double)((int64_t)seen->last_seen + past) / 1e9);
  return true;
}

/* statistics:digests([from [, most]]): an array of digests that have been counted, from a place on (0: the beginning),
 * of as many places; and the next place, nil at the end. What came meanwhile may be in it or not. Fields: digest (16
 * hexadecimal digits; "other" for what found no room, without text, schema and user), text, schema, user, count,
 * errors, rows, bytes_from_client, bytes_from_server, seconds, min, max, p50, p95, p99, first_seen and last_seen
 * (seconds since 1970). */
static int digests(lua_State *L) {
  const struct statistics *s = check(L);
  lua_Number from = luaL_optnumber(L, 2, 0), most = luaL_optnumber(L, 3, MOST_DIGESTS + 1);
  luaL_argcheck(L, from >= 0, 2, "a place from 0 on expected");
  luaL_argcheck(L, most >= 1, 3, "at least 1 expected");
  int64_t past = (int64_t)(nanoseconds(CLOCK_REALTIME) - nanoseconds(CLOCK_MONOTONIC));
  uint32_t places = s->count + 1, at = from < places ? (uint32_t)from : places;
  uint32_t end = most < places - at ? at + (uint32_t)most : places;
  int length = 0;
  lua_newtable(L);
  for (; at < end; at++) {
    const struct digest *d = at ? s->digests[at - 1] : NULL;
    if (!push_seen(L, d ? &d->seen : &s->other, past)) continue;
    char name[DIGEST_NAME] = "other";
    if (d) {
      digest_name(d, name);
      const char *user = d->text + d->text_length;
      set_text(L, "text", d->text, d->text_length);
      set_text(L, "user", user, d->user_length);
      set_text(L, "schema", user + d->user_length, d->schema_length);
    }
    set_text(L, "digest", name, strlen(name));
    lua_rawseti(L, -2, ++length);
  }
  if (end == places) return 1;
  lua_pushnumber(L, end);
  return 2;
}

/* statistics:dump(from, most): what other counters can add() to theirs, be they of another process on this machine: as
 * digests() has it, as a string, and the next place. Commands are at place 0, with what found no room. */
static int dump(lua_State *L) {
  const struct statistics *s = check(L);
  lua_Number from = luaL_checknumber(L, 2), most = luaL_checknumber(L, 3);
  luaL_argcheck(L, from >= 0, 2, "a place from 0 on expected");
  luaL_argcheck(L, most >= 1, 3, "at least 1 expected");
  uint8_t record[STATISTICS_RECORD];
  uint32_t places = s->count + 1, at = from < places ? (uint32_t)from : places;
  uint32_t end = most < places - at ? at + (uint32_t)most : places;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (unsigned command = 0; at == 0 && command < 256; command++)
    luaL_addlstring(&b, (const char *)record, statistics_dump_command(s, command, record));
  for (; at < end; at++) luaL_addlstring(&b, (const char *)record, statistics_dump_place(s, at, record));
  luaL_pushresult(&b);
  if (end == places) return 1;
  lua_pushnumber(L, end);
  return 2;
}

/* statistics:add(string): adds what a dump() says. True, or nil, message: what stands before the mistake has been
 * added. */
static int add(lua_State *L) {
  struct statistics *s = check(L);
  size_t length;
  const char *bytes = luaL_checklstring(L, 2, &length);
  struct cursor c = cursor_over(bytes, length);
  while (cursor_left(&c) > 0) {
    if (!statistics_add(s, &c)) {
      lua_pushnil(L);
      lua_pushfstring(L, "malformed statistics at byte %d", (int)(length - cursor_left(&c)));
      return 2;
    }
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* statistics:reset_commands(): begins to count types of commands at 0 again. */
static int reset_commands(lua_State *L) {
  statistics_reset_commands(check(L));
  return 0;
}

/* statistics:reset_digests(): begins to count statements at 0 again. */
static int reset_digests(lua_State *L) {
  statistics_reset_digests(check(L));
  return 0;
}

static int collect(lua_State *L) {
  statistics_free(check(L));
  return 0;
}

static int to_string(lua_State *L) {
  const struct statistics *s = check(L);
  lua_pushfstring(L, STATISTICS_TYPE " (%d digests of at most %d)", (int)s->count, (int)s->limit);
  return 1;
}

/* new_backend(): counters of a server. */
static int new_backend(lua_State *L) {
  memset(lua_newuserdata(L, sizeof(struct tally)), 0, sizeof(struct tally));
  luaL_getmetatable(L, STATISTICS_BACKEND_TYPE);
  lua_setmetatable(L, -2);
  return 1;
}

/* backend:counters(): count, errors, rows, bytes_from_client, bytes_from_server, seconds, as a table. */
static int counters(lua_State *L) {
  const struct tally *t = luaL_checkudata(L, 1, STATISTICS_BACKEND_TYPE);
  lua_createtable(L, 0, 6);
  set_tally(L, t);
  return 1;
}

static int backend_to_string(lua_State *L) {
  const struct tally *t = luaL_checkudata(L, 1, STATISTICS_BACKEND_TYPE);
  lua_pushfstring(L, STATISTICS_BACKEND_TYPE " (%f commands)", (lua_Number)t->count);
  return 1;
}

static int new_statistics(lua_State *L) {
  lua_Number limit = luaL_checknumber(L, 1);
  luaL_argcheck(L, limit >= 1 && limit <= MOST_DIGESTS, 1, "1 to 1000000 digests expected");
  struct statistics *s = lua_newuserdata(L, sizeof *s);
  if (!statistics_init(s, (uint32_t)limit)) {
    lua_pushnil(L);
    lua_pushliteral(L, "no memory or no random number for statistics");
    return 2;
  }
  luaL_getmetatable(L, STATISTICS_TYPE);
  lua_setmetatable(L, -2);
  return 1;
}

static void new_type(lua_State *L, const char *name, const luaL_Reg *metamethods, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  luaL_register(L, NULL, metamethods);
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

LUA_MODULE luaopen_mysql_statistics(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__gc", collect}, {"__tostring", to_string}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"commands", commands},
                                     {"digests", digests},
                                     {"dump", dump},
                                     {"add", add},
                                     {"reset_commands", reset_commands},
                                     {"reset_digests", reset_digests},
                                     {NULL, NULL}};
  static const luaL_Reg backend_metamethods[] = {{"__tostring", backend_to_string}, {NULL, NULL}};
  static const luaL_Reg backend_methods[] = {{"counters", counters}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"new", new_statistics}, {"new_backend", new_backend}, {NULL, NULL}};
  new_type(L, STATISTICS_TYPE, metamethods, methods);
  new_type(L, STATISTICS_BACKEND_TYPE, backend_metamethods, backend_methods);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  lua_createtable(L, HISTOGRAM_BOUNDS, 0);
  for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
    lua_pushnumber(L, histogram_bounds[i] / 1e6);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "bounds");
  return 1;
}
