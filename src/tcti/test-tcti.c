/* SPDX-License-Identifier: BSD-2-Clause */

/* The TCTI contract, row by row; see test-tcti-daemon.h. */
#include "tcti/test-tcti-daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void test_init_sizes(void **state) {
        uint8_t small[64];
        size_t size = sizeof(small);

        memset(small, 0xA5, sizeof(small));
        assert_int_equal(Tss2_Tcti_Tabrmd_Init(NULL, NULL, NULL), TSS2_TCTI_RC_BAD_VALUE);
        assert_int_equal(Tss2_Tcti_Tabrmd_Init((TSS2_TCTI_CONTEXT *)small, NULL, NULL), TSS2_TCTI_RC_BAD_VALUE);
        assert_int_equal(Tss2_Tcti_Tabrmd_Init((TSS2_TCTI_CONTEXT *)small, &size, conf), TSS2_TCTI_RC_BAD_VALUE);
        for (size_t i = 0; i < sizeof(small); i++)
                assert_int_equal(small[i], 0xA5);
}

static void test_init_refuses(void **state) {
        char *big = calloc(1, context_size);
        size_t size = context_size;

        assert_int_equal(Tss2_Tcti_Tabrmd_Init((void *)big, &size, "what=ever"), TSS2_TCTI_RC_BAD_VALUE);
        assert_int_equal(Tss2_Tcti_Tabrmd_Init((void *)big, &size, "socket=/nonexistent/x"),
                         TSS2_TCTI_RC_NO_CONNECTION);
        assert_int_equal(Tss2_Tcti_Tabrmd_Init((void *)big, &size, conf), TSS2_TCTI_RC_NO_CONNECTION);
        for (size_t i = 0; i < context_size; i++)
                assert_int_equal(big[i], 0);
        free(big);
}

static void test_header_of_the_context(void **state) {
        const TSS2_TCTI_CONTEXT_COMMON_V1 *common = (void *)tcti;

        assert_true(common->magic == 0x1c8e03ff00db0f92);
        assert_int_equal(common->version, 2);
        assert_int_equal(Tss2_Tcti_MakeSticky(tcti, NULL, 0), TSS2_TCTI_RC_NOT_IMPLEMENTED);
}

static void test_transmit_refuses(void **state) {
        const uint8_t lying[] = { 0x80, 1, 0, 0, 0, 13, 0, 0, 1, 0x7B, 0, 8 };
        TSS2_TCTI_TRANSMIT_FCN f = TSS2_TCTI_TRANSMIT(tcti);
        TSS2_TCTI_CONTEXT_COMMON_V1 *common = (void *)tcti;

        assert_int_equal(f(NULL, sizeof(COMMAND), COMMAND), TSS2_TCTI_RC_BAD_REFERENCE);
        assert_int_equal(f(tcti, sizeof(COMMAND), NULL), TSS2_TCTI_RC_BAD_REFERENCE);
        assert_int_equal(f(tcti, 0, COMMAND), TSS2_TCTI_RC_BAD_VALUE);
        assert_int_equal(f(tcti, 9, COMMAND), TSS2_TCTI_RC_BAD_VALUE);
        assert_int_equal(f(tcti, sizeof(lying), lying), TSS2_TCTI_RC_BAD_VALUE);
        common->magic++;
        assert_int_equal(f(tcti, sizeof(COMMAND), COMMAND), TSS2_TCTI_RC_BAD_CONTEXT);
        common->magic--;
        common->version = 1;
        assert_int_equal(f(tcti, sizeof(COMMAND), COMMAND), TSS2_TCTI_RC_BAD_CONTEXT);
        common->version = 2;
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        assert_int_equal(f(tcti, sizeof(COMMAND), COMMAND), TSS2_TCTI_RC_BAD_SEQUENCE);
}

