local proto = require "mysql.proto"
local stream = require "mysql.stream"
local uv = require "luv"

local conversation = require "spec.support.conversation"
local process = require "spec.support.process"

local COM_QUERY = 3
local LONGEST = 2 ^ 24 - 1 -- payload of one packet
local OK = proto.to_ok_packet { server_status = 2 }
local ERR = proto.to_err_packet { errcode = 1064, sqlstate = "42000", errmsg = "a message" }
local EOF = proto.to_eof_packet { server_status = 2 }
local FILE = "\251/a/file" -- LOCAL INFILE

local packets = conversation.packets

describe("a relay", function()
  local c

  local function open(options)
    c = conversation.open(options)
    return c
  end

  after_each(function()
    if c then
      c:close()
    end
    c = nil
  end)

  describe("without hooks", function()
    it("passes commands and answers on as they are", function()
      open()
      c:command("\3SELECT 1")
      c:answer(1, OK)
      c:command("\14")
      c:answer(1, ERR)
      c:is_idle()
    end)

    it("passes on what came in the same read as the last packet of the login", function()
      c = conversation.connect()
      function c.on_packet(self, from, payload)
        assert.equal("login", payload)
        assert.equal(self.streams.client, from)
        self:join()
      end
      c.streams.client:read_packets(1000)
      local part = packets(0, "\3SELECT 2"):sub(1, 6)
      c.client:write(packets(3, "login") .. packets(0, "\3SELECT 1") .. part)
      c.server:receives(packets(0, "\3SELECT 1") .. part)
      assert.equal(2, c:due())
    end)

    it("passes single bytes on", function()
      open()
      for byte in packets(0, "\3SELECT 1"):gmatch(".") do
        c.client:write(byte)
        c.server:receives(byte)
      end
      c:answer(1, OK)
      c:is_idle()
    end)

    it("passes commands of 16 MiB and more on, whatever their later packets begin with", function()
      open()
      for _, length in ipairs { LONGEST - 1, LONGEST, LONGEST + 5 } do
        c:command("\3" .. ("x"):rep(length - 6) .. "\1\1\1\1\1") -- no COM_QUIT
        assert.equal(1, c:due())
        c:answer(1, OK)
      end
      c:is_idle()
    end)

    it("keeps the answers to pipelined commands in order", function()
      open()
      local commands = packets(0, "\3one") .. packets(0, "\25\1\0\0\0") .. packets(0, "\22two") .. packets(0, "\9")
        .. packets(0, "\3three")
      c.client:write(commands)
      c.server:receives(commands)
      assert.equal(4, c:due())
      local answers = packets(1, "\1", "column", EOF, "\3row", EOF) .. packets(1, ERR) .. packets(1, "Uptime: 1")
      c.server:write(answers)
      c.client:receives(answers)
      assert.equal(1, c:due())
      c:answer(1, OK)
      c:is_idle()
    end)

    it("keeps hundreds of them in order, of which a client cannot send more before it gets answers", function()
      open()
      local command = packets(0, "\3" .. ("x"):rep(2 ^ 16))
      for _ = 1, 300 do
        c.client:write(command)
      end
      -- The server has answered none: the relay stops reading, though not at once.
      assert.truthy(process.wait_until(function()
        return c:due() and c:due() > 64
      end))
      for _ = 1, 1000 do
        uv.run("nowait")
      end
      assert.is_true(c:due() < 100)
      for i = 1, 300 do
        c.server:send(1, proto.to_ok_packet { affected_rows = i })
        c.client:receives(packets(1, proto.to_ok_packet { affected_rows = i }))
      end
      c.server:receives(command:rep(300))
      c:is_idle()
    end)

    it("counts commands and bytes", function()
      open()
      c:command("\3SELECT 1")
      c:answer(1, OK)
      c:command("\25\1\0\0\0")
      assert.same({ 2, 13 + 9, 11 }, { c.relay:counters() })
    end)

    it("passes a server's last words on", function()
      open()
      c:answer(0, ERR)
      c.server:close()
      c:ends("server")
      c.client:closes()
    end)

    it("goes on while a client uploads a file, whose bytes are no commands", function()
      open { watched = { COM_QUERY } }
      function c.on_command(_, relay)
        relay:forward()
      end
      c:command("\3LOAD")
      c:answer(1, FILE)
      c.server:receives(c.client:send(2, "\3SELECT", ("x"):rep(2 ^ 20), "\1"))
      -- The end of the file and the next command in one read.
      c.client:write(packets(5, "") .. packets(0, "\3next"))
      c.server:receives(packets(5, ""))
      c:answer(6, OK)
      c.server:receives(packets(0, "\3next"))
      c:answer(1, OK)
      c:is_idle()
    end)

    it("does not read a server whose client reads nothing", function()
      open()
      c:command("\3SELECT")
      c:answer(1, "\1", "column", EOF)
      c.client:pause()
      local rows = packets(4, (("r"):rep(2 ^ 20 - 4))):rep(64)
      c.server:write(rows)
      local before, still = -1, 0
      while still < 1000 do
        uv.run("nowait")
        local _, _, now = c.relay:counters()
        still = now == before and still + 1 or 0
        before = now
      end
      assert.is_true(before < #rows)
      c.client:read()
      c.client:receives(rows)
      c:answer(68, EOF)
      c:is_idle()
    end)

    it("does not read a client whose server reads nothing", function()
      open()
      c.server:pause()
      local command = packets(0, "\24\1\0\0\0\0\0" .. ("x"):rep(2 ^ 20 - 11)):rep(64)
      c.client:write(command)
      local before, still = -1, 0
      while still < 1000 do
        uv.run("nowait")
        local _, now = c.relay:counters()
        still = now == before and still + 1 or 0
        before = now
      end
      assert.is_true(before < #command)
      c.server:read()
      c.server:receives(command)
    end)
  end)

  describe("with time-outs", function()
    it("ends a session that is idle for too long", function()
      open { read_timeout = 0.05, write_timeout = 60 }
      c:ends("timeout", "nothing was read or written for too long", "ETIMEDOUT")
      c.client:closes()
      c.server:closes()
    end)

    it("ends one whose client takes nothing", function()
      for _, read_timeout in ipairs { 60, 0 } do
        open { read_timeout = read_timeout, write_timeout = 0.05 }
        c:command("\3SELECT")
        c.client:pause()
        c.server:write(packets(1, "\1", "column", EOF) .. packets(4, (("r"):rep(2 ^ 20 - 4))):rep(64))
        c:ends("timeout", "nothing was read or written for too long", "ETIMEDOUT")
        c:close()
      end
      c = nil
    end)

    -- Takes a little every 10 milliseconds. Returns how many of so many bytes have come before the session's end.
    local function slowly_received(descriptor, length)
      local received, timer = 0, uv.new_timer()
      timer:start(10, 10, function()
        received = received + #(uv.fs_read(descriptor, 65536, -1) or "")
      end)
      process.wait_until(function()
        return received == length or c.over
      end)
      timer:close()
      uv.fs_close(descriptor)
      assert.is_nil(c.over)
      return received
    end

    it("goes on with one whose client takes a little of a long answer now and then", function()
      local ends = assert(uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true }))
      local answer = packets(1, ("r"):rep(2 ^ 23))
      c = conversation.connect()
      c.streams.client:close()
      c.streams.client = assert(stream.open(c, ends[1]))
      function c.on_command(_, relay)
        relay:reply(answer)
      end
      c:join { write_timeout = 0.3, watched = { 3 } }
      uv.fs_write(ends[2], packets(0, "\3SELECT"), -1)
      assert.equal(#answer, slowly_received(ends[2], #answer))
    end)

    it("goes on with one whose server takes a little of a long command now and then", function()
      local ends = assert(uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true }))
      local command = packets(0, "\3" .. ("x"):rep(2 ^ 23))
      c = conversation.connect()
      c.streams.server:close()
      c.streams.server = assert(stream.open(c, ends[1]))
      function c.on_command(_, relay)
        relay:forward()
      end
      c:join { write_timeout = 0.3, watched = { 3 } }
      c.client:write(command)
      assert.equal(#command, slowly_received(ends[2], #command))
    end)
  end)

  describe("is made of", function()
    local agreed, options = { capabilities = 0 }, { command_limit = 1000 }

    it("two open streams that have no relay", function()
      open()
      assert.error_matches(function()
        stream.relay(c.streams.client, c.streams.server, agreed, agreed, options)
      end, "an open stream without a relay expected", nil, true)
      c.relay:close_when_idle()
      assert.error_matches(function()
        stream.relay(c.streams.client, c.streams.server, agreed, agreed, options)
      end, "an open stream without a relay expected", nil, true)
      assert.has_error(function()
        stream.relay({}, c.streams.server, agreed, agreed, options)
      end)
    end)

    it("capabilities, which have to be numbers", function()
      c = conversation.connect()
      assert.error_matches(function()
        stream.relay(c.streams.client, c.streams.server, {}, agreed, options)
      end, "number expected", nil, true)
      c:join()
      c.relay:close_when_idle()
    end)

    it("commands that there can be", function()
      open()
      for _, command in ipairs { -1, 256 } do
        assert.error_matches(function()
          c.relay:watch(command)
        end, "a command is a number from 0 to 255", nil, true)
      end
    end)
  end)
end)
