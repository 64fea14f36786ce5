/* A payload of 16 MiB is more than a fuzzer can make: the modules under test, compiled with this in front of them,
 * continue a payload of 64 bytes in the next packet. */
#include "packet.h"
#undef PACKET_MAX_PAYLOAD
#define PACKET_MAX_PAYLOAD 64u
