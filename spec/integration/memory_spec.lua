-- What passes through the proxy leaves nothing in it, and does not pile up on the way.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw_client = require "spec.support.raw_client"
local servers = require "spec.support.server"

local usage = require "spec.bench.usage"

local USER = "memory"
local ROWS, ROW_LENGTH = 1024, 1024 * 1024
-- MySQL's REPEAT() of a column keeps no result: each row is made when it is sent.
local GIGABYTE = ([[
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %d)
SELECT REPEAT('x', %d) FROM numbers]]):format(ROWS, ROW_LENGTH)
local GIGABYTE_LIMIT_KB = 4096

local CLIENTS, WARM_UP, AT_ONCE = 10000, 3000, 50
local LEFT_LIMIT_KB = 512

-- Ways to leave: what a client does at each event. The last one closes what the earlier ones have begun.
local function on_greeting(client)
  client:login(USER)
end

local function leave(how)
  return function(client)
    client:close(how)
  end
end

local function query(sql)
  return function(client)
    client:query(sql)
  end
end

local function send(bytes, how)
  return function(client)
    client:send(bytes)
    client:close(how)
  end
end

local half_login = raw_client.login_packet(USER):sub(1, 20)
local half_query = raw_client.query_packet("SELECT 1"):sub(1, 7)
local LARGE = "SELECT REPEAT('x', 10000000)"

local ways = {
  { greeting = on_greeting, ready = query "SELECT 1", answer = function(client) client:quit() end },
  { connected = leave() },
  { connected = leave "reset" },
  { greeting = leave() },
  { greeting = send(half_login) },
  { greeting = send(raw_client.login_packet(USER)) },
  { greeting = send(raw_client.login_packet(USER), "reset") },
  { greeting = on_greeting, ready = leave() },
  { greeting = on_greeting, ready = leave "reset" },
  { greeting = on_greeting, ready = send(half_query) },
  { greeting = on_greeting, ready = send(raw_client.query_packet("SELECT 1")) },
  { greeting = on_greeting, ready = send(raw_client.query_packet("SELECT SLEEP(0.02)"), "reset") },
  { greeting = on_greeting, ready = query(LARGE), data = leave() },
  { greeting = on_greeting, ready = query(LARGE), data = leave "reset" },
  { greeting = on_greeting, ready = query "SELECT 1", answer = leave() },
}
