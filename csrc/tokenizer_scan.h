/* What finds the tokens of an SQL text. Words, integers, signs and the blanks between them, which most of a statement
 * is made of, are found here, inside of the caller's loop; tokenizer_scan.c has the rest.
 *
 * Behind the text is a NUL, which belongs to no word, number or blank: the loops over those need no other check for the
 * end. A NUL in the text is a token of its own. */
#ifndef TOKENIZER_SCAN_H
#define TOKENIZER_SCAN_H

#include "tokenizer.h"

/* SIGN: a sign that is no part of a longer one. POINT: what makes another token of an integer. */
enum { SPACE = 1, DIGIT = 2, LETTER = 4, WORD = DIGIT | LETTER, SIGN = 8, POINT = 16 };

/* Of each byte: its class, and its id if it is a token. */
extern const uint8_t token_classes[256], token_signs[256];
/* The id of a keyword, or TK_LITERAL. */
uint16_t token_word_id(const char *text, size_t length);
/* Any other token, and what belongs to the first word of an a.b.c. */
bool token_scan_rest(struct scanner *s, struct token *t);
/* Whether the dot at this place joins a word to the word before it. */
bool token_dot_joins(const char *dot);

static inline unsigned is(char c, unsigned wanted) { return token_classes[(uint8_t)c] & wanted; }

static inline const char *skip(const char *at, unsigned wanted) {
  while (is(*at, wanted)) at++;
  return at;
}

static inline bool finish(struct scanner *s, struct token *t, uint16_t id, const char *text, const char *end) {
  t->text = text;
  t->length = (uint32_t)(end - text);
  t->id = id;
  t->doubled = 0;
  s->at = end;
  return true;
}

/* The next token; false at the end of the text. A word may be a keyword. */
static inline bool token_scan_word(struct scanner *s, struct token *t) {
  const char *at = skip(s->at, SPACE);
  if (s->parts) return token_scan_rest(s, t);
  if (is(*at, SIGN)) return finish(s, t, token_signs[(uint8_t)*at], at, at + 1);
  const char *end = skip(at, DIGIT);
  if (end > at && !is(*end, LETTER | POINT)) return finish(s, t, TK_INTEGER, at, end);
  if (at == s->end) return false;
  if (!is(*at, LETTER)) return token_scan_rest(s, t);
  end = skip(at + 1, WORD);
  if (*end == '.') s->parts = token_dot_joins(end);
  return finish(s, t, *end == '(' ? TK_FUNCTION : TK_WORD, at, end);
}

/* The next token; false at the end of the text. */
static inline bool token_scan(struct scanner *s, struct token *t) {
  if (!token_scan_word(s, t)) return false;
  if (t->id == TK_WORD) t->id = token_word_id(t->text, t->length);
  return true;
}

#endif
