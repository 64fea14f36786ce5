-- Busted's helper file: what a run has started ends with it.

local uv = require "luv"

local busted = require "busted"

-- What is loaded here is shared by all spec files: one folder, one set of servers. Else each file would have its own.
local process = require "spec.support.process"
require "spec.support.server"
require "mysql.stream" -- a spec that writes to a peer that has gone is not ended by that

-- The sanitizers are loaded into this interpreter alone; the host binary has its own, and looks for leaks too.
local preload = os.getenv("LD_PRELOAD")
if preload and preload ~= "" then
  uv.os_setenv("MYSQL_PROXY_PRELOAD", preload)
end
uv.os_unsetenv("LD_PRELOAD")
uv.os_setenv("ASAN_OPTIONS", "detect_leaks=1:exitcode=" .. process.SANITIZER_STATUS)

busted.subscribe({ "exit" }, process.finish)
