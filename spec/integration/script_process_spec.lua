-- What a script has to do with the process that it runs in: modules and globals of all connections, the log, the end.
-- No server is needed: the scripts are the server.

local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"

local SERVER = [[
  local proto = require("mysql.proto")
  function connect_server()
    proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = { proto.to_challenge_packet({}) } }
    return proxy.PROXY_SEND_RESULT
  end
  local function answer(...)
    local fields, row = {}, { ... }
    for i = 1, select("#", ...) do
      fields[i], row[i] = { name = "f" .. i, type = proxy.MYSQL_TYPE_STRING }, tostring(row[i])
    end
    proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = { row } } }
    return proxy.PROXY_SEND_RESULT
  end
]]

describe("a script", function()
  local clients, proxy = {}, nil

  local function login(port)
    local client = raw.connect(port):login("anybody")
    clients[#clients + 1] = client
    return client
  end

  after_each(function()
    for _, client in ipairs(clients) do
      client:close()
    end
    clients = {}
    if proxy then
      assert.equal(0, proxy:stop())
      assert.is_nil(proxy:log():match("%(critical%) %([^\n]*"))
      proxy = nil
    end
  end)

  local function start(text, options)
    proxy = scripted.start({ "127.0.0.1:" .. process.free_port() }, SERVER .. text, options)
  end

  it("has the C modules as globals once it has required them, and what require returns is the same", function()
    start [[
      local same = 0
      for module, global in pairs { ["mysql.proto"] = "proto", ["mysql.password"] = "password",
        ["mysql.tokenizer"] = "tokenizer", glib2 = "glib2", posix = "posix", lfs = "lfs", lpeg = "lpeg" } do
        same = same + (require(module) == rawget(_G, global) and type(rawget(_G, global)) == "table" and 1 or 0)
      end
      function read_query() return answer(same, #tokenizer.tokenize("a b"), proto.to_eof_packet({}):byte()) end
    ]]
    assert.same({ { "7", "2", "254" } }, login(proxy.port):ask("x").rows)
  end)

  it("may use modules below `proxy` that are made with module(), and keeps its own table", function()
    local folder = process.path("modules")
    uv.fs_mkdir(folder, tonumber("700", 8))
    uv.fs_mkdir(folder .. "/proxy", tonumber("700", 8))
    process.write_file(folder .. "/proxy/mine.lua", [[
      local tokenizer = require("proxy.tokenizer")
      module("proxy.mine", package.seeall)
      count = 0
      function who()
        count = count + 1
        return proxy.connection.client.src.port, proxy.COM_QUERY, #tokenizer.tokenize("a"), count
      end
    ]])
    start([[
      local mine = require("proxy.mine")
      require("proxy.tokenizer")
      function read_query()
        assert(proxy.mine == mine and proxy.tokenizer.normalize and proxy.global.backends)
        return answer(proxy.connection.client.src.port, mine.who())
      end
    ]], { "--lua-path=" .. folder .. "/?.lua" })
    local first, second = login(proxy.port), login(proxy.port)
    for turn, client in ipairs { first, second, first } do
      local port = tostring(client.socket:getsockname().port)
      assert.same({ { port, port, "3", "1", tostring(turn) } }, client:ask("x").rows)
    end
  end)

  it("that requires chassis prints to the log, with the place, and may end the process", function()
    start [[
      local chassis = require("chassis")
      function read_query(packet)
        if packet == "\3END" then
          chassis.set_shutdown()
          return answer("ending")
        end
        print("printed", 1, nil)
        os.print("to standard output")
        chassis.log("warning", "a warning")
        chassis.critical()
        return answer(tostring(pcall(chassis.log, "loud", "x")))
      end
    ]]
    local client = login(proxy.port)
    assert.same({ { "false" } }, client:ask("x").rows)
    local line = select(2, SERVER:gsub("\n", "")) + 7
    for offset, expected in pairs { [0] = "(message) (%s:%d) printed\t1\tnil", [2] = "(warning) (%s:%d) a warning",
      [3] = "(critical) (%s:%d) nil" } do
      local text = expected:format(proxy.script, line + offset)
      assert.truthy(proxy:log():gsub("\\t", "\t"):find(text, 1, true), text .. " in: " .. proxy:log())
    end
    assert.equal("to standard output\n", proxy.process:stdout())
    assert.same({ { "ending" } }, client:ask("END").rows)
    assert.equal(0, (proxy.process:wait(20)))
    assert.matches("shutting down normally, exit code is: 0", proxy:log())
    proxy = nil
  end)

  it("is found by a daemon by its relative path, as is the folder for its options", function()
    local folder, port = process.path("daemon"), process.free_port()
    uv.fs_mkdir(folder, tonumber("700", 8))
    process.write_file(folder .. "/rules.lua", SERVER .. [[
      local commands = require("proxy.commands")
      require("proxy.auto-config")
      proxy.global.config.rules = proxy.global.config.rules or { limit = 5 }
      function read_query(packet)
        return proxy.global.config:handle(commands.parse(packet)) or answer("from the script")
      end
    ]])
    local program = require("lfs").currentdir() .. "/" .. proxies.build
    program = proxies.build:sub(1, 1) == "/" and proxies.build or program
    local code, output, errors = process.run(program .. "/mysql-proxy", {
      "--daemon", "--pid-file=pid", "--log-file=log", "--proxy-lua-script=rules.lua", "--proxy-lua-config-folder=.",
      "--proxy-address=127.0.0.1:" .. port, "--proxy-read-only-address=127.0.0.1:0",
    }, { cwd = folder })
    assert.same({ 0, "", "" }, { code, output, errors })
    local pid = tonumber(process.read_file(folder .. "/pid"))
    finally(function()
      uv.kill(pid, "sigterm")
      assert(process.wait_until(function()
        return process.read_file(folder .. "/pid") == ""
      end, 20))
    end)
    local client = login(port)
    assert.same({ { "from the script" } }, client:ask("x").rows)
    assert.equal(0, client:ask('PROXY SAVE CONFIG INTO "options"').affected_rows)
    assert.matches('%["limit"%] = 5', process.read_file(folder .. "/options"))
    local log = process.read_file(folder .. "/log")
    assert.matches("%(critical%) mysql%-proxy [%d.]+ started\n", log)
    for level in log:gmatch("%d: %((%a+)%) ") do -- "listening on" takes --log-level=message
      assert.equal("critical", level)
    end
  end)
end)
