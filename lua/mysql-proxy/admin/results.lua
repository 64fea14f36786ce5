-- A result of a statement as packets.

local resultset = require "mysql.resultset"

local values = require "mysql-proxy.admin.values"

local M = {}

--- Types of columns, as the protocol numbers them.
M.TYPES = { LONG = 3, DOUBLE = 5, LONGLONG = 8, STRING = 254 }

--- Packets for a session. Numbers become text, but those that the binary protocol has as numbers.
---@param result { fields: { name: string, type: string }[], rows: table[] }
---@param binary boolean|nil for COM_STMT_EXECUTE
function M.packets(session, result, binary)
  local fields, count = {}, #result.fields
  for index, each in ipairs(result.fields) do
    fields[index] = { name = each.name, type = M.TYPES[each.type] }
  end
  local rows = {}
  for number, row in ipairs(result.rows) do
    session:pause()
    local cells = {}
    for index = 1, count do
      local value = row[index]
      if type(value) == "number" and not (binary and result.fields[index].type ~= "STRING") then
        value = values.text(value)
      end
      cells[index] = value
    end
    rows[number] = cells
  end
  return (resultset.to_packets({ fields = fields, rows = rows, charset = session.CHARSET, binary = binary },
    session.capabilities, session.sequence))
end

return M
