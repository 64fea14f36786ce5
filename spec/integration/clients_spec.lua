-- Clients that others wrote see the same through the proxy as without it, also while a script is loaded. What each does
-- is in clients/; here they run all ways, and what they print is compared.

local connectors = require "spec.support.connectors"
local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local here = "spec/integration/clients/"
local SECONDS = 60

-- name -> function that returns program, arguments, environment
local programs = {
  ["PyMySQL"] = function()
    return "/usr/bin/python3", { here .. "pymysql_client.py" }
  end,
  ["PHP's mysqli"] = function()
    return "php", { "-d", "mysqli.allow_local_infile=1", here .. "mysqli_client.php" }
  end,
  ["npm's mysql2"] = function()
    return "node", { here .. "mysql2_client.js" }, connectors.node
  end,
  ["npm's mariadb"] = function()
    return "node", { here .. "mariadb_client.js" }, connectors.node
  end,
  ["Go's driver"] = function()
    return connectors.go("go", here .. "go_client"), {}
  end,
  ["MariaDB Connector/J"] = function()
    return "java", connectors.java("JdbcClient", here .. "JdbcClient.java")
  end,
}

-- What is another number in each run: ports, connection ids, times.
local function comparable(text)
  return (text:gsub("%d+%.%d+ sec", "N sec"):gsub("id is %d+", "id is N"):gsub("id:%s+%d+", "id: N"))
end

-- It has the proxy keep each answer, and takes it apart.
local QUEUES = [[
  function read_query(packet)
    proxy.queries:append(packet:byte(), packet, { resultset_is_needed = true })
    return proxy.PROXY_SEND_QUERY
  end
  function read_query_result(inj)
    local result, binary = inj.resultset, inj.id == proxy.COM_STMT_EXECUTE
    assert(#result.raw > 0 and result.row_count >= 0 and result.bytes >= 0 and result.flags)
    assert(inj.response_time >= inj.query_time and inj.query == string.char(inj.id) .. inj.query:sub(2))
    if result.fields and #result.fields > 0 and not binary then
      for row in result.rows do
        for i = 1, #result.fields do
          assert(row[i] == nil or type(row[i]) == "string")
        end
      end
    end
  end
]]

local LOOKS = [[
  function read_query(packet)
    seen = (seen or 0) + #packet
  end
]]

for _, server in ipairs(servers.all()) do
  describe("through the proxy to " .. server.name .. " #clients", function()
    local proxy, rows
    local ways = {} -- what clients go through: name -> proxy

    setup(function()
      proxy = proxies.start { server }
      ways["no script"] = proxy
      ways["a script that queues each command and wants its result"] = scripted.start(server, QUEUES)
      ways["a script that looks"] = scripted.start(server, LOOKS)
      rows = process.write_file(process.path("rows"), "4\tfour\n5\tfive\n")
    end)

    teardown(function()
      for name, each in pairs(ways) do
        assert.equal(0, each:stop())
        assert.is_nil(scripted.complaints(each:log()), name)
      end
    end)

    -- Runs `client(port)`, which returns what process.run returns, directly and through each proxy.
    local function same_both_ways(client)
      local code, output, errors = client(server.port)
      for name, each in pairs(ways) do
        local proxied_code, proxied_output, proxied_errors = client(each.port)
        assert.equal(comparable(output), comparable(proxied_output), name)
        assert.equal(comparable(errors), comparable(proxied_errors), name)
        assert.equal(code, proxied_code)
      end
      return code, output, errors
    end

    for name, program_of in pairs(programs) do
      it(name .. " sees what it sees without it", function()
        local program, args, more = program_of()
        local code, output, errors = same_both_ways(function(port)
          local all, account = { unpack(args) }, server.account
          for _, argument in ipairs { server.host, tostring(port), account.user, account.password, rows } do
            all[#all + 1] = argument
          end
          return process.run(program, all, { seconds = SECONDS, env = more and connectors.environment(more) })
        end)
        assert.equal(0, code, output .. errors)
        assert.equal("end\n", output:sub(-4), output .. errors)
      end)
    end

    describe("the " .. server.flavour .. " command line", function()
      local function arguments(port, more, name)
        local program, args = server:client(name)
        local login = server:login(port, server.account.user, server.account.password)
        for _, list in ipairs { server.clear_text, login, more } do
          for _, argument in ipairs(list) do
            args[#args + 1] = argument
          end
        end
        return program, args
      end

      it("sees what it sees without it", function()
        local text = process.read_file(here .. "statements.sql"):gsub("@FILE@", rows)
        local input = process.write_file(process.path("sql"), text)
        local more = {
          "--table", "-vv", "--force", "--delimiter=//", "--local-infile=1", "--binary-as-hex",
          "--init-command=SET @init = 'command'",
        }
        if server.flavour == "mysql" then
          more[#more + 1] = "--commands" -- such as `use`, which a batch may not by default
        end
        local _, output, errors = same_both_ways(function(port)
          local program, args = arguments(port, more)
          return process.run(program, args, { input = input, seconds = SECONDS })
        end)
        assert.truthy(output:find("0x00FF10", 1, true)) -- binary as hexadecimal digits
        assert.truthy(output:find("command", 1, true)) -- the initial command
        assert.truthy(output:find("Records: 2", 1, true)) -- LOAD DATA LOCAL
        assert.truthy(output:find("DROP DATABASE cli", 1, true)) -- came to its end
        assert.truthy(errors:find("ERROR 1146 (42S02)", 1, true))
      end)

      it("has a tool for administrators, which sees the server's state", function()
        for name, each in pairs(ways) do
          for command, expected in pairs { ping = "is alive\n$", status = "^Uptime: %d+  Threads: %d+  Quest" } do
            local program, args = arguments(each.port, { command }, "mysqladmin")
            local code, output, errors = process.run(program, args, { seconds = SECONDS })
            assert.equal(0, code, errors)
            assert.matches(expected, output, name)
          end
        end
      end)

      it("sees the same on a terminal, where it asks for all tables' columns", function()
        local input = process.write_file(process.path("typed"), table.concat({
          "SELECT 1;", "SELECT COUNT(*) > 10 FROM information_schema.tables;", "USE test", "SELECT DATABASE();",
          "help SELECT", "SELEC;", "\\s", "quit", "",
        }, "\n"))
        local code, output = same_both_ways(function(port)
          local program, args = arguments(port, { "mysql" })
          local quoted = { "TERM=dumb", program }
          for _, argument in ipairs(args) do
            quoted[#quoted + 1] = "'" .. argument .. "'"
          end
          local status, text, errors = process.run("script", { "-qec", table.concat(quoted, " "), "/dev/null" }, {
            input = input, seconds = SECONDS,
          })
          text = text:gsub("TCP port:%s+%d+", ""):gsub("Uptime:[^\n]*", ""):gsub("Threads:[^\n]*", "")
          return status, text, errors
        end)
        assert.equal(0, code, output)
        assert.truthy(output:find("Reading table information for completion", 1, true))
        assert.truthy(output:find("Server version:", 1, true))
      end)
    end)
  end)
end
