/* Lua module mysql.tokenizer: SQL text to a stream of tokens, and to its normalised form. */
#include "packet.h"
#include "tokenizer_scan.h"

#include <lauxlib.h>
#include <lua.h>

#define TOKENS_TYPE "mysql.tokenizer.tokens"
#define TOKEN_TYPE "mysql.tokenizer.token"

/* What scripts call tokens. Lua frees it: it is one userdata, which is replaced by a larger one while it grows. Its
 * environment holds the SQL text, which the tokens point into, at 0, and at i what tokens[i] gave. */
struct tokens {
  size_t count;
  size_t capacity;
  struct token token[];
};

/* Of a stream of more tokens, what tokens[i] gave is not kept: it is ten times as large as the word in the text. */
enum { MAX_KEPT = 4096 };

/* Upvalues of the functions that see tokens. */
enum {
  TOKENS_METATABLE = 1,
  TOKEN_METATABLE,
  NAMES,
  KEY_TEXT,
  KEY_TOKEN_ID,
  KEY_TOKEN_NAME,
  UPVALUES = KEY_TOKEN_NAME
};

static struct scanner check_sql(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  size_t length;
  const char *sql = lua_tolstring(L, 1, &length);
  luaL_argcheck(L, length < UINT32_MAX, 1, "4 GB of SQL are too much");
  return (struct scanner){sql, sql + length, 0};
}

/* The userdata at `index` if it has the metatable of that upvalue, else NULL. */
static void *to_object(lua_State *L, int index, int metatable) {
  void *object = lua_touserdata(L, index);
  if (!object || !lua_getmetatable(L, index)) return NULL;
  bool same = lua_rawequal(L, -1, lua_upvalueindex(metatable));
  lua_pop(L, 1);
  return same ? object : NULL;
}

static struct tokens *check_tokens(lua_State *L) {
  struct tokens *tokens = to_object(L, 1, TOKENS_METATABLE);
  if (!tokens) luaL_typerror(L, 1, TOKENS_TYPE);
  return tokens;
}

/* A userdata for so many tokens, on the top of the stack. */
static struct tokens *new_tokens(lua_State *L, size_t capacity) {
  struct tokens *tokens = lua_newuserdata(L, sizeof *tokens + capacity * sizeof *tokens->token);
  tokens->count = 0;
  tokens->capacity = capacity;
  return tokens;
}

/* A userdata of twice the size in place of the one on the top of the stack. */
static struct tokens *grow_tokens(lua_State *L, const struct tokens *tokens) {
  struct tokens *larger = new_tokens(L, 2 * tokens->capacity);
  memcpy(larger->token, tokens->token, tokens->count * sizeof *tokens->token);
  larger->count = tokens->count;
  lua_remove(L, -2);
  return larger;
}

/* tokenize(sql): a stream of tokens. #tokens; tokens[i]; tokens[i] = nil. */
static int tokenize(lua_State *L) {
  struct scanner s = check_sql(L);
  size_t guess = (size_t)(s.end - s.at) / 4 + 8;
  struct tokens *tokens = new_tokens(L, guess < 1024 ? guess : 1024);
  while (token_scan(&s, &tokens->token[tokens->count]))
    if (++tokens->count == tokens->capacity) tokens = grow_tokens(L, tokens);
  lua_pushvalue(L, lua_upvalueindex(TOKENS_METATABLE));
  lua_setmetatable(L, -2);
  lua_createtable(L, tokens->count > MAX_KEPT ? 0 : (int)tokens->count, 1);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 0);
  lua_setfenv(L, -2);
  return 1;
}

/* The token of the index at 2; NULL if there is none. */
static struct token *token_at(lua_State *L, struct tokens *tokens) {
  if (!lua_isnumber(L, 2)) luaL_error(L, "tokens[...] takes a number, not a %s", luaL_typename(L, 2));
  lua_Number index = lua_tonumber(L, 2);
  if (!(index >= 1 && index < (lua_Number)tokens->count + 1)) return NULL;
  struct token *t = &tokens->token[(size_t)index - 1];
  return t->id == TK_REMOVED ? NULL : t;
}

static void push_text(lua_State *L, const struct token *t) {
  if (!t->doubled) {
    lua_pushlstring(L, t->text, t->length);
    return;
  }
  char *text = lua_newuserdata(L, t->length);
  lua_pushlstring(L, text, token_text(t, text));
  lua_remove(L, -2);
}

/* What tokens[i] gives: a userdata with a copy of the token, and with the stream's environment, which holds the text.
 */
static void push_token(lua_State *L, const struct token *t) {
  struct token *token = lua_newuserdata(L, sizeof *token);
  *token = *t;
  lua_pushvalue(L, lua_upvalueindex(TOKEN_METATABLE));
  lua_setmetatable(L, -2);
  lua_getfenv(L, 1);
  lua_setfenv(L, -2);
}

