--- What --version prints. Nothing that is missing may prevent it.

local process = require("mysql-proxy.process")

-- The version that a module states in a field or with a function.
local function version_of(module, field)
  local found, loaded = pcall(require, module)
  local version = found and loaded[field]
  if type(version) == "function" then
    version = version()
  end
  return version or "not found"
end

return function()
  return table.concat({
    "mysql-proxy " .. process.version,
    "  luv: " .. process.luv_version,
    "  libuv: " .. version_of("luv", "version_string"),
    "  LPeg: " .. version_of("lpeg", "version"),
    "  OpenSSL: " .. version_of("mysql.password", "openssl_version"),
    "  LUA: " .. ((rawget(_G, "jit") or {}).version or process.lua_release),
    "    package.path: " .. package.path,
    "    package.cpath: " .. package.cpath,
    "-- modules",
    "  proxy: " .. process.version,
    "  admin: " .. process.version,
  }, "\n") .. "\n"
end
