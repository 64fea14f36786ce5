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
      read_query_result = function(inj) for row in inj.resultset.rows do print(row) end end]])
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

  it("lists no hook that is local, and warns of it", function()
    assert.equal(table.concat({
      "FILE: hooks read_query, disconnect_client",
      "FILE:3: warning: read_auth is local: it is never called",
      "FILE:5: warning: read_query_result is local: it is never called", "",
    }, "\n"), (check [=[
local function helper(packet, disconnect_client)
  disconnect_client = packet
  local function read_auth() end
end
local read_query_result = function(inj) end
do local read_query, connect_server end
function read_query() if proxy then local read_query = 1 read_query = 2 end end
disconnect_client = helper
local function read_handshake() end
getfenv(1).read_handshake = read_handshake]=]))
  end)

  it("does not warn of a local hook that is put somewhere else", function()
    for _, use in ipairs {
      "setfenv(1, { read_query = read_query })", 'rawset(getfenv(1), "read_query", read_query)',
      'local hooks = getfenv(1) hooks["read_query"] = read_query', "return { read_query }",
    } do
      assert.not_matches("warning", check("local function read_query(packet) end\n" .. use))
    end
    for _, text in ipairs {
      "local read_query = function(packet) end", "local read_auth, read_query function read_query(packet) end",
      "local function read_query(packet) end local function helper(inj, read_query) end",
      "local function read_query(packet) end for i, read_query in pairs({}) do end",
    } do
      assert.matches("1: warning: read_query is local", check(text))
    end
  end)

  it("takes no name for a local's that stands behind it without a comma", function()
    assert.equal("FILE: hooks read_query\nFILE:4: warning: assigns to the global 'total'\n", (check [=[
local count
read_query = function(packet) count = packet end
local one, two
total = 1]=]))
  end)

  it("knows where a local ends", function()
    assert.equal("FILE: hooks read_query\n", (check [=[
function read_query(packet)
  local list, count = {}, 0
  for i, each in pairs(list) do i = each repeat local x = i x = x + 1 until x > 3 end
  for i = 1, (function(n) do n = n + 1 end return n end)(2) do i = i + 1 end
  while (function(w) w = w + 1 return w end)(1) < 1 do local w = 1 w = w + 1 end
  while (function() end)() do end count = 1
  if count then local a = 1 a = 2 elseif list then local b = 1 b = 2 else local c = 1 c = 2 end
  function list:method(...) self, count = {}, ... end
  return { f = function(x) x, count = 1, { x = 1 } end }
end]=]))
    local names = {}
    for name in check([=[
function read_query(packet)
  for i = 1, 2 do local a = i end
  i = 1
  if packet then local b = 1 else b = 2 end
  local t = { f = function(c) d = { e = 1 } end }
  while (function() local f end)() do local g end f, g = 1, 2
  c = 1
end
packet = 1]=]):gmatch("the global '(%w+)'") do
      names[#names + 1] = name
    end
    assert.same({ "i", "b", "d", "f", "g", "c", "packet" }, names)
  end)

  it("looks at an index that is a string too", function()
    assert.equal("FILE: no hooks of its own (modules that it requires may have some)\n"
      .. "FILE:1: warning: proxy.PROXY_SEND_RESLT does not exist\n"
      .. "FILE:1: warning: proxy.connection.clients does not exist\n", (check [=[
print(proxy["PROXY_SEND_RESLT"], proxy['PROXY_SEND_RESULT'], proxy["connection"].clients, proxy[x], proxy["a" .. x])
proxy["own"] = 1 proxy.queries["a-b"] = 1]=]))
  end)

  it("looks at an empty file, a file that is no text, and a folder", function()
    assert.matches("no hooks of its own", (check ""))
    local report, message = check "\127ELF\2\1\1\0\0"
    assert.is_nil(report)
    assert.matches(":1: unexpected symbol", message, 1, true)
    report, message = check_script.check("/tmp")
    assert.is_nil(report)
    assert.equal("/tmp is no regular file (directory)", message)
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
