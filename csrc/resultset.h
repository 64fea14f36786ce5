/* What the files of mysql.resultset share: resultset.c reads answers, resultset_writer.c makes them,
 * resultset_classic.c changes their form. */
#ifndef MYSQL_RESULTSET_H
#define MYSQL_RESULTSET_H

#include <lauxlib.h>
#include <lua.h>

#include "response.h"

/* Capability flags: a Lua number, MariaDB's extended ones multiplied by 2^32. */
static inline uint64_t resultset_check_capabilities(lua_State *L, int index) {
  lua_Number flags = luaL_checknumber(L, index);
  luaL_argcheck(L, flags >= 0 && flags < 18446744073709551616.0, index, "capability flags expected");
  return (uint64_t)flags;
}

/* The answer to a command. Its packets, if they were kept, are its own, or lent to it for a while. */
struct resultset {
  struct response *outcome; /* what the recogniser made of it; NULL: nothing, or what was lent has been taken back */
  const uint8_t *bytes;     /* the packets */
  size_t length;            /* of these */
  bool counted;             /* else of the outcome only the command and the session's capabilities are there */
  bool kept;
  bool has_table; /* its environment, for what must not be collected */
};

#define RESULTSET_TYPE "mysql.resultset"

/* Makes its type known to the Lua state, once. */
void resultset_open_types(lua_State *L);

/* Pushes an answer with room for `length` bytes of packets, which the caller copies to *bytes. */
struct resultset *resultset_push(lua_State *L, const struct response *outcome, bool counted, bool kept, size_t length,
                                 uint8_t **bytes);
/* Pushes a kept answer which has nothing yet. What it shows can be lent to it until that is taken back, or become its
 * own, as a copy. Lending and taking back cannot fail. What it has of its own can be taken from it too. */
struct resultset *resultset_push_empty(lua_State *L);
void resultset_lend(struct resultset *rs, struct response *outcome, const uint8_t *bytes, size_t length);
void resultset_take_back(struct resultset *rs);
void resultset_own(lua_State *L, int index, const struct response *outcome, const uint8_t *bytes, size_t length);
/* An answer whose bytes are there. */
struct resultset *resultset_check(lua_State *L, int index);

/* Adds to_packets, frame and renumber to the module's table, which is on top of the stack. */
void resultset_writer_open(lua_State *L);
/* Adds from_classic. */
void resultset_classic_open(lua_State *L);

LUA_MODULE luaopen_mysql_resultset(lua_State *L);

#endif
