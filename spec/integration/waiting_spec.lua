-- What may go wrong around a hook that waits: the other sessions, and the next hooks of its own, do not notice.

local uv = require "luv"

local process = require "spec.support.process"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local server = servers.all()[1]

describe("a script that waits", function()
  local proxy, clients

  before_each(function()
    clients = {}
  end)

  after_each(function()
    for _, client in ipairs(clients) do
      client:close()
    end
    assert.equal(0, proxy:stop())
  end)

  local function start(text)
    proxy = scripted.start(server, text)
  end

  local function login()
    local client = scripted.client(proxy)
    clients[#clients + 1] = client
    return client
  end

  it("may fail in a callback of luv: it is logged, and everybody goes on", function()
    start [[
      local uv = require "luv"
      function read_query(packet)
        if packet:find("fails") then
          proxy.async.await(function(resume)
            local timer = uv.new_timer()
            timer:start(1, 0, function()
              timer:close()
              resume()
              error("oops")
            end)
          end)
        end
      end]]
    local client, other = login(), login()
    assert.same({ { "fails" } }, client:ask("SELECT 'fails'").rows)
    assert.same({ { "1" } }, other:ask("SELECT 1").rows)
    assert.truthy(proxy:wait_for_log("%(critical%) error in a callback\n\t[^\n]*:9: oops"), proxy:log())
  end)

  it("where it cannot does not wake its next hook", function()
    start [[
      function read_query(packet)
        if packet:find("sorts") then
          table.sort({ 1, 2 }, function() proxy.async.sleep(100) end)
        elseif packet:find("sleeps") then
          proxy.async.sleep(300)
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "awake" }
          return proxy.PROXY_SEND_RESULT
        end
      end]]
    local client = login()
    assert.same({ { "sorts" } }, client:ask("SELECT 'sorts'").rows)
    local began = uv.hrtime()
    assert.equal("awake", client:ask("SELECT 'sleeps'").errmsg)
    assert.is_true(uv.hrtime() - began >= 290e6)
    assert.is_nil(proxy:log():find("attempt to index", 1, true), proxy:log())
  end)

  it("keeps nothing of that when it is done", function()
    start [[
      _G.coroutines = _G.coroutines or setmetatable({}, { __mode = "k" })
      function read_query(packet)
        if packet:find("waits") then
          coroutines[coroutine.running()] = true
          proxy.async.sleep(1)
        elseif packet:find("counts") then
          collectgarbage()
          collectgarbage()
          local count = 0
          for _ in pairs(coroutines) do count = count + 1 end
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = count .. " left" }
          return proxy.PROXY_SEND_RESULT
        end
      end]]
    for index = 1, 3 do
      assert.same({ { "waits" } }, login():ask("SELECT 'waits'").rows, index)
    end
    assert.equal("0 left", login():ask("SELECT 'counts'").errmsg)
  end)

  it("with a clean-up that fails ends with its client all the same", function()
    start [[
      function read_query(packet)
        if packet:find("waits") then
          proxy.async.await(function()
            return function() error("no clean-up") end
          end)
        elseif packet:find("clients") then
          local count = proxy.backends[1].connected_clients
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = count .. " clients" }
          return proxy.PROXY_SEND_RESULT
        end
      end
      function disconnect_client() print("left") end]]
    local client, other = login(), login()
    client:send("\3SELECT 'waits'")
    assert.equal("2 clients", other:ask("clients").errmsg)
    client:close()
    assert.truthy(process.wait_until(function()
      return proxy.process:stdout() == "left\n"
    end, 5), proxy:log())
    assert.equal("1 clients", other:ask("clients").errmsg)
    assert.truthy(proxy:wait_for_log("no clean%-up"))
  end)

  it("for a program whose child keeps its output open can be left", function()
    local lasts = process.write_file(process.path("lasts"), "")
    finally(function()
      os.remove(lasts)
    end)
    start(([[
      function read_query(packet)
        if packet:find("spawns") then
          proxy.async.spawn("sh", { "-c", "while test -e %s; do sleep 0.05; done & echo started" })
        end
      end]]):format(lasts))
    local other = login()
    assert.same({ { "1" } }, other:ask("SELECT 1").rows)
    local before = proxy:descriptors()
    local client = login()
    client:send("\3SELECT 'spawns'")
    assert.truthy(process.wait_until(function()
      return proxy:descriptors() > before + 2
    end, 5))
    assert.truthy(process.wait_until(function() -- the program itself has ended
      return process.read_file(("/proc/%d/task/%d/children"):format(proxy.pid, proxy.pid)) == ""
    end, 5))
    client:close()
    assert.truthy(process.wait_until(function()
      return proxy:descriptors() <= before
    end, 5), proxy:descriptors() .. " descriptors, before " .. before)
    assert.same({ { "1" } }, other:ask("SELECT 1").rows)
  end)
end)
