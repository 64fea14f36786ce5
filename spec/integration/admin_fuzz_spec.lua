-- The admin interface and the metrics get what nobody would send: each statement is answered in the protocol's words,
-- nothing says how the program looks inside, and nothing is left behind. Every round has a number, which names what was
-- sent in it. MYSQL_PROXY_FUZZ_SECONDS is for how long, MYSQL_PROXY_FUZZ_ROUND which round is the first.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local statements = require "spec.support.admin_statements"

local SECONDS = tonumber(os.getenv("MYSQL_PROXY_FUZZ_SECONDS"))
local FIRST = tonumber(os.getenv("MYSQL_PROXY_FUZZ_ROUND")) or 1
local NOWHERE = "127.0.0.1:1" -- of a backend that nobody asks for anything

-- Calls round(number, generator) so many times, or for as long as is asked for.
local function rounds(most, round)
  local deadline, number = uv.hrtime() + (SECONDS or 0) * 1e9, FIRST
  while SECONDS and uv.hrtime() < deadline or not SECONDS and number < FIRST + most do
    round(number, statements.new(number))
    number = number + 1
  end
end

describe("what nobody would send", function()
  local proxy, admin, descriptors, metrics_port
  local client -- of one case

  setup(function()
    metrics_port = process.free_port()
    proxy = proxies.start({ NOWHERE }, { "--log-level=critical", "--metrics-address=127.0.0.1:" .. metrics_port })
    admin = raw.connect(proxy.admin_port):login("operator")
    assert.truthy(admin:ask("SELECT * FROM backends").rows)
    descriptors = proxy:descriptors()
  end)

  teardown(function()
    admin:close()
    assert.equal(0, proxy:stop())
  end)

  after_each(function()
    client:close()
    if admin.ended then -- killed
      admin = raw.connect(proxy.admin_port):login("operator")
    end
    assert.truthy(process.wait_until(function()
      return admin:ask("SELECT COUNT(*) FROM sessions").rows[1][1] == "1" and proxy:descriptors() <= descriptors
    end, 20), "sessions or descriptors are left")
    assert.is_nil(proxy:log():match("The admin interface has failed[^\n]*") or proxy:log():match("%S+%.lua:%d+[^\n]*"))
    assert.equal("", proxy.process:stderr())
  end)

  -- An answer to a command: ERR, OK, or a result whose packets are in order and whose rows are as long as it says.
  local function check_answer(sql, what)
    local due = 1 + math.floor((1 + #sql) / (2 ^ 24 - 1)) -- behind those of the command
    local function next_packet()
      local payload, sequence = client:packet()
      assert(payload and sequence == due % 256, ("%s: %s"):format(what(),
        payload and "a packet out of order" or "no answer"))
      due = due + 1
      return payload
    end
    local first = next_packet()
    local kind = first:byte()
    if kind == 0xff then
      local err = proto.from_err_packet(first)
      assert(err.errcode >= 1000 and #err.sqlstate == 5 and not err.errmsg:find("%.lua:")
        and not err.errmsg:find("traceback") and not err.errmsg:find("has failed, see the log"),
        ("%s: error %d %s"):format(what(), err.errcode, err.errmsg))
      return err.errcode
    elseif kind == 0 then
      assert(pcall(proto.from_ok_packet, first), what())
      return 0
    end
    local columns = packet.from_lenenc_int(first, 1)
    for _ = 1, columns do
      assert(next_packet():find("^\3def"), what())
    end
    local payload = next_packet()
    assert(payload:byte() == 0xfe and #payload == 5, what())
    repeat
      payload = next_packet()
      local is_end, at, cells = payload:byte() == 0xfe and #payload < 9, 1, 0
      while not is_end and at <= #payload do
        if payload:byte(at) == 0xfb then
          at = at + 1
        else
          at = select(2, packet.from_lenenc_string(payload, at))
        end
        cells = cells + 1
      end
      assert(is_end or cells == columns, what())
    until is_end
    return 0
  end

  it("as a statement is answered", function()
    local answers = {}
    client = raw.connect(proxy.admin_port):login("operator")
    rounds(1500, function(number, generator)
      if client.ended then -- killed
        client = raw.connect(proxy.admin_port):login("operator")
      end
      local sql = generator:statement()
      client:send("\3" .. sql)
      local code = check_answer(sql, function()
        return ("round %d, %q"):format(number, sql)
      end)
      answers[code] = (answers[code] or 0) + 1
    end)
    assert.is_true(answers[0] > 100 and answers[1064] > 100, "the statements are not what they are meant to be")
  end)

  it("as a statement of a great length or depth is answered", function()
    client = raw.connect(proxy.admin_port):login("operator")
    for index, sql in ipairs(statements.monsters()) do
      client:send("\3" .. sql)
      check_answer(sql, function()
        return ("%d: %s"):format(index, sql:sub(1, 60))
      end)
    end
  end)

  it("as a statement that takes long does not hold up others", function()
    local pings = 0
    client = raw.connect(proxy.admin_port):login("operator")
    client:send(("\3SELECT COUNT(*) FROM variables WHERE Value NOT IN (%s)"):format(("'x',1,"):rep(2000) .. "1"))
    repeat
      admin:send("\14")
      assert.equal(0, (admin:packet():byte()))
      pings = pings + 1
    until client:rest() ~= ""
    assert.is_true(pings > 5, pings .. " times")
  end)

  -- A command and what belongs to it. Not COM_SHUTDOWN.
  local function payload_of(generator)
    local byte = generator:number(256) - 1
    if generator:number(3) > 1 then
      byte = generator:one { 0, 1, 2, 4, 5, 7, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 22, 23, 24, 25, 26, 27, 28, 31 }
    end
    local body = generator:number(2) == 1 and generator:bytes(40)
      or raw.statement_id(generator:number(5)) .. generator:bytes(20)
    if byte == 22 then
      body = generator:one { "SELECT ?, ?", "SELECT * FROM backends WHERE address = ?", "KILL ?", "SELECT 1 LIMIT ?",
        "INSERT INTO backends (address) VALUES (?)", generator:statement() }
    elseif byte == 17 then
      body = generator:damaged("operator\0\0proxy\0\45\0mysql_native_password\0")
    end
    return byte == 8 and "\14" or string.char(byte) .. body
  end

  it("as a command is answered, or ends the session", function()
    rounds(60, function(number, generator)
      client = raw.connect(proxy.admin_port):login("operator")
      for _ = 1, 20 do
        client:send(payload_of(generator), generator:number(50) == 1 and 1 or 0)
      end
      client:send("\14") -- COM_PING, for an answer that comes last
      client:send("\1")
      assert(client:wait_for_end(), ("round %d: the session goes on"):format(number))
      local bytes = client:rest()
      assert(not bytes:find(".lua:", 1, true) and not bytes:find("see the log", 1, true), ("round %d: %q"):format(
        number, bytes))
      client:close()
    end)
  end)

  it("as a login is answered, or ends the session", function()
    local login = proto.to_response_packet {
      capabilities = proto.capabilities.CLIENT_PROTOCOL_41 + proto.capabilities.CLIENT_SECURE_CONNECTION
        + proto.capabilities.CLIENT_PLUGIN_AUTH + proto.capabilities.CLIENT_CONNECT_WITH_DB
        + proto.capabilities.CLIENT_CONNECT_ATTRS,
      server_capabilities = 0xffffffff, max_packet_size = 2 ^ 24, charset = 45, username = "operator",
      database = "proxy", response = "", auth_plugin_name = "caching_sha2_password",
      attributes = { program_name = "x" },
    }
    rounds(200, function(number, generator)
      client = raw.connect(proxy.admin_port)
      assert(client:packet(), number)
      local way = generator:number(4)
      if way == 1 then
        client:write(generator:bytes(300))
      elseif way == 2 then
        client:write(generator:damaged(packet.frame(login, 1)))
      else
        client:send(generator:damaged(login), way == 3 and 1 or generator:number(256) - 1)
      end
      client:send(generator:bytes(30), 3)
      client.socket:shutdown()
      assert(client:wait_for_end(), ("round %d: the session goes on"):format(number))
      assert(not client:rest():find(".lua:", 1, true), client:rest())
      client:close()
    end)
  end)

  it("as a request for the metrics is answered with a status, or not at all", function()
    local request = "GET /metrics HTTP/1.1\r\nHost: localhost:9104\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    rounds(200, function(number, generator)
      client = raw.connect(metrics_port)
      client:write(generator:number(4) == 1 and generator:bytes(400) or generator:damaged(request))
      client.socket:shutdown()
      assert(client:wait_for_end(), ("round %d: it goes on"):format(number))
      local said = client:rest()
      assert(said == "" or said:find("^HTTP/1%.[01] %d%d%d ") and not said:find(".lua:", 1, true),
        ("round %d: %q"):format(number, said))
      client:close()
    end)
    client = raw.connect(metrics_port)
    client:write("GET /healthz HTTP/1.0\r\n\r\n")
    client:wait_for_end()
    assert.matches("^HTTP/1.1 200 ", client:rest())
  end)
end)
