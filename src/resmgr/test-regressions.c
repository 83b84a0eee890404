/* SPDX-License-Identifier: BSD-2-Clause */

/* Faults that were found in the resource manager, each with the conversation that showed it; see test-edges.h. */
#include "resmgr/test-edges.h"

static void disarm(void) {
        intercept = NULL;
}

/* The first thing that the command sends is executed, and its answer lost. */
static void lose(unsigned client, Message command) {
        RmOutput output;
        Message sent;
        RmJob *job;

        chores(RM_CHORE_DUE);
        job = rm_job_begin(rm, spaces[client], command.bytes, command.n);
        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        memcpy(sent.bytes, output.bytes, output.n_bytes);
        sent.n = output.n_bytes;
        direct(sent);
        rm_job_lost(rm, job, &output);
}

static void run_once(RmChore chore) {
        RmJob *job = rm_job_begin_chore(rm, chore);

        assert_non_null(job);
        run(job);
}

static unsigned renewals(void) {
        unsigned n = 0;
        RmJob *job;

        while (n < 1000 && (job = rm_job_begin_chore(rm, RM_CHORE_RENEW))) {
                run(job);
                n++;
        }
        return n;
}

static void test_start_that_failed_is_still_due(void **state) {
        const uint32_t rcs[] = { TPM2_RC_TESTING, TPM2_RC_CANCELED };

        for (unsigned i = 0; i < 2; i++) {
                inprocess_reset();
                rm_forget_residents(rm);
                arm(TPM2_CC_GetCapability, rcs[i], i == 0 ? 1000 : 1);
                run_once(RM_CHORE_DUE);
                disarm();
                succeed(0, cmd_get_random(8));
        }
}

static void test_reconcile_that_failed_is_still_due(void **state) {
        const uint32_t rcs[] = { TPM2_RC_TESTING, TPM2_RC_CANCELED };

        handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        for (unsigned i = 0; i < 2; i++) {
                lose(0, cmd_create_primary(TPM2_RH_OWNER, 2));
                arm(TPM2_CC_GetCapability, rcs[i], i == 0 ? 1000 : 1);
                run_once(RM_CHORE_DUE);
                disarm();
                chores(RM_CHORE_DUE);
                assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), report().n_objects_loaded);
        }
}

/* No client's command goes out while the tables are wrong, whoever moves the jobs. */
static void test_nothing_goes_out_before_what_is_due(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message command = cmd_with_handle(TPM2_CC_ReadPublic, key);

        chores(RM_CHORE_EVICT);
        lose(0, command); /* its ContextLoad */
        arm(TPM2_CC_GetCapability, TPM2_RC_TESTING, 1000);
        run_once(RM_CHORE_DUE);
        n_sent = 0;
        run(rm_job_begin(rm, spaces[0], command.bytes, command.n));
        disarm();
        command = run(rm_job_begin(rm, spaces[0], command.bytes, command.n));
        assert_int_equal(message_rc(&command), TPM2_RC_SUCCESS);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 1);
}

static void test_renewal_ends_after_a_reset(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));

        check_claims = false;
        for (unsigned i = 0; i < 50000; i++) {
                chores(RM_CHORE_EVICT);
                call(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session)); /* loads it */
        }
        inprocess_reset();
        rm_forget_residents(rm);
        chores(RM_CHORE_DUE);
        handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        chores(RM_CHORE_EVICT);
        assert_in_range(renewals(), 0, 10);
}

static bool lie_about_the_sequence(const Message *command, Message *ret_response) {
        if (message_rc(command) != TPM2_CC_ContextSave)
                return false;
        *ret_response = direct(*command);
        memset(ret_response->bytes + TPM_HEADER_SIZE, 0x7F, 8);
        disarm();
        return true;
}

static void test_renewal_ends_though_the_tpm_lies(void **state) {
        handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        intercept = lie_about_the_sequence;
        chores(RM_CHORE_EVICT);
        assert_in_range(renewals(), 0, 10);
        rm->gap = 3;
        assert_in_range(renewals(), 0, 10);
}

/* The renewal has loaded the session, and cannot save it again: its client's context is good all the same. */
static void test_renewal_that_stopped_halfway(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        Message saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));

        handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        arm(TPM2_CC_ContextSave, TPM2_RC_CONTEXT_GAP,
            2); /* the eviction, and the renewal that is to make room for it */
        run_once(RM_CHORE_EVICT);
        disarm();
        assert_int_equal(handle_of(0, load_context(&saved)), session);

        saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        pretend_saves(1u << 20);
        arm(TPM2_CC_ContextSave, TPM2_RC_RETRY, 1000);
        run_once(RM_CHORE_RENEW);
        disarm();
        assert_int_equal(handle_of(0, load_context(&saved)), session);
}

