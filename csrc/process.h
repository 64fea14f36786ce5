/* The parts of the Lua module "mysql-proxy.process". */
#ifndef MYSQL_PROXY_PROCESS_H
#define MYSQL_PROXY_PROCESS_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

extern const luaL_Reg process_daemon_functions[], process_descriptors_functions[], process_service_functions[];

/* Pushes nil, "what: the system's message (code)", code; returns 3. */
int process_fail(lua_State *L, int code, const char *what);

/* Writes all of the bytes; false (and errno) if they cannot be written. */
bool process_write_all(int fd, const char *data, size_t length);

#endif
