-- Counts statements by their normalised form, and the use of tables.

local tokenizer = require("proxy.tokenizer")
local parser = require("proxy.parser")
local commands = require("proxy.commands")
require("proxy.auto-config")

if not proxy.global.config.histogram then
	proxy.global.config.histogram = { collect_queries = true, collect_tables = true }
end
if not proxy.global.norm_queries then proxy.global.norm_queries = {} end
if not proxy.global.norm_tables then proxy.global.norm_tables = {} end

local norm_query, tables -- of the statement that runs

local function result(fields, rows)
	proxy.response.type = proxy.MYSQLD_PACKET_OK
	proxy.response.resultset = { fields = {}, rows = rows }
	for i, name in ipairs(fields) do
		proxy.response.resultset.fields[i] = {
			name = name, type = i == 1 and proxy.MYSQL_TYPE_STRING or proxy.MYSQL_TYPE_LONG,
		}
	end
	return proxy.PROXY_SEND_RESULT
end

local commands_of_ours = {
	["SELECT * FROM `histogram` . `queries` "] = function()
		local rows = {}
		for query, o in pairs(proxy.global.norm_queries) do
			rows[table.getn(rows) + 1] = { query, o.count, o.max_query_time, o.avg_query_time }
		end
		return result({ "query", "count", "max_query_time", "avg_query_time" }, rows)
	end,
	["SELECT * FROM `histogram` . `tables` "] = function()
		local rows = {}
		for name, o in pairs(proxy.global.norm_tables) do
			rows[#rows + 1] = { name, o.reads, o.writes }
		end
		return result({ "table", "reads", "writes" }, rows)
	end,
	["DELETE FROM `histogram` . `queries` "] = function()
		proxy.response = { type = proxy.MYSQLD_PACKET_OK }
		proxy.global.norm_queries = {}
		return proxy.PROXY_SEND_RESULT
	end,
	["DELETE FROM `histogram` . `tables` "] = function()
		proxy.response = { type = proxy.MYSQLD_PACKET_OK }
		proxy.global.norm_tables = {}
		return proxy.PROXY_SEND_RESULT
	end,
}

function read_query(packet)
	local cmd = commands.parse(packet)
	local r = proxy.global.config:handle(cmd)
	if r then return r end
	if cmd.type ~= proxy.COM_QUERY then return end
	local tokens = tokenizer.tokenize(cmd.query)
	norm_query = tokenizer.normalize(tokens)
	if commands_of_ours[norm_query] then
		return commands_of_ours[norm_query]()
	end
	tables = proxy.global.config.histogram.collect_tables and parser.get_tables(tokens) or {}
	proxy.queries:append(1, packet)
	return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
	if inj.id ~= 1 then return end
	if proxy.global.config.histogram.collect_queries then
		local o = proxy.global.norm_queries[norm_query] or { count = 0, max_query_time = 0, avg_query_time = 0 }
		proxy.global.norm_queries[norm_query] = o
		o.count = o.count + 1
		o.max_query_time = math.max(o.max_query_time, inj.query_time)
		o.avg_query_time = o.avg_query_time + (inj.query_time - o.avg_query_time) / o.count
	end
	for name, kind in pairs(tables) do
		local o = proxy.global.norm_tables[name] or { reads = 0, writes = 0 }
		proxy.global.norm_tables[name] = o
		if kind == "read" then o.reads = o.reads + 1 else o.writes = o.writes + 1 end
	end
end
