-- Every code sample of section 17.4 of the manual, as a script of its own. The text that is left of the manual lost
-- lines ("else", "end") and what looked like markup (a pattern, a call); they stand here again. What is a fragment
-- there has the function around it that the text describes.

local uv = require "luv"

local process = require "spec.support.process"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

-- 17.4.3. Its `tonumber("%M")` is what was left of os.date.
local CONNECT_SERVER = [[
function connect_server()
        print("--> a client really wants to talk to a server")
        if (tonumber(os.date("%M")) % 2 == 0) then
                proxy.connection.backend_ndx = 2
                print("Choosing backend 2")
        else
                proxy.connection.backend_ndx = 1
                print("Choosing backend 1")
        end
        print("Using " .. proxy.backends[proxy.connection.backend_ndx].address)
end
]]

-- 17.4.4. Of the pattern only "^" is left: here the spec puts in what may connect.
local READ_HANDSHAKE = [[
function read_handshake( auth )
        print("<-- let's send him some information about us")
        print("    mysqld-version: " .. auth.mysqld_version)
        print("    thread-id     : " .. auth.thread_id)
        print("    scramble-buf  : " .. string.format("%q", auth.scramble))
        print("    server-addr   : " .. auth.server_addr)
        print("    client-addr   : " .. auth.client_addr)

        if not auth.client_addr:match("^ALLOWED") then
                proxy.response.type = proxy.MYSQLD_PACKET_ERR
                proxy.response.errmsg = "only local connects are allowed"

                print("we don't like this client");

                return proxy.PROXY_SEND_RESULT
        end
end
]]

-- 17.4.5
local READ_AUTH = [[
function read_auth( auth )
        print("    username      : " .. auth.username)
        print("    password      : " .. string.format("%q", auth.password))
end
]]

local READ_AUTH_REFUSES = [[
function read_auth( auth )
        proxy.response.type = proxy.MYSQLD_PACKET_ERR
        proxy.response.errmsg = "Logins are not allowed"
        return proxy.PROXY_SEND_RESULT
end
]]

-- 17.4.6
local READ_AUTH_RESULT = [[
function read_auth_result( auth )
        local state = auth.packet:byte()

        if state == proxy.MYSQLD_PACKET_OK then
                print("<-- auth ok");
        elseif state == proxy.MYSQLD_PACKET_ERR then
                print("<-- auth failed");
        else
                print("<-- auth ... don't know: " .. string.format("%q", auth.packet));
        end
end
]]

-- 17.4.7
local READ_QUERY = [[
function read_query( packet )
        if packet:byte() == proxy.COM_QUERY then
                print("we got a normal query: " .. packet:sub(2))
        end
end
]]

-- 17.4.8
local TIMES = [[
function read_query( packet )
        if packet:byte() == proxy.COM_QUERY then
                print("we got a normal query: " .. packet:sub(2))

                proxy.queries:append(1, packet )

                return proxy.PROXY_SEND_QUERY
        end
end

function read_query_result(inj)
        print("query-time: " .. (inj.query_time / 1000) .. "ms")
        print("response-time: " .. (inj.response_time / 1000) .. "ms")
end
]]

local ROWS = [[
function read_query( packet )
        proxy.queries:append(1, packet )
        return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
        for row in inj.resultset.rows do
                print("injected query returned: " .. row[1])
        end
end
]]

local INJECT = [[
function read_query( packet )
        if packet:byte() == proxy.COM_QUERY then
                proxy.queries:append(2, string.char(proxy.COM_QUERY) .. "SELECT NOW()" )
                proxy.queries:append(1, packet )
                proxy.queries:append(2, string.char(proxy.COM_QUERY) .. "SELECT NOW()" )

                return proxy.PROXY_SEND_QUERY
        end
end

function read_query_result(inj)
        if inj.id == 2 then
                for row in inj.resultset.rows do
                        print("injected query returned: " .. row[1])
                end
                return proxy.PROXY_IGNORE_RESULT
        else
                print("query-time: " .. (inj.query_time / 1000) .. "ms")
                print("response-time: " .. (inj.response_time / 1000) .. "ms")
        end
end
]]

-- 17.4.1: the original statement "into a sequence of queries" and with an EXPLAIN, both lost. To see the sequence, each
-- is printed when its result comes.
local SEQUENCE = [[
function read_query( packet )
        if packet:byte() == proxy.COM_QUERY then
                proxy.queries:append(2, string.char(proxy.COM_QUERY) .. "SELECT NOW()" )
                proxy.queries:append(1, packet )
                proxy.queries:append(3, string.char(proxy.COM_QUERY) .. "EXPLAIN " .. packet:sub(2) )
                return proxy.PROXY_SEND_QUERY
        end
end

function read_query_result(inj)
        print(inj.id .. ": " .. inj.query:sub(2))
        if inj.id ~= 1 then
                return proxy.PROXY_IGNORE_RESULT
        end
end
]]

