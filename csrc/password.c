/* Lua module mysql.password: what client and server compute so that a password need not be sent.
 *
 * mysql_native_password: the server stores SHA1(SHA1(password)); the client answers the greeting's challenge with
 *   SHA1(challenge + SHA1(SHA1(password))) XOR SHA1(password).
 * caching_sha2_password: the server keeps SHA256(SHA256(password)); the client answers with
 *   SHA256(SHA256(SHA256(password)) + challenge) XOR SHA256(password).
 * A server that knows only what it stores can check either. Source: "Authentication Methods" of the MySQL protocol
 * documentation. OpenSSL does the hashing. */
#include <lauxlib.h>
#include <lua.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "packet.h"

enum { CHALLENGE = 20, SHA1_LENGTH = 20, SHA256_LENGTH = 32 };

struct bytes {
  const char *data;
  size_t length;
};

static struct bytes check_bytes(lua_State *L, int arg) {
  struct bytes b;
  b.data = luaL_checklstring(L, arg, &b.length);
  return b;
}

static struct bytes check_digest(lua_State *L, int arg, size_t length) {
  struct bytes b = check_bytes(L, arg);
  if (b.length != length) luaL_argerror(L, arg, lua_pushfstring(L, "%d bytes expected", (int)length));
  return b;
}

/* A greeting with plugins ends the challenge in a NUL, which does not count. */
static struct bytes check_challenge(lua_State *L, int arg) {
  struct bytes b = check_bytes(L, arg);
  if (b.length == CHALLENGE + 1 && b.data[CHALLENGE] == '\0') b.length = CHALLENGE;
  return b;
}

/* The digest of a followed by b. */
static void hash(lua_State *L, const EVP_MD *type, struct bytes a, struct bytes b, unsigned char *digest) {
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool ok = context && EVP_DigestInit_ex(context, type, NULL) && EVP_DigestUpdate(context, a.data, a.length) &&
            EVP_DigestUpdate(context, b.data, b.length) && EVP_DigestFinal_ex(context, digest, NULL);
  EVP_MD_CTX_free(context); /* wipes it */
  if (!ok) luaL_error(L, "OpenSSL cannot hash: out of memory, or the digest is not allowed on this machine");
}

static const struct bytes nothing = {"", 0};

static void exclusive_or(unsigned char *to, const char *with, size_t length) {
  for (size_t i = 0; i < length; i++) to[i] ^= (unsigned char)with[i];
}

/* Pushes secret bytes; they are wiped here, and stay where Lua keeps them. */
static int push_and_wipe(lua_State *L, unsigned char *secret, size_t length) {
  lua_pushlstring(L, (const char *)secret, length);
  OPENSSL_cleanse(secret, length);
  return 1;
}

/* --- mysql_native_password ---------------------------------------------------------------------------------- */

/* hash(text): SHA1, 20 bytes. What a server stores is hash(hash(password)). */
static int l_hash(lua_State *L) {
  unsigned char digest[SHA1_LENGTH];
  hash(L, EVP_sha1(), check_bytes(L, 1), nothing, digest);
  return push_and_wipe(L, digest, sizeof digest);
}

/* scramble(challenge, hashed): the client's answer, 20 bytes; hashed is hash(password). */
static int l_scramble(lua_State *L) {
  struct bytes challenge = check_challenge(L, 1);
  struct bytes hashed = check_digest(L, 2, SHA1_LENGTH);
  unsigned char twice[SHA1_LENGTH], scramble[SHA1_LENGTH];
  hash(L, EVP_sha1(), hashed, nothing, twice);
  hash(L, EVP_sha1(), challenge, (struct bytes){(const char *)twice, sizeof twice}, scramble);
  exclusive_or(scramble, hashed.data, sizeof scramble);
  OPENSSL_cleanse(twice, sizeof twice);
  return push_and_wipe(L, scramble, sizeof scramble);
}

/* unscramble(challenge, response, double_hashed): hash(password), if the response is right; else any 20 bytes. */
static int l_unscramble(lua_State *L) {
  struct bytes challenge = check_challenge(L, 1);
  struct bytes response = check_digest(L, 2, SHA1_LENGTH);
  struct bytes stored = check_digest(L, 3, SHA1_LENGTH);
  unsigned char hashed[SHA1_LENGTH];
  hash(L, EVP_sha1(), challenge, stored, hashed);
  exclusive_or(hashed, response.data, sizeof hashed);
  return push_and_wipe(L, hashed, sizeof hashed);
}

