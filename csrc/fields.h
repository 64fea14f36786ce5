/* Fields of the Lua table on top of the stack. */
#ifndef MYSQL_FIELDS_H
#define MYSQL_FIELDS_H

#include <lua.h>

static inline void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

static inline void set_text(lua_State *L, const char *name, const char *text, size_t length) {
  lua_pushlstring(L, text, length);
  lua_setfield(L, -2, name);
}

#endif
