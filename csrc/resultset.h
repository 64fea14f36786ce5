/* What the two files of mysql.resultset share: resultset.c reads answers, resultset_writer.c makes them. */
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

/* Adds to_packets, frame and renumber to the module's table, which is on top of the stack. */
void resultset_writer_open(lua_State *L);

#endif
