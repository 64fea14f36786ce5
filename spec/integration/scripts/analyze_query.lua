-- Averages and standard deviations of the times of each kind of query; those that fall out of them are reported.
-- luacheck: globals math.rolling_avg math.rolling_stddev

local commands = require("proxy.commands")
local tokenizer = require("proxy.tokenizer")
local auto_config = require("proxy.auto-config")

if not proxy.global.config.analyze_query then
	proxy.global.config.analyze_query = {
		analyze_queries = true, auto_explain = false, auto_processlist = false, min_queries = 1000,
		min_query_time = 1000, query_cutoff = 160, log_slower_queries = false,
	}
end

-- From one hook to the other: each connection has globals of its own.
tokens, norm_query, report = nil, "", ""

-- Additions to Lua's own tables.
function math.rolling_avg(value, n, avg)
	return avg + (value - avg) / n
end

function math.rolling_stddev(value, n, avg, stddev)
	return math.sqrt(((n - 1) * stddev ^ 2 + (value - avg) ^ 2) / n)
end

proxy.global.queries = proxy.global.queries or {}
proxy.global.baseline = proxy.global.baseline or { avg = 0, stddev = 0, count = 0 }

function read_query(packet)
	local cmd = commands.parse(packet)
	local r = auto_config.handle(cmd)
	if r then return r end
	if cmd.type ~= proxy.COM_QUERY or not proxy.global.config.analyze_query.analyze_queries then
		return
	end
	tokens = assert(tokenizer.tokenize(cmd.query))
	norm_query = tokenizer.normalize(tokens)
	if norm_query == "SELECT * FROM `histogram` . `queries` " then
		proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = {
			{ type = proxy.MYSQL_TYPE_STRING, name = "query" }, { type = proxy.MYSQL_TYPE_LONG, name = "COUNT(*)" },
			{ type = proxy.MYSQL_TYPE_DOUBLE, name = "AVG(qtime)" },
			{ type = proxy.MYSQL_TYPE_DOUBLE, name = "STDDEV(qtime)" },
		}, rows = {} } }
		for query, o in pairs(proxy.global.queries) do
			table.insert(proxy.response.resultset.rows, { query, o.count, o.avg, o.stddev })
		end
		return proxy.PROXY_SEND_RESULT
	elseif norm_query == "DELETE FROM `histogram` . `queries` " then
		proxy.response.type = proxy.MYSQLD_PACKET_OK
		proxy.global.queries = {}
		return proxy.PROXY_SEND_RESULT
	end
	proxy.queries:append(1, packet, { resultset_is_needed = true })
	return proxy.PROXY_SEND_QUERY
end

local function baseline_add(o, value)
	o.count = o.count + 1
	o.stddev = math.rolling_stddev(value, o.count, o.avg, o.stddev)
	o.avg = math.rolling_avg(value, o.count, o.avg)
end

function read_query_result(inj)
	local config = proxy.global.config.analyze_query
	if inj.id == 4 or inj.id == 5 then
		report = report .. (inj.id == 4 and "\n-- processlist:" or "\n-- explain:")
		for row in inj.resultset.rows do
			local cells = {}
			for i = 1, #inj.resultset.fields do
				cells[i] = row[i] or "NULL"
			end
			report = report .. "\n" .. table.concat(cells, "|")
		end
	else
		local o = proxy.global.queries[norm_query] or { avg = 0, stddev = 0, count = 0 }
		proxy.global.queries[norm_query] = o
		local baseline, time = proxy.global.baseline, inj.response_time
		local outlier = baseline.count >= config.min_queries and time >= config.min_query_time
			and time > baseline.avg + 2 * baseline.stddev
		baseline_add(o, time)
		baseline_add(baseline, time)
		if not outlier then
			return
		end
		report = ("# slow: %s"):format(inj.query:sub(2, config.query_cutoff))
			.. ("\n# normalized: %s (%d of %d)"):format(norm_query, o.count, baseline.count)
		if config.auto_processlist then
			proxy.queries:append(4, string.char(proxy.COM_QUERY) .. "SHOW FULL PROCESSLIST", { resultset_is_needed = true })
		end
		if config.auto_explain and tokenizer.first_stmt_token(tokens).token_name == "TK_SQL_SELECT" then
			proxy.queries:append(5, string.char(proxy.COM_QUERY) .. "EXPLAIN " .. inj.query:sub(2),
				{ resultset_is_needed = true })
		end
	end
	if proxy.queries:len() == 0 then
		print(report .. "\n# end")
	end
	if inj.id ~= 1 then
		return proxy.PROXY_IGNORE_RESULT
	end
end
