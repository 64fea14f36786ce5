local proto = require "mysql.proto"
local uv = require "luv"

local conversation = require "spec.support.conversation"
local process = require "spec.support.process"

local COM_QUERY, COM_CHANGE_USER, COM_STMT_PREPARE = 3, 17, 22
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

    it("lets it have all of the last answer, however slowly it reads", function()
      open()
      c:command("\3SELECT")
      c.client:pause()
      c.client:shutdown()
      local answer = packets(1, "\1", "column", EOF) .. packets(4, (("r"):rep(2 ^ 20 - 4))):rep(16) .. packets(20, EOF)
      c.server:write(answer)
      for _ = 1, 1000 do
        uv.run("nowait")
      end
      c.client:read()
      c.client:receives(answer)
      c:ends("client")
      c.client:closes()
    end)

    it("follows no binary log for one that has nothing more to say", function()
      open()
      c:command("\18")
      c:answer(1, "\0event")
      c.client:shutdown()
      c:ends("client")
      c.server:closes()
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

    local function has_left()
      c.client:shutdown()
      assert(process.wait_until(function()
        return c.over or c.relay:client_has_left()
      end))
      assert.is_nil(c.over)
    end

    local function reply_with_answer(_, relay, _, answer)
      relay:reply(kept(answer))
    end

    it("brings the answer to an injected COM_CHANGE_USER to one that had nothing more to say for it", function()
      for _, question in ipairs { "\254plugin\0scramble", "\1\3" } do
        watch(function(relay) relay:inject() end, { watched = { COM_CHANGE_USER } })
        c.on_answer = reply_with_answer
        c:command("\17user\0\0db\0")
        c:answer(1, question)
        if question ~= "\1\3" then -- which is none
          c.server:receives(c.client:send(2, "password"))
        end
        has_left()
        c:answer(question == "\1\3" and 2 or 3, OK)
        c:ends("client")
        c:close()
      end
      c = nil
    end)

    it("gives up an injected command for which the server waits for it", function()
      for command, question in pairs { ["\3LOAD"] = FILE, ["\17user\0\0db\0"] = "\254plugin\0scramble" } do
        for _, streamed in ipairs { false, true } do
          for _, early in ipairs { false, true } do
            watch(function(relay) relay:inject(nil, streamed) end, { watched = { COM_QUERY, COM_CHANGE_USER } })
            c.client:write(packets(0, command) .. packets(0, "\3SELECT 2"))
            c.server:receives(packets(0, command))
            if early then
              has_left()
              c.server:send(1, question)
            else
              c:answer(1, question)
              c.client:shutdown()
            end
            c:ends("client")
            c.server:closes()
            assert.same({ command }, c.seen)
            c:close()
          end
        end
      end
      c = nil
    end)

    it("tells the server that waits for it, whatever it has sent for later", function()
      local ends = { ["\3LOAD"] = { FILE, "server" }, ["\17user\0\0db\0"] = { "\254plugin\0scramble", "client",
        "received packet-id 0, but expected 2 ... out of sync.", "EPROTO" } }
      for command, expected in pairs(ends) do
        for _, notify in ipairs { false, true } do
          watch(function(relay) relay:forward(notify) end, { watched = { COM_QUERY, COM_CHANGE_USER } })
          c.on_answer = function() end
          c.client:write(packets(0, command) .. packets(0, "\3SELECT 2"))
          c.server:receives(packets(0, command))
          c.client:shutdown()
          c:answer(1, expected[1])
          c.server:closes()
          c.server:close()
          c:ends(unpack(expected, 2))
          c:close()
        end
      end
      c = nil
    end)

    it("goes on with the owner's commands though the file does not come for which he has asked it himself", function()
      watch(function(relay)
        relay:answer(packets(1, FILE))
        relay:inject("\3INSERT 1")
      end)
      local commands = { "\3INSERT 2" }
      function c.on_answer(_, relay)
        local command = table.remove(commands)
        if command then
          relay:inject(command)
        else
          relay:reply()
        end
      end
      c.client:send(0, "\3one")
      c.server:receives(packets(0, "\3INSERT 1"))
      has_left()
      c.server:send(1, OK)
      c.server:receives(packets(0, "\3INSERT 2"))
      c.server:send(1, OK)
      c:ends("client")
    end)

    it("tells its owner, too, if the server cannot be told as it has broken off", function()
      open()
      c:command("\3SELECT")
      c.client:pause()
      c.server:write(packets(1, "\1", "column", EOF) .. packets(4, (("r"):rep(2 ^ 20 - 4))):rep(24))
      for _ = 1, 1000 do
        uv.run("nowait") -- until nothing goes on
      end
      c.server.socket:close_reset()
      has_left()
      for _ = 1, 100 do
        uv.run("nowait")
      end
      c.client:read()
      c:ends("server", "connection reset by peer", "ECONNRESET")
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
end)
