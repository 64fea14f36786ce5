-- The text format of Prometheus, version 0.0.4. Source: "Exposition formats" of Prometheus's documentation.

local lpeg = require "lpeg"

local P, R, Cs = lpeg.P, lpeg.R, lpeg.Cs

local Text = {}
Text.__index = Text

local M = { CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8" }

-- Source: Unicode, table 3-7, "Well-Formed UTF-8 Byte Sequences".
local next_byte = R "\128\191"
local utf8_char = R "\1\127"
  + R "\194\223" * next_byte
  + (P "\224" * R "\160\191" + R("\225\236", "\238\239") * next_byte + P "\237" * R "\128\159") * next_byte
  + (P "\240" * R "\144\191" + R "\241\243" * next_byte + P "\244" * R "\128\143") * next_byte * next_byte

local REPLACEMENT = "\239\191\189" -- one wrong byte would make all metrics useless

local function escaper(escapes)
  local pattern = utf8_char + P(1) / REPLACEMENT
  for char, escaped in pairs(escapes) do
    pattern = P(char) / escaped + pattern
  end
  return Cs(pattern ^ 0)
end

local label_value = escaper { ["\\"] = "\\\\", ["\n"] = "\\n", ['"'] = '\\"' }

--- The value of a label as it is written between quotes.
---@param value string any bytes; what is no UTF-8 becomes U+FFFD
---@return string
function M.escape(value)
  return label_value:match(value)
end

local SPECIAL = { ["inf"] = "+Inf", ["-inf"] = "-Inf" }

--- A number as it is written.
---@param value number
---@return string
function M.number(value)
  if value ~= value then
    return "NaN"
  end
  local text = ("%.15g"):format(value)
  return SPECIAL[text] or text
end

--- An empty text. Its tostring() is what Prometheus reads.
---@return MetricsText
function M.new()
  return setmetatable({ lines = {} }, Text)
end

--- Begins a metric, of which samples follow.
---@param name string
---@param kind "counter"|"gauge"|"histogram"
---@param help string one line without backslashes
function Text:metric(name, kind, help)
  self.name = name
  self.lines[#self.lines + 1] = ("# HELP %s %s\n# TYPE %s %s\n"):format(name, help, name, kind)
end

--- Adds a sample.
---@param value number
---@param ... string names and values of labels in turn
function Text:sample(value, ...)
  local labels = {}
  for index = 1, select("#", ...), 2 do
    local label, text = select(index, ...)
    labels[#labels + 1] = ('%s="%s"'):format(label, M.escape(text))
  end
  local where = #labels > 0 and "{" .. table.concat(labels, ",") .. "}" or ""
  self.lines[#self.lines + 1] = ("%s%s %s\n"):format(self.name, where, M.number(value))
end

--- Adds the samples of a histogram.
---@param bounds number[] the buckets' upper ends
---@param counts integer[] how many are in each bucket alone; the last one has no bound
---@param sum number
---@param label string
---@param of string its value
function Text:histogram(bounds, counts, sum, label, of)
  local name, total = self.name, 0
  self.name = name .. "_bucket"
  for index, count in ipairs(counts) do
    total = total + count
    self:sample(total, label, of, "le", M.number(bounds[index] or math.huge))
  end
  self.name = name .. "_sum"
  self:sample(sum, label, of)
  self.name = name .. "_count"
  self:sample(total, label, of)
  self.name = name
end

function Text:__tostring()
  return table.concat(self.lines)
end

return M
