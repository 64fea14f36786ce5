-- The README's first command, in a copy of the project, with nothing of the specs around it.

local process = require "spec.support.process"
local uv = require "luv"

describe("bin/demo", function()
  local source, temporary

  setup(function()
    source, temporary = process.path("source"), process.path("tmp")
    local code, _, errors = process.run("sh", { "-c", ([[
      mkdir '%s' '%s' && tar -c CMakeLists.txt bin csrc lua | tar -xC '%s']]):format(source, temporary, source) })
    assert.equal(0, code, errors)
  end)

  -- Everything that it starts and writes is below this TMPDIR.
  local function demo(args)
    return process.start(source .. "/bin/demo", args, {
      cwd = "/", env = { "PATH=/usr/bin:/bin", "HOME=/nowhere", "LD_PRELOAD=", "TMPDIR=" .. temporary },
    })
  end

  local function leaves_nothing()
    local entries = assert(uv.fs_scandir(temporary))
    assert.is_nil((uv.fs_scandir_next(entries)))
    local _, processes = process.run("ps", { "-eo", "args" })
    assert.is_nil(processes:find(temporary, 1, true), processes)
    assert.is_nil(processes:find(source, 1, true), processes)
  end

  it("--once builds, shows a query through the proxy, and leaves nothing", function()
    local run = demo { "--once" }
    assert.equal(0, (run:wait(300)), run:stdout() .. run:stderr())
    assert.matches("through the proxy | +%d+ | 10%.", run:stdout())
    leaves_nothing()
  end)

  it("stays up for clients until Ctrl-C, and leaves nothing then", function()
    local run = demo {}
    local up = process.wait_until(function()
      return not run:running() or run:stdout():find("Ctrl-C ends it", 1, true)
    end, 120)
    assert.truthy(up and run:running(), run:stdout() .. run:stderr())
    for port in run:stdout():gmatch("mariadb %-h127%.0%.0%.1 %-P(%d+) %-uroot\n") do
      local code, output, errors = process.run("mariadb", {
        "--no-defaults", "-h127.0.0.1", "-P" .. port, "-uroot", "-NBe", "SELECT 'typed'",
      })
      assert.equal(0, code, errors)
      assert.equal("typed\n", output)
    end
    run:kill("sigint")
    assert.equal(0, (run:wait(30)), run:stderr())
    leaves_nothing()
  end)

  it("says what it does not understand", function()
    local run = demo { "--twice" }
    assert.equal(2, (run:wait(30)))
    assert.matches("usage: bin/demo [--once]", run:stderr(), 1, true)
  end)
end)
