-- Prints who is connected and what runs, at each change.

local commands = require("proxy.commands")
local auto_config = require("proxy.auto-config")

if not proxy.global.config.active_queries then
	proxy.global.config.active_queries = { show_idle_connections = false }
end
proxy.global.active_queries = proxy.global.active_queries or {}
proxy.global.max_active_trx = proxy.global.max_active_trx or 0

local function dump_global_state()
	local connections, active_trx, lines = 0, 0, {}
	for id, query in pairs(proxy.global.active_queries) do
		connections = connections + 1
		if query.state ~= "idle" then
			active_trx = active_trx + 1
		end
		if query.state ~= "idle" or proxy.global.config.active_queries.show_idle_connections then
			lines[#lines + 1] = ("  [%d] (%s@%s) (%s) %q (state=%s)"):format(id, query.username, query.db,
				query.cmd and query.cmd.type_name or "", query.cmd and query.cmd.query or "", query.state)
		end
	end
	if active_trx > proxy.global.max_active_trx then
		proxy.global.max_active_trx = active_trx
	end
	print(os.date("%Y-%m-%d %H:%M:%S"))
	print(("  #connections: %d, #active trx: %d, max(active trx): %d"):format(connections, active_trx,
		proxy.global.max_active_trx))
	table.sort(lines)
	for _, line in ipairs(lines) do
		print(line)
	end
end

function read_query(packet)
	local cmd = commands.parse(packet)
	local r = auto_config.handle(cmd)
	if r then
		return r
	end
	proxy.queries:append(1, packet)
	local connection_id = proxy.connection.server.thread_id
	local o = proxy.global.active_queries[connection_id] or {}
	o.state, o.cmd = "started", cmd
	o.db, o.username = proxy.connection.client.default_db, proxy.connection.client.username or ""
	proxy.global.active_queries[connection_id] = o
	dump_global_state()
	return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
	local o = proxy.global.active_queries[proxy.connection.server.thread_id]
	o.state = inj.resultset.flags.in_trans and "in_trans" or "idle"
	o.cmd = nil
	dump_global_state()
end

function disconnect_client()
	local connection_id = proxy.connection.server.thread_id
	if connection_id then
		proxy.global.active_queries[connection_id] = nil
		dump_global_state()
	end
end
