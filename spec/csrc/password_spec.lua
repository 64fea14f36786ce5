local password = require "mysql.password"
local proto = require "mysql.proto"

local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local FLAGS = proto.capabilities

local function hex(bytes)
  return (bytes:gsub(".", function(char)
    return ("%02x"):format(char:byte())
  end))
end

local function bytes(text)
  return (text:gsub("%X", ""):gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

local challenge = "01234567890123456789"

describe("mysql.password", function()
  it("is also a global after it has been required", function()
    assert.equal(password, rawget(_G, "password"))
  end)

  it("hashes with SHA1, SHA256 and MD5", function() -- the standards' test vectors
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", hex(password.hash("abc")))
    assert.equal("da39a3ee5e6b4b0d3255bfef95601890afd80709", hex(password.hash("")))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", hex(password.sha256("abc")))
    assert.equal("900150983cd24fb0d6963f7d28e17f72", hex(password.md5("abc")))
    assert.equal(20, #password.hash(("\0"):rep(100000)))
  end)

  for name, plugin in pairs {
    mysql_native_password = {
      length = 20, hash = password.hash, scramble = password.scramble, check = password.check,
    },
    caching_sha2_password = {
      length = 32, hash = password.sha256, scramble = password.sha256_scramble, check = password.sha256_check,
    },
  } do
    describe("for " .. name, function()
      local hashed = plugin.hash("secret")
      local stored = plugin.hash(hashed)
      local response = plugin.scramble(challenge, hashed)

      it("scrambles a password so that who knows the stored hash can check it", function()
        assert.equal(plugin.length, #response)
        assert.is_true(plugin.check(challenge, response, stored))
      end)

      it("finds out what is wrong", function()
        assert.is_false(plugin.check(challenge, plugin.scramble(challenge, plugin.hash("Secret")), stored))
        assert.is_false(plugin.check("x" .. challenge:sub(2), response, stored))
        assert.is_false(plugin.check(challenge, response, plugin.hash(stored)))
        for at = 1, #response do
          local changed = response:sub(1, at - 1) .. string.char((response:byte(at) + 1) % 256) .. response:sub(at + 1)
          assert.is_false(plugin.check(challenge, changed, stored))
        end
      end)

      it("takes a challenge with a NUL at its end, which does not count", function()
        assert.equal(response, plugin.scramble(challenge .. "\0", hashed))
        assert.is_true(plugin.check(challenge .. "\0", response, stored))
        assert.not_equal(response, plugin.scramble(challenge .. "\1", hashed))
        local nul_inside = challenge:sub(1, 19) .. "\0"
        assert.not_equal(plugin.scramble(challenge:sub(1, 19), hashed), plugin.scramble(nul_inside, hashed))
      end)

      it("takes an answer of another plugin, or none, for a wrong one", function()
        for _, other in ipairs { "", "x", response .. "x", response:sub(2), ("x"):rep(256) } do
          assert.is_false(plugin.check(challenge, other, stored))
        end
      end)

      it("takes hashes of its length", function()
        for _, wrong in ipairs { "", "secret", stored .. "x" } do
          assert.error_matches(function()
            plugin.scramble(challenge, wrong)
          end, plugin.length .. " bytes expected", nil, true)
          assert.error_matches(function()
            plugin.check(challenge, response, wrong)
          end, plugin.length .. " bytes expected", nil, true)
        end
      end)
    end)
  end

  it("unscrambles the single hash out of a right answer", function()
    local hashed = password.hash("secret")
    local response = password.scramble(challenge, hashed)
    assert.equal(hashed, password.unscramble(challenge, response, password.hash(hashed)))
    assert.equal(hashed, password.unscramble(challenge .. "\0", response, password.hash(hashed)))
    assert.not_equal(hashed, password.unscramble(challenge, response, password.hash("other")))
    assert.error_matches(function()
      password.unscramble(challenge, "", password.hash(hashed))
    end, "20 bytes expected", nil, true)
  end)

  it("computes what others compute", function()
    -- Made with Python's hashlib.
    local native = "7abe1a8776b59e931059451f81e596a60dbbf7a8"
    local caching = "1a2da2573c2faa367e2afddb54cdfd11a95ed22eef0167151196a6fc8e3d3813"
    assert.equal(native, hex(password.scramble(challenge, password.hash("secret"))))
    assert.equal(caching, hex(password.sha256_scramble(challenge, password.sha256("secret"))))
    assert.is_true(password.check(challenge, bytes(native), bytes "14e65567abdb5135d0cfd9a70b3032c179a49ee7"))
  end)

  it("takes strings only", function()
    for _, name in ipairs { "hash", "sha256", "md5" } do
      assert.error_matches(password[name], "string expected, got no value")
      assert.is_false(pcall(password[name], {}))
    end
    for _, name in ipairs { "scramble", "sha256_scramble" } do
      assert.is_false(pcall(password[name], challenge))
      assert.is_false(pcall(password[name], nil, ("x"):rep(20)))
    end
    for _, name in ipairs { "unscramble", "check", "sha256_check" } do
      local ok, message = pcall(password[name], challenge, nil, ("x"):rep(20))
      assert.is_false(ok)
      assert.matches("string expected, got nil", message, 1, true)
      assert.is_false(pcall(password[name], challenge, ("x"):rep(20)))
      assert.is_false(pcall(password[name], {}, ("x"):rep(20), ("x"):rep(20)))
    end
  end)

  -- Logs in by hand. Returns what the server answers to the response.
  local function log_in(server, user, plugin, scramble)
    local client = raw.connect(server.port)
    local greeting = proto.from_challenge_packet((client:packet()))
    client:send(proto.to_response_packet {
      capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH,
      server_capabilities = greeting.capabilities, max_packet_size = 2 ^ 24, charset = 8,
      username = user, auth_plugin_name = plugin, response = scramble(greeting.challenge),
    }, 1)
    local answer = client:packet()
    client:close()
    return answer, greeting.challenge
  end

  for _, server in ipairs(servers.all()) do
    if server.flavour == "mariadb" then
      it("logs in to " .. server.name, function()
        local response
        local function answer_with(text)
          return log_in(server, "native", "mysql_native_password", function(from_server)
            assert.equal(21, #from_server)
            response = password.scramble(from_server, password.hash(text))
            return response
          end)
        end
        local answer, from_server = answer_with("secret")
        assert.equal(0, answer:byte())
        local stored = server:sql("SELECT PASSWORD('secret')"):match("^%*(%x+)")
        assert.equal(stored:lower(), hex(password.hash(password.hash("secret"))))
        assert.is_true(password.check(from_server, response, bytes(stored)))
        assert.equal(1045, proto.from_err_packet((answer_with("Secret"))).errcode)
      end)
    else
      it("logs in to " .. server.name, function()
        server:sql("SELECT 1") -- after a login with the password itself, the server has its hash
        local function answer_with(text)
          return (log_in(server, server.user, "caching_sha2_password", function(from_server)
            return password.sha256_scramble(from_server, password.sha256(text))
          end))
        end
        assert.equal("\1\3", answer_with(server.password)) -- AuthMoreData: fast_auth_success
        assert.equal("\1\4", answer_with("wrong")) -- perform_full_authentication
      end)
    end
  end
end)
