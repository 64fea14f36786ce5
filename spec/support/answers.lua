-- Answers of a server as they are on the wire, packet by packet, for specs of what reads them.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local resultset = require "mysql.resultset"

local assert = require "luassert"

local AUTOCOMMIT = 2

local M = {}

function M.lenenc(text)
  return text and packet.to_lenenc_string(text) or "\251"
end

function M.ok(values, header)
  values = values or {}
  values.server_status = values.server_status or AUTOCOMMIT
  return (header or "\0") .. proto.to_ok_packet(values):sub(2)
end

function M.ok_as_eof(values)
  return M.ok(values, "\254")
end

function M.eof(status, warnings)
  return proto.to_eof_packet { server_status = status or AUTOCOMMIT, warnings = warnings }
end

function M.err(code)
  return proto.to_err_packet { errcode = code or 1054, sqlstate = "42S22", errmsg = "Unknown column" }
end

M.progress = "\255\255\255\1\1\2\16\39\0\7Copying"

-- A column definition. `extended` is MariaDB's extended metadata.
function M.column(name, type, extended)
  return M.lenenc "def" .. M.lenenc "a_db" .. M.lenenc "t" .. M.lenenc "org_t" .. M.lenenc(name)
    .. M.lenenc("org_" .. name) .. (extended and M.lenenc(extended) or "")
    .. "\12\63\0\11\0\0\0" .. string.char(type or 253) .. "\1\16\0\0\0"
end

function M.row(cells, ...)
  local text = {}
  for i = 1, cells do
    text[i] = M.lenenc((select(i, ...)))
  end
  return table.concat(text)
end

-- The wire form of payloads, as an answer: numbered from 1.
function M.answer(...)
  local bytes, sequence = {}, 1
  for i = 1, select("#", ...) do
    bytes[i], sequence = packet.frame((select(i, ...)), sequence)
  end
  return table.concat(bytes)
end

function M.read(command, capabilities, ...)
  return resultset.new(M.answer(...), command, capabilities)
end

function M.rows_of(result, cells)
  local rows = {}
  for cell in result.rows do
    rows[#rows + 1] = {}
    for i = 1, cells do
      rows[#rows][i] = cell[i] or "NULL"
    end
  end
  return rows
end

function M.raises(text, result, key)
  assert.error_matches(function()
    return result[key]
  end, text, nil, true)
end

return M
