/* SPDX-License-Identifier: BSD-2-Clause */

/* What the fake TPM can do and libtpms cannot; the rest is in test-fake-libtpms.c. */
#include "test/lib/fake-tpm.h"
#include "test/lib/tpm-commands.h"
#include "tpm/command-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static FakeTpm *fake;

static Message run(Message command) {
        Message response;

        response.n = fake_tpm_run(fake, command.bytes, command.n, response.bytes, sizeof(response.bytes));
        return response;
}

static uint32_t rc_of(Message command) {
        Message response = run(command);

        assert_true(response.n >= TPM_HEADER_SIZE);
        return message_rc(&response);
}

static TPM2_HANDLE handle_of(Message command) {
        Message response = run(command);

        assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
        return message_handle(&response);
}

static Message load_context(const Message *saved) {
        return cmd_context_load(saved->bytes + TPM_HEADER_SIZE, saved->n - TPM_HEADER_SIZE);
}

static Message flush(TPM2_HANDLE handle) {
        return cmd_with_handle(TPM2_CC_FlushContext, handle);
}

static Message save(TPM2_HANDLE handle) {
        return cmd_with_handle(TPM2_CC_ContextSave, handle);
}

/* Power on with a configuration of the test's own. */
static void start_with(const FakeTpmConfig *config) {
        fake_tpm_free(fake);
        fake = fake_tpm_new(config);
        assert_non_null(fake);
        assert_int_equal(rc_of(cmd_startup(TPM2_SU_CLEAR)), TPM2_RC_SUCCESS);
}

static int setup(void **state) {
        fake = NULL;
        start_with(NULL);
        return 0;
}

static int teardown(void **state) {
        fake = fake_tpm_free(fake);
        return 0;
}

static Message truncated(Message message, size_t n) {
        message.n -= n;
        tpm_put_u32(message.bytes + 2, message.n);
        return message;
}

static void test_gap_of_255(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        TPM2_HANDLE busy;
        unsigned n = 0;
        Message saved;

        config.gap = 255;
        config.active_sessions = 200;
        start_with(&config);
        run(save(handle_of(cmd_start_session(TPM2_SE_HMAC))));
        busy = handle_of(cmd_start_session(TPM2_SE_HMAC));
        for (saved = run(save(busy)); message_rc(&saved) == TPM2_RC_SUCCESS; saved = run(save(busy))) {
                assert_int_equal(handle_of(load_context(&saved)), busy);
                n++;
        }
        assert_int_equal(message_rc(&saved), TPM2_RC_CONTEXT_GAP);
        assert_int_equal(n, 255 - 4);
}

static void test_sizes(void **state) {
        for (unsigned n = 2; n <= 7; n++) {
                FakeTpmConfig config = FAKE_TPM_CONFIG;

                config.object_slots = config.session_slots = n;
                config.active_sessions = 8;
                start_with(&config);
                for (unsigned i = 0; i < n; i++) {
                        assert_int_equal(handle_of(cmd_create_primary(TPM2_RH_OWNER, 0)), 0x80000000 + i);
                        assert_int_equal(handle_of(cmd_start_session(TPM2_SE_HMAC)), 0x02000000 + i);
                }
                assert_int_equal(rc_of(cmd_create_primary(TPM2_RH_OWNER, 0)), TPM2_RC_OBJECT_MEMORY);
                assert_int_equal(rc_of(cmd_start_session(TPM2_SE_HMAC)), TPM2_RC_SESSION_MEMORY);
        }
}

/* Every command once, whatever the page is. */
static void test_pages(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        static TpmCommandTable table;
        Message page;
        uint32_t next = 0;
        unsigned n_pages = 0;

        config.page = 20;
        config.vendor_commands = 50;
        start_with(&config);
        do {
                TpmReader reader;

                page = run(cmd_get_capability(TPM2_CAP_COMMANDS, next, 1000));
                reader = TPM_READER(page.bytes, page.n);
                tpm_read_bytes(&reader, TPM_HEADER_SIZE + 5);
                next = tpm_command_table_add(&table, &reader, tpm_read_u32(&reader));
                assert_true(tpm_reader_done(&reader));
                n_pages++;
        } while (page.bytes[TPM_HEADER_SIZE]);
        assert_int_equal(n_pages, (table.n_commands + 19) / 20);
        assert_non_null(tpm_command_table_find(&table, FAKE_CC_VENDOR_USE));
        assert_non_null(tpm_command_table_find(&table, FAKE_CC_VENDOR_MORE + 47));
        assert_int_equal(rc_of(cmd_simple(FAKE_CC_VENDOR_MORE + 47)), TPM2_RC_SUCCESS);
}

