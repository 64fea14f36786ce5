-- All connections are kept, whoever comes gets one of them: for each command anew.

function connect_server()
	local least_ndx, least = 0, nil
	for i = 1, #proxy.servers do
		local s = proxy.servers[i]
		if s.state ~= proxy.BACKEND_STATE_DOWN then
			if least == nil or s.idling_connections < least then
				least_ndx, least = i, s.idling_connections
			end
		end
	end
	proxy.connection.backend_ndx = least_ndx
	if proxy.connection.server then
		return proxy.PROXY_IGNORE_RESULT
	end
	print("[new connection] to " .. least_ndx)
end

function read_auth_result(auth)
	if auth.packet:byte() == proxy.MYSQLD_PACKET_OK then
		proxy.connection.backend_ndx = 0
	elseif auth.packet:byte() == proxy.MYSQLD_PACKET_EOF then
		print("(read_auth_result) not yet")
	end
end

function read_query(packet)
	if packet:byte() == proxy.COM_QUIT then
		proxy.response = { type = proxy.MYSQLD_PACKET_OK }
		return proxy.PROXY_SEND_RESULT
	end
	if proxy.connection.backend_ndx == 0 then
		for i = 1, #proxy.servers do
			local s = proxy.servers[i]
			local users = s.pool.users[proxy.connection.client.username]
			if s.state ~= proxy.BACKEND_STATE_DOWN and users.cur_idle_connections > 0 then
				proxy.connection.backend_ndx = i
				break
			end
		end
	end
	proxy.queries:append(2, string.char(proxy.COM_INIT_DB) .. proxy.connection.client.default_db)
	proxy.queries:append(1, packet)
	return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
	if inj.id ~= 1 then
		return proxy.PROXY_IGNORE_RESULT
	end
	if not inj.resultset.flags.in_trans then
		proxy.connection.backend_ndx = 0
	end
end

function disconnect_client()
	proxy.connection.backend_ndx = 0
end
