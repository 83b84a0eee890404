/* SPDX-License-Identifier: BSD-2-Clause */
#include "tpm/command.h"
#include "tpm/context.h"
#include "tpm/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A reader of these bytes. */
#define READ(...)                                                                                                      \
        ((TpmReader){ .bytes = (const uint8_t[]){ __VA_ARGS__ }, .n_bytes = sizeof((const uint8_t[]){ __VA_ARGS__ }) })
#define BYTES(...) ((const uint8_t[]){ __VA_ARGS__ }), sizeof((const uint8_t[]){ __VA_ARGS__ })

static TpmCommandTable table;

/* The attributes that a TPM lists for a few commands, among them a vendor's with one handle. */
static int setup(void **state) {
        TpmReader list = READ(0x04, 0x40, 0x01, 0x20,  /* EvictControl: 2 handles */
                              0x03, 0x00, 0x01, 0x3E,  /* SequenceComplete: flushed */
                              0x10, 0x00, 0x01, 0x61,  /* ContextLoad: returns a handle */
                              0x00, 0x00, 0x01, 0x65,  /* FlushContext */
                              0x00, 0x00, 0x01, 0x7B,  /* GetRandom */
                              0x22, 0x00, 0x10, 0x00); /* a vendor's 0x20001000: 1 handle */

        memset(&table, 0, sizeof(table));
        return tpm_command_table_add(&table, &list, 6) == 0x20001001 ? 0 : -1;
}

static void test_reader_ends_in_zeros(void **state) {
        TpmReader reader = READ(1, 2, 3);

        assert_int_equal(tpm_read_u16(&reader), 0x0102);
        assert_false(tpm_reader_done(&reader));
        assert_int_equal(tpm_read_u32(&reader), 0);
        assert_true(reader.bad);
        assert_int_equal(tpm_read_u8(&reader), 0); /* bad stays bad, though one byte is left */
        assert_null(tpm_read_bytes(&reader, 0));
        assert_false(tpm_reader_done(&reader));
}

static void test_reader_does_not_wrap(void **state) {
        TpmReader reader = READ(1, 2, 3);

        tpm_read_u8(&reader);
        assert_null(tpm_read_bytes(&reader, SIZE_MAX));
        assert_true(reader.bad);
}

static void test_writer_is_bounded(void **state) {
        uint8_t bytes[12];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_begin(&writer, 0x8001, 0x17B);
        tpm_write_u16(&writer, 0x1234);
        assert_int_equal(tpm_write_end(&writer), 12);
        assert_memory_equal(bytes, ((uint8_t[]){ 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0x12, 0x34 }), 12);
        tpm_write_u8(&writer, 1);
        assert_int_equal(tpm_write_end(&writer), 0);
}

static void test_table_finds_each_and_no_other(void **state) {
        assert_int_equal(table.n_commands, 6);
        assert_int_equal(tpm_command_code(tpm_command_table_find(&table, 0x120)->attributes), 0x120);
        assert_int_equal(tpm_command_table_find(&table, 0x165)->kind, TPM_COMMAND_FLUSH_CONTEXT);
        assert_true(tpm_command_table_find(&table, 0x20001000)->attributes & TPMA_CC_V);
        assert_null(tpm_command_table_find(&table, 0x1000));
        assert_null(tpm_command_table_find(&table, 0));
        assert_null(tpm_command_table_find(&table, 0xFFFFFFFF));
}

static void test_table_takes_no_more_than_it_holds(void **state) {
        static uint8_t bytes[4 * (TPM_COMMANDS_MAX + 50)];
        TpmReader list = TPM_READER(bytes, sizeof(bytes));

        for (unsigned i = 0; i < TPM_COMMANDS_MAX + 50; i++)
                tpm_put_u32(bytes + 4 * i, i + 1);
        memset(&table, 0, sizeof(table));
        tpm_command_table_add(&table, &list, TPM_COMMANDS_MAX + 50);
        assert_int_equal(table.n_commands, TPM_COMMANDS_MAX);
        /* a count that lies, and codes that stand twice, and do not ascend */
        list = READ(0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 4);
        memset(&table, 0, sizeof(table));
        assert_int_equal(tpm_command_table_add(&table, &list, UINT32_MAX), 6);
        assert_int_equal(table.n_commands, 2);
        assert_int_equal(tpm_command_table_find(&table, 4)->attributes, 4);
        assert_int_equal(tpm_command_table_find(&table, 5)->attributes, 5);
}

