/* SQL text to tokens.
 *
 * Behind the text is a NUL, which belongs to no word, number or blank: the loops over those need no other check for the
 * end. A NUL in the text is a token of its own. */
#include "tokenizer.h"
#include "tokenizer_keywords.h"

#include <string.h>

_Static_assert(TK_FIRST_KEYWORD + sizeof keywords / sizeof *keywords == TK_COMMENT_MYSQL, "keywords have fixed ids");

static const char *const words[] = {"UNKNOWN",    "LE",          "GE",          "LT",        "GT",       "EQ",
                                    "NE",         "STRING",      "COMMENT",     "LITERAL",   "FUNCTION", "INTEGER",
                                    "FLOAT",      "DOT",         "COMMA",       "ASSIGN",    "OBRACE",   "CBRACE",
                                    "SEMICOLON",  "STAR",        "PLUS",        "MINUS",     "DIV",      "BITWISE_AND",
                                    "BITWISE_OR", "BITWISE_XOR", "LOGICAL_AND", "LOGICAL_OR"};

const char *token_word(unsigned id) {
  if (id == TK_COMMENT_MYSQL) return "COMMENT_MYSQL";
  return id < TK_FIRST_KEYWORD ? words[id] : keywords[id - TK_FIRST_KEYWORD];
}

enum { MAX_PARTS = 3 };

enum { SPACE = 1, DIGIT = 2, LETTER = 4, WORD = DIGIT | LETTER };

static const uint8_t classes[256] = {[' '] = SPACE,          ['\t' ... '\r'] = SPACE, ['0' ... '9'] = DIGIT,
                                     ['A' ... 'Z'] = LETTER, ['_'] = LETTER,          ['@'] = LETTER,
                                     ['a' ... 'z'] = LETTER};

static const uint8_t signs[256] = {
    ['<'] = TK_LT,     ['>'] = TK_GT,     ['='] = TK_EQ,          ['.'] = TK_DOT,        [','] = TK_COMMA,
    ['('] = TK_OBRACE, [')'] = TK_CBRACE, [';'] = TK_SEMICOLON,   ['*'] = TK_STAR,       ['+'] = TK_PLUS,
    ['-'] = TK_MINUS,  ['/'] = TK_DIV,    ['&'] = TK_BITWISE_AND, ['|'] = TK_BITWISE_OR, ['^'] = TK_BITWISE_XOR};

static inline unsigned is(char c, unsigned wanted) { return classes[(uint8_t)c] & wanted; }

static inline const char *skip(const char *at, unsigned wanted) {
  while (is(*at, wanted)) at++;
  return at;
}

static uint16_t word_id(const char *text, size_t length) {
  unsigned letter = (unsigned)(*text | 0x20) - 'a';
  if (letter >= 26 || length < 2 || length >= sizeof *keywords) return TK_LITERAL;
  char second = text[1] | 0x20;
  for (unsigned i = keywords_of_letter[letter]; i < keywords_of_letter[letter + 1]; i++)
    if ((keywords[i][1] | 0x20) == second && same_word(text + 2, length - 2, keywords[i] + 2))
      return (uint16_t)(TK_FIRST_KEYWORD + i);
  return TK_LITERAL;
}

static inline bool finish(struct scanner *s, struct token *t, uint16_t id, const char *text, const char *end) {
  t->text = text;
  t->length = (uint32_t)(end - text);
  t->id = id;
  t->doubled = 0;
  s->at = end;
  return true;
}

/* Whether the dot at this place joins a word to the word before it. */
static inline bool joins(const char *at) { return *at == '.' && is(*skip(at + 1, DIGIT), LETTER); }

/* The word that ends at `end`. */
static inline bool finish_word(struct scanner *s, struct token *t, const char *end) {
  const char *text = s->at;
  s->parts = s->parts + 1 < MAX_PARTS && joins(end) ? s->parts + 1 : 0;
  return finish(s, t, *end == '(' ? TK_FUNCTION : word_id(text, (size_t)(end - text)), text, end);
}

/* Where the exponent at this place ends; NULL if there is none. */
static inline const char *exponent(const char *at) {
  if ((*at | 0x20) != 'e') return NULL;
  at++;
  if (*at == '+' || *at == '-') at++;
  return is(*at, DIGIT) ? skip(at, DIGIT) : NULL;
}

/* The number whose point is at `point`. */
static bool scan_fraction(struct scanner *s, struct token *t, const char *point) {
  const char *end = skip(point + 1, DIGIT);
  const char *exponent_end = exponent(end);
  return finish(s, t, TK_FLOAT, s->at, exponent_end ? exponent_end : end);
}

