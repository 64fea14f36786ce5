-- The head of an HTTP/1.x request, as an LPeg pattern. Source: RFC 9112, sections 2 to 5.

local lpeg = require "lpeg"

local P, R, S, V, C, Cf, Cg, Cp, Ct = lpeg.P, lpeg.R, lpeg.S, lpeg.V, lpeg.C, lpeg.Cf, lpeg.Cg, lpeg.Cp, lpeg.Ct

local M = {}

local line_end = P "\r" ^ -1 * "\n" -- "a recipient MAY recognize a single LF as a line terminator"
local token_char = R("az", "AZ", "09") + S "!#$%&'*+-.^_`|~"
local visible = R "!~"

local authority = (P "http" + "HTTP") * P "s" ^ -1 * "://" * (visible - S "/?#") ^ 1
local target = authority ^ -1 * C((visible - S "?#") ^ 0) * visible ^ 0
local version = P "HTTP/1." * C(R "09")
local request_line = Cg(C(token_char ^ 1), "method") * " " * #visible * Cg(target, "path") * " "
  * Cg(version / tonumber, "minor") * line_end

local value = (visible + R "\128\255" + S " \t") ^ 0
local field = Cg(C(token_char ^ 1) / string.lower * ":" * value * line_end)
local fields = Cf(Ct "" * field ^ 0, function(counts, name)
  counts[name] = (counts[name] or 0) + 1
  return counts
end)

local head = Ct(request_line * Cg(fields, "fields") * line_end)
local head_end = P { line_end * line_end * Cp() + 1 * V(1) }
local first_char = token_char + -P(1)

--- Whether a request may begin like this: what is no HTTP at all (TLS, say) need not be waited for.
---@param text string
---@return boolean
function M.may_begin(text)
  return first_char:match(text) ~= nil
end

--- Where the head ends.
---@param text string what has come
---@param from integer no end of it is before
---@return integer|nil after the position behind the head; nil if it is not whole
function M.find_end(text, from)
  return head_end:match(text, from)
end

--- Reads a whole head.
---@param text string
---@return { method: string, path: string, minor: integer, fields: table<string, integer> }|nil request path: without
---        scheme, authority and query; minor: of the version 1.x; fields: how often each header field is there, by its
---        name in small letters. nil: it is malformed
function M.parse(text)
  local request = head:match(text)
  local hosts = request and request.fields.host or 0
  if not request or hosts > 1 or hosts == 0 and request.minor > 0 then -- section 3.2
    return nil
  end
  return request
end

return M
