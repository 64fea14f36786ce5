/* A target whose properties are written in Lua: NAME.lua beside this file returns a function of the input, which
 * raises an error when a property does not hold. The lines of Lua that run count as coverage. */
#include "fuzz.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

int luaopen_mysql_packet(lua_State *L);
int luaopen_mysql_proto(lua_State *L);
int luaopen_mysql_resultset(lua_State *L);
int luaopen_mysql_tokenizer(lua_State *L);

/* Lua collects its garbage later than after each input, which is no leak, though it would be looked into each time. */
const char *__asan_default_options(void) { return "detect_leaks=0:malloc_context_size=2:quarantine_size_mb=16"; }

enum { COUNTERS = 1 << 14 };

__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

static void on_line(lua_State *L, lua_Debug *at) {
  static unsigned before;
  (void)L;
  unsigned line = (unsigned)at->currentline;
  counters[(before * 31 + line) % COUNTERS]++;
  before = line;
}

static void preload(lua_State *L, const char *name, lua_CFunction open) {
  lua_getfield(L, LUA_GLOBALSINDEX, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, name);
  lua_pop(L, 2);
}

/* A Lua state with the modules under test, which are linked with their instrumentation; the target's function is on
 * its stack. */
static lua_State *open_target(const char *name) {
  unsetenv("LUA_CPATH"); /* what is not preloaded is the system's */
  setenv("LUA_PATH", FUZZ_SOURCE_DIR "/lua/?.lua;;", 1);
  lua_State *L = luaL_newstate();
  check(L);
  luaL_openlibs(L);
  preload(L, "mysql.packet", luaopen_mysql_packet);
  preload(L, "mysql.proto", luaopen_mysql_proto);
  preload(L, "mysql.resultset", luaopen_mysql_resultset);
  preload(L, "mysql.tokenizer", luaopen_mysql_tokenizer);
  char path[4096];
  snprintf(path, sizeof path, FUZZ_SOURCE_DIR "/spec/fuzz/%s.lua", name);
  if (luaL_dofile(L, path)) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    abort();
  }
  lua_sethook(L, on_line, LUA_MASKLINE, 0);
  return L;
}

static void run_target(lua_State *L, const uint8_t *data, size_t length) {
  lua_pushvalue(L, 1);
  lua_pushlstring(L, (const char *)data, length);
  if (lua_pcall(L, 1, 0, 0) == 0) return;
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  abort();
}
