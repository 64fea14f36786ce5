-- Busted's helper file: what a run has started ends with it.

local uv = require "luv"

local busted = require "busted"

-- The sanitizers are loaded into this interpreter alone; the host binary has its own, and looks for leaks too.
uv.os_unsetenv("LD_PRELOAD")
uv.os_setenv("ASAN_OPTIONS", "detect_leaks=1:exitcode=99")

busted.subscribe({ "exit" }, function()
  require("spec.support.process").finish()
end)
