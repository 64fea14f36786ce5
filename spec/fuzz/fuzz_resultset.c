/* The properties are in resultset.lua. */
#include "lua_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  static lua_State *L;
  if (!L) L = open_target("resultset");
  run_target(L, data, length);
  return 0;
}
