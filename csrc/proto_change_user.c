/* mysql.proto: COM_CHANGE_USER. Source: "COM_CHANGE_USER" of the MySQL protocol documentation. */
#include "proto.h"

enum { COM_CHANGE_USER = 17 };

/* username, response, database, charset, auth_plugin_name. What was not negotiated, or is empty, is absent. */
static int from_change_user_packet(lua_State *L) {
  struct cursor c = check_payload(L);
  size_t user_length = 0, database_length = 0, plugin_length = 0;
  uint8_t command = (uint8_t)cursor_uint(&c, 1);
  const uint8_t *user = cursor_string_nul(&c, &user_length);
  uint64_t response_length = cursor_uint(&c, 1);
  const uint8_t *response = cursor_bytes(&c, response_length);
  const uint8_t *database = cursor_string_nul(&c, &database_length);
  if (c.failed || command != COM_CHANGE_USER) return malformed(L, "change_user");
  uint64_t charset = cursor_left(&c) >= 2 ? cursor_uint(&c, 2) : 0;
  const uint8_t *plugin = cursor_left(&c) ? cursor_string_nul(&c, &plugin_length) : NULL;
  lua_createtable(L, 0, 5);
  set_string(L, "username", user, user_length);
  set_string(L, "response", response, (size_t)response_length);
  set_string(L, "database", database, database_length);
  set_string(L, "auth_plugin_name", plugin, plugin_length);
  set_number(L, "charset", (double)charset);
  return 1;
}

/* The same keys, and attributes: a table of strings by their names, or what from_response_packet gives. What
 * auth_plugin_name or attributes is missing is left out, as CLIENT_PLUGIN_AUTH or CLIENT_CONNECT_ATTRS was not
 * negotiated then; where it was, the server refuses a packet without, so an empty table is another thing than none. */
static int to_change_user_packet(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  size_t user_length, response_length, database_length, plugin_length;
  const char *user = get_string(L, "username", "", &user_length);
  const char *response = get_string(L, "response", "", &response_length);
  const char *database = get_string(L, "database", "", &database_length);
  const char *plugin = get_string(L, "auth_plugin_name", "", &plugin_length);
  size_t attributes_length = 0;
  const char *attributes = proto_attributes_block(L, &attributes_length);
  uint64_t charset = get_number(L, "charset", 8);
  if (response_length > 255) return luaL_error(L, ".response has to be of 255 bytes at most");
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  add_uint(&b, COM_CHANGE_USER, 1);
  add_string_nul(&b, user, user_length);
  add_uint(&b, response_length, 1);
  luaL_addlstring(&b, response, response_length);
  add_string_nul(&b, database, database_length);
  add_uint(&b, charset, 2);
  if (plugin_length) add_string_nul(&b, plugin, plugin_length);
  if (attributes) {
    add_lenenc(&b, attributes_length);
    luaL_addlstring(&b, attributes, attributes_length);
  }
  luaL_pushresult(&b);
  return 1;
}

const luaL_Reg proto_change_user_functions[] = {{"from_change_user_packet", from_change_user_packet},
                                                {"to_change_user_packet", to_change_user_packet},
                                                {NULL, NULL}};
