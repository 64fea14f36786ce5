/* The only way to read bytes that came off the network: a cursor over a byte range that cannot leave it.
 *
 * A read past the end gives 0 (or NULL) and sets `failed`, which stays set: a decoder reads all its fields and
 * looks at `failed` once at the end. Integers are little-endian ("Protocol::FixedLengthInteger"), lengths are
 * "Protocol::LengthEncodedInteger" of the MySQL protocol documentation. */
#ifndef MYSQL_PACKET_H
#define MYSQL_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PACKET_HEADER_SIZE 4         /* 3 bytes of payload length, 1 byte of sequence number */
#define PACKET_MAX_PAYLOAD 0xffffffu /* a payload of this length is continued in the next packet */

struct cursor {
  const uint8_t *at;
  const uint8_t *end;
  bool failed;
};

static inline struct cursor cursor_over(const void *data, size_t length) {
  struct cursor c = {data, (const uint8_t *)data + length, false};
  return c;
}

/* Bytes that are left. */
static inline size_t cursor_left(const struct cursor *c) { return (size_t)(c->end - c->at); }

/* The next `length` bytes, and moves past them; NULL (and failed) if they are not all there. */
static inline const uint8_t *cursor_bytes(struct cursor *c, uint64_t length) {
  if (c->failed || length > cursor_left(c)) {
    c->failed = true;
    return NULL;
  }
  const uint8_t *bytes = c->at;
  c->at += length;
  return bytes;
}

/* A fixed-length integer of 1 to 8 bytes. */
static inline uint64_t cursor_uint(struct cursor *c, unsigned size) {
  const uint8_t *bytes = cursor_bytes(c, size);
  uint64_t value = 0;
  if (bytes)
    for (unsigned i = 0; i < size; i++) value |= (uint64_t)bytes[i] << (8 * i);
  return value;
}

/* A length-encoded integer. 0xfb (NULL in a text row) and 0xff (ERR) are no integers: failed. */
static inline uint64_t cursor_lenenc(struct cursor *c) {
  uint8_t first = (uint8_t)cursor_uint(c, 1);
  if (first < 0xfb) return first;
  if (first == 0xfc) return cursor_uint(c, 2);
  if (first == 0xfd) return cursor_uint(c, 3);
  if (first == 0xfe) return cursor_uint(c, 8);
  c->failed = true;
  return 0;
}

/* "Protocol::NullTerminatedString": the bytes before the next NUL, and moves past it; failed without one. */
static inline const uint8_t *cursor_string_nul(struct cursor *c, size_t *length) {
  const uint8_t *nul = c->failed || c->at == c->end ? NULL : memchr(c->at, 0, cursor_left(c));
  if (!nul) {
    c->failed = true;
    *length = 0;
    return NULL;
  }
  const uint8_t *bytes = c->at;
  *length = (size_t)(nul - bytes);
  c->at = nul + 1;
  return bytes;
}

/* A Lua number as an integer of 8 bytes; false if it is none. To Lua, whose numbers have 53 bits, the largest of them
 * is 2^64. */
static inline bool to_uint64(double number, uint64_t *value) {
  static const double LIMIT = 18446744073709551616.0;
  if (!(number >= 0 && number <= LIMIT)) return false;
  *value = number < LIMIT ? (uint64_t)number : UINT64_MAX;
  return true;
}

/* Writes a fixed-length integer of `size` bytes; returns the place after it. */
static inline uint8_t *store_uint(uint8_t *to, uint64_t value, unsigned size) {
  for (unsigned i = 0; i < size; i++) *to++ = (uint8_t)(value >> (8 * i));
  return to;
}

/* Writes a length-encoded integer, of up to 9 bytes; returns the place after it. */
static inline uint8_t *store_lenenc(uint8_t *to, uint64_t value) {
  if (value < 0xfb) return store_uint(to, value, 1);
  unsigned size = value <= 0xffff ? 2 : value <= 0xffffff ? 3 : 8;
  *to++ = size == 2 ? 0xfc : size == 3 ? 0xfd : 0xfe;
  return store_uint(to, value, size);
}

/* Writes a packet header. */
static inline uint8_t *store_header(uint8_t *to, uint32_t payload_length, uint8_t sequence) {
  to = store_uint(to, payload_length, 3);
  *to++ = sequence;
  return to;
}

/* The luaopen_* functions are all that a module shows. */
#define LUA_MODULE __attribute__((visibility("default"))) int

#endif
