-- Errors of admin statements: raised as tables that become ERR packets.

local M = {}

---@class AdminError
---@field errcode integer
---@field sqlstate string
---@field errmsg string

--- An error for the client.
---@param errcode integer
---@param sqlstate string
---@param text string a format
---@return AdminError
function M.new(errcode, sqlstate, text, ...)
  return { errcode = errcode, sqlstate = sqlstate, errmsg = text:format(...) }
end

--- Ends the statement with an error for the client.
---@param errcode integer
---@param sqlstate string
---@param text string a format
function M.raise(errcode, sqlstate, text, ...)
  error(M.new(errcode, sqlstate, text, ...), 0)
end

--- What was caught, as an error for the client; nil if it is a mistake of this program.
---@return AdminError|nil
function M.of(caught)
  return type(caught) == "table" and caught.errcode and caught or nil
end

return M
