local uv = require "luv"

local channels = require "mysql-proxy.workers.channel"
local process = require "spec.support.process"

describe("a channel between a supervisor and a worker", function()
  it("carries strings, numbers, booleans and nil", function()
    local values = { "order", 7, "", ("x"):rep(70000), "\0\251\255", true, false, nil, -0.25, 2 ^ 53, 1e300, nil }
    local read, count = channels.decode(channels.encode(values, 12))
    assert.equal(12, count)
    assert.same(values, read)
    assert.same({ {}, 0 }, { channels.decode("") })
  end)

  it("does not take what is no message", function()
    local whole = channels.encode({ "order", 12.5, true }, 3)
    for length = 1, #whole do
      local values = channels.decode(whole:sub(1, length))
      assert.is_true(values == nil or #values <= 3)
    end
    for _, bytes in ipairs { "s", "s\5abc", "n\3abc", "n\0", "x", "s\254" .. ("\255"):rep(8), "t\1" } do
      assert.is_nil((channels.decode(bytes)))
    end
  end)

  it("ends with a message that is none, and when the other end has gone in the midst of one", function()
    for _, bytes in ipairs { "\1\0\0\0x", "\5\0\0\0s" } do
      local ends = assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
      local got, reasons = {}, {}
      local channel = assert(channels.open(ends[1], function(values)
        got[#got + 1] = values[1]
      end, function(reason)
        reasons[#reasons + 1] = reason
      end))
      local other = uv.new_pipe(false)
      other:open(ends[2])
      other:write("\4\0\0\0s\2ok" .. bytes)
      other:shutdown(function()
        other:close()
      end)
      assert(process.wait_until(function()
        return #reasons > 0
      end))
      assert.same({ "ok" }, got)
      assert.same({ bytes:sub(-1) == "x" and "sent what is no message" or "closed" }, reasons)
      channel:close()
      process.wait_until(function()
        return other:is_closing()
      end)
    end
  end)
end)
