-- What is compared: the way to the server without anything between, with HAProxy, and with the proxy.

local process = require "spec.support.process"

local M = {}

local HAPROXY = [[
global
  nbthread 1
  maxconn 20000
  no strict-limits
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend clients
  bind 127.0.0.1:%d
  default_backend servers
backend servers
  server one 127.0.0.1:%d
]]

local function start(name, port, program, args)
  local self = { name = name, port = port, process = process.start(program, args) }
  self.pid = self.process.pid
  local ok = process.wait_until(function()
    return not self.process:running() or process.accepts(port)
  end, 20)
  assert(ok and self.process:running(), name .. " did not start: " .. self.process:stderr())
  function self.stop()
    self.process:stop("sigterm", 10)
  end
  return self
end

function M.direct(server)
  return { name = "direct", port = server.port }
end

function M.haproxy(server)
  local port = process.free_port()
  local config = process.write_file(process.path("haproxy.cfg"), HAPROXY:format(port, server.port))
  return start("HAProxy", port, "haproxy", { "-db", "-f", config })
end

--- The proxy of a build folder, with its default options, and others.
function M.proxy(server, build, ...)
  local port = process.free_port()
  return start("mysql-proxy", port, build .. "/mysql-proxy", {
    "--proxy-address=127.0.0.1:" .. port,
    "--proxy-read-only-address=127.0.0.1:" .. process.free_port(),
    "--proxy-backend-addresses=127.0.0.1:" .. server.port,
    ...,
  })
end

return M
