/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A TPM that refuses, counts or lists as it likes, that was reset behind us, or whose state was put back: what one
 * moment, or one client, may cost the others. It is the fake one, see fake-tpm.h.
 */
#include "resmgr/test-edges.h"
#include "test/lib/fake-tpm.h"

static FakeTpm *tpm;

static size_t run_fake(const uint8_t *command, size_t n_command, uint8_t *response, size_t size) {
        return fake_tpm_run(tpm, command, n_command, response, size);
}

static void begin(const FakeTpmConfig *config) {
        tpm = fake_tpm_new(config);
        assert_non_null(tpm);
        rm_test_tpm = run_fake;
        direct(cmd_startup(TPM2_SU_CLEAR));
        assert_int_equal(rm_test_setup_with(&LIMITS), 0);
        check_claims = false;
}

static int end(void **state) {
        intercept = NULL;
        fake_tpm_heal(tpm);
        rm_retry(rm);
        rm_test_close();
        tpm = fake_tpm_free(tpm);
        return 0;
}

static void refuse_flushes(void) {
        const FakeFault refusal = { .code = TPM2_CC_FlushContext, .rc = TPM2_RC_NV_RATE, .count = FAKE_ALWAYS };

        assert_true(fake_tpm_inject(tpm, &refusal));
}

static unsigned n_in_state(RmState state) {
        const RmReport now = report();

        return now.n_sessions[state];
}

static void leave(unsigned client) {
        rm_space_close(rm, spaces[client]);
        assert_int_equal(rm_space_open(rm, 1000 + client, &spaces[client]), TSS2_RC_SUCCESS);
}

/* Somebody needs a handle of a session, and the TPM flushes none for the moment. */
static void test_refused_flush_gives_up_one_file(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        config.active_sessions = 24;
        begin(&config);
        for (unsigned client = 1; client < 5; client++) {
                for (unsigned i = 0; i < 4; i++)
                        save(client, new_session(client));
                leave(client);
        }
        rm_set_time(rm, 60 * 1000 * 1000);
        for (unsigned i = n_sessions(); i < 24; i++)
                new_session(5 + i % 2);
        assert_int_equal(n_in_state(RM_ABANDONED), 16);
        refuse_flushes();
        assert_int_equal(rc_of(0, cmd_start_session(TPM2_SE_POLICY)), TPM2_RC_SESSION_HANDLES);
        assert_in_range(n_in_state(RM_ABANDONED), 15, 16);
        fake_tpm_heal(tpm);
        new_session(0);
        assert_int_equal(n_in_state(RM_ABANDONED), 15);
}

/* The gap is full, and the oldest saved session is one that is to be flushed, and cannot be. */
static void test_gap_beside_what_cannot_be_flushed(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        TPM2_HANDLE sessions[5];
        unsigned n_most = 0;

        config.gap = 255;
        begin(&config);
        new_session(0);
        for (unsigned i = 0; i < 5; i++)
                sessions[i] = new_session(1);
        for (unsigned i = 0; i < 10; i++)
                use(1, sessions[i % 5]);
        refuse_flushes();
        leave(0);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(n_in_state(RM_DOOMED), 1);
        for (unsigned i = 0; i < 2000; i++) {
                n_sent = 0;
                rc_of_use(1, sessions[i % 5]);
                if (n_sent > n_most)
                        n_most = n_sent;
        }
        assert_in_range(n_most, 3, 20);
}

/* It is in nobody's way, but in its slot. */
static void test_stranger_that_cannot_be_flushed(void **state) {
        begin(NULL);
        direct(cmd_start_session(TPM2_SE_HMAC));
        doubt_tables();
        refuse_flushes();
        for (unsigned i = 0; i < 20; i++)
                succeed(0, cmd_get_random(4));
        fake_tpm_heal(tpm);
        rm_retry(rm);
        chores(RM_CHORE_DUE);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
}

/* Contexts of sessions all have the number 1; the TPM itself gets the right ones. */
static bool number_all_alike(const Message *command, Message *ret_response) {
        static uint8_t numbers[64][8];
        TpmReader reader = TPM_READER(command->bytes, command->n);
        Message sent = *command;
        TPM2_HANDLE handle;

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + sizeof(numbers[0]));
        handle = tpm_read_u32(&reader);
        if (message_rc(command) == TPM2_CC_ContextLoad && tpm_handle_is_session(handle))
                memcpy(sent.bytes + TPM_HEADER_SIZE, numbers[handle % 64], sizeof(numbers[0]));
        *ret_response = direct(sent);
        handle = message_handle(command);
        if (message_rc(command) != TPM2_CC_ContextSave || message_rc(ret_response) != TPM2_RC_SUCCESS ||
            !tpm_handle_is_session(handle))
                return true;
        memcpy(numbers[handle % 64], ret_response->bytes + TPM_HEADER_SIZE, sizeof(numbers[0]));
        tpm_put_u32(ret_response->bytes + TPM_HEADER_SIZE, 0);
        tpm_put_u32(ret_response->bytes + TPM_HEADER_SIZE + 4, 1);
        return true;
}

