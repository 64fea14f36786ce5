-- A proxy that runs one of the scripts in examples/, its clients, and what they see.

local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"

local M = {}

function M.text_of(name)
  return process.read_file(("examples/%s.lua"):format(name))
end

local ERRORS = { "error in a callback[^\n]*", "%(lua%-error[^\n]*", "%([a-z_]+%) %[string[^\n]*" }

--- Functions around one proxy in front of a server; `proxy` is the one that runs.
function M.new(server)
  local self, clients = {}, {}

  --- Starts a proxy with an example.
  ---@param changes? string[][] those that a user would make to its locals: { from, to } ...
  function self.start(name, changes, options, backends)
    if not changes then
      self.proxy = proxies.start(backends or { server }, {
        ("--proxy-lua-script=%s/examples/%s.lua"):format(uv.cwd(), name), unpack(options or {})
      })
      return
    end
    local text = M.text_of(name)
    for _, change in ipairs(changes) do
      local first, last = text:find(change[1], 1, true)
      assert(first and not text:find(change[1], last, true), change[1])
      text = text:sub(1, first - 1) .. change[2] .. text:sub(last + 1)
    end
    self.proxy = scripted.start(backends or server, text, options)
  end

  --- Ends it and its clients. No hook may have failed.
  function self.stop()
    for _, client in ipairs(clients) do
      client:close()
    end
    clients = {}
    if self.proxy then
      local proxy = self.proxy
      self.proxy = nil
      assert(proxy:stop() == 0, proxy:log())
      for _, pattern in ipairs(ERRORS) do
        assert(not proxy:log():find(pattern), proxy:log():match(pattern))
      end
    end
  end

  function self.login(user, port)
    local client = raw.connect(port or self.proxy.port):login(user or "nopass")
    clients[#clients + 1] = client
    return client
  end

  --- Waits until the script has printed this.
  function self.prints(pattern)
    local program = self.proxy.process
    assert(process.wait_until(function()
      return program:stdout():find(pattern)
    end, 10), pattern .. " in: " .. program:stdout())
  end

  --- A port through which clients reach the proxy from another address of this machine.
  function self.port_from(address)
    local listener, port = uv.new_tcp(), process.free_port()
    assert(listener:bind("127.0.0.1", port))
    listener:listen(8, function()
      local client, there = uv.new_tcp(), uv.new_tcp()
      listener:accept(client)
      assert(there:bind(address, 0))
      there:connect("127.0.0.1", self.proxy.port, function()
        for from, to in pairs { [client] = there, [there] = client } do
          from:read_start(function(_, chunk)
            if chunk then
              to:write(chunk)
            elseif not to:is_closing() then
              from:close()
              to:close()
            end
          end)
        end
      end)
    end)
    clients[#clients + 1] = listener
    return port
  end

  --- Runs statements with the server's own client.
  function self.mysql(sql, user, port, password)
    local program, args = server:client()
    for _, list in ipairs { { "-N", "-B" }, server.clear_text, server:login(port or self.proxy.port, user, password),
      { "-e", sql } } do
      for _, argument in ipairs(list) do
        args[#args + 1] = argument
      end
    end
    local code, output, errors = process.run(program, args)
    return code == 0 and output or errors
  end

  --- COM_STMT_PREPARE: the id of the statement.
  function self.prepare(client, sql)
    client:send("\22" .. sql)
    local first = client:packet()
    if first:byte() == 0xff then
      return nil, proto.from_err_packet(first)
    end
    local ok = proto.from_stmt_prepare_ok_packet(first)
    for _, count in ipairs { ok.num_params, ok.num_columns } do
      for _ = 1, count > 0 and count + 1 or 0 do
        client:packet()
      end
    end
    return ok.stmt_id
  end

  --- COM_STMT_EXECUTE without parameters: the error, or nil and how many rows there were.
  function self.execute(client, id)
    client:send("\23" .. raw.statement_id(id) .. "\0\1\0\0\0")
    local payload, eofs, rows = client:packet(), 0, 0
    if payload:byte() == 0xff then
      return proto.from_err_packet(payload)
    end
    while eofs < 2 do
      payload = client:packet()
      if payload:byte() == 0xfe and #payload < 9 then
        eofs = eofs + 1
      elseif eofs == 1 then
        rows = rows + 1
      end
    end
    return nil, rows
  end

  return self
end

return M
