-- Hides the values of some columns from all clients but trusted users: they see *** instead.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/mask_columns.lua
--
-- Through port 4040, SELECT name, email AS e FROM customers shows the names, and *** for each email that is not NULL.
-- A column is known by the name that it has in its table, whatever the query calls it. What is computed is masked when
-- the text names a masked column. Masked results of prepared statements are refused, and several statements at once.
-- It is no replacement for privileges: a view or a procedure can still give a column another name.

local tokenizer = require "proxy.tokenizer"

local MASKED = { email = true, password = true, card_number = true }
local TRUSTED = { root = true }
local MASK = "***"

local suspicious = false -- whether the statement, or any that was prepared, names a masked column
local prepared = false

local function refuse(reason)
  proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = 1143, sqlstate = "42000", errmsg = reason }
  return proxy.PROXY_SEND_RESULT
end

-- Whether a text names a masked column, and whether there is more than one statement in it.
local function examine(sql)
  local tokens, named, several = tokenizer.tokenize(sql), false, false
  for i = 1, #tokens do
    named = named or MASKED[tokens[i].text:lower()] ~= nil
    several = several or tokens[i].token_name == "TK_SEMICOLON" and i < #tokens
  end
  return named, several
end

function read_query(packet)
  local command = packet:byte()
  if TRUSTED[proxy.connection.client.username] then
    return
  elseif command == proxy.COM_STMT_PREPARE then
    prepared = examine(packet:sub(2)) or prepared
  elseif command == proxy.COM_STMT_FETCH and prepared then
    return refuse("masked columns cannot be fetched")
  elseif command == proxy.COM_QUERY or command == proxy.COM_STMT_EXECUTE then
    local several
    suspicious, several = prepared, false
    if command == proxy.COM_QUERY then
      suspicious, several = examine(packet:sub(2))
    end
    if several then
      return refuse("one statement at a time, please: some columns are masked")
    end
    proxy.queries:append(command, packet, { resultset_is_needed = true })
    return proxy.PROXY_SEND_QUERY
  end
end

-- Which columns of a result are masked: an array of booleans, nil if none is.
local function masked_columns(fields)
  local masked
  for i = 1, #fields do
    local name = fields[i].org_name
    if MASKED[name:lower()] or name == "" and suspicious then
      masked = masked or {}
      masked[i] = true
    end
  end
  return masked
end

function read_query_result(inj)
  local result = inj.resultset
  local fields = result.fields
  local masked = masked_columns(fields)
  if not masked then
    return
  elseif inj.id == proxy.COM_STMT_EXECUTE then
    return refuse("masked columns cannot be read with prepared statements")
  elseif result.query_status == proxy.MYSQLD_PACKET_ERR then
    return refuse("reading masked columns failed")
  end
  local made = { fields = {}, rows = {}, charset = 45 } -- utf8mb4
  for i = 1, #fields do
    made.fields[i] = { name = fields[i].name, type = masked[i] and proxy.MYSQL_TYPE_VAR_STRING or fields[i].type }
  end
  for row in result.rows do
    for i in pairs(masked) do
      row[i] = row[i] and MASK
    end
    made.rows[#made.rows + 1] = row
  end
  proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = made }
  return proxy.PROXY_SEND_RESULT
end
