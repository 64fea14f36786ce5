--- What scripts do with the tokens of a statement. `tokens` is a stream of mysql.tokenizer, or an array of its tokens;
-- entries that were set to nil are passed over.

local mysql_tokenizer = require "mysql.tokenizer"

local M = {
  tokenize = mysql_tokenizer.tokenize,
  normalize = mysql_tokenizer.normalize,
}

--- The first token that is no comment; /*! ... */ is none.
---@return table|nil token
function M.first_stmt_token(tokens)
  for i = 1, #tokens do
    local token = tokens[i]
    if token and token.token_name ~= "TK_COMMENT" then
      return token
    end
  end
end

--- The texts of the tokens that are no comments.
---@param quote_strings boolean|nil strings in double quotes, as %q writes them
---@return string[]
function M.bare_tokens(tokens, quote_strings)
  local texts = {}
  for i = 1, #tokens do
    local token = tokens[i]
    local name = token and token.token_name
    if name == "TK_STRING" and quote_strings then
      texts[#texts + 1] = ("%q"):format(token.text)
    elseif token and name ~= "TK_COMMENT" then
      texts[#texts + 1] = token.text
    end
  end
  return texts
end

--- In spite of its name texts, not tokens: what bare_tokens makes of them is empty.
---@return string[]
function M.tokens_without_comments(tokens)
  return M.bare_tokens(tokens)
end

--- A statement of the tokens from `first` to `last`: a blank behind each but a function's name, strings as %q writes
-- them, no comments, and /*! ... */ without its delimiters.
---@return string
function M.tokens_to_query(tokens, first, last)
  local texts = {}
  for i = first or 1, math.min(last or #tokens, #tokens) do
    local token = tokens[i]
    local name = token and token.token_name
    if name == "TK_FUNCTION" then
      texts[#texts + 1] = token.text
    elseif name == "TK_STRING" then
      texts[#texts + 1] = ("%q "):format(token.text)
    elseif token and name ~= "TK_COMMENT" then
      texts[#texts + 1] = token.text .. " "
    end
  end
  return table.concat(texts)
end

return M
