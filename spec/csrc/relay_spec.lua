local packet = require "mysql.packet"
local proto = require "mysql.proto"
local stream = require "mysql.stream"
local uv = require "luv"

local conversation = require "spec.support.conversation"
local process = require "spec.support.process"

local COM_QUERY, COM_STMT_PREPARE = 3, 22
local LONGEST = 2 ^ 24 - 1 -- payload of one packet
local OK = proto.to_ok_packet { server_status = 2 }
local ERR = proto.to_err_packet { errcode = 1064, sqlstate = "42000", errmsg = "a message" }
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
    c = conversation.connect()
    c.seen = {}
    function c.on_command(self, relay, payload)
      self.seen[#self.seen + 1] = payload
      if on_command then
        return on_command(relay, payload)
      end
    end
    return c:join(options)
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

  describe("whose client goes", function()
    it("closes the server's side", function()
      open()
      c.client:close()
      c:ends("client")
      c.server:closes()
    end)

    it("closes it in mid-answer too, when the client has closed for good", function()
      open()
      c:command("\3SELECT")
      c:answer(1, "\1", "column", EOF)
      c.client.socket:close_reset()
      c:ends("client", "connection reset by peer", "ECONNRESET")
      c.server:closes()
    end)

    it("brings the answers to one that only has nothing more to say", function()
      open()
      c.client:write(packets(0, "\3one") .. packets(0, "\3two"))
      c.client:shutdown()
      c.server:receives(packets(0, "\3one") .. packets(0, "\3two"))
      assert.truthy(process.wait_until(function()
        return c.server.ended
      end))
      c:answer(1, OK)
      assert.is_nil(c.over)
      c.client:receives(c.server:send(1, "\1", "column", EOF, "\3row", EOF))
      c:ends("client")
      c.client:closes()
    end)

    it("brings the answers to watched commands of one that has nothing more to say", function()
      watch(forward)
      c.client:write(packets(0, "\3one") .. packets(0, "\3two"))
      c.client:shutdown()
      c.server:receives(packets(0, "\3one"))
      c:answer(1, OK)
      c.server:receives(packets(0, "\3two"))
      c.server:closes()
      c.client:receives(c.server:send(1, ERR))
      c:ends("client")
    end)

    it("gives up a command about which the owner still thinks", function()
      watch()
      c.client:send(0, "\3one")
      c.client:shutdown()
      c:ends("client")
      assert.same({ "\3one" }, c.seen)
      c.client:closes()
      c.server:closes()
    end)

    it("lets the server see that a command ended in its middle", function()
      open()
      c.client:write(packets(0, "\3SELECT 1"):sub(1, 7))
      c.client:shutdown()
      c.server:receives(packets(0, "\3SELECT 1"):sub(1, 7))
      c.server:closes()
      c.server:close()
      c:ends("server")
    end)
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
      c.client:send(0, "\3SELECT 1")
      assert.truthy(process.wait_until(function()
        return c.seen[1]
      end))
      c.server:close()
      c.client:receives(packets(1, SERVER_LOST))
      c.client:closes()
      c:ends("server")
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
      refused(packets(1, "\3SELECT 1"), 2, "received a packet-id other than the expected 0 ... out of sync.")
      c:close()
      refused(packets(255, "\3SELECT 1"), 0, "received a packet-id other than the expected 0 ... out of sync.")
    end)

    it("refuses an empty command", function()
      refused(packets(0, ""), 1, "received an empty packet instead of a command")
    end)

    it("refuses them when commands are watched, too", function()
      watch(forward)
      c.client:send(3, "\3SELECT 1")
      c:ends("client", "received a packet-id other than the expected 0 ... out of sync.", "EPROTO")
      c.client:receives(packets(4, proto.to_err_packet {
        errcode = 1156, sqlstate = "08S01", errmsg = "received a packet-id other than the expected 0 ... out of sync.",
      }))
      assert.same({}, c.seen)
    end)

    it("says nothing into an answer", function()
      open()
      c:command("\3SELECT 1")
      c:answer(1, "\1", "column", EOF)
      c.client:send(1, "\3SELECT 2")
      c:ends("client", "received a packet-id other than the expected 0 ... out of sync.", "EPROTO")
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

  describe("with time-outs", function()
    it("ends a session that is idle for too long", function()
      open { read_timeout = 0.05, write_timeout = 60 }
      c:ends("timeout", "nothing was read or written for too long", "ETIMEDOUT")
      c.client:closes()
      c.server:closes()
    end)

    it("ends one whose client takes nothing", function()
      open { read_timeout = 60, write_timeout = 0.05 }
      c:command("\3SELECT")
      c.client:pause()
      c.server:write(packets(1, "\1", "column", EOF) .. packets(4, (("r"):rep(2 ^ 20 - 4))):rep(64))
      c:ends("timeout", "nothing was read or written for too long", "ETIMEDOUT")
    end)
  end)

  describe("with watched commands", function()
    it("shows those, and only those", function()
      watch(forward)
      c:command("\2test")
      c:answer(1, OK)
      c:command("\3SELECT 1")
      c:answer(1, OK)
      c:command("\22SELECT ?")
      c:answer(1, ERR)
      c:command("\25\1\0\0\0")
      assert.same({ "\3SELECT 1", "\22SELECT ?" }, c.seen)
      c:is_idle()
    end)

    it("shows a command once it is whole, however it comes", function()
      watch(forward)
      local bytes = packets(0, "\3SELECT 1")
      for byte in bytes:sub(1, -2):gmatch(".") do
        c.client:write(byte)
      end
      assert.truthy(process.wait_until(function()
        return select(2, c.relay:counters()) == #bytes - 1
      end))
      assert.same({}, c.seen)
      c.client:write(bytes:sub(-1))
      c.server:receives(bytes)
      assert.same({ "\3SELECT 1" }, c.seen)
    end)

    it("shows a command of 16 MiB and more in one piece, and passes it on in its packets", function()
      watch(forward)
      for _, length in ipairs { LONGEST - 1, LONGEST, LONGEST + 1 } do
        local payload = "\3" .. ("x"):rep(length - 1)
        c.client:send(0, payload)
        c.server:receives(packets(0, payload))
        assert.is_true(table.remove(c.seen) == payload)
        c:answer(1, OK)
      end
      c:is_idle()
    end)

    it("refuses one that is longer than the limit", function()
      watch(forward, { command_limit = 1000 })
      c.client:write(packets(0, "\3" .. ("x"):rep(2000)):sub(1, -2))
      local text = "Got a packet bigger than the proxy's command_limit"
      c:ends("client", text, "EPROTO")
      c.client:receives(packets(1, proto.to_err_packet { errcode = 1153, sqlstate = "08S01", errmsg = text }))
      c.server:closes()
      assert.same({}, c.seen)
    end)

    it("waits for a decision as long as it takes, and holds the client's later commands", function()
      watch()
      c.client:write(packets(0, "\3one") .. packets(0, "\14") .. packets(0, "\3two"))
      assert.truthy(process.wait_until(function()
        return c.seen[1]
      end))
      for _ = 1, 100 do
        uv.run("nowait")
      end
      assert.same({ "\3one" }, c.seen)
      c.relay:forward()
      c.server:receives(packets(0, "\3one") .. packets(0, "\14")) -- what nobody watches need not wait for answers
      assert.same({ "\3one" }, c.seen)
      c:answer(1, OK)
      assert.same({ "\3one" }, c.seen)
      c:answer(1, OK)
      assert.same({ "\3one", "\3two" }, c.seen)
      c.relay:reply(packets(1, ERR))
      c.client:receives(packets(1, ERR))
      c:is_idle()
    end)

    it("handles pipelined ones after one another, with the answers in order", function()
      watch(function(relay, payload)
        if payload:find("mine") then
          relay:reply(packets(1, proto.to_ok_packet { affected_rows = 9 }))
        else
          relay:forward()
        end
      end)
      local mine = packets(1, proto.to_ok_packet { affected_rows = 9 })
      c.client:write(packets(0, "\3mine") .. packets(0, "\3one") .. packets(0, "\3mine") .. packets(0, "\3two")
        .. packets(0, "\3mine"))
      c.client:receives(mine)
      c.server:receives(packets(0, "\3one"))
      c.server:send(1, OK)
      c.client:receives(packets(1, OK) .. mine)
      c.server:receives(packets(0, "\3two"))
      c.server:send(1, ERR)
      c.client:receives(packets(1, ERR) .. mine)
      c:is_idle()
    end)

    it("answers with packets that are numbered on from the command's", function()
      watch(function(relay)
        relay:reply(packets(77, "\1", "column", EOF, "\3row", EOF))
      end)
      c.client:send(0, "\3SELECT 1")
      c.client:receives(packets(1, "\1", "column", EOF, "\3row", EOF))
      c.client:send(0, "\3" .. ("x"):rep(LONGEST)) -- has two packets
      c.client:receives(packets(2, "\1", "column", EOF, "\3row", EOF))
      c:is_idle()
    end)

    it("shows a command without its query attributes, and forwards it with them", function()
      watch(forward, { capabilities = proto.capabilities.CLIENT_QUERY_ATTRIBUTES })
      c:command("\3\0\1SELECT 1")
      c:answer(1, OK)
      c:command("\3\2\1\0\1\3\0\1n\254\0\1s\7\0\0\0\3abcSELECT 2")
      c:answer(1, OK)
      c:command("\3\1\1\1\1\6\0\0SELECT 3") -- NULL
      c:answer(1, OK)
      c:command("\22SELECT ?") -- has none
      assert.same({ "\3SELECT 1", "\3SELECT 2", "\3SELECT 3", "\22SELECT ?" }, c.seen)
    end)

    it("refuses attributes that cannot be read", function()
      for _, attributes in ipairs { "", "\1", "\1\1\0\1\3\0\9", "\1\1\0\0\3\0\0\1\0\0\0", "\254\255\255\255\255" } do
        watch(forward, { capabilities = proto.capabilities.CLIENT_QUERY_ATTRIBUTES })
        c.client:send(0, "\3" .. attributes)
        local text = "received malformed query attributes"
        c:ends("client", text, "EPROTO")
        c.client:receives(packets(1, proto.to_err_packet { errcode = 1156, sqlstate = "08S01", errmsg = text }))
        c.server:closes()
        assert.same({}, c.seen)
        c:close()
      end
      c = nil
    end)

    it("leaves the conversation of COM_CHANGE_USER to the two ends", function()
      watch(forward, { watched = { 17, COM_QUERY, 0, 1, 2 } })
      c:command("\17user\0\0db\0")
      c:answer(1, "\254plugin\0scramble")
      c.server:receives(c.client:send(2, "\3no command"))
      c:answer(3, "\1more")
      c.server:receives(c.client:send(4, ""))
      c:answer(5, OK)
      assert.same({ "\17user\0\0db\0" }, c.seen)
      c:is_idle()
    end)

    it("asks for one decision on each", function()
      watch()
      c.client:send(0, "\3SELECT 1")
      assert.truthy(process.wait_until(function()
        return c.seen[1]
      end))
      c.relay:reply(packets(1, OK))
      c.client:receives(packets(1, OK))
      for _, decide in ipairs { "forward", "reply" } do
        assert.error_matches(function()
          c.relay[decide](c.relay)
        end, "no command is waiting for a decision", nil, true)
      end
    end)

    it("ends when the owner fails, which is reported", function()
      watch(function()
        error("a bug", 0)
      end)
      c.client:send(0, "\3SELECT 1")
      c:ends("client", "on_command failed", "ECANCELED")
      c.client:closes()
      c.server:closes()
      assert.equal(1, #c.errors)
      assert.matches("^a bug\nstack traceback:", c.errors[1])
      c.errors = {}
    end)

    it("ends when the owner has no on_command", function()
      open { watched = { COM_QUERY } }
      c.client:send(0, "\3SELECT 1")
      c:ends("client", "a command is watched, but there is no on_command", "EINVAL")
    end)

    it("may be closed by its owner at any time, who may fail afterwards", function()
      c = conversation.connect()
      function c.on_command(self)
        self.streams.client:close()
        error("too late", 0)
      end
      local errors = 0
      stream.on_error(function()
        errors = errors + 1
        collectgarbage()
      end)
      c:join { watched = { COM_QUERY } }
      c.relay = nil
      c.client:send(0, "\3SELECT 1")
      c.client:closes()
      c.server:closes()
      assert.equal(1, errors)
      assert.is_nil(c.over)
    end)
  end)

  describe("that notifies its owner", function()
    local function notify(more)
      watch(function(relay)
        relay:forward(true)
      end)
      c.answers = {}
      function c.on_answer(self, relay, error, bytes)
        self.answers[#self.answers + 1] = { error, bytes }
        if more then
          more(relay)
        end
      end
    end

    it("tells how a command was answered, when the client has the answer", function()
      notify()
      c:command("\3SELECT 1")
      c:answer(1, "\1", "column", EOF, "\3row")
      assert.same({}, c.answers)
      c:answer(5, EOF)
      c:command("\3SELEC")
      c:answer(1, ERR)
      c:command("\3SELECT 2")
      c:answer(1, "\1", "column", EOF, "\3row", ERR)
      assert.same({ { 0 }, { 1064 }, { 1064 } }, c.answers)
      c:is_idle()
    end)

    it("looks at no later command before", function()
      notify()
      c.client:write(packets(0, "\3one") .. packets(0, "\14") .. packets(0, "\3two"))
      c.server:receives(packets(0, "\3one"))
      c:answer(1, OK)
      c.server:receives(packets(0, "\14"))
      assert.same({ { 0 } }, c.answers)
      c:answer(1, OK)
      c.server:receives(packets(0, "\3two"))
      c:answer(1, OK)
      assert.same({ { 0 }, { 0 } }, c.answers)
      assert.same({ "\3one", "\3two" }, c.seen)
      c:is_idle()
    end)

    it("lets the client upload a file and hold an authentication conversation meanwhile", function()
      notify()
      c:command("\3LOAD")
      c:answer(1, FILE)
      c.server:receives(c.client:send(2, "line", ""))
      c:answer(4, OK)
      assert.same({ { 0 } }, c.answers)
      c.relay:watch(17)
      c:command("\17user\0\0db\0")
      c:answer(1, "\254plugin\0scramble")
      for byte in packets(2, "\3no command"):gmatch(".") do
        c.client:write(byte)
      end
      c.server:receives(packets(2, "\3no command"))
      assert.same({ { 0 } }, c.answers)
      c:answer(3, ERR)
      assert.same({ { 0 }, { 1064 } }, c.answers)
      c:is_idle()
    end)

    it("ends when the owner fails", function()
      notify(function()
        error("a bug", 0)
      end)
      c:command("\3SELECT 1")
      c.client:receives(c.server:send(1, OK))
      c:ends("client", "on_answer failed", "ECANCELED")
      c.client:closes()
      assert.matches("^a bug\n", c.errors[1])
      c.errors = {}
    end)
  end)

  describe("that injects commands", function()
    it("gives the answer to its owner, and nothing to the client", function()
      watch(function(relay)
        relay:inject("\3SET a = 1")
      end)
      function c.on_answer(self, relay, error, bytes)
        self.answer_bytes, self.answer_error = bytes, error
        relay:forward()
      end
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\3SET a = 1"))
      local answer = packets(1, "\1", "column", EOF, "\3row", EOF)
      for byte in answer:gmatch(".") do
        c.server:write(byte)
      end
      c.server:receives(packets(0, "\3SELECT 1"))
      assert.equal(answer, c.answer_bytes)
      assert.equal(0, c.answer_error)
      c:answer(1, OK)
      c:is_idle()
    end)

    it("puts them between the client's, with the answers in order", function()
      c = conversation.connect()
      function c.on_answer(self, _, error, bytes)
        self.answers = { error, bytes }
      end
      c:join()
      c.client:send(0, "\3one")
      c.server:receives(packets(0, "\3one"))
      c.relay:inject("\14")
      c.client:send(0, "\3two")
      c.server:receives(packets(0, "\14") .. packets(0, "\3two"))
      assert.equal(3, c:due())
      c.server:write(packets(1, OK) .. packets(1, ERR) .. packets(1, "\1", "column", EOF, EOF))
      c.client:receives(packets(1, OK) .. packets(1, "\1", "column", EOF, EOF))
      assert.same({ 1064, packets(1, ERR) }, c.answers)
      c:is_idle()
    end)

    it("gives statements the attributes that the session demands", function()
      open { capabilities = proto.capabilities.CLIENT_QUERY_ATTRIBUTES }
      c.relay:inject("\3SELECT 1")
      c.server:receives(packets(0, "\3\0\1SELECT 1"))
      c.relay:inject("\22SELECT ?")
      c.server:receives(packets(0, "\22SELECT ?"))
    end)

    it("hands the answer over to the client when the server asks for a file", function()
      watch(function(relay)
        relay:inject("\3LOAD")
      end)
      function c.on_local_infile(self, _, bytes)
        self.request = bytes
      end
      function c.on_answer(self, relay, error, bytes)
        self.answers = { error, bytes }
        relay:reply()
      end
      c.client:write(packets(0, "\3SELECT 1"))
      c.server:receives(packets(0, "\3LOAD"))
      c.server:send(1, proto.to_ok_packet { server_status = 8 }, FILE)
      c.client:receives(packets(1, proto.to_ok_packet { server_status = 8 }, FILE))
      assert.equal(packets(1, proto.to_ok_packet { server_status = 8 }, FILE), c.request)
      c.client:write(packets(3, "\3line", "") .. packets(0, "\14")) -- the file, and a command for later
      c.server:receives(packets(3, "\3line", ""))
      c.server:send(5, ERR)
      c.client:receives(packets(5, ERR))
      assert.same({ 1064 }, c.answers)
      c.server:receives(packets(0, "\14"))
      c:answer(1, OK)
      c:is_idle()
    end)

    it("leaves the conversation of COM_CHANGE_USER to the two ends", function()
      watch(function(relay)
        relay:inject(nil, true)
      end, { watched = { 17 } })
      function c.on_answer(self, relay, error)
        self.answers = { error }
        relay:reply()
      end
      c:command("\17user\0\0db\0")
      c:answer(1, "\254plugin\0scramble")
      for byte in packets(2, "\3no command"):gmatch(".") do
        c.client:write(byte)
        c.server:receives(byte)
      end
      c:answer(3, "\1more")
      c.server:receives(c.client:send(4, ""))
      assert.is_nil(c.answers)
      c:answer(5, ERR)
      assert.same({ 1064 }, c.answers)
      c:is_idle()
    end)

    it("lets no command through in such a conversation", function()
      watch(function(relay)
        relay:inject(nil, true)
      end, { watched = { 17, COM_QUERY } })
      c:command("\17user\0\0db\0")
      c:answer(1, "\254plugin\0scramble")
      c.client:send(0, "\3UPDATE")
      c:ends("client", "received a packet-id other than the expected 0 ... out of sync.", "EPROTO")
      c.client:closes()
      c.server:closes()
    end)

    it("keeps no answer that is longer than the limit, but goes on", function()
      c = conversation.connect()
      function c.on_answer(self, _, error, bytes)
        self.answers = { error, bytes }
      end
      c:join { answer_limit = 1000 }
      for _, case in ipairs { { 990, "kept" }, { 1000, false } } do
        c.answers = nil
        c.relay:inject("\9")
        local bytes = packets(1, ("x"):rep(case[1]))
        c.server:write(bytes:sub(1, 100))
        c.server:write(bytes:sub(101))
        assert.truthy(process.wait_until(function()
          return c.answers
        end))
        assert.same({ 0, case[2] and bytes }, c.answers)
      end
      c.server:receives(packets(0, "\9"):rep(2))
      c:command("\14")
      c:answer(1, OK)
      c:is_idle()
    end)

    it("lets the client have the answer, numbered on from its own command", function()
      watch(function(relay)
        relay:inject("\3SELECT 2", true)
      end)
      function c.on_answer(self, relay, error, bytes)
        self.answers = { error, bytes }
        relay:reply()
      end
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\3SELECT 2"))
      c:answer(1, "\1", "column", EOF, "\3row", EOF)
      assert.same({ 0 }, c.answers)
      c.client:send(0, "\3" .. ("x"):rep(LONGEST)) -- has two packets
      c.server:receives(packets(0, "\3SELECT 2"))
      for byte in packets(1, "\1", "column", EOF, "\3row", EOF):gmatch(".") do
        c.server:write(byte)
      end
      c.client:receives(packets(2, "\1", "column", EOF, "\3row", EOF))
      c:is_idle()
    end)

    it("sends the waiting command itself, whose answer its owner gets", function()
      watch(function(relay)
        relay:inject(nil)
      end, { capabilities = proto.capabilities.CLIENT_QUERY_ATTRIBUTES })
      function c.on_answer(_, relay, _, bytes)
        relay:reply(bytes)
      end
      c:command("\3\1\1\0\1\3\0\1n\7\0\0\0SELECT 1")
      c:answer(1, "\1", "column", EOF, "\3row", EOF)
      c:is_idle()
    end)

    it("tells how long the answer took", function()
      c = conversation.connect()
      function c.on_answer(self, relay)
        self.times = { relay:times() }
      end
      c:join()
      c.relay:inject("\3SELECT 1")
      c.server:receives(packets(0, "\3SELECT 1"))
      local before = uv.hrtime()
      process.wait_until(function()
        return uv.hrtime() - before > 2e6
      end)
      c.server:send(1, "\1", "column", EOF, EOF)
      assert.truthy(process.wait_until(function()
        return c.times
      end))
      assert.is_true(c.times[1] >= 2000 and c.times[1] <= c.times[2] and c.times[2] < 2e7)
    end)

    it("does so from a command's decision until the client's turn comes", function()
      local step = 0
      watch(function(relay)
        relay:inject("\3BEGIN")
      end)
      function c.on_answer(_, relay)
        step = step + 1
        if step == 1 then
          relay:inject("\3COMMIT")
        else
          relay:reply(packets(1, OK))
        end
      end
      c.client:write(packets(0, "\3SELECT 1") .. packets(0, "\14"))
      c.server:receives(packets(0, "\3BEGIN"))
      c.server:send(1, OK)
      c.server:receives(packets(0, "\3COMMIT"))
      c.server:send(1, OK)
      c.client:receives(packets(1, OK))
      c.server:receives(packets(0, "\14"))
      c:answer(1, OK)
      c:is_idle()
    end)

    it("refuses a command that is none", function()
      open()
      assert.error_matches(function()
        c.relay:inject("")
      end, "a command of at least 1 byte expected", nil, true)
      assert.error_matches(function()
        c.relay:inject(nil)
      end, "no command is waiting for a decision", nil, true)
    end)

    it("splits those of 16 MiB and more", function()
      for _, capabilities in ipairs { 0, proto.capabilities.CLIENT_QUERY_ATTRIBUTES } do
        local attributes = capabilities > 0 and "\0\1" or ""
        open { capabilities = capabilities }
        for _, length in ipairs { LONGEST - 2, LONGEST - 1, LONGEST, LONGEST + 1, 2 * LONGEST } do
          local text = ("x"):rep(length - 1)
          c.relay:inject("\3" .. text)
          c.server:receives(packets(0, "\3" .. attributes .. text))
        end
        c:close()
      end
      c = nil
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
    assert.equal(8, select(2, packet.parse(packets(8, ""))))
  end)
end)
