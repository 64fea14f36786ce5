rockspec_format = "3.0"
package = "mysql-proxy"
version = "scm-1"
source = {
  url = "git+file://.",
}
description = {
  summary = "A MySQL proxy that hands every step of the conversation to Lua",
  license = "MIT",
}
dependencies = {
  "lua == 5.1",
  "luv",
  "lpeg",
  "luafilesystem",
}
build = {
  type = "cmake",
  variables = {
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    LUA_DIR = "$(LUADIR)",
    C_MODULE_DIR = "$(LIBDIR)",
    BIN_DIR = "$(BINDIR)",
  },
}
