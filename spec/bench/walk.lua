-- A script that queues each query and walks the rows of its answer.

local bytes = 0

function read_query(packet)
  if packet:byte() == proxy.COM_QUERY then
    proxy.queries:append(1, packet, { resultset_is_needed = true })
    return proxy.PROXY_SEND_QUERY
  end
end

function read_query_result(inj)
  local rows = inj.resultset.rows
  if rows then
    for row in rows do
      bytes = bytes + #row[1]
    end
  end
end
