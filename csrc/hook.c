/* Lua module mysql.hook: coroutines that serve one function after the other, which coroutine.resume cannot have.
 *
 * new(): such a coroutine.
 * resume(thread, ...): goes on with a thread that waits, whose yield returns the arguments; or has a free one call a
 * function, which is the first of them. Result: "done" and the function's first result, "waits" and the first value
 * that was yielded, or "failed" and the error: then the thread is of no more use but for a traceback.
 * is_free(thread): whether it can be given a function.
 * running(): an object that says which function runs, with the methods set(number), whose result is the number before,
 * and get(). 0, as in the beginning: none. Whoever resumes a thread sets it, and sets it back. */
#include "hook.h"

bool hook_is_free(lua_State *thread) {
  lua_Debug ar;
  return lua_status(thread) == 0 && !lua_getstack(thread, 0, &ar);
}

/* Keeps the first of what is on the thread's stack. */
static void take_first(lua_State *L, lua_State *thread) {
  if (lua_gettop(thread) == 0) {
    lua_pushnil(L);
    return;
  }
  lua_settop(thread, 1);
  lua_xmove(thread, L, 1);
}

enum hook_status hook_resume(lua_State *L, lua_State *thread, int count) {
  lua_xmove(L, thread, count);
  int status = lua_resume(thread, lua_status(thread) == LUA_YIELD ? count : count - 1);
  if (status != 0 && status != LUA_YIELD) {
    lua_xmove(thread, L, 1);
    return HOOK_FAILED;
  }
  take_first(L, thread);
  return status == LUA_YIELD ? HOOK_WAITS : HOOK_DONE;
}

void hook_push_status(lua_State *L, enum hook_status status) {
  static const char *const names[] = {[HOOK_DONE] = "done", [HOOK_WAITS] = "waits", [HOOK_FAILED] = "failed"};
  lua_pushstring(L, names[status]);
}

static int new (lua_State *L) {
  lua_newthread(L);
  return 1;
}

static lua_State *check_thread(lua_State *L) {
  lua_State *thread = lua_tothread(L, 1);
  luaL_argcheck(L, thread && thread != L, 1, "another coroutine expected");
  return thread;
}

static int resume(lua_State *L) {
  lua_State *thread = check_thread(L);
  luaL_argcheck(L, lua_status(thread) == LUA_YIELD || (hook_is_free(thread) && lua_gettop(L) > 1), 1,
                "a coroutine that waits, or a free one and a function expected");
  int count = lua_gettop(L) - 1;
  if (!lua_checkstack(thread, count)) luaL_error(L, "too many values for a coroutine");
  enum hook_status status = hook_resume(L, thread, count);
  hook_push_status(L, status);
  lua_insert(L, -2);
  return 2;
}

static int is_free(lua_State *L) {
  lua_pushboolean(L, hook_is_free(check_thread(L)));
  return 1;
}

static int running(lua_State *L) {
  struct running *r = lua_newuserdata(L, sizeof *r);
  r->number = 0;
  luaL_getmetatable(L, RUNNING_TYPE);
  lua_setmetatable(L, -2);
  return 1;
}

static int get(lua_State *L) {
  const struct running *r = luaL_checkudata(L, 1, RUNNING_TYPE);
  lua_pushnumber(L, r->number);
  return 1;
}

static int set(lua_State *L) {
  struct running *r = luaL_checkudata(L, 1, RUNNING_TYPE);
  lua_Number before = r->number;
  r->number = luaL_checknumber(L, 2);
  lua_pushnumber(L, before);
  return 1;
}

static int running_to_string(lua_State *L) {
  const struct running *r = luaL_checkudata(L, 1, RUNNING_TYPE);
  lua_pushfstring(L, "mysql.hook.running (%f)", r->number);
  return 1;
}

LUA_MODULE luaopen_mysql_hook(lua_State *L) {
  luaL_newmetatable(L, RUNNING_TYPE);
  lua_pushcfunction(L, running_to_string);
  lua_setfield(L, -2, "__tostring");
  lua_newtable(L);
  luaL_register(L, NULL, (const luaL_Reg[]){{"get", get}, {"set", set}, {NULL, NULL}});
  lua_setfield(L, -2, "__index");
  lua_newtable(L);
  lua_pushcfunction(L, running);
  lua_setfield(L, -2, "running");
  lua_pushcfunction(L, new);
  lua_setfield(L, -2, "new");
  lua_pushcfunction(L, resume);
  lua_setfield(L, -2, "resume");
  lua_pushcfunction(L, is_free);
  lua_setfield(L, -2, "is_free");
  return 1;
}
