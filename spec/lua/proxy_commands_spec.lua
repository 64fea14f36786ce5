local commands = require "proxy.commands"

describe("proxy.commands", function()
  local printed

  before_each(function()
    printed = {}
    stub(_G, "print", function(line)
      printed[#printed + 1] = line
    end)
  end)

  after_each(function()
    _G.print:revert()
  end)

  for packet, expected in pairs {
    ["\1"] = { type = 1, type_name = "COM_QUIT" },
    ["\2test"] = { type = 2, type_name = "COM_INIT_DB", schema = "test" },
    ["\3SELECT 1\0"] = { type = 3, type_name = "COM_QUERY", query = "SELECT 1\0" },
    ["\3"] = { type = 3, type_name = "COM_QUERY", query = "" },
    ["\4t1\0%"] = { type = 4, type_name = "COM_FIELD_LIST", table = "t1\0%" },
    ["\5test"] = { type = 5, type_name = "COM_CREATE_DB", schema = "test" },
    ["\6test"] = { type = 6, type_name = "COM_DROP_DB", schema = "test" },
    ["\8"] = { type = 8, type_name = "COM_SHUTDOWN" },
    ["\14"] = { type = 14, type_name = "COM_PING" },
    ["\18\4\0\0\0"] = { type = 18, type_name = "COM_BINLOG_DUMP" },
    ["\22SELECT ?"] = { type = 22, type_name = "COM_STMT_PREPARE", query = "SELECT ?" },
    ["\23\1\2\3\255\0\1\0\0\0"] = { type = 23, type_name = "COM_STMT_EXECUTE", stmt_handler_id = 0xff030201 },
    ["\25\1\0\0\0"] = { type = 25, type_name = "COM_STMT_CLOSE", stmt_handler_id = 1 },
    ["\27\1\0"] = { type = 27, type_name = "COM_SET_OPTION", option = "\1\0" },
    ["\30\0\0"] = { type = 30, type_name = "COM_BINLOG_DUMP" },
    -- cut short
    ["\23\1"] = { type = 23, type_name = "COM_STMT_EXECUTE" },
    ["\25"] = { type = 25, type_name = "COM_STMT_CLOSE" },
  } do
    it(("takes %q apart"):format(packet), function()
      assert.same(expected, commands.parse(packet))
      assert.same({}, printed)
    end)
  end

  for byte, name in pairs {
    [0] = "COM_SLEEP", [7] = "COM_REFRESH", [9] = "COM_STATISTICS", [10] = "COM_PROCESS_INFO", [11] = "COM_CONNECT",
    [12] = "COM_PROCESS_KILL", [13] = "COM_DEBUG", [15] = "COM_TIME", [16] = "COM_DELAYED_INSERT",
    [17] = "COM_CHANGE_USER", [19] = "COM_TABLE_DUMP", [20] = "COM_CONNECT_OUT", [21] = "COM_REGISTER_SLAVE",
    [24] = "COM_STMT_SEND_LONG_DATA", [26] = "COM_STMT_RESET", [28] = "COM_STMT_FETCH", [29] = "COM_DAEMON",
  } do
    it("prints that there is more to " .. name .. " than it says", function()
      assert.same({ type = byte, type_name = name }, commands.parse(string.char(byte) .. "data"))
      assert.same({ ("[debug] (command) unhandled type name:%s byte:%d"):format(name, byte) }, printed)
    end)
  end

  it("does not know the names of later commands", function()
    assert.same({ type = 31 }, commands.parse("\31"))
    assert.same({ type = 250 }, commands.parse("\250"))
    assert.same({}, commands.parse(""))
    assert.same({
      "[debug] (command) unhandled type name:nil byte:31",
      "[debug] (command) unhandled type name:nil byte:250",
      "[debug] (command) unhandled type name:nil byte:nil",
    }, printed)
  end)

  for packet, line in pairs {
    ["\3SELECT 1"] = "[COM_QUERY] SELECT 1",
    ["\22SELECT ?"] = "[COM_STMT_PREPARE] SELECT ?",
    ["\2test"] = "[COM_INIT_DB] test",
    ["\1"] = "[COM_QUIT]",
    ["\14"] = "[COM_PING]",
    ["\8"] = "[COM_SHUTDOWN]",
    ["\4t1\0"] = "[COM_FIELD_LIST]",
    ["\23\1\0\0\0\0\1\0\0\0"] = "[COM_STMT_EXECUTE] 1",
    ["\25\1\0\0\0"] = "[COM_STMT_CLOSE] ... no idea",
    ["\5test"] = "[COM_CREATE_DB] ... no idea",
    ["\18"] = "[COM_BINLOG_DUMP] ... no idea",
    ["\30"] = "[COM_BINLOG_DUMP] ... no idea",
    ["\250"] = "[nil] ... no idea",
  } do
    it("says " .. line, function()
      local cmd = commands.parse(packet)
      printed = {}
      assert.equal(line, commands.pretty_print(cmd))
      assert.same({}, printed) -- it returns the line
    end)
  end

  it("names the commands as the constants do", function()
    local constants = require "mysql-proxy.scripting.constants"
    for name, value in pairs(constants) do
      if name:find("^COM_") then
        assert.equal(name, commands.parse(string.char(value)).type_name)
      end
    end
  end)
end)