/* token.text, token.token_id, token.token_name */
static int token_index(lua_State *L) {
  const struct token *t = to_object(L, 1, TOKEN_METATABLE);
  if (!t) return luaL_typerror(L, 1, TOKEN_TYPE);
  if (lua_rawequal(L, 2, lua_upvalueindex(KEY_TOKEN_NAME)))
    lua_rawgeti(L, lua_upvalueindex(NAMES), t->id);
  else if (lua_rawequal(L, 2, lua_upvalueindex(KEY_TOKEN_ID)))
    lua_pushinteger(L, t->id);
  else if (lua_rawequal(L, 2, lua_upvalueindex(KEY_TEXT)))
    push_text(L, t);
  else
    return luaL_error(L, "tokens[...] has no %s field", lua_isstring(L, 2) ? lua_tostring(L, 2) : luaL_typename(L, 2));
  return 1;
}

/* tokens[i] */
static int tokens_index(lua_State *L) {
  struct tokens *tokens = check_tokens(L);
  const struct token *t = token_at(L, tokens);
  if (!t) return 0;
  if (tokens->count > MAX_KEPT) {
    push_token(L, t);
    return 1;
  }
  int i = (int)(t - tokens->token) + 1;
  lua_getfenv(L, 1);
  lua_rawgeti(L, -1, i);
  if (!lua_isnil(L, -1)) return 1;
  push_token(L, t);
  lua_pushvalue(L, -1);
  lua_rawseti(L, -4, i);
  return 1;
}

/* tokens[i] = nil */
static int tokens_newindex(lua_State *L) {
  struct tokens *tokens = check_tokens(L);
  struct token *t = token_at(L, tokens);
  if (!lua_isnil(L, 3)) return luaL_error(L, "tokens[...] can only be set to nil");
  if (!t) return 0;
  t->id = TK_REMOVED;
  lua_getfenv(L, 1);
  lua_pushnil(L);
  lua_rawseti(L, -2, (int)(t - tokens->token) + 1);
  return 0;
}

static int tokens_len(lua_State *L) {
  lua_pushnumber(L, (lua_Number)check_tokens(L)->count);
  return 1;
}

static int tokens_tostring(lua_State *L) {
  lua_pushfstring(L, TOKENS_TYPE " (%d)", (int)check_tokens(L)->count);
  return 1;
}

/* normalize(tokens): the statement with ? in place of its values. The tokens may be a stream, an array of tokens, or
 * the SQL text itself, which is the fastest. */
static int normalize(lua_State *L) {
  const struct tokens *tokens = to_object(L, 1, TOKENS_METATABLE);
  if (tokens)
    normalize_tokens(L, tokens->token, tokens->count);
  else if (lua_istable(L, 1))
    normalize_array(L);
  else if (lua_type(L, 1) == LUA_TSTRING)
    normalize_sql(L, check_sql(L));
  else
    return luaL_typerror(L, 1, "tokens or string");
  return 1;
}

/* --- module -------------------------------------------------------------------------------------------------- */

static void push_names(lua_State *L) {
  lua_createtable(L, TK_COUNT, 0);
  for (int id = 0; id < TK_COUNT; id++) {
    bool keyword = id >= TK_FIRST_KEYWORD && id < TK_COMMENT_MYSQL;
    lua_pushfstring(L, "%s%s", keyword ? "TK_SQL_" : "TK_", token_word((unsigned)id));
    lua_rawseti(L, -2, id);
  }
}

/* Sets a function in the table at `table`, with the upvalues that are on the stack from `upvalues` on. */
static void set_function(lua_State *L, int table, int upvalues, const char *name, lua_CFunction function) {
  for (int i = 0; i < UPVALUES; i++) lua_pushvalue(L, upvalues + i);
  lua_pushcclosure(L, function, UPVALUES);
  lua_setfield(L, table, name);
}

LUA_MODULE luaopen_mysql_tokenizer(lua_State *L) {
  lua_newtable(L);
  int module = lua_gettop(L), upvalues = module + 1;
  luaL_newmetatable(L, TOKENS_TYPE);
  int metatable = lua_gettop(L);
  luaL_newmetatable(L, TOKEN_TYPE);
  push_names(L);
  lua_pushliteral(L, "text");
  lua_pushliteral(L, "token_id");
  lua_pushliteral(L, "token_name");

  set_function(L, metatable + 1, upvalues, "__index", token_index);
  set_function(L, metatable, upvalues, "__index", tokens_index);
  set_function(L, metatable, upvalues, "__newindex", tokens_newindex);
  set_function(L, metatable, upvalues, "__len", tokens_len);
  set_function(L, metatable, upvalues, "__tostring", tokens_tostring);
  set_function(L, module, upvalues, "tokenize", tokenize);
  set_function(L, module, upvalues, "normalize", normalize);

  lua_settop(L, module);
  lua_pushvalue(L, module);
  lua_setglobal(L, "tokenizer"); /* scripts of 2009 count on it */
  return 1;
}