-- 17.4.2: the version, "at least 0.5.1"; the queue's four methods; the attributes of connection and backends; a
-- constant "without qualification".
local STRUCTURES = [[
function read_query( packet )
        if packet:byte() ~= proxy.COM_QUERY then
                return
        end
        if proxy.PROXY_VERSION >= 0x00501 then
                print("version is at least 0.5.1")
        end
        proxy.queries:append(2, string.char(proxy.COM_QUERY) .. "SELECT 'never'" )
        print("in the queue: " .. proxy.queries:len())
        proxy.queries:reset()
        proxy.queries:append(1, packet )
        proxy.queries:prepend(2, string.char(proxy.COM_QUERY) .. "SELECT NOW()" )
        print("in the queue: " .. proxy.queries:len())

        local server = proxy.backends[proxy.connection["backend_ndx"] ]
        print("thread-id: " .. proxy.connection.thread_id)
        print("address: " .. server.address .. " is " .. proxy.servers[1].address)
        print("clients: " .. server.connected_clients)
        print("up: " .. tostring(server.state == proxy.BACKEND_STATE_UP))
        print("read/write: " .. tostring(server.type == proxy.BACKEND_TYPE_RW))
        return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
        print(inj.id .. ": " .. inj.query:sub(2))
        if inj.id == 2 then
                return PROXY_IGNORE_RESULT
        end
end
]]

