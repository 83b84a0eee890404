/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/redact.h"
#include "tpm/command.h"
#include "tpm/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECRET 0xA5
#define S4 SECRET, SECRET, SECRET, SECRET
#define S8 S4, S4
#define BYTES(...) ((const uint8_t[]){ __VA_ARGS__ }), sizeof((const uint8_t[]){ __VA_ARGS__ })

#define UNSEAL 0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x5E
#define GET_RANDOM 0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x7B
#define SUCCESS 0x80, 2, 0, 0, 0, 0, 0, 0, 0, 0
#define PASSWORD 0x40, 0, 0, 9, 0, 0, 1, 0, 4, S4
#define HMAC 0x02, 0, 0, 7, 0, 4, S4, 0x61, 0, 8, S8

static TpmCommandTable table;

typedef struct Bytes {
        uint8_t bytes[256];
        size_t n;
} Bytes;

static int setup(void **state) {
        const uint32_t attributes[] = { 0x04400120, 0x12000131, 0x0200015E, 0x10000161, 0x165, 0x14000176, 0x17B };
        uint8_t bytes[sizeof(attributes)];
        TpmReader list = TPM_READER(bytes, sizeof(bytes));

        for (unsigned i = 0; i < sizeof(bytes) / 4; i++)
                tpm_put_u32(bytes + 4 * i, attributes[i]);
        memset(&table, 0, sizeof(table));
        tpm_command_table_add(&table, &list, sizeof(bytes) / 4);
        return table.n_commands == 7 ? 0 : -1;
}

static Bytes message(const uint8_t *bytes, size_t n) {
        Bytes it = { .n = n };

        assert_true(n <= sizeof(it.bytes));
        if (n > 0)
                memcpy(it.bytes, bytes, n);
        if (n >= TPM_HEADER_SIZE)
                tpm_put_u32(it.bytes + 2, n);
        return it;
}

static TpmCommand parse(const Bytes *it) {
        return tpm_command_parse(&table, it->bytes, it->n);
}

/* Each byte of @before is what it was, or zero where it was a secret; there is no other. */
static void assert_redacted(const Bytes *before, const Bytes *after) {
        for (size_t i = 0; i < before->n; i++)
                if (after->bytes[i] != (before->bytes[i] == SECRET ? 0 : before->bytes[i]))
                        fail_msg("byte %zu was %02x, and is %02x", i, before->bytes[i], after->bytes[i]);
}

static void command(const uint8_t *bytes, size_t n) {
        Bytes before = message(bytes, n), after = before;
        TpmCommand parsed = parse(&before);

        redact_command(&parsed, after.bytes, after.n);
        assert_redacted(&before, &after);
}

static void response(const uint8_t *to, size_t n_to, const uint8_t *bytes, size_t n) {
        Bytes asked = message(to, n_to), before = message(bytes, n), after = before;
        TpmCommand parsed = parse(&asked);

        redact_response(&parsed, after.bytes, after.n);
        assert_redacted(&before, &after);
}

static void test_commands(void **state) {
        /* a password; an HMAC session; all three; sessions and parameters */
        command(BYTES(UNSEAL, 0x80, 0, 0, 1, 0, 0, 0, 13, PASSWORD));
        command(BYTES(UNSEAL, 0x80, 0, 0, 1, 0, 0, 0, 21, HMAC));
        command(BYTES(UNSEAL, 0x80, 0, 0, 1, 0, 0, 0, 55, PASSWORD, HMAC, HMAC));
        command(BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x20, 0x40, 0, 0, 1, 0x81, 0, 0, 1, 0, 0, 0, 13, PASSWORD, S4));
        command(BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x31, 0x40, 0, 0, 7, 0, 0, 0, 13, PASSWORD, S8, S8, S8));
        /* no session: what follows the handles are parameters */
        command(BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x76, 0x40, 0, 0, 7, 0x40, 0, 0, 7, S8, S8));
        command(BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, S8, S8));
        /* a parameter that is a handle, but only when it is the only one */
        command(BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x65, 0x80, 0, 0, 1));
        command(BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x65, S4, SECRET));
}

static void test_commands_that_are_none(void **state) {
        /* a code that is not listed; a tag of no command; a cut-off header, handle area, authorization area */
        command(BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x00, S8, S8));
        command(BYTES(0x80, 3, 0, 0, 0, 0, 0, 0, 1, 0x5E, S8, S8));
        command(BYTES(S4, S4, SECRET));
        command(BYTES(UNSEAL, SECRET, SECRET, SECRET));
        command(BYTES(UNSEAL, S4, SECRET, SECRET));
        command(BYTES(UNSEAL, S4, S4, S4, S4));
        command(BYTES(UNSEAL));
        /* sizes of area, nonce and password that lie, so that what is secret stands where a session should */
        for (unsigned i = 0; i < 3 * 256; i++) {
                static const unsigned sizes[3] = { 17, 23, 26 };
                Bytes it = message(
                        BYTES(UNSEAL, 0x80, 0, 0, 1, 0, 0, 0, 22, 0x40, 0, 0, 9, 0, 0, 1, 0, 13, S8, 0, 0, 1, 0, 0));
                TpmCommand parsed;

                if (i % 256 == it.bytes[sizes[i / 256]] || i % 256 == SECRET)
                        continue;
                it.bytes[sizes[i / 256]] = i;
                parsed = parse(&it);
                redact_command(&parsed, it.bytes, it.n);
                assert_null(memchr(it.bytes, SECRET, it.n));
        }
}