static void test_close_of_a_session_that_cannot_be_saved(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));

        rm->limits.abandoned = 0;
        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        pretend_saves(1u << 20);
        arm(TPM2_CC_ContextSave, TPM2_RC_RETRY, 1000);
        run_once(RM_CHORE_RENEW);
        arm(TPM2_CC_ContextSave, TPM2_RC_NV_RATE, 2);
        run_once(RM_CHORE_EVICT);
        run_once(RM_CHORE_EVICT);
        disarm();
        rm_space_close(rm, spaces[0]);
        chores(RM_CHORE_CLEANUP);
        rm_space_open(rm, 1000, &spaces[0]);
}

/* A neighbour makes a command seem to need more slots than it does; in time, that is doubted. */
static void test_extra_slots_are_unlearned(void **state) {
        const TpmCommandInfo *info = tpm_command_table_find(&rm->table, TPM2_CC_CreatePrimary);
        TPM2_HANDLE foreign[2];

        for (unsigned i = 0; i < 5; i++) /* three slots are learned */
                handle_of(7, cmd_create_primary(TPM2_RH_NULL, i));
        chores(RM_CHORE_EVICT);
        for (unsigned i = 0; i < 2; i++) {
                Message response = direct(cmd_create_primary(TPM2_RH_NULL, 90 + i));

                foreign[i] = message_handle(&response);
        }
        succeed(7, cmd_hmac(0x80000000, "x"));
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 3))));
        assert_in_range(info->extra, 1, 2);
        for (unsigned i = 0; i < 2; i++)
                direct(cmd_with_handle(TPM2_CC_FlushContext, foreign[i]));
        for (unsigned i = 0; i < 100; i++)
                succeed(0, cmd_with_handle(TPM2_CC_FlushContext, handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 3))));
        assert_int_equal(info->extra, 0);
}

static void test_no_secret_stays_in_a_job(void **state) {
        static const char SECRET[] = "hunter2HUNTER2";
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message m;
        TpmWriter w = TPM_WRITER(m.bytes, sizeof(m.bytes));
        RmOutput output;
        RmJob *job;

        tpm_write_begin(&w, TPM2_ST_SESSIONS, TPM2_CC_HMAC);
        tpm_write_u32(&w, key);
        tpm_write_u32(&w, 9 + strlen(SECRET));
        tpm_write_u32(&w, TPM2_RH_PW);
        tpm_write_u16(&w, 0);
        tpm_write_u8(&w, 0);
        tpm_write_u16(&w, strlen(SECRET));
        tpm_write_bytes(&w, (const uint8_t *)SECRET, strlen(SECRET));
        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, TPM2_ALG_NULL);
        m.n = tpm_write_end(&w);

        job = rm_job_begin(rm, spaces[0], m.bytes, m.n);
        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        m = direct(m);
        assert_int_equal(rm_job_step(rm, job, m.bytes, m.n, &output), RM_STEP_REPLY);
        assert_int_not_equal(output.rc, TPM2_RC_SUCCESS);
        succeed(1, cmd_get_random(8));
        assert_null(memmem(block, n_block, SECRET, strlen(SECRET)));
}

static void test_not_started_while_repairing(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        chores(RM_CHORE_EVICT);
        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        check_claims = false;
        inprocess_reset();
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ReadPublic, key)), TPM2_RC_INITIALIZE);
        assert_int_equal(report().n_objects_loaded, 0);
        succeed(0, cmd_startup(TPM2_SU_CLEAR));
}

static void test_refused_probe_proves_nothing(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message foreign;

        succeed(1, cmd_clear());
        arm(TPM2_CC_ContextSave, TPM2_RC_NV_RATE, 1);
        run_once(RM_CHORE_DUE);
        disarm();
        foreign = direct(cmd_create_primary(TPM2_RH_NULL, 77)); /* a neighbour's, under the same physical handle */
        assert_int_equal(message_rc(&foreign), TPM2_RC_SUCCESS);
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ReadPublic, key)), 0xB0910);
}

static void test_refused_flush_of_a_stranger_is_repeated(void **state) {
        direct(cmd_create_primary(TPM2_RH_NULL, 1));
        doubt_tables();
        arm(TPM2_CC_FlushContext, TPM2_RC_NV_RATE, 1);
        run_once(RM_CHORE_DUE);
        disarm();
        rm_retry(rm);
        chores(RM_CHORE_DUE);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
}

static void test_flush_of_what_a_neighbour_flushed(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        check_claims = false;
        direct(cmd_with_handle(TPM2_CC_FlushContext, 0x80000000));
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_FlushContext, key)), RC_HANDLE_P1);
        assert_int_equal(n_objects_of(0), 0);
}

