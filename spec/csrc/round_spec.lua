-- What goes wrong, or ends, while bytes wait in a round of the loop: see csrc/round.h.

local proto = require "mysql.proto"
local stream = require "mysql.stream"
local uv = require "luv"

local conversation = require "spec.support.conversation"
local interpreter = require "spec.support.interpreter"
local process = require "spec.support.process"

local COM_QUERY = 3
local ROOM = 64 -- for reads, in one round
local OK = proto.to_ok_packet { server_status = 2 }
local EOF = proto.to_eof_packet { server_status = 2 }
local LAST_WORDS = proto.to_err_packet { errcode = 1927, sqlstate = "70100", errmsg = "Connection was killed" }

local packets = conversation.packets

describe("a round of the loop", function()
  local opened

  before_each(function()
    opened = {}
  end)

  after_each(function()
    for _, c in ipairs(opened) do
      c:close()
    end
  end)

  local function watch(on_command)
    local c = conversation.watch(on_command, { watched = { COM_QUERY } })
    opened[#opened + 1] = c
    return c
  end

  -- A socket whose other end is a descriptor; what fits in between is always the same.
  local function pair(owner)
    local ends = assert(uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true }))
    return assert(stream.open(owner, ends[1])), ends[2]
  end

  -- A conversation over such a socket on one side.
  local function over_pair(side)
    local c = conversation.connect()
    opened[#opened + 1] = c
    c.streams[side]:close()
    c[side]:close()
    local descriptor
    c.streams[side], descriptor = pair(c)
    return c, descriptor
  end

  it("may close the very stream that is to be read, when it has no room for more", function()
    local others = {}
    local c = watch(function()
      opened[1].streams.client:close()
    end)
    for i = 1, ROOM do
      others[i] = watch(function(relay)
        relay:forward()
      end)
    end
    c.client:send(0, "\3SELECT 0")
    for _, other in ipairs(others) do
      other.client:send(0, "\3SELECT 1")
    end
    c.server:send(1, LAST_WORDS)
    c.client:closes()
    for _, other in ipairs(others) do
      other.server:receives(packets(0, "\3SELECT 1"))
      other:answer(1, OK)
    end
  end)

  it("lets a client have a server's last words that come while a command waits to be written", function()
    local c
    c = watch(function(relay)
      c.server:send(1, LAST_WORDS)
      c.server.socket:close_reset()
      relay:forward()
    end)
    c.client:send(0, "\3SELECT 1")
    c.client:receives(packets(1, LAST_WORDS))
    c.client:closes()
  end)

  it("lets a client have a server's last words that come while a command is being written", function()
    local c, descriptor = over_pair "server"
    c:join()
    local watcher, trigger = uv.new_pipe(), uv.new_pipe()
    local ends = assert(uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true }))
    watcher:open(ends[1])
    trigger:open(ends[2])
    watcher:read_start(function()
      uv.fs_close(descriptor) -- the stream is known to be readable and writable already
      watcher:close()
      trigger:close()
    end)
    local command = packets(0, "\3" .. ("x"):rep(2 ^ 20))
    c.client:write(command)
    assert.truthy(process.wait_until(function()
      return not c.streams.server:drained()
    end))
    uv.run("nowait")
    trigger:write("now")
    while uv.fs_read(descriptor, 65536, -1) do end
    assert.equal(#packets(1, LAST_WORDS), uv.fs_write(descriptor, packets(1, LAST_WORDS), -1))
    c.client:receives(packets(1, LAST_WORDS))
    c.client:closes()
  end)

  it("lets a client that has nothing more to say have what does not fit into its socket", function()
    -- Pieces of an answer that nobody reads. The last is the one behind `fitting`, or the first that does not fit.
    local function answer(fitting)
      local c, descriptor = over_pair "client"
      local socket = uv.new_pipe()
      socket:open(descriptor)
      c.client.socket, c.client.ended = socket, nil
      c:join()
      c:command("\3SELECT")
      c.client:shutdown()
      c.server:closes()
      local written = packets(1, "\1", "column", EOF)
      c.server:write(written)
      local count = 0
      repeat
        local last = count == fitting
        local piece = last and packets(4 + count, ("r"):rep(3987), EOF) or packets(4 + count, ("r"):rep(3996))
        written = written .. piece
        c.server:write(piece)
        assert.truthy(process.wait_until(function()
          return c.over or select(3, c.relay:counters()) == #written
        end))
        count = count + 1
      until last or not c.streams.client:drained()
      return c, count - 1, written
    end
    local _, fitting = answer()
    local c, _, written = answer(fitting)
    c:ends("client")
    c.client:read()
    c.client:receives(written)
    c.client:closes()
  end)

  it("is not for streams without a relay: who writes to one that is broken is told at once", function()
    local owner, seen, sent = {}, {}, nil
    function owner.on_packet(_, _, payload)
      seen[#seen + 1] = payload
    end
    function owner.on_end()
      seen[#seen + 1] = "end"
    end
    local other, descriptor = pair(owner)
    local c = watch(function(relay)
      uv.fs_write(descriptor, packets(1, LAST_WORDS), -1)
      uv.fs_close(descriptor)
      sent = { other:send("hello", 0) }
      relay:forward()
    end)
    other:read_packets(100)
    c:command("\3SELECT 1")
    assert.equal("EPIPE", sent[3])
    assert.truthy(process.wait_until(function()
      return #seen == 2
    end))
    assert.same({ LAST_WORDS, "end" }, seen)
  end)

  it("handles nothing twice when a method runs the loop", function()
    local c, other
    c = watch(function(relay, command)
      if command == "\3SELECT 1" then
        other.client:send(0, "\3SELECT 3")
        other.server:receives(packets(0, "\3SELECT 2") .. packets(0, "\3SELECT 3"))
      end
      relay:forward()
    end)
    other = conversation.open()
    opened[#opened + 1] = other
    c.client:write(packets(0, "\3SELECT 1"))
    other.client:send(0, "\3SELECT 2")
    c.server:receives(packets(0, "\3SELECT 1"))
    c:answer(1, OK)
    c:command("\3SELECT 4")
    assert.same({ "\3SELECT 1", "\3SELECT 4" }, c.seen)
  end)

  it("lets no bytes overtake others of their stream when a method runs the loop", function()
    local first, second = ("a"):rep(5000), ("b"):rep(5000)
    local other = conversation.open()
    opened[#opened + 1] = other
    local c = watch(function(relay, command)
      if command == "\3SELECT 2" then
        other.server:write(second)
        for _ = 1, 20 do
          uv.run("nowait")
        end
      end
      relay:forward()
    end)
    c:command("\3SELECT 1")
    c:answer(1, OK)
    c.client:write(packets(0, "\3SELECT 2"))
    other.server:write(first) -- is read after that in the same round, and too long to wait for its end
    assert(process.wait_until(function()
      return other.client.length == #first + #second
    end))
    assert.is_true(table.concat(other.client.chunks) == first .. second)
    c.server:receives(packets(0, "\3SELECT 2"))
  end)

  describe("whose method runs the loop until another session", function()
    local other, done, waited

    local function wait(relay)
      waited = process.wait_until(done, 5)
      relay:forward()
    end

    local function has_waited(c)
      c.server:receives(packets(0, "\3SELECT 1"))
      assert.is_truthy(waited)
    end

    it("has an answer that has come already, and is long", function()
      local answer = { "\1", "column", EOF, "\252\136\19" .. ("x"):rep(5000), EOF }
      other = watch(function(relay)
        relay:inject "\3SELECT 2"
      end)
      function other.on_answer(_, relay, _, kept)
        relay:reply(conversation.kept(kept))
      end
      function done()
        return other:due() == 0
      end
      local c = watch(wait)
      other.client:send(0, "\3SELECT 2")
      other.server:receives(packets(0, "\3SELECT 2"))
      c.client:write(packets(0, "\3SELECT 1"))
      local bytes = other.server:send(1, unpack(answer))
      has_waited(c)
      other.client:receives(bytes)
    end)

    it("ends that has ended already", function()
      local descriptor
      other, descriptor = over_pair "client"
      other:join()
      function done()
        return other.over
      end
      local c = watch(wait)
      uv.run("nowait")
      c.client:write(packets(0, "\3SELECT 1"))
      uv.fs_close(descriptor)
      has_waited(c)
    end)

    it("goes on that its client has made room for", function()
      local descriptor
      local received = 0
      other, descriptor = over_pair "client"
      other:join()
      local function receive()
        local bytes
        repeat
          bytes = uv.fs_read(descriptor, 65536, -1)
          received = received + #(bytes or "")
        until not bytes
      end
      local row = packets(4, "\253\240\73\2" .. ("x"):rep(150000))
      local answer = packets(1, "\1", "column", EOF) .. row .. row .. row
      local function send(from, to)
        other.server:write(answer:sub(from, to))
        assert(process.wait_until(function()
          return select(3, other.relay:counters()) == to
        end))
      end
      function done()
        receive()
        return received == #answer
      end
      local c = watch(wait)
      uv.fs_write(descriptor, packets(0, "\3SELECT 2"), -1)
      other.server:receives(packets(0, "\3SELECT 2"))
      send(1, 140000) -- which the kernel takes
      send(140001, 290000) -- of which it takes a part: nothing more is read from the server
      other.server:write(answer:sub(290001))
      assert.is_false(other.streams.client:drained())
      uv.run("nowait")
      c.client:write(packets(0, "\3SELECT 1"))
      receive()
      has_waited(c)
      uv.fs_close(descriptor)
    end)
  end)

  it("keeps a stream that has been written when a method closes it, runs the loop, and forgets it", function()
    local written, peer = pair {}
    local left, there = setmetatable({ written }, { __mode = "v" }), nil
    local c = watch(function(relay)
      written:close()
      written = nil
      for _ = 1, 5 do
        uv.run("nowait")
      end
      collectgarbage()
      collectgarbage()
      there = left[1] ~= nil
      relay:forward()
    end)
    written:write(("x"):rep(2 ^ 18))
    assert.is_false(written:drained())
    uv.run("nowait")
    c.client:write(packets(0, "\3SELECT 1")) -- is read before that in the same round
    while uv.fs_read(peer, 65536, -1) do end
    c.server:receives(packets(0, "\3SELECT 1"))
    uv.fs_close(peer)
    assert.is_true(there)
    collectgarbage()
    collectgarbage()
    assert.is_nil(left[1])
  end)

  it("keeps a stream whose packets a method handles that closes it, runs the loop, forgets it, and fails", function()
    local other = watch()
    local left, there = setmetatable({ other.streams.server }, { __mode = "v" }), nil
    local function on_packet(_, from)
      from:close()
      for _ = 1, 5 do
        uv.run("nowait")
      end
      error "a failure"
    end
    local c = watch(function(relay)
      stream.on_error(function()
        collectgarbage()
        collectgarbage()
        there = left[1] ~= nil
      end)
      local detached = other.relay:detach()
      other.streams.server = other.streams.client -- for what closes both
      detached:owner({ on_packet = on_packet })
      detached:read_packets(1000)
      relay:forward()
    end)
    for _ = 1, 5 do
      uv.run("nowait") -- both wait to be read
    end
    c.client:write(packets(0, "\3SELECT 1")) -- is read before that in the same round
    other.server:write(packets(0, "one") .. packets(1, "two"))
    assert(process.wait_until(function()
      return there ~= nil
    end))
    assert.is_true(there)
    collectgarbage()
    collectgarbage()
    assert.is_nil(left[1])
  end)

  it("has done with a stream before that is forgotten, also if the loop is run before its end", function()
    local c, other, check = watch(), watch(), uv.new_check()
    local left = setmetatable({ c.streams.client }, { __mode = "v" })
    local relay = setmetatable({ c.relay }, { __mode = "v" })
    check:start(function() -- libuv calls the latest first
      check:close()
      assert.equal(0, select(2, c.relay:counters()))
      c.streams.client:close()
      c.streams, c.relay = other.streams, nil
      for _ = 1, 5 do
        uv.run("nowait")
      end
      collectgarbage()
      collectgarbage()
      assert.same({}, left)
      assert.same({}, relay)
    end)
    c.client:write(packets(0, "\3SELECT 1"))
    c.client:closes()
    other:command("\14")
    other:answer(1, OK)
  end)

  -- A conversation whose owner has asked the server something, and gets to know how long the answer took: `asked` and
  -- `took`, in microseconds.
  local function asking()
    local c = conversation.connect()
    opened[#opened + 1] = c
    function c.on_answer(_, relay)
      c.took = (relay:times())
      c.answered = uv.hrtime()
    end
    function c.ask(_)
      c.before = uv.hrtime()
      c.relay:inject("\3SELECT 1")
      c.asked = uv.hrtime()
    end
    return c:join()
  end

  local function compute()
    local began = uv.hrtime()
    repeat until uv.hrtime() - began > 2e7
    return uv.hrtime()
  end

  local function is_answered(c)
    c.server:receives(packets(0, "\3SELECT 1"))
    c.server:send(1, OK)
    assert.truthy(process.wait_until(function()
      return c.took
    end))
    assert.is_true(c.took <= (c.answered - c.before) / 1000)
  end

  it("times what is sent late in a method from then on", function()
    local first, second = asking(), asking()
    local c = watch(function(relay)
      first:ask()
      compute()
      second:ask()
      relay:forward()
    end)
    c:command("\3SELECT 2")
    is_answered(first)
    is_answered(second)
  end)

  it("times what is sent while a method runs the loop from then on", function()
    local first, second = asking(), asking()
    local c = watch(function(relay)
      local timers = { uv.new_timer(), uv.new_timer() }
      timers[1]:start(0, 0, function()
        first:ask()
        compute()
        timers[1]:close()
      end)
      timers[2]:start(0, 0, function()
        second:ask()
        timers[2]:close()
      end)
      repeat
        uv.run("once")
      until timers[2]:is_closing()
      relay:forward()
    end)
    c:command("\3SELECT 2")
    is_answered(first)
    is_answered(second)
  end)

  it("times what comes behind a method that has failed from then on", function()
    local first, second, done = asking(), asking(), nil
    local c = watch(function()
      error("a bug", 0)
    end)
    function c.on_relay_end()
      first:ask()
      done = compute()
      error("another bug", 0)
    end
    second:ask()
    second.server:receives(packets(0, "\3SELECT 1"))
    c.client:send(0, "\3SELECT 2")
    second.server:send(1, OK)
    assert.truthy(process.wait_until(function()
      return second.took
    end))
    assert.is_true(done and second.took >= math.floor((done - second.asked) / 1000))
    assert.equal(2, #c.errors)
    c.errors = {}
  end)

  local function output_of(program)
    local pipe = io.popen(("%s -e '%s' 2>&1"):format(interpreter, program))
    local output = pipe:read("*a")
    pipe:close()
    return output
  end

  it("goes on when the module is loaded again", function()
    assert.equal("done\n", output_of [[
      local uv = require "luv"
      local first = require "mysql.stream"
      local stream = first.listen({}, "127.0.0.1", 0, 1)
      package.loaded["mysql.stream"] = nil
      require "mysql.stream"
      collectgarbage()
      collectgarbage()
      collectgarbage()
      stream:close()
      uv.run()
      print "done"
    ]])
  end)

  it("leaves nothing on the loop behind its streams", function()
    assert.equal("none none none\n", (output_of [[
      local uv = require "luv"
      local stream = require "mysql.stream"
      local function left()
        local count = 0
        uv.walk(function() count = count + 1 end) -- it takes no handle that is not its own
        return count == 0 and "none" or count
      end
      local first = left()
      local one, two = stream.listen({}, "127.0.0.1", 0, 1), stream.listen({}, "127.0.0.1", 0, 1)
      one:close()
      uv.run("nowait")
      two:close()
      uv.run()
      local second = left()
      stream.listen({}, "127.0.0.1", 0, 1):close()
      uv.run()
      print(first, second, left())
    ]]:gsub("\t", " ")))
  end)
end)