/* Then numbers say nothing, and nobody loses anything by them for long. */
static void test_numbers_that_do_not_rise(void **state) {
        unsigned n_lost = 0;

        begin(NULL);
        intercept = number_all_alike;
        for (unsigned i = 0; i < 20; i++) {
                TPM2_HANDLE session = new_session(0), sequence = handle_of(0, cmd_hash_start());

                rc_of(1, cmd_with_handle(TPM2_CC_ContextSave, handle_of(1, cmd_start_session(TPM2_SE_HMAC))));
                n_lost += rc_of_use(0, session) != TPM2_RC_SUCCESS;
                n_lost += rc_of(0, cmd_sequence_update(sequence, "x")) != TPM2_RC_SUCCESS;
                leave(0);
        }
        assert_in_range(n_lost, 0, 2);
}

/* Contexts of both kinds are counted together; the TPM itself gets the right numbers. */
static bool number_together(const Message *command, Message *ret_response) {
        static uint8_t numbers[256][8];
        static uint32_t newest;
        TpmReader reader = TPM_READER(command->bytes, command->n);
        Message sent = *command;

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 4);
        if (message_rc(command) == TPM2_CC_ContextLoad)
                memcpy(sent.bytes + TPM_HEADER_SIZE, numbers[tpm_read_u32(&reader) % 256], sizeof(numbers[0]));
        *ret_response = direct(sent);
        if (message_rc(command) != TPM2_CC_ContextSave || message_rc(ret_response) != TPM2_RC_SUCCESS)
                return true;
        newest++;
        memcpy(numbers[newest % 256], ret_response->bytes + TPM_HEADER_SIZE, sizeof(numbers[0]));
        tpm_put_u32(ret_response->bytes + TPM_HEADER_SIZE, 0);
        tpm_put_u32(ret_response->bytes + TPM_HEADER_SIZE + 4, newest);
        return true;
}

static void save_a_session(void) {
        succeed(1, cmd_with_handle(TPM2_CC_ContextSave, handle_of(1, cmd_start_session(TPM2_SE_HMAC))));
}

/* Many objects between two sessions are no sign of others. */
static void test_numbers_of_both_kinds(void **state) {
        begin(NULL);
        intercept = number_together;
        save_a_session();
        for (unsigned i = 0; i < 20; i++)
                handle_of(2 + i % 5, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));
        assert_true(rm_counters(rm)->saves >= 15);
        save_a_session();
        assert_int_equal(rm_counters(rm)->foreign_saves, 0);
}

/* The session of a stranger has the handle that one of ours had before the reset. */
static void test_stranger_after_a_reset(void **state) {
        TPM2_HANDLE ours;
        Message stranger;

        begin(NULL);
        ours = new_session(0);
        new_session(0);
        chores(RM_CHORE_EVICT);
        fake_tpm_reset(tpm);
        direct(cmd_startup(TPM2_SU_CLEAR));
        stranger = direct(cmd_start_session(TPM2_SE_POLICY));
        assert_int_equal(message_handle(&stranger), ours);
        direct(cmd_with_handle(TPM2_CC_ContextSave, ours));
        rm_reopened(rm);
        assert_int_equal(rc_of_use(0, ours), RM_RC(RC_REFERENCE_H0));
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 1);
        assert_int_equal(n_in_state(RM_LEFT_OVER), 1);
}

/* Handles in descending order. */
static bool list_backwards(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);
        const size_t first = TPM_HEADER_SIZE + 1 + 2 * sizeof(uint32_t);
        Message answer;

        tpm_read_bytes(&reader, TPM_HEADER_SIZE);
        if (message_rc(command) != TPM2_CC_GetCapability || tpm_read_u32(&reader) != TPM2_CAP_HANDLES)
                return false;
        answer = *ret_response = direct(*command);
        for (size_t at = first; at < answer.n; at += sizeof(TPM2_HANDLE))
                memcpy(ret_response->bytes + answer.n - sizeof(TPM2_HANDLE) - (at - first), answer.bytes + at,
                       sizeof(TPM2_HANDLE));
        return true;
}

