/* SPDX-License-Identifier: BSD-2-Clause */

/* More slots and sessions than are kept track of, and a context gap that is somebody else's; see fake-tpm.h. */
#include "resmgr/test-edges.h"
#include "test/lib/fake-tpm.h"

static FakeTpm *tpm;

static size_t run_fake(const uint8_t *command, size_t n_command, uint8_t *response, size_t size) {
        return fake_tpm_run(tpm, command, n_command, response, size);
}

static void power_on(const FakeTpmConfig *config) {
        tpm = fake_tpm_new(config);
        assert_non_null(tpm);
        rm_test_tpm = run_fake;
        direct(cmd_startup(TPM2_SU_CLEAR));
}

static void stop(void) {
        rm_test_close();
        tpm = fake_tpm_free(tpm);
}

static TPM2_CAP refused_capability;

static bool refuse_capability(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE);
        if (message_rc(command) != TPM2_CC_GetCapability || tpm_read_u32(&reader) != refused_capability)
                return false;
        *ret_response = cmd_simple(TPM2_RC_VALUE + TPM2_RC_P + TPM2_RC_1);
        return true;
}

static void test_more_slots_than_are_kept_track_of(void **state) {
        const FakeFault refusal = { .code = TPM2_CC_ContextSave, .rc = TPM2_RC_NV_RATE, .count = FAKE_ALWAYS };
        const RmLimits limits = {
                .spaces = 16, .objects = 512, .objects_per_space = 200, .sessions_per_space = 4, .abandoned = 0
        };
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        config.object_slots = 200;
        power_on(&config);
        assert_int_equal(rm_test_setup_with(&limits), 0);
        for (unsigned i = 0; i <= RM_RESIDENTS_MAX; i++)
                new_key(0, i);
        assert_int_equal(report().n_objects_loaded, RM_RESIDENTS_MAX);
        assert_true(fake_tpm_inject(tpm, &refusal));
        /* Nothing can leave. The TPM would have room, but nobody could say for what. */
        assert_int_equal(rc_of(1, cmd_create_primary(TPM2_RH_OWNER, 1)), RM_RC(TPM2_RC_FAILURE));
        chores(RM_CHORE_DUE);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), RM_RESIDENTS_MAX);
        assert_int_equal(rc_of(0, cmd_hmac(TRANSIENT(0), "x")), RM_RC(TPM2_RC_OBJECT_MEMORY));
        fake_tpm_heal(tpm);
        for (unsigned i = 1; i <= RM_RESIDENTS_MAX; i++)
                use_key(0, TRANSIENT(i));
        use_key(0, TRANSIENT(0));
        new_key(1, 1);
        stop();
}

static void test_more_sessions_than_are_kept_track_of(void **state) {
        enum { N = RM_SESSIONS + 70 };
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        config.active_sessions = N;
        power_on(&config);
        for (unsigned i = 0; i < N; i++)
                direct(cmd_with_handle(TPM2_CC_ContextSave, (direct(cmd_start_session(TPM2_SE_HMAC)), 0x02000000 + i)));
        assert_int_equal(rm_test_setup_with(&LIMITS), 0);
        assert_int_equal(n_sessions(), RM_SESSIONS);
        assert_int_equal(rm_counters(rm)->foreign_flushed, N - RM_SESSIONS);
        n_sent = 0;
        assert_int_equal(rc_of(0, cmd_start_session(TPM2_SE_HMAC)), RM_RC(TPM2_RC_SESSION_HANDLES));
        assert_int_equal(n_sent, 0);
        rm_space_close(rm, spaces[7]);
        rm_space_open(rm, 0, &spaces[7]);
        assert_int_equal(rc_of_flush(7, 0x02000000), TPM2_RC_SUCCESS);
        use(0, new_session(0));
        stop();
}

/* A neighbour saved a session and forgot it, and then many more. */
static void fill_gap(bool noticed) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        Message saved;

        config.gap = 255;
        power_on(&config);
        assert_int_equal(rm_test_setup_with(&LIMITS), 0);
        saved = direct(cmd_start_session(TPM2_SE_HMAC));
        direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&saved)));
        if (noticed)
                reconcile();
        new_session(0);
        direct(cmd_start_session(TPM2_SE_HMAC));
        do {
                saved = direct(cmd_with_handle(TPM2_CC_ContextSave, 0x02000002));
                if (message_rc(&saved) == TPM2_RC_SUCCESS)
                        direct(load_context(&saved));
        } while (message_rc(&saved) == TPM2_RC_SUCCESS);
        assert_int_equal(message_rc(&saved), TPM2_RC_CONTEXT_GAP);
}

static void test_gap_that_is_a_neighbours(void **state) {
        const FakeFault retry = { .code = TPM2_CC_GetCapability, .rc = TPM2_RC_RETRY, .count = 2 };

        for (unsigned noticed = 0; noticed < 2; noticed++) {
                fill_gap(noticed);
                if (!noticed)
                        assert_true(fake_tpm_inject(tpm, &retry));
                check_claims = false; /* its questions would get the answers */
                save(0, TPM2_HR_POLICY_SESSION | 1);
                assert_int_equal(n_pauses, noticed ? 0 : 2);
                assert_int_equal(rm_counters(rm)->foreign_flushed, !noticed);
                assert_int_equal(rm_counters(rm)->left_over_flushed, noticed);
                direct(cmd_with_handle(TPM2_CC_FlushContext, 0x02000002));
                stop();
        }
}

