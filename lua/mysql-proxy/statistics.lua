--- What the proxy counts of the statements that pass through it, without Lua (csrc/statistics.h), and how long hooks
--- take. The admin interface and the metrics read it.

local counters = require "mysql.statistics"
local stream = require "mysql.stream"
local uv = require "luv"

local hooks = require "mysql-proxy.hooks"

local M = {
  BOUNDS = counters.bounds, ---@type number[] seconds: the upper ends of a histogram's buckets
}

local DIGESTS = 10000 -- the default of how many
local PIECE = 250     -- digests that are read at once

-- By the names of their numbers, COM_QUERY and so on.
local COMMANDS = {}
for name, byte in pairs(require("mysql-proxy.scripting.constants")) do
  if name:find("^COM_") then
    COMMANDS[byte] = name
  end
end
COMMANDS[30], COMMANDS[31], COMMANDS[250] = "COM_BINLOG_DUMP_GTID", "COM_RESET_CONNECTION", "COM_STMT_BULK_EXECUTE"

-- The methods of a session by which the relay asks a script, and the hooks that these call.
local ASKED = { on_command = "read_query", on_answer = "read_query_result" }

---@class StatisticsCounters
---@field count integer commands that servers have got
---@field errors integer answers that were an ERR packet, and connections that servers lost
---@field rows integer of results
---@field bytes_from_client integer
---@field bytes_from_server integer
---@field seconds number from the sending to the last byte of the answer, the sum

---@class StatisticsTimes: StatisticsCounters
---@field min number seconds, and so the others
---@field max number
---@field p50 number
---@field p95 number
---@field p99 number

---@class StatisticsCommand: StatisticsTimes
---@field command string COM_QUERY and so on, or a number
---@field histogram integer[] how many took at most as long as each of BOUNDS, and longer than the one before; the rest

---@class StatisticsDigest: StatisticsTimes
---@field digest string 16 hexadecimal digits; "other": all that found no room, without text, user and schema
---@field text string normalised, at most 1024 bytes
---@field user string
---@field schema string
---@field first_seen number seconds since 1970
---@field last_seen number

---@class StatisticsHook
---@field name string
---@field calls integer
---@field seconds number until it returned or waited; of read_query and read_query_result with what surrounds them
---@field last_error string|nil
---@field last_error_at integer|nil seconds since 1970

---@class Statistics
local Statistics = {}
Statistics.__index = Statistics

---@param digests? integer how many are kept apart
---@return Statistics
function M.new(digests)
  return setmetatable({
    counters = assert(counters.new(digests or DIGESTS)), hook_calls = {}, has_hook = {},
    asked_before = stream.call_times(), -- those are of the whole process
  }, Statistics)
end

local function note_hooks(self, session)
  for _, name in pairs(ASKED) do
    if hooks.find(session, name) ~= nil then
      self.has_hook[name] = true
    end
  end
end

--- Has a session's relay count from here on, its present server's too.
---@param session Session
function Statistics:count(session)
  if session.environment then
    note_hooks(self, session)
  end
  local server, backend = session.server, session.backend
  if backend and not backend.counters then
    backend.counters = counters.new_backend()
  end
  local account = server and server.username and server or session.login
  local proxy = session.proxy
  local slow_log = proxy.slow_log
  session.relay:count(self.counters, backend and backend.counters, account.username or "",
    account.default_db or account.database or "", slow_log and proxy.slow_query_time,
    slow_log and slow_log:teller(session))
end

--- One for each type of command that has come.
---@return StatisticsCommand[]
function Statistics:commands()
  local list = self.counters:commands()
  for _, each in ipairs(list) do
    each.command = COMMANDS[each.command] or tostring(each.command)
  end
  return list
end

--- Calls take(digest) for each that has been counted.
---@param take fun(digest: StatisticsDigest)
---@param pause? fun() called between pieces, so that it may let others get on
function Statistics:each_digest(take, pause)
  local place = 0
  while place do
    local list, next_place = self.counters:digests(place, PIECE)
    place = next_place
    for _, each in ipairs(list) do
      take(each)
    end
    if place and pause then
      pause()
    end
  end
end

--- What has been sent to a server.
---@param backend Backend
---@return StatisticsCounters
function M.of_backend(backend)
  backend.counters = backend.counters or counters.new_backend()
  return backend.counters:counters()
end

--- What another process of this machine can add to its own: some places from one on, as a string.
---@param place integer 0: the beginning, with all commands
---@param most integer
---@return string
---@return integer|nil place of the rest
function Statistics:dump(place, most)
  return self.counters:dump(place, most)
end

--- Adds what another process has dumped.
---@param dump string
---@return true|nil
---@return string|nil message
function Statistics:add(dump)
  return self.counters:add(dump)
end

local function record(self, name)
  local known = self.hook_calls[name]
  if not known then
    known = { name = name, calls = 0, seconds = 0 }
    self.hook_calls[name] = known
  end
  return known
end

--- Calls a function of the login's or the end's, and counts that as a hook.
function Statistics:time_hook(name, fn, ...)
  local known, began = record(self, name), uv.hrtime()
  known.calls = known.calls + 1
  local function ended(...)
    known.seconds = known.seconds + (uv.hrtime() - began) / 1e9
    return ...
  end
  return ended(fn(...))
end

--- A hook has failed.
---@param name string
---@param message string
function Statistics:hook_failed(name, message)
  local known = record(self, name)
  known.last_error, known.last_error_at = message, os.time()
end

--- One for each hook of a script that has been called, by name.
---@return StatisticsHook[]
function Statistics:hooks()
  local list, asked = {}, stream.call_times()
  for method, name in pairs(ASKED) do
    if self.has_hook[name] then
      local known, before = record(self, name), self.asked_before[method]
      known.calls, known.seconds = asked[method].calls - before.calls, asked[method].seconds - before.seconds
    end
  end
  for _, each in pairs(self.hook_calls) do
    if each.calls > 0 or each.last_error then
      list[#list + 1] = each
    end
  end
  table.sort(list, function(a, b)
    return a.name < b.name
  end)
  return list
end

--- Commands are counted from 0 on again.
function Statistics:reset_commands()
  self.counters:reset_commands()
end

--- Digests are.
function Statistics:reset_digests()
  self.counters:reset_digests()
end

--- Hooks are, and no error of theirs is known.
function Statistics:reset_hooks()
  self.hook_calls, self.asked_before = {}, stream.call_times()
end

return M
