/* SPDX-License-Identifier: BSD-2-Clause */

/* The fake TPM and libtpms are told the same: where both can do a thing, they answer the same. */
#include "test/lib/fake-tpm.h"
#include "test/lib/inprocess.h"
#include "test/lib/tpm-commands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static FakeTpm *fake;
static TPM2_HANDLE last; /* handle that both returned last */

static Message run(Message command) {
        Message response;

        response.n = fake_tpm_run(fake, command.bytes, command.n, response.bytes, sizeof(response.bytes));
        return response;
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

/* A command for each, since contexts differ. Return: the two responses. */
static void both_of(Message to_fake, Message to_real, Message ret_responses[static 2]) {
        Message *responses = ret_responses;

        responses[0] = run(to_fake);
        responses[1].n = inprocess_run(to_real.bytes, to_real.n, responses[1].bytes, sizeof(responses[1].bytes));
        if (message_rc(&responses[0]) != message_rc(&responses[1]))
                print_error("fake 0x%x, libtpms 0x%x\n", message_rc(&responses[0]), message_rc(&responses[1]));
        assert_int_equal(message_rc(&responses[0]), message_rc(&responses[1]));
}

/* The same code from both. */
static uint32_t both(Message command) {
        Message responses[2];

        both_of(command, command, responses);
        return message_rc(&responses[0]);
}

static int setup(void **state) {
        fake = fake_tpm_new(NULL);
        inprocess_start();
        return fake && both(cmd_startup(TPM2_SU_CLEAR)) == TPM2_RC_SUCCESS ? 0 : -1;
}

static int teardown(void **state) {
        inprocess_stop();
        fake = fake_tpm_free(fake);
        return 0;
}

/* The same handle from both. */
static void both_make(Message command) {
        Message responses[2];

        both_of(command, command, responses);
        assert_int_equal(message_rc(&responses[0]), TPM2_RC_SUCCESS);
        last = message_handle(&responses[0]);
        assert_int_equal(last, message_handle(&responses[1]));
}

/* The same list, byte by byte. */
static void both_list(TPM2_HANDLE from, uint32_t count) {
        Message responses[2];
        Message command = cmd_get_capability(TPM2_CAP_HANDLES, from, count);

        both_of(command, command, responses);
        assert_int_equal(responses[0].n, responses[1].n);
        assert_memory_equal(responses[0].bytes, responses[1].bytes, responses[0].n);
}

/* Contexts of both; open fields are the same. */
static void both_save(TPM2_HANDLE handle, Message ret_contexts[static 2]) {
        both_of(save(handle), save(handle), ret_contexts);
        assert_int_equal(message_rc(&ret_contexts[0]), TPM2_RC_SUCCESS);
        assert_memory_equal(ret_contexts[0].bytes + TPM_HEADER_SIZE, ret_contexts[1].bytes + TPM_HEADER_SIZE, 16);
}

static uint32_t both_load(const Message contexts[static 2]) {
        Message responses[2];

        both_of(load_context(&contexts[0]), load_context(&contexts[1]), responses);
        if (message_rc(&responses[0]) == TPM2_RC_SUCCESS) {
                last = message_handle(&responses[0]);
                assert_int_equal(last, message_handle(&responses[1]));
        }
        return message_rc(&responses[0]);
}

static Message truncated(Message message, size_t n) {
        message.n -= n;
        tpm_put_u32(message.bytes + 2, message.n);
        return message;
}

static Message trailing(Message message) {
        message.bytes[message.n++] = 0;
        tpm_put_u32(message.bytes + 2, message.n);
        return message;
}

static Message with_tag(Message message, uint16_t tag) {
        message.bytes[0] = tag >> 8;
        message.bytes[1] = (uint8_t)tag;
        return message;
}

/* An authorization in front of the parameters; there are no handles. */
static Message with_auth(Message message) {
        Message m = cmd_get_random_auth(8, &(TestAuth){ TPM2_RS_PW, 0 }, 1);

        memcpy(m.bytes + 6, message.bytes + 6, 4);
        memcpy(m.bytes + m.n - 2, message.bytes + TPM_HEADER_SIZE, message.n - TPM_HEADER_SIZE);
        m.n += message.n - TPM_HEADER_SIZE - 2;
        tpm_put_u32(m.bytes + 2, m.n);
        return m;
}

static void test_both_refuse_what_is_malformed(void **state) {
        const TestAuth AUTHS[] = { { TPM2_RS_PW, 0 }, { 0x02000007, 1 } };
        Message bad = cmd_get_random(8);

        both(cmd_simple(0x1FE));
        both(cmd_simple(0x20000001 + 0x1000));
        both(with_tag(cmd_get_random(8), 0x1234));
        bad.bytes[5]++;
        both(bad);
        both(truncated(cmd_get_random(8), 2));
        both(truncated(cmd_get_random(8), 1));
        both(trailing(cmd_get_random(8)));
        both(truncated(cmd_get_capability(1, 0x80000000, 1), 1));
        both(truncated(cmd_get_capability(1, 0x80000000, 1), 5));
        both(trailing(cmd_get_capability(1, 0x80000000, 1)));
        both(cmd_get_capability(0x99, 0, 1));
        both(cmd_get_capability(TPM2_CAP_HANDLES, 0x05000000, 1));
        both(with_tag(flush(0x80000000), TPM2_ST_SESSIONS));
        assert_int_equal(both(with_auth(flush(0x80000000))), TPM2_RC_AUTH_CONTEXT);
        both(with_tag(cmd_get_random(8), TPM2_ST_SESSIONS));
        both(truncated(save(0x80000000), 3));
        both(truncated(flush(0x80000000), 3));
        both(cmd_startup(TPM2_SU_CLEAR));
        both(cmd_get_random_auth(8, AUTHS + 1, 1));
        both(with_tag(cmd_with_handle(TPM2_CC_Clear, TPM2_RH_LOCKOUT), TPM2_ST_NO_SESSIONS));
        both(trailing(flush(0x80000000)));
}

static void test_both_give_slots_lowest_first(void **state) {
        for (unsigned i = 0; i < 3; i++)
                both_make(cmd_create_primary(TPM2_RH_OWNER, i));
        assert_int_equal(last, 0x80000002);
        assert_int_equal(both(cmd_create_primary(TPM2_RH_OWNER, 4)), TPM2_RC_OBJECT_MEMORY);
        assert_int_equal(both(cmd_hash_start()), TPM2_RC_OBJECT_MEMORY);
        both_list(0x80000000, 254);
        both_list(0x80000001, 1);
        both_list(0x80000001, 0);
        assert_int_equal(both(flush(0x80000001)), TPM2_RC_SUCCESS);
        assert_int_equal(both(flush(0x80000001)), 0x1CB);
        both(flush(0x80000007));
        both(flush(0x80000003));
        both(flush(0x81000001));
        both_list(0x80000000, 254);
        assert_int_equal(both(cmd_with_handle(TPM2_CC_ReadPublic, 0x80000001)), TPM2_RC_REFERENCE_H0);
        both(cmd_with_handle(TPM2_CC_ReadPublic, 0x80000003));
        both(cmd_with_handle(TPM2_CC_ReadPublic, 0x81000003));
        both(cmd_with_handle(TPM2_CC_ReadPublic, 0x02000003));
        assert_int_equal(both(save(0x80000001)), TPM2_RC_REFERENCE_H0);
        both(save(0x80000003));
        both_make(cmd_create_primary(TPM2_RH_NULL, 1));
        assert_int_equal(last, 0x80000001);
}

static Message cmd_evict(TPM2_HANDLE object, TPM2_HANDLE persistent) {
        Message m = cmd_create_primary(TPM2_RH_OWNER, 0);
        TpmWriter w = TPM_WRITER(m.bytes, sizeof(m.bytes));

        tpm_write_begin(&w, TPM2_ST_SESSIONS, TPM2_CC_EvictControl);
        tpm_write_u32(&w, TPM2_RH_OWNER);
        tpm_write_u32(&w, object);
        tpm_write_u32(&w, 9);
        tpm_write_u32(&w, TPM2_RS_PW);
        tpm_write_bytes(&w, (uint8_t[5]){ 0 }, 5);
        tpm_write_u32(&w, persistent);
        m.n = tpm_write_end(&w);
        return m;
}

static void test_both_load_persistent_objects_into_slots(void **state) {
        Message responses[2];
        const TPM2_HANDLE PERSISTENT = 0x81000010;

        both_make(cmd_create_primary_parent(TPM2_RH_OWNER));
        both(cmd_evict(last, PERSISTENT));
        both(cmd_evict(last, PERSISTENT));
        both_list(0x81000000, 254);
        both_of(cmd_create(PERSISTENT), cmd_create(PERSISTENT), responses);
        both(flush(last));
        both_of(cmd_load(PERSISTENT, &responses[0]), cmd_load(PERSISTENT, &responses[1]), responses);
        assert_int_equal(message_handle(&responses[0]), message_handle(&responses[1]));
        for (unsigned i = 0; i < 2; i++) {
                both_make(cmd_create_primary(TPM2_RH_OWNER, i));
                both(cmd_with_handle(TPM2_CC_ReadPublic, PERSISTENT));
                both(cmd_create(PERSISTENT));
        }
        assert_int_equal(both(cmd_with_handle(TPM2_CC_ReadPublic, PERSISTENT)), TPM2_RC_OBJECT_MEMORY);
        both_list(0x80000000, 254);
        both(flush(0x80000000));
        both(cmd_evict(PERSISTENT, PERSISTENT));
        both(cmd_with_handle(TPM2_CC_ReadPublic, PERSISTENT));
}

static void test_both_keep_sequences(void **state) {
        Message contexts[2];

        both_make(cmd_hash_start());
        both(cmd_sequence_update(last, "abc"));
        both_save(last, contexts);
        assert_int_equal(both(cmd_sequence_complete(last, 0x12345678)), 0x2C4);
        both(cmd_with_handle(TPM2_CC_ReadPublic, last));
        both(cmd_sequence_complete(last, TPM2_RH_NULL));
        assert_int_equal(both(cmd_sequence_update(last, "abc")), TPM2_RC_REFERENCE_H0);
        assert_int_equal(both_load(contexts), TPM2_RC_SUCCESS);
        both(cmd_sequence_complete(last, TPM2_RH_NULL));
        both_make(cmd_create_primary(TPM2_RH_OWNER, 1));
        both(cmd_sequence_update(last, "abc"));
        both(cmd_sequence_complete(last, TPM2_RH_NULL));
        both(cmd_hmac(last, "text"));
        both(with_tag(cmd_with_handle(TPM2_CC_HMAC, last), TPM2_ST_NO_SESSIONS));
}

static void test_both_number_sessions(void **state) {
        const TestAuth NOT_LOADED = { 0x02000000, TPMA_SESSION_CONTINUESESSION };
        Message contexts[2], others[2];

        both_make(cmd_start_session(TPM2_SE_HMAC));
        both_make(cmd_start_session(TPM2_SE_POLICY));
        assert_int_equal(last, 0x03000001);
        both(cmd_policy_pcr(0x03000001));
        both(cmd_policy_pcr(0x02000000));
        both(cmd_policy_pcr(0x03000000));
        both(save(0x02000001));
        for (unsigned i = 0; i < 6; i++) {
                const TPM2_HANDLE HANDLES[] = {
                        0x02000001, 0x03000000, 0x02000002, 0x02000099, TPM2_RS_PW, 0x02000000
                };
                const TestAuth AUTH = { HANDLES[i], TPMA_SESSION_CONTINUESESSION };

                both(cmd_get_random_auth(8, &AUTH, 1));
        }
        both(cmd_with_handle(TPM2_CC_PolicyGetDigest, 0x03000001));
        both(cmd_start_session(2));
        both(truncated(cmd_start_session(TPM2_SE_HMAC), 3));
        both_make(cmd_start_session(TPM2_SE_TRIAL));
        assert_int_equal(both(cmd_start_session(TPM2_SE_HMAC)), TPM2_RC_SESSION_MEMORY);
        both_list(0x02000000, 254);
        both_list(0x02000001, 1);
        both_list(0x03000000, 254);
        both_save(0x02000000, contexts);
        both_save(0x03000001, others);
        assert_int_equal(both(save(0x02000000)), TPM2_RC_REFERENCE_H0);
        assert_int_equal(both(cmd_policy_pcr(0x03000001)), TPM2_RC_REFERENCE_H0);
        assert_int_equal(both(cmd_get_random_auth(8, &NOT_LOADED, 1)), TPM2_RC_REFERENCE_S0);
        both_list(0x02000000, 254);
        both_list(0x03000000, 254);
        both_list(0x03000001, 1);
        assert_int_equal(both_load(contexts), TPM2_RC_SUCCESS);
        assert_int_equal(both_load(contexts), 0x1CB);
        assert_int_equal(both(flush(0x02000001)), TPM2_RC_SUCCESS); /* by an alias, saved */
        assert_int_equal(both_load(others), 0x1CB);
        assert_int_equal(both(flush(0x03000000)), TPM2_RC_SUCCESS); /* ... loaded */
        assert_int_equal(both(flush(0x03000000)), 0x1CB);
        assert_int_equal(both(flush(0x03000040)), 0x1C4);
        both_make(cmd_start_session(TPM2_SE_POLICY));
        assert_int_equal(last, 0x03000000);
}

static void test_both_have_64_sessions(void **state) {
        Message contexts[2];

        for (unsigned i = 0; i < 64; i++) {
                both_make(cmd_start_session(i % 2 ? TPM2_SE_HMAC : TPM2_SE_POLICY));
                if (i < 63)
                        both_save(last, contexts);
        }
        assert_int_equal(both(cmd_start_session(TPM2_SE_HMAC)), TPM2_RC_SESSION_HANDLES);
        both_list(0x03000000, 254);
        both_list(0x03000010, 10);
        assert_int_equal(both(flush(0x02000011)), TPM2_RC_SUCCESS);
        both_make(cmd_start_session(TPM2_SE_HMAC));
        assert_int_equal(last, 0x02000011);
        both_list(TPM2_PCR_FIRST, 254);
        both_list(0x01000000, 254);
}

static void test_both_refuse_contexts(void **state) {
        Message object[2], session[2], bad[2];

        both_make(cmd_create_primary(TPM2_RH_OWNER, 1));
        both_save(last, object);
        both_make(cmd_start_session(TPM2_SE_HMAC));
        both_save(last, session);
        for (unsigned i = 0; i < 2; i++) {
                Message *original = i ? session : object;

                for (unsigned at = 0; at < 17; at++) { /* 16: the last byte */
                        for (unsigned k = 0; k < 2; k++) {
                                bad[k] = original[k];
                                bad[k].bytes[at < 16 ? TPM_HEADER_SIZE + at : bad[k].n - 1] ^= 0x08;
                        }
                        both_load(bad);
                }
                bad[0] = truncated(original[0], 1);
                bad[1] = truncated(original[1], 1);
                assert_int_equal(both_load(bad), 0x1DA);
                bad[0] = trailing(original[0]);
                bad[1] = trailing(original[1]);
                assert_int_equal(both_load(bad), 0x95);
        }
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(both_load(object), TPM2_RC_SUCCESS);
        assert_int_equal(both_load(object), TPM2_RC_OBJECT_MEMORY);
        fake_tpm_reset(fake);
        inprocess_reset();
        assert_int_equal(both(cmd_get_random(8)), TPM2_RC_INITIALIZE);
        both(cmd_startup(TPM2_SU_STATE));
        assert_int_equal(both(cmd_startup(TPM2_SU_CLEAR)), TPM2_RC_SUCCESS);
        assert_int_equal(both_load(object), 0x1DF);
        both_load(session);
        both_list(0x80000000, 254);
        both_list(0x03000000, 254);
}

static Message cmd_shutdown(TPM2_SU type) {
        Message m = cmd_startup(type);

        tpm_put_u32(m.bytes + 6, TPM2_CC_Shutdown);
        return m;
}

static void both_power(TPM2_SU shutdown, TPM2_SU startup) {
        assert_int_equal(both(cmd_shutdown(shutdown)), TPM2_RC_SUCCESS);
        fake_tpm_reset(fake);
        inprocess_reset();
        assert_int_equal(both(cmd_startup(startup)), TPM2_RC_SUCCESS);
}

static void test_both_resume_and_restart(void **state) {
        Message object[2], session[2], loaded[2];

        both_make(cmd_create_primary(TPM2_RH_OWNER, 1));
        both_save(last, object);
        both_make(cmd_start_session(TPM2_SE_POLICY));
        both_save(last, session);
        both_make(cmd_start_session(TPM2_SE_HMAC));
        both_power(TPM2_SU_STATE, TPM2_SU_STATE);
        both_list(0x02000000, 254);
        both_list(0x03000000, 254);
        assert_int_equal(both_load(object), TPM2_RC_SUCCESS);
        assert_int_equal(both_load(session), TPM2_RC_SUCCESS);
        both_save(last, loaded);
        both_power(TPM2_SU_STATE, TPM2_SU_CLEAR);
        assert_int_equal(both_load(object), TPM2_RC_SUCCESS);
        assert_int_equal(both_load(loaded), TPM2_RC_SUCCESS);
        assert_int_equal(both(cmd_shutdown(TPM2_SU_STATE)), TPM2_RC_SUCCESS);
        both_save(last, loaded); /* undoes it */
        fake_tpm_reset(fake);
        inprocess_reset();
        assert_int_equal(both(cmd_startup(TPM2_SU_STATE)), 0x1C4);
}

static void test_both_clear_and_disable(void **state) {
        Message owner[2], null[2];

        both_make(cmd_create_primary(TPM2_RH_NULL, 1));
        both_save(last, null);
        both_make(cmd_create_primary(TPM2_RH_OWNER, 2));
        both_save(last, owner);
        both(cmd_hierarchy_control(TPM2_RH_NULL, 0));
        both(cmd_hierarchy_control(TPM2_RH_OWNER, 2));
        assert_int_equal(both(cmd_hierarchy_control(TPM2_RH_OWNER, 0)), TPM2_RC_SUCCESS);
        both_list(0x80000000, 254);
        both(cmd_create_primary(TPM2_RH_OWNER, 3));
        assert_int_equal(both_load(owner), 0x1C5);
        assert_int_equal(both(cmd_hierarchy_control(TPM2_RH_OWNER, 1)), TPM2_RC_SUCCESS);
        assert_int_equal(both_load(owner), TPM2_RC_SUCCESS);
        assert_int_equal(both(cmd_clear()), TPM2_RC_SUCCESS);
        both_list(0x80000000, 254);
        assert_int_equal(both_load(owner), 0x1DF);
        assert_int_equal(both_load(null), TPM2_RC_SUCCESS);
}

/* The life-cycle rules of sessions, to the last context before the gap and beyond it. */
static void test_both_meet_the_gap(void **state) {
        Message oldest[2], busy[2], idle[2];
        unsigned n = 0;

        both_make(cmd_start_session(TPM2_SE_HMAC));
        both_save(last, oldest);
        both_make(cmd_start_session(TPM2_SE_HMAC));
        both_save(last, idle);
        both_make(cmd_start_session(TPM2_SE_POLICY));
        for (;; n++) {
                both_of(save(0x03000002), save(0x03000002), busy);
                if (message_rc(&busy[0]) != TPM2_RC_SUCCESS)
                        break;
                assert_memory_equal(busy[0].bytes + TPM_HEADER_SIZE, busy[1].bytes + TPM_HEADER_SIZE, 16);
                assert_int_equal(both_load(busy), TPM2_RC_SUCCESS);
        }
        assert_int_equal(message_rc(&busy[0]), TPM2_RC_CONTEXT_GAP);
        assert_int_equal(n, 0xFFFF - 4 - 1);        /* four values are skipped, and one was idle's */
        both_make(cmd_start_session(TPM2_SE_HMAC)); /* leaves the last slot */
        assert_int_equal(both(cmd_start_session(TPM2_SE_HMAC)), TPM2_RC_CONTEXT_GAP);
        assert_int_equal(both_load(idle), TPM2_RC_CONTEXT_GAP);
        assert_int_equal(both_load(oldest), TPM2_RC_SUCCESS);
        /* the counter stands at idle's low bits after one more save */
        both_save(last, oldest);
        assert_int_equal(both(save(0x03000002)), TPM2_RC_CONTEXT_GAP);
        assert_int_equal(both_load(oldest), TPM2_RC_CONTEXT_GAP);
        assert_int_equal(both_load(idle), TPM2_RC_SUCCESS);
        both_save(last, idle);
        both_save(0x03000002, busy);
}

#define FAKE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                FAKE_TEST(test_both_refuse_what_is_malformed),
                FAKE_TEST(test_both_give_slots_lowest_first),
                FAKE_TEST(test_both_load_persistent_objects_into_slots),
                FAKE_TEST(test_both_keep_sequences),
                FAKE_TEST(test_both_number_sessions),
                FAKE_TEST(test_both_have_64_sessions),
                FAKE_TEST(test_both_refuse_contexts),
                FAKE_TEST(test_both_resume_and_restart),
                FAKE_TEST(test_both_clear_and_disable),
                FAKE_TEST(test_both_meet_the_gap),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
