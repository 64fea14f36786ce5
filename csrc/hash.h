/* A hash of bytes, for tables of our own. Who can choose the bytes can choose two that meet. */
#ifndef MYSQL_HASH_H
#define MYSQL_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_mix(uint64_t h) {
  h *= UINT64_C(0x9e3779b97f4a7c15);
  return h ^ h >> 32;
}

static inline uint64_t hash_bytes(const char *bytes, size_t length) {
  uint64_t h = length, word;
  for (; length >= sizeof word; bytes += sizeof word, length -= sizeof word) {
    memcpy(&word, bytes, sizeof word);
    h = hash_mix(h ^ word);
  }
  word = 0;
  memcpy(&word, bytes, length);
  return hash_mix(hash_mix(h ^ word));
}

#endif
