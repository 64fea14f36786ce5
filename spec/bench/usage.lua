-- What a process uses, as the kernel counts it.

local uv = require "luv"

local process = require "spec.support.process"

local M = {}

local function entries(folder)
  local scan, names = assert(uv.fs_scandir(folder)), {}
  for name in function() return uv.fs_scandir_next(scan) end do
    names[#names + 1] = name
  end
  return names
end

--- CPU time in seconds, in user space and in the kernel, of all its threads that live.
function M.cpu_seconds(pid)
  local folder, total = ("/proc/%d/task"):format(pid), 0
  for _, thread in ipairs(entries(folder)) do
    local nanoseconds = process.read_file(("%s/%s/schedstat"):format(folder, thread)):match("^%d+")
    total = total + assert(nanoseconds, "the kernel keeps no schedstat") / 1e9
  end
  return total
end

--- Resident memory in kB. VmRSS of /proc/PID/status is not exact: the kernel sums it up lazily for each CPU.
function M.rss_kb(pid)
  return tonumber(process.read_file(("/proc/%d/smaps_rollup"):format(pid)):match("Rss:%s+(%d+)"))
end

--- Highest resident memory in kB since forget_peak().
function M.peak_kb(pid)
  return tonumber(process.read_file(("/proc/%d/status"):format(pid)):match("VmHWM:%s+(%d+)"))
end

function M.forget_peak(pid)
  process.write_file(("/proc/%d/clear_refs"):format(pid), "5")
end

--- Open descriptors.
function M.descriptors(pid)
  return #entries(("/proc/%d/fd"):format(pid))
end

return M