static void test_vendor_commands_tell_objects_apart(void **state) {
        TPM2_HANDLE a = handle_of(cmd_simple(FAKE_CC_VENDOR_MAKE));
        TPM2_HANDLE b = handle_of(cmd_simple(FAKE_CC_VENDOR_MAKE));
        Message of_a = run(cmd_with_handle(FAKE_CC_VENDOR_USE, a));
        Message of_b = run(cmd_with_handle(FAKE_CC_VENDOR_USE, b));
        Message saved = run(save(a)), again;

        assert_memory_not_equal(of_a.bytes, of_b.bytes, of_a.n);
        assert_int_equal(rc_of(flush(a)), TPM2_RC_SUCCESS);
        again = run(cmd_with_handle(FAKE_CC_VENDOR_USE, handle_of(load_context(&saved))));
        assert_memory_equal(of_a.bytes, again.bytes, of_a.n);
        assert_int_equal(rc_of(cmd_with_handle(FAKE_CC_VENDOR_USE, 0x80000002)), TPM2_RC_REFERENCE_H0);
}

static void test_continue_session_is_honoured(void **state) {
        TestAuth auth = { handle_of(cmd_start_session(TPM2_SE_HMAC)),
                          TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT };

        for (unsigned i = 0; i < 2; i++) {
                Message response = run(cmd_get_random_auth(4, &auth, 1));

                assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
                assert_int_equal(response.bytes[response.n - 3], auth.attributes);
                auth.attributes = TPMA_SESSION_AUDIT;
                assert_int_equal(rc_of(truncated(cmd_get_random_auth(4, &auth, 1), 1)), i ? 0x918 : 0x1DA);
        }
}

static void test_faults(void **state) {
        Message response;

        fake_tpm_inject(fake, &(FakeFault){ .code = TPM2_CC_GetRandom, .rc = TPM2_RC_RETRY, .after = 1, .count = 2 });
        assert_int_equal(rc_of(cmd_get_random(1)), TPM2_RC_SUCCESS);
        assert_int_equal(rc_of(cmd_get_random(1)), TPM2_RC_RETRY);
        handle_of(cmd_hash_start());
        assert_int_equal(rc_of(cmd_get_random(1)), TPM2_RC_RETRY);
        assert_int_equal(rc_of(cmd_get_random(1)), TPM2_RC_SUCCESS);

        fake_tpm_inject(fake, &(FakeFault){ .kind = FAKE_LOSE_BEFORE });
        fake_tpm_inject(fake, &(FakeFault){ .kind = FAKE_LOSE_AFTER });
        assert_int_equal(run(cmd_hash_start()).n, 0);
        assert_int_equal(run(cmd_hash_start()).n, 0);
        assert_int_equal(handle_of(cmd_hash_start()), 0x80000002);

        for (FakeFaultKind kind = FAKE_BAD_SIZE; kind <= FAKE_LATE; kind++) {
                fake_tpm_inject(fake, &(FakeFault){ .kind = kind, .ms = 7 });
                response = run(cmd_get_random(8));
                assert_int_equal(response.n, 20 - (kind == FAKE_TRUNCATED) + (kind == FAKE_TRAILING));
                assert_int_equal(response.bytes[5], kind == FAKE_BAD_SIZE ? 21 : response.n);
                assert_int_equal(fake_tpm_delay(fake), kind == FAKE_LATE ? 7000 : 0);
        }
        assert_int_equal(fake_tpm_count(fake, TPM2_CC_HashSequenceStart), 4);

        fake_tpm_fail(fake);
        assert_int_equal(rc_of(cmd_get_random(1)), TPM2_RC_FAILURE);
        assert_int_equal(rc_of(cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_FIXED, 1)), TPM2_RC_SUCCESS);
        fake_tpm_heal(fake);
        fake_tpm_inject(fake, &(FakeFault){ .rc = TPM2_RC_YIELDED, .count = FAKE_ALWAYS });
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(rc_of(cmd_get_random(1)), TPM2_RC_YIELDED);
}

static void test_snapshot(void **state) {
        TPM2_HANDLE session = handle_of(cmd_start_session(TPM2_SE_HMAC));
        TPM2_HANDLE object = handle_of(cmd_hash_start());
        uint8_t *snapshot = malloc(fake_tpm_snapshot_size(fake));

        assert_non_null(snapshot);
        fake_tpm_snapshot(fake, snapshot);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(rc_of(flush(object)), TPM2_RC_SUCCESS);
                assert_int_equal(rc_of(flush(session)), TPM2_RC_SUCCESS);
                assert_int_equal(handle_of(cmd_hash_start()), object);
                assert_int_equal(handle_of(cmd_hash_start()), object + 1);
                fake_tpm_restore(fake, snapshot);
        }
        free(snapshot);
}

static void test_rounds_leave_nothing(void **state) {
        for (unsigned i = 0; i < 1 << 20; i++) {
                assert_int_equal(handle_of(cmd_hash_start()), 0x80000000);
                assert_int_equal(rc_of(flush(0x80000000)), TPM2_RC_SUCCESS);
        }
}

#define FAKE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                FAKE_TEST(test_gap_of_255),
                FAKE_TEST(test_sizes),
                FAKE_TEST(test_pages),
                FAKE_TEST(test_vendor_commands_tell_objects_apart),
                FAKE_TEST(test_continue_session_is_honoured),
                FAKE_TEST(test_faults),
                FAKE_TEST(test_snapshot),
                FAKE_TEST(test_rounds_leave_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