static void test_lost_update_makes_the_copy_stale(void **state) {
        TPM2_HANDLE sequence = handle_of(0, cmd_hash_start());

        chores(RM_CHORE_SAVE);
        lose(0, cmd_sequence_update(sequence, "abc"));
        chores(RM_CHORE_DUE);
        n_saves = 0;
        chores(RM_CHORE_SAVE);
        assert_int_equal(n_saves, 1);
        /* whereas one that failed leaves it as it was */
        assert_int_equal(rc_of(0, cmd_sequence_complete(sequence, 0x40000101)), 0x2C4);
        chores(RM_CHORE_SAVE);
        assert_int_equal(n_saves, 1);
}

/* Two users with many sessions in use do not push out what a third one saved. */
static void test_saved_sessions_of_a_light_user_stay(void **state) {
        Message saved[2];

        rm->limits.sessions_per_space = 60;
        for (unsigned i = 0; i < 2; i++)
                saved[i] =
                        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, handle_of(0, cmd_start_session(TPM2_SE_HMAC))));
        for (unsigned i = 0; i < 56; i++)
                call(1, cmd_start_session(TPM2_SE_HMAC));
        for (unsigned i = 0; i < 20; i++)
                call(2, cmd_start_session(TPM2_SE_HMAC));
        for (unsigned i = 0; i < 2; i++)
                succeed(0, load_context(&saved[i]));
}

static bool hide_session(const Message *command, Message *ret_response) {
        assert_null(memmem(command->bytes + TPM_HEADER_SIZE, command->n - TPM_HEADER_SIZE,
                           (const uint8_t[]){ 2, 0, 0, 0 }, 4));
        return false;
}

/* A handle that is no session's is the TPM's to refuse; those behind it are others', and do not go there. */
static void test_auth_that_is_no_session(void **state) {
        TPM2_HANDLE session = handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        const TestAuth auths[] = { { 0x80000000, 0 }, { session, 0x80 } };
        Message bare = direct(cmd_get_random_auth(4, auths, 2));

        assert_int_equal(session, 0x02000000);
        intercept = hide_session;
        assert_int_equal(rc_of(0, cmd_get_random_auth(4, auths, 2)), message_rc(&bare));
        intercept = NULL;
        assert_true(session_report(session).loaded);
}

/* A TPM that does not look whose session it is. */
static bool answer_without_looking(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);
        TpmWriter writer = TPM_WRITER(ret_response->bytes, sizeof(ret_response->bytes));

        if (tpm_read_header(&reader).code != TPM2_CC_GetRandom)
                return false;
        tpm_write_begin(&writer, TPM2_ST_SESSIONS, TPM2_RC_SUCCESS);
        tpm_write_u32(&writer, 6);
        tpm_write_u16(&writer, 4);
        tpm_write_u32(&writer, 0);
        tpm_write_u16(&writer, 0); /* the session's nonce, its attributes, its HMAC */
        tpm_write_u8(&writer, TPMA_SESSION_CONTINUESESSION);
        tpm_write_u16(&writer, 0);
        ret_response->n = tpm_write_end(&writer);
        return true;
}

/* Of another's session, a TPM says first what is wrong with it in other ways; and it must not do what was asked. */
static void test_other_faults_of_a_foreign_session(void **state) {
        const TestAuth auth = { handle_of(1, cmd_start_session(TPM2_SE_HMAC)), 0x19 };
        const TSS2_RC reserved = TPM2_RC_RESERVED_BITS + TPM2_RC_S + TPM2_RC_1;
        Message command = cmd_get_random_auth(4, &auth, 1);

        assert_int_equal(rc_of(0, command), RM_RC(TPM2_RC_REFERENCE_S0));
        arm(TPM2_CC_GetRandom, reserved, 1);
        assert_int_equal(rc_of(0, command), reserved);
        disarm();
        intercept = answer_without_looking;
        assert_int_equal(rc_of(0, command), RM_RC(TPM2_RC_FAILURE));
        intercept = NULL;
        chores(RM_CHORE_DUE);
        assert_true(session_report(auth.session).loaded);
}

/* What stands for a handle that is nobody's must be of its kind, or the TPM says something else. */
static void test_handle_area_cut_off(void **state) {
        TPM2_HANDLE absent = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message command = cmd_certify(absent, absent);
        Message bare;

        command.n = TPM_HEADER_SIZE + 4;
        tpm_put_u32(command.bytes + 2, command.n);
        bare = direct(command);
        chores(RM_CHORE_EVICT);
        assert_int_equal(rc_of(0, command), message_rc(&bare)); /* its own, but not in the TPM */
        assert_int_equal(rc_of(1, command), message_rc(&bare)); /* another's */
        tpm_put_u32(command.bytes + TPM_HEADER_SIZE, absent + 7);
        assert_int_equal(rc_of(1, command), message_rc(&bare)); /* nobody's */
}

