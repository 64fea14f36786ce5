-- read_query and read_query_result: what a script can do with commands and their answers.

local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

for _, server in ipairs(servers.all()) do
  describe("a script in front of " .. server.name, function()
    local proxy

    after_each(function()
      if proxy then
        assert.equal(0, proxy:stop())
        assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
        proxy = nil
      end
    end)

    local function start(text, options)
      proxy = scripted.start(server, text, options)
      return proxy
    end

    local function login(user)
      return scripted.client(proxy, user)
    end

    local function asks(sql)
      local client = login()
      local answer = client:ask(sql)
      client:close()
      return answer
    end

    describe("read_query", function()
      it("sees every command, and what it does not touch goes on", function()
        start [[
          kinds = {}
          function read_query(packet)
            if packet == "\3REPORT" then
              proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat(kinds, " ") }
              return proxy.PROXY_SEND_RESULT
            end
            kinds[#kinds + 1] = packet:byte() .. ":" .. packet:sub(2)
          end]]
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        client:send("\14")
        assert.equal(0, client:packet():byte())
        client:send("\2test")
        assert.equal(0, client:packet():byte())
        for _, text in ipairs { "SHOW ERRORS", "select @@error_count", "LOAD DATA" } do -- which it did not see once
          client:ask(text)
        end
        assert.equal("3:SELECT 1 14: 2:test 3:SHOW ERRORS 3:select @@error_count 3:LOAD DATA",
          client:ask("REPORT").errmsg)
        client:close()
      end)

      it("answers by itself: OK, ERR, rows, raw packets", function()
        start [[
          local answers = {
            ok = { type = proxy.MYSQLD_PACKET_OK, affected_rows = 2, insert_id = "10" },
            err = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "I'm a error" },
            coded = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "x", errcode = "3306", sqlstate = "xyz12" },
            nothing = { type = proxy.MYSQLD_PACKET_ERR },
            unknown = { type = 17 },
            rows = { type = proxy.MYSQLD_PACKET_OK, resultset = {
              fields = { { name = "a" }, { name = "b" }, { name = "c" } },
              rows = { { "1", nil, 1.5 }, { 3, true, ("x"):rep(300) } },
            } },
            broken = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = { { name = "a" }, "b" }, rows = {} } },
            raw = { type = proxy.MYSQLD_PACKET_RAW, packets = { "\255\16\39#99999raw" } },
          }
          function read_query(packet)
            proxy.response = answers[packet:sub(2)]
            return proxy.response and "2"
          end]]
        local client = login()
        local function ask(name, ...)
          local answer, said = client:ask(name), {}
          for _, key in ipairs { ... } do
            said[#said + 1] = answer[key]
          end
          return said
        end
        assert.same({ 2, 10 }, ask("ok", "affected_rows", "insert_id"))
        assert.same({ 1105, "07000", "I'm a error" }, ask("err", "errcode", "sqlstate", "errmsg"))
        assert.same({ 3306, "xyz12", "x" }, ask("coded", "errcode", "sqlstate", "errmsg"))
        assert.same({ 1105, "07000", "(lua) proxy.response.errmsg is nil" },
          ask("nothing", "errcode", "sqlstate", "errmsg"))
        assert.same({ "(lua) handling proxy.response failed, check error-log" }, ask("unknown", "errmsg"))
        assert.same({ "(lua) handling proxy.response failed, check error-log" }, ask("broken", "errmsg"))
        assert.same({ { { "1", [3] = "1.5" }, { "3", [3] = ("x"):rep(300) } } }, ask("rows", "rows"))
        assert.same({ 10000, "99999", "raw" }, ask("raw", "errcode", "sqlstate", "errmsg"))
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        client:close()
      end)

      it("rewrites, and is called with --proxy-skip-profiling too, as is read_query_result, with its times", function()
        start([[
          function read_query(packet)
            proxy.queries:append(1, (packet:gsub("eins", "SLEEP(0.05)")))
            return proxy.PROXY_SEND_QUERY
          end
          function read_query_result(inj) print(inj.query_time > 0 and inj.response_time >= 50000) end]],
          { "--proxy-skip-profiling" })
        assert.same({ { "0" } }, asks("SELECT eins").rows)
        assert.equal("true\n", proxy.process:stdout())
      end)

      it("that is confused about its queue is told so, and the command goes on", function()
        start [[function read_query(packet)
          if packet:find("append") then proxy.queries:append(1, "\3SELECT 99") return end
          if packet:find("forget") then return proxy.PROXY_SEND_QUERY end
          if packet:find("fail") then proxy.queries:append(1, "\3SELECT 99") error("oops") end
          if packet:find("empty") then proxy.queries:append(1, "") return proxy.PROXY_SEND_QUERY end
          return 99 end]]
        for _, word in ipairs { "append", "forget", "fail", "empty", "99" } do
          assert.same({ { word } }, asks("SELECT '" .. word .. "'").rows)
        end
        assert.truthy(proxy:wait_for_log("%(critical%) [^\n]*: proxy%.queue:append%(%) or :prepend%(%) used without "
          .. "'return proxy%.PROXY_SEND_QUERY'%. Discarding 1 elements from the queue%."))
        assert.truthy(proxy:log():find("%(critical%) [^\n]*: 'return proxy%.PROXY_SEND_QUERY' used without "
          .. "proxy%.queue:append%(%) or :prepend%(%)%. Assuming 'nil' was returned\n"))
        assert.truthy(proxy:log():find("%(read_query%) %[string.-%]:4: oops"))
        assert.truthy(proxy:log():find("%(read_query%) %[string.-%]:5: bad argument #2 to 'append' %(a command of"))
      end)

      it("passes commands and answers of more than 16 MiB", function()
        start [[function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet)
          return proxy.PROXY_SEND_QUERY end]]
        local client = login()
        client:ask("SET SESSION max_allowed_packet = 1073741824")
        local answer = client:ask("SELECT LENGTH('" .. ("x"):rep(17000000) .. "')")
        assert.same({ { "17000000" } }, answer.rows)
        assert.equal(17000000, #client:ask("SELECT REPEAT('y', 17000000)").rows[1][1])
        client:close()
      end)
    end)

    describe("read_query_result", function()
      local PROBE = [[
        function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet, { resultset_is_needed = true })
          proxy.queries:append(7, "\3SELECT 42")
          return proxy.PROXY_SEND_QUERY
        end
      ]]

      it("hides what the client did not ask for", function()
        start(PROBE .. [[
          function read_query_result(inj)
            if inj.id == 7 then
              for row in inj.resultset.rows do assert(row[1] == "42" and inj.query == "\3SELECT 42") end
              assert(inj.query_time >= 0 and inj.response_time >= inj.query_time)
              return proxy.PROXY_IGNORE_RESULT
            end
          end]])
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        assert.equal(1146, client:ask("SELECT * FROM test.nowhere").errcode)
        assert.same({ { "2" } }, client:ask("SELECT 2").rows)
        assert.is_nil(proxy:log():match("%(read_query_result%)[^\n]*"))
        client:close()
      end)

      it("replaces", function()
        start(PROBE .. [[
          function read_query_result(inj)
            proxy.response = { type = proxy.MYSQLD_PACKET_OK }
            proxy.response.resultset = { fields = { { name = "id" } }, rows = { { inj.id } } }
            return inj.id == 1 and proxy.PROXY_IGNORE_RESULT or proxy.PROXY_SEND_RESULT
          end]])
        assert.same({ { "7" } }, asks("SELECT 1").rows)
      end)

      it("that lets two pass gets one through", function()
        start(PROBE)
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        assert.same({ { "2" } }, client:ask("SELECT 2").rows)
        assert.truthy(proxy:wait_for_log("got asked to send a resultset, but ignoring it as we already have sent 1 "
          .. "resultset%(s%)%. injection%-id: 7"))
        client:close()
      end)

      it("that lets none pass leaves the client an error", function()
        start(PROBE .. "function read_query_result() return proxy.PROXY_IGNORE_RESULT end")
        local client = login()
        assert.same({ 1105, "07000" }, { client:ask("SELECT 1").errcode, client:ask("SELECT 1").sqlstate })
        client:close()
      end)

      it("that fails lets the answer pass", function()
        start(PROBE .. "function read_query_result(inj) if inj.id == 1 then error('oops') end "
          .. "return proxy.PROXY_IGNORE_RESULT end")
        assert.same({ { "1" } }, asks("SELECT 1").rows)
        assert.truthy(proxy:wait_for_log("%(read_query_result%) %[string.-%]:%d+: oops"))
      end)

      it("may add to the queue, in front and behind, and empty it", function()
        start [[
          local order = {}
          function read_query(packet)
            proxy.queries:append(1, "\3SELECT 1")
            proxy.queries:append(2, "\3SELECT 2")
            assert(#proxy.queries == 2 and proxy.queries:len() == 2)
            return proxy.PROXY_SEND_QUERY
          end
          function read_query_result(inj)
            order[#order + 1] = inj.id
            if inj.id == 1 then
              proxy.queries:prepend(3, "\3SELECT 3", { resultset_is_needed = true })
              proxy.queries:append(4, "\3SELECT 4")
              assert(#proxy.queries == 3)
            elseif inj.id == 4 then
              proxy.queries:append(5, "\3SELECT 5")
            elseif inj.id == 5 then
              proxy.queries:append(6, "\3SELECT 6")
              proxy.queries:reset()
              proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat(order, " ") }
              return proxy.PROXY_SEND_RESULT
            end
            return proxy.PROXY_IGNORE_RESULT
          end]]
        assert.equal("1 3 2 4 5", asks("x").errmsg)
      end)

      it("of an answer that was not kept can count it, and not change it", function()
        start [[
          function read_query(packet)
            if packet:byte() ~= proxy.COM_QUERY then return end
            proxy.queries:append(1, packet, { resultset_is_needed = false })
            return proxy.PROXY_SEND_QUERY
          end
          function read_query_result(inj)
            local r = inj.resultset
            print("counted", r.row_count, r.bytes, r.affected_rows, r.query_status)
            print(pcall(function() return r.fields end))
            return proxy.PROXY_IGNORE_RESULT
          end]]
        assert.same({ { "1" } }, asks("SELECT 1").rows)
        assert.truthy(proxy:wait_for_log("tries to modify the resultset, but hasn't asked to buffer it"))
        local printed = proxy.process:stdout()
        assert.truthy(printed:find("counted\t1\t6\tnil\t0", 1, true), printed)
        assert.truthy(printed:find(".resultset.fields isn't available if 'resultset_is_needed ~= true'", 1, true),
          printed)
      end)
    end)

    it("a second answer that is not to be kept ends the connection, after the first", function()
      start [[function read_query(packet)
        if packet:byte() ~= proxy.COM_QUERY then return end
        proxy.queries:append(1, packet)
        proxy.queries:append(2, packet, { resultset_is_needed = false })
        return proxy.PROXY_SEND_QUERY end]]
      local client = login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.truthy(client:wait_for_end())
      assert.truthy(proxy:wait_for_log("%(critical%) [^\n]*" .. ("proxy.queries:append() in %s can only have one "
        .. "injected query without { resultset_is_needed = true } set. We close the client connection now."):format(
        proxy.script):gsub("%p", "%%%0")))
    end)
  end)
end