static void test_command_with_handles_and_auths(void **state) {
        TpmCommand command =
                tpm_command_parse(&table, BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x20,          /* EvictControl */
                                                0x40, 0, 0, 1, 0x80, 0, 0, 5,                /* handles */
                                                0, 0, 0, 20,                                 /* authorizations */
                                                0x40, 0, 0, 9, 0, 0, 1, 0, 0,                /* password */
                                                0x02, 0, 0, 7, 0, 2, 0xAA, 0xBB, 0x61, 0, 0, /* session with a nonce */
                                                0x81, 0, 0, 1));                             /* parameter */

        assert_true(command.known && command.handles_whole && command.auths_whole);
        assert_int_equal(command.n_handles, 2);
        assert_int_equal(command.handles[1], 0x80000005);
        assert_int_equal(command.n_auths, 2);
        assert_int_equal(command.auths[1].session, 0x02000007);
        assert_int_equal(command.auths[1].attributes, 0x61);
        assert_int_equal(command.parameters, 42);
}

static void test_command_that_ends_early(void **state) {
        const uint8_t bytes[] = { 0x80, 2, 0, 0, 0, 0, 0,    0, 1, 0x20, 0x40, 0, 0, 1, 0x80, 0,
                                  0,    5, 0, 0, 0, 9, 0x40, 0, 0, 9,    0,    0, 1, 0, 0 };

        for (size_t n = 0; n < sizeof(bytes); n++) {
                TpmCommand command = tpm_command_parse(&table, bytes, n);

                assert_int_equal(command.known, n >= 10);
                assert_int_equal(command.handles_whole, n >= 18);
                assert_int_equal(command.n_handles, n < 14 ? 0 : n < 18 ? 1 : 2);
                assert_false(command.auths_whole);
                assert_int_equal(command.n_auths, 0);
        }
}

static void test_auths_that_lie(void **state) {
        TpmCommand command;

        /* F3: a nonce of 65,535 bytes */
        command = tpm_command_parse(&table, BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x7B, 0, 0, 0, 9, 0x40, 0, 0, 9, 0xFF,
                                                  0xFF, 1, 0, 0, 0, 4));
        assert_false(command.auths_whole);
        assert_int_equal(command.n_auths, 0);
        /* an area larger than the command */
        command = tpm_command_parse(&table, BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x7B, 0xFF, 0xFF, 0xFF, 0xFF, 0x40, 0,
                                                  0, 9, 0, 0, 1, 0, 0));
        assert_false(command.auths_whole);
        /* a fourth authorization */
        command = tpm_command_parse(&table, BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x7B, 0, 0, 0, 36,            /* */
                                                  0x40, 0, 0, 9, 0, 0, 1, 0, 0, 0x40, 0, 0, 9, 0, 0, 1, 0, 0, /* */
                                                  0x40, 0, 0, 9, 0, 0, 1, 0, 0, 0x40, 0, 0, 9, 0, 0, 1, 0, 0));
        assert_false(command.auths_whole);
        assert_int_equal(command.n_auths, 3);
}

static void test_tags(void **state) {
        assert_false(tpm_command_parse(&table, BYTES(0, 0xC1, 0, 0, 0, 10, 0, 0, 1, 0x7B)).known);
        assert_false(tpm_command_parse(&table, BYTES(0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0xFE)).known);
}

static void test_responses(void **state) {
        TpmCommand load = tpm_command_parse(&table, BYTES(0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x61));
        TpmCommand random = tpm_command_parse(
                &table, BYTES(0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x7B, 0, 0, 0, 9, 0x02, 0, 0, 1, 0, 0, 1, 0, 0, 0, 2));
        TpmResponse response;

        assert_true(tpm_response_parse(&load, BYTES(0x80, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0x80, 0, 0, 2), &response));
        assert_int_equal(response.handle, 0x80000002);
        /* too short for its handle; another length than it says; a failure with a body; another tag */
        assert_false(tpm_response_parse(&load, BYTES(0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 0x80, 0), &response));
        assert_false(tpm_response_parse(&load, BYTES(0x80, 1, 0, 0, 0, 15, 0, 0, 0, 0, 0x80, 0, 0, 2), &response));
        assert_false(tpm_response_parse(&load, BYTES(0x80, 1, 0, 0, 0, 11, 0, 0, 9, 2, 0), &response));
        assert_false(tpm_response_parse(&load, BYTES(0x80, 2, 0, 0, 0, 14, 0, 0, 0, 0, 0x80, 0, 0, 2), &response));
        assert_true(tpm_response_parse(&load, BYTES(0x80, 1, 0, 0, 0, 10, 0, 0, 9, 2), &response));

        assert_true(tpm_response_parse(
                &random, BYTES(0x80, 2, 0, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 4, 0, 2, 7, 7, 0, 0, 1, 0, 0), &response));
        assert_int_equal(response.n_auths, 1);
        assert_int_equal(response.auths[0].attributes, 1);
        assert_int_equal(response.n_parameters, 4);
        /* parameters that reach into, or behind, the authorizations; bytes behind those */
        assert_false(tpm_response_parse(
                &random, BYTES(0x80, 2, 0, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 5, 0, 2, 7, 7, 0, 0, 1, 0, 0), &response));
        assert_false(tpm_response_parse(
                &random, BYTES(0x80, 2, 0, 0, 0, 23, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 2, 7, 7, 0, 0, 1, 0, 0),
                &response));
        assert_false(tpm_response_parse(
                &random, BYTES(0x80, 2, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 4, 0, 2, 7, 7, 0, 0, 1, 0, 0, 9), &response));
}

