-- Properties: a reader gives the same each time, or says that the answer is malformed; the rows are not more than it
-- counts; a text result set that it reads, made into packets again, reads the same, and made for no capabilities and
-- translated it is the same as made for these; renumbered packets are the same but for their numbers.
-- Input: as that of fuzz_response.c.

local packet = require "mysql.packet"
local resultset = require "mysql.resultset"

local COM_QUERY = 3
local FLAGS = { 2 ^ 24, 2 ^ 25, 2 ^ 29, 2 ^ 32, 2 ^ 36, 2 ^ 35 } -- as fuzz_response.c numbers them, and one of fields
local KEYS = {
  "raw", "row_count", "bytes", "affected_rows", "insert_id", "warning_count", "query_status", "no such key",
}

local function capabilities_of(number)
  local capabilities = 0
  for i, flag in ipairs(FLAGS) do
    capabilities = capabilities + math.floor(number / 2 ^ (i - 1)) % 2 * flag
  end
  return capabilities
end

-- What the function returns, or nothing and true if it says that it cannot.
local function try(f, ...)
  local ok, value = pcall(f, ...)
  if ok then
    return value
  end
  assert(value:find("malformed", 1, true) or value:find("isn't available", 1, true), value)
  return nil, true
end

local function get(object, key)
  return try(function()
    return object[key]
  end)
end

local function read_fields(answer)
  local names = {}
  local fields, failed = get(answer, "fields")
  if not fields then
    return nil, failed
  end
  for i = 1, #fields do
    local field = get(fields, i)
    assert(field == nil or (type(field.type) == "number" and type(field.name) == "string"))
    failed = failed or field == nil
    names[i] = field and { name = field.name, type = field.type }
  end
  assert(fields[0] == nil and fields[#fields + 1] == nil)
  return names, failed
end

local function read_rows(answer)
  local rows = {}
  local iterate, failed = get(answer, "rows")
  while iterate and not failed do
    local row
    row, failed = try(iterate)
    if not row then
      break
    end
    rows[#rows + 1] = row
  end
  return rows, failed
end

local function same_rows(a, b, columns)
  assert(#a == #b)
  for i, row in ipairs(a) do
    for column = 1, columns do
      assert(row[column] == b[i][column])
    end
  end
end

local function payloads_of(bytes)
  local payloads, at = {}, 1
  while at <= #bytes do
    local payload, _
    payload, _, at = packet.parse(bytes, at)
    if not payload then -- a chain without its end
      break
    end
    payloads[#payloads + 1] = payload
  end
  return payloads
end

local function check_made_again(fields, rows, capabilities)
  local bytes, _, warnings = resultset.to_packets({ fields = fields, rows = rows }, capabilities, 1)
  assert(#warnings == 0)
  local again = resultset.new(bytes, COM_QUERY, capabilities)
  assert(again.query_status == 0 and again.row_count == #rows)
  for i, field in ipairs(read_fields(again)) do
    assert(field.name == fields[i].name and field.type == fields[i].type)
  end
  same_rows(rows, (read_rows(again)), #fields)
  local classic = payloads_of((resultset.to_packets({ fields = fields, rows = rows }, 0, 1)))
  assert(resultset.frame(resultset.from_classic(classic, COM_QUERY, capabilities), 1) == bytes)
end

local function check_numbers(bytes)
  local renumbered = try(resultset.renumber, bytes, 250)
  if not renumbered then
    return
  end
  assert(resultset.renumber(renumbered, 250) == renumbered)
  local at, other = 1, 1
  while at <= #bytes do
    local payload, after, payload_again, _
    payload, _, after = packet.parse(bytes, at)
    if not payload then -- a chain without its end
      break
    end
    payload_again, _, other = packet.parse(renumbered, other)
    assert(payload == payload_again and after == other)
    at = after
  end
end

return function(input)
  local command, flags, bytes = input:byte(1), input:byte(2), input:sub(3)
  if not flags then
    return
  end
  local capabilities = capabilities_of(flags)
  local answer = resultset.new(bytes, command, capabilities)
  for _, key in ipairs(KEYS) do
    assert(get(answer, key) == get(answer, key), key)
  end
  get(answer, "flags")
  local fields, no_fields = read_fields(answer)
  local rows, no_rows = read_rows(answer)
  local count = get(answer, "row_count")
  assert(not count or #rows <= count or command == 4)
  if command == COM_QUERY and fields and #fields > 0 and not no_fields and not no_rows then
    check_made_again(fields, rows, capabilities)
  end
  check_numbers(bytes)
  local payloads = payloads_of(bytes)
  local translated = resultset.from_classic(payloads, command, capabilities)
  assert(translated == payloads or #translated >= 1 and #translated <= #payloads)
end
