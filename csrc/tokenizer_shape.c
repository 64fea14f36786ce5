/* What of a statement its normalised form is made of, as a hash: much less work than to write that. */
#include "tokenizer_scan.h"

#include <string.h>

#include "hash.h"

static inline uint64_t mix(uint64_t h, uint64_t more) { return hash_mix(h ^ more); }

/* A number for up to 8 bytes, which it tells apart from others of their length. */
static inline uint64_t number_of(const char *text, size_t length) {
  uint64_t eight;
  uint32_t first, last;
  if (length == sizeof eight) return memcpy(&eight, text, sizeof eight), eight;
  if (length >= sizeof first) {
    memcpy(&first, text, sizeof first);
    memcpy(&last, text + length - sizeof last, sizeof last);
    return (uint64_t)first << 32 | last;
  }
  if (length == 0) return 0;
  return (uint8_t)text[0] | (uint32_t)(uint8_t)text[length / 2] << 8 | (uint32_t)(uint8_t)text[length - 1] << 16;
}

static inline uint64_t mix_text(uint64_t h, const char *text, size_t length) {
  uint64_t eight;
  for (; length > sizeof eight; text += sizeof eight, length -= sizeof eight) {
    memcpy(&eight, text, sizeof eight);
    h = mix(h, eight);
  }
  return mix(h, number_of(text, length));
}

uint64_t statement_shape(struct scanner s, size_t most) {
  struct token t;
  uint64_t h = 0;
  while (most && token_scan_word(&s, &t)) {
    if (t.id == TK_COMMENT) continue;
    most--;
    if (t.id == TK_STRING || t.id == TK_INTEGER || t.id == TK_FLOAT)
      h = mix(h, TK_STRING);
    else if (TK_DOT <= t.id && t.id <= TK_LOGICAL_OR) /* has one text */
      h = mix(h, t.id);
    else
      h = mix_text(mix(h, t.id | (uint64_t)t.length << 16), t.text, t.length);
  }
  return h;
}