/* Whether response XOR digest(one, two) hashes to what is stored. */
static int check(lua_State *L, const EVP_MD *type, struct bytes one, struct bytes two, struct bytes response,
                 struct bytes stored) {
  unsigned char hashed[EVP_MAX_MD_SIZE], again[EVP_MAX_MD_SIZE];
  if (response.length != stored.length) { /* no answer of this plugin: no password was given, for one */
    lua_pushboolean(L, 0);
    return 1;
  }
  hash(L, type, one, two, hashed);
  exclusive_or(hashed, response.data, stored.length);
  hash(L, type, (struct bytes){(const char *)hashed, stored.length}, nothing, again);
  lua_pushboolean(L, CRYPTO_memcmp(again, stored.data, stored.length) == 0);
  OPENSSL_cleanse(hashed, sizeof hashed);
  OPENSSL_cleanse(again, sizeof again);
  return 1;
}

/* check(challenge, response, double_hashed): whether the response is right. */
static int l_check(lua_State *L) {
  struct bytes challenge = check_challenge(L, 1);
  struct bytes response = check_bytes(L, 2);
  struct bytes stored = check_digest(L, 3, SHA1_LENGTH);
  return check(L, EVP_sha1(), challenge, stored, response, stored);
}

/* --- caching_sha2_password ---------------------------------------------------------------------------------- */

/* sha256(text): 32 bytes. What a server keeps is sha256(sha256(password)). */
static int l_sha256(lua_State *L) {
  unsigned char digest[SHA256_LENGTH];
  hash(L, EVP_sha256(), check_bytes(L, 1), nothing, digest);
  return push_and_wipe(L, digest, sizeof digest);
}

/* sha256_scramble(challenge, hashed): the client's answer, 32 bytes; hashed is sha256(password). Somebody without a
 * password answers with nothing instead. */
static int l_sha256_scramble(lua_State *L) {
  struct bytes challenge = check_challenge(L, 1);
  struct bytes hashed = check_digest(L, 2, SHA256_LENGTH);
  unsigned char twice[SHA256_LENGTH], scramble[SHA256_LENGTH];
  hash(L, EVP_sha256(), hashed, nothing, twice);
  hash(L, EVP_sha256(), (struct bytes){(const char *)twice, sizeof twice}, challenge, scramble);
  exclusive_or(scramble, hashed.data, sizeof scramble);
  OPENSSL_cleanse(twice, sizeof twice);
  return push_and_wipe(L, scramble, sizeof scramble);
}

/* sha256_check(challenge, response, double_hashed): whether the response is right. */
static int l_sha256_check(lua_State *L) {
  struct bytes challenge = check_challenge(L, 1);
  struct bytes response = check_bytes(L, 2);
  struct bytes stored = check_digest(L, 3, SHA256_LENGTH);
  return check(L, EVP_sha256(), stored, challenge, response, stored);
}

/* md5(text): 16 bytes, for glib2.md5. */
static int l_md5(lua_State *L) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  hash(L, EVP_md5(), check_bytes(L, 1), nothing, digest);
  return push_and_wipe(L, digest, 16);
}

LUA_MODULE luaopen_mysql_password(lua_State *L) {
  static const luaL_Reg functions[] = {{"hash", l_hash},
                                       {"scramble", l_scramble},
                                       {"unscramble", l_unscramble},
                                       {"check", l_check},
                                       {"sha256", l_sha256},
                                       {"sha256_scramble", l_sha256_scramble},
                                       {"sha256_check", l_sha256_check},
                                       {"md5", l_md5},
                                       {NULL, NULL}};
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  lua_pushstring(L, OpenSSL_version(OPENSSL_VERSION_STRING)); /* of the library that is loaded */
  lua_setfield(L, -2, "openssl_version");
  lua_pushvalue(L, -1);
  lua_setglobal(L, "password"); /* scripts of 2009 count on it */
  return 1;
}
