-- Commands for which SQL has no words, by words. The id of an item is its command.

local words = {
	["COMMIT SUICIDE"] = "\008\000", PING = "\014", STATISTICS = "\009", PROCINFO = "\010", TIME = "\015", DEBUG = "\013",
	PROCKILL = "\012\255\255\255\127", SETOPT = "\027\000\000",
	BINLOGDUMP = "\018\004\000\000\000\001\000\002\000\000\000", BINLOGDUMP1 = "\018\004\000\000\000",
	REGSLAVE = "\021\002\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000", REGSLAVE1 = "\021",
	PREP = "\022SELECT 1", PREP1 = "\022", EXEC = "\023\001\000\000\000\000\001\000\000\000", EXEC1 = "\023",
	DEAL = "\025\001\000\000\000", DEAL1 = "\025\001\000\000", RESET = "\026\001\000\000\000", RESET1 = "\026",
	FETCH = "\028\001\000\000\000\128\000\000\000", FETCH1 = "\028", FLIST = "\004admin_words\000\000",
	FLIST1 = "\004t1", TDUMP = "\019\004test\002t1", TDUMP1 = "\019\004test", TDUMP2 = "\019",
}

local BECOMES_OK = {
	[proxy.COM_SHUTDOWN] = true, [proxy.COM_SET_OPTION] = true, [proxy.COM_BINLOG_DUMP] = true,
	[proxy.COM_STMT_PREPARE] = true, [proxy.COM_STMT_FETCH] = true, [proxy.COM_FIELD_LIST] = true,
	[proxy.COM_TABLE_DUMP] = true, [proxy.COM_DEBUG] = true,
}

function read_query(packet)
	local command = packet:byte() == proxy.COM_QUERY and words[packet:sub(2)]
	if command then
		proxy.queries:append(command:byte(), command, { resultset_is_needed = true })
		return proxy.PROXY_SEND_QUERY
	end
end

function read_query_result(inj)
	local res = assert(inj.resultset)
	if res.query_status == proxy.MYSQLD_PACKET_ERR then
		return
	end
	if inj.id == proxy.COM_STATISTICS then
		proxy.response = {
			type = proxy.MYSQLD_PACKET_OK,
			resultset = { fields = { { name = "statisitics" } }, rows = { { res.raw } } },
		}
		return proxy.PROXY_SEND_RESULT
	elseif BECOMES_OK[inj.id] then
		proxy.response = { type = proxy.MYSQLD_PACKET_OK }
		return proxy.PROXY_SEND_RESULT
	end
end
