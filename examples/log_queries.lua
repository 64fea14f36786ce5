-- Prints every statement with the time that the server took for it and what came of it.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/log_queries.lua
--
-- Then run anything through port 4040. For each statement the proxy prints a line:
--   shop@127.0.0.1:51022 0.42 ms, 1 rows: SELECT * FROM orders WHERE id = 7
-- An executed prepared statement shows the text that it was prepared from. Results go to the client while they arrive:
-- nothing is collected.

local proto = require "mysql.proto"

local STREAMED = { resultset_is_needed = false }

local prepared = {} -- statement id -> its text

function read_query(packet)
  local command = packet:byte()
  if command == proxy.COM_STMT_CLOSE then
    prepared[proto.from_stmt_close_packet(packet).stmt_id] = nil
  elseif command == proxy.COM_STMT_PREPARE then
    proxy.queries:append(command, packet) -- kept, because its answer has the id
    return proxy.PROXY_SEND_QUERY
  elseif command == proxy.COM_QUERY or command == proxy.COM_STMT_EXECUTE then
    proxy.queries:append(command, packet, STREAMED)
    return proxy.PROXY_SEND_QUERY
  end
end

local function text_of(inj)
  if inj.id == proxy.COM_STMT_EXECUTE then
    local id = proto.stmt_id_from_stmt_execute_packet(inj.query)
    return prepared[id] or ("statement %d"):format(id)
  end
  return inj.query:sub(2)
end

local function outcome(result)
  if result.query_status == proxy.MYSQLD_PACKET_ERR then
    return "an error"
  elseif result.affected_rows then
    return result.affected_rows .. " affected"
  end
  return result.row_count .. " rows"
end

function read_query_result(inj)
  local result = inj.resultset
  if inj.id == proxy.COM_STMT_PREPARE then
    if result.query_status ~= proxy.MYSQLD_PACKET_ERR then
      prepared[proto.from_stmt_prepare_ok_packet(result.raw).stmt_id] = inj.query:sub(2)
    end
    return
  end
  local client = proxy.connection.client
  local text = text_of(inj):gsub("%c", " ") -- one line each
  local ms = inj.response_time / 1000
  print(("%s@%s %.2f ms, %s: %s"):format(client.username, client.address, ms, outcome(result), text))
end
