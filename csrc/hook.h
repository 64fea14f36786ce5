/* Runs a script's functions in coroutines: each may wait without holding up others. */
#ifndef MYSQL_HOOK_H
#define MYSQL_HOOK_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#include "packet.h"

enum hook_status {
  HOOK_DONE,  /* it has returned this */
  HOOK_WAITS, /* it has yielded this */
  HOOK_FAILED /* with this error; the thread is left as it was then */
};

/* Whether a thread can be given a function: it is new, or has run one to its end. */
bool hook_is_free(lua_State *thread);
/* Moves `count` values from the top of L to a thread, which has room for them (for LUA_MINSTACK if it is free), and
 * runs it: a free one gets a function and its arguments, one that waits gets what its yield returns. Pushes one value
 * onto L. */
enum hook_status hook_resume(lua_State *L, lua_State *thread, int count);

#define RUNNING_TYPE "mysql.hook.running"

/* Which function runs now: a number that its caller has given to it, 0 for none. */
struct running {
  lua_Number number;
};

void hook_push_status(lua_State *L, enum hook_status status);

LUA_MODULE luaopen_mysql_hook(lua_State *L);

#endif
