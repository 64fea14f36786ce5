--- Lines of the log as JSON objects, for --log-format=json. Only required where that is asked for.

local cjson = require("cjson")
local lpeg = require("lpeg")

local R, P, Cs = lpeg.R, lpeg.P, lpeg.Cs

-- JSON is UTF-8, and what came from the network may be anything: other bytes are shown as \xNN.
local more = R("\128\191")
local character = R("\0\127") + R("\194\223") * more
  + (P("\224") * R("\160\191") + R("\225\236", "\238\239") * more + P("\237") * R("\128\159")) * more
  + (P("\240") * R("\144\191") + R("\241\243") * more + P("\244") * R("\128\143")) * more * more
local utf8 = Cs((character + P(1) / function(byte)
  return ("\\x%02x"):format(byte:byte())
end) ^ 0)

local function field(name, value)
  return (',"%s":%s'):format(name, cjson.encode(type(value) == "number" and value or utf8:match(value)))
end

local json = { has_sessions = true }

--- All of a line but its time.
---@param level string
---@param text string
---@param traceback string?
---@param session table? whom it is about
---@param worker integer? which of several processes says it
---@return string
function json.render(level, text, traceback, session, worker)
  local line = field("level", level) .. (worker and field("worker", worker) or "")
  if session then
    local user = session.login and session.login.username
    local backend = session.backend and session.backend.address
    line = line .. field("session", session.id)
      .. (session.client_name and field("client", session.client_name) or "")
      .. (user and field("user", user) or "") .. (backend and field("backend", backend) or "")
  end
  return line .. field("message", text) .. (traceback and field("traceback", traceback) or "")
end

--- The whole line.
---@param now integer time
---@param rendered string
---@return string
function json.stamp(now, rendered)
  return ('{"time":"%s"%s}'):format(os.date("!%Y-%m-%dT%H:%M:%SZ", now), rendered)
end

return json
