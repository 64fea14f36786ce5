#include "query.h"

enum {
  TYPE_TINY = 1,
  TYPE_SHORT = 2,
  TYPE_LONG = 3,
  TYPE_FLOAT = 4,
  TYPE_DOUBLE = 5,
  TYPE_NULL = 6,
  TYPE_TIMESTAMP = 7,
  TYPE_LONGLONG = 8,
  TYPE_INT24 = 9,
  TYPE_DATE = 10,
  TYPE_TIME = 11,
  TYPE_DATETIME = 12,
  TYPE_YEAR = 13
};

static void skip_value(struct cursor *c, uint8_t type) {
  switch (type) {
  case TYPE_NULL: break;
  case TYPE_TINY: cursor_bytes(c, 1); break;
  case TYPE_SHORT:
  case TYPE_YEAR: cursor_bytes(c, 2); break;
  case TYPE_LONG:
  case TYPE_INT24:
  case TYPE_FLOAT: cursor_bytes(c, 4); break;
  case TYPE_LONGLONG:
  case TYPE_DOUBLE: cursor_bytes(c, 8); break;
  case TYPE_DATE:
  case TYPE_TIME:
  case TYPE_DATETIME:
  case TYPE_TIMESTAMP: cursor_bytes(c, cursor_uint(c, 1)); break;
  default: cursor_bytes(c, cursor_lenenc(c)); /* all others travel as strings */
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
