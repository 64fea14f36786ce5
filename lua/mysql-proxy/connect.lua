-- Connects to a backend: looks its host name up, and tries the addresses one after the other.

local stream = require "mysql.stream"
local uv = require "luv"

local M = {}

---@class Attempt owner of the stream until it is connected
---@field over boolean
local Attempt = {}
Attempt.__index = Attempt

function Attempt:finish(server, message)
  self.over = true
  if self.timer then
    self.timer:close()
    self.timer = nil
  end
  return self.done(server, message)
end

function Attempt:next(message)
  self.place = self.place + 1
  local place = self.places[self.place]
  if not place then
    return self:finish(nil, message)
  end
  local server, failure = stream.connect(self, place.path or place.ip, place.port)
  if not server then
    return self:next(failure)
  end
  self.server = server
  server:timeout(self.seconds)
end

function Attempt:on_connect(server, message)
  if server ~= self.server then
    return
  end
  self.server = nil
  if message then
    return self:next(message)
  end
  return self:finish(server)
end

function Attempt:on_timeout(server)
  self.server = nil
  server:close()
  return self:next("timed out")
end

--- Nobody wants it any more: `done` is not called.
function Attempt:cancel()
  if not self.over then
    self.done = function() end
    if self.server then
      self.server:close()
    end
    self:finish()
  end
end

--- Begins to connect.
---@param backend Backend
---@param seconds number for the look-up, and for each address
---@param log table
---@param done fun(stream: userdata|nil, message: string|nil) now or later: a connected stream, to be given an owner
---@return Attempt
function M.begin(backend, seconds, log, done)
  local self = setmetatable({ seconds = seconds, done = done, over = false }, Attempt)
  backend:resolve(log:guard(function(message, places)
    if self.over then
      return
    elseif self.timer then
      self.timer:stop()
    end
    if not places then
      return self:finish(nil, message)
    end
    self.places, self.place = places, 0
    return self:next()
  end))
  if not self.places and not self.over then
    uv.update_time() -- a hook may have held it up
    self.timer = uv.new_timer()
    self.timer:start(math.ceil(seconds * 1000), 0, log:guard(function()
      return self:finish(nil, "the host name was not resolved in time")
    end))
  end
  return self
end

return M
