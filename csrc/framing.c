#include "framing.h"

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static size_t take_header(struct framing *f, const uint8_t *data, size_t length) {
  size_t n = smaller(length, (size_t)(PACKET_HEADER_SIZE - f->header_seen));
  memcpy(f->header + f->header_seen, data, n);
  f->header_seen += (uint8_t)n;
  if (f->header_seen < PACKET_HEADER_SIZE) return n;
  struct cursor c = cursor_over(f->header, PACKET_HEADER_SIZE);
  f->left = (uint32_t)cursor_uint(&c, 3);
  f->sequence = (uint8_t)cursor_uint(&c, 1);
  if (!f->continued) {
    f->length = f->left;
    f->first_sequence = f->sequence;
    f->head_seen = 0;
  }
  return n;
}

static size_t take_payload(struct framing *f, const uint8_t *data, size_t length) {
  size_t n = smaller(length, f->left);
  size_t head = smaller(n, (size_t)(FRAMING_HEAD - f->head_seen));
  if (head && !f->continued) {
    memcpy(f->head + f->head_seen, data, head);
    f->head_seen += (uint8_t)head;
  }
  f->left -= (uint32_t)n;
  return n;
}

size_t framing_feed(struct framing *f, const uint8_t *data, size_t length, bool *complete) {
  size_t at = 0;
  *complete = false;
  while (at < length) {
    if (f->header_seen < PACKET_HEADER_SIZE) at += take_header(f, data + at, length - at);
    if (f->header_seen < PACKET_HEADER_SIZE) return at;
    at += take_payload(f, data + at, length - at);
    if (f->left) return at;
    struct cursor c = cursor_over(f->header, 3);
    f->continued = cursor_uint(&c, 3) == PACKET_MAX_PAYLOAD;
    f->header_seen = 0;
    if (f->continued) continue;
    *complete = true;
    return at;
  }
  return at;
}
