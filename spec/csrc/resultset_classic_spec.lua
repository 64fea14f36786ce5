-- Answers in the form that servers of old have, put into that of a session.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local resultset = require "mysql.resultset"

local FLAGS, EXTENDED = proto.capabilities, proto.extended_capabilities
local DEPRECATE_EOF, OPTIONAL = FLAGS.CLIENT_DEPRECATE_EOF, FLAGS.CLIENT_OPTIONAL_RESULTSET_METADATA
local EXTENDED_METADATA = EXTENDED.MARIADB_CLIENT_EXTENDED_METADATA * 2 ^ 32
local CACHE_METADATA = EXTENDED.MARIADB_CLIENT_CACHE_METADATA * 2 ^ 32
local ALL = DEPRECATE_EOF + EXTENDED_METADATA + CACHE_METADATA

local COM_QUERY, COM_FIELD_LIST, COM_PROCESS_INFO, COM_STMT_EXECUTE, COM_STMT_FETCH = 3, 4, 10, 23, 28

local EOF, MORE, END = "\254\0\0\2\0", "\254\0\0\10\0", "\254\0\0\2\0\0\0"
local OK, ERR = "\0\0\0\2\0\0\0", "\255\81\4#07000no"
local A = "\3def\0\0\0\1a\1a\12\8\0\32\0\0\0\253\0\0\0\0\0"
local A_EXTENDED = "\3def\0\0\0\1a\1a\0\12\8\0\32\0\0\0\253\0\0\0\0\0"

local function becomes(expected, payloads, command, capabilities)
  assert.same(expected, resultset.from_classic(payloads, command or COM_QUERY, capabilities or DEPRECATE_EOF))
end

local function stays(payloads, command, capabilities)
  local before = { unpack(payloads) }
  assert.equal(payloads, resultset.from_classic(payloads, command or COM_QUERY, capabilities or ALL))
  assert.same(before, payloads)
end

