-- Loads other scripts while it runs, and calls their hooks one after the other.

local COMMANDS = {
	PLOAD = os.getenv("PLOAD") or "PLOAD",
	PUNLOAD = os.getenv("PUNLOAD") or "PUNLOAD",
	PLOAD_HELP = os.getenv("PLOAD_HELP") or "PLOAD_HELP",
}
local DEBUG = tonumber(os.getenv("DEBUG") or "0") or 0
local HOOKS = { "read_query", "read_query_result", "connect_server", "read_handshake", "read_auth", "read_auth_result",
	"disconnect_client" }

proxy.global.loaded_handlers = proxy.global.loaded_handlers or {}
proxy.global.load_count = proxy.global.load_count or 0

local function trace(...)
	if DEBUG > 0 then
		print(string.format(...))
	end
end

local function call_all(hook, ...)
	for _, handlers in ipairs(proxy.global.loaded_handlers) do
		if handlers[hook] then
			trace("calling %s of %s", hook, handlers.name)
			local result = handlers[hook](...)
			if result ~= nil then
				return result
			end
		end
	end
end
proxy.global.call_all = call_all

local function load_handlers(name)
	local filename = name:match("%.lua$") and name or name .. ".lua"
	local file = io.open(filename)
	if not file then
		return nil, "file not found " .. filename
	end
	local text = file:read("*a")
	file:close()
	proxy.global.load_count = proxy.global.load_count + 1
	local path = os.tmpname()
	local module_name = path:match("[^/]*$") .. "_" .. proxy.global.load_count
	local folder = path:match("^(.*)/")
	local module_path = folder .. "/" .. module_name .. ".lua"
	local module_file = assert(io.open(module_path, "w"))
	module_file:write(("module(%q, package.seeall)\n"):format(module_name), text)
	module_file:close()
	local package_path = package.path
	package.path = folder .. "/?.lua;" .. package_path
	require(module_name)
	package.path = package_path
	os.remove(module_path)
	os.remove(path)
	local handlers = { name = name }
	for _, hook in ipairs(HOOKS) do
		handlers[hook] = rawget(package.loaded[module_name], hook)
	end
	table.insert(proxy.global.loaded_handlers, handlers)
	return true
end

local function answer(names, ...)
	local fields = {}
	for i, name in ipairs(names) do
		fields[i] = { type = proxy.MYSQL_TYPE_STRING, name = name }
	end
	proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = { ... } } }
	return proxy.PROXY_SEND_RESULT
end

function read_query(packet)
	if packet:byte() == proxy.COM_QUERY then
		local command, name = packet:sub(2):match("^%s*(%S+)%s*(%S*)")
		if command == COMMANDS.PLOAD then
			local ok, message = load_handlers(name)
			if ok then
				return answer({ "info" }, { ('module "%s" loaded'):format(name) })
			end
			return answer({ "ERROR" }, { ('load of "%s" failed (%s)'):format(name, message) })
		elseif command == COMMANDS.PUNLOAD then
			for i, handlers in ipairs(proxy.global.loaded_handlers) do
				if handlers.name == name then
					table.remove(proxy.global.loaded_handlers, i)
					return answer({ name }, { "unloaded" })
				end
			end
			return answer({ name }, { "NOT FOUND" })
		elseif command == COMMANDS.PLOAD_HELP then
			return answer({ "command", "description" }, { COMMANDS.PLOAD .. " name", "loads a script" },
				{ COMMANDS.PUNLOAD .. " name", "forgets it" })
		end
	end
	return call_all("read_query", packet)
end

function read_query_result(inj)
	return call_all("read_query_result", inj)
end

for i = 3, #HOOKS do
	loadstring(([[
		function %s(...)
			return proxy.global.call_all(%q, ...)
		end
	]]):format(HOOKS[i], HOOKS[i]))()
end
