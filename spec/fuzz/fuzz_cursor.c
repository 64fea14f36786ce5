/* Property: a cursor never leaves its bytes, and once failed it stays failed and gives nothing.
 * Input: the number of operations, the operations (two bytes each), the bytes under the cursor. */
#include "fuzz.h"

enum operation { BYTES, UINT, LENENC, STRING_NUL, OPERATIONS };

/* Lengths around the end, and far behind it. */
static uint64_t wanted_length(uint8_t code, size_t left) {
  switch (code) {
  case 0xff: return UINT64_MAX;
  case 0xfe: return left + 1;
  case 0xfd: return left;
  default: return code;
  }
}

static void step(struct cursor *c, uint8_t operation, uint8_t code) {
  struct cursor before = *c;
  uint64_t value = 0, length = wanted_length(code, cursor_left(c));
  size_t string_length = 0;
  const uint8_t *bytes = NULL;
  switch (operation % OPERATIONS) {
  case BYTES:
    bytes = cursor_bytes(c, length);
    check(c->failed == (before.failed || length > cursor_left(&before)));
    check(c->failed || c->at == before.at + length);
    break;
  case UINT:
    value = cursor_uint(c, 1 + code % 8);
    check(code % 8 == 7 || value >> (8 * (1 + code % 8)) == 0);
    break;
  case LENENC: value = cursor_lenenc(c); break;
  case STRING_NUL:
    bytes = cursor_string_nul(c, &string_length);
    check(c->failed || (bytes[string_length] == 0 && c->at == bytes + string_length + 1));
    break;
  }
  check(c->end == before.end && c->at >= before.at && c->at <= c->end);
  check(!bytes || bytes == before.at);
  check(!c->failed || (!bytes && !value && !string_length));
  if (before.failed) check(c->failed && c->at == before.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  struct cursor input = cursor_over(data, length);
  size_t count = cursor_uint(&input, 1);
  const uint8_t *operations = cursor_bytes(&input, 2 * count);
  if (!operations) return 0;
  size_t left = cursor_left(&input);
  uint8_t *bytes = exact_copy(input.at, left);
  struct cursor c = cursor_over(bytes, left);
  for (size_t i = 0; i < count; i++) step(&c, operations[2 * i], operations[2 * i + 1]);
  free_copy(bytes, left);
  return 0;
}
