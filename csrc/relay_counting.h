/* What a relay counts of its session: every command that the server gets, and its answer. It is told of them where they
 * pass; see statistics.h for what becomes of that. */
#ifndef MYSQL_RELAY_COUNTING_H
#define MYSQL_RELAY_COUNTING_H

#include "statistics.h"
#include "stream.h"

struct relay;
struct pending;
struct response;

struct prepared {
  uint32_t id; /* 0: none */
  uint64_t statement;
};

struct counting {
  struct statistics *statistics; /* the relay's environment keeps it and the backend */
  struct tally *backend;         /* NULL without a server */
  struct account *account;
  struct account *next_account; /* once the server has accepted a USE, COM_INIT_DB or COM_CHANGE_USER; or NULL */
  struct prepared *prepared;    /* at id % capacity, where the latest displaces the one before */
  uint32_t prepared_capacity;
  uint64_t last_prepared; /* MariaDB's clients execute what they have not seen the id of */
  struct input text;      /* the beginning of a command that comes in pieces */
  uint64_t sent;          /* bytes of the client's current command */
  uint64_t answered;      /* bytes of the current answer */
  bool open;              /* the client's current packet is a command */
  uint64_t slow;          /* ns from which on a command is one for the slow log */
  struct kept_text *kept; /* of the command that is being looked at */
};

#define NEVER_SLOW UINT64_MAX         /* as a time: no text is kept */
enum { KEPT_TEXT_LIMIT = 64 * 1024 }; /* of a statement's bytes */

/* The text of a COM_QUERY, until it is known whether it was slow. free() ends it. */
struct kept_text {
  uint32_t length;
  bool cut;
  char bytes[];
};

/* Begins to count, or goes on in another account and for another backend. False: no memory. */
bool counting_begin(struct relay *r, struct statistics *s, struct tally *backend, struct account *account,
                    uint64_t slow);
void counting_free(struct counting *c);

/* These must be called only where r->counting is not NULL. */

/* Bytes of the client's current packet go to the server, `header` of them at most belonging to a packet's header. */
void counting_pass(struct relay *r, const uint8_t *data, size_t length, size_t header, bool complete);
/* A whole command goes to the server. payload: of its first packet; classic: without query attributes, whatever has
 * been negotiated; bytes: on the wire. */
void counting_send(struct relay *r, const uint8_t *payload, size_t length, bool classic, uint64_t bytes);
void counting_answer(struct relay *r, const struct pending *done, const struct response *outcome);
/* The session ends: nobody answers what is due. */
void counting_lose(struct relay *r, bool failed);

/* The slow log (relay_slow.c). NULL: no memory. */
struct kept_text *slow_keep(const uint8_t *text, size_t length, bool cut);
/* Tells it of a command. outcome: NULL if there was no answer; time: ns. */
void slow_tell(struct relay *r, const struct pending *p, const struct response *outcome, uint64_t time);

#endif