for _, server in ipairs(servers.all()) do
  describe("the manual's sample, in front of " .. server.name, function()
    local proxy, client, expected_errors

    before_each(function()
      expected_errors = 0
    end)

    after_each(function()
      if client then
        client:close()
        client = nil
      end
      assert.equal(0, proxy:stop())
      assert.equal(expected_errors, select(2, proxy:log():gsub("%(critical%) %([a-z_]+%)", "")), proxy:log())
      assert.is_nil(proxy:log():find("error in a callback", 1, true))
    end)

    local function start(text, backends)
      proxy = scripted.start(backends or server, text)
    end

    local function login(user)
      client = scripted.client(proxy, user)
      return client
    end

    -- Waits until all of this has been printed, in this order, and nothing in between.
    local function prints(text)
      assert.truthy(process.wait_until(function()
        return proxy.process:stdout():find(text, 1, true)
      end, 10), ("%s\nis not in\n%s"):format(text, proxy.process:stdout()))
    end

    -- What it printed matches all of the pattern.
    local function printed(pattern)
      local found
      process.wait_until(function()
        found = { proxy.process:stdout():match("^" .. pattern .. "$") }
        return #found > 0
      end, 10)
      assert(#found > 0, ("%s\nis not\n%s"):format(pattern, proxy.process:stdout()))
      return unpack(found)
    end

    -- Logs in with the server's own client.
    local function mysql(user, password)
      local program, args = server:client()
      for _, list in ipairs {
        { "-N", "-B" }, server.clear_text, server:login(proxy.port, user, password), { "-e", "SELECT USER()" },
      } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      local code, output, errors = process.run(program, args)
      return code == 0 and output or errors
    end

    it("of connect_server chooses between two servers by the minute", function()
      local other = servers.start(server.flavour)
      finally(function()
        other:stop()
        uv.os_unsetenv("TZ")
      end)
      local now = os.date("!*t")
      for minute, choice in pairs { [20] = 2, [21] = 1 } do
        -- Where it is ten seconds past that minute now.
        local shift = (now.min - minute) * 60 + now.sec - 10
        local size = math.abs(shift)
        uv.os_setenv("TZ", ("XXX%s0:%d:%d"):format(shift < 0 and "-" or "+", math.floor(size / 60), size % 60))
        start(CONNECT_SERVER, { server, other })
        local chosen = choice == 1 and server or other
        assert.same({ { tostring(chosen.port) } }, login():ask("SELECT @@port").rows)
        prints(("--> a client really wants to talk to a server\nChoosing backend %d\nUsing 127.0.0.1:%d\n"):format(
          choice, chosen.port))
        client:close()
        if choice == 2 then
          proxy:stop()
        end
      end
    end)

    it("of read_handshake prints the handshake", function()
      start((READ_HANDSHAKE:gsub("ALLOWED", "127.0.0.1:")))
      local id = login():ask("SELECT CONNECTION_ID()").rows[1][1]
      local major, minor, patch = server.version:match("^(%d+)%.(%d+)%.(%d+)")
      if server.flavour == "mariadb" and tonumber(major) == 10 then
        major, minor, patch = 5, 5, 5 -- it greets with 5.5.5-10...
      end
      prints(table.concat({
        "<-- let's send him some information about us",
        ("    mysqld-version: %d"):format(major * 10000 + minor * 100 + patch),
        "    thread-id     : " .. id,
        "    scramble-buf  : " .. ("%q"):format(client.challenge.challenge),
        "    server-addr   : 127.0.0.1:" .. server.port,
        "    client-addr   : 127.0.0.1:" .. client.socket:getsockname().port,
      }, "\n") .. "\n")
      assert.is_nil(proxy.process:stdout():find("we don't like", 1, true))
    end)

    it("of read_handshake refuses other addresses", function()
      start((READ_HANDSHAKE:gsub("ALLOWED", "10.0.0.")))
      assert.equal("only local connects are allowed", login().refused.errmsg)
      assert.truthy(client:wait_for_end())
      prints("we don't like this client\n")
      assert.matches("only local connects are allowed", mysql())
    end)

    it("of read_auth prints who logs in", function()
      start(READ_AUTH)
      assert.same({ { "1" } }, login().refused or client:ask("SELECT 1").rows)
      prints('    username      : nopass\n    password      : ""\n')
      local account = server.account
      assert.matches("^" .. account.user .. "@", mysql(account.user, account.password))
      prints("    username      : " .. account.user .. "\n")
      local password = proxy.process:stdout():match("    password      : (.*)$", #'    password      : ""' * 2)
      assert.is_true(#password > 20)
      assert.is_nil(password:find(account.password, 1, true))
    end)

    it("of read_auth refuses logins", function()
      start(READ_AUTH_REFUSES)
      assert.same({ 1105, "Logins are not allowed" }, { login().refused.errcode, client.refused.errmsg })
      assert.truthy(client:wait_for_end())
    end)

    it("of read_auth_result says how the login went", function()
      start(READ_AUTH_RESULT)
      login():close()
      printed("<%-%- auth ok\n")
      assert.equal(1045, login("nobody").refused.errcode)
      prints("<-- auth failed\n")
      -- A plugin that needs more than one step.
      local user = server.flavour == "mariadb" and "ed" or "sha256"
      assert.matches("^" .. user .. "@", mysql(user, "secret"))
      prints('<-- auth ... don\'t know: "')
    end)

    it("of read_query prints queries", function()
      start(READ_QUERY)
      assert.same({ { "1" } }, login():ask("SELECT 1").rows)
      client:send("\14")
      assert.equal(0, client:packet():byte())
      assert.equal(1064, client:ask("SELECT FROM").errcode)
      printed("we got a normal query: SELECT 1\nwe got a normal query: SELECT FROM\n")
    end)

    it("of the times prints them", function()
      start(TIMES)
      assert.same({ { "0" } }, login():ask("SELECT SLEEP(0.1)").rows)
      local first, last = printed("we got a normal query: SELECT SLEEP%(0%.1%)\n"
        .. "query%-time: ([%d.]+)ms\nresponse%-time: ([%d.]+)ms\n")
      assert.is_true(tonumber(last) >= 100 and tonumber(first) <= tonumber(last))
    end)

    it("of the rows prints them, and they reach the client", function()
      start(ROWS)
      assert.same({ { "a", "b" }, { "c", "d" } }, login():ask("SELECT 'a', 'b' UNION SELECT 'c', 'd'").rows)
      printed("injected query returned: a\ninjected query returned: c\n")
      -- An answer without rows has no iterator: that is the script's mistake, and the client gets the answer.
      assert.equal(0, client:ask("DO 1").affected_rows)
      assert.truthy(proxy:wait_for_log("%(read_query_result%) [^\n]*:7: attempt to call a nil value"))
      expected_errors = 1
    end)

    it("of injected queries keeps their results from the client", function()
      start(INJECT)
      assert.same({ { "mine" } }, login():ask("SELECT 'mine'").rows)
      assert.equal(1146, client:ask("SELECT * FROM test.nowhere").errcode)
      local returned = "injected query returned: %d+%-%d+%-%d+ %d+:%d+:%d+\n"
      local times = "query%-time: [%d.]+ms\nresponse%-time: [%d.]+ms\n"
      printed((returned .. times .. returned):rep(2))
    end)

    it("of a sequence of queries sends it, and one result comes back", function()
      start(SEQUENCE)
      local sql = "SELECT 1 FROM (SELECT 1 AS City) AS City"
      assert.same({ { "1" } }, login():ask(sql).rows)
      printed("2: SELECT NOW%(%)\n1: SELECT 1 FROM [^\n]+\n3: EXPLAIN SELECT 1 FROM [^\n]+\n")
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
    end)

    it("of the structures finds them", function()
      start(STRUCTURES)
      local id = login():ask("SELECT CONNECTION_ID()").rows[1][1]
      local address = "127.0.0.1:" .. server.port
      prints(table.concat({
        "version is at least 0.5.1", "in the queue: 1", "in the queue: 2", "thread-id: " .. id,
        ("address: %s is %s"):format(address, address), "clients: 1", "up: true", "read/write: true",
        "2: SELECT NOW()", "1: SELECT CONNECTION_ID()",
      }, "\n") .. "\n")
    end)
  end)
end
