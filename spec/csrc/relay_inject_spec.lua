local proto = require "mysql.proto"
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

  after_each(function()
    if c then
      c:close()
    end
    c = nil
  end)

  describe("that injects commands", function()
    it("gives the answer to its owner, and nothing to the client", function()
      watch(function(relay)
        relay:inject("\3SET a = 1")
      end)
      function c.on_answer(self, relay, error, answer)
        self.answer_bytes, self.answer_error = kept(answer), error
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
      function c.on_answer(self, _, error, answer)
        self.answers = { error, kept(answer) }
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

    it("numbers the next answer from 1 behind one in whose place a command without an answer was sent", function()
      watch(function(relay)
        relay:inject("\25\1\0\0\0")
        relay:reply()
      end)
      c.client:send(0, "\3" .. (" "):rep(LONGEST))
      c.server:receives(packets(0, "\25\1\0\0\0"))
      c:command("\14")
      c:answer(1, OK)
      c:is_idle()
    end)

    it("ends with a client who is gone when his answer comes, though he was not read", function()
      watch(function(relay)
        relay:inject(nil, true)
      end)
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\3SELECT 1"))
      c.client:write(packets(0, "\3" .. ("x"):rep(200000)))
      for _ = 1, 20 do
        uv.run("nowait")
      end
      c.client.socket:close_reset()
      for _ = 1, 20 do
        uv.run("nowait")
      end
      assert.is_nil(c.over)
      c.server:write(packets(1, "\1", "column", EOF, ("x"):rep(8000), EOF))
      assert.truthy(process.wait_until(function()
        return c.over
      end))
      assert.equal("client", c.over.side)
    end)

    it("keeps of a binary log only how it ends, however its events are cut", function()
      local events = packets(1, "\0" .. ("e"):rep(40), "\0" .. ("f"):rep(300), "\0g")
      for last, code in pairs { [packets(4, EOF)] = 0, [packets(4, ERR)] = 1064 } do
        local answer = events .. last
        local cuts = { { answer } }
        for at = 1, #answer - 1 do
          cuts[#cuts + 1] = { answer:sub(1, at), answer:sub(at + 1) }
        end
        cuts[#cuts + 1] = { answer:sub(1, 60), answer:sub(61, 62), answer:sub(63, 364), answer:sub(365) }
        watch(function(relay)
          relay:inject("\18\4\0\0\0\0\0\1\0\0\0")
        end, { answer_limit = 50 })
        function c.on_answer(self, relay, error, kept_answer)
          self.got = { error, kept_answer and kept(kept_answer) }
          relay:reply(packets(1, OK))
        end
        for _, pieces in ipairs(cuts) do
          c.got = nil
          c.client:send(0, "\3DUMP")
          c.server:receives(packets(0, "\18\4\0\0\0\0\0\1\0\0\0"))
          for index, piece in ipairs(pieces) do
            c.server:write(piece)
            if index < #pieces then
              uv.run("nowait")
            end
          end
          c.client:receives(packets(1, OK))
          assert.same({ code, last }, c.got)
        end
        c:close()
        c = nil
      end
    end)

    it("keeps the order of what answers them when a method runs the loop", function()
      local first, second, answers = packets(1, OK), packets(1, "\1", "column", EOF, "\3row", EOF), {}
      watch(function(relay)
        relay:inject("\3SELECT 2")
        relay:inject("\3SELECT 3")
      end)
      function c.on_answer(_, relay, _, answer)
        answers[#answers + 1] = kept(answer)
        if #answers == 2 then
          return relay:reply(packets(1, OK))
        end
        c.server:write(second:sub(8))
        for _ = 1, 20 do
          uv.run("nowait")
        end
      end
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\3SELECT 2") .. packets(0, "\3SELECT 3"))
      c.server:write(first .. second:sub(1, 7))
      c.client:receives(packets(1, OK))
      assert.same({ first, second }, answers)
      c:is_idle()
    end)

    it("gives statements the attributes that the session demands", function()
      open { capabilities = proto.capabilities.CLIENT_QUERY_ATTRIBUTES }
      c.relay:inject("\3SELECT 1")
      c.server:receives(packets(0, "\3\0\1SELECT 1"))
      c.relay:inject("\22SELECT ?")
      c.server:receives(packets(0, "\22SELECT ?"))
    end)

    it("gives statements the attributes of the client's that waits", function()
      local attributes = "\2\1\0\1\3\0\1n\254\0\1s\7\0\0\0\3abc"
      watch(function(relay, command)
        relay:inject((command:gsub("SELECT", "SELECT NOW(),")))
      end, { capabilities = proto.capabilities.CLIENT_QUERY_ATTRIBUTES })
      function c.on_answer(_, relay)
        relay:reply(packets(1, OK))
      end
      for number, text in ipairs { "1", ("x"):rep(LONGEST - #attributes - 9), ("x"):rep(LONGEST) } do
        c.client:send(0, "\3" .. attributes .. "SELECT " .. text)
        c.server:receives(packets(0, "\3" .. attributes .. "SELECT NOW(), " .. text))
        c.server:send(number > 1 and 2 or 1, OK)
        c.client:receives(packets(number > 2 and 2 or 1, OK))
      end
      c.client:send(0, "\22SELECT ?")
      c.server:receives(packets(0, "\22SELECT NOW(), ?"))
    end)

    it("hands the answer over to the client when the server asks for a file", function()
      watch(function(relay)
        relay:inject("\3LOAD")
      end)
      function c.on_local_infile(self, _, answer)
        self.request = kept(answer)
      end
      function c.on_answer(self, relay, error, answer)
        self.answers = { error, kept(answer) }
        relay:reply()
      end
      c.client:write(packets(0, "\3SELECT 1"))
      c.server:receives(packets(0, "\3LOAD"))
      c.server:send(1, proto.to_ok_packet { server_status = 8 }, FILE)
      c.client:receives(packets(1, proto.to_ok_packet { server_status = 8 }, FILE))
      assert.equal(packets(1, proto.to_ok_packet { server_status = 8 }, FILE), c.request)
      c.server:receives(c.client:send(3, ("x"):rep(100000))) -- the file, as it comes
      c.client:write(packets(4, "\3line", "") .. packets(0, "\14")) -- its rest, and a command for later
      c.server:receives(packets(4, "\3line", ""))
      c.server:send(6, ERR)
      c.client:receives(packets(6, ERR))
      assert.same({ 1064 }, c.answers)
      c.server:receives(packets(0, "\14"))
      c:answer(1, OK)
      c:is_idle()
    end)

    it("lets the two ends go on when the server asks in a method that runs the loop", function()
      local asks, answer = FILE, nil
      watch(function(relay, command)
        relay:inject(command)
        c.server:receives(packets(0, command))
        c.server:send(1, asks)
        c.client:receives(packets(1, asks))
        c.server:receives(c.client:send(2, "line", ""))
        c.server:send(4, OK)
        assert(process.wait_until(function()
          return answer
        end))
        relay:reply(kept(answer.packets))
      end, { watched = { COM_QUERY, 17 } })
      function c.on_local_infile() end
      function c.on_answer(_, _, _, last)
        answer = { packets = last } -- nil if the client has it
      end
      c.client:send(0, "\3LOAD")
      c.client:receives(packets(4, OK))
      asks, answer = "\254plugin\0scramble", nil
      c.client:send(0, "\17user\0\0db\0")
      c.client:receives(packets(4, OK))
      c:is_idle()
    end)

    it("sends no file of a client who waits for nothing any more", function()
      watch(function(relay)
        relay:inject("\3SELECT 1", true)
      end)
      function c.on_answer(self, relay, _, answer)
        if not answer then
          return relay:inject("\3LOAD")
        end
        self.last = kept(answer)
        relay:reply()
      end
      c.client:write(packets(0, "\3SELECT 1") .. packets(0, "\14"))
      c.server:receives(packets(0, "\3SELECT 1"))
      c:answer(1, OK)
      c.server:receives(packets(0, "\3LOAD"))
      c.server:send(1, FILE)
      c.server:receives(packets(2, ""))
      c.server:send(3, OK)
      c.server:receives(packets(0, "\14"))
      assert.equal(packets(1, FILE) .. packets(3, OK), c.last)
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

    it("leaves all of it but the last packet, if the owner wants to see the answer", function()
      watch(function(relay)
        relay:inject(nil)
      end, { watched = { 17 } })
      function c.on_answer(self, relay, error, answer)
        self.answers = { error, kept(answer) }
        relay:reply(answer)
      end
      c:command("\17user\0\0db\0")
      c:answer(1, "\254plugin\0scramble")
      c.server:receives(c.client:send(2, "response"))
      for byte in packets(3, "\254another\0scramble"):gmatch(".") do
        c.server:write(byte)
      end
      c.client:receives(packets(3, "\254another\0scramble"))
      c.server:receives(c.client:send(4, ""))
      c:answer(5, "\1\3", OK)
      assert.same({ 0, packets(6, OK) }, c.answers)
      c:is_idle()
    end)

    it("ends if it needs one in which the client has no part", function()
      watch(function(relay)
        relay:inject("\17user\0\0db\0")
      end)
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\17user\0\0db\0"))
      c.server:send(1, "\254plugin\0scramble")
      local problem = "the server asks for authentication data that an injected COM_CHANGE_USER cannot give."
      c:ends("server", problem, "EPROTO")
      c.client:receives(packets(1, proto.to_err_packet { errcode = 1105, sqlstate = "HY000", errmsg = problem }))
      c.client:closes()
      c.server:closes()
    end)

    it("holds a client's commands while the owner changes the user", function()
      watch(function(relay)
        relay:inject("\17user\0\0db\0")
      end)
      function c.on_answer(_, relay, _, answer)
        relay:reply(answer)
      end
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\17user\0\0db\0"))
      c.server:send(1, "\1\3") -- fast authentication of caching_sha2_password: no answer is expected
      c.client:send(0, "\14")
      assert.truthy(process.wait_until(function()
        local _, from_client, from_server = c.relay:counters()
        return from_client == 13 + 5 and from_server == 6
      end))
      c.server:send(2, OK)
      c.client:receives(packets(1, OK))
      c.server:receives(packets(0, "\14"))
    end)

    it("does not take in more and more of what a client sends meanwhile", function()
      watch(function(relay)
        relay:inject("\17user\0\0db\0")
      end)
      c.client:send(0, "\3SELECT 1")
      c.server:receives(packets(0, "\17user\0\0db\0"))
      c.client:write(packets(0, "\3" .. ("x"):rep(LONGEST - 2))) -- 16 MB, which 100 rounds of the loop would take
      for round = 1, 100 do
        c.server:send(round, "\1\3")
        assert.truthy(process.wait_until(function()
          return select(3, c.relay:counters()) == 6 * round
        end))
      end
      assert.is_true(select(2, c.relay:counters()) < 2 ^ 20)
    end)

    it("lets no command through in such a conversation", function()
      watch(function(relay)
        relay:inject(nil, true)
      end, { watched = { 17, COM_QUERY } })
      c:command("\17user\0\0db\0")
      c:answer(1, "\254plugin\0scramble")
      c.client:send(0, "\3UPDATE")
      c:ends("client", "received packet-id 0, but expected 2 ... out of sync.", "EPROTO")
      c.client:closes()
      c.server:closes()
    end)

    it("keeps no answer that is longer than the limit, but goes on", function()
      c = conversation.connect()
      function c.on_answer(self, _, error, answer)
        self.answers = { error, kept(answer) }
      end
      c:join { answer_limit = 1000 }
      for _, case in ipairs { { 990, "kept" }, { 1000, false }, { 10, "kept" } } do
        c.answers = nil
        c.relay:inject("\9")
        local bytes = packets(1, ("x"):rep(case[1]))
        c.server:write(bytes:sub(1, 5))
        c.server:write(bytes:sub(6))
        assert.truthy(process.wait_until(function()
          return c.answers
        end))
        assert.same({ 0, case[2] and bytes }, c.answers)
      end
      c.server:receives(packets(0, "\9"):rep(3))
      c:command("\14")
      c:answer(1, OK)
      c:is_idle()
    end)

    it("lets the client have the answer, numbered on from its own command", function()
      watch(function(relay)
        relay:inject("\3SELECT 2", true)
      end)
      function c.on_answer(self, relay, error, answer)
        self.answers = { error, kept(answer) }
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
      c.answers = nil
      c.client:send(0, "\3SELECT 3")
      c.server:receives(packets(0, "\3SELECT 2"))
      for number, payload in ipairs { "\1", "column", EOF, ("r"):rep(100), ("s"):rep(70000) } do
        c:answer(number, payload) -- each as it comes
        assert.is_nil(c.answers)
      end
      c:answer(6, EOF)
      assert.same({ 0 }, c.answers)
      c:is_idle()
    end)

    it("sends the waiting command itself, whose answer its owner gets", function()
      watch(function(relay)
        relay:inject(nil)
      end, { capabilities = proto.capabilities.CLIENT_QUERY_ATTRIBUTES })
      function c.on_answer(_, relay, _, answer)
        relay:reply(answer)
      end
      c:command("\3\1\1\0\1\3\0\1n\7\0\0\0SELECT 1")
      c:answer(1, "\1", "column", EOF, "\3row", EOF)
      c:is_idle()
    end)

    it("tells in microseconds how long the first of the answer took, and all of it", function()
      c = conversation.connect()
      function c.on_answer(self, relay)
        self.times = { relay:times() }
      end
      c:join()
      local began = uv.hrtime()
      local function us()
        return math.ceil((uv.hrtime() - began) / 1000)
      end
      local function a_while()
        local before = uv.hrtime()
        process.wait_until(function()
          return uv.hrtime() - before > 2e6
        end)
      end
      c.relay:inject("\3SELECT 1")
      c.server:receives(packets(0, "\3SELECT 1"))
      a_while()
      c.server:send(1, "\1")
      assert.truthy(process.wait_until(function()
        return select(3, c.relay:counters()) > 0
      end))
      local first_by = us()
      a_while()
      c.server:send(2, "column", EOF, EOF)
      assert.truthy(process.wait_until(function()
        return c.times
      end))
      local first, last = unpack(c.times)
      assert.is_true(first >= 2000 and first <= first_by)
      assert.is_true(last >= first + 2000 and last <= us())
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
end)
