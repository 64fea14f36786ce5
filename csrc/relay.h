/* The command phase of a session: the client's bytes go to the server and back, here in C, with a few integers of
 * state per direction. Lua hears of it at the edges only, by methods of the client stream's owner:
 *   owner:on_command(relay, payload, byte)  a watched command and its first byte; it waits until forward() or reply()
 *                                           is called
 *   owner:on_answer(relay, error, answer)   the answer to a command forwarded with notify, or injected, has ended;
 *                                           error is the ERR packet's code or 0; answer: a mysql.resultset if it was
 *                                           kept for the owner, nil if the client has got it, false if it was more
 *                                           than answer_limit and nobody has. If a client waits for the answer
 *                                           to a COM_CHANGE_USER, the authentication's steps are his in any case
 *   owner:on_local_infile(relay, answer)    a server answers an injected command by asking for a file: the client gets
 *                                           to see that, and the rest of the answer too; if he waits for an answer
 *   owner:on_relay_end(relay, side, message, code)  "client" or "server" has closed (message nil) or failed, or broke
 *                                           the protocol; "timeout"; "idle" after close_when_idle() or
 *                                           close_after_answer(). The other side has been told, both streams close by
 *                                           themselves.
 * A relay with a script (relay_script.h) has more to say in these.
 * Commands and their answers stay in order: watched commands are offered one at a time, when no answer is due. */
#ifndef MYSQL_RELAY_H
#define MYSQL_RELAY_H

#include "relay_counting.h"
#include "relay_script.h"
#include "response.h"
#include "stream.h"

enum { PENDING_INLINE = 4 };

enum destination { TO_CLIENT, TO_CLIENT_NOTIFY, TO_OWNER, TO_NOBODY };

/* Follows packet headers to count them on by `shift`. */
struct numbering {
  uint32_t left;       /* payload bytes to come */
  uint32_t size;       /* as far as the header has come */
  uint8_t header_seen; /* its bytes that have come */
  uint8_t shift;
};

/* A command whose answer is due. */
struct pending {
  uint8_t command;
  uint8_t destination;
  bool changes_account; /* this and what follows is kept for counting */
  uint64_t sent_at;     /* ns */
  uint64_t sent;        /* bytes */
  uint64_t statement;   /* key of its digest */
  struct kept_text *text;
};

/* In the order of use: what each command needs lies together, in as few of the processor's lines as it can. */
struct relay {
  struct stream *client, *server; /* NULL once closed */
  struct stream_loop *shared;
  struct counting *counting; /* NULL: nothing is counted */
  struct pending *pending;   /* a ring */
  uint32_t pending_first, pending_count, pending_capacity;
  int reference; /* in the registry: keeps the userdata until both streams are closed */
  uint64_t capabilities;
  bool watching;     /* any command */
  bool begun;        /* the client's current packet has been looked at */
  bool uploading;    /* LOCAL INFILE: the client sends a file */
  bool discarding;   /* which it was the owner who asked for: nobody takes it */
  bool waiting;      /* a command is at the front of `held` until the owner decides */
  bool answered;     /* the client has got something of an answer to it */
  bool logging_in;   /* the client takes part in the authentication that an injected COM_CHANGE_USER has led to */
  bool asked;        /* in the authentication that a COM_CHANGE_USER has led to it is the client's turn */
  bool blocked;      /* a watched command is at the front of `held` until the answers due have come */
  bool barrier;      /* nothing may follow the command forwarded with notify */
  bool second_error; /* behind an ERR in answer to COM_CHANGE_USER comes another, for nobody */
  bool behind;       /* of the next answer something is at hand while the owner is told of one: the rest comes later */
  bool overflowed;   /* the answer for the owner was too long to be kept */
  bool deaf;         /* the server does not take bytes any more, but may still say why */
  bool doubtful;     /* the server has said, or may say, what belongs to no command: it is for no other client */
  bool client_done;  /* it sends no more, but may wait for answers */
  bool server_told;  /* of that */
  bool close_when_idle;
  bool close_after_answer; /* that too, and no further command is looked at */
  bool ended;
  uint64_t commands, from_client, from_server;
  uint64_t now;           /* ns: when the bytes came that are looked at, if they are timed */
  uint64_t told_at;       /* ns: since then, if they are, the owner was last told of an answer */
  size_t command_length;  /* of the watched command that waits, in its packets */
  const uint8_t *command; /* where it is while the owner is told of it; NULL: at the front of `held` */
  uint8_t watched[32];    /* a bit per command byte */
  struct input held;      /* what the client sent and nobody could take yet */
  struct input collected; /* an answer for the owner */
  struct script script;
  struct framing request; /* the client's packets */
  struct response answer; /* to the oldest pending command */
  struct pending pending_inline[PENDING_INLINE];
  struct numbering numbering;                /* of an injected command's answer on its way to the client */
  uint64_t sent_at, first_byte_at, ended_at; /* ns: an injected command and its answer */
  uint64_t read_limit, write_limit;          /* ms */
  size_t command_limit;                      /* bytes that a watched command may have */
  size_t answer_limit;                       /* bytes of an answer that are kept for the owner */
};

