local proto = require "mysql.proto"

local servers = require "spec.support.server"

local FOURTEEN = table.concat({
  "14", "hostname-bin.000024", "2143897", "127.0.0.1", "root", "123", "3306", "60", "0", "", "", "", "", "", "",
}, "\n")
local FIFTEEN = "15" .. FOURTEEN:sub(3) .. "1\n"

local function malformed(text)
  local ok, message = pcall(proto.from_masterinfo_string, text)
  assert.is_false(ok)
  assert.matches("malformed", message, 1, true)
end

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

describe("mysql.proto, master.info", function()
  it("is decoded", function()
    assert.same({
      master_lines = 14, master_log_file = "hostname-bin.000024", master_log_pos = 2143897, master_host = "127.0.0.1",
      master_user = "root", master_password = "123", master_port = 3306, master_connect_retry = 60, master_ssl = 0,
    }, proto.from_masterinfo_string(FOURTEEN))
  end)

  it("is decoded with its fifteenth line", function()
    local info = proto.from_masterinfo_string(FIFTEEN)
    assert.equal(15, info.master_lines)
    assert.equal(1, info.master_ssl_verify_server_cert)
  end)

  it("has each value in the line of its key", function()
    local info = proto.from_masterinfo_string("15\na\n1\nb\nc\nd\n2\n3\n4\ne\nf\ng\nh\ni\n5\n")
    assert.same({
      master_lines = 15, master_log_file = "a", master_log_pos = 1, master_host = "b", master_user = "c",
      master_password = "d", master_port = 2, master_connect_retry = 3, master_ssl = 4, master_ssl_ca = "e",
      master_ssl_capath = "f", master_ssl_cert = "g", master_ssl_cipher = "h", master_ssl_key = "i",
      master_ssl_verify_server_cert = 5,
    }, info)
  end)

  it("comes back byte for byte", function()
    for _, text in ipairs {
      FOURTEEN, FIFTEEN,
      "17" .. FIFTEEN:sub(3) .. "30.000\n\n", -- lines of later servers
      (FOURTEEN:gsub("2143897", "999999999999")),
    } do
      assert.equal(text, proto.to_masterinfo_string(proto.from_masterinfo_string(text)))
    end
  end)

  it("is made of what there is", function()
    assert.equal("15\n\n0\n\n\n\n0\n0\n0\n\n\n\n\n\n0\n", proto.to_masterinfo_string {})
    assert.equal("14\n\n4\nh\n\n\n3306\n0\n0\n\n\n\n\n\n", proto.to_masterinfo_string {
      master_lines = 14, master_log_pos = "4", master_host = "h", master_port = 3306,
      master_ssl_verify_server_cert = 1, unknown = {},
    })
  end)

  it("is made of values that are a line each", function()
    for key, message in pairs {
      master_host = ".master_host has to be one line", master_port = ".master_port has to be a number",
    } do
      assert.error_matches(function()
        proto.to_masterinfo_string { [key] = "a\nb" }
      end, message, nil, true)
    end
    assert.error_matches(function()
      proto.to_masterinfo_string { master_user = true }
    end, ".master_user has to be a string", nil, true)
    assert.error_matches(function()
      proto.to_masterinfo_string "14"
    end, "table expected", nil, true)
  end)

  it("is made of values that a metamethod gives, though nothing else keeps them", function()
    local info = setmetatable({}, { __index = function(_, key)
      collectgarbage()
      if key:find("host") or key == "further_lines" then
        return ("x"):rep(100) .. key
      end
    end })
    local text = proto.to_masterinfo_string(info)
    assert.equal(("x"):rep(100) .. "master_host", proto.from_masterinfo_string(text).master_host)
    assert.matches("x\n?further_lines$", text)
  end)

  it("is refused if it is cut, or no such file", function()
    for length = 0, #FOURTEEN - 1 do
      malformed(FOURTEEN:sub(1, length))
    end
    malformed(FIFTEEN:sub(1, -2))
    malformed("15" .. FOURTEEN:sub(3)) -- a line is missing
    malformed("13" .. FOURTEEN:sub(3))
    malformed("hostname-bin.000024\n4\n127.0.0.1\nroot\n123\n3306\n60\n") -- of a server before 4.1
    for _, number in ipairs { "", "x", "-1", "1.5", " 1", ("9"):rep(19) } do
      malformed((FOURTEEN:gsub("2143897", number)))
    end
    assert.error_matches(function()
      proto.from_masterinfo_string {}
    end, "string expected", nil, true)
  end)

  it("of a server is read", function()
    if servers.all()[1].flavour ~= "mariadb" then
      return pending("MySQL keeps it in a table")
    end
    local replica = servers.start("mariadb", { "--server-id=2" })
    finally(function()
      replica:stop()
    end)
    replica:sql [[
      CHANGE MASTER TO MASTER_HOST='db.example', MASTER_PORT=3307, MASTER_USER='repl', MASTER_PASSWORD='secret',
        MASTER_LOG_FILE='bin.000007', MASTER_LOG_POS=12345, MASTER_CONNECT_RETRY=11, MASTER_SSL=1, MASTER_USE_GTID=no,
        MASTER_SSL_CA='/ca.pem', MASTER_SSL_KEY='/key.pem', MASTER_SSL_VERIFY_SERVER_CERT=1;
    ]]
    local text = read_file(replica.datadir .. "/master.info")
    local info = proto.from_masterinfo_string(text)
    assert.equal("db.example", info.master_host)
    assert.equal(3307, info.master_port)
    assert.equal("repl", info.master_user)
    assert.equal("secret", info.master_password)
    assert.equal("bin.000007", info.master_log_file)
    assert.equal(12345, info.master_log_pos)
    assert.equal(11, info.master_connect_retry)
    assert.equal(1, info.master_ssl)
    assert.equal("/ca.pem", info.master_ssl_ca)
    assert.is_nil(info.master_ssl_capath)
    assert.equal("/key.pem", info.master_ssl_key)
    assert.equal(1, info.master_ssl_verify_server_cert)
    assert.equal(text, proto.to_masterinfo_string(info))
  end)
end)