static void test_lists_in_any_order(void **state) {
        TPM2_HANDLE keys[3];

        begin(NULL);
        for (unsigned i = 0; i < 2; i++)
                keys[i] = new_key(i, i);
        direct(cmd_create_primary(TPM2_RH_OWNER, 9)); /* a stranger's in the third slot */
        intercept = list_backwards;
        doubt_tables();
        chores(RM_CHORE_DUE);
        for (unsigned i = 0; i < 2; i++)
                succeed(i, cmd_hmac(keys[i], "x"));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 2);
}

/* What a client left is not tried again and again by every command that needs a slot. */
static void test_what_cannot_be_flushed_costs_little(void **state) {
        const FakeFault full = { .code = TPM2_CC_StartAuthSession, .rc = TPM2_RC_SESSION_MEMORY, .count = 3 };
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        config.session_slots = 64;
        begin(&config);
        for (unsigned i = 0; i < 12; i++)
                new_session(0);
        for (unsigned i = 0; i < 32; i++)
                new_session(1);
        refuse_flushes();
        leave(1);
        chores(RM_CHORE_CLEANUP);
        for (unsigned i = 0; i < 2; i++) {
                assert_true(fake_tpm_inject(tpm, &full));
                n_sent = 0;
                new_session(2);
        }
        assert_in_range(n_sent, 4, 8);
}

static void *take_snapshot(void) {
        void *snapshot = malloc(fake_tpm_snapshot_size(tpm));

        assert_non_null(snapshot);
        fake_tpm_snapshot(tpm, snapshot);
        return snapshot;
}

static void put_back(void *snapshot) {
        fake_tpm_restore(tpm, snapshot);
        free(snapshot);
}

/* Contexts of objects have numbers, too: a key of the past is under the handle of one of now, and nobody uses sessions.
 */
static void test_state_put_back_without_sessions(void **state) {
        TPM2_HANDLE past, now;
        void *snapshot;

        begin(NULL);
        past = new_key(1, 1);
        snapshot = take_snapshot();
        for (unsigned i = 0; i < 6; i++) {
                TPM2_HANDLE other = new_key(2, 10 + i);

                chores(RM_CHORE_SAVE);
                succeed(2, cmd_with_handle(TPM2_CC_FlushContext, other));
        }
        succeed(1, cmd_with_handle(TPM2_CC_FlushContext, past));
        now = new_key(0, 2);
        put_back(snapshot);
        chores(RM_CHORE_SAVE);
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ReadPublic, now)), RM_RC(RC_REFERENCE_H0));
        assert_int_equal(rm_counters(rm)->taken_back, 1);
}

/* A session's number tells of it, but before that a key of the past was saved as the copy of one of now. */
static void test_state_put_back_and_saved_before_it_showed(void **state) {
        TPM2_HANDLE past, now, other;
        void *snapshot;

        begin(NULL);
        past = new_key(1, 1);
        snapshot = take_snapshot();
        for (unsigned i = 0; i < 6; i++)
                new_session(2);
        succeed(1, cmd_with_handle(TPM2_CC_FlushContext, past));
        now = new_key(0, 2);
        put_back(snapshot);
        chores(RM_CHORE_SAVE);
        assert_int_equal(rm_counters(rm)->taken_back, 0);
        for (unsigned i = 0; i < 6; i++)
                other = new_session(1);
        assert_int_equal(rm_counters(rm)->taken_back, 1);
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ReadPublic, now)), RM_RC(RC_REFERENCE_H0));
        succeed(1, cmd_policy_pcr(other));
}

/* A context that was saved before the state was put back is proved, once. */
static void test_state_put_back_and_saved_long_before(void **state) {
        TPM2_HANDLE now;
        void *snapshot;

        begin(NULL);
        now = new_key(0, 2);
        chores(RM_CHORE_SAVE);
        snapshot = take_snapshot();
        for (unsigned i = 0; i < 6; i++)
                new_session(2);
        put_back(snapshot);
        for (unsigned i = 0; i < 6; i++)
                new_session(1);
        assert_int_equal(rm_counters(rm)->taken_back, 1);
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, now));
        n_sent = 0;
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, now));
        assert_int_equal(n_sent, 1);
}

int main(void) {
#define TEST(f) cmocka_unit_test_teardown(f, end)
        const struct CMUnitTest tests[] = {
                TEST(test_refused_flush_gives_up_one_file),
                TEST(test_gap_beside_what_cannot_be_flushed),
                TEST(test_stranger_that_cannot_be_flushed),
                TEST(test_numbers_that_do_not_rise),
                TEST(test_numbers_of_both_kinds),
                TEST(test_stranger_after_a_reset),
                TEST(test_lists_in_any_order),
                TEST(test_what_cannot_be_flushed_costs_little),
                TEST(test_state_put_back_without_sessions),
                TEST(test_state_put_back_and_saved_before_it_showed),
                TEST(test_state_put_back_and_saved_long_before),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
