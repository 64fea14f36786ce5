/* How the bytes move: see relay.h. Here is who is read, and what follows from any change; relay_client.c and
 * relay_server.c are the two directions. relay_owner.c tells the owner; relay_module.c is the relay's face to Lua. */
#include "relay.h"

enum { HIGH_WATER = 64 * 1024 }; /* more than this not taken by one side: the other is not read */
enum { PENDING_LIMIT = 64 };     /* answers due before a pipelining client has to wait */

/* --- who is read ------------------------------------------------------------------------------------------- */

static void set_reading(struct stream *s, bool wanted) {
  if (s->reading == wanted) return;
  if (wanted)
    stream_resume(s);
  else
    stream_pause(s);
}

void relay_update_reading(struct relay *r) {
  if (r->ended) return;
  bool his_login =
      relay_pending_is(r, RESPONSE_AUTH) && (r->logging_in || relay_pending_at(r, 0)->destination < TO_OWNER);
  bool clients_turn = r->uploading || his_login;
  /* While the owner thinks about a command its client is read a little further, to see whether he is still there. */
  bool held_enough = r->held.length > r->command_length + HIGH_WATER;
  bool waiting = (r->waiting || r->command) && held_enough;
  bool hold_client = r->client_done || r->deaf;
  hold_client |= clients_turn ? held_enough : waiting || r->blocked || r->barrier || r->pending_count > PENDING_LIMIT;
  set_reading(r->client, !hold_client && (!r->server || r->server->queued <= HIGH_WATER));
  if (r->server) set_reading(r->server, r->client->queued <= HIGH_WATER && !r->behind);
}

static bool is_idle(const struct relay *r) {
  return !r->pending_count && !r->waiting && !r->uploading && !r->held.length && !r->begun &&
         framing_at_boundary(&r->request) && !r->client->queued;
}

void relay_close_if_idle(struct relay *r) {
  if ((r->close_when_idle || r->close_after_answer) && !r->ended && is_idle(r)) relay_end(r, "idle", NULL, NULL);
}

/* --- events ------------------------------------------------------------------------------------------------ */

/* The client sends no more: the server is told once it has all, or waits for what does not come, and the session ends
 * with the last answer, or before one without an end. A command of the owner's that gets none so ends it too. */
static void end_if_answered(struct relay *r) {
  bool owed = r->asked || (r->uploading && !r->discarding); /* the server waits for what the client says */
  if (relay_is_endless(r) || (r->waiting ? owed : !r->pending_count)) {
    relay_end(r, "client", NULL, NULL);
  } else if (!r->waiting && (owed || !r->held.length) && !r->server_told) {
    r->server_told = true;
    stream_end_writing(r->server);
  }
}

void relay_settle(struct relay *r) {
  if (r->blocked && (!r->pending_count || r->asked || relay_is_endless(r))) relay_take_held_bytes(r);
  if (r->held.length && !r->waiting && !r->blocked && (!r->barrier || relay_pending_is(r, RESPONSE_AUTH)))
    relay_take_held_bytes(r);
  relay_close_if_idle(r);
  if (r->client_done && !r->ended && !r->command) end_if_answered(r);
  relay_update_reading(r);
}

void relay_read(struct relay *r, struct stream *from, const uint8_t *data, size_t length) {
  r->shared->relayed++;
  if (from == r->client)
    relay_read_client(r, data, length);
  else
    relay_read_server(r, data, length);
  relay_settle(r);
}

void relay_drained(struct relay *r, struct stream *s) {
  (void)s;
  relay_close_if_idle(r);
  relay_update_reading(r);
}
