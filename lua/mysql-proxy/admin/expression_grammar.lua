-- Expressions of admin SQL, as rules of the grammar. What they become:
--
--   { "literal", value }                  a number, a string, or nil for NULL
--   { "column", name, table }             table is nil if it was not named
--   { "variable", "system"|"user", name }
--   { "parameter", position }             the ? of a prepared statement; position in the text
--   { "call", NAME, arguments }           arguments.distinct, arguments.star
--   { "and"|"or", operands }
--   { "not", operand }
--   { "unary", operand, signs }           signs: "-", "+", "!" as written
--   { "chain", operand, suffixes }        what is done to the operand, one after the other:
--     { "arithmetic", operator, operand }, { "compare", operator, operand }, { "is", negated, "NULL"|"TRUE"|"FALSE" },
--     { "in", negated, list }, { "between", negated, low, high }, { "like", negated, pattern, escape }
--
-- Whatever may be repeated is a list and no nesting, so that a statement is as deep as its parentheses, which LPeg
-- limits: nothing that walks through it can run out of stack.

local lpeg = require "lpeg"

local lexer = require "mysql-proxy.admin.lexer"

local V, C, Cc, Cg, Ct = lpeg.V, lpeg.C, lpeg.Cc, lpeg.Cg, lpeg.Ct
local word, sign, token, upper = lexer.word, lexer.sign, lexer.token, lexer.upper

local function node(tag, pattern)
  return Ct(Cc(tag) * pattern)
end

-- Operands with the same operator between them.
local function joined(tag, operand, operator)
  return operand * (operator * operand) ^ 0 / function(first, second, ...)
    return second and { tag, { first, second, ... } } or first
  end
end

local function chain(operand, suffix)
  return operand * suffix ^ 0 / function(first, second, ...)
    return second and { "chain", first, { second, ... } } or first
  end
end

local function arithmetic(operator, operand)
  return node("arithmetic", operator * operand)
end

local negatable = word "NOT" * Cc(true) + Cc(false)
local expressions = V "expression" * (sign "," * V "expression") ^ 0

local literal = node("literal", lexer.string + lexer.number + word "TRUE" * Cc(1) + word "FALSE" * Cc(0)
  + word "NULL")

-- Of schema.table.column the schema does not matter.
local column = lexer.name * (sign "." * lexer.any_name) ^ -2 / function(one, two, three)
  if not two then
    return { "column", one }
  end
  return { "column", three or two, three and two or one }
end

local bare_call = node("call", upper(word "CURRENT_TIMESTAMP" + word "CURRENT_USER") * Ct(lpeg.P(true)))

local call = node("call", upper(lexer.called) * sign "("
  * Ct(Cg(word "DISTINCT" * Cc(true), "distinct") ^ -1 * (Cg(sign "*" * Cc(true), "star") + expressions ^ -1))
  * sign ")")

local comparison = token(C(lpeg.P "<=>" + "<=" + ">=" + "<>" + "!=" + "=" + "<" + ">"))

return {
  expression = joined("or", V "conjunction", word "OR" + sign "||"),
  conjunction = joined("and", V "negation", word "AND" + sign "&&"),
  negation = Ct((word "NOT" * Cc(true)) ^ 1) * V "comparison" / function(nots, operand)
    return { "not", #nots % 2 == 1 and operand or { "not", operand } }
  end + V "comparison",
  comparison = chain(V "sum", node("compare", comparison * V "sum")
    + node("is", word "IS" * negatable * upper(word "NULL" + word "TRUE" + word "FALSE"))
    + node("in", negatable * word "IN" * sign "(" * Ct(expressions) * sign ")")
    + node("between", negatable * word "BETWEEN" * V "sum" * word "AND" * V "sum")
    + node("like", negatable * word "LIKE" * V "sum" * (word "ESCAPE" * lexer.string) ^ -1)),
  sum = chain(V "product", arithmetic(token(C(lpeg.S "+-")), V "product")),
  product = chain(V "unary", arithmetic(
    token(C(lpeg.S "*%" + lpeg.P "/" * -lpeg.P "*")) + upper(word "DIV" + word "MOD"), V "unary")),
  unary = V "primary" + Ct(token(C(lpeg.S "+-!")) ^ 1) * V "primary" / function(signs, operand)
    return { "unary", operand, table.concat(signs) }
  end,
  primary = literal + lexer.parameter + node("variable", lexer.variable) + call + bare_call + column
    + sign "(" * V "expression" * sign ")",
}
