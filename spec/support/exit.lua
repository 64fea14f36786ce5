-- Busted's helper file: what a run has started ends with it.

local busted = require "busted"

busted.subscribe({ "exit" }, function()
  require("spec.support.process").finish()
end)
