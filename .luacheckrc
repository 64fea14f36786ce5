std = "lua51"
max_line_length = 120
exclude_files = { "build", "build-*" }
files["spec"] = { std = "lua51+busted" }
files["rockspec"] = { std = "rockspec" }
-- What a script of the proxy may use and define.
local script = {
  globals = {
    "proxy", "connect_server", "read_handshake", "read_auth", "read_auth_result", "read_query", "read_query_result",
    "disconnect_client",
  },
}
files["examples"] = script
-- Scripts as they were written when the proxy was new: with globals of their own.
files["spec/integration/scripts"] = {
  globals = script.globals, allow_defined_top = true, ignore = { "131", "143/table" }, -- table.getn
}
files["spec/bench/look.lua"] = script
files["spec/bench/walk.lua"] = script
files["spec/bench/busy.lua"] = script
-- In modules that scripts require, `proxy` is the connection that is running.
files["lua/proxy"] = { globals = { "proxy" } }
-- Only for editors.
files["lua/mysql-proxy/scripting/types.lua"] = { ignore = { "." } }
