-- XTAB table row_field col_field operation op_field [summary]: a cross table, whose statement is written by another.

assert(proxy.PROXY_VERSION >= 0x00600, "you need a later proxy")

local tokenizer = require("proxy.tokenizer")

local SET, COLUMNS, QUERY = 1024, 2048, 4096
local show_query = false
local p -- the parameters of the statement that runs

local function answer(name, ...)
	proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
		fields = { { type = proxy.MYSQL_TYPE_STRING, name = name } }, rows = {},
	} }
	for i = 1, select("#", ...) do
		proxy.response.resultset.rows[i] = { (select(i, ...)) }
	end
	return proxy.PROXY_SEND_RESULT
end

function read_query(packet)
	if packet:byte() ~= proxy.COM_QUERY then return end
	local query_tokens = tokenizer.tokenize(packet:sub(2))
	local start = 1
	if query_tokens[1].token_name == "TK_SQL_SELECT" then start = 2 end
	if not query_tokens[start] or query_tokens[start].text:lower() ~= "xtab" then return end
	local words = {}
	for i = start + 1, #query_tokens do
		words[#words + 1] = query_tokens[i].text
	end
	local word = (words[1] or ""):upper()
	if word == "HELP" then
		return answer("XTAB help", "XTAB table row_field col_field operation op_field [summary]", "XTAB VERSION")
	elseif word == "VERSION" then
		return answer("XTAB version", "0.1.3")
	elseif word == "QUERY" or word == "NOQUERY" then
		show_query = word == "QUERY"
		return answer("XTAB query", show_query and "on" or "off")
	elseif #words < 5 then
		return answer("XTAB ERROR", 'unknown command. Enter "XTAB HELP" for help')
	end
	p = { table = words[1], row = words[2], column = words[3], operation = words[4], of = words[5], summary = words[6] }
	proxy.queries:append(SET, string.char(proxy.COM_QUERY) .. "set group_concat_max_len = 1024*1024",
		{ resultset_is_needed = true })
	proxy.queries:append(COLUMNS, string.char(proxy.COM_QUERY) .. ([[
		SELECT GROUP_CONCAT(DISTINCT CONCAT('%s(IF(%s = ', QUOTE(%s), ', %s, NULL)) AS `', %s, '`') ORDER BY %s) FROM %s]])
		:format(p.operation, p.column, p.column, p.of, p.column, p.column, p.table), { resultset_is_needed = true })
	return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
	local res = assert(inj.resultset)
	if res.query_status and res.query_status < 0 then
		return answer("XTAB ERROR", "never")
	end
	if inj.id == COLUMNS then
		for row in res.rows do
			local query = ("SELECT %s, %s%s FROM %s GROUP BY %s ORDER BY %s"):format(p.row, row[1],
				p.summary and (", %s(%s) AS total"):format(p.operation, p.of) or "", p.table, p.row, p.row)
			if show_query then
				return answer("XTAB query", query)
			end
			proxy.queries:append(QUERY, string.char(proxy.COM_QUERY) .. query, { resultset_is_needed = true })
		end
	end
	if inj.id ~= QUERY then
		return proxy.PROXY_IGNORE_RESULT
	end
end
