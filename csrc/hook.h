/* Runs the functions of scripts in coroutines: each may wait without holding up others. Those that do not wait share
 * one, whoever they belong to: it is in the processor's cache when the next comes, and idle sessions need none. */
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

/* A function that runs now, on the C stack of its caller. */
struct running {
  lua_Number number; /* that its caller has given to it */
  lua_State *thread;
  const struct running *outer; /* the function that has led to that, by running the loop for example */
};

#define HOOKS_TYPE "mysql.hook.hooks"

struct hooks {
  const struct running *running; /* the innermost */
  lua_State *thread;             /* for the next; NULL: it has to be made */
  int kept_thread, kept_globals; /* references: to that thread, and to the globals that each has to begin with */
  const void *globals;
  bool busy; /* it runs one */
};

/* Whether a function with that number runs, not necessarily as the innermost. */
bool hook_runs(const struct hooks *h, lua_Number number);
/* Whether hook_call() needs no memory before it calls. */
bool hook_is_ready(const struct hooks *h);
/* Calls the function below the top of the stack with the value on top, pops both and pushes one value. If the function
 * has not returned, the coroutine is pushed too, which is its own from here on. May raise Lua's "not enough memory"
 * before the function is called. */
enum hook_status hook_call(lua_State *L, struct hooks *h, lua_Number number);

void hook_push_status(lua_State *L, enum hook_status status);

LUA_MODULE luaopen_mysql_hook(lua_State *L);

#endif
