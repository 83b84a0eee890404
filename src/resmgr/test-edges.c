/* SPDX-License-Identifier: BSD-2-Clause */

/* Misshapen commands, answers that lie, full tables; see test-rm.h. */
#include "resmgr/test-edges.h"

/* Commands that are not well formed */

/* A GetCapability of a list that is private, with a nonce and an HMAC of so many bytes, of which some are missing. */
static Message cmd_list_with_auth(uint16_t n_nonce, uint16_t n_hmac, uint16_t n_missing) {
        static const uint8_t ZEROES[100];
        Message m;
        TpmWriter w = TPM_WRITER(m.bytes, sizeof(m.bytes));

        tpm_write_begin(&w, TPM2_ST_SESSIONS, TPM2_CC_GetCapability);
        tpm_write_u32(&w, 9 + n_nonce + n_hmac - n_missing);
        tpm_write_u32(&w, TPM2_RH_PW);
        tpm_write_u16(&w, n_nonce);
        tpm_write_bytes(&w, ZEROES, n_nonce);
        tpm_write_u8(&w, 0);
        tpm_write_u16(&w, n_hmac);
        tpm_write_bytes(&w, ZEROES, n_hmac - n_missing);
        tpm_write_u32(&w, TPM2_CAP_HANDLES);
        tpm_write_u32(&w, TRANSIENT(0));
        tpm_write_u32(&w, 1);
        m.n = tpm_write_end(&w);
        return m;
}

static void test_misshapen_authorizations_are_the_tpms_to_refuse(void **state) {
        const uint16_t SIZES[][3] = { { 100, 0, 0 }, { 0, 100, 0 }, { 0, 32, 32 } };

        for (unsigned i = 0; i < 3; i++) {
                Message command = cmd_list_with_auth(SIZES[i][0], SIZES[i][1], SIZES[i][2]);
                Message bare = direct(command);

                assert_int_not_equal(message_rc(&bare), TPM2_RC_SUCCESS);
                assert_int_equal(rc_of(0, command), message_rc(&bare));
        }
        assert_int_equal(rc_of(0, cmd_list_with_auth(0, 0, 0)), RM_RC(TPM2_RC_AUTH_CONTEXT));
}

/* One handle where two must be: the TPM refuses it, and learns nothing but the kind of what means nothing to it. */
static void test_half_a_handle_area(void **state) {
        const TPM2_HANDLE SEEN[][2] = {
                { TRANSIENT(2), TRANSIENT(0) },
                { TPM2_HR_HMAC_SESSION | 1, TPM2_HR_HMAC_SESSION },
                { TPM2_HR_POLICY_SESSION | 1, TPM2_HR_POLICY_SESSION },
                { TPM2_RH_OWNER, TPM2_RH_OWNER },
        };

        for (unsigned i = 0; i < 4; i++) {
                Message command = cmd_with_handle(TPM2_CC_Certify, SEEN[i][0]);
                Message bare = direct(command);

                arm(TPM2_CC_Certify, 0, 0);
                assert_int_equal(rc_of(1, command), message_rc(&bare));
                assert_int_equal(armed.handle, SEEN[i][1]);
        }
        /* A TPM that looks for the first handle before it misses the second. */
        arm(TPM2_CC_Certify, RC_REFERENCE_H0, 1);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_Certify, TRANSIENT(2))), RC_REFERENCE_H0);
}

static void test_context_save_with_bytes_behind(void **state) {
        Message command = cmd_with_handle(TPM2_CC_ContextSave, new_key(0, 1));
        Message bare;

        command.bytes[command.n++] = 0;
        tpm_put_u32(command.bytes + 2, command.n);
        bare = direct(command);
        chores(RM_CHORE_SAVE);
        assert_int_not_equal(message_rc(&bare), TPM2_RC_SUCCESS);
        assert_int_equal(rc_of(0, command), message_rc(&bare));
}

/* What is well formed, and not as long as what was given out. */
static void test_token_that_is_too_short(void **state) {
        TPM2_HANDLE session = new_session(0);
        Message saved = save(0, session);
        Message guess = load_context(&saved);
        size_t at = TPM_HEADER_SIZE + 16; /* of contextBlob's size */
        uint16_t n = (uint16_t)(guess.bytes[at] << 8 | guess.bytes[at + 1]) - 1;

        guess.bytes[at] = n >> 8;
        guess.bytes[at + 1] = (uint8_t)n;
        tpm_put_u32(guess.bytes + 2, --guess.n);
        assert_int_equal(rc_of(1, guess), 0x1DF);
        assert_int_equal(handle_of(1, load_context(&saved)), session);
}

