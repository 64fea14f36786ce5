-- The examples do what their first lines say.

local process = require "spec.support.process"
local interpreter = require "spec.support.interpreter"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

describe("examples/own_program.lua", function()
  it("serves two proxies beside its own timer, and ends on SIGINT", function()
    local server = servers.all()[1]
    local backend = ("%s:%d"):format(server.host, server.port)
    local first, second = process.free_port(), process.free_port()
    local program = process.start("sh", {
      "-c", ("exec %s -e \"io.stdout:setvbuf('line')\" \"$0\" \"$@\""):format(interpreter), "examples/own_program.lua",
      ("127.0.0.1:%d=%s"):format(first, backend),
      ("127.0.0.1:%d=127.0.0.1:%d,%s"):format(second, process.free_port(), backend), -- the first is down
    })
    local function prints(text)
      assert.truthy(process.wait_until(function()
        return program:stdout():find(text, 1, true)
      end, 10), text .. ": " .. program:stdout() .. program:stderr())
    end
    prints(("127.0.0.1:%d listens, in front of %s"):format(first, backend))
    prints(("127.0.0.1:%d listens"):format(second))
    for _, port in ipairs { first, second } do
      local output = server:sql("SELECT 'asked'", port)
      assert.equal("asked\n", output)
      local client = raw.connect(port):login("nopass")
      prints(("127.0.0.1:%d has 1 clients"):format(port))
      client:close()
      prints(("127.0.0.1:%d has 0 clients"):format(port))
    end
    program:kill("sigint")
    assert.equal(0, (program:wait(10)), program:stderr())
    prints(("127.0.0.1:%d has ended"):format(second))
  end)
end)