/* Of a response whose parameters are these; the command is @code, and its session has these attributes. */
static size_t name_in(TPM2_CC code, const uint8_t *bytes, size_t n_bytes, TPMA_SESSION attributes, uint8_t *ret_name) {
        const TpmCommand command = { .header.code = code };
        const TpmResponse response = { .n_parameters = n_bytes, .n_auths = 1, .auths[0].attributes = attributes };

        return tpm_response_name(&command, &response, bytes, ret_name, 4);
}

static void test_name_in_a_response(void **state) {
        uint8_t name[4];

        assert_int_equal(name_in(TPM2_CC_Load, BYTES(0, 4, 0, 0xB, 1, 2), 0, name), 4);
        assert_memory_equal(name, "\x00\x0B\x01\x02", 4);
        assert_int_equal(name_in(TPM2_CC_Load, BYTES(0, 4, 0, 0xB, 1, 2), TPMA_SESSION_ENCRYPT, name), 0);
        assert_int_equal(name_in(TPM2_CC_Load, BYTES(0, 4, 0, 0xB, 1), 0, name), 0);
        assert_int_equal(name_in(TPM2_CC_Load, BYTES(0, 5, 0, 0xB, 1, 2, 3), 0, name), 0);
        assert_int_equal(name_in(TPM2_CC_CreateLoaded, BYTES(0, 1, 7, 0, 0, 0, 2, 8, 9), TPMA_SESSION_ENCRYPT, name),
                         2);
        assert_memory_equal(name, "\x08\x09", 2);
        assert_int_equal(name_in(TPM2_CC_CreatePrimary,
                                 BYTES(0, 1, 7, 0, 0, 0, 0, 0x80, 0x21, 0x40, 0, 0, 1, 0, 1, 5, 0, 1, 6), 0, name),
                         1);
        assert_int_equal(name[0], 6);
        assert_int_equal(name_in(TPM2_CC_ContextLoad, BYTES(0, 1, 7), 0, name), 0);
}

static void test_context_is_exact(void **state) {
        const uint8_t bytes[] = { 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 7, 0x40, 0, 0, 7, 0, 2, 0xAA, 0xBB, 0 };
        TpmContext context;

        for (size_t n = 0; n <= sizeof(bytes); n++)
                assert_int_equal(tpm_context_parse(bytes, n, &context), n == sizeof(bytes) - 1);
        assert_true(tpm_context_parse(bytes, sizeof(bytes) - 1, &context));
        assert_int_equal(context.sequence, 0x102);
        assert_int_equal(context.saved_handle, 0x03000007);
        assert_int_equal(context.hierarchy, 0x40000007);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reader_ends_in_zeros),
                cmocka_unit_test(test_reader_does_not_wrap),
                cmocka_unit_test(test_writer_is_bounded),
                cmocka_unit_test_setup(test_table_finds_each_and_no_other, setup),
                cmocka_unit_test(test_table_takes_no_more_than_it_holds),
                cmocka_unit_test_setup(test_command_with_handles_and_auths, setup),
                cmocka_unit_test_setup(test_command_that_ends_early, setup),
                cmocka_unit_test_setup(test_auths_that_lie, setup),
                cmocka_unit_test_setup(test_tags, setup),
                cmocka_unit_test_setup(test_responses, setup),
                cmocka_unit_test(test_name_in_a_response),
                cmocka_unit_test(test_context_is_exact),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
