local check_script = require "mysql-proxy.check_script"

describe("mysql-proxy.check_script", function()
  local path

  before_each(function()
    path = os.tmpname()
  end)

  after_each(function()
    os.remove(path)
  end)

  local function check(text)
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    local report, message = check_script.check(path)
    return report and report:gsub(path:gsub("%p", "%%%0"), "FILE") or nil, message
  end

  it("lists hooks", function()
    assert.equal("FILE: hooks read_query, read_query_result\n", check [[
      -- disconnect_client = nil
      local t = { read_auth = 1 }
      function read_query(packet)
        local x = packet
        proxy.queries:append(1, x, { resultset_is_needed = true })
        t.y, proxy.response = x, { type = proxy.MYSQLD_PACKET_OK }
        return proxy.PROXY_SEND_QUERY
      end
      read_query_result = function(inj) for row in inj.resultset.rows do x = row end end]])
    assert.matches("no hooks of its own", (check "require('rw-splitting')"))
  end)

  it("warns of names of proxy that do not exist, and of globals", function()
    assert.equal(table.concat({
      "FILE: hooks read_query", "FILE:2: warning: assigns to the global 'count'",
      "FILE:3: warning: proxy.PROXY_SEND_QUERRY does not exist",
      "FILE:4: warning: proxy.connection.clients does not exist",
      "FILE:6: warning: assigns to the global 'helper'", "",
    }, "\n"), check [=[
function read_query(packet)
  count = 1 -- [[ proxy.nothing
  if packet == "proxy.nothing" then return proxy.PROXY_SEND_QUERRY end
  print(proxy.connection.clients, proxy.global.config.rwsplit)
end
function helper() end]=])
  end)

  it("warns of names of inj and of either side of the connection, and of each global of several", function()
    assert.equal(table.concat({
      "FILE: hooks read_query_result",
      "FILE:2: warning: inj.qery does not exist",
      "FILE:2: warning: inj.resultset.flags.in_tran does not exist",
      "FILE:3: warning: proxy.connection.client.user does not exist",
      "FILE:3: warning: proxy.connection.server.dst.ip does not exist",
      "FILE:4: warning: assigns to the global 'a'",
      "FILE:4: warning: assigns to the global 'b'",
      "",
    }, "\n"), check [=[
function read_query_result(inj)
  print(inj.qery, inj.query:sub(2), inj.resultset.flags.in_tran, inj.resultset.fields[1].name)
  local c = proxy.connection.client.user .. proxy.connection.server.dst.ip .. proxy.connection.client.address:sub(1)
  a, b = c, { d = c, e = 1 }
  if c == a then return f(c, a == b) end
end]=])
  end)

  it("looks at an empty file, a file that is no text, and a folder", function()
    assert.matches("no hooks of its own", (check ""))
    local report, message = check "\127ELF\2\1\1\0\0"
    assert.is_nil(report)
    assert.matches(":1: unexpected symbol", message, 1, true)
    report, message = check_script.check("/tmp")
    assert.is_nil(report)
    assert.matches("/tmp cannot be read", message, 1, true)
  end)

  it("says why a script does not compile, or cannot be read", function()
    local report, message = check "function read_query( end"
    assert.is_nil(report)
    assert.matches(":1: ", message, 1, true)
    report, message = check_script.check("/nowhere.lua")
    assert.is_nil(report)
    assert.matches("No such file", message)
  end)

  it("finds nothing wrong with the examples", function()
    local uv = require "luv"
    local count, scan = 0, assert(uv.fs_scandir("examples"))
    for name in function() return uv.fs_scandir_next(scan) end do
      if name:find("%.lua$") then
        assert.is_nil(assert(check_script.check("examples/" .. name)):match("[^\n]*: warning:[^\n]*"))
        count = count + 1
      end
    end
    assert.is_true(count >= 14)
  end)
end)
