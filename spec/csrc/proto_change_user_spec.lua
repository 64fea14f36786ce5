local proto = require "mysql.proto"

describe("mysql.proto and COM_CHANGE_USER", function()
  local packet = "\17user\0\3abcdb\0\45\0mysql_native_password\0attributes"

  it("decodes it", function()
    assert.same({
      username = "user", response = "abc", database = "db", charset = 45, auth_plugin_name = "mysql_native_password",
    }, proto.from_change_user_packet(packet))
    assert.same({ charset = 0 }, proto.from_change_user_packet("\17\0\0\0")) -- of a 4.1 client
  end)

  it("encodes what it decodes to", function()
    local fields = proto.from_change_user_packet(packet)
    assert.same(fields, proto.from_change_user_packet(proto.to_change_user_packet(fields)))
    assert.equal("\17\0\0\0\8\0", proto.to_change_user_packet({}))
  end)

  it("ends with the connection attributes, if there are any", function()
    local fields = { username = "user", auth_plugin_name = "plugin", attributes = {} }
    local bare = "\17user\0\0\0\8\0plugin\0"
    assert.equal(bare .. "\0", proto.to_change_user_packet(fields))
    fields.attributes = { _os = "Linux" }
    assert.equal(bare .. "\10\3_os\5Linux", proto.to_change_user_packet(fields))
    fields.attributes = { name = ("x"):rep(70000) }
    assert.equal(bare .. "\253\121\17\1\4name\253\112\17\1" .. ("x"):rep(70000),
      proto.to_change_user_packet(fields))
    fields.attributes = "\3_os\5Linux"
    assert.equal(bare .. "\10\3_os\5Linux", proto.to_change_user_packet(fields))
    for _, wrong in ipairs { 1, { 1 }, { name = 1 } } do
      fields.attributes = wrong
      assert.has_error(function()
        proto.to_change_user_packet(fields)
      end)
    end
  end)

  it("refuses what is cut short, or no such command", function()
    for length = 0, 10 do
      assert.has_error(function()
        proto.from_change_user_packet(packet:sub(1, length))
      end)
    end
    assert.has_error(function()
      proto.from_change_user_packet("\18user\0\0\0\0")
    end)
    assert.has_error(function()
      proto.to_change_user_packet { response = ("x"):rep(256) }
    end)
  end)
end)