static void test_responses(void **state) {
        /* parameters, with and without sessions; a handle */
        response(BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x7B, 0, 8), BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, S8, S4));
        response(BYTES(GET_RANDOM, 0, 0, 0, 13, PASSWORD, 0, 8), BYTES(SUCCESS, 0, 0, 0, 8, S8, 0, 0, 1, 0, 0));
        response(BYTES(GET_RANDOM, 0, 0, 0, 42, HMAC, HMAC, 0, 8),
                 BYTES(SUCCESS, 0, 0, 0, 8, S8, 0, 4, S4, 1, 0, 4, S4, 0, 4, S4, 0x61, 0, 4, S4));
        response(BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x31, 0x40, 0, 0, 7, 0, 0, 0, 13, PASSWORD, S8),
                 BYTES(SUCCESS, 0x80, 0, 0, 2, 0, 0, 0, 8, S8, 0, 0, 1, 0, 0));
        response(BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, S8), BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 2));
        /* failures */
        response(BYTES(GET_RANDOM), BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 9, 0x22));
        response(BYTES(GET_RANDOM), BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 9, 0x22, S8));
}

static void test_responses_that_are_none(void **state) {
        static const uint8_t asked[] = { GET_RANDOM, 0, 0, 0, 13, PASSWORD, 0, 8 };

        /* another tag; parameters beyond the end; an authorization that is cut off, or one too many; no header */
        response(asked, sizeof(asked), BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, S8));
        response(asked, sizeof(asked), BYTES(SUCCESS, S4, S8));
        response(asked, sizeof(asked), BYTES(SUCCESS, S4, S8, S8));
        response(asked, sizeof(asked), BYTES(SUCCESS, S4));
        response(asked, sizeof(asked), BYTES(S8));
        response(asked, sizeof(asked), NULL, 0);
        /* to what is not listed */
        response(BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x00, S8), BYTES(0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, S8));
        response(BYTES(UNSEAL, S4, S4), BYTES(SUCCESS, S8, S8));
}

static uint32_t next_random(uint32_t *seed) {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 17;
        *seed ^= *seed << 5;
        return *seed;
}

/* Bytes that are not zero in a range. */
static size_t count(const Bytes *it, size_t from, size_t to) {
        size_t n = 0;

        for (; from < to && from < it->n; from++)
                n += it->bytes[from] != 0;
        return n;
}

/* A command, or an answer, of which some bytes were changed and some cut off; at times, something else altogether. */
static Bytes mutate(const uint8_t *bytes, size_t n, uint32_t *seed) {
        Bytes it = message(bytes, n);

        if (next_random(seed) % 8 == 0)
                it.n = next_random(seed) % sizeof(it.bytes);
        else if (next_random(seed) % 4 == 0)
                it.n = next_random(seed) % (n + 1);
        for (unsigned i = next_random(seed) % 4; i > 0 && it.n > 0; i--)
                it.bytes[next_random(seed) % it.n] = next_random(seed) >> 8;
        for (size_t i = TPM_HEADER_SIZE; next_random(seed) % 16 == 0 && i < it.n; i++)
                it.bytes[i] = next_random(seed) >> 8;
        if (it.n >= TPM_HEADER_SIZE && next_random(seed) % 4)
                tpm_put_u32(it.bytes + 2, it.n);
        return it;
}

static void test_any_bytes(void **state) {
        static const uint8_t asked[] = { UNSEAL, 0x80, 0, 0, 1, 0, 0, 0, 55, PASSWORD, HMAC, HMAC, S8 };
        static const uint8_t answer[] = {
                SUCCESS, 0, 0, 0, 8, S8, 0, 0, 1, 0, 0, 0, 4, S4, 1, 0, 4, S4, 0, 4, S4, 0x61, 0, 4, S4,
        };
        uint32_t seed = 7;
        unsigned n_kept = 0;

        for (unsigned i = 0; i < 200000; i++) {
                Bytes before = mutate(asked, sizeof(asked), &seed), after = before;
                TpmCommand parsed = parse(&before);
                size_t handles = tpm_handle_offset(parsed.n_handles);

                redact_command(&parsed, after.bytes, after.n);
                for (size_t at = 0; at < before.n; at++)
                        assert_true(after.bytes[at] == before.bytes[at] || after.bytes[at] == 0);
                if (before.n >= TPM_HEADER_SIZE)
                        assert_memory_equal(before.bytes, after.bytes, TPM_HEADER_SIZE);
                if (!parsed.known || !parsed.handles_whole || !parsed.auths_whole)
                        assert_int_equal(count(&after, TPM_HEADER_SIZE, after.n), 0);
                assert_true(count(&after, handles, after.n) <= 4 + 9 * parsed.n_auths);
                n_kept += count(&after, handles, after.n) > 20;

                before = after = mutate(answer, sizeof(answer), &seed);
                redact_response(&parsed, after.bytes, after.n);
                for (size_t at = 0; at < before.n; at++)
                        assert_true(after.bytes[at] == before.bytes[at] || after.bytes[at] == 0);
                if (before.n >= TPM_HEADER_SIZE)
                        assert_memory_equal(before.bytes, after.bytes, TPM_HEADER_SIZE);
                assert_true(count(&after, TPM_HEADER_SIZE, after.n) <= 4 + 4 + 5 * parsed.n_auths);
                n_kept += count(&after, TPM_HEADER_SIZE, after.n) > 4;
        }
        assert_true(n_kept > 20000); /* or this shows nothing */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_commands),  cmocka_unit_test(test_commands_that_are_none),
                cmocka_unit_test(test_responses), cmocka_unit_test(test_responses_that_are_none),
                cmocka_unit_test(test_any_bytes),
        };

        return cmocka_run_group_tests(tests, setup, NULL);
}
