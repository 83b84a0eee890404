/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/names.h"
#include "ctl/pcapng.h"
#include "ctl/record.h"
#include "manager/record.h"
#include "tpm/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PACKET 6 /* block */
#define HEADERS 40

static TpmCommandTable table;

typedef struct Sent {
        bool tpm;
        guint64 lost, client;
        guint8 locality;
        uint8_t command[64], response[64];
        size_t n_command, n_response;
} Sent;

static int setup(void **state) {
        command_table(&table);
        return 0;
}

static size_t message(uint8_t *bytes, uint16_t tag, uint32_t code, const uint8_t *body, size_t n) {
        TpmWriter writer = TPM_WRITER(bytes, 64);

        tpm_write_begin(&writer, tag, code);
        tpm_write_bytes(&writer, body, n);
        return tpm_write_end(&writer);
}

#define BODY(...) ((const uint8_t[]){ __VA_ARGS__ }), sizeof((const uint8_t[]){ __VA_ARGS__ })

static Sent load(void) {
        Sent sent = { .client = 7 };

        sent.n_command = message(sent.command, TPM2_ST_SESSIONS, TPM2_CC_Load,
                                 BODY(0x81, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0));
        sent.n_response = message(sent.response, TPM2_ST_SESSIONS, TPM2_RC_SUCCESS,
                                  BODY(0x80, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0));
        return sent;
}

/* The bytes that the daemon sends; g_free() them. */
static uint8_t *bytes_of(const Sent *sent, size_t *ret_n) {
        g_autoptr(GVariant) variant = g_variant_ref_sink(g_variant_new(
                "(ytttuusyttu@ay@ay)", sent->tpm ? MANAGER_RECORD_TPM : MANAGER_RECORD_CLIENT, (guint64)1000000,
                sent->lost, sent->client, 1000, 4711, "name", sent->locality, (guint64)5, (guint64)60, 2,
                g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, sent->command, sent->n_command, 1),
                g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, sent->response, sent->n_response, 1)));

        *ret_n = g_variant_get_size(variant);
        return g_memdup2(g_variant_get_data(variant), *ret_n);
}

/* What it looks like, without the time; g_free() it. */
static char *text_of(const Sent *sent) {
        g_autoptr(GString) text = g_string_new(NULL);
        g_auto(Record) record = { 0 };
        RecordLayout layout;
        size_t n;
        g_autofree uint8_t *bytes = bytes_of(sent, &n);
        GString *words = g_string_new(NULL);

        assert_true(record_parse(&table, bytes, n, &record));
        layout = record_layout(0);
        record_text(&record, &layout, false, text);
        for (const char *at = text->str; *at; at++)
                if (*at != ' ' || at[1] != ' ')
                        g_string_append_c(words, *at);
        g_strchomp(words->str);
        return g_string_free(words, FALSE);
}

#define assert_looks(sent, expected)                                                                                   \
        do {                                                                                                           \
                g_autofree char *text_ = text_of(sent);                                                                \
                assert_string_equal(strchr(text_, ' ') + 1, expected);                                                 \
        } while (0)

static void test_text(void **state) {
        Sent sent = load();

        assert_looks(&sent, "7 1000/4711/name Load 81000001 pw 29 23 5 60 2 success, handle 80000002");
        sent.locality = 3;
        sent.n_response = message(sent.response, TPM2_ST_NO_SESSIONS, TPM2_RC_FAILURE, NULL, 0);
        assert_looks(&sent, "7 1000/4711/name Load 81000001 pw 29 10 5 60 2 "
                            "tpm:error(2.0): commands not being accepted because of a TPM failure, locality 3");
        sent.tpm = true;
        sent.locality = 0;
        sent.n_response = 0;
        assert_looks(&sent, "7 1000/4711/name tpm:Load 81000001 pw 29 0 - 60 - no answer");
        sent.n_response = 9;
        assert_looks(&sent, "7 1000/4711/name tpm:Load 81000001 pw 29 9 - 60 - no whole answer");
        /* a vendor's; one that is cut off; a handle that is a parameter */
        sent.n_command = message(sent.command, TPM2_ST_SESSIONS, 0x20000123, BODY(0x81, 0, 0, 1));
        assert_looks(&sent, "7 1000/4711/name tpm:0x20000123 - - 14 9 - 60 - no whole answer");
        sent.n_command = 3;
        assert_looks(&sent, "7 1000/4711/name tpm:0x0 - - 3 9 - 60 - no whole answer");
        sent.n_command = message(sent.command, TPM2_ST_NO_SESSIONS, TPM2_CC_FlushContext, BODY(0x80, 0, 0, 1));
        assert_looks(&sent, "7 1000/4711/name tpm:FlushContext 80000001 - 14 9 - 60 - no whole answer");
}

static void test_lost(void **state) {
        Sent sent = load();
        g_autofree char *text = NULL;

        sent.lost = 12;
        text = text_of(&sent);
        assert_true(g_str_has_prefix(text, "-- 12 records are lost here"));
        assert_non_null(strstr(text, "\n"));
}

