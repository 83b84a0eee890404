/* SPDX-License-Identifier: BSD-2-Clause */

/* What waiting commands will need, and what stays for them; see test-rm.h. */
#include "resmgr/forecast.h"
#include "resmgr/test-rm.h"

static TPM2_HANDLE new_key(unsigned client) {
        return handle_of(client, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)client));
}

static RmNeed need(unsigned client, Message command) {
        return rm_need(rm, spaces[client], command.bytes, command.n);
}

static void assert_need(unsigned client, Message command, unsigned loads, unsigned flushes, unsigned saves) {
        RmNeed is = need(client, command);

        assert_int_equal(is.n_loads, loads);
        assert_int_equal(is.n_flushes, flushes);
        assert_int_equal(is.n_saves, saves);
}

static bool is_resident(unsigned client, TPM2_HANDLE key) {
        return need(client, cmd_hmac(key, "x")).n_loads == 0;
}

/* Four keys, and room for three. */
static void test_objects(void **state) {
        TPM2_HANDLE keys[4];

        for (unsigned i = 0; i < 4; i++)
                keys[i] = new_key(i);
        assert_need(3, cmd_hmac(keys[3], "x"), 0, 0, 0);
        for (unsigned i = 0, n_absent = 0; i < 4; i++) {
                if (is_resident(i, keys[i]))
                        continue;
                assert_int_equal(++n_absent, 1);
                assert_need(i, cmd_hmac(keys[i], "x"), 1, 1, 0);
                assert_need(i, cmd_with_handle(TPM2_CC_ContextSave, keys[i]), 0, 0, 0);
                assert_need(i, cmd_with_handle(TPM2_CC_FlushContext, keys[i]), 0, 0, 0);
        }
        assert_need(0, cmd_create_primary(TPM2_RH_OWNER, 9), 0, 1, 0);
        assert_true(need(0, cmd_create_primary(TPM2_RH_OWNER, 9)).takes_long);
        assert_false(need(0, cmd_hmac(keys[0], "x")).takes_long);
}

static void test_sessions(void **state) {
        TPM2_HANDLE sessions[4];
        unsigned n_absent = 0;

        for (unsigned i = 0; i < 4; i++)
                sessions[i] = handle_of(i, cmd_start_session(TPM2_SE_POLICY));
        for (unsigned i = 0; i < 4; i++) {
                Message command = cmd_with_handle(TPM2_CC_PolicyGetDigest, sessions[i]);

                if (need(i, command).n_loads == 0)
                        continue;
                n_absent++;
                assert_need(i, command, 1, 0, 1);
        }
        assert_int_equal(n_absent, 1);
        assert_need(0, cmd_start_session(TPM2_SE_POLICY), 0, 0, 1);
}

/* What is another's, or no command at all, needs nothing: it is refused. */
static void test_refused(void **state) {
        TPM2_HANDLE key = new_key(0);
        Message command = cmd_hmac(key, "x");

        assert_need(1, command, 0, 0, 0);
        command.n = TPM_HEADER_SIZE + 2;
        assert_need(0, command, 0, 0, 0);
        assert_need(0, cmd_simple(0x12345678), 0, 0, 0);
}

static void test_resident_spaces(void **state) {
        uint32_t found[8];

        assert_int_equal(rm_resident_spaces(rm, found, 8), 0);
        new_key(2);
        new_key(2);
        handle_of(5, cmd_start_session(TPM2_SE_POLICY));
        assert_int_equal(rm_resident_spaces(rm, found, 8), 2);
        assert_true((found[0] == spaces[2] && found[1] == spaces[5]) ||
                    (found[0] == spaces[5] && found[1] == spaces[2]));
        assert_int_equal(rm_resident_spaces(rm, found, 1), 1);
}

/* Who is said to come last goes, whoever it is; and that is said for one command alone. */
static void test_expected(void **state) {
        TPM2_HANDLE keys[4];

        for (unsigned i = 0; i < 4; i++)
                keys[i] = new_key(i);
        for (unsigned last = 1; last < 4; last++) {
                Message command = cmd_hmac(keys[0], "x");

                for (unsigned i = 1; i < 4; i++)
                        succeed(i, cmd_hmac(keys[i], "x"));
                assert_false(is_resident(0, keys[0]));
                for (unsigned i = 1; i < 4; i++) {
                        Message theirs = cmd_hmac(keys[i], "x");

                        rm_expect(rm, spaces[i], i % 2 ? theirs.bytes : NULL, theirs.n, i == last ? 50 : 2);
                }
                succeed(0, command);
                for (unsigned i = 1; i < 4; i++)
                        assert_int_equal(is_resident(i, keys[i]), i != last);
                /* Client 0 is not told about, and is the one that leaves for the next. */
                rm_expect(rm, spaces[0], NULL, 0, 1000);
                succeed(last, cmd_hmac(keys[last], "x"));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_objects),         RM_TEST(test_sessions), RM_TEST(test_refused),
                RM_TEST(test_resident_spaces), RM_TEST(test_expected),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
