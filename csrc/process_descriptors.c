/* Lua module "mysql-proxy.process", continued: descriptors that a program was started with, where luv's are not enough:
 * before there is a loop. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* keep_descriptor(fd) -> true | nil, message, errno
 * From now on no other program inherits it unasked. */
static int l_keep_descriptor(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
    return process_fail(L, errno, lua_pushfstring(L, "taking over descriptor %d failed", fd));
  lua_pushboolean(L, true);
  return 1;
}

/* replace_stderr(fd) -> true | nil, message, errno
 * Standard error becomes what the descriptor is, which is closed. */
static int l_replace_stderr(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  if (dup2(fd, STDERR_FILENO) < 0) return process_fail(L, errno, "restoring standard error failed");
  close(fd);
  lua_pushboolean(L, true);
  return 1;
}

/* write_descriptor(fd, bytes) -> true | nil, message, errno */
static int l_write_descriptor(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  size_t length;
  const char *bytes = luaL_checklstring(L, 2, &length);
  if (!process_write_all(fd, bytes, length))
    return process_fail(L, errno, lua_pushfstring(L, "writing to descriptor %d failed", fd));
  lua_pushboolean(L, true);
  return 1;
}

/* close_descriptor(fd) */
static int l_close_descriptor(lua_State *L) {
  close((int)luaL_checkinteger(L, 1));
  return 0;
}

const luaL_Reg process_descriptors_functions[] = {
    {"close_descriptor", l_close_descriptor},
    {"keep_descriptor", l_keep_descriptor},
    {"replace_stderr", l_replace_stderr},
    {"write_descriptor", l_write_descriptor},
    {NULL, NULL},
};
