-- Reads to the replicas, all else to the primary, over idle connections. It is required by a script that has nothing
-- else, so that its hooks are everybody's, and so are its locals.

-- luacheck: globals is_debug

local commands = require("proxy.commands")
local tokenizer = require("proxy.tokenizer")
local lb = require("proxy.balance")
local auto_config = require("proxy.auto-config")

if not proxy.global.config.rwsplit then
	proxy.global.config.rwsplit = { min_idle_connections = 4, max_idle_connections = 8, is_debug = false }
end

local is_in_transaction = false
local is_in_select_calc_found_rows = false

function connect_server()
	local rw_ndx = 0
	for i = 1, #proxy.global.backends do
		local s = proxy.global.backends[i]
		local pool = s.pool
		local cur_idle = pool.users[""].cur_idle_connections
		pool.min_idle_connections = proxy.global.config.rwsplit.min_idle_connections
		pool.max_idle_connections = proxy.global.config.rwsplit.max_idle_connections
		if s.state ~= proxy.BACKEND_STATE_DOWN then
			if cur_idle < pool.min_idle_connections then
				proxy.connection.backend_ndx = i
				break
			elseif s.type == proxy.BACKEND_TYPE_RW and rw_ndx == 0 then
				rw_ndx = i
			end
		end
	end
	if proxy.connection.backend_ndx == 0 then
		proxy.connection.backend_ndx = rw_ndx
	end
	if proxy.connection.server then
		return proxy.PROXY_IGNORE_RESULT
	end
end

function read_auth_result(auth)
	if is_debug then
		print("never: it is no option of rwsplit")
	end
	if auth.packet:byte() == proxy.MYSQLD_PACKET_OK then
		proxy.connection.backend_ndx = 0
	end
end

local function select_is_for_primary(tokens)
	is_in_select_calc_found_rows = false
	local is_insert_id = false
	for i = 1, #tokens do
		local token = tokens[i]
		if token.token_name == "TK_SQL_SQL_CALC_FOUND_ROWS" then
			is_in_select_calc_found_rows = true
		elseif token.token_name == "TK_LITERAL" then
			local utext = token.text:upper()
			is_insert_id = is_insert_id or utext == "LAST_INSERT_ID" or utext == "@@INSERT_ID"
		end
	end
	return is_insert_id
end

function read_query(packet)
	local cmd = commands.parse(packet)
	local c = proxy.connection.client
	local r = auto_config.handle(cmd)
	if r then return r end
	if cmd.type == proxy.COM_QUIT then
		proxy.response = { type = proxy.MYSQLD_PACKET_OK }
		return proxy.PROXY_SEND_RESULT
	elseif cmd.type == proxy.COM_BINLOG_DUMP then
		proxy.connection.backend_ndx = lb.idle_failsafe_rw()
	end
	proxy.queries:append(1, packet, { resultset_is_needed = true })
	if not is_in_transaction and cmd.type == proxy.COM_QUERY then
		local tokens = assert(tokenizer.tokenize(cmd.query))
		local stmt = tokenizer.first_stmt_token(tokens)
		if stmt.token_name == "TK_SQL_SELECT" and not select_is_for_primary(tokens) then
			local backend_ndx = lb.idle_ro()
			if backend_ndx > 0 then
				proxy.connection.backend_ndx = backend_ndx
			end
		end
	end
	if proxy.connection.backend_ndx == 0 then
		proxy.connection.backend_ndx = lb.idle_failsafe_rw()
	end
	local s = proxy.connection.server
	if cmd.type ~= proxy.COM_INIT_DB and c.default_db and c.default_db ~= s.default_db then
		print("    server default db: " .. s.default_db)
		print("    client default db: " .. c.default_db)
		proxy.queries:prepend(2, string.char(proxy.COM_INIT_DB) .. c.default_db, { resultset_is_needed = true })
	end
	return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
	local res = assert(inj.resultset)
	if inj.id ~= 1 then
		if inj.id == 2 and res.query_status == proxy.MYSQLD_PACKET_ERR then
			proxy.response = {
				type = proxy.MYSQLD_PACKET_ERR,
				errmsg = "can't change DB " .. proxy.connection.client.default_db .. " to on slave "
					.. proxy.global.backends[proxy.connection.backend_ndx].address,
			}
			return proxy.PROXY_SEND_RESULT
		end
		return proxy.PROXY_IGNORE_RESULT
	end
	is_in_transaction = res.flags.in_trans
	local have_last_insert_id = res.insert_id and res.insert_id > 0
	if not is_in_transaction and not is_in_select_calc_found_rows and not have_last_insert_id then
		proxy.connection.backend_ndx = 0
	end
end

function disconnect_client()
	proxy.connection.backend_ndx = 0
end