/* The foreign session stands on the second page of what the TPM lists; all on the first one are clients'. */
static void test_gap_of_a_session_on_the_second_page(void **state) {
        enum { N = 8, PAGE = 4 };
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        TPM2_HANDLE sessions[N];
        Message foreign, other;

        config.gap = 255;
        config.page = PAGE;
        power_on(&config);
        assert_int_equal(rm_test_setup_with(&LIMITS), 0);
        check_claims = false; /* its questions would end at a page */
        for (unsigned i = 0; i < N; i++)
                sessions[i] = new_session(i % 4);
        chores(RM_CHORE_EVICT);
        foreign = direct(cmd_start_session(TPM2_SE_HMAC));
        direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&foreign)));
        for (unsigned i = 0; i < N; i++)
                use(i % 4, sessions[i]);
        chores(RM_CHORE_EVICT);
        other = direct(cmd_start_session(TPM2_SE_HMAC));
        while (message_rc(&other) == TPM2_RC_SUCCESS) {
                other = direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&foreign) + 1));
                if (message_rc(&other) == TPM2_RC_SUCCESS)
                        direct(load_context(&other));
        }
        direct(cmd_with_handle(TPM2_CC_FlushContext, message_handle(&foreign) + 1));
        use(0, sessions[0]);
        save(0, sessions[0]);
        assert_int_equal(rm_counters(rm)->foreign_flushed, 1);
        for (unsigned i = 1; i < N; i++)
                use(i % 4, sessions[i]);
        stop();
}

/* A session that is forgotten beside short ones that end is old, though none of them is left to compare it with. */
static void test_gap_beside_sessions_that_end(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        TPM2_HANDLE forgotten;

        config.gap = 255;
        power_on(&config);
        assert_int_equal(rm_test_setup_with(&LIMITS), 0);
        forgotten = new_session(0);
        save(0, forgotten);
        for (unsigned i = 0; i < 100; i++) {
                TPM2_HANDLE session = new_session(1);

                save(1, session);
                assert_int_equal(rc_of_flush(1, session), TPM2_RC_SUCCESS);
        }
        assert_int_equal(session_report(forgotten).gap, 100);
        for (unsigned i = 0; i < 100; i++) {
                TPM2_HANDLE session = new_session(1);

                save(1, session);
                assert_int_equal(rc_of_flush(1, session), TPM2_RC_SUCCESS);
                chores(RM_CHORE_RENEW);
        }
        assert_int_equal(rm_counters(rm)->renewals, 1);
        stop();
}

/* A TPM that refuses what need not be known is used all the same. */
static void test_start_without_what_is_optional(void **state) {
        const TPM2_CAP optional[] = { TPM2_CAP_AUDIT_COMMANDS, TPM2_CAP_TPM_PROPERTIES };

        for (unsigned i = 0; i < 2; i++) {
                refused_capability = optional[i];
                power_on(NULL);
                intercept = refuse_capability;
                assert_int_equal(rm_test_setup_with(&LIMITS), 0);
                succeed(0, cmd_get_random(4));
                use(0, new_session(0));
                stop();
        }
}

/* Contexts larger than any TPM has today: one user takes its share of the cells, and others have room for theirs. */
static void test_large_contexts(void **state) {
        const RmLimits limits = { .spaces = 16, .objects = 4096, .objects_per_space = 4096, .sessions_per_space = 4 };
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        unsigned n = 0;

        config.object_context = 3600;
        power_on(&config);
        assert_int_equal(rm_test_setup_with(&limits), 0);
        check_claims = false; /* it would take too long */
        new_key(1, 1);
        while (rc_of(0, cmd_simple(FAKE_CC_VENDOR_MAKE)) == TPM2_RC_SUCCESS)
                n++;
        assert_in_range(n, 1000, 2000); /* fewer than half of the objects */
        use_key(1, TRANSIENT(0));
        for (unsigned i = 2; i < 8; i++) {
                new_key(i, i);
                use_key(i, TRANSIENT(0));
        }
        assert_int_equal(rc_of(0, cmd_simple(FAKE_CC_VENDOR_MAKE)), RM_RC(TPM2_RC_OBJECT_MEMORY));
        for (unsigned i = 0; i < 8; i++)
                assert_int_equal(rc_of_flush(0, TRANSIENT(i)), TPM2_RC_SUCCESS);
        handle_of(0, cmd_simple(FAKE_CC_VENDOR_MAKE));
        stop();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_more_slots_than_are_kept_track_of),
                cmocka_unit_test(test_more_sessions_than_are_kept_track_of),
                cmocka_unit_test(test_gap_that_is_a_neighbours),
                cmocka_unit_test(test_gap_of_a_session_on_the_second_page),
                cmocka_unit_test(test_gap_beside_sessions_that_end),
                cmocka_unit_test(test_start_without_what_is_optional),
                cmocka_unit_test(test_large_contexts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
