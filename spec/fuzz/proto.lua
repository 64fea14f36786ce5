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
  check_packets(bytes)
end