/* Answers that lie */

static const Message *lie;
static TPM2_CC lie_code;

static bool answer_lie(const Message *command, Message *ret_response) {
        if (message_rc(command) != lie_code)
                return false;
        *ret_response = *lie;
        intercept = NULL;
        return true;
}

/* The next command of that code gets that answer. */
static void arm_lie(TPM2_CC code, const Message *answer) {
        lie_code = code;
        lie = answer;
        intercept = answer_lie;
}

static void expect_asked_again(const Message *query, const Message *truth) {
        Message response;

        n_sent = 0;
        response = succeed(0, *query);
        assert_int_equal(n_sent, 1);
        assert_int_equal(response.n, truth->n);
        assert_memory_equal(response.bytes, truth->bytes, truth->n);
}

/* They are the client's to judge, but nobody else gets them from a copy. */
static void test_capabilities_that_lie_are_not_kept(void **state) {
        const Message QUERIES[] = { cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_FIXED, 4),
                                    cmd_get_capability(TPM2_CAP_ALGS, 0, 4) };

        for (unsigned i = 0; i < 2; i++) {
                Message truth = direct(QUERIES[i]);
                Message false_answer = truth;
                Message response;

                if (i == 0)
                        tpm_put_u32(false_answer.bytes + 2, false_answer.n -= 4); /* the last value is missing */
                else
                        tpm_put_u32(false_answer.bytes + TPM_HEADER_SIZE + 1, TPM2_CAP_COMMANDS);
                arm_lie(TPM2_CC_GetCapability, &false_answer);
                response = succeed(0, QUERIES[i]);
                assert_int_equal(response.n, false_answer.n);
                assert_memory_equal(response.bytes, false_answer.bytes, response.n);
                expect_asked_again(&QUERIES[i], &truth);
        }
}

static Message answer_with_handle(TPM2_HANDLE handle) {
        Message m = cmd_simple(TPM2_RC_SUCCESS);

        tpm_put_u32(m.bytes + m.n, handle);
        tpm_put_u32(m.bytes + 2, m.n += 4);
        return m;
}

/* A handle of another kind than what was loaded: the client hears of a failure, and the tables are compared. */
static void test_handle_that_cannot_be(void **state) {
        Message key = save(0, new_key(0, 1));
        Message session = save(0, new_session(0));
        const Message CONTEXTS[] = { session, key };
        const Message LIES[] = { answer_with_handle(TRANSIENT(7)), answer_with_handle(TPM2_HR_HMAC_SESSION | 9) };

        for (unsigned i = 0; i < 2; i++) {
                arm_lie(TPM2_CC_ContextLoad, &LIES[i]);
                assert_int_equal(rc_of(0, load_context(&CONTEXTS[i])), RM_RC(TPM2_RC_FAILURE));
                assert_true(is_due());
                chores(RM_CHORE_DUE);
                assert_int_equal(n_objects_of(0), 1);
        }
        use_key(0, TRANSIENT(0));
}

static void test_header_that_lies(void **state) {
        const Message command = cmd_get_random(4);
        Message answers[2] = { direct(command), direct(command) };

        answers[0].n = TPM_HEADER_SIZE - 1;
        answers[1].n--;
        for (unsigned i = 0; i < 2; i++) {
                arm_lie(TPM2_CC_GetRandom, &answers[i]);
                assert_int_equal(rc_of(0, command), RM_RC(TPM2_RC_FAILURE));
                assert_true(is_due());
                succeed(0, command);
        }
        new_key(0, 1);
        chores(RM_CHORE_EVICT);
        answers[0] = answer_with_handle(TRANSIENT(0));
        answers[0].bytes[5]++;
        arm_lie(TPM2_CC_ContextLoad, &answers[0]);
        assert_int_equal(rc_of(0, cmd_hmac(TRANSIENT(0), "x")), RM_RC(TPM2_RC_FAILURE));
        use_key(0, TRANSIENT(0));
}

/* What is due is left to the command itself. */
static uint32_t rc_at_once(unsigned client, Message command) {
        Message response = run(rm_job_begin(rm, spaces[client], command.bytes, command.n));

        return message_rc(&response);
}

