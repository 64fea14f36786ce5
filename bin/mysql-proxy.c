/* The host: a Lua state, the module paths, argv. All else is in Lua, beginning with mysql-proxy/main.lua. */
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "memory.h"

/* Where the modules are, seen from the folder of this program. The first layout that exists is taken. */
static const struct layout {
  const char *lua, *c;
} layouts[] = {
    {"lib/mysql-proxy/lua", "lib/mysql-proxy"},       /* build tree */
    {"../lib/mysql-proxy/lua", "../lib/mysql-proxy"}, /* installation */
    {"../share/lua/5.1", "../lib/lua/5.1"},           /* rock */
};

struct command_line {
  int argc;
  char **argv;
};

/* Puts `templates` in front of package[field]. */
static void prepend_path(lua_State *L, const char *field, const char *templates) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, field);
  lua_pushfstring(L, "%s;%s", templates, lua_tostring(L, -1));
  lua_setfield(L, -3, field);
  lua_pop(L, 2);
}

/* A LUA_CPATH that leaves Lua's own folders out is about a script's modules: the program needs some of theirs (luv). At
 * the end, ";;" stands for them. To be called before Lua reads it. */
static void keep_default_cpath(lua_State *L) {
  const char *cpath = getenv("LUA_CPATH");
  if (cpath && !strstr(cpath, ";;")) setenv("LUA_CPATH", lua_pushfstring(L, "%s;;", cpath), 1);
}

/* Lets require() find the modules that belong to this program. If there are none, LUA_PATH has to. */
static void set_module_paths(lua_State *L) {
  char folder[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", folder, sizeof folder);
  if (length <= 0 || length == sizeof folder) return;
  folder[length] = '\0';
  *strrchr(folder, '/') = '\0';

  for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
    const char *lua = lua_pushfstring(L, "%s/%s", folder, layouts[i].lua);
    const char *c = lua_pushfstring(L, "%s/%s", folder, layouts[i].c);
    if (access(lua_pushfstring(L, "%s/mysql-proxy/main.lua", lua), R_OK) == 0) {
      prepend_path(L, "path", lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", lua, lua));
      prepend_path(L, "cpath", lua_pushfstring(L, "%s/?.so", c));
      return;
    }
  }
}

/* The global `arg`, as the stand-alone Lua sets it. */
static void set_arg(lua_State *L, const struct command_line *line) {
  lua_createtable(L, line->argc, 1);
  for (int i = 0; i < line->argc; i++) {
    lua_pushstring(L, line->argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_setglobal(L, "arg");
  lua_pushlightuserdata(L, line->argv); /* for process.hide_argument() */
  lua_setfield(L, LUA_REGISTRYINDEX, "mysql-proxy.argv");
}

/* require("mysql-proxy.main").run(arg) -> exit status */
static int run(lua_State *L) {
  const struct command_line *line = lua_touserdata(L, 1);
  keep_default_cpath(L);
  luaL_openlibs(L);
  lua_settop(L, 0);
  set_module_paths(L);
  set_arg(L, line);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "mysql-proxy.main");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "run");
  lua_getglobal(L, "arg");
  lua_call(L, 1, 1);
  return 1;
}

/* Message handler of lua_pcall. */
static int add_traceback(lua_State *L) {
  lua_getglobal(L, "debug");
  if (!lua_istable(L, -1) || !lua_isstring(L, 1)) {
    lua_settop(L, 1);
    return 1;
  }
  lua_getfield(L, -1, "traceback");
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 2); /* without this function */
  lua_call(L, 2, 1);
  return 1;
}

/* LuaJIT limits its own stack, but not how much of C's a recursion takes that goes through string.gsub, of 8 kB for
 * each call: C's stack has to be large enough for the limit to come first. */
static void enlarge_stack(void) {
#ifdef LUA_JITLIBNAME
  enum { STACK_SIZE = 64 * 1024 * 1024 };
  struct rlimit limit;
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= STACK_SIZE) return;
  limit.rlim_cur = limit.rlim_max < STACK_SIZE ? limit.rlim_max : STACK_SIZE;
  setrlimit(RLIMIT_STACK, &limit);
#endif
}

#if !defined(LUA_JITLIBNAME) && !defined(__SANITIZE_ADDRESS__)
static int panic(lua_State *L) {
  fprintf(stderr, "PANIC: unprotected error in call to Lua API (%s)\n", lua_tostring(L, -1));
  return 0;
}
#endif

/* LuaJIT has an allocator of its own. The sanitizers have to see each block. */
static lua_State *new_state(struct memory *memory) {
#if defined(LUA_JITLIBNAME) || defined(__SANITIZE_ADDRESS__)
  (void)memory;
  return luaL_newstate();
#else
  lua_State *L = lua_newstate(memory_allocate, memory);
  if (L) lua_atpanic(L, panic);
  return L;
#endif
}

int main(int argc, char **argv) {
  struct memory memory = {0};
  enlarge_stack();
  signal(SIGPIPE, SIG_IGN); /* a peer that has gone is an error of write() */
  lua_State *L = new_state(&memory);
  if (!L) {
    fputs("mysql-proxy: not enough memory\n", stderr);
    return EXIT_FAILURE;
  }
  struct command_line line = {argc, argv};
  lua_pushcfunction(L, add_traceback);
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, &line);
  int status = EXIT_FAILURE;
  if (lua_pcall(L, 1, 1, 1) == 0) {
    status = (int)lua_tointeger(L, -1);
  } else {
    const char *message = lua_tostring(L, -1);
    fprintf(stderr, "mysql-proxy: %s\n", message ? message : "an error that is no text");
  }
  lua_close(L);
  memory_free(&memory);
  return status;
}
