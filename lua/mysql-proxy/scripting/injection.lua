-- What read_query_result gets: a command of the queue and its answer.

local resultset = require "mysql.resultset"

local M = {}

local BYTES, SUMMARY, CAPABILITIES, LOG = {}, {}, {}, {} -- keys that scripts cannot name

local readers = {}

function readers.resultset(self)
  local made = resultset.new(self[BYTES] or nil, self.query:byte(), self[CAPABILITIES],
    not self[BYTES] and self[SUMMARY] or nil)
  rawset(self, "resultset", made)
  return made
end

local meta = {}

function meta.__index(self, key)
  local read = readers[key]
  if read then
    return read(self)
  end
  rawget(self, LOG):message(("inj[%s] ... not found"):format(tostring(key)))
  return nil
end

--- Made for each answer: what is costly is found when a script asks for it.
---@param item table of proxy.queries
---@param relay userdata
---@param bytes string|nil the answer, if it was kept
---@param capabilities number
---@param log table
function M.new(item, relay, bytes, capabilities, log)
  local query_time, response_time = relay:times()
  return setmetatable({
    id = item.id, type = item.id, query = item.packet, query_time = query_time, response_time = response_time,
    [BYTES] = bytes or false, [SUMMARY] = not bytes and relay:summary(), [CAPABILITIES] = capabilities, [LOG] = log,
  }, meta)
end

return M
