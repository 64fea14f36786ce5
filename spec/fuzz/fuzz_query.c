/* Property: the query attributes end inside of the packet, and none of their bytes can be missing.
 * Input: a COM_QUERY packet behind its command byte. */
#include "fuzz.h"

#include "query.h"

/* Bytes of attributes in front of the text; 0 if they are malformed. */
static size_t skipped(const uint8_t *data, size_t length) {
  uint8_t *copy = exact_copy(data, length);
  struct cursor c = cursor_over(copy, length);
  query_skip_attributes(&c);
  check(c.at >= copy && c.at <= c.end);
  size_t used = c.failed ? 0 : (size_t)(c.at - copy);
  free_copy(copy, length);
  return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  size_t used = skipped(data, length);
  check(skipped(data, used) == used);
  for (size_t cut = used; cut-- > 0;) check(skipped(data, cut) == 0);
  return 0;
}
