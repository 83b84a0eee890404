/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/stream-input.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHORT STREAM_INPUT_SHORT_MAX
#define MANY 4096

static StreamInput input;
static uint8_t sent[MANY]; /* by the client; its bytes say where they stand */

static int setup(void **state) {
        memset(&input, 0, sizeof(input));
        for (size_t i = 0; i < MANY; i++)
                sent[i] = (uint8_t)(i % 251 + 1);
        return 0;
}

static int teardown(void **state) {
        stream_input_clear(&input);
        return 0;
}

/* As the socket would: no more than there is room for. Return: how much was read. */
static size_t feed(size_t at, size_t n) {
        struct iovec iov[2];
        size_t n_iov = stream_input_room(&input, iov), n_read = 0;

        for (size_t i = 0; i < n_iov; i++) {
                size_t n_part = iov[i].iov_len < n - n_read ? iov[i].iov_len : n - n_read;

                memcpy(iov[i].iov_base, sent + at + n_read, n_part);
                n_read += n_part;
        }
        stream_input_add(&input, n_read);
        return n_read;
}

static void expect_next(size_t at, size_t n) {
        size_t n_next;
        const uint8_t *next = stream_input_next(&input, &n_next);

        assert_int_equal(n_next, n);
        assert_memory_equal(next, sent + at, n);
}

static void expect_command(size_t at, size_t n) {
        assert_true(stream_input_is_whole(&input));
        assert_int_equal(input.n_command, n);
        assert_memory_equal(stream_input_command(&input), sent + at, n);
}

static void test_short_command_comes_at_once(void **state) {
        assert_int_equal(feed(0, 12), 12);
        expect_next(0, 12);
        assert_true(stream_input_begin(&input, 12));
        expect_command(0, 12);
        expect_next(12, 0);
        stream_input_end(&input);
        assert_int_equal(input.n_bytes, 0);
}

static void test_short_command_byte_by_byte(void **state) {
        for (size_t i = 0; i < TPM_HEADER_SIZE; i++)
                assert_int_equal(feed(i, 1), 1);
        assert_true(stream_input_begin(&input, 30));
        for (size_t i = TPM_HEADER_SIZE; i < 30; i++) {
                assert_false(stream_input_is_whole(&input));
                assert_int_equal(feed(i, 1), 1);
        }
        expect_command(0, 30);
}

/* Each length around the one at which a command has memory of its own, however it is cut. */
static void test_lengths(void **state) {
        for (size_t n = SHORT - 2 * TPM_HEADER_SIZE; n <= SHORT + 2 * TPM_HEADER_SIZE; n++) {
                for (size_t cut = TPM_HEADER_SIZE; cut <= n; cut++) {
                        size_t at = feed(0, cut);

                        assert_true(stream_input_begin(&input, n));
                        while (at < n)
                                at += feed(at, n - at);
                        expect_command(0, n);
                        assert_int_equal(input.large != NULL, n > SHORT);
                        stream_input_end(&input);
                        assert_int_equal(input.n_bytes, 0);
                }
        }
}

/* Behind a command no more than a header is read, but what came with it is kept. */
static void test_ahead(void **state) {
        assert_int_equal(feed(0, MANY), SHORT);
        assert_true(stream_input_begin(&input, 100));
        expect_command(0, 100);
        expect_next(100, SHORT - 100);
        assert_int_equal(feed(SHORT, MANY - SHORT), 0);
        stream_input_skip(&input, TPM_HEADER_SIZE);
        expect_command(0, 100);
        expect_next(100 + TPM_HEADER_SIZE, SHORT - 100 - TPM_HEADER_SIZE);
        stream_input_end(&input);
        expect_next(100 + TPM_HEADER_SIZE, SHORT - 100 - TPM_HEADER_SIZE);

        stream_input_clear(&input);
        assert_int_equal(feed(0, 20), 20);
        assert_true(stream_input_begin(&input, 20));
        assert_int_equal(feed(20, MANY - 20), TPM_HEADER_SIZE);
        assert_int_equal(feed(20 + TPM_HEADER_SIZE, MANY - 20), 0);
        expect_next(20, TPM_HEADER_SIZE);
}

static void test_ahead_of_the_longest_short_command(void **state) {
        assert_int_equal(feed(0, MANY), SHORT);
        assert_true(stream_input_begin(&input, SHORT));
        assert_int_equal(feed(SHORT, MANY - SHORT), TPM_HEADER_SIZE);
        expect_command(0, SHORT);
        expect_next(SHORT, TPM_HEADER_SIZE);
        stream_input_end(&input);
        expect_next(SHORT, TPM_HEADER_SIZE);
}

static void test_ahead_of_a_long_command(void **state) {
        assert_int_equal(feed(0, MANY), SHORT);
        assert_true(stream_input_begin(&input, 2000));
        assert_int_equal(feed(SHORT, MANY - SHORT), 2000 - SHORT + TPM_HEADER_SIZE);
        expect_command(0, 2000);
        expect_next(2000, TPM_HEADER_SIZE);
        stream_input_end(&input);
        expect_next(2000, TPM_HEADER_SIZE);
        assert_null(input.large);
}

static void test_what_is_done_is_wiped(void **state) {
        static const uint8_t zeros[sizeof(input.bytes)];

        assert_int_equal(feed(0, 60), 60);
        assert_true(stream_input_begin(&input, 50));
        stream_input_end(&input);
        expect_next(50, 10);
        assert_memory_equal(input.bytes + 10, zeros, sizeof(zeros) - 10);
        stream_input_clear(&input);
        assert_memory_equal(input.bytes, zeros, sizeof(zeros));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_short_command_comes_at_once, setup, teardown),
                cmocka_unit_test_setup_teardown(test_short_command_byte_by_byte, setup, teardown),
                cmocka_unit_test_setup_teardown(test_lengths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ahead, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ahead_of_the_longest_short_command, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ahead_of_a_long_command, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_is_done_is_wiped, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
