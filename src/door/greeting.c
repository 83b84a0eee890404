/* SPDX-License-Identifier: BSD-2-Clause */
#include "door/greeting.h"

#include <string.h>

#define N(text) (sizeof(text) - 1)

const char *greeting_protocol(const uint8_t *bytes, size_t n_bytes) {
        static const struct {
                const char *bytes;
                size_t n;
                const char *name;
        } PROTOCOLS[] = {
                { "\0A", N("\0A"), "D-Bus" },         { "\x80\x01", 2, GREETING_TPM },
                { "\x80\x02", 2, GREETING_TPM },      { "GET ", N("GET "), "HTTP" },
                { "HEAD ", N("HEAD "), "HTTP" },      { "POST ", N("POST "), "HTTP" },
                { "PUT ", N("PUT "), "HTTP" },        { "OPTIONS ", N("OPTIONS "), "HTTP" },
                { "\x16\x03", N("\x16\x03"), "TLS" }, { "\0\0\0\x08", 4, "the protocol of a TPM simulator" },
                { "SSH-", N("SSH-"), "SSH" },
        };

        for (size_t i = 0; i < sizeof(PROTOCOLS) / sizeof(PROTOCOLS[0]); i++)
                if (n_bytes >= PROTOCOLS[i].n && memcmp(bytes, PROTOCOLS[i].bytes, PROTOCOLS[i].n) == 0)
                        return PROTOCOLS[i].name;
        return "another protocol";
}
