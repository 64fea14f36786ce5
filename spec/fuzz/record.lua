-- Records the seed corpus: real clients talk to real servers through a relay that keeps what both sides said, cut into
-- packets, answers and statements. From the top folder, with the paths that bin/test sets for the specs:
--   lua5.1 spec/fuzz/record.lua spec/fuzz/corpus
-- What is in the folder already stays; an answer of a shape that has been recorded is not kept again.

local uv = require "luv"

local packet = require "mysql.packet"
local proto = require "mysql.proto"

local conversations = require "spec.fuzz.conversations"
local process = require "spec.support.process"
local servers = require "spec.support.server"

local LONGEST = 1024 -- longer seeds say nothing more
local COM_QUERY, COM_STMT_PREPARE = 3, 22

local corpus = assert(arg[1], "where to? (a folder)")

-- Files -----------------------------------------------------------------------------------------------------------

local seen, counts = {}, {}

-- Keeps bytes as a seed of some targets, unless one of the same `shape` was kept.
local function save(targets, name, bytes, shape)
  for target in targets:gmatch("%S+") do
    local key = target .. (shape or bytes)
    if #bytes <= LONGEST and not seen[key] then
      seen[key] = true
      counts[target] = (counts[target] or 0) + 1
      process.write_file(("%s/%s/%s-%03d"):format(corpus, target, name, counts[target]), bytes)
    end
  end
end

-- One conversation, when it has ended -------------------------------------------------------------------------------

local FLAGS = { -- as fuzz_response.c numbers them
  { "capabilities", proto.capabilities.CLIENT_DEPRECATE_EOF },
  { "capabilities", proto.capabilities.CLIENT_OPTIONAL_RESULTSET_METADATA },
  { "capabilities", proto.capabilities.CLIENT_PROGRESS_OBSOLETE },
  { "extended_capabilities", proto.extended_capabilities.MARIADB_CLIENT_PROGRESS },
  { "extended_capabilities", proto.extended_capabilities.MARIADB_CLIENT_CACHE_METADATA },
  { "extended_capabilities", proto.extended_capabilities.MARIADB_CLIENT_EXTENDED_METADATA }, -- resultset.lua's only
}
local QUERY_ATTRIBUTES = { "capabilities", proto.capabilities.CLIENT_QUERY_ATTRIBUTES }

local function has(greeting, login, flag)
  local function bit(side)
    return math.floor((side[flag[1]] or 0) / flag[2]) % 2 == 1
  end
  return bit(greeting) and bit(login)
end

-- The first byte of each packet, and whether it is short: what decides where an answer ends.
local function shape_of(bytes)
  local shape, at = {}, 1
  while true do
    local payload, _, after = packet.parse(bytes, at)
    if not payload then
      return table.concat(shape, " ")
    end
    local first = (payload:byte() or 0x100) .. (#payload < 9 and "s" or "l")
    if first ~= shape[#shape] then
      shape[#shape + 1] = first
    end
    at = after
  end
end

local function save_answer(name, flags, command, answer)
  if answer == "" then
    return
  end
  local shape = shape_of(answer)
  save("framing", name, answer, shape)
  local seed = command:sub(1, 1) .. string.char(flags) .. answer
  local key = seed:sub(1, shape:find(" ", 1, true) and 2 or 1) .. shape -- one packet: for any flags
  save(flags < 2 ^ 5 and "response resultset" or "resultset", name, seed, key)
  local payload = packet.parse(answer)
  if payload and (payload:byte() == 0 or payload:byte() >= 0xfe) then
    save("proto", name, payload, shape .. #payload)
  end
end

local function save_command(name, attributes, command)
  local kind = command:byte()
  if kind == COM_QUERY and attributes then
    save("query", name, command:sub(2))
  elseif kind == COM_QUERY or kind == COM_STMT_PREPARE then
    save("read_only", name, command:sub(2))
  end
  save("cursor", name, "\8\2\255\1\0\1\3\0\1\2\0\3\0\0\5\0\254" .. command, kind)
end

-- The client sends whole packets one by one, so that an answer ends where the next command begins.
local function cut(name, pieces)
  local greeting, login, command, answer
  local flags, attributes = 0, false
  for _, piece in ipairs(pieces) do
    local payload, sequence = packet.parse(piece.bytes)
    if not greeting then
      save("proto", name, payload)
      greeting = proto.from_challenge_packet(payload)
    elseif not login then
      save("proto", name, payload)
      login = proto.from_response_packet(payload, greeting.capabilities)
      for i, flag in ipairs(FLAGS) do
        flags = flags + (has(greeting, login, flag) and 2 ^ (i - 1) or 0)
      end
      attributes = has(greeting, login, QUERY_ATTRIBUTES)
    elseif piece.client and sequence == 0 then
      if command then
        save_answer(name, flags, command, answer)
      end
      command, answer = payload, ""
      save_command(name, attributes, command)
    elseif command and not piece.client and sequence ~= 0 then -- an ERR of 0 is for nothing that was asked
      answer = answer .. piece.bytes
    end
  end
  if command then
    save_answer(name, flags, command, answer)
  end
end

-- The relay -------------------------------------------------------------------------------------------------------

local open = 0 -- conversations that have not ended

local function forward(pieces, from, to, client)
  local rest = ""
  from:read_start(function(_, bytes)
    if not bytes then
      from:read_stop()
      if not pieces.half_closed then
        pieces.half_closed = true -- the other direction goes on
        return to:shutdown()
      end
      open = open - 1
      from:close()
      return to:close()
    end
    to:write(bytes)
    rest = rest .. bytes
    local at = 1
    while true do
      local _, _, after = packet.parse(rest, at)
      if not after then
        break
      end
      pieces[#pieces + 1] = { client = client, bytes = rest:sub(at, after - 1) }
      at = after
    end
    rest = rest:sub(at)
  end)
end

-- Runs `talk(port)` with a relay in front of a server at that port, and keeps what was said.
local function record(server, talk)
  local all, listener = {}, uv.new_tcp()
  assert(listener:bind("127.0.0.1", 0))
  assert(listener:listen(16, function()
    local client, upstream, pieces = uv.new_tcp(), uv.new_tcp(), {}
    listener:accept(client)
    all[#all + 1] = pieces
    open = open + 1
    upstream:connect("127.0.0.1", server.port, function(failure)
      assert(not failure, failure)
      forward(pieces, client, upstream, true)
      forward(pieces, upstream, client, false)
    end)
  end))
  talk(listener:getsockname().port)
  process.wait_until(function()
    return open == 0
  end)
  listener:close()
  for _, pieces in ipairs(all) do
    cut(server.flavour, pieces)
  end
end

for _, target in ipairs { "cursor", "framing", "response", "resultset", "query", "proto", "read_only" } do
  process.run("mkdir", { "-p", corpus .. "/" .. target })
end
for _, flavour in ipairs { "mariadb", "mysql" } do
  local server = servers.start(flavour, { "--log-bin", "--server-id=1" })
  for _, talk in ipairs(conversations) do
    record(server, function(port)
      talk(server, port)
    end)
  end
  server:stop()
end
for target, count in pairs(counts) do
  print(("%s: %d seeds"):format(target, count))
end
process.finish()
