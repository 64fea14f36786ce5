/* The tokens of an SQL text. The text is read once, from left to right; nothing is allocated. */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* TK_SQL_ACCESSIBLE and so on follow TK_LOGICAL_OR, in the order of tokenizer_keywords.h. */
enum token_id {
  TK_UNKNOWN,
  TK_LE,
  TK_GE,
  TK_LT,
  TK_GT,
  TK_EQ,
  TK_NE,
  TK_STRING,
  TK_COMMENT,
  TK_LITERAL,
  TK_FUNCTION,
  TK_INTEGER,
  TK_FLOAT,
  TK_DOT,
  TK_COMMA,
  TK_ASSIGN,
  TK_OBRACE,
  TK_CBRACE,
  TK_SEMICOLON,
  TK_STAR,
  TK_PLUS,
  TK_MINUS,
  TK_DIV,
  TK_BITWISE_AND,
  TK_BITWISE_OR,
  TK_BITWISE_XOR,
  TK_LOGICAL_AND,
  TK_LOGICAL_OR,
  TK_FIRST_KEYWORD,
  TK_COMMENT_MYSQL = 261,
  TK_COUNT,
  TK_WORD,   /* a keyword or TK_LITERAL: nobody has looked */
  TK_REMOVED /* no token any more: a script has set it to nil */
};

struct token {
  const char *text; /* inside of the SQL text, without delimiters */
  uint32_t length;
  uint16_t id;
  char doubled; /* the delimiter, if the text has it in it: twice where it means one; else 0 */
};

struct scanner {
  const char *at;
  const char *end; /* a NUL has to be there, as behind every string of Lua */
  unsigned parts;  /* words read of an a.b.c, if what follows belongs to it */
};

/* Writes the text as it is meant, one delimiter where there are two, which is not longer than `length`; returns its
 * length. */
size_t token_text(const struct token *t, char *to);

/* What follows the prefix of a token's name: TK_SQL_ if it is a keyword, else TK_. */
const char *token_word(unsigned id);

/* Whether two words are the same but for case. Bit 5 is the case of a letter; no other characters of words differ by
 * it alone. */
static inline bool same_letters(const char *a, const char *b, size_t length) {
  char differ = 0;
  for (size_t i = 0; i < length; i++) differ |= a[i] ^ b[i];
  return !(differ & ~0x20);
}

/* The normalised form of a statement, ? in place of its values: a string on the stack. */
struct lua_State;
void normalize_sql(struct lua_State *L, struct scanner s);
void normalize_tokens(struct lua_State *L, const struct token *tokens, size_t count);

/* The same into a buffer, without a blank at its end, and cut where the buffer ends. Returns its length. */
size_t normalize_into(struct scanner s, char *buffer, size_t size);

/* A hash that is the same only for statements that have the same normalised form, which its first `most` tokens decide.
 * (Some of those have another.) */
uint64_t statement_shape(struct scanner s, size_t most);

/* The same of the array at index 1: what is not nil in it has a token_name and a text. */
void normalize_array(struct lua_State *L);

#endif
