/* Lua's strings of the short commands that have come lately, as many come again and again. PUC Lua finds a string of 32
 * bytes or more by a hash of every second byte of it, or fewer, in a chain of all that have the same: statements that
 * differ in some digits are many, and each lies elsewhere in memory, also those that nobody needs any more. What has
 * come lately is found here at once. And when as many others have been made as take an eighth of what Lua has, the
 * collector begins (also one that collectgarbage("stop") has stopped): it has less work with them than whoever looks
 * for the next one. */
#ifndef MYSQL_RECENT_H
#define MYSQL_RECENT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECENT_PLACES = 512, RECENT_LONGEST = 256 };

struct recent {
  int strings;        /* reference to a table: each at its place + 1 */
  size_t made, limit; /* bytes of strings since the collector has begun, and until it does so again */
  struct {
    const char *bytes; /* of the string, which the table keeps; NULL: none */
    uint32_t length;
    uint32_t hash;
  } places[RECENT_PLACES]; /* where the latest displaces the one before */
};

void recent_open(lua_State *L, struct recent *recent);
/* Pushes these bytes as a string, as lua_pushlstring does. */
void recent_push(lua_State *L, struct recent *recent, const char *bytes, size_t length);

#endif
