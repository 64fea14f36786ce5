-- A unix datagram socket, as systemd and syslog have them. luv knows none, Python does.

local process = require "spec.support.process"

local M = {}

local RECEIVER = [[
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
path = sys.argv[1]
s.bind("\0" + path[1:] if path[0] == "@" else path)
print("bound", file=sys.stderr, flush=True)
while True:
    sys.stdout.buffer.write(s.recv(65536) + b"\n")
    sys.stdout.flush()
]]

--- Receives datagrams until stop(): stdout() has what has come, a line end after each.
---@param path string of the socket, or @ and an abstract name
---@return table process of spec.support.process
function M.receive(path)
  local receiver = process.start("python3", { "-c", RECEIVER, path })
  assert(process.wait_until(function()
    return receiver:stderr():find("bound") or not receiver:running()
  end, 20) and receiver:running(), receiver:stderr())
  receiver.path = path
  return receiver
end

return M
