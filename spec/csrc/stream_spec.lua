local packet = require "mysql.packet"
local stream = require "mysql.stream"
local uv = require "luv"

local interpreter = require "spec.support.interpreter"
local process = require "spec.support.process"
local proxies = require "spec.support.proxy"

-- AddressSanitizer needs terabytes of address space; LuaJIT 2.1 itself may crash when it gets no more memory.
local unlimited = proxies.sanitized() or rawget(_G, "jit") ~= nil

describe("a stream", function()
  local listener, accepted, socket, owner, received, ended

  before_each(function()
    owner, received, ended, accepted = { packets = {} }, 0, nil, nil
    function owner.on_connection(_, _, new)
      accepted = new
    end
    function owner:on_packet(_, payload, sequence)
      table.insert(self.packets, ("%d:%s"):format(sequence, payload))
    end
    function owner:on_end(_, message)
      self.over = message or "closed"
    end
    listener = assert(stream.listen(owner, "127.0.0.1", 0, 1))
    socket = uv.new_tcp()
    socket:connect("127.0.0.1", (select(3, listener:address("local"))), function(failure)
      assert(not failure, failure)
    end)
    process.wait_until(function()
      return accepted
    end)
  end)

  after_each(function()
    accepted:close()
    listener:close()
    if not socket:is_closing() then
      socket:close()
    end
    for _ = 1, 10 do
      uv.run("nowait")
    end
  end)

  local function read()
    socket:read_start(function(failure, bytes)
      received = received + (bytes and #bytes or 0)
      ended = not bytes and (failure or "closed")
    end)
  end

  local function packets()
    local all = table.concat(owner.packets, " ")
    owner.packets = {}
    return all
  end

  it("that finishes lets its peer have all that was written, even one that reads nothing for a while", function()
    local bytes = 32 * 1024 * 1024
    accepted:write(("x"):rep(bytes))
    accepted:finish()
    process.wait_until(function() end, 3)
    read()
    process.wait_until(function()
      return ended
    end, 10)
    assert.same({ bytes, "closed" }, { received, ended })
  end)

  it("that finishes does not wait for a peer that has it all and does not close", function()
    accepted:write("x")
    accepted:finish()
    assert.truthy(process.wait_until(function()
      return tostring(accepted) == "mysql.stream (closed)"
    end, 5))
  end)

  it("that holds packets delivers them when it is read again", function()
    accepted:read_packets(1000)
    socket:write((packet.frame("one", 0)))
    process.wait_until(function()
      return #owner.packets > 0
    end)
    accepted:hold_packets()
    socket:write(packet.frame("two", 1) .. packet.frame("three", 2))
    assert.is_falsy(process.wait_until(function()
      return #owner.packets > 1
    end, 0.2))
    assert.equal("0:one", packets())
    accepted:read_packets(1000)
    assert.equal("1:two 2:three", packets())
  end)

  it("can hold packets from within on_packet, and read on from there", function()
    local deliver = owner.on_packet
    function owner:on_packet(from, payload, sequence)
      deliver(self, from, payload, sequence)
      from:hold_packets()
      if sequence ~= 1 then
        from:read_packets(1000)
      end
    end
    accepted:read_packets(1000)
    socket:write(packet.frame("one", 0) .. packet.frame("two", 1) .. packet.frame("three", 2))
    process.wait_until(function()
      return #owner.packets > 1
    end)
    assert.equal("0:one 1:two", packets())
    accepted:read_packets(1000)
    assert.equal("2:three", packets())
  end)

  it("that holds packets notices that its peer has gone", function()
    accepted:read_packets(1000)
    accepted:hold_packets()
    socket:close()
    process.wait_until(function()
      return owner.over
    end, 5)
    assert.equal("closed", owner.over)
  end)

  it("has no patience with a packet that comes byte by byte", function()
    local timed_out
    function owner.on_timeout()
      timed_out = true
    end
    accepted:timeout(0.3)
    accepted:read_packets(1000)
    socket:write("\200\0\0\0")
    local timer = uv.new_timer()
    timer:start(20, 20, function()
      socket:write("x")
    end)
    process.wait_until(function()
      return timed_out
    end, 3)
    timer:close()
    assert.is_true(timed_out)
  end)

  it("tells when its peer has taken what was written, and how long nothing has moved", function()
    local drained = 0
    function owner.on_drain()
      drained = drained + 1
    end
    accepted:write("x")
    assert.is_true(accepted:drained())
    accepted:write(("x"):rep(32 * 1024 * 1024))
    assert.is_false(accepted:drained())
    local idle = 0
    process.wait_until(function()
      idle = accepted:idle()
      return idle > 0
    end, 5)
    assert.is_true(idle > 0)
    assert.equal(0, drained)
    read()
    process.wait_until(function()
      return drained > 0
    end, 20)
    assert.is_true(accepted:drained())
    assert.equal(1, drained)
  end)

  it("keeps the order of what is written, also when its peer makes room meanwhile", function()
    local ends = assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
    local one, peer = assert(stream.open(owner, ends[1])), uv.new_pipe()
    local written, taken, length = {}, {}, 0
    local function write()
      written[#written + 1] = ("%08d"):format(#written):rep(128)
      assert.is_true(one:write(written[#written]))
    end
    while one:drained() do
      write()
    end
    peer:open(ends[2])
    peer:read_start(function(_, bytes)
      taken[#taken + 1], length = bytes, length + #bytes
      if #written < 3000 then
        write() -- there is room, but what did not fit before waits for the loop
      end
    end)
    process.wait_until(function()
      return length == #written * 1024
    end)
    peer:close()
    one:close()
    assert.is_true(table.concat(taken) == table.concat(written))
  end)

  it("may be written to before it is connected", function()
    local first, port = accepted, select(3, listener:address("local"))
    local early = assert(stream.connect(owner, "127.0.0.1", port))
    assert.is_true(early:write((packet.frame("early", 0))))
    assert.truthy(process.wait_until(function()
      return accepted ~= first
    end))
    accepted:read_packets(1000)
    process.wait_until(function()
      return #owner.packets > 0
    end)
    assert.equal("0:early", packets())
    early:close()
    first:close()
  end)

  it("is no danger to a program that never thought of SIGPIPE", function()
    local program = process.write_file(process.path("pipe.lua"), [[
      local uv = require "luv"
      require "mysql.stream"
      local pipe = assert(uv.pipe())
      local writer = uv.new_pipe()
      writer:open(pipe.write)
      uv.fs_close(pipe.read)
      writer:write("x", function(failure) print(failure) end)
      uv.run()
    ]])
    local code, output, errors = process.run("sh", { "-c", interpreter .. " " .. program })
    assert.same({ 0, "EPIPE\n", "" }, { code, output, errors })
  end)

  it("may be of a socket that was made elsewhere", function()
    local ends = assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
    local others = { packets = {}, on_packet = owner.on_packet, on_end = owner.on_end }
    local one, other = assert(stream.open(owner, ends[1])), assert(stream.open(others, ends[2]))
    other:read_packets(10)
    one:send("hello", 7)
    assert(process.wait_until(function()
      return others.packets[1]
    end))
    assert.equal("7:hello", others.packets[1])
    one:write("\5\0\0\0wor") -- and no more
    one:finish()
    assert(process.wait_until(function()
      return others.over
    end))
    assert.equal(1, #others.packets)
    local file = assert(uv.fs_open("/dev/null", "r", 0))
    assert.same({ nil, "ENOTSOCK: socket operation on non-socket", "ENOTSOCK" }, { stream.open(owner, file) })
    uv.fs_close(file)
  end)

  it("that listens goes on when memory has not sufficed for a client", function()
    if unlimited then
      return
    end
    local program = process.write_file(process.path("full.lua"), [[
      local stream, uv = require "mysql.stream", require "luv"
      local owner, accepted, failed, kept = {}, 0, false, nil
      function owner.on_connection(_, _, client)
        accepted = accepted + 1
        client:close()
      end
      stream.on_error(function() failed = true end)
      local port = select(3, stream.listen(owner, "127.0.0.1", 0, 10):address("local"))
      local function connect()
        uv.new_tcp():connect("127.0.0.1", port, function() end)
      end
      local function fill(size)
        while true do kept = { kept, ("x"):rep(size) .. tostring(kept) } end
      end
      local function turn()
        uv.run("nowait")
      end
      uv.run("nowait")
      connect()
      collectgarbage("stop")
      for size = 20, 0, -4 do pcall(fill, 2 ^ size) end
      repeat pcall(turn) until failed
      kept = nil
      collectgarbage("restart")
      collectgarbage()
      connect()
      repeat uv.run("once") until accepted == 2
      print "both are accepted"
      os.exit(0)
    ]])
    local command = ("ulimit -v 60000; timeout 20 %s %s"):format(interpreter, program)
    local code, output, errors = process.run("sh", { "-c", command })
    assert.same({ 0, "both are accepted\n", "" }, { code, output, errors })
  end)

  it("lives as long as it is looked at behind a method that closes it, runs the loop, and fails", function()
    local left, there = setmetatable({}, { __mode = "v" }), {}
    local function fail(...)
      for _, each in ipairs { ... } do
        each:close()
      end
      for _ = 1, 5 do
        uv.run("nowait")
      end
      error "a failure"
    end
    stream.on_error(function()
      collectgarbage()
      collectgarbage()
      there[#there + 1] = next(left) and next(left) .. " is there" or "nothing is there"
    end)
    local methods, ends = {}, assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
    function methods.on_connection(_, from, new)
      left["the client"] = new
      fail(from, new)
    end
    function methods.on_connect(_, from)
      left["the connected one"] = from
      fail(from)
    end
    function methods.on_drain(_, from)
      left["the one that was written"] = from
      fail(from)
    end
    local port = select(3, assert(stream.listen(methods, "127.0.0.1", 0, 1)):address("local"))
    uv.new_tcp():connect("127.0.0.1", port, function() end)
    assert(process.wait_until(function()
      return #there == 1
    end))
    stream.connect(methods, "127.0.0.1", (select(3, listener:address("local"))))
    assert(process.wait_until(function()
      return #there == 2
    end))
    methods.written = assert(stream.open(methods, ends[1]))
    methods.written:write(("x"):rep(2 ^ 20))
    assert.is_false(methods.written:drained())
    methods.written = nil
    assert(process.wait_until(function()
      uv.fs_read(ends[2], 65536, -1)
      return #there == 3
    end))
    uv.fs_close(ends[2])
    assert.same({ "the client is there", "the connected one is there", "the one that was written is there" }, there)
    collectgarbage()
    collectgarbage()
    assert.same({}, left)
  end)
end)
