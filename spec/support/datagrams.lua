-- A unix datagram socket, as systemd and syslog have them. luv knows none, Python does.

local uv = require "luv"

local process = require "spec.support.process"

local M = {}

local RECEIVER = [[
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    sys.stdout.buffer.write(s.recv(65536) + b"\n")
    sys.stdout.flush()
]]

--- Receives datagrams until stop(): stdout() has what has come, a line end after each.
---@param path string of the socket
---@return table process of spec.support.process
function M.receive(path)
  local receiver = process.start("python3", { "-c", RECEIVER, path })
  assert(process.wait_until(function()
    return uv.fs_stat(path) or not receiver:running()
  end, 20) and receiver:running(), receiver:stderr())
  return receiver
end

return M
