-- The global `proxy` is a mock here: what counts is what the statements make of it.

local lfs = require "lfs"

local process = require "spec.support.process"

local OK, ERR, SEND_RESULT, STRING = 0, 255, 2, 254

describe("proxy.auto-config", function()
  local before, auto_config, config

  before_each(function()
    before = rawget(_G, "proxy")
    config = {
      rwsplit = { is_debug = false, min_idle_connections = 4, name = "first" },
      ["ro_2"] = { ["max_lag_2"] = 10, list = {} },
    }
    setmetatable(config, { -- as the proxy makes it
      folder = process.folder(),
      __index = function(_, key)
        return package.loaded["proxy.auto-config"][key]
      end,
    })
    rawset(_G, "proxy", {
      MYSQLD_PACKET_OK = OK, MYSQLD_PACKET_ERR = ERR, PROXY_SEND_RESULT = SEND_RESULT, MYSQL_TYPE_STRING = STRING,
      COM_QUERY = 3, global = { config = config },
    })
    package.loaded["proxy.auto-config"] = nil
    auto_config = require "proxy.auto-config"
  end)

  after_each(function()
    rawset(_G, "proxy", before)
    package.loaded["proxy.auto-config"] = nil
  end)

  -- The response to a statement; nil if it is left to the server.
  local function answer(sql)
    _G.proxy.response = nil
    local verdict = config:handle { type = 3, type_name = "COM_QUERY", query = sql }
    local response = _G.proxy.response
    if verdict == nil then
      assert.is_nil(response)
      return nil
    end
    assert.equal(SEND_RESULT, verdict)
    return response
  end

  local function refused(text, sql)
    assert.same({ type = ERR, errmsg = text }, answer(sql))
  end

  local function not_ours(sql)
    assert.is_nil(answer(sql), sql)
  end

  it("gives proxy.global.config its functions, and no options", function()
    assert.equal(auto_config.handle, config.handle)
    assert.equal(auto_config.load, config.load)
    assert.equal(auto_config.save, config.save)
    local modules = {}
    for module in pairs(config) do
      modules[#modules + 1] = module
    end
    assert.equal(2, #modules)
  end)

  it("can be asked in the old form", function()
    assert.equal(SEND_RESULT, auto_config.handle { type = 3, query = "PROXY SET GLOBAL rwsplit.is_debug = true" })
    assert.is_true(config.rwsplit.is_debug)
    assert.is_nil(auto_config.handle { type = 3, query = "SELECT 1" })
  end)

  it("looks at queries only", function()
    assert.is_nil(config:handle { type = 22, query = "PROXY SHOW CONFIG" })
    assert.is_nil(config:handle { type = 14 })
    assert.is_nil(_G.proxy.response)
  end)

  it("looks at queries of 128 bytes at most", function()
    local function set(length)
      local begin = 'PROXY SET GLOBAL rwsplit.name = "'
      return begin .. ("x"):rep(length - #begin - 1) .. '"'
    end
    assert.equal(128, #set(128))
    assert.equal(OK, answer(set(128)).type)
    not_ours(set(129))
  end)

  it("leaves other statements to the server", function()
    for _, sql in ipairs {
      "", "SELECT 1", "PROXY", "PROXY SHOW", "PROXY SHOW CONFIG;", " PROXY SHOW CONFIG", "PROXY SHOW CONFIG ",
      "PROXY SHOW CONFIGS", "PROXYSHOW CONFIG", "PROXY SHOW CONFIG LIKE 'x'", "SHOW CONFIG",
      "PROXY SET GLOBAL rwsplit.is_debug = true;", "PROXY SET GLOBAL rwsplit.is_debug = maybe",
      "PROXY SET GLOBAL rwsplit.name = 'single'", "PROXY SET GLOBAL rwsplit = 1", "PROXY SET rwsplit.is_debug = true",
      "PROXY SET GLOBAL rwsplit.min_idle_connections = 1e3", "PROXY SET GLOBAL rwsplit.is_debug = trueish",
      "PROXY SAVE CONFIG INTO file", "PROXY SAVE CONFIG", 'PROXY LOAD CONFIG "file"',
    } do
      not_ours(sql)
    end
  end)

  it("shows all options", function()
    local response = answer "PROXY SHOW CONFIG"
    assert.equal(OK, response.type)
    assert.same({
      { name = "module", type = STRING }, { name = "option", type = STRING }, { name = "value", type = STRING },
      { name = "type", type = STRING },
    }, response.resultset.fields)
    assert.same({
      { "ro_2", "list", tostring(config.ro_2.list), "table" },
      { "ro_2", "max_lag_2", "10", "number" },
      { "rwsplit", "is_debug", "false", "boolean" },
      { "rwsplit", "min_idle_connections", "4", "number" },
      { "rwsplit", "name", "first", "string" },
    }, response.resultset.rows)
    assert.same(response, answer "proxy  show\tconfig")
  end)

  it("shows that there are none", function()
    for module in pairs(config) do
      config[module] = nil
    end
    assert.same({}, answer("PROXY SHOW CONFIG").resultset.rows)
  end)

  it("sets options", function()
    for statement, expected in pairs {
      ["PROXY SET GLOBAL rwsplit.is_debug = true"] = { "rwsplit", "is_debug", true },
      ["proxy set global rwsplit.is_debug = TRUE"] = { "rwsplit", "is_debug", true },
      ["PROXY SET GLOBAL rwsplit.is_debug=false"] = { "rwsplit", "is_debug", false },
      ["PROXY SET GLOBAL rwsplit.min_idle_connections = 17"] = { "rwsplit", "min_idle_connections", 17 },
      ["PROXY SET GLOBAL rwsplit.min_idle_connections = -3"] = { "rwsplit", "min_idle_connections", -3 },
      ["PROXY SET GLOBAL rwsplit.min_idle_connections = 1.5"] = { "rwsplit", "min_idle_connections", 1.5 },
      ["PROXY SET GLOBAL ro_2.max_lag_2 = 0"] = { "ro_2", "max_lag_2", 0 },
      ['PROXY SET GLOBAL rwsplit.name = "a b; c"'] = { "rwsplit", "name", "a b; c" },
      ['PROXY SET GLOBAL rwsplit.name = ""'] = { "rwsplit", "name", "" },
    } do
      assert.same({ type = OK, affected_rows = 1 }, answer(statement), statement)
      assert.equal(expected[3], config[expected[1]][expected[2]])
    end
  end)

  it("sets an option to false and back", function()
    for _, value in ipairs { "true", "false", "true" } do
      assert.same({ type = OK, affected_rows = 1 }, answer("PROXY SET GLOBAL rwsplit.is_debug = " .. value))
      assert.equal(value == "true", config.rwsplit.is_debug)
    end
  end)

  it("refuses what does not fit", function()
    refused("module not known", "PROXY SET GLOBAL nothing.is_debug = true")
    refused("module not known", "PROXY SET GLOBAL handle.x = 1") -- a function that the table got
    refused("option not know", "PROXY SET GLOBAL rwsplit.nothing = true")
    refused("(auto-config) expected a number, got string", 'PROXY SET GLOBAL rwsplit.min_idle_connections = "4"')
    refused("(auto-config) expected a number, got boolean", "PROXY SET GLOBAL rwsplit.min_idle_connections = true")
    refused("(auto-config) expected a boolean, got number", "PROXY SET GLOBAL rwsplit.is_debug = 1")
    refused("(auto-config) expected a boolean, got string", 'PROXY SET GLOBAL rwsplit.is_debug = "true"')
    refused("(auto-config) expected a string, got number", "PROXY SET GLOBAL rwsplit.name = 1")
    refused("(auto-config) type: table isn't handled yet", "PROXY SET GLOBAL ro_2.list = 1")
    assert.same({ is_debug = false, min_idle_connections = 4, name = "first" }, config.rwsplit)
  end)

  it("does not fail for anything that a script has in its options", function()
    local function fails() error("oops") end
    local strict = setmetatable({}, { __index = fails, __newindex = fails, __tostring = fails })
    config.strict, config.no_module = strict, false
    config.rwsplit.object, config.rwsplit[strict] = strict, true
    local rows = answer("PROXY SHOW CONFIG").resultset.rows
    assert.same({ "rwsplit", "object", "table", "table" }, rows[#rows - 1])
    assert.same({ "rwsplit", "table", "true", "boolean" }, rows[#rows])
    refused("option not know", "PROXY SET GLOBAL strict.nothing = 1")
    refused("module not known", "PROXY SET GLOBAL no_module.x = 1")
    refused("(auto-config) type: table isn't handled yet", "PROXY SET GLOBAL rwsplit.object = 1")
    not_ours("SET GLOBAL strict.nothing = 1")
    for _, value in ipairs { false, 5 } do
      _G.proxy.global.config = value
      local function ask(sql)
        return auto_config.handle { type = 3, query = sql }, _G.proxy.response
      end
      assert.is_nil((ask "SET GLOBAL rwsplit.is_debug = 1"))
      assert.same({ type = ERR, errmsg = "module not known" }, select(2, ask "PROXY SET GLOBAL rwsplit.is_debug = 1"))
      assert.same({}, select(2, ask "PROXY SHOW CONFIG").resultset.rows)
      local path = process.path("options")
      assert.is_true(auto_config.save(path))
      assert.same({ nil, "(auto-config) proxy.global.config is no table" }, { auto_config.load(path) })
    end
  end)

  describe("in the words of 0.6", function()
    it("sets numbers and booleans", function()
      assert.same({ type = OK }, answer "SET GLOBAL rwsplit.min_idle_connections = 5")
      assert.equal(5, config.rwsplit.min_idle_connections)
      assert.same({ type = OK }, answer "set global rwsplit.is_debug = 1")
      assert.is_true(config.rwsplit.is_debug)
      assert.same({ type = OK }, answer "SET GLOBAL rwsplit.is_debug = 0")
      assert.is_false(config.rwsplit.is_debug)
    end)

    it("leaves to the server what it does not know", function()
      for _, sql in ipairs {
        "SET GLOBAL max_connections = 5", "SET GLOBAL hot.key_buffer_size = 5", "SET GLOBAL rwsplit.nothing = 5",
        "SET GLOBAL rwsplit.name = 5", "SET GLOBAL rwsplit.is_debug = 2", "SET GLOBAL rwsplit.is_debug = true",
        "SET GLOBAL ro_2.list = 1", "SET SESSION rwsplit.is_debug = 1",
        "SET GLOBAL hot.key_buffer_size = 0", "SET GLOBAL hot.key_buffer_size = 1", "SET GLOBAL rwsplit.nothing = 0",
        "SET GLOBAL handle.x = 0", "SET GLOBAL no_module.x = 1",
      } do
        config.no_module = true
        not_ours(sql)
      end
    end)
  end)

  describe("saves and loads", function()
    local path

    before_each(function()
      path = process.path("config")
    end)

    local function write(text)
      process.write_file(path, text)
    end

    local function save()
      assert.same({ type = OK, affected_rows = 0 }, answer(('PROXY SAVE CONFIG INTO "%s"'):format(path)))
    end

    local function load()
      return answer(('PROXY LOAD CONFIG FROM "%s"'):format(path))
    end

    local function read()
      local lines = {}
      for line in io.lines(path) do
        lines[#lines + 1] = line
      end
      return lines
    end

    it("what comes back as it was", function()
      local odd = {
        text = 'quotes " and \\ and\nlines\r\n and \0 bytes \255', long = ("x"):rep(1000), number = 0.1,
        small = -2 ^ -40, large = 2 ^ 60, most = math.huge, least = -math.huge, yes = true, no = false,
        ["a key"] = 1, ["end"] = 2,
      }
      config.rwsplit, config["module 2"] = odd, { a = 1 }
      save()
      config.rwsplit, config["module 2"], config.ro_2.max_lag_2 = {}, nil, 11
      assert.same({ type = OK, affected_rows = 0 }, load())
      assert.same(odd, config.rwsplit)
      assert.same({ a = 1 }, config["module 2"])
      assert.equal(10, config.ro_2.max_lag_2)
      assert.is_table(config.ro_2.list) -- which cannot be saved
    end)

    it("a line for each option", function()
      config.rwsplit.is_debug = true
      save()
      local lines = read()
      assert.equal("return {", lines[1])
      assert.equal("}", lines[#lines])
      local text = table.concat(lines, "\n")
      assert.matches('\n%s+%["is_debug"%] = true,\n', text)
      assert.matches('\n%s+%["min_idle_connections"%] = 4,\n', text)
      assert.matches('\n%s+%["name"%] = "first",\n', text)
      assert.is_nil(text:find("list", 1, true))
    end)

    it("no options at all", function()
      for module in pairs(config) do
        config[module] = nil
      end
      save()
      assert.same({ type = OK, affected_rows = 0 }, load())
      assert.is_nil(next(config))
    end)

    it("module by module: what is not in the file stays", function()
      write "return { rwsplit = { is_debug = true, more = 5 }, third = { x = 1 } }"
      assert.same({ type = OK, affected_rows = 0 }, load())
      assert.same({ is_debug = true, min_idle_connections = 4, name = "first", more = 5 }, config.rwsplit)
      assert.same({ x = 1 }, config.third)
      assert.equal(10, config.ro_2.max_lag_2)
    end)

    it("from a program too", function()
      assert.is_true(config:save(path))
      config.rwsplit.name = "second"
      assert.is_true(auto_config.load(path))
      assert.equal("first", config.rwsplit.name)
      assert.is_true(auto_config.save(path))
      local ok, message = config:load(path .. ".none")
      assert.is_nil(ok)
      assert.matches("No such file", message, 1, true)
    end)

    it("or says why not", function()
      local response = load()
      assert.equal(ERR, response.type)
      assert.matches(path .. ": No such file or directory", response.errmsg, 1, true)
      lfs.mkdir(path)
      assert.matches("Is a directory", load().errmsg, 1, true)
      assert.matches("Is a directory", answer(('PROXY SAVE CONFIG INTO "%s"'):format(path)).errmsg, 1, true)
      local _, message = config:save(path .. "/no/such")
      assert.matches("No such file or directory", message, 1, true)
      if lfs.attributes("/dev/full") then
        config.rwsplit.long = ("x"):rep(100000)
        assert.matches("No space left", select(2, config:save("/dev/full")), 1, true)
      end
    end)

    it("nothing of a file that is not right", function()
      for text, message in pairs {
        ["return {"] = ":1: expected return { module = { option = value } }", [""] = ":1: expected return {",
        ["return { rwsplit = { is_debug = true }, ro_2 = 5 }"] = "ro_2: expected a table, got number",
        [string.dump(function() return { rwsplit = { is_debug = true } } end)] = ":1: expected return {",
      } do
        write(text)
        local response = load()
        assert.equal(ERR, response.type)
        assert.matches(message, response.errmsg, 1, true)
      end
      assert.is_false(config.rwsplit.is_debug)
    end)

    it("without running it", function()
      rawset(_G, "ran", nil)
      for _, text in ipairs {
        "ran = true return { rwsplit = { is_debug = true } }", "return { rwsplit = { is_debug = (ran = true) } }",
        "return setmetatable({ rwsplit = { is_debug = true } }, {})", "while true do end return {}",
        "return { rwsplit = { is_debug = true, name = ('x'):rep(1e9) } }",
      } do
        write(text)
        assert.matches("expected return {", load().errmsg, 1, true)
        assert.is_false(config.rwsplit.is_debug)
      end
      assert.is_nil(rawget(_G, "ran"))
    end)
  end)

  describe("lets a client name", function()
    local folder

    before_each(function()
      folder = process.path("folder")
      lfs.mkdir(folder)
      getmetatable(config).folder = folder
    end)

    it("files of one folder", function()
      for _, name in ipairs { "options", "options.lua", "a-b_2", folder .. "/options" } do
        config.rwsplit.name = name
        assert.same({ type = OK, affected_rows = 0 }, answer(('PROXY SAVE CONFIG INTO "%s"'):format(name)))
        config.rwsplit.name = "changed"
        assert.same({ type = OK, affected_rows = 0 }, answer(('PROXY LOAD CONFIG FROM "%s"'):format(name)))
        assert.equal(name, config.rwsplit.name)
        assert.truthy(lfs.attributes(folder .. "/" .. name:match("[^/]*$")))
      end
      getmetatable(config).folder = folder .. "/"
      assert.same({ type = OK, affected_rows = 0 }, answer(('PROXY LOAD CONFIG FROM "%s/options"'):format(folder)))
    end)

    it("no others", function()
      for _, name in ipairs {
        "/etc/passwd", "../options", "below/options", "..", ".", ".options", "", folder .. "/../options",
        folder .. "x/options", folder .. "/", "a b", "options\0", "options\n",
      } do
        local text = ("(auto-config) %s is no plain name of a file in %s (--proxy-lua-config-folder)"):format(
          name, folder)
        refused(text, 'PROXY SAVE CONFIG INTO "' .. name .. '"')
        refused(text, 'PROXY LOAD CONFIG FROM "' .. name .. '"')
      end
      for name in lfs.dir(folder) do
        assert.matches("^%.%.?$", name)
      end
    end)

    it("no file to overwrite that has something else", function()
      local script = folder .. "/rules.lua"
      for _, text in ipairs { "function read_query() end", "" } do
        process.write_file(script, text)
        assert.matches("(auto-config) not overwritten, as these are no options: " .. script .. ":1: expected return {",
          answer('PROXY SAVE CONFIG INTO "rules.lua"').errmsg, 1, true)
        assert.equal(text, process.read_file(script))
      end
      lfs.mkdir(folder .. "/below")
      assert.matches("Is a directory", answer('PROXY SAVE CONFIG INTO "below"').errmsg, 1, true)
    end)

    it("a file that stays as it was if the new one cannot be written", function()
      assert.equal(OK, answer('PROXY SAVE CONFIG INTO "options"').type)
      local kept = process.read_file(folder .. "/options")
      lfs.mkdir(folder .. "/.options.new")
      config.rwsplit.name = "second"
      assert.matches("Is a directory", answer('PROXY SAVE CONFIG INTO "options"').errmsg, 1, true)
      assert.equal(kept, process.read_file(folder .. "/options"))
      lfs.rmdir(folder .. "/.options.new")
      assert.equal(OK, answer('PROXY SAVE CONFIG INTO "options"').type)
      assert.matches("second", process.read_file(folder .. "/options"), 1, true)
      assert.is_nil(lfs.attributes(folder .. "/.options.new"))
    end)

    it("none if there is no such folder", function()
      getmetatable(config).folder = nil
      local text = "(auto-config) files are only read and written in the folder that --proxy-lua-config-folder names"
      refused(text, 'PROXY SAVE CONFIG INTO "options"')
      refused(text, 'PROXY LOAD CONFIG FROM "options"')
      local path = process.path("config")
      assert.is_true(config:save(path)) -- the script itself may
      assert.is_true(config:load(path))
    end)
  end)
end)
