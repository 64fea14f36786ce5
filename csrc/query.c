#include "query.h"

enum { TYPE_TINY = 1, TYPE_SHORT = 2, TYPE_LONG = 3, TYPE_FLOAT = 4, TYPE_DOUBLE = 5, TYPE_LONGLONG = 8 };

/* As the server reads a value: whoever reads less or more of it sees another statement behind it. */

static void skip_value(struct cursor *c, uint8_t type) {
  switch (type) {
  case TYPE_TINY: cursor_bytes(c, 1); break;
  case TYPE_SHORT: cursor_bytes(c, 2); break;
  case TYPE_LONG:
  case TYPE_FLOAT: cursor_bytes(c, 4); break;
  case TYPE_LONGLONG:
  case TYPE_DOUBLE: cursor_bytes(c, 8); break;
  default: cursor_bytes(c, cursor_lenenc(c)); /* MySQL 9.7: INT24, YEAR and NULL too, if not in the bitmap of NULLs */
  }
}

void query_skip_attributes(struct cursor *c) {
  uint64_t count = cursor_lenenc(c);
  cursor_lenenc(c); /* number of parameter sets: always 1 */
  if (c->failed || count == 0) return;
  const uint8_t *nulls = cursor_bytes(c, count / 8 + (count % 8 != 0));
  if (cursor_uint(c, 1) != 1) c->failed = true; /* types and names are always sent */
  struct cursor types = *c;
  for (uint64_t i = 0; i < count && !c->failed; i++) {
    cursor_bytes(c, 2);
    cursor_bytes(c, cursor_lenenc(c));
  }
  for (uint64_t i = 0; i < count && !c->failed; i++) {
    uint8_t type = (uint8_t)cursor_uint(&types, 2);
    cursor_bytes(&types, cursor_lenenc(&types));
    if (!(nulls[i / 8] >> (i % 8) & 1)) skip_value(c, type);
  }
}