static void test_receive_refuses(void **state) {
        TSS2_TCTI_RECEIVE_FCN f = TSS2_TCTI_RECEIVE(tcti);
        uint8_t response[64];
        size_t size = sizeof(response);

        assert_int_equal(f(tcti, &size, response, 0), TSS2_TCTI_RC_BAD_SEQUENCE);
        transmit();
        assert_int_equal(f(NULL, &size, response, 0), TSS2_TCTI_RC_BAD_REFERENCE);
        assert_int_equal(f(tcti, NULL, response, 0), TSS2_TCTI_RC_BAD_REFERENCE);
        assert_int_equal(f(tcti, &size, NULL, 0), TSS2_TCTI_RC_BAD_VALUE);
        assert_int_equal(f(tcti, &size, response, -2), TSS2_TCTI_RC_BAD_VALUE);
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
        assert_int_equal(f(tcti, &size, response, 0), TSS2_TCTI_RC_BAD_SEQUENCE);
}

static void test_size_is_asked_first(void **state) {
        uint8_t response[64];
        size_t size;

        transmit();
        for (unsigned i = 0; i < 3; i++) {
                size = 0;
                assert_int_equal(receive(&size, NULL, i == 0 ? 0 : TSS2_TCTI_TIMEOUT_BLOCK),
                                 i == 0 ? TSS2_TCTI_RC_TRY_AGAIN : TSS2_RC_SUCCESS);
                if (i == 0)
                        say(RESPONSE, sizeof(RESPONSE));
                else
                        assert_int_equal(size, sizeof(RESPONSE));
        }
        size = sizeof(RESPONSE) - 1;
        assert_int_equal(receive(&size, response, -1), TSS2_TCTI_RC_INSUFFICIENT_BUFFER);
        assert_int_equal(size, sizeof(RESPONSE));
        assert_whole_receive();
}

static void test_byte_by_byte(void **state) {
        uint8_t response[64];
        size_t size;

        transmit();
        for (size_t i = 0; i < sizeof(RESPONSE) - 1; i++) {
                say(RESPONSE + i, 1);
                size = sizeof(response);
                assert_int_equal(receive(&size, response, i % 3 == 0 ? 1 : 0), TSS2_TCTI_RC_TRY_AGAIN);
        }
        say(RESPONSE + sizeof(RESPONSE) - 1, 1);
        assert_whole_receive();
}

static void *say_late(void *unused) {
        for (size_t i = 0; i < sizeof(RESPONSE); i++) {
                nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
                if (write(daemon_fd, RESPONSE + i, 1) != 1)
                        break;
        }
        return NULL;
}

/* F22: a short read is no reason for TRY_AGAIN where the caller wants to wait, and neither is a signal. */
static void ignore(int sig) {
}

static void *interrupt(void *thread) {
        for (unsigned i = 0; i < 10; i++) {
                nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
                pthread_kill(*(pthread_t *)thread, SIGUSR1);
        }
        return NULL;
}

/* Often enough that the clock ticks between the call and its wait: a time that is over must not become "for ever". */
static void test_no_time_at_all(void **state) {
        transmit();
        alarm(20);
        for (unsigned i = 0; i < 500000; i++) {
                size_t size = 0;

                assert_int_equal(receive(&size, NULL, TSS2_TCTI_TIMEOUT_NONE), TSS2_TCTI_RC_TRY_AGAIN);
        }
        alarm(0);
}

/* Who polls after asking for the size must see that there is a response, were it the shortest there is. */
static void test_size_is_asked_before_polling(void **state) {
        static const uint8_t shortest[] = { 0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1 };
        TSS2_TCTI_POLL_HANDLE handle;
        size_t size = 0, n = 1;

        transmit();
        say(shortest, sizeof(shortest));
        assert_int_equal(receive(&size, NULL, TSS2_TCTI_TIMEOUT_BLOCK), TSS2_RC_SUCCESS);
        assert_int_equal(size, sizeof(shortest));
        assert_int_equal(Tss2_Tcti_GetPollHandles(tcti, &handle, &n), TSS2_RC_SUCCESS);
        assert_int_equal(poll(&handle, 1, 0), 1);
}

static void test_blocking_receive_blocks(void **state) {
        const struct sigaction action = { .sa_handler = ignore };
        pthread_t self = pthread_self();
        pthread_t late, interrupter;

        sigaction(SIGUSR1, &action, NULL);
        transmit();
        pthread_create(&late, NULL, say_late, NULL);
        pthread_create(&interrupter, NULL, interrupt, &self);
        assert_whole_receive();
        pthread_join(late, NULL);
        pthread_join(interrupter, NULL);
}