/* There is always one more handle, and it is nobody's. */
static bool list_for_ever(const Message *command, Message *ret_response) {
        TPM2_HANDLE first = TRANSIENT(0);
        TpmReader reader = TPM_READER(command->bytes, command->n);
        TpmWriter writer = TPM_WRITER(ret_response->bytes, sizeof(ret_response->bytes));

        if (message_rc(command) != TPM2_CC_GetCapability && message_rc(command) != TPM2_CC_FlushContext)
                return false;
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_SUCCESS);
        if (message_rc(command) == TPM2_CC_GetCapability) {
                tpm_read_bytes(&reader, TPM_HEADER_SIZE + sizeof(TPM2_CAP));
                first = tpm_read_u32(&reader);
                tpm_write_u8(&writer, 1);
                tpm_write_u32(&writer, TPM2_CAP_HANDLES);
                tpm_write_u32(&writer, 1);
                tpm_write_u32(&writer, first);
        }
        ret_response->n = tpm_write_end(&writer);
        return true;
}

static void test_list_that_never_ends(void **state) {
        doubt_tables();
        intercept = list_for_ever;
        n_sent = 0;
        assert_int_equal(rc_at_once(0, cmd_get_random(4)), RM_RC(TPM2_RC_FAILURE));
        intercept = NULL;
        assert_int_equal(n_sent, RM_TRANSMITS_MAX);
        assert_true(is_due());
        succeed(0, cmd_get_random(4));
}

/* Each of two objects is loaded where the other one was, again and again. */
static bool load_at_one_place(const Message *command, Message *ret_response) {
        if (message_rc(command) != TPM2_CC_ContextLoad)
                return false;
        *ret_response = direct(*command);
        if (message_rc(ret_response) == TPM2_RC_SUCCESS)
                tpm_put_u32(ret_response->bytes + TPM_HEADER_SIZE, TRANSIENT(0));
        return true;
}

static void test_loads_that_never_end(void **state) {
        new_key(0, 1);
        new_key(0, 2);
        for (unsigned i = 0; i < 4; i++) { /* it may end with anything, and a load is among that */
                chores(RM_CHORE_EVICT);
                for (unsigned k = 1; k < i; k++)
                        direct(cmd_hash_start());
                if (i > 0)
                        doubt_tables();
                intercept = load_at_one_place;
                n_sent = 0;
                assert_int_equal(rc_at_once(0, cmd_certify(TRANSIENT(0), TRANSIENT(1))), RM_RC(TPM2_RC_FAILURE));
                assert_int_equal(n_sent, RM_TRANSMITS_MAX);
                assert_true(is_due());
                intercept = NULL;
                chores(RM_CHORE_DUE);
                assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), report().n_objects_loaded);
        }
}

static void test_start_without_commands(void **state) {
        Message none = cmd_simple(TPM2_RC_SUCCESS);

        memset(none.bytes + none.n, 0, 9);
        none.bytes[none.n + 4] = TPM2_CAP_COMMANDS;
        tpm_put_u32(none.bytes + 2, none.n += 9);
        inprocess_reset();
        rm_forget_residents(rm);
        arm_lie(TPM2_CC_GetCapability, &none);
        assert_int_equal(rc_at_once(0, cmd_get_random(4)), RM_RC(TPM2_RC_FAILURE));
        assert_true(is_due());
        succeed(0, cmd_get_random(4));
}

/* A TPM that was reset and not started holds nothing: who starts it is its client. */
static void test_reset_while_something_is_due(void **state) {
        new_key(0, 1);
        check_claims = false;
        inprocess_reset();
        doubt_tables();
        assert_int_equal(rc_at_once(0, cmd_get_random(4)), TPM2_RC_INITIALIZE);
        assert_int_equal(report().n_objects_loaded, 0);
        direct(cmd_startup(TPM2_SU_CLEAR));
        assert_int_equal(rc_of(0, cmd_hmac(TRANSIENT(0), "x")), RM_RC(RC_REFERENCE_H0));
}

/* What the attributes of a command say counts, whether or not it is one of those known to flush. */
static void test_extensive_command_that_nobody_knows(void **state) {
        new_key(0, 1);
        chores(RM_CHORE_EVICT);
        use_key(0, TRANSIENT(0));
        new_key(1, 2);
        tpm_command_table_find(&rm->table, TPM2_CC_GetRandom)->attributes |= TPMA_CC_EXTENSIVE;
        succeed(2, cmd_get_random(4));
        assert_true(is_due());
        check_claims = false;
        direct(cmd_with_handle(TPM2_CC_FlushContext, TRANSIENT(1)));
        use_key(0, TRANSIENT(0));
        assert_int_equal(rc_of(1, cmd_hmac(TRANSIENT(0), "x")), RM_RC(RC_REFERENCE_H0));
}

