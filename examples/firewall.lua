-- Refuses statements that look dangerous: UPDATE and DELETE without WHERE, DROP and TRUNCATE, functions that stall a
-- server, files on the server's disk, conditions that are always true. It looks at tokens, so that comments, case and
-- what is written in quotes do not matter.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/firewall.lua
--
-- Then, through port 4040, `DELETE FROM orders` gets error 1148 instead of doing it. A firewall of words keeps
-- accidents and simple injections away, no more: what an account may do is for the server's privileges to say.

local tokenizer = require "proxy.tokenizer"

local ERROR_CODE, SQL_STATE = 1148, "42000" -- "The used command is not allowed"

local STATEMENTS = { DROP = true, TRUNCATE = true, GRANT = true, REVOKE = true, SHUTDOWN = true, PREPARE = true }
local CONVERSATIONS = { -- behind which scripts see nothing more of the session
  [18] = "COM_BINLOG_DUMP", [30] = "COM_BINLOG_DUMP_GTID", [32] = "COM_CLONE",
  [33] = "COM_SUBSCRIBE_GROUP_REPLICATION_STREAM",
}
local NEED_WHERE = { UPDATE = true, DELETE = true }
local FUNCTIONS = { SLEEP = true, BENCHMARK = true, LOAD_FILE = true }
local WORDS = { TK_SQL_OUTFILE = "INTO OUTFILE", TK_SQL_INFILE = "LOAD DATA" }
local LITERALS = { TK_INTEGER = true, TK_FLOAT = true, TK_STRING = true }
local CONDITION_BEGINS = { TK_SQL_WHERE = true, TK_SQL_AND = true, TK_SQL_OR = true, TK_LOGICAL_OR = true }

-- WHERE 1 = 1, OR 'a' = 'a', from the token at i on.
local function always_true(tokens, i)
  local left, sign, right = tokens[i + 1], tokens[i + 2], tokens[i + 3]
  return CONDITION_BEGINS[tokens[i].token_name] and right and LITERALS[left.token_name] and sign.token_name == "TK_EQ"
    and left.text == right.text
end

-- What is wrong with one statement, given as an array of its tokens.
local function check_statement(tokens)
  local first = tokens[1] and tokens[1].text:upper()
  local has_where = false
  for i, token in ipairs(tokens) do
    local name, text = token.token_name, token.text
    has_where = has_where or name == "TK_SQL_WHERE"
    if WORDS[name] then
      return WORDS[name]
    elseif name == "TK_FUNCTION" and FUNCTIONS[text:upper()] then
      return text:upper() .. "()"
    elseif always_true(tokens, i) then
      return "a condition that is always true"
    elseif name == "TK_UNKNOWN" and text == "#" then
      return "a comment that not every server reads alike"
    end
  end
  return STATEMENTS[first] and first or NEED_WHERE[first] and not has_where and first .. " without WHERE"
end

local function check(sql)
  local tokens, statement = tokenizer.tokenize(sql), {}
  for i = 1, #tokens + 1 do
    local token = tokens[i]
    local name = token and token.token_name or "TK_SEMICOLON"
    local run = name == "TK_COMMENT_MYSQL" and token.text or name == "TK_COMMENT" and token.text:match("^M!(.*)")
    local reason
    if run then -- a comment that servers execute
      reason = check((run:gsub("^%d+", "")))
    elseif name == "TK_SEMICOLON" then
      reason, statement = check_statement(statement), {}
    elseif name ~= "TK_COMMENT" then
      statement[#statement + 1] = token
    end
    if reason then
      return reason
    end
  end
end

function read_query(packet)
  local command = packet:byte()
  local reason
  if command == proxy.COM_QUERY or command == proxy.COM_STMT_PREPARE then
    reason = check(packet:sub(2))
  elseif command == proxy.COM_DROP_DB then
    reason = "DROP"
  else
    reason = CONVERSATIONS[command]
  end
  if reason then
    print(("refused %s: %s: %s"):format(proxy.connection.client.username, reason, packet:sub(2)))
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = ERROR_CODE, sqlstate = SQL_STATE,
      errmsg = "The firewall does not allow " .. reason }
    return proxy.PROXY_SEND_RESULT
  end
end
