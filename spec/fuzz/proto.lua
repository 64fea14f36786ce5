-- Properties: a decoder gives a value or says that the packet is malformed; what it has decoded, encoded again, decodes
-- to the same; a greeting with masked capabilities is the same greeting but for them.
-- Input: a payload.

local packet = require "mysql.packet"
local proto = require "mysql.proto"

local EXACT = 2 ^ 53 -- above this a Lua number is rounded

local function decode(name, ...)
  local ok, value = pcall(proto[name], ...)
  if not ok then
    assert(value:find("malformed", 1, true), value)
    return nil
  end
  assert(type(value) == "table", name)
  return value
end

local function same(a, b, key)
  assert(a[key] == b[key] or (type(a[key]) == "number" and a[key] >= EXACT), key)
end

local generic = {
  ok = { "affected_rows", "insert_id", "server_status", "warnings" },
  err = { "errcode", "errmsg" },
  eof = { "server_status", "warnings" },
}

local function check_generic(payload)
  for kind, keys in pairs(generic) do
    local value = decode("from_" .. kind .. "_packet", payload)
    if value and (value.affected_rows or 0) < EXACT and (value.insert_id or 0) < EXACT then
      local again = decode("from_" .. kind .. "_packet", proto["to_" .. kind .. "_packet"](value))
      for _, key in ipairs(keys) do
        same(value, again, key)
      end
    end
  end
end

local MASKS = { 0x820, 0x4000820, 0xffffffff }

local function check_greeting(payload)
  local greeting = decode("from_challenge_packet", payload)
  if not greeting then
    assert(not pcall(proto.mask_capabilities, payload, 0))
    return
  end
  assert(proto.mask_capabilities(payload, 0) == payload)
  for _, mask in ipairs(MASKS) do
    local masked = proto.mask_capabilities(payload, mask)
    assert(#masked == #payload)
    assert(proto.mask_capabilities(masked, mask) == masked)
  end
end

local SERVERS = { 0, 0x8200, 0xffffffff }

local function check_login(payload)
  for _, capabilities in ipairs(SERVERS) do
    local login = decode("from_response_packet", payload, capabilities)
    if login then
      assert(login.server_capabilities == capabilities)
    end
  end
end

local STATEMENT_DECODERS = { "from_stmt_prepare_packet", "from_stmt_prepare_ok_packet", "from_stmt_close_packet" }
local PARAMS = { 0, 1, 3, 17 }

local function check_params(params, count)
  for _, param in ipairs(params or {}) do
    count = count - 1
    assert(param.type < 256 and type(param.value) ~= "table")
  end
  return count
end

local function check_statement(payload)
  for _, name in ipairs(STATEMENT_DECODERS) do
    decode(name, payload)
  end
  for _, count in ipairs(PARAMS) do
    local ok, execute = pcall(proto.from_stmt_execute_packet, payload, count)
    if ok then
      assert(execute.stmt_id == proto.stmt_id_from_stmt_execute_packet(payload))
      assert((execute.params ~= nil) == execute.new_params_bound)
      local missing = check_params(execute.params, count)
      assert(missing == 0 or not execute.new_params_bound or execute.flags % 16 >= 8)
      check_params(execute.query_attributes, 0)
    else
      assert(execute:find("malformed", 1, true) or execute:find("can't decode type %d+ yet"), execute)
    end
  end
end

local function check_masterinfo(text)
  local info = decode("from_masterinfo_string", text)
  if info then
    local again = decode("from_masterinfo_string", proto.to_masterinfo_string(info))
    for key in pairs(info) do
      same(info, again, key)
    end
  end
end

local function check_packets(bytes)
  local payload, sequence, after = packet.parse(bytes)
  if payload then
    assert(packet.parse((packet.frame(payload, sequence))) == payload)
    assert(after <= #bytes + 1)
  end
  local text, behind = packet.from_lenenc_string(bytes)
  if text then
    assert(packet.from_lenenc_string(packet.to_lenenc_string(text)) == text)
    assert(behind <= #bytes + 1)
  end
  local number = packet.from_lenenc_int(bytes)
  assert(not number or number >= EXACT or packet.from_lenenc_int(packet.to_lenenc_int(number)) == number)
end

return function(bytes)
  check_generic(bytes)
  check_greeting(bytes)
  check_login(bytes)
  check_statement(bytes)
  check_masterinfo(bytes)
  check_packets(bytes)
end
