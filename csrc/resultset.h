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

/* A walk through an answer, packet by packet, with the recogniser to say what each is. */
struct walk {
  struct response answer;
  struct cursor rest;
  uint64_t columns; /* of the first result set */
};

/* The answer to a command. Its packets, if they were kept, lie behind it. */
struct resultset {
  struct response outcome; /* what the recogniser made of it, */
  bool counted;            /* if it has been asked; else only the command and the session's capabilities are there */
  bool kept;
  bool has_fields;       /* in its environment */
  bool walked;           /* its rows have been asked for, which has used */
  struct walk rows_walk; /* this; who asks again gets one of his own */
  size_t length;         /* of the packets */
  uint8_t bytes[];
};

#define RESULTSET_TYPE "mysql.resultset"

/* Makes its type known to the Lua state, once. */
void resultset_open_types(lua_State *L);

/* Pushes an answer with room for `length` bytes of packets, which the caller copies into it. */
struct resultset *resultset_push(lua_State *L, const struct response *outcome, bool counted, bool kept, size_t length);
struct resultset *resultset_check(lua_State *L, int index);

/* Adds to_packets, frame and renumber to the module's table, which is on top of the stack. */
void resultset_writer_open(lua_State *L);

#endif