static void test_reconfiguration_makes_copies_stale(void **state) {
        const Message query = cmd_get_capability(TPM2_CAP_ALGS, 0, 4);
        Message m;
        TpmWriter w = TPM_WRITER(m.bytes, sizeof(m.bytes));

        tpm_write_begin(&w, TPM2_ST_SESSIONS, TPM2_CC_PCR_Allocate);
        tpm_write_u32(&w, TPM2_RH_PLATFORM);
        tpm_write_u32(&w, 9);
        tpm_write_u32(&w, TPM2_RH_PW);
        tpm_write_u32(&w, 0);
        tpm_write_u8(&w, 0);
        tpm_write_u32(&w, 1); /* a selection: all PCRs of SHA-256 */
        tpm_write_u16(&w, TPM2_ALG_SHA256);
        tpm_write_u32(&w, 0x03FFFFFF);
        m.n = tpm_write_end(&w);

        succeed(0, query);
        n_sent = 0;
        succeed(0, query);
        assert_int_equal(n_sent, 0);
        succeed(1, m);
        n_sent = 0;
        succeed(0, query);
        assert_int_equal(n_sent, 1);
}

/* Full tables */

static uint32_t n_cells;

/* One cell is left, which is less than any context needs: the free ones hold an answer that nobody asks for. */
static void take_cells(void) {
        RmContext rest = RM_NO_CONTEXT;

        if (rm->free_cell != RM_NONE) {
                rest = (RmContext){ .first = rm_cell(rm, rm->free_cell)->next };
                rm_cell(rm, rm->free_cell)->next = RM_NONE;
        }
        for (uint32_t i = rest.first; i != RM_NONE; i = rm_cell(rm, i)->next)
                rest.n_bytes += RM_CELL_PAYLOAD;
        *rm_fixed(rm, rm->n_fixed++) = (RmFixed){ .answer = rest };
        n_cells = rm->n_cells;
        rm->n_cells = rm->n_cells_used + (rm->free_cell == RM_NONE);
}

static void give_cells(void) {
        rm->n_cells = n_cells;
        rm->fixed_stale = true;
}

static void test_no_room_for_copies_of_objects(void **state) {
        const Message query = cmd_get_capability(TPM2_CAP_COMMANDS, 0, 254);

        for (unsigned i = 0; i < 3; i++)
                new_key(i, i);
        take_cells();
        assert_int_equal(rc_of(3, cmd_create_primary(TPM2_RH_OWNER, 9)), RM_RC(TPM2_RC_OBJECT_MEMORY));
        give_cells();
        for (unsigned i = 0; i < 3; i++)
                use_key(i, TRANSIENT(0));
        new_key(3, 9);

        take_cells();
        for (unsigned i = 0; i < 2; i++) { /* the answer cannot be kept, but it is given */
                n_sent = 0;
                succeed(0, query);
                assert_int_equal(n_sent, 1);
        }
        give_cells();
}

/* The client has what it needs to load it again: it is only that nobody else has. */
static void test_no_room_for_copies_of_saved_sessions(void **state) {
        TPM2_HANDLE session = new_session(0), absent;
        Message saved;

        take_cells();
        saved = save(0, session);
        assert_int_equal(n_sessions(), 0);
        assert_int_equal(handle_of(1, load_context(&saved)), session);
        use(1, session);
        give_cells();

        absent = new_session(0);
        chores(RM_CHORE_EVICT);
        n_sent = 0;
        take_cells();
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ContextSave, absent)), RM_RC(TPM2_RC_MEMORY));
        give_cells();
        saved = save(0, absent); /* from the copy */
        assert_int_equal(n_sent, 0);
        assert_int_equal(handle_of(1, load_context(&saved)), absent);
        use(1, absent);
}

/* A session whose context has no room is lost; it does not stay behind in the TPM, and others go on. */
static void test_no_room_for_copies_of_sessions(void **state) {
        TPM2_HANDLE sessions[3], more;

        for (unsigned i = 0; i < 3; i++)
                sessions[i] = new_session(i);
        take_cells();
        n_saves = 0;
        more = new_session(3);
        assert_int_equal(n_saves, 1); /* and not tried in vain once more */
        give_cells();
        assert_int_equal(rc_of_use(0, sessions[0]), RM_RC(RC_REFERENCE_H0));
        use(1, sessions[1]);
        use(2, sessions[2]);
        use(3, more);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION) + tpm_count(TPM2_HT_LOADED_SESSION), 3);
}