static inline struct pending *relay_pending_at(const struct relay *r, uint32_t index) {
  return &r->pending[(r->pending_first + index) % r->pending_capacity];
}

/* The packets of the watched command that has not been decided on: command_length bytes. */
static inline const uint8_t *relay_waiting_command(const struct relay *r) {
  return r->command ? r->command : r->held.data;
}

static inline bool relay_pending_is(const struct relay *r, uint8_t state) {
  return r->pending_count && r->answer.state == state;
}

/* The oldest answer due is a conversation of its own, in which the client may say what he likes. */
static inline bool relay_is_endless(const struct relay *r) {
  return relay_pending_is(r, RESPONSE_STREAM) || relay_pending_is(r, RESPONSE_TUNNEL);
}

/* What happens to the streams of a relay. */
void relay_read(struct relay *r, struct stream *from, const uint8_t *data, size_t length);
void relay_drained(struct relay *r, struct stream *s);
void relay_stream_ended(struct relay *r, struct stream *s, int status);
void relay_write_failed(struct relay *r, struct stream *s); /* of what waited in a round */
void relay_timeout(struct relay *r, struct stream *s);
void relay_forget(struct relay *r, struct stream *s);

/* Commands whose answers are due (relay_pending.c). False: there was not enough memory. */
bool relay_pending_push(struct relay *r, uint8_t command, enum destination destination);
struct pending relay_pending_pop(struct relay *r); /* the oldest */
void relay_pending_drop(struct relay *r);          /* all */

/* From the client (relay_client.c). */
void relay_read_client(struct relay *r, const uint8_t *data, size_t length);
void relay_take_held_bytes(struct relay *r); /* goes on with what was held, as far as it may */
void relay_write_server(struct relay *r, const uint8_t *data, size_t length);

/* From the server (relay_server.c). */
void relay_read_server(struct relay *r, const uint8_t *data, size_t length);
/* Packets for the client: numbered on from its command's last packet. */
bool relay_write_client(struct relay *r, const uint8_t *data, size_t length);

/* The end (relay_end.c). Both streams go: the client after what was written for it, the server at once, unless it has
 * not got all that a client sent before it left. */
void relay_end(struct relay *r, const char *side, const char *message, const char *code);
/* Somebody breaks the protocol. A client that waits for nothing else is told. */
void relay_protocol_error(struct relay *r, const char *side, const char *problem);
void relay_write_error(struct relay *r, uint8_t sequence, uint16_t code, const char *sqlstate, const char *text);

/* Who is read, after anything that may have changed it; settle: and what else follows from that. */
void relay_update_reading(struct relay *r);
void relay_close_if_idle(struct relay *r);
void relay_settle(struct relay *r);

/* Decisions about the waiting command (relay_commands.c). False: there was not enough memory.
 * It goes to the server as it came; with notify the owner gets on_answer. */
bool relay_forward(struct relay *r, bool notify);
/* A command in the form that scripts know goes to the server, or with NULL the waiting one as it came. */
bool relay_inject(struct relay *r, const uint8_t *payload, size_t length, enum destination destination);
/* A statement in that form goes to the server in the place of the waiting one, and the client gets its answer as if it
 * were his. */
bool relay_replace(struct relay *r, const uint8_t *payload, size_t length);
/* Whether that can be done with one of such a length: both have to be of one packet, as the answer is not numbered
 * anew. */
bool relay_can_replace(const struct relay *r, size_t length);
/* The client gets packets, at least one. If they ask him for a file (LOCAL INFILE) nobody wants it: it is read, and
 * answered with OK. */
void relay_answer(struct relay *r, const uint8_t *packets, size_t length);
/* It is done, with these packets for the client, if any. */
void relay_reply(struct relay *r, const uint8_t *packets, size_t length);

/* Calls of the owner's methods (relay_owner.c). */
void relay_tell_end(struct relay *r, const char *side, const char *message, const char *code);
/* Pushes the command that waits as scripts know it: without packet headers and query attributes. False if these are
 * malformed. */
bool relay_push_command(lua_State *L, const struct relay *r);
/* A whole watched command, in its packets: it waits then, unless its query attributes are malformed. */
enum owner_told relay_tell_command(struct relay *r, const uint8_t *data, size_t length, bool *malformed);
/* data: the last bytes of the answer, behind what has been collected of it. */
enum owner_told relay_tell_local_infile(struct relay *r, const uint8_t *data, size_t length);
enum owner_told relay_tell_answer(struct relay *r, enum destination destination, struct response *outcome,
                                  const uint8_t *data, size_t length);

void relay_open(lua_State *L); /* adds relay() to the module's table, which is on top of the stack */

#endif
