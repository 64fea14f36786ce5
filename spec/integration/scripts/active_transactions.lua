-- Keeps the statements of open transactions, and prints all of them when one has met a deadlock or waited too long.

local proto = require("mysql.proto")

proxy.global.trxs = proxy.global.trxs or {}

function read_query(packet)
	if packet:byte() ~= proxy.COM_QUERY then return end
	local id = proxy.connection.server.thread_id
	proxy.global.trxs[id] = proxy.global.trxs[id] or { in_trans = false }
	proxy.queries:append(1, packet, { resultset_is_needed = true })
	local t = proxy.global.trxs[id]
	t[#t + 1] = packet:sub(2)
	return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
	local id, res = proxy.connection.server.thread_id, inj.resultset
	if res.query_status == proxy.MYSQLD_PACKET_ERR then
		local err = proto.from_err_packet(res.raw)
		if err.errcode == 1205 or err.errcode == 1213 then
			print(("[%d] received a ERR(%d, %s), dumping all active transactions"):format(id, err.errcode, err.errmsg))
			for thread_id, statements in pairs(proxy.global.trxs) do
				for stmt_id, statement in ipairs(statements) do
					print(("  [%d].%d: %s"):format(thread_id, stmt_id, statement))
				end
			end
		end
	end
	if not res.flags.in_trans then
		proxy.global.trxs[id] = nil
	end
end

function disconnect_client()
	proxy.global.trxs[proxy.connection.server.thread_id] = nil
end