describe("mysql.resultset.from_classic", function()
  it("leaves out one EOF, and makes the other an OK", function()
    for _, command in ipairs { COM_QUERY, COM_PROCESS_INFO } do
      becomes({ "\1", A, "\3abc", "\251", END }, { "\1", A, EOF, "\3abc", "\251", EOF }, command)
      becomes({ "\1", A, END }, { "\1", A, EOF, EOF }, command)
    end
    becomes({ "\2", A, A, "\1x\251", END }, { "\2", A, A, EOF, "\1x\251", EOF })
  end)

  it("keeps the warnings and the status of the last EOF, but that state has been tracked", function()
    becomes({ "\1", A, "\254\0\0\33\0\7\1" }, { "\1", A, EOF, "\254\7\1\33\0" })
    becomes({ "\1", A, "\254\0\0\2\0\0\0" }, { "\1", A, EOF, "\254\0\0\2\64" })
  end)

  it("knows the EOF of the first servers of 4.1", function()
    becomes({ "\1", A, "\3abc", END }, { "\1", A, "\254", "\3abc", "\254" })
  end)

  it("adds what metadata want", function()
    for _, flag in ipairs { OPTIONAL, CACHE_METADATA } do
      becomes({ "\1\1", A, EOF, "\3abc", EOF }, { "\1", A, EOF, "\3abc", EOF }, nil, flag)
    end
    becomes({ "\1", A_EXTENDED, EOF, EOF }, { "\1", A, EOF, EOF }, nil, EXTENDED_METADATA)
    becomes({ "\1\1", A_EXTENDED, "\3abc", END }, { "\1", A, EOF, "\3abc", EOF }, nil, ALL)
  end)

  it("goes through all results of an answer", function()
    becomes({ "\1", A, "\1x", "\254\0\0\10\0\0\0", "\0\5\0\10\0\0\0", "\1", A, "\1y", END },
      { "\1", A, MORE, "\1x", MORE, "\0\5\0\10\0\0\0", "\1", A, EOF, "\1y", EOF })
    becomes({ "\1", A, "\254\0\0\10\0\0\0", OK }, { "\1", A, MORE, MORE, OK })
    becomes({ "\1", A, "\254\0\0\10\0\0\0", ERR }, { "\1", A, MORE, MORE, ERR })
  end)

  it("ends with an error wherever there is one", function()
    becomes({ "\1", A, "\3abc", ERR }, { "\1", A, EOF, "\3abc", ERR })
    becomes({ "\1", A, ERR }, { "\1", A, EOF, ERR })
    for _, command in ipairs { COM_QUERY, COM_FIELD_LIST, COM_STMT_EXECUTE } do
      becomes({ ERR }, { ERR }, command, ALL)
    end
    becomes({ OK }, { OK }, nil, ALL)
  end)

  it("leaves binary rows as they are", function()
    local row = "\0\0\3abc"
    becomes({ "\1\1", A_EXTENDED, row, END }, { "\1", A, EOF, row, EOF }, COM_STMT_EXECUTE, ALL)
    becomes({ row, END }, { row, EOF }, COM_STMT_FETCH)
    becomes({ "\1", A, "\254\0\0\66\0\0\0" }, { "\1", A, "\254\0\0\66\0" }, COM_STMT_EXECUTE) -- a cursor
    -- OUT parameters: MySQL says only in front of their row that there are some, and that an OK follows
    becomes({ "\1", A, row, "\254\0\0\10\16\0\0", OK }, { "\1", A, "\254\0\0\10\16", row, EOF, OK }, COM_STMT_EXECUTE)
    becomes({ "\1", A, row, "\254\0\0\10\16\0\0", "\1", A, row, END },
      { "\1", A, "\254\0\0\10\16", row, EOF, "\1", A, EOF, row, EOF }, COM_STMT_EXECUTE)
    stays({ "\1", A, EOF, "\3abc", EOF }, COM_STMT_EXECUTE)
  end)

  it("knows the answer to COM_FIELD_LIST", function()
    for _, default in ipairs { "", "\251", "\1x" } do
      becomes({ A .. default, A, END }, { A .. default, A, EOF }, COM_FIELD_LIST)
      becomes({ A_EXTENDED .. default, EOF }, { A .. default, EOF }, COM_FIELD_LIST, EXTENDED_METADATA)
    end
    becomes({ END }, { EOF }, COM_FIELD_LIST)
    stays({ "\1", A, EOF, EOF }, COM_FIELD_LIST)
    stays({ A .. "\1xx", EOF }, COM_FIELD_LIST)
  end)

  it("makes what to_packets makes for these capabilities", function()
    local made = { fields = {}, rows = { {}, { ("x"):rep(300) } } }
    for i = 1, 251 do
      made.fields[i] = { name = ("n"):rep(i), type = 254 }
    end
    local classic, at = {}, 1
    local bytes = resultset.to_packets(made, 0, 1)
    while at <= #bytes do
      local payload, _, after = packet.parse(bytes, at)
      classic[#classic + 1], at = payload, after
    end
    for _, capabilities in ipairs { DEPRECATE_EOF, OPTIONAL, ALL, DEPRECATE_EOF + OPTIONAL } do
      assert.equal((resultset.to_packets(made, capabilities, 1)),
        (resultset.frame(resultset.from_classic(classic, COM_QUERY, capabilities), 1)))
    end
  end)

  it("takes rows of any length", function()
    for _, length in ipairs { 2 ^ 24 - 5, 2 ^ 24 - 1, 2 ^ 24 + 5 } do
      local row = packet.to_lenenc_string(("x"):rep(length))
      becomes({ "\1", A, row, END }, { "\1", A, EOF, row, EOF })
    end
  end)

  it("changes nothing where nothing was negotiated", function()
    stays({ "\1", A, EOF, "\3abc", EOF }, nil, 0)
    stays({ "\1", A, EOF, "\3abc", EOF }, nil, FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SESSION_TRACK)
  end)

  it("changes nothing that has another form", function()
    for _, payloads in ipairs {
      {}, { "" }, { "anything" }, { "\10greeting" }, { "\251file" }, { "\251file", OK }, { "\254" }, { EOF },
      { "\1", A, END }, { "\1", A, "\3abc", END }, { "\1\1", A, "\3abc", END }, -- what sessions of today have
      { "\1", A, "\3abc", EOF }, { "\1\1", A, EOF, EOF }, { "\1", A_EXTENDED, EOF, EOF },
      { "\1", A, EOF, "\3abc", END }, { "\1", A, END, "\3abc", EOF },
      { "\1", A, EOF }, { "\1", A, EOF, "\3abc" }, { "\1", A }, { "\1" }, -- too short
      { "\1", A, EOF, EOF, "" }, { "\1", A, EOF, EOF, OK }, { "\1", A, MORE, MORE }, { ERR, OK }, -- too long
      { "\2", A, EOF, "\3abc", EOF }, { "\1", A, A, EOF, EOF }, { "\0", A, EOF, EOF }, -- another number of columns
      { "\1", A:sub(1, -2), EOF, EOF }, { "\1", A .. "\0", EOF, EOF }, { "\1", "x", EOF, EOF }, { "\1", "", EOF, EOF },
      { "\1", A, EOF, "\3ab", EOF }, { "\1", A, EOF, "\3abcd", EOF }, { "\1", A, EOF, "", EOF }, -- not its cells
      { "\0\0\0\10", "\1", A, EOF, EOF }, { "\1", A, EOF, "\254\0\0", OK },
    } do
      stays(payloads)
    end
  end)

  it("changes nothing that answers another command", function()
    for command = 0, 255 do
      if not ({ [3] = 1, [4] = 1, [10] = 1, [23] = 1, [28] = 1, [250] = 1 })[command] then
        stays({ "\1", A, EOF, "\3abc", EOF }, command)
        stays({ "\0\1\0\0\0\1\0\0\0\0\0\0", A, EOF }, command)
      end
    end
    stays({ "\0\1\0\0\0\1\0\0\0\0\0\0", A, EOF }, 22)
  end)

  it("leaves it to frame to say what is no string", function()
    stays({ "\1", A, EOF, 5, EOF })
    assert.error(function() resultset.from_classic("x", COM_QUERY, 0) end)
    assert.error(function() resultset.from_classic({}, 256, 0) end)
    assert.error(function() resultset.from_classic({}, COM_QUERY, -1) end)
  end)
end)