static void test_no_room_for_objects_and_spaces(void **state) {
        RmLimits limits = LIMITS;
        uint32_t space;

        rm->limits.objects_per_space = LIMITS.objects;
        for (unsigned i = 0; i < 7; i++)
                while (rc_of(i, cmd_hash_start()) == TPM2_RC_SUCCESS)
                        ;
        assert_in_range(report().n_objects, LIMITS.objects / 2, LIMITS.objects - 1);
        n_sent = 0;
        assert_int_equal(rc_of(0, cmd_hash_start()), RM_RC(TPM2_RC_OBJECT_MEMORY));
        assert_int_equal(n_sent, 0);
        rm_space_close(rm, spaces[7]);
        rm_space_open(rm, 0, &spaces[7]);
        while (rc_of(7, cmd_hash_start()) == TPM2_RC_SUCCESS)
                ;
        assert_int_equal(report().n_objects, LIMITS.objects);
        for (unsigned i = 8; i < LIMITS.spaces; i++)
                assert_int_equal(rm_space_open(rm, 2000, &space), TSS2_RC_SUCCESS);
        assert_int_equal(rm_space_open(rm, 2000, &space), RM_RC(TPM2_RC_OBJECT_MEMORY));
        rm_space_close(rm, space);
        assert_int_equal(rm_space_open(rm, 2000, &space), TSS2_RC_SUCCESS);

        limits.objects = 0;
        assert_int_equal(rm_size(&limits), 0);
        assert_null(rm_init(block, &limits));
}

static void test_quota_for_the_session_of_another(void **state) {
        TPM2_HANDLE mine = new_session(0), theirs = new_session(1);
        Message saved = save(1, theirs);

        rm->limits.sessions_per_space = 1;
        n_sent = 0;
        assert_int_equal(rc_of(0, load_context(&saved)), RM_RC(TPM2_RC_SESSION_MEMORY));
        assert_int_equal(n_sent, 0);
        assert_int_equal(rc_of_flush(0, mine), TPM2_RC_SUCCESS);
        assert_int_equal(handle_of(0, load_context(&saved)), theirs);
}

/* A list ascends, in whatever order its entries were made. */
static void test_sessions_are_listed_in_order(void **state) {
        const Message start = cmd_start_session(TPM2_SE_POLICY), retry = cmd_simple(TPM2_RC_RETRY);
        const Message query = cmd_get_capability(TPM2_CAP_HANDLES, TPM2_HR_HMAC_SESSION, 8);
        RmJob *job = rm_job_begin(rm, spaces[0], start.bytes, start.n);
        RmOutput output;
        Message response;

        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        assert_int_equal(rm_job_step(rm, job, retry.bytes, retry.n, &output), RM_STEP_PAUSE);
        response = save(1, new_session(1));
        reconcile(); /* knows of the one that is still to come */
        run(job);
        succeed(0, load_context(&response));
        response = succeed(0, query);
        assert_int_equal(response.bytes[TPM_HEADER_SIZE + 8], 2);
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(response.bytes[TPM_HEADER_SIZE + 9 + 4 * i + 3], i);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_misshapen_authorizations_are_the_tpms_to_refuse),
                RM_TEST(test_half_a_handle_area),
                RM_TEST(test_context_save_with_bytes_behind),
                RM_TEST(test_token_that_is_too_short),
                RM_TEST(test_capabilities_that_lie_are_not_kept),
                RM_TEST(test_handle_that_cannot_be),
                RM_TEST(test_header_that_lies),
                RM_TEST(test_list_that_never_ends),
                RM_TEST(test_loads_that_never_end),
                RM_TEST(test_start_without_commands),
                RM_TEST(test_reset_while_something_is_due),
                RM_TEST(test_extensive_command_that_nobody_knows),
                RM_TEST(test_reconfiguration_makes_copies_stale),
                RM_TEST(test_no_room_for_copies_of_objects),
                RM_TEST(test_no_room_for_copies_of_saved_sessions),
                RM_TEST(test_no_room_for_copies_of_sessions),
                RM_TEST(test_no_room_for_objects_and_spaces),
                RM_TEST(test_quota_for_the_session_of_another),
                RM_TEST(test_sessions_are_listed_in_order),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
