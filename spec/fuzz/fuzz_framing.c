/* Property: however a stream is cut into reads, the same packets come out: those that a reader of the whole finds.
 * Input: the bytes of the stream. */
#include "framing.h"
#include "fuzz.h"

struct found {
  size_t end;
  uint32_t length;
  uint8_t sequence, first_sequence;
  size_t head_length;
  const uint8_t *head;
};

/* The chain at `at`, read with a cursor. */
static bool find_chain(const uint8_t *data, size_t length, size_t at, struct found *f) {
  struct cursor c = cursor_over(data + at, length - at);
  uint32_t payload;
  bool first = true;
  do {
    payload = (uint32_t)cursor_uint(&c, 3);
    f->sequence = (uint8_t)cursor_uint(&c, 1);
    const uint8_t *bytes = cursor_bytes(&c, payload);
    if (c.failed) return false;
    if (first) {
      f->length = payload;
      f->first_sequence = f->sequence;
      f->head = bytes;
      f->head_length = payload < FRAMING_HEAD ? payload : FRAMING_HEAD;
    }
    first = false;
  } while (payload == PACKET_MAX_PAYLOAD);
  f->end = (size_t)(c.at - data);
  return true;
}

/* Feeds all of one read, as its user does. */
static void feed(struct framing *f, const uint8_t *data, size_t length, size_t begin, size_t end, size_t *packet) {
  size_t size = end - begin;
  uint8_t *copy = exact_copy(data + begin, size);
  for (size_t at = 0; at < size;) {
    bool complete;
    size_t used = framing_feed(f, copy + at, size - at, &complete);
    check(used > 0 && used <= size - at);
    at += used;
    check(complete || at == size);
    check(!complete || framing_at_boundary(f));
    if (!complete) continue;
    struct found expected;
    check(find_chain(data, length, *packet, &expected));
    check(begin + at == expected.end && f->length == expected.length);
    check(f->sequence == expected.sequence && f->first_sequence == expected.first_sequence);
    check(f->head_seen == expected.head_length && memcmp(f->head, expected.head, expected.head_length) == 0);
    *packet = expected.end;
  }
  free_copy(copy, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  for (enum cut cut = 0; cut < CUTS; cut++) {
    struct framing f;
    memset(&f, 0, sizeof f);
    size_t packet = 0;
    uint32_t seed = (uint32_t)length;
    for (size_t at = 0; at < length;) {
      size_t n = next_read(cut, &seed, length - at);
      feed(&f, data, length, at, at + n, &packet);
      at += n;
    }
    struct found missed;
    check(packet == length || !find_chain(data, length, packet, &missed));
    check(framing_at_boundary(&f) == (packet == length));
  }
  return 0;
}
