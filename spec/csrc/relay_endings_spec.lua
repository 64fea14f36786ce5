local hook = require "mysql.hook"
local proto = require "mysql.proto"
local queue = require "mysql.queue"
local stream = require "mysql.stream"
local uv = require "luv"

local conversation = require "spec.support.conversation"
local process = require "spec.support.process"

local COM_QUERY, COM_STMT_PREPARE = 3, 22
local LONGEST = 2 ^ 24 - 1 -- payload of one packet
local OK = proto.to_ok_packet { server_status = 2 }
local EOF = proto.to_eof_packet { server_status = 2 }
local SERVER_LOST = proto.to_err_packet {
  errcode = 2013, sqlstate = "HY000", errmsg = "Lost connection to MySQL server during query",
}
local FILE = "\251/a/file" -- LOCAL INFILE

local packets = conversation.packets

describe("a relay", function()
  local c

  local function open(options)
    c = conversation.open(options)
    return c
  end

  -- One that shows COM_QUERY and COM_STMT_PREPARE to `on_command`.
  local function watch(on_command, options)
    options = options or {}
    options.watched = options.watched or { COM_QUERY, COM_STMT_PREPARE }
    c = conversation.watch(on_command, options)
  end

  local function forward(relay)
    relay:forward()
  end

  after_each(function()
    if c then
      c:close()
    end
    c = nil
  end)

  it("may end in the hook of its script, and leaves nothing behind", function()
    watch()
    local left = setmetatable({ c.relay }, { __mode = "v" })
    local script = {
      read_query = function()
        c.streams.client:close()
        c.relay = nil
        collectgarbage()
        collectgarbage()
      end,
    }
    c.relay:script(script, {}, queue.new(), {}, hook.new())
    c.relay:serve({}, 1)
    c.client:send(0, "\3SELECT 1")
    c.client:closes()
    c.server:closes()
    assert.same({ "\3SELECT 1" }, c.seen) -- what has come of the hook is its owner's
    collectgarbage()
    collectgarbage()
    assert.same({}, left)
  end)

  it("keeps a stream that is being read when all others have forgotten it, and not longer", function()
    watch(function(relay)
      relay:inject("\3SELECT 2")
    end)
    local left, there = setmetatable({ c.streams.server }, { __mode = "v" }), nil
    function c.on_answer()
      c.streams.client:close() -- the server's goes with it
      c.streams.server = nil
      for _ = 1, 5 do
        uv.run("nowait")
      end
      collectgarbage()
      collectgarbage()
      there = left[1] ~= nil
    end
    c.client:send(0, "\3SELECT 1")
    c.server:receives(packets(0, "\3SELECT 2"))
    c.server:send(1, "\1", "column", EOF, "\252\136\19" .. ("x"):rep(5000), EOF) -- too long to wait for its turn
    c.client:closes()
    c.server:closes()
    assert.is_true(there)
    collectgarbage()
    collectgarbage()
    assert.is_nil(left[1])
    c.streams.server = c.streams.client -- for what closes both
  end)

  it("doubts a server that has said what nobody had asked for, or may have, when that is detached", function()
    local expired = proto.to_err_packet { errcode = 1820, sqlstate = "HY000", errmsg = "SET PASSWORD first" }
    for _, text in ipairs { OK, expired } do
      for _, asked in ipairs { true, false } do
        open()
        if asked then
          c:command("\14")
        end
        c:answer(1, text)
        local server, doubtful = c.relay:detach()
        assert.equal(c.streams.server, server)
        assert.equal(not asked or text == expired, doubtful)
        server:close()
        c:close()
      end
    end
    c = nil
  end)

  it("looks no more at a server that is detached, closed and forgotten when it starts", function()
    c = conversation.connect()
    local streams, read = c.streams, nil
    local left = setmetatable({ streams.server }, { __mode = "v" })
    function c.on_packet(_, client)
      client:hold_packets()
      read = true
    end
    function c.on_command(_, relay)
      relay:detach():close()
      streams.server = streams.client -- for what closes both
      for _ = 1, 5 do
        uv.run("nowait")
      end
      collectgarbage()
      collectgarbage()
      relay:reply(packets(1, OK))
    end
    streams.client:read_packets(1000)
    c.client:write(packets(1, "the login") .. packets(0, "\3SELECT 1"))
    assert(process.wait_until(function()
      return read
    end))
    c:join { watched = { COM_QUERY } }
    c.client:receives(packets(1, OK))
    assert.same({}, left)
  end)

  describe("that has to end", function()
    it("waits for the answer, and for nothing else", function()
      open()
      c:command("\3SELECT 1")
      c.relay:close_when_idle()
      c:answer(1, "\1", "column", EOF, "\3row")
      assert.is_nil(c.over)
      c:answer(5, EOF)
      c:ends("idle")
      c.client:closes()
      c.server:closes()
    end)

    it("waits for a command of which a part has come, and its answer", function()
      for _, length in ipairs { 1, 4, 5, 8 } do
        open()
        local command = packets(0, "\3SELECT 1")
        c.client:write(command:sub(1, length))
        c.server:receives(command:sub(1, length))
        c.relay:close_when_idle()
        assert.is_nil(c.over)
        c.client:write(command:sub(length + 1))
        c.server:receives(command:sub(length + 1))
        assert.is_nil(c.over)
        c.client:receives(c.server:send(1, OK))
        c:ends("idle")
        c:close()
      end
      c = nil
    end)

    it("waits for no command that comes later, if it was told to end after the answer", function()
      for _, watched in ipairs { {}, { 3 } } do
        c = conversation.watch(function(relay)
          relay:forward()
        end, { watched = watched })
        c:command("\3SELECT 1")
        c.relay:close_after_answer(true)
        local _, before = c.relay:counters()
        c.client:write(packets(0, "\3SELECT 2") .. packets(0, "\14"))
        assert(process.wait_until(function()
          return select(2, c.relay:counters()) > before
        end))
        c:answer(1, OK)
        c:ends("idle")
        c.client:closes()
        c.server:closes()
        c:close()
      end
      c = nil
    end)

    it("tells its owner once", function()
      open()
      local ends = 0
      function c.on_relay_end()
        ends = ends + 1
      end
      c.relay:close_when_idle()
      c.relay:close_when_idle()
      c.client:closes()
      c.server:closes()
      assert.equal(1, ends)
      assert.equal("mysql.relay (ended, 0 answers due)", tostring(c.relay))
    end)
  end)

  it("may be closed and forgotten by its owner, who runs the loop, when it ends", function()
    for _, how in ipairs { "server", "timeout", "idle" } do
      open { read_timeout = how == "timeout" and 0.01 or nil }
      local streams, ended, reported = c.streams, nil, nil
      local left = setmetatable({ streams.client, streams.server, c.relay }, { __mode = "v" })
      c.streams = { client = streams.server, server = streams.server } -- for what closes both
      function c.on_relay_end(_, _, side)
        ended = side
        streams.client:close()
        streams, c.relay = nil, nil
        for _ = 1, 5 do
          uv.run("nowait")
        end
        error "a failure"
      end
      stream.on_error(function()
        collectgarbage()
        collectgarbage()
        reported = left[1] == nil
      end)
      if how == "server" then
        c.server:close()
      elseif how == "idle" then
        c.relay:close_when_idle()
      end
      c.client:closes()
      assert.same({ how, true }, { ended, reported })
      c:close()
    end
    c = nil
  end)

  describe("whose server goes", function()
    it("closes an idle client's side", function()
      open()
      c.server:close()
      c:ends("server")
      c.client:closes()
    end)

    it("tells the client that waits for an answer", function()
      open()
      c:command("\3SELECT 1")
      c.server:close()
      c.client:receives(packets(1, SERVER_LOST))
      c.client:closes()
      c:ends("server")
    end)

    it("counts on from the command's last packet", function()
      open()
      c:command("\3" .. ("x"):rep(LONGEST))
      c.server:close()
      c.client:receives(packets(2, SERVER_LOST))
      c.client:closes()
    end)

    it("tells it between two packets of the answer", function()
      open()
      c:command("\3SELECT 1")
      c:answer(1, "\1", "column", EOF, "\3row")
      c.server:close()
      c.client:receives(packets(5, SERVER_LOST))
      c.client:closes()
    end)

    it("cannot tell it in the middle of one", function()
      open()
      c:command("\3SELECT 1")
      local part = packets(1, "\1", "column", EOF, "\3row"):sub(1, -2)
      c.server:write(part)
      c.client:receives(part)
      c.server:close()
      c.client:closes()
    end)

    it("tells it while it uploads a file", function()
      open()
      c:command("\3LOAD")
      c:answer(1, FILE)
      c.server:receives(c.client:send(2, "one", "two"))
      c.server:close()
      c.client:receives(packets(4, SERVER_LOST))
      c.client:closes()
    end)

    it("tells the client whose command the owner still thinks about", function()
      watch()
      c.client:send(0, "\3SELECT 0")
      assert.truthy(process.wait_until(function()
        return c.seen[1]
      end))
      c.relay:reply(packets(1, OK))
      c.client:receives(packets(1, OK))
      c.client:send(0, "\3SELECT 1")
      assert.truthy(process.wait_until(function()
        return c.seen[2]
      end))
      c.server:close()
      c.client:receives(packets(1, SERVER_LOST))
      c.client:closes()
      c:ends("server")
    end)

    it("tells nothing to a client that has its answer, or has not asked", function()
      watch()
      c.client:send(0, "\3SELECT 1")
      assert.truthy(process.wait_until(function()
        return c.seen[1]
      end))
      c.relay:answer(packets(1, OK))
      c.relay:inject("\3SELECT 2")
      c.server:receives(packets(0, "\3SELECT 2"))
      c.server:close()
      c.client:receives(packets(1, OK))
      c.client:closes()
      c:close()
      open()
      c.relay:inject("\3SELECT 2")
      c.server:receives(packets(0, "\3SELECT 2"))
      c.server:close()
      c.client:closes()
    end)

    it("tells it when the owner's own command gets no answer", function()
      watch(function(relay)
        relay:inject("\3SELECT 2")
      end)
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\3SELECT 2"))
      c.server:close()
      c.client:receives(packets(1, SERVER_LOST))
      c.client:closes()
    end)
  end)

  describe("against the protocol", function()
    local function refused(bytes, sequence, text)
      open()
      c.client:write(bytes)
      c.client:receives(packets(sequence, proto.to_err_packet {
        errcode = 1156, sqlstate = "08S01", errmsg = text,
      }))
      c:ends("client", text, "EPROTO")
      c.client:closes()
      c.server:closes() -- and has got nothing
    end

    it("refuses a command with a sequence number", function()
      refused(packets(1, "\3SELECT 1"), 2, "received packet-id 1, but expected 0 ... out of sync.")
      c:close()
      refused(packets(255, "\3SELECT 1"), 0, "received packet-id 255, but expected 0 ... out of sync.")
    end)

    it("refuses an empty command", function()
      refused(packets(0, ""), 1, "received an empty packet instead of a command")
    end)

    it("refuses those without an answer that are so short that MySQL gives them one", function()
      refused(packets(0, "\25"), 1, "received a command 25 of 1 bytes, which needs 5")
      c:close()
      refused(packets(0, "\24\1\0\0\0\0"), 1, "received a command 24 of 6 bytes, which needs 7")
      c:close()
      watch(forward, { watched = { 24, 25 } })
      c.client:write(packets(0, "\25\1\0\0"))
      c:ends("client", "received a command 25 of 4 bytes, which needs 5", "EPROTO")
      assert.same({}, c.seen)
      c.server:closes()
    end)

    it("refuses them when commands are watched, too", function()
      watch(forward)
      c.client:send(3, "\3SELECT 1")
      c:ends("client", "received packet-id 3, but expected 0 ... out of sync.", "EPROTO")
      c.client:receives(packets(4, proto.to_err_packet {
        errcode = 1156, sqlstate = "08S01", errmsg = "received packet-id 3, but expected 0 ... out of sync.",
      }))
      assert.same({}, c.seen)
    end)

    it("sends none of the owner's that are so short", function()
      watch(function(relay)
        c.told = { relay:inject("\25\1\0\0") }
        assert.is_true(relay:inject("\25\1\0\0\0"))
        relay:forward()
      end)
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\25\1\0\0\0") .. packets(0, "\3SELECT 1"))
      assert.same({ nil, "a command 25 has at least 5 bytes, and this one has 4", "EINVAL" }, c.told)
    end)

    it("says nothing into an answer", function()
      open()
      c:command("\3SELECT 1")
      c:answer(1, "\1", "column", EOF)
      c.client:send(1, "\3SELECT 2")
      c:ends("client", "received packet-id 1, but expected 0 ... out of sync.", "EPROTO")
      c.client:closes()
    end)

    it("leaves the server's sequence numbers to its client", function()
      open()
      c:command("\3SELECT 1")
      local bytes = packets(77, "\1", "column") .. packets(3, EOF) .. packets(0, "\3row") .. packets(3, EOF)
      c.server:write(bytes)
      c.client:receives(bytes)
      c:is_idle()
    end)

    it("ends with a server that speaks another protocol", function()
      for _, words in ipairs { "\0\0\0\0\0\0\0\0", "\5\0\0\1\254\255\255\255\255", "\1\0\0\1\251", "HTTP/1.1 400" } do
        open()
        c:command("\22SELECT 1")
        c.server:write(words)
        if words:sub(1, 4) == "HTTP" then -- the beginning of a long packet, as far as one can see
          c.client:receives(words)
          c.server:close()
          c.client:closes()
        else
          c:ends("server", "neither OK nor ERR in answer to COM_STMT_PREPARE", "EPROTO")
          c.client:closes()
          c.server:closes()
        end
        c:close()
      end
      c = nil
    end)
  end)

  it("does nothing any more when it has ended", function()
    watch()
    c.client:send(0, "\3SELECT 1")
    assert.truthy(process.wait_until(function()
      return c.seen[1]
    end))
    c.server:close()
    c:ends("server")
    c.relay:forward()
    c.relay:reply(packets(1, OK))
    c.relay:inject("\14")
    c.relay:close_when_idle()
    c.relay:start()
    c.client:receives(packets(1, SERVER_LOST))
    c.client:closes()
  end)
end)
