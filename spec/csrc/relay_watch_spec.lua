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
local FILE = "\251/a/file" -- LOCAL INFILE

local packets, kept = conversation.packets, conversation.kept

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

    it("shows each as it came, of many that come again or look alike", function()
      watch(forward)
      local sent = {}
      local function say(text)
        c:command(text)
        c:answer(1, OK)
        sent[#sent + 1] = text
      end
      local function query(id)
        return ("\3SELECT name FROM people WHERE id=%06d"):format(id)
      end
      for _ = 1, 2 do
        for id = 1, 600 do -- more than are remembered
          say(query(id))
        end
        for _, id in ipairs { 193170, 226536, 193170 } do -- two with the same hash
          say(query(id))
        end
        for length = 254, 258 do -- some are too long for that
          say("\3" .. ("x"):rep(length - 1))
        end
      end
      assert.same(sent, c.seen)
      c:is_idle()
    end)

    it("shows many without keeping them", function()
      watch(forward)
      local function say_many(from, length)
        for id = from, from + 1500 do
          c:command("\3SELECT " .. id .. (" "):rep(length))
          c:answer(1, OK)
        end
        c.seen = {}
        collectgarbage()
        collectgarbage()
        return collectgarbage("count")
      end
      local before = say_many(1000000, 200)
      assert.is_true(say_many(2000000, 200) - before < 100) -- kB; it was three times as much
      assert.is_true(say_many(3000000, 2000) - before < 100)
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
      c:command("\3" .. ("x"):rep(999))
      c:answer(1, OK)
      c.seen = {}
      c.client:write(packets(0, "\3" .. ("x"):rep(1000)))
      local text = "Got a packet bigger than the proxy's limit (--proxy-command-limit)"
      c:ends("client", text, "EPROTO")
      c.client:receives(packets(1, proto.to_err_packet { errcode = 1153, sqlstate = "08S01", errmsg = text }))
      c.server:closes()
      assert.same({}, c.seen)
    end)

    it("refuses one without end as soon as it is longer", function()
      watch(forward, { command_limit = 1000 })
      c.client:write(packets(0, "\3" .. ("x"):rep(2000)):sub(1, 1006))
      c:ends("client", "Got a packet bigger than the proxy's limit (--proxy-command-limit)", "EPROTO")
    end)

    it("refuses such a one behind others when these have been answered", function()
      watch(forward, { command_limit = 1000 })
      c:command("\3SELECT 1")
      c.client:write(packets(0, "\3" .. ("x"):rep(2000)):sub(1, 1006))
      c.server:send(1, OK)
      local text = "Got a packet bigger than the proxy's limit (--proxy-command-limit)"
      c:ends("client", text, "EPROTO")
      c.client:receives(packets(1, OK)
        .. packets(1, proto.to_err_packet { errcode = 1153, sqlstate = "08S01", errmsg = text }))
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

    it("shows a text of any length without its query attributes", function()
      watch(forward, { capabilities = proto.capabilities.CLIENT_QUERY_ATTRIBUTES })
      local expected = {}
      for _, length in ipairs { 0, 1, 36, 254, 255, 256, 257, 5000, 36 } do
        local text = ("x"):rep(length)
        c:command("\3\0\1" .. text)
        c:answer(1, OK)
        expected[#expected + 1] = "\3" .. text
      end
      assert.same(expected, c.seen)
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

    it("ends if a command comes instead of what COM_CHANGE_USER is asked for, which nobody would answer", function()
      for _, at_once in ipairs { true, false } do
        watch(forward, { watched = { 17, COM_QUERY, 0, 1, 2 } })
        c:command("\17user\0\0db\0")
        if at_once then
          c.client:send(0, "\3SELECT 1")
        end
        c:answer(1, "\254plugin\0scramble")
        if not at_once then
          c.client:send(0, "\3SELECT 1")
        end
        c:ends("client", "received packet-id 0, but expected 2 ... out of sync.", "EPROTO")
        c.client:closes()
        c.server:closes()
        c:close()
      end
      c = nil
    end)

    for command, first in pairs { ["\18"] = "\0event", ["\32"] = OK } do
      for _, decision in ipairs { "forwards", "injects" } do
        local name = ("%s command %d, behind whose first packet the ends are alone"):format(decision, command:byte())
        it(name, function()
          watch(function(relay)
            if decision == "forwards" then
              relay:forward()
            else
              relay:inject(nil, true)
            end
          end, { watched = { 18, 32, 1, 239 } })
          c.client:send(0, command)
          c.server:receives(packets(0, command))
          if decision == "forwards" then -- early, but there
            c.client:send(0, "\239early")
          end
          c:answer(1, first)
          if decision == "forwards" then
            c.server:receives(packets(0, "\239early"))
          end
          c.server:receives(c.client:send(0, "\1more"))
          assert.same({ command }, c.seen)
          c.client:close()
          c:ends("client")
        end)
      end
    end

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
        collectgarbage() -- the first one only finalizes
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
      function c.on_answer(self, relay, error, answer)
        self.answers[#self.answers + 1] = { error, kept(answer) }
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
end)
