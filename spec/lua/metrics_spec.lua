local requests = require "mysql-proxy.metrics.request"
local texts = require "mysql-proxy.metrics.text"

describe("the text format of metrics", function()
  it("has help, type and samples with labels in their order", function()
    local text = texts.new()
    text:metric("one", "gauge", "The first.")
    text:sample(1)
    text:metric("two_total", "counter", "The second.")
    text:sample(0, "backend", "db:3306", "state", "up")
    text:sample(2.5, "backend", "db:3307", "state", "up")
    assert.equal([[
# HELP one The first.
# TYPE one gauge
one 1
# HELP two_total The second.
# TYPE two_total counter
two_total{backend="db:3306",state="up"} 0
two_total{backend="db:3307",state="up"} 2.5
]], tostring(text))
  end)

  it("has histograms, whose buckets hold all that is below their bounds", function()
    local text = texts.new()
    text:metric("time_seconds", "histogram", "Times.")
    text:histogram({ 0.001, 0.5 }, { 3, 0, 2 }, 7.25, "command", "COM_QUERY")
    assert.equal([[
# HELP time_seconds Times.
# TYPE time_seconds histogram
time_seconds_bucket{command="COM_QUERY",le="0.001"} 3
time_seconds_bucket{command="COM_QUERY",le="0.5"} 3
time_seconds_bucket{command="COM_QUERY",le="+Inf"} 5
time_seconds_sum{command="COM_QUERY"} 7.25
time_seconds_count{command="COM_QUERY"} 5
]], tostring(text))
  end)

  it("escapes quotes, backslashes and line ends in the values of labels", function()
    assert.equal([[a\"b\\c\nd]], texts.escape('a"b\\c\nd'))
    local text = texts.new()
    text:metric("one", "gauge", "One.")
    text:sample(1, "backend", '/tmp/"x"\n')
    assert.matches('one{backend="/tmp/\\"x\\"\\n"} 1\n', tostring(text), 1, true)
  end)

  it("replaces what is no UTF-8, which Prometheus would refuse as a whole", function()
    local replaced = "\239\191\189"
    for text, escaped in pairs {
      ["grün €uro 😀"] = "grün €uro 😀",
      ["gr\252n"] = "gr" .. replaced .. "n",
      ["\192\175"] = replaced:rep(2), -- too long a form
      ["\237\160\128"] = replaced:rep(3), -- a surrogate
      ["\244\144\128\128"] = replaced:rep(4), -- above U+10FFFF
      ["\226\130"] = replaced:rep(2), -- cut off
    } do
      assert.equal(escaped, texts.escape(text))
    end
  end)

  it("writes numbers without loss, as far as doubles go", function()
    for number, expected in pairs {
      [0] = "0", [1795851131] = "1795851131", [999999999999999] = "999999999999999", [0.0005] = "0.0005",
      [-2] = "-2", [math.huge] = "+Inf", [-math.huge] = "-Inf",
    } do
      assert.equal(expected, texts.number(number))
    end
    assert.equal("NaN", texts.number(0 / 0))
  end)
end)

describe("the head of a request for metrics", function()
  local function path_of(head)
    local request = requests.parse(head)
    return request and request.path
  end

  it("has a method, a path and a version", function()
    local request = requests.parse("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
    assert.same({ method = "GET", path = "/metrics", minor = 1, fields = { host = 1, accept = 1 } }, request)
    assert.equal("DELETE", requests.parse("DELETE * HTTP/1.0\r\n\r\n").method)
  end)

  it("may have lines that end with LF alone, a query, or an absolute URL", function()
    assert.equal("/metrics", path_of("GET /metrics HTTP/1.0\n\n"))
    assert.equal("/metrics", path_of("GET /metrics?name[]=up HTTP/1.0\r\n\r\n"))
    assert.equal("/metrics", path_of("GET http://proxy:9104/metrics?x HTTP/1.1\r\nHost: proxy:9104\r\n\r\n"))
    assert.equal("", path_of("GET http://proxy HTTP/1.1\r\nhOST:proxy\r\n\r\n"))
  end)

  it("is refused if it is malformed", function()
    for _, head in ipairs {
      "\r\n\r\n", "GET\r\n\r\n", "GET /metrics\r\n\r\n", "GET  /metrics HTTP/1.0\r\n\r\n",
      "GET /metrics HTTP/1.0 \r\n\r\n",
      "GET /metrics HTTP/2.0\r\n\r\n", "GET /metrics HTTP/1.10\r\n\r\n", "GET /metrics http/1.0\r\n\r\n",
      "GET /met rics HTTP/1.0\r\n\r\n", "GET /metrics\0 HTTP/1.0\r\n\r\n", "G\195\164T / HTTP/1.0\r\n\r\n",
      "GET / HTTP/1.0\r\nno colon\r\n\r\n", "GET / HTTP/1.0\r\nname : x\r\n\r\n", "GET / HTTP/1.0\r\n: x\r\n\r\n",
      "GET / HTTP/1.0\r\na: b\r\n folded\r\n\r\n", "GET / HTTP/1.0\r\na: \0\r\n\r\n",
      "GET / HTTP/1.0\r\na: b\rc\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.0\r\na: b\r\n",
    } do
      assert.is_nil(requests.parse(head), ("%q"):format(head))
    end
  end)

  it("ends with an empty line, wherever it was cut", function()
    local head = "GET / HTTP/1.0\r\na: b\r\n\r\n"
    for cut = 1, #head - 1 do
      assert.is_nil(requests.find_end(head:sub(1, cut), 1))
    end
    for cut = 0, #head - 1 do
      assert.equal(#head + 1, requests.find_end(head .. "GET", math.max(1, cut - 2)))
    end
  end)

  it("that begins as no method does need not be waited for", function()
    assert.is_true(requests.may_begin("G"))
    for _, text in ipairs { "\22\3\1", "\r\n", " GET", "\0" } do
      assert.is_false(requests.may_begin(text))
    end
  end)
end)