/* What begins with a digit: a number, or a word. The longer one wins, and 1e5 is a number. */
static bool scan_digits(struct scanner *s, struct token *t) {
  const char *end = skip(s->at, DIGIT);
  if (is(*end, LETTER)) {
    const char *word_end = skip(end, WORD), *float_end = exponent(end);
    if (!float_end || float_end < word_end || (float_end == word_end && (*word_end == '(' || joins(word_end))))
      return finish_word(s, t, word_end);
    return finish(s, t, TK_FLOAT, s->at, float_end);
  }
  if (*end == '.' && is(end[1], DIGIT)) return scan_fraction(s, t, end);
  return finish(s, t, TK_INTEGER, s->at, end);
}

/* 'text', "text" or `text`. A backslash protects what follows it, but not between backticks. */
static bool scan_quoted(struct scanner *s, struct token *t, uint16_t id) {
  char quote = *s->at, escape = quote == '`' ? quote : '\\', doubled = 0;
  const char *text = s->at + 1, *at = text;
  for (;;) {
    while (at < s->end && *at != quote && *at != escape) at++;
    if (at == s->end) break;
    if (*at == quote) {
      if (at[1] != quote) break;
      doubled = quote;
    }
    at += s->end - at > 1 ? 2 : 1;
  }
  finish(s, t, id, text, at);
  t->doubled = doubled;
  if (s->at < s->end) s->at++;
  return true;
}

static bool scan_comment(struct scanner *s, struct token *t) {
  const char *text = s->at + 2;
  uint16_t id = TK_COMMENT;
  if (*text == '!') {
    text++;
    id = TK_COMMENT_MYSQL;
  }
  const char *close = text;
  while ((close = memchr(close, '*', (size_t)(s->end - close))) && close[1] != '/') close++;
  if (!close) return finish(s, t, id, text, s->end);
  const char *end = close;
  while (end > text && end[-1] == '*') end--;
  finish(s, t, id, text, end);
  s->at = close + 2;
  return true;
}

/* Where the text of a comment begins that begins with the two dashes at this place; NULL if none does. */
static inline const char *line_comment(const char *at) {
  at += 2;
  if (*at == ' ' || *at == '\t') return at + 1;
  if (*at == '\r' && at[1] == '\n') return at + 1;
  return *at == '\n' ? at : NULL;
}

static bool scan_line_comment(struct scanner *s, struct token *t, const char *text) {
  const char *end = memchr(text, '\n', (size_t)(s->end - text));
  return finish(s, t, TK_COMMENT, text, end ? end : s->end);
}

/* The id of a sign of two characters, or 0. */
static inline uint16_t two_signs(const char *at) {
  switch (at[0]) {
  case '<': return at[1] == '=' ? TK_LE : at[1] == '>' ? TK_NE : 0;
  case '>': return at[1] == '=' ? TK_GE : 0;
  case '!': return at[1] == '=' ? TK_NE : 0;
  case ':': return at[1] == '=' ? TK_ASSIGN : 0;
  case '&': return at[1] == '&' ? TK_LOGICAL_AND : 0;
  case '|': return at[1] == '|' ? TK_LOGICAL_OR : 0;
  default: return 0;
  }
}

bool token_scan(struct scanner *s, struct token *t) {
  const char *at = s->at;
  if (s->parts) {
    if (*at == '.') return finish(s, t, TK_DOT, at, at + 1);
    return finish_word(s, t, skip(at, WORD));
  }
  at = s->at = skip(at, SPACE);
  if (is(*at, LETTER)) return finish_word(s, t, skip(at, WORD));
  if (is(*at, DIGIT)) return scan_digits(s, t);
  const char *text;
  switch (*at) {
  case '\'':
  case '"': return scan_quoted(s, t, TK_STRING);
  case '`': return scan_quoted(s, t, TK_LITERAL);
  case '.':
    if (is(at[1], DIGIT)) return scan_fraction(s, t, at);
    break;
  case '/':
    if (at[1] == '*') return scan_comment(s, t);
    break;
  case '-':
    if (at[1] == '-' && (text = line_comment(at))) return scan_line_comment(s, t, text);
    break;
  case '\0':
    if (at == s->end) return false;
  }
  uint16_t id = two_signs(at);
  if (id) return finish(s, t, id, at, at + 2);
  return finish(s, t, signs[(uint8_t)*at], at, at + 1);
}

size_t token_text(const struct token *t, char *to) {
  const char *at = t->text, *end = t->text + t->length;
  if (!t->doubled) {
    memcpy(to, at, t->length);
    return t->length;
  }
  char *begin = to;
  while (at < end) {
    char c = *at++;
    *to++ = c;
    if (c == t->doubled && at < end)
      at++;
    else if (c == '\\' && t->doubled != '`' && at < end)
      *to++ = *at++;
  }
  return (size_t)(to - begin);
}
