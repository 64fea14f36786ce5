/* What the targets share. A target is one function: libFuzzer calls it with one input after another, and a run ends
 * with a finding when it crashes, when a sanitizer complains, or when check() fails. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

/* A property that has to hold. */
#define check(property)                                                                                                \
  do {                                                                                                                 \
    if (!(property)) {                                                                                                 \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #property);                                    \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* A copy that ends where the bytes end, so that AddressSanitizer sees a read behind them. The caller frees it. */
static inline uint8_t *exact_copy(const uint8_t *data, size_t length) {
  uint8_t *copy = malloc(length ? length : 1);
  check(copy);
  if (length) memcpy(copy, data, length);
  return length ? copy : copy + 1;
}

static inline void free_copy(uint8_t *copy, size_t length) { free(length ? copy : copy - 1); }

/* How a stream of bytes is cut into reads. */
enum cut { CUT_NOWHERE, CUT_EVERYWHERE, CUT_SOMEWHERE, CUTS };

/* Length of the next read out of `left` bytes; *seed makes the cuts of CUT_SOMEWHERE the same in every run. */
static inline size_t next_read(enum cut cut, uint32_t *seed, size_t left) {
  if (cut == CUT_NOWHERE) return left;
  if (cut == CUT_EVERYWHERE) return 1;
  *seed = *seed * 1103515245u + 12345u;
  size_t length = 1 + (*seed >> 16) % 24;
  return length < left ? length : left;
}

#endif