static TPM2_CAP halved;
static unsigned n_halves;

/* So many bytes and half of what follows, in a frame that fits. */
static Message first_half(const Message *command, size_t n_whole) {
        Message response = direct(*command);

        response.n = n_whole + (response.n - n_whole) / 2;
        tpm_put_u32(response.bytes + 2, response.n);
        return response;
}

static bool halve(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);

        if (tpm_read_header(&reader).code != TPM2_CC_GetCapability || tpm_read_u32(&reader) != halved || n_halves == 0)
                return false;
        *ret_response = first_half(command, TPM_HEADER_SIZE + 9);
        n_halves--;
        return true;
}

static bool cut_short(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);

        if (tpm_read_header(&reader).code != TPM2_CC_ContextSave)
                return false;
        *ret_response = first_half(command, 0);
        return true;
}

static void test_half_a_list_of_handles(void **state) {
        TPM2_HANDLE first = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE second = handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));

        doubt_tables();
        halved = TPM2_CAP_HANDLES;
        n_halves = 1;
        intercept = halve;
        run_once(RM_CHORE_DUE);
        assert_int_equal(n_halves, 0);
        assert_true(is_due());
        succeed(0, cmd_hmac(first, "still there"));
        succeed(1, cmd_hmac(second, "so is this"));
}

static void test_half_a_list_of_commands(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        chores(RM_CHORE_SAVE);
        rm_forget_residents(rm);
        halved = TPM2_CAP_COMMANDS;
        n_halves = 1;
        intercept = halve;
        run_once(RM_CHORE_DUE);
        assert_int_equal(n_halves, 0);
        assert_true(is_due());
        succeed(0, cmd_hmac(key, "known again"));
}

/* It would be the last that anybody knows of the session, and the TPM has one less for ever. */
static void test_half_a_context_of_a_session(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));

        chores(RM_CHORE_DUE);
        intercept = cut_short;
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ContextSave, session)), RM_RC(TPM2_RC_FAILURE));
        intercept = NULL;
        chores(RM_CHORE_DUE);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 0);
}

/* The gap is full once, and the first save after that comes at a bad moment. */
static bool gap_then_busy(const Message *command, Message *ret_response) {
        static unsigned step;
        TPM2_CC code = message_rc(command);
        uint32_t rc = 0;

        if (code == TPM2_CC_StartAuthSession && step == 0)
                rc = TPM2_RC_CONTEXT_GAP;
        if (code == TPM2_CC_ContextSave && step == 1)
                rc = TPM2_RC_NV_RATE;
        if (rc == 0)
                return false;
        step++;
        arm(code, rc, 1);
        intercept = gap_then_busy;
        return answer_armed(command, ret_response);
}

static void test_renewal_that_cannot_save_keeps_the_session(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

        chores(RM_CHORE_EVICT);
        intercept = gap_then_busy;
        handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        intercept = NULL;
        succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
        chores(RM_CHORE_EVICT);
        succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_start_that_failed_is_still_due),
                RM_TEST(test_reconcile_that_failed_is_still_due),
                RM_TEST(test_nothing_goes_out_before_what_is_due),
                RM_TEST(test_renewal_ends_after_a_reset),
                RM_TEST(test_renewal_ends_though_the_tpm_lies),
                RM_TEST(test_renewal_that_stopped_halfway),
                RM_TEST(test_close_of_a_session_that_cannot_be_saved),
                RM_TEST(test_extra_slots_are_unlearned),
                RM_TEST(test_no_secret_stays_in_a_job),
                RM_TEST(test_not_started_while_repairing),
                RM_TEST(test_refused_probe_proves_nothing),
                RM_TEST(test_refused_flush_of_a_stranger_is_repeated),
                RM_TEST(test_flush_of_what_a_neighbour_flushed),
                RM_TEST(test_lost_update_makes_the_copy_stale),
                RM_TEST(test_saved_sessions_of_a_light_user_stay),
                RM_TEST(test_auth_that_is_no_session),
                RM_TEST(test_handle_area_cut_off),
                RM_TEST(test_other_faults_of_a_foreign_session),
                RM_TEST(test_renewal_that_cannot_save_keeps_the_session),
                RM_TEST(test_half_a_context_of_a_session),
                RM_TEST(test_half_a_list_of_handles),
                RM_TEST(test_half_a_list_of_commands),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
