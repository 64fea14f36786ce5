/* The rules that tokens are found by, and the words that are keywords. */
#include "tokenizer_scan.h"
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

const uint8_t token_classes[256] = {[' '] = SPACE,          ['\t' ... '\r'] = SPACE,
                                    ['0' ... '9'] = DIGIT,  ['A' ... 'Z'] = LETTER,
                                    ['_'] = LETTER,         ['@'] = LETTER,
                                    ['a' ... 'z'] = LETTER, ['='] = SIGN,
                                    [','] = SIGN,           ['('] = SIGN,
                                    [')'] = SIGN,           [';'] = SIGN,
                                    ['*'] = SIGN,           ['+'] = SIGN,
                                    ['^'] = SIGN,           ['.'] = POINT};

const uint8_t token_signs[256] = {
    ['<'] = TK_LT,     ['>'] = TK_GT,     ['='] = TK_EQ,          ['.'] = TK_DOT,        [','] = TK_COMMA,
    ['('] = TK_OBRACE, [')'] = TK_CBRACE, [';'] = TK_SEMICOLON,   ['*'] = TK_STAR,       ['+'] = TK_PLUS,
    ['-'] = TK_MINUS,  ['/'] = TK_DIV,    ['&'] = TK_BITWISE_AND, ['|'] = TK_BITWISE_OR, ['^'] = TK_BITWISE_XOR};

/* A place for each keyword that its length and three of its letters lead to, or the next free one behind that. */
enum { PLACE_BITS = 10, PLACES = 1 << PLACE_BITS };
static struct {
  uint8_t length; /* 0: free */
  uint8_t index;
} places[PLACES];

static inline uint32_t place_of(const char *text, size_t length) {
  uint16_t two;
  memcpy(&two, text, sizeof two);
  uint32_t letters = (uint32_t)(two | 0x2020) << 8 | (uint8_t)(text[length - 1] | 0x20);
  return (letters + (uint32_t)length) * UINT32_C(0x9e3779b1) >> (32 - PLACE_BITS);
}

__attribute__((constructor)) static void fill_places(void) {
  for (unsigned i = 0; i < sizeof keywords / sizeof *keywords; i++) {
    size_t length = strlen(keywords[i]);
    uint32_t at = place_of(keywords[i], length);
    while (places[at].length) at = (at + 1) % PLACES;
    places[at].length = (uint8_t)length;
    places[at].index = (uint8_t)i;
  }
}

uint16_t token_word_id(const char *text, size_t length) {
  if (length < 2) return TK_LITERAL;
  for (uint32_t at = place_of(text, length); places[at].length; at = (at + 1) % PLACES)
    if (places[at].length == length && same_letters(text, keywords[places[at].index], length))
      return TK_FIRST_KEYWORD + places[at].index;
  return TK_LITERAL;
}

bool token_dot_joins(const char *dot) { return is(*skip(dot + 1, DIGIT), LETTER); }

static inline bool joins(const char *at) { return *at == '.' && token_dot_joins(at); }

/* The word that ends at `end`. */
static inline bool finish_word(struct scanner *s, struct token *t, const char *end) {
  const char *text = s->at;
  s->parts = s->parts + 1 < MAX_PARTS && joins(end) ? s->parts + 1 : 0;
  return finish(s, t, *end == '(' ? TK_FUNCTION : TK_WORD, text, end);
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

static inline const char *find(const char *at, const char *end, char c) {
  const char *found = memchr(at, c, (size_t)(end - at));
  return found ? found : end;
}

/* 'text', "text" or `text`. A backslash protects what follows it, but not between backticks. */
static bool scan_quoted(struct scanner *s, struct token *t, uint16_t id) {
  char quote = *s->at, doubled = 0;
  const char *text = s->at + 1, *at = text, *close = s->at;
  for (;;) {
    if (close < at) close = find(at, s->end, quote);
    const char *escape = quote == '`' ? close : find(at, close, '\\');
    at = close;
    if (escape < close) {
      at = s->end - escape > 1 ? escape + 2 : s->end;
    } else if (close < s->end && close[1] == quote) {
      doubled = quote;
      at = close + 2;
    } else {
      break;
    }
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

bool token_scan_rest(struct scanner *s, struct token *t) {
  const char *at = s->at;
  if (s->parts) {
    if (*at == '.') return finish(s, t, TK_DOT, at, at + 1);
    return finish_word(s, t, skip(at, WORD));
  }
  at = s->at = skip(at, SPACE);
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
  }
  uint16_t id = two_signs(at);
  if (id) return finish(s, t, id, at, at + 2);
  return finish(s, t, token_signs[(uint8_t)*at], at, at + 1);
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
