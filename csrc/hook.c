/* Lua module mysql.hook: runs functions that may wait, each in a coroutine, and knows which of them runs.
 *
 * new(): an object that does so, with these methods. A function is known by a number that its caller gives to it.
 * call(number, fn, argument): calls it. Result: "done" and its first result; "waits" and the first value that it has
 * yielded; or "failed" and the error. With the last two comes its coroutine: it can go on, or has a traceback.
 * resume(number, thread, ...): goes on with one that waits, whose yield returns the arguments. Results as above.
 * running(): the number of the function that runs, 0 if none does.
 * runs(number): whether it runs, be it that others do within it.
 * can_wait(): whether the caller is in the coroutine of the function that runs, and not in one that this has made.
 *
 * A coroutine is used again after a function that has simply returned, unless it has left a debug hook or other globals
 * in it: each begins with those that new() was called with. */
#include "hook.h"

bool hook_runs(const struct hooks *h, lua_Number number) {
  for (const struct running *r = h->running; r; r = r->outer)
    if (r->number == number) return true;
  return false;
}

/* Moves `count` values from the top of L to a thread, and runs it. Pushes one value onto L. */
static enum hook_status run(lua_State *L, struct hooks *h, lua_Number number, lua_State *thread, int count) {
  struct running running = {number, thread, h->running};
  lua_xmove(L, thread, count);
  h->running = &running;
  int status = lua_resume(thread, lua_status(thread) == LUA_YIELD ? count : count - 1);
  h->running = running.outer;
  if (status != 0 && status != LUA_YIELD) {
    lua_xmove(thread, L, 1);
    return HOOK_FAILED;
  }
  lua_settop(thread, 1); /* the first of what it has returned or yielded, or nil */
  lua_xmove(thread, L, 1);
  return status == LUA_YIELD ? HOOK_WAITS : HOOK_DONE;
}

/* Its globals are not those of L, which may be a function's that has others. */
static lua_State *push_new_thread(lua_State *L, const struct hooks *h) {
  lua_State *thread = lua_newthread(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->kept_globals);
  lua_xmove(L, thread, 1);
  lua_replace(thread, LUA_GLOBALSINDEX);
  return thread;
}

static void make_thread(lua_State *L, struct hooks *h) {
  h->thread = push_new_thread(L, h);
  lua_rawseti(L, LUA_REGISTRYINDEX, h->kept_thread);
}

/* Nobody else gets the shared one any more: pushes it. That must not fail, and takes no memory. */
static void push_thread(lua_State *L, struct hooks *h) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->kept_thread);
  lua_pushboolean(L, false);
  lua_rawseti(L, LUA_REGISTRYINDEX, h->kept_thread);
  h->thread = NULL;
}

/* A function has left something behind in it that the next would feel: a debug hook, or other globals. */
static bool is_marked(const struct hooks *h) {
  return lua_gethook(h->thread) || lua_topointer(h->thread, LUA_GLOBALSINDEX) != h->globals;
}

static enum hook_status call_alone(lua_State *L, struct hooks *h, lua_Number number) {
  lua_State *thread = push_new_thread(L, h);
  lua_insert(L, -3);
  enum hook_status status = run(L, h, number, thread, 2);
  if (status == HOOK_DONE)
    lua_remove(L, -2);
  else
    lua_insert(L, -2);
  return status;
}

bool hook_is_ready(const struct hooks *h) { return h->thread && !h->busy; }

enum hook_status hook_call(lua_State *L, struct hooks *h, lua_Number number) {
  if (h->busy) return call_alone(L, h, number);
  if (!h->thread) make_thread(L, h);
  h->busy = true;
  enum hook_status status = run(L, h, number, h->thread, 2);
  h->busy = false;
  if (status != HOOK_DONE) {
    push_thread(L, h);
  } else if (is_marked(h)) {
    push_thread(L, h);
    lua_pop(L, 1);
  }
  return status;
}

void hook_push_status(lua_State *L, enum hook_status status) {
  static const char *const names[] = {[HOOK_DONE] = "done", [HOOK_WAITS] = "waits", [HOOK_FAILED] = "failed"};
  lua_pushstring(L, names[status]);
}

static struct hooks *check_hooks(lua_State *L) { return luaL_checkudata(L, 1, HOOKS_TYPE); }

static int call(lua_State *L) {
  struct hooks *h = check_hooks(L);
  lua_Number number = luaL_checknumber(L, 2);
  luaL_checkany(L, 3);
  lua_settop(L, 4);
  enum hook_status status = hook_call(L, h, number);
  hook_push_status(L, status);
  lua_insert(L, 3);
  return lua_gettop(L) - 2;
}

static int resume(lua_State *L) {
  struct hooks *h = check_hooks(L);
  lua_Number number = luaL_checknumber(L, 2);
  lua_State *thread = lua_tothread(L, 3);
  luaL_argcheck(L, thread && lua_status(thread) == LUA_YIELD, 3, "a coroutine that waits expected");
  int count = lua_gettop(L) - 3;
  if (!lua_checkstack(thread, count)) luaL_error(L, "too many values for a coroutine");
  enum hook_status status = run(L, h, number, thread, count);
  hook_push_status(L, status);
  lua_insert(L, -2);
  if (status == HOOK_DONE) return 2;
  lua_pushvalue(L, 3);
  return 3;
}

static int running(lua_State *L) {
  const struct hooks *h = check_hooks(L);
  lua_pushnumber(L, h->running ? h->running->number : 0);
  return 1;
}

static int runs(lua_State *L) {
  lua_pushboolean(L, hook_runs(check_hooks(L), luaL_checknumber(L, 2)));
  return 1;
}

static int can_wait(lua_State *L) {
  const struct hooks *h = check_hooks(L);
  lua_pushboolean(L, h->running && h->running->thread == L);
  return 1;
}

static int new (lua_State *L) {
  struct hooks *h = lua_newuserdata(L, sizeof *h);
  *h = (struct hooks){.kept_thread = LUA_NOREF, .kept_globals = LUA_NOREF};
  luaL_getmetatable(L, HOOKS_TYPE);
  lua_setmetatable(L, -2);
  h->globals = lua_topointer(L, LUA_GLOBALSINDEX);
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  h->kept_globals = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushboolean(L, false);
  h->kept_thread = luaL_ref(L, LUA_REGISTRYINDEX);
  return 1;
}

static int collect(lua_State *L) {
  struct hooks *h = check_hooks(L);
  luaL_unref(L, LUA_REGISTRYINDEX, h->kept_thread);
  luaL_unref(L, LUA_REGISTRYINDEX, h->kept_globals);
  h->kept_thread = h->kept_globals = LUA_NOREF;
  return 0;
}

static int to_string(lua_State *L) {
  const struct hooks *h = check_hooks(L);
  lua_pushfstring(L, "mysql.hook (%f)", h->running ? h->running->number : 0);
  return 1;
}

LUA_MODULE luaopen_mysql_hook(lua_State *L) {
  luaL_newmetatable(L, HOOKS_TYPE);
  luaL_register(L, NULL, (const luaL_Reg[]){{"__gc", collect}, {"__tostring", to_string}, {NULL, NULL}});
  lua_newtable(L);
  luaL_register(L, NULL,
                (const luaL_Reg[]){{"call", call},
                                   {"resume", resume},
                                   {"running", running},
                                   {"runs", runs},
                                   {"can_wait", can_wait},
                                   {NULL, NULL}});
  lua_setfield(L, -2, "__index");
  lua_newtable(L);
  lua_pushcfunction(L, new);
  lua_setfield(L, -2, "new");
  return 1;
}
