-- A proxy with a script.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"

local M = {}

--- Starts a proxy in front of a server with a script of this text.
---@param backends table[]|table servers, or one
---@param text string
---@param options? string[]
---@return table proxy with `script`, the file's path
function M.start(backends, text, options)
  local path = process.write_file(process.path("script.lua"), text)
  local all = { "--proxy-lua-script=" .. path, unpack(options or {}) }
  local proxy = proxies.start(backends.port and { backends } or backends, all)
  proxy.script = path
  return proxy
end

--- Logs in at a proxy as a user without a password.
function M.client(proxy, user, more)
  return raw.connect(proxy.port):login(user or "nopass", more)
end

return M
