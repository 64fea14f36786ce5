/* Tokens to the normalised form of a statement. */
#include "tokenizer_scan.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

enum { SMALL = 4096 };

/* A string being made. It begins in a buffer of the caller; when that is full, it goes on in a userdata of twice the
 * size, which is in its place on the stack and so is Lua's to free; or, without a Lua state, it is cut. */
struct output {
  lua_State *L;
  char *begin;
  char *at;
  char *end;
  int place;
  bool cut;
};

static void output_begin(struct output *o, lua_State *L, char *buffer, size_t size) {
  o->L = L;
  o->begin = o->at = buffer;
  o->end = buffer + size;
  o->cut = false;
  if (!L) return;
  lua_pushnil(L);
  o->place = lua_gettop(L);
}

static void output_grow(struct output *o, size_t more) {
  size_t used = (size_t)(o->at - o->begin), size = 2 * (used + more);
  char *larger = lua_newuserdata(o->L, size);
  memcpy(larger, o->begin, used);
  lua_replace(o->L, o->place);
  o->begin = larger;
  o->at = larger + used;
  o->end = larger + size;
}

/* False if there is no room, and will be none. */
static inline bool output_reserve(struct output *o, size_t more) {
  if ((size_t)(o->end - o->at) >= more) return true;
  if (o->L) return output_grow(o, more), true;
  o->cut = true;
  return false;
}

static inline void put(struct output *o, const char *text, size_t length) {
  memcpy(o->at, text, length);
  o->at += length;
}

static inline void put_upper(struct output *o, const char *text, size_t length) {
  for (size_t i = 0; i < length; i++) o->at[i] = (char)(text[i] - ('a' <= text[i] && text[i] <= 'z' ? 'a' - 'A' : 0));
  o->at += length;
}

static inline void put_text(struct output *o, const struct token *t) {
  if (t->doubled)
    o->at += token_text(t, o->at);
  else
    put(o, t->text, t->length);
}

struct normalizer {
  struct output out;
  unsigned tokens; /* that have been put out */
  bool start;      /* the first of them was START */
};

static bool is_word(const struct token *t, const char *word) {
  return t->length == strlen(word) && same_letters(t->text, word, t->length);
}

static bool is_transaction_word(const struct normalizer *n, const struct token *t) {
  if (n->tokens) return n->start && is_word(t, "TRANSACTION");
  return is_word(t, "COMMIT") || is_word(t, "ROLLBACK") || is_word(t, "BEGIN") || is_word(t, "START");
}

static inline void put_literal(struct normalizer *n, const struct token *t) {
  struct output *o = &n->out;
  if (t->length && *t->text == '@') {
    put_text(o, t);
  } else if (n->tokens < 2 && is_transaction_word(n, t)) {
    n->start = n->tokens == 0 && (*t->text | 0x20) == 's';
    put_upper(o, t->text, t->length);
  } else {
    put(o, "`", 1);
    put_text(o, t);
    put(o, "`", 1);
  }
  put(o, " ", 1);
}

enum { AROUND = sizeof "/*!*/ " }; /* what is put around a token, and a byte more */

/* There is no room for a token: it is cut, or left out. */
static bool cut(const struct output *o, struct token *t) {
  size_t room = (size_t)(o->end - o->at);
  if (room < AROUND) return false;
  if (t->length > room - AROUND) t->length = (uint32_t)(room - AROUND);
  return true;
}

static inline void normalize_token(struct normalizer *n, struct token t) {
  struct output *o = &n->out;
  if (t.id == TK_STRING || t.id == TK_INTEGER || t.id == TK_FLOAT) {
    if (!output_reserve(o, AROUND)) return;
    put(o, "? ", 2);
  } else if (t.id == TK_COMMENT || t.id == TK_REMOVED) {
    return;
  } else if (!output_reserve(o, AROUND + t.length) && !cut(o, &t)) {
    return;
  } else if (t.id == TK_LITERAL) {
    put_literal(n, &t);
  } else if (t.id == TK_COMMENT_MYSQL) {
    put(o, "/*!", 3);
    put(o, t.text, t.length);
    put(o, "*/ ", 3);
  } else if (t.id >= TK_FIRST_KEYWORD) {
    put(o, token_word(t.id), t.length);
    put(o, " ", 1);
  } else {
    put_upper(o, t.text, t.length);
    if (t.id != TK_FUNCTION) put(o, " ", 1);
  }
  n->tokens++;
}

static uint16_t id_of_name(const char *name) {
  static const uint16_t special[] = {TK_COMMENT, TK_COMMENT_MYSQL, TK_LITERAL, TK_STRING,
                                     TK_INTEGER, TK_FLOAT,         TK_FUNCTION};
  if (strncmp(name, "TK_", 3) != 0) return TK_UNKNOWN;
  for (size_t i = 0; i < sizeof special / sizeof *special; i++)
    if (strcmp(name + 3, token_word(special[i])) == 0) return special[i];
  return TK_UNKNOWN;
}

static void begin(struct normalizer *n, lua_State *L, char *buffer, size_t size) {
  n->tokens = 0;
  n->start = false;
  output_begin(&n->out, L, buffer, size);
}

static void push(struct normalizer *n) { lua_pushlstring(n->out.L, n->out.begin, (size_t)(n->out.at - n->out.begin)); }

static void normalize_text(struct normalizer *n, struct scanner s) {
  struct token t;
  while (!n->out.cut && token_scan(&s, &t)) normalize_token(n, t);
}

size_t normalize_into(struct scanner s, char *buffer, size_t size) {
  struct normalizer n;
  begin(&n, NULL, buffer, size);
  normalize_text(&n, s);
  size_t length = (size_t)(n.out.at - n.out.begin);
  return length && buffer[length - 1] == ' ' ? length - 1 : length;
}

void normalize_sql(lua_State *L, struct scanner s) {
  struct normalizer n;
  char small[SMALL];
  begin(&n, L, small, sizeof small);
  normalize_text(&n, s);
  push(&n);
}

void normalize_tokens(lua_State *L, const struct token *tokens, size_t count) {
  struct normalizer n;
  char small[SMALL];
  begin(&n, L, small, sizeof small);
  for (size_t i = 0; i < count; i++) normalize_token(&n, tokens[i]);
  push(&n);
}

void normalize_array(lua_State *L) {
  struct normalizer n;
  char small[SMALL];
  begin(&n, L, small, sizeof small);
  size_t count = lua_objlen(L, 1);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, 1, (int)i);
    if (!lua_isnil(L, -1)) {
      luaL_argcheck(L, lua_istable(L, -1) || lua_isuserdata(L, -1), 1, "an array of tokens expected");
      lua_getfield(L, -1, "token_name");
      lua_getfield(L, -2, "text");
      luaL_argcheck(L, lua_isstring(L, -2) && lua_isstring(L, -1), 1, "tokens with token_name and text expected");
      size_t length;
      const char *text = lua_tolstring(L, -1, &length);
      luaL_argcheck(L, length < UINT32_MAX, 1, "4 GB of SQL are too much");
      struct token t = {text, (uint32_t)length, id_of_name(lua_tostring(L, -2)), 0};
      normalize_token(&n, t);
      lua_pop(L, 2);
    }
    lua_pop(L, 1);
  }
  push(&n);
}