static void test_malformed_responses(void **state) {
        const uint8_t small[] = { 0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0 };
        uint8_t response[64];
        size_t size = sizeof(response);

        transmit();
        say(small, sizeof(small));
        assert_int_equal(receive(&size, response, -1), TSS2_TCTI_RC_MALFORMED_RESPONSE);
        assert_int_equal(receive(&size, response, -1), TSS2_TCTI_RC_BAD_SEQUENCE);
}

static void test_huge_response(void **state) {
        const uint8_t huge[] = { 0x80, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0 };
        size_t size = 0;

        transmit();
        say(huge, sizeof(huge));
        assert_int_equal(receive(&size, NULL, -1), TSS2_TCTI_RC_MALFORMED_RESPONSE);
}

static void test_largest_response(void **state) {
        uint8_t response[TPM_MESSAGE_MAX] = { 0x80, 1, 0, 0, TPM_MESSAGE_MAX >> 8, TPM_MESSAGE_MAX & 0xFF };
        uint8_t got[TPM_MESSAGE_MAX];
        size_t size = sizeof(got);

        response[TPM_MESSAGE_MAX - 1] = 0x77;
        transmit();
        say(response, sizeof(response));
        assert_int_equal(receive(&size, got, -1), TSS2_RC_SUCCESS);
        assert_memory_equal(got, response, sizeof(response));
}