/* Whatever the width, no line is wider; names and answers are the last to go. */
static void test_layout(void **state) {
        Sent sent = load();
        g_auto(Record) record = { 0 };
        size_t n;
        g_autofree uint8_t *bytes = bytes_of(&sent, &n);

        assert_true(record_parse(&table, bytes, n, &record));
        for (int width = 1; width < 240; width++) {
                RecordLayout layout = record_layout(width);
                g_autoptr(GString) text = g_string_new(NULL);

                record_text_head(&layout, text);
                record_text(&record, &layout, false, text);
                for (char *line = text->str, *end; (end = strchr(line, '\n')); line = end + 1)
                        assert_true(end - line <= width);
                assert_true(width < 20 || strstr(text->str, " Load") ||
                            g_str_has_prefix(strchr(text->str, '\n'), "\nLoad"));
                assert_true(width < 40 || strstr(text->str, "success"));
                assert_true(width < 200 || strstr(text->str, "1000/4711/name"));
        }
}

static void test_what_is_no_record(void **state) {
        Sent sent = load();
        size_t n;
        g_autofree uint8_t *bytes = bytes_of(&sent, &n);

        for (size_t i = 0; i < n; i++) {
                g_auto(Record) record = { 0 };

                /* Some are records, of other sizes. */
                if (record_parse(&table, bytes, i, &record))
                        assert_true(record.n_command + record.n_response < n);
        }
}

typedef struct Packet {
        uint32_t interface, from, sequence, acknowledged;
        uint16_t from_port;
        size_t n;
} Packet;

static uint32_t native(const GString *bytes, size_t at) {
        uint32_t value;

        assert_true(at + sizeof(value) <= bytes->len);
        memcpy(&value, bytes->str + at, sizeof(value));
        return value;
}

/* The blocks of a file are as long as they say, twice. Return: how many packets */
static unsigned packets_of(const GString *bytes, Packet *ret_packets, unsigned n_max) {
        unsigned n = 0;

        for (size_t at = 0; at < bytes->len; at += native(bytes, at + 4)) {
                uint32_t size = native(bytes, at + 4);
                TpmReader reader = TPM_READER((const uint8_t *)bytes->str + at + 28, HEADERS);
                Packet packet = { 0 };

                assert_true(size >= 12 && size % 4 == 0 && at + size <= bytes->len);
                assert_int_equal(native(bytes, at + size - 4), size);
                if (native(bytes, at) != PACKET)
                        continue;
                packet.interface = native(bytes, at + 8);
                packet.n = native(bytes, at + 20) - HEADERS;
                tpm_read_bytes(&reader, 12);
                packet.from = tpm_read_u32(&reader);
                tpm_read_u32(&reader);
                packet.from_port = tpm_read_u16(&reader);
                tpm_read_u16(&reader);
                packet.sequence = tpm_read_u32(&reader);
                packet.acknowledged = tpm_read_u32(&reader);
                assert_false(reader.bad);
                assert_true(n < n_max);
                ret_packets[n++] = packet;
        }
        return n;
}

static void add(Pcapng *pcapng, const Sent *sent, GString *to) {
        g_auto(Record) record = { 0 };
        size_t n;
        g_autofree uint8_t *bytes = bytes_of(sent, &n);

        assert_true(record_parse(&table, bytes, n, &record));
        pcapng_record(pcapng, &record, to);
}

static void test_packets(void **state) {
        g_autoptr(GString) file = g_string_new(NULL);
        Pcapng *pcapng = pcapng_new();
        Packet packets[8];
        Sent sent = load();

        pcapng_head(false, file);
        add(pcapng, &sent, file);
        sent.tpm = true;
        add(pcapng, &sent, file);
        sent.tpm = false;
        sent.n_response = 0;
        add(pcapng, &sent, file);
        add(pcapng, &sent, file);
        assert_int_equal(packets_of(file, packets, G_N_ELEMENTS(packets)), 6);
        assert_int_equal(packets[0].from, 0x0A000007);
        assert_int_equal(packets[1].from, 0x7F000001);
        assert_int_equal(packets[1].acknowledged, packets[0].sequence + packets[0].n);
        assert_int_equal(packets[2].interface, 1);
        assert_int_equal(packets[2].sequence, packets[0].sequence);
        /* the same client again, after what was between them */
        assert_int_equal(packets[4].sequence, packets[0].sequence + packets[0].n);
        assert_int_equal(packets[4].acknowledged, packets[1].sequence + packets[1].n);
        assert_int_equal(packets[5].sequence, packets[4].sequence + packets[4].n);
        assert_int_equal(packets[5].acknowledged, packets[4].acknowledged);
        pcapng_free(pcapng);
}

/* However many clients there were, it does not grow; and no stream begins in the middle of another. */
static void test_many_clients(void **state) {
        g_autoptr(GString) file = g_string_new(NULL);
        Pcapng *pcapng = pcapng_new();
        Packet first[2], packets[2];
        Sent sent = load();

        sent.client = 1;
        add(pcapng, &sent, file);
        assert_int_equal(packets_of(file, first, 2), 2);
        for (sent.client = 2; sent.client <= 70000; sent.client++) {
                g_string_truncate(file, 0);
                add(pcapng, &sent, file);
        }
        g_string_truncate(file, 0);
        sent.client = 1;
        add(pcapng, &sent, file);
        assert_int_equal(packets_of(file, packets, 2), 2);
        assert_int_equal(packets[0].sequence, first[0].sequence);
        assert_int_equal(packets[0].from_port, first[0].from_port + 1);
        pcapng_free(pcapng);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text),    cmocka_unit_test(test_lost),
                cmocka_unit_test(test_layout),  cmocka_unit_test(test_what_is_no_record),
                cmocka_unit_test(test_packets), cmocka_unit_test(test_many_clients),
        };

        return cmocka_run_group_tests(tests, setup, NULL);
}
