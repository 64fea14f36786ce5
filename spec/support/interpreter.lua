-- The shell command for another interpreter like the one that runs the specs, with the sanitizers if they are in use.

local name = rawget(_G, "jit") and "luajit" or "lua5.1"
local preload = os.getenv("MYSQL_PROXY_PRELOAD")

return preload and ("env LD_PRELOAD='%s' ASAN_OPTIONS=detect_leaks=0 %s"):format(preload, name) or name
