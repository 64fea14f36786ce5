/* How a relay ends, and who is told of it. */
#include "relay.h"

enum { CR_SERVER_LOST = 2013, ER_NET_PACKETS_OUT_OF_ORDER = 1156 };

void relay_forget(struct relay *r, struct stream *s) {
  bool by_itself = !r->ended;
  s->relay = NULL;
  r->ended = true;
  if (by_itself && r->counting) counting_lose(r, false);
  if (r->client == s) r->client = NULL;
  if (r->server == s) r->server = NULL;
  struct stream *other = r->client ? r->client : r->server;
  if (other && by_itself) stream_close(other); /* its owner closed one side: nobody is left for the other */
  if (other) return;
  input_free(&r->held);
  input_free(&r->collected);
  relay_pending_drop(r);
  counting_free(r->counting);
  r->counting = NULL;
  if (r->script.caller) luaL_unref(r->shared->L, LUA_REGISTRYINDEX, r->script.caller);
  memset(&r->script, 0, sizeof r->script);
  luaL_unref(r->shared->L, LUA_REGISTRYINDEX, r->reference);
}

void relay_end(struct relay *r, const char *side, const char *message, const char *code) {
  if (r->ended) return;
  r->ended = true;
  if (r->counting) counting_lose(r, side[0] == 's');
  relay_tell_end(r, side, message, code);
  struct stream *client = r->client, *server = r->server; /* the owner may have closed either, or detached that */
  if (client) round_flush(&r->shared->round, client);     /* what does not fit is queued then */
  bool client_left = strcmp(side, "client") == 0 && !message;
  if (server && client_left && (server->queued || !r->pending_count))
    stream_finish(server);
  else if (server)
    stream_close(server);
  if (client && client_left && !client->queued)
    stream_close(client);
  else if (client)
    stream_finish(client);
}

void relay_write_error(struct relay *r, uint8_t sequence, uint16_t code, const char *sqlstate, const char *text) {
  uint8_t packet[128];
  size_t length = strlen(text);
  uint8_t *at = store_header(packet, (uint32_t)(9 + length), sequence);
  *at++ = 0xff;
  at = store_uint(at, code, 2);
  *at++ = '#';
  memcpy(at, sqlstate, 5);
  memcpy(at + 5, text, length);
  stream_write(r->client, packet, PACKET_HEADER_SIZE + 9 + length);
}

/* The server is gone. An ERR packet may stand wherever a packet of the answer could begin, and for the whole answer. */
static void tell_server_lost(struct relay *r) {
  uint8_t last = r->request.sequence;
  if (!r->waiting || r->answered) {
    if (!r->pending_count || relay_pending_at(r, 0)->destination >= TO_OWNER || r->answer.state == RESPONSE_TUNNEL)
      return;
    if (!framing_at_boundary(&r->answer.framing)) return;
    uint8_t sequence = r->answer.framing.sequence; /* 0: nothing yet */
    if (!r->uploading && sequence) last = (uint8_t)(sequence + r->numbering.shift);
  }
  relay_write_error(r, (uint8_t)(last + 1), CR_SERVER_LOST, "HY000", "Lost connection to MySQL server during query");
}

void relay_stream_ended(struct relay *r, struct stream *s, int status) {
  if (r->ended) return;
  /* A client that has closed its side of the connection gets its answers still, as it would from the server; but what
   * the owner only thinks about is given up. */
  bool due = r->pending_count || (r->command && !r->waiting); /* more may be behind a command that is done */
  if (s == r->client && status == 0 && due) {
    r->client_done = true;
    relay_settle(r);
    return;
  }
  if (s == r->server) tell_server_lost(r);
  relay_end(r, s == r->client ? "client" : "server", status ? uv_strerror(status) : NULL,
            status ? uv_err_name(status) : NULL);
}

void relay_write_failed(struct relay *r, struct stream *s) {
  if (s == r->client) {
    relay_stream_ended(r, s, UV_EPIPE);
  } else {
    r->deaf = true;
    relay_update_reading(r);
  }
}

void relay_timeout(struct relay *r, struct stream *s) {
  if (r->server) stream_look_at_queue(r->server);
  uint64_t active_at = r->client->active_at;
  if (r->server && r->server->active_at > active_at) active_at = r->server->active_at;
  uint64_t limit = r->client->queued || (r->server && r->server->queued) ? r->write_limit : r->read_limit;
  uint64_t idle = uv_now(s->shared->loop) - active_at;
  if (limit && idle >= limit) relay_end(r, "timeout", "nothing was read or written for too long", "ETIMEDOUT");
}

void relay_protocol_error(struct relay *r, const char *side, const char *problem) {
  if (side[0] == 'c' && !r->pending_count)
    relay_write_error(r, (uint8_t)(r->request.sequence + 1), ER_NET_PACKETS_OUT_OF_ORDER, "08S01", problem);
  relay_end(r, side, problem, "EPROTO");
}
