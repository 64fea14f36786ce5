local proto = require "mysql.proto"
local uv = require "luv"

local conversation = require "spec.support.conversation"
local process = require "spec.support.process"

local COM_QUERY, COM_CHANGE_USER, COM_STMT_PREPARE = 3, 17, 22
local OK = proto.to_ok_packet { server_status = 2 }
local FILE = "\251/a/file" -- LOCAL INFILE

local packets = conversation.packets

describe("a relay", function()
  local c

  -- One that shows COM_QUERY and COM_STMT_PREPARE to `on_command`.
  local function watch(on_command, options)
    options = options or {}
    options.watched = options.watched or { COM_QUERY, COM_STMT_PREPARE }
    c = conversation.watch(on_command, options)
  end

  -- In a method, which so runs the loop: the client sends bytes, and the relay has read some.
  local function sends_meanwhile(relay, bytes)
    local _, before = relay:counters()
    c.client:write(bytes)
    assert(process.wait_until(function()
      local _, now = relay:counters()
      return now > before
    end))
  end

  after_each(function()
    if c then
      c:close()
    end
    c = nil
  end)

  describe("with watched commands, while a method runs the loop or the server asks,", function()
    it("keeps the order of one that waits, and one that came while a method ran the loop", function()
      local waiting
      watch(function(relay, command)
        if command ~= "\3SELECT 1" then
          return relay:forward()
        end
        sends_meanwhile(relay, packets(0, "\3SELECT 'the second'"))
        waiting = relay
      end)
      c.client:write(packets(0, "\3SELECT 1"))
      assert(process.wait_until(function()
        return waiting
      end))
      waiting:forward()
      c.server:receives(packets(0, "\3SELECT 1"))
      c:answer(1, OK)
      c.server:receives(packets(0, "\3SELECT 'the second'"))
      c:answer(1, OK)
      c:is_idle()
    end)

    it("keeps the order of those behind one that is decided on before a method runs the loop", function()
      watch(function(relay, command)
        relay:forward()
        if command == "\3SELECT 1" then
          sends_meanwhile(relay, packets(0, "\14"))
          c.server:receives(packets(0, "\3SELECT 1"))
          c:answer(1, OK)
        end
      end)
      c.client:write(packets(0, "\3SELECT 1") .. packets(0, "\3SELECT 2"))
      c.server:receives(packets(0, "\3SELECT 2") .. packets(0, "\14"))
      c.server:send(1, OK)
      c.server:send(1, OK)
      c.client:receives(packets(1, OK) .. packets(1, OK))
      c:is_idle()
    end)

    it("goes on with one that came while a method ran the loop for one that had waited", function()
      local waiting
      watch(function(relay, command)
        if command == "\3SELECT 1" then
          waiting = relay
          return
        elseif command == "\3SELECT 2" then
          sends_meanwhile(relay, packets(0, "\3SELECT 3"))
        end
        relay:reply(packets(1, OK))
      end)
      c.client:write(packets(0, "\3SELECT 1") .. packets(0, "\3SELECT 2"))
      assert(process.wait_until(function()
        return waiting
      end))
      waiting:reply(packets(1, OK))
      c.client:receives(packets(1, OK) .. packets(1, OK) .. packets(1, OK))
      assert.same({ "\3SELECT 1", "\3SELECT 2", "\3SELECT 3" }, c.seen)
      c:is_idle()
    end)

    it("reads a client no further than a little while a method runs the loop", function()
      local flood, read = 2 ^ 24, nil
      watch(function(relay)
        relay:forward()
        if not read then
          c.client:write(packets(0, "\14"):rep(flood / 5))
          for _ = 1, 500 do
            uv.run("nowait")
          end
          read = select(2, relay:counters())
        end
      end)
      c.client:write(packets(0, "\3SELECT 1"))
      assert(process.wait_until(function()
        return read
      end))
      assert.is_true(read < 2 ^ 20, read .. " bytes")
    end)

    it("reads a client no further than a little while the server waits for its password", function()
      for _, notify in ipairs { false, true } do
        watch(function(relay) relay:forward(notify) end, { watched = { COM_CHANGE_USER, COM_QUERY } })
        c:command("\17user\0\0db\0")
        c:answer(1, "\254plugin\0scramble")
        c.client:write(packets(0, "\3SELECT 1"):rep(2 ^ 20))
        for _ = 1, 500 do
          uv.run("nowait")
        end
        local _, read = c.relay:counters()
        assert.is_true(read < 2 ^ 20, read .. " bytes")
        c:close()
      end
      c = nil
    end)

    it("takes a password that comes in pieces while a method runs the loop", function()
      local password = packets(2, "password")
      watch(function(relay)
        relay:forward(true)
        c.server:receives(packets(0, "\17user\0\0db\0"))
        c:answer(1, "\254plugin\0scramble")
        sends_meanwhile(relay, password:sub(1, 2))
        sends_meanwhile(relay, password:sub(3))
      end, { watched = { COM_CHANGE_USER, COM_QUERY } })
      c.client:send(0, "\17user\0\0db\0")
      assert(process.wait_until(function()
        return #c.seen > 0
      end))
      c.server:receives(password)
    end)

    it("takes a file while a method runs the loop, but not yet the command behind it", function()
      for _, asks in ipairs { "the server", "the owner" } do
        local own = asks == "the owner"
        local waiting
        watch(function(relay, command)
          if command == "\3SELECT 2" then
            waiting = relay
            return
          elseif own then
            relay:reply(packets(1, FILE))
            sends_meanwhile(relay, packets(2, "line", "") .. packets(0, "\3SELECT 2"))
          else
            relay:forward()
            c.server:receives(packets(0, "\3LOAD"))
            c.server:send(1, FILE)
            c.client:receives(packets(1, FILE))
            sends_meanwhile(relay, packets(2, "line", "") .. packets(0, "\3SELECT 2"))
            c.server:receives(packets(2, "line", ""))
            c:answer(4, OK)
          end
          assert.is_nil(waiting)
        end)
        c.client:send(0, "\3LOAD")
        if own then
          c.client:receives(packets(1, FILE) .. packets(4, OK))
        end
        assert(process.wait_until(function()
          return waiting
        end))
        waiting:forward()
        c.server:receives(packets(0, "\3SELECT 2"))
        c:answer(1, OK)
        assert.same({ "\3LOAD", "\3SELECT 2" }, c.seen)
        c:is_idle()
        c:close()
      end
      c = nil
    end)

    it("goes on with a COM_CHANGE_USER while a method runs the loop, but not yet with the command behind it", function()
      for _, talks in ipairs { false, true } do
        watch(function(relay, command)
          relay:forward()
          if command:byte() ~= COM_CHANGE_USER then
            return
          elseif not talks then
            return sends_meanwhile(relay, packets(0, "\3SELECT 2"))
          end
          c.server:receives(packets(0, "\17user\0\0db\0"))
          c:answer(1, "\254plugin\0scramble")
          sends_meanwhile(relay, packets(2, "password") .. packets(0, "\3SELECT 2"))
        end, { watched = { COM_CHANGE_USER, COM_QUERY } })
        c.client:send(0, "\17user\0\0db\0")
        c.server:receives(talks and packets(2, "password") or packets(0, "\17user\0\0db\0"))
        assert.equal(1, #c.seen)
        c:answer(talks and 3 or 1, OK)
        c.server:receives(packets(0, "\3SELECT 2"))
        c:answer(1, OK)
        assert.same({ "\17user\0\0db\0", "\3SELECT 2" }, c.seen)
        c:is_idle()
        c:close()
      end
      c = nil
    end)

    it("takes the file that the owner has asked for though a server is told that there is none", function()
      watch(function(relay)
        relay:answer(packets(1, FILE))
        relay:inject("\3LOAD")
      end)
      function c.on_answer(_, relay)
        relay:reply()
      end
      c.client:send(0, "\3one")
      c.client:receives(packets(1, FILE))
      c.server:receives(packets(0, "\3LOAD"))
      c.server:send(1, FILE)
      c.server:receives(packets(2, ""))
      c.client:send(2, "line", "")
      c.client:receives(packets(4, OK))
      c.server:send(3, OK)
      assert(process.wait_until(function()
        return c:due() == 0
      end))
      c:is_idle()
    end)

    it("loses none of those behind it when the client says meanwhile that it sends no more", function()
      for _, decide in ipairs { "forward", "reply" } do
        watch(function(relay, command)
          if command == "\3SELECT 2" then
            return relay:forward()
          end
          relay[decide](relay, decide == "reply" and packets(1, OK) or nil)
          c.client:shutdown()
          for _ = 1, 20 do
            uv.run("nowait")
          end
        end)
        c.client:write(packets(0, "\3SELECT 1") .. packets(0, "\3SELECT 2"))
        if decide == "forward" then
          c.server:receives(packets(0, "\3SELECT 1"))
          c.server:send(1, OK)
        end
        c.client:receives(packets(1, OK))
        c.server:receives(packets(0, "\3SELECT 2"))
        c:answer(1, OK)
        c:ends "client"
        c.server:closes()
        c.client:closes()
        c:close()
      end
    end)
  end)
end)
