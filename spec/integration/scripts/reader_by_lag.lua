-- Sends clients to the replica that lags least.

local commands = require("proxy.commands")
require("proxy.auto-config")

local SLAVE_STATUS = "SHOW SLAVE STATUS"

if not proxy.global.config.ro_balance then
	proxy.global.config.ro_balance = { max_seconds_lag = 10, max_bytes_lag = 10240, check_timeout = 2, is_debug = true }
end
proxy.global.lag = proxy.global.lag or {}

local function say(...)
	if proxy.global.config.ro_balance.is_debug then
		print(string.format(...))
	end
end

function connect_server()
	local fallback_ndx, unknown_ndx, slave_ndx, least
	for i = 1, #proxy.global.backends do
		local s = proxy.global.backends[i]
		if s.state ~= proxy.BACKEND_STATE_DOWN then
			local lag = proxy.global.lag[s.address]
			if s.type == proxy.BACKEND_TYPE_RW then
				fallback_ndx = i
			elseif not lag then
				unknown_ndx = i
			elseif lag.state == "running" and (not least or lag.seconds < least) then
				slave_ndx, least = i, lag.seconds
			end
		end
	end
	proxy.connection.backend_ndx = unknown_ndx or slave_ndx or fallback_ndx
	say("backend %d", proxy.connection.backend_ndx)
end

function read_query(packet)
	local cmd = commands.parse(packet)
	local ret = proxy.global.config:handle(cmd)
	if ret then return ret end
	local s = proxy.global.backends[proxy.connection.backend_ndx]
	local lag = proxy.global.lag[s.address]
	if s.type ~= proxy.BACKEND_TYPE_RO or cmd.type ~= proxy.COM_QUERY then
		return
	elseif lag and os.time() - lag.checked < proxy.global.config.ro_balance.check_timeout then
		return
	end
	proxy.queries:append(2, string.char(proxy.COM_QUERY) .. SLAVE_STATUS)
	proxy.queries:append(1, packet)
	return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
	if inj.id ~= 2 then return end
	local status, res = {}, inj.resultset
	if res.query_status == proxy.MYSQLD_PACKET_OK then
		for row in res.rows do
			for field_id, cell in pairs(row) do
				status[res.fields[field_id].name] = tostring(cell)
			end
		end
	end
	local state = "running"
	if not status.Slave_IO_Running then
		state = "noslave"
	elseif status.Slave_IO_Running ~= "Yes" then
		state = "noiothread"
	end
	local s = proxy.global.backends[proxy.connection.backend_ndx]
	proxy.global.lag[s.address] = { state = state, seconds = tonumber(status.Seconds_Behind_Master), checked = os.time() }
	say("%s: %s, %s seconds, %s", s.address, state, status.Seconds_Behind_Master or "?", status.Last_Error or "no error")
	if state ~= "running" then
		proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "slave-state is " .. state, sqlstate = "08S01" }
		proxy.connection.connection_close = true
		proxy.queries:reset()
		return proxy.PROXY_SEND_RESULT
	end
	return proxy.PROXY_IGNORE_RESULT
end