static void test_cancel(void **state) {
        const uint8_t cancel[] = { 0x80, 1, 0, 0, 0, 10, 0x20, 0, 0x10, 0x01 };

        assert_int_equal(TSS2_TCTI_CANCEL(tcti)(NULL), TSS2_TCTI_RC_BAD_REFERENCE);
        assert_int_equal(Tss2_Tcti_Cancel(tcti), TSS2_TCTI_RC_BAD_SEQUENCE);
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        assert_int_equal(Tss2_Tcti_Cancel(tcti), TSS2_RC_SUCCESS);
        expect_from_client(cancel, sizeof(cancel));
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

static void test_set_locality(void **state) {
        const uint8_t command[] = { 0x80, 1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, 3 };
        const struct {
                uint8_t rc[4];
                TSS2_RC expected;
        } rows[] = {
                { { 0, 0, 0, 0 }, TSS2_RC_SUCCESS },
                { { 0, 0x0B, 9, 7 }, TSS2_TCTI_RC_NOT_PERMITTED },
                { { 0, 0x0B, 0, 2 }, TSS2_TCTI_RC_NOT_IMPLEMENTED },
                { { 0, 0, 1, 0x43 }, TSS2_TCTI_RC_NOT_IMPLEMENTED },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                uint8_t answer[10] = { 0x80, 1, 0, 0, 0, 10 };

                memcpy(answer + 6, rows[i].rc, 4);
                say(answer, sizeof(answer));
                assert_int_equal(Tss2_Tcti_SetLocality(tcti, 3), rows[i].expected);
                expect_from_client(command, sizeof(command));
        }
        transmit();
        assert_int_equal(Tss2_Tcti_SetLocality(tcti, 0), TSS2_TCTI_RC_BAD_SEQUENCE);
}

static void test_f22_poll_handles(void **state) {
        TSS2_TCTI_POLL_HANDLE handle = { .events = 0x55, .revents = 0x55 };
        size_t n = 7;

        assert_int_equal(TSS2_TCTI_GET_POLL_HANDLES(tcti)(tcti, &handle, NULL), TSS2_TCTI_RC_BAD_REFERENCE);
        assert_int_equal(Tss2_Tcti_GetPollHandles(tcti, NULL, &n), TSS2_RC_SUCCESS);
        assert_int_equal(n, 1);
        n = 0;
        assert_int_equal(Tss2_Tcti_GetPollHandles(tcti, &handle, &n), TSS2_TCTI_RC_INSUFFICIENT_BUFFER);
        n = 1;
        assert_int_equal(Tss2_Tcti_GetPollHandles(tcti, &handle, &n), TSS2_RC_SUCCESS);
        assert_int_equal(handle.events, POLLIN);
        assert_int_equal(handle.revents, 0);
        transmit();
        say(RESPONSE, 1);
        assert_int_equal(poll(&handle, 1, -1), 1);
}

/* Hello goes out in front of the first command, in one go, and its answer is taken from what comes, in whatever parts.
 */
static void test_hello(void **state) {
        uint8_t sent[sizeof(HELLO) + sizeof(COMMAND)], all[sizeof(GREETING) + sizeof(RESPONSE)], response[64];

        transmit();
        assert_int_equal(recv(daemon_fd, sent, sizeof(sent), MSG_DONTWAIT), sizeof(sent));
        assert_memory_equal(sent, HELLO, sizeof(HELLO));
        assert_memory_equal(sent + sizeof(HELLO), COMMAND, sizeof(COMMAND));
        memcpy(all, GREETING, sizeof(GREETING));
        memcpy(all + sizeof(GREETING), RESPONSE, sizeof(RESPONSE));
        for (size_t i = 0; i < sizeof(all); i++) {
                size_t size = sizeof(response);

                assert_int_equal(receive(&size, response, 0), TSS2_TCTI_RC_TRY_AGAIN);
                say(all + i, 1);
        }
        assert_whole_receive();
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

/* A daemon from before hello has the TPM answer it. */
static void test_hello_that_is_refused(void **state) {
        const uint8_t refusal[10] = { 0x80, 1, 0, 0, 0, 10, 0, 0, 0x01, 0x43 };

        transmit();
        say(refusal, sizeof(refusal));
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

static void test_malformed_greeting(void **state) {
        uint8_t greeting[14], response[64];
        size_t size = sizeof(response);

        memcpy(greeting, GREETING, sizeof(greeting));
        greeting[5] = 13;
        transmit();
        say(greeting, sizeof(greeting));
        assert_int_equal(receive(&size, response, TSS2_TCTI_TIMEOUT_BLOCK), TSS2_TCTI_RC_MALFORMED_RESPONSE);
}

/* Localities can be set before any command, and before hello. */
static void test_locality_before_hello(void **state) {
        const uint8_t refusal[10] = { 0x80, 1, 0, 0, 0, 10, 0, 0, 0x09, 0x07 };

        say(refusal, sizeof(refusal));
        assert_int_equal(Tss2_Tcti_SetLocality(tcti, 3), TSS2_TCTI_RC_NOT_PERMITTED);
        expect_from_client((const uint8_t[]){ 0x80, 1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, 3 }, 11);
        transmit();
        answer_first();
        assert_whole_receive();
}

static void test_after_finalize(void **state) {
        uint8_t response[64];
        size_t size = sizeof(response);

        Tss2_Tcti_Finalize(tcti);
        Tss2_Tcti_Finalize(tcti);
        Tss2_Tcti_Finalize(NULL);
        assert_int_equal(Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND), TSS2_TCTI_RC_BAD_SEQUENCE);
        assert_int_equal(receive(&size, response, 0), TSS2_TCTI_RC_BAD_SEQUENCE);
        assert_int_equal(Tss2_Tcti_Cancel(tcti), TSS2_TCTI_RC_BAD_SEQUENCE);
        assert_int_equal(Tss2_Tcti_SetLocality(tcti, 0), TSS2_TCTI_RC_BAD_SEQUENCE);
        assert_int_equal(recv(daemon_fd, response, 1, 0), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_init_sizes),
                cmocka_unit_test(test_init_refuses),
                TEST(test_header_of_the_context),
                TEST(test_transmit_refuses),
                TEST(test_receive_refuses),
                TEST(test_size_is_asked_first),
                TEST(test_byte_by_byte),
                TEST(test_no_time_at_all),
                TEST(test_size_is_asked_before_polling),
                TEST(test_blocking_receive_blocks),
                TEST(test_malformed_responses),
                TEST(test_huge_response),
                TEST(test_largest_response),
                TEST(test_cancel),
                TEST(test_set_locality),
                TEST(test_f22_poll_handles),
                TEST(test_after_finalize),
                cmocka_unit_test_setup_teardown(test_hello, setup_new, teardown),
                cmocka_unit_test_setup_teardown(test_hello_that_is_refused, setup_new, teardown),
                cmocka_unit_test_setup_teardown(test_malformed_greeting, setup_new, teardown),
                cmocka_unit_test_setup_teardown(test_locality_before_hello, setup_new, teardown),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
