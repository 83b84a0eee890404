/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The resource manager on a real TPM (libtpms, in this process): three object slots, three session slots, 64 sessions.
 *
 * Every command of every test is stopped between TPM and settlement, and it is checked that whatever claims to be
 * resident really is in the TPM; and what was transmitted is scribbled over before the job goes on.
 */
#include "resmgr/state.h"
#include "test/lib/inprocess.h"
#include "test/lib/tpm-commands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RC_HANDLE_P1 0x1CB

static const RmLimits LIMITS = {
        .spaces = 16, .objects = 64, .objects_per_space = 12, .sessions_per_space = 40, .abandoned = RM_NONE
};

static Rm *rm;
static void *block;
static size_t n_block;
static unsigned n_sent;  /* commands that reached the TPM */
static unsigned n_saves; /* ... of sessions or objects */
static unsigned n_pauses;
static uint32_t spaces[8];

/* Answers in the TPM's place when it returns true. */
static bool (*intercept)(const Message *command, Message *ret_response);

static Message direct(Message command) {
        Message response;

        response.n = inprocess_run(command.bytes, command.n, response.bytes, sizeof(response.bytes));
        return response;
}

static bool tpm_lists(TPM2_HANDLE handle) {
        bool session = handle >> TPM2_HR_SHIFT == TPM2_HT_POLICY_SESSION;
        Message list = direct(cmd_get_capability(TPM2_CAP_HANDLES, session ? handle ^ 0x01000000 : handle, 1));
        TpmReader reader = TPM_READER(list.bytes, list.n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 5);
        return tpm_read_u32(&reader) == 1 && tpm_read_u32(&reader) == handle;
}

static unsigned tpm_count(TPM2_HT type) {
        Message list = direct(cmd_get_capability(TPM2_CAP_HANDLES, (uint32_t)type << TPM2_HR_SHIFT, 254));
        TpmReader reader = TPM_READER(list.bytes, list.n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 5);
        return tpm_read_u32(&reader);
}

static void assert_no_false_claim(void) {
        for (uint32_t k = 0; k < rm->n_residents; k++) {
                const RmObject *object = rm_object(rm, rm->residents[k]);

                if (object->residency == RM_RESIDENT)
                        assert_true(tpm_lists(object->phandle));
        }
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm->sessions[i].state > RM_SESSION_PENDING && rm->sessions[i].residency == RM_RESIDENT)
                        assert_true(tpm_lists(rm->sessions[i].handle));
}

static bool check_claims = true;

static Message run(RmJob *job) {
        Message command, response;
        RmOutput output;
        RmStep step = rm_job_step(rm, job, NULL, 0, &output);

        while (step != RM_STEP_REPLY) {
                if (step == RM_STEP_PAUSE) {
                        n_pauses++;
                        step = rm_job_step(rm, job, NULL, 0, &output);
                        continue;
                }
                command.n = output.n_bytes;
                memcpy(command.bytes, output.bytes, output.n_bytes);
                n_sent++;
                n_saves += output.code == TPM2_CC_ContextSave;
                if (!intercept || !intercept(&command, &response))
                        response = direct(command);
                if (check_claims)
                        assert_no_false_claim();
                memset((uint8_t *)output.bytes, 0xA5, output.n_bytes);
                step = rm_job_step(rm, job, response.bytes, response.n, &output);
        }
        response.n = output.n_bytes;
        memcpy(response.bytes, output.bytes, output.n_bytes);
        return response;
}

static void chores(RmChore chore) {
        RmJob *job;

        while ((job = rm_job_begin_chore(rm, chore)))
                run(job);
}

static Message call(unsigned client, Message command) {
        RmJob *job;

        chores(RM_CHORE_DUE);
        job = rm_job_begin(rm, spaces[client], command.bytes, command.n);
        assert_non_null(job);
        return run(job);
}

static Message succeed(unsigned client, Message command) {
        Message response = call(client, command);

        assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
        return response;
}

static uint32_t rc_of(unsigned client, Message command) {
        Message response = call(client, command);

        return message_rc(&response);
}

static TPM2_HANDLE handle_of(unsigned client, Message command) {
        Message response = succeed(client, command);

        return message_handle(&response);
}

static Message load_context(const Message *saved) {
        return cmd_context_load(saved->bytes + TPM_HEADER_SIZE, saved->n - TPM_HEADER_SIZE);
}

static int setup_with(const RmLimits *limits) {
        Message startup;

        inprocess_start();
        startup = direct(cmd_startup(TPM2_SU_CLEAR));
        if (message_rc(&startup) != TPM2_RC_SUCCESS)
                return -1;
        n_block = rm_size(limits);
        block = aligned_alloc(4096, n_block);
        memset(block, 0, n_block);
        rm = rm_init(block, limits);
        intercept = NULL;
        check_claims = true;
        chores(RM_CHORE_DUE);
        run(rm_job_begin_chore(rm, RM_CHORE_START));
        for (unsigned i = 0; i < 8; i++)
                rm_space_open(rm, 1000 + i, &spaces[i]);
        n_sent = n_saves = n_pauses = 0;
        return 0;
}

static int setup(void **state) {
        return setup_with(&LIMITS);
}

static int teardown(void **state) {
        for (unsigned i = 0; i < 8; i++)
                rm_space_close(rm, spaces[i]);
        chores(RM_CHORE_DUE);
        chores(RM_CHORE_CLEANUP);
        /* Whatever a test did: nothing of it is left loaded. */
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        assert_int_equal(rm->n_residents, 0);
        free(block);
        inprocess_stop();
        return 0;
}

static void test_reads_what_the_tpm_can(void **state) {
        assert_true(rm_implements(rm, TPM2_CC_GetRandom));
        assert_false(rm_implements(rm, 0x20001000));
        assert_int_equal(rm_max_command(rm), 4096);
        assert_int_equal(rm->active_sessions_max, 64);
}

static void test_h1_same_handle_other_object(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE b = handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        Message name_a = succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, a));
        Message name_b = succeed(1, cmd_with_handle(TPM2_CC_ReadPublic, b));

        assert_int_equal(a, 0x80000000);
        assert_int_equal(b, 0x80000000);
        assert_int_equal(name_a.n, name_b.n);
        assert_memory_not_equal(name_a.bytes, name_b.bytes, name_a.n);
}

static void test_h2_foreign_handle_never_reaches_the_tpm(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        n_sent = 0;
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_ReadPublic, a)), 0xB0910);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_ContextSave, a)), 0xB0910);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_FlushContext, a)), RM_RC(RC_HANDLE_P1));
        assert_int_equal(n_sent, 0);
}

static void test_lowest_handle_is_reused(void **state) {
        TPM2_HANDLE handles[4];

        for (unsigned i = 0; i < 4; i++)
                handles[i] = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        assert_int_equal(handles[3], 0x80000003);
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, handles[1]));
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_FlushContext, handles[1])), RM_RC(RC_HANDLE_P1));
        assert_int_equal(handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 9)), handles[1]);
}

static void test_more_objects_than_slots(void **state) {
        Message names[8], name;

        for (unsigned i = 0; i < 8; i++) {
                TPM2_HANDLE handle = handle_of(i % 2, cmd_create_primary(TPM2_RH_OWNER, i));

                assert_int_equal(handle, 0x80000000 + i / 2);
                names[i] = succeed(i % 2, cmd_with_handle(TPM2_CC_ReadPublic, handle));
        }
        for (unsigned round = 0; round < 3; round++)
                for (unsigned i = 0; i < 8; i++) {
                        name = succeed(i % 2, cmd_with_handle(TPM2_CC_ReadPublic, 0x80000000 + i / 2));
                        assert_memory_equal(name.bytes, names[i].bytes, name.n);
                }
}

static void test_five_keys_in_turn_cost_two_commands_each(void **state) {
        for (unsigned i = 0; i < 5; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned i = 0; i < 15; i++)
                succeed(i % 5, cmd_hmac(0x80000000, "warm"));
        n_sent = 0;
        for (unsigned i = 0; i < 100; i++)
                succeed(i % 5, cmd_hmac(0x80000000, "turn"));
        assert_in_range(n_sent, 100, 220);
}

static void test_same_key_costs_one_command(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        n_sent = 0;
        for (unsigned i = 0; i < 100; i++)
                succeed(0, cmd_hmac(key, "same"));
        assert_int_equal(n_sent, 100);
}

static void test_h6_h7_saved_context_loads_anywhere_and_often(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message name = succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, a));
        Message saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, a));
        Message other;

        for (unsigned i = 0; i < 3; i++) {
                TPM2_HANDLE b = handle_of(1, load_context(&saved));

                assert_int_equal(b, 0x80000000 + i);
                other = succeed(1, cmd_with_handle(TPM2_CC_ReadPublic, b));
                assert_memory_equal(name.bytes, other.bytes, name.n);
        }
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, a));
        n_sent = 0;
        other = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, a));
        assert_int_equal(n_sent, 0);
        assert_int_equal(other.n, saved.n);
        assert_memory_equal(other.bytes, saved.bytes, saved.n);
}

static void test_f7_failed_complete_keeps_the_sequence(void **state) {
        Message digest;

        for (unsigned i = 0; i < 5; i++) {
                TPM2_HANDLE sequence = handle_of(0, cmd_hash_start());

                succeed(0, cmd_sequence_update(sequence, "abc"));
                assert_int_equal(rc_of(0, cmd_sequence_complete(sequence, 0x40000001 + 0x100)), 0x2C4);
                digest = succeed(0, cmd_sequence_complete(sequence, TPM2_RH_NULL));
                assert_int_equal(digest.bytes[16], 0xBA); /* SHA-256 of abc */
                assert_int_equal(rc_of(0, cmd_sequence_update(sequence, "abc")), 0xB0910);
        }
}

static void test_h15_sequences_keep_their_state(void **state) {
        Message first, other;

        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(handle_of(i, cmd_hash_start()), 0x80000000);
        for (unsigned k = 0; k < 4; k++)
                for (unsigned i = 0; i < 5; i++)
                        succeed(i, cmd_sequence_update(0x80000000, "abc"));
        first = succeed(0, cmd_sequence_complete(0x80000000, TPM2_RH_NULL));
        for (unsigned i = 1; i < 5; i++) {
                other = succeed(i, cmd_sequence_complete(0x80000000, TPM2_RH_NULL));
                assert_memory_equal(first.bytes, other.bytes, 48);
        }
}

static void test_hash_sequence_costs_no_more_than_its_commands(void **state) {
        for (unsigned i = 0; i < 20; i++) {
                TPM2_HANDLE sequence = handle_of(0, cmd_hash_start());

                for (unsigned k = 0; k < 8; k++)
                        succeed(0, cmd_sequence_update(sequence, "abc"));
                succeed(0, cmd_sequence_complete(sequence, TPM2_RH_NULL));
        }
        assert_int_equal(n_sent, 20 * 10);
}

static void test_h11_quota_is_exact_and_asked_first(void **state) {
        Message saved;

        for (unsigned i = 0; i < LIMITS.objects_per_space; i++)
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, 0x80000000));
        n_sent = 0;
        assert_int_equal(rc_of(0, cmd_create_primary(TPM2_RH_OWNER, 0)), 0xB0902);
        assert_int_equal(rc_of(0, cmd_hash_start()), 0xB0902);
        assert_int_equal(rc_of(0, load_context(&saved)), 0xB0902);
        assert_int_equal(n_sent, 0);
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, 0x80000003));
        assert_int_equal(handle_of(0, cmd_hash_start()), 0x80000003);
        assert_int_equal(rc_of(0, cmd_hash_start()), 0xB0902);
}

static void test_uid_share_of_objects(void **state) {
        uint32_t rc = TPM2_RC_SUCCESS;
        unsigned n = 0;

        for (unsigned i = 1; i < 4; i++) {
                rm_space_close(rm, spaces[i]);
                rm_space_open(rm, 1000, &spaces[i]);
        }
        while (rc == TPM2_RC_SUCCESS) {
                rc = rc_of(n / LIMITS.objects_per_space, cmd_create_primary(TPM2_RH_OWNER, n));
                n += rc == TPM2_RC_SUCCESS;
        }
        assert_int_equal(rc, 0xB0902);
        assert_int_equal(n, LIMITS.objects / 2);
        handle_of(5, cmd_create_primary(TPM2_RH_OWNER, 1));
}

static void test_h12_close_flushes(void **state) {
        for (unsigned i = 0; i < 5; i++)
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned i = 0; i < 5; i++)
                handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        rm_space_close(rm, spaces[0]);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 0);
        rm_space_open(rm, 1000, &spaces[0]);
}

static void test_create_and_load_under_a_parent(void **state) {
        TPM2_HANDLE parent = handle_of(0, cmd_create_primary_parent(TPM2_RH_OWNER));
        Message created;

        for (unsigned i = 0; i < 4; i++)
                handle_of(1, cmd_create_primary(TPM2_RH_OWNER, i));
        created = succeed(0, cmd_create(parent));
        for (unsigned i = 0; i < 4; i++)
                succeed(0, cmd_hmac(handle_of(0, cmd_load(parent, &created)), "child"));
}

static void test_create_learns_its_need(void **state) {
        TPM2_HANDLE parent = handle_of(0, cmd_create_primary_parent(TPM2_RH_OWNER));

        for (unsigned i = 0; i < 4; i++)
                handle_of(1, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned i = 0; i < 4; i++) { /* everything saved and learned */
                succeed(0, cmd_create(parent));
                for (unsigned k = 0; k < 4; k++)
                        succeed(1, cmd_hmac(0x80000000 + k, "x"));
        }
        /* Full again: one eviction, perhaps one load, the command; never a failed attempt. */
        n_sent = 0;
        succeed(0, cmd_create(parent));
        assert_in_range(n_sent, 1, 4);
}

static void test_sessions_are_their_owners(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        TestAuth auth = { session, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT };

        n_sent = 0;
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_PolicyGetDigest, session)), 0xB0910);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_ContextSave, session)), 0xB0910);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_FlushContext, session)), RM_RC(RC_HANDLE_P1));
        /* F10: the upper byte does not tell sessions apart */
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_FlushContext, session ^ 0x01000000)), RM_RC(RC_HANDLE_P1));
        assert_int_equal(rc_of(1, cmd_get_random_auth(4, &auth, 1)), 0xB0918);
        assert_int_equal(n_sent, 0);
        succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, session));
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_FlushContext, session)), RM_RC(RC_HANDLE_P1));
}

static void test_more_sessions_than_slots(void **state) {
        TPM2_HANDLE sessions[12];

        for (unsigned i = 0; i < 12; i++)
                sessions[i] = handle_of(i % 3, cmd_start_session(TPM2_SE_POLICY));
        for (unsigned round = 0; round < 3; round++)
                for (unsigned i = 0; i < 12; i++)
                        succeed(i % 3, cmd_policy_pcr(sessions[i]));
        for (unsigned i = 0; i < 12; i++)
                succeed(i % 3, cmd_with_handle(TPM2_CC_FlushContext, sessions[i]));
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 0);
}

static void test_policy_run_costs_four(void **state) {
        for (unsigned i = 0; i < 50; i++) {
                TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

                succeed(0, cmd_policy_pcr(session));
                succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
                succeed(0, cmd_with_handle(TPM2_CC_FlushContext, session));
        }
        assert_int_equal(n_sent, 200);
}

static void test_s5_s6_f8_continue_session(void **state) {
        for (unsigned i = 0; i < 5; i++) {
                TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
                TestAuth auth = { session, TPMA_SESSION_AUDIT };
                Message truncated = cmd_get_random_auth(4, &auth, 1);

                truncated.n--;
                tpm_put_u32(truncated.bytes + 2, truncated.n);
                assert_int_equal(rc_of(0, truncated), 0x1DA);
                succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
                rm_session_doom(rm, rm_session_find(rm, session));
        }
}

static void test_continue_session_clear_ends_it(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        TestAuth auth = { session, TPMA_SESSION_AUDIT };

        succeed(0, cmd_get_random_auth(4, &auth, 1));
        assert_int_equal(rm->n_sessions_used, 0);
        assert_int_equal(rc_of(0, cmd_get_random_auth(4, &auth, 1)), 0xB0918);
}

static void test_s7_s8_s9_tokens(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        Message first = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        Message prefix = load_context(&first);
        Message second;

        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ContextSave, session)), 0xB0910);
        assert_int_equal(rc_of(0, cmd_policy_pcr(session)), 0xB0910);
        assert_int_equal(handle_of(0, load_context(&first)), session);
        assert_int_equal(rc_of(0, load_context(&first)), RM_RC(RC_HANDLE_P1));
        assert_int_equal(rc_of(1, load_context(&first)), RM_RC(RC_HANDLE_P1));
        succeed(0, cmd_policy_pcr(session));

        second = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        assert_memory_not_equal(first.bytes, second.bytes, second.n);
        assert_int_equal(rc_of(1, load_context(&first)), RM_RC(RC_HANDLE_P1));
        /* F11: a guess that is well formed but has other contents */
        prefix = load_context(&second);
        prefix.bytes[prefix.n - 1] ^= 1;
        assert_int_equal(rc_of(1, prefix), RM_RC(RC_HANDLE_P1));
        /* whoever holds the whole of it has the session; F2: bytes behind it are refused by the TPM */
        prefix = load_context(&second);
        prefix.bytes[prefix.n++] = 0;
        tpm_put_u32(prefix.bytes + 2, prefix.n);
        assert_int_equal(rc_of(1, prefix), 0x95);
        assert_int_equal(handle_of(1, load_context(&second)), session);
        assert_int_equal(rc_of(0, cmd_policy_pcr(session)), 0xB0910);
        succeed(1, cmd_policy_pcr(session));
}

static void test_s11_abandoned_sessions_load_once_each(void **state) {
        Message saved[20];

        for (unsigned i = 0; i < 20; i++) {
                TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

                saved[i] = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
                rm_space_close(rm, spaces[0]);
                chores(RM_CHORE_CLEANUP);
                rm_space_open(rm, 1000, &spaces[0]);
        }
        for (unsigned i = 0; i < 20; i++) {
                succeed(1, load_context(&saved[i]));
                assert_int_equal(rc_of(1, load_context(&saved[i])), RM_RC(RC_HANDLE_P1));
        }
}

static void test_s15_abandoned_make_room(void **state) {
        for (unsigned i = 0; i < 70; i++) {
                TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

                succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
                rm_space_close(rm, spaces[0]);
                chores(RM_CHORE_CLEANUP);
                rm_space_open(rm, 1000, &spaces[0]);
        }
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 56); /* 64 less 8 */
        for (unsigned i = 0; i < 40; i++)
                handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        for (unsigned i = 0; i < 24; i++)
                handle_of(2, cmd_start_session(TPM2_SE_HMAC));
}

static void test_s13_session_quotas(void **state) {
        unsigned n = 0;
        uint32_t rc;

        for (unsigned i = 0; i < LIMITS.sessions_per_space; i++)
                handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        assert_int_equal(rc_of(0, cmd_start_session(TPM2_SE_HMAC)), 0xB0903);
        rm_space_close(rm, spaces[1]);
        rm_space_open(rm, 1000, &spaces[1]); /* the same uid */
        do {
                rc = rc_of(1, cmd_start_session(TPM2_SE_HMAC));
                n += rc == TPM2_RC_SUCCESS;
        } while (rc == TPM2_RC_SUCCESS);
        assert_int_equal(rc, 0xB0905);
        assert_int_equal(LIMITS.sessions_per_space + n, 64 - 8);
        handle_of(2, cmd_start_session(TPM2_SE_HMAC));
}

static void test_leftover_sessions(void **state) {
        Message started = direct(cmd_start_session(TPM2_SE_POLICY));
        TPM2_HANDLE session = message_handle(&started);
        Message saved = direct(cmd_with_handle(TPM2_CC_ContextSave, session));

        rm_space_close(rm, spaces[0]);
        memset(block, 0, n_block);
        rm = rm_init(block, &LIMITS);
        run(rm_job_begin_chore(rm, RM_CHORE_START));
        for (unsigned i = 0; i < 8; i++)
                rm_space_open(rm, 1000 + i, &spaces[i]);
        assert_int_equal(rm->sessions[0].state, RM_SESSION_LEFTOVER);
        assert_int_equal(handle_of(0, load_context(&saved)), session);
        succeed(0, cmd_policy_pcr(session));
}

static void test_leftover_sessions_go_first(void **state) {
        for (unsigned i = 0; i < 60; i++) {
                Message started = direct(cmd_start_session(TPM2_SE_POLICY));

                direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&started)));
        }
        rm->due_reconcile = true;
        for (unsigned i = 0; i < 40; i++)
                handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        for (unsigned i = 0; i < 16; i++)
                handle_of(1, cmd_start_session(TPM2_SE_POLICY));
}

static void test_start_clears_what_was_left_loaded(void **state) {
        direct(cmd_hash_start());
        direct(cmd_hash_start());
        direct(cmd_start_session(TPM2_SE_HMAC));
        run(rm_job_begin_chore(rm, RM_CHORE_START));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
}

static unsigned count_handles(const Message *list, uint8_t *ret_more) {
        TpmReader reader = TPM_READER(list->bytes, list->n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE);
        *ret_more = tpm_read_u8(&reader);
        tpm_read_u32(&reader);
        return tpm_read_u32(&reader);
}

static void test_c1_c2_lists_are_the_clients_own(void **state) {
        Message list;
        uint8_t more;
        TPM2_HANDLE session;

        for (unsigned i = 0; i < 5; i++)
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        n_sent = 0;
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 254));
        assert_int_equal(count_handles(&list, &more), 5);
        assert_int_equal(more, 0);
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000001, 3));
        assert_int_equal(count_handles(&list, &more), 3);
        assert_int_equal(more, 1);
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 0));
        assert_int_equal(count_handles(&list, &more), 0);
        assert_int_equal(more, 1);
        list = succeed(1, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 254));
        assert_int_equal(count_handles(&list, &more), 0);
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x02000000, 254));
        assert_int_equal(count_handles(&list, &more), 1);
        list = succeed(1, cmd_get_capability(TPM2_CAP_HANDLES, 0x02000000, 254));
        assert_int_equal(count_handles(&list, &more), 0);
        assert_int_equal(n_sent, 0);
        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x03000000, 254));
        assert_int_equal(count_handles(&list, &more), 1);
        /* the PCRs are everybody's */
        n_sent = 0;
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0, 4));
        assert_int_equal(count_handles(&list, &more), 4);
        assert_int_equal(n_sent, 1);
}

static void test_f1_refused_capability(void **state) {
        assert_int_equal(rc_of(0, cmd_simple(TPM2_CC_GetCapability)), 0x1DA);
        assert_int_equal(rc_of(0, cmd_get_capability(0x99, 0, 1)), 0x1C4);
}

static void test_malformed_commands_are_the_tpms_to_refuse(void **state) {
        Message sessions, command;
        TestAuth auth = { TPM2_RH_PW, 0 };

        for (unsigned n = TPM_HEADER_SIZE; n < 40; n++) {
                command = cmd_hmac(0x80000000, "a long enough text");
                command.n = n;
                tpm_put_u32(command.bytes + 2, n);
                assert_int_not_equal(rc_of(0, command), TPM2_RC_SUCCESS);
        }
        assert_int_equal(rc_of(0, cmd_simple(0x1FE)), 0x143);
        assert_int_equal(rc_of(0, cmd_with_handle(0x20001000, 0x80000000)), 0x143);
        command = cmd_get_random(4);
        command.bytes[1] = 0x77;
        assert_int_equal(rc_of(0, command), 0x84);
        /* F3: a nonce that is longer than everything */
        sessions = cmd_get_random_auth(4, &auth, 1);
        sessions.bytes[18] = sessions.bytes[19] = 0xFF;
        assert_int_not_equal(rc_of(0, sessions), TPM2_RC_SUCCESS);
        succeed(0, cmd_get_random(4));
}

static void test_s18_context_commands_with_sessions(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message flush = cmd_with_handle(TPM2_CC_FlushContext, key);
        Message bare;

        flush.bytes[1] = 0x02;
        bare = direct(flush);
        assert_int_equal(rc_of(0, flush), message_rc(&bare));
        flush = cmd_with_handle(TPM2_CC_FlushContext, key);
        flush.bytes[flush.n++] = 0;
        tpm_put_u32(flush.bytes + 2, flush.n);
        assert_int_equal(rc_of(0, flush), 0x95);
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, key));
}

/* Resends */

static unsigned n_retries;
static uint32_t retry_rc;
static TPM2_CC retry_code;
static Message retried;

static bool answer_retry(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);
        TpmWriter writer = TPM_WRITER(ret_response->bytes, sizeof(ret_response->bytes));

        if (tpm_read_header(&reader).code != retry_code)
                return false;
        if (retried.n > 0) {
                assert_int_equal(retried.n, command->n);
                assert_memory_equal(retried.bytes, command->bytes, command->n);
        }
        retried = *command;
        if (n_retries == 0)
                return false;
        n_retries--;
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, retry_rc);
        ret_response->n = tpm_write_end(&writer);
        return true;
}

static void test_x4_retry_sends_the_original_bytes_again(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        const uint32_t RCS[] = { TPM2_RC_RETRY, TPM2_RC_TESTING, TPM2_RC_YIELDED };

        intercept = answer_retry;
        for (unsigned i = 0; i < 3; i++) {
                retried.n = 0;
                n_retries = 3;
                n_pauses = 0;
                retry_rc = RCS[i];
                retry_code = TPM2_CC_HMAC;
                succeed(0, cmd_hmac(key, "again"));
                assert_int_equal(n_pauses, 3);
        }
        retried.n = 0;
        n_retries = 1000;
        assert_int_equal(rc_of(0, cmd_hmac(key, "again")), TPM2_RC_YIELDED);
        n_retries = 0;
}

static void test_retry_on_our_own_commands(void **state) {
        intercept = answer_retry;
        retry_rc = TPM2_RC_RETRY;
        for (unsigned i = 0; i < 3; i++) {
                retry_code = (TPM2_CC[]){ TPM2_CC_ContextLoad, TPM2_CC_ContextSave, TPM2_CC_FlushContext }[i];
                for (unsigned k = 0; k < 8; k++) {
                        retried.n = 0;
                        n_retries = 2;
                        if (i == 0 && rm_space(rm, spaces[k])->n_objects == 0)
                                handle_of(k, cmd_create_primary(TPM2_RH_OWNER, k));
                        retried.n = 0;
                        if (i > 0)
                                succeed(k, cmd_sequence_update(handle_of(k, cmd_hash_start()), "x"));
                        retried.n = 0;
                        succeed(k, cmd_hmac(0x80000000, "x"));
                }
        }
        n_retries = 0;
        retried.n = 0;
        intercept = NULL;
}

/* A warning in the middle of a chain of repairs: the resent command is the original, with new handles. */
static bool answer_memory_once(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);
        TpmWriter writer = TPM_WRITER(ret_response->bytes, sizeof(ret_response->bytes));

        if (tpm_read_header(&reader).code != TPM2_CC_HMAC || n_retries == 0)
                return false;
        n_retries--;
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, retry_rc);
        ret_response->n = tpm_write_end(&writer);
        return true;
}

static void test_h14_memory_warnings_evict(void **state) {
        const uint32_t RCS[] = { TPM2_RC_OBJECT_MEMORY, TPM2_RC_OBJECT_HANDLES, TPM2_RC_MEMORY,
                                 TPM2_RC_SESSION_MEMORY };

        intercept = answer_memory_once;
        for (unsigned i = 0; i < 3; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned i = 0; i < 2; i++)
                handle_of(i, cmd_start_session(TPM2_SE_HMAC));
        for (unsigned i = 0; i < 4; i++) {
                n_retries = 1;
                retry_rc = RCS[i];
                succeed(i % 3, cmd_hmac(0x80000000, "memory"));
                for (unsigned k = 0; k < 3; k++)
                        succeed(k, cmd_hmac(0x80000000, "memory"));
        }
        /* hopeless: its code is passed on, the second time at once */
        n_retries = 100;
        retry_rc = TPM2_RC_OBJECT_MEMORY;
        assert_int_equal(rc_of(0, cmd_hmac(0x80000000, "memory")), TPM2_RC_OBJECT_MEMORY);
        n_sent = 0;
        assert_int_equal(rc_of(0, cmd_hmac(0x80000000, "memory")), TPM2_RC_OBJECT_MEMORY);
        assert_in_range(n_sent, 1, 2);
        n_retries = 0;
        succeed(0, cmd_hmac(0x80000000, "memory"));
}

static void test_h14_neighbour_fills_the_slots(void **state) {
        TPM2_HANDLE foreign[3];
        Message response;

        for (unsigned i = 0; i < 3; i++) {
                response = direct(cmd_hash_start());
                foreign[i] = message_handle(&response);
        }
        assert_int_equal(rc_of(0, cmd_create_primary(TPM2_RH_OWNER, 1)), TPM2_RC_OBJECT_MEMORY);
        direct(cmd_with_handle(TPM2_CC_FlushContext, foreign[0]));
        handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        succeed(0, cmd_hmac(0x80000000, "x"));
        succeed(1, cmd_hmac(0x80000000, "x"));
        direct(cmd_with_handle(TPM2_CC_FlushContext, foreign[1]));
        direct(cmd_with_handle(TPM2_CC_FlushContext, foreign[2]));
        /* All three slots are used again: nothing was learned from the neighbour. */
        for (unsigned i = 0; i < 2; i++)
                for (unsigned k = 0; k < 3; k++) {
                        if (i == 0 && k == 2)
                                handle_of(k, cmd_create_primary(TPM2_RH_OWNER, k));
                        succeed(k, cmd_hmac(0x80000000, "x"));
                }
        assert_int_equal(rm->n_residents, 3);
}

/* Stale tables and the alias rule */

static void test_x6_neighbour_flushes_what_is_saved(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, a));
        check_claims = false;
        direct(cmd_with_handle(TPM2_CC_FlushContext, 0x80000000));
        succeed(0, cmd_hmac(a, "back from the copy"));
        direct(cmd_with_handle(TPM2_CC_FlushContext, 0x80000000));
        check_claims = true;
        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        succeed(0, cmd_hmac(a, "and again"));
}

static void test_x6_neighbour_flushes_what_was_never_saved(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        check_claims = false;
        direct(cmd_with_handle(TPM2_CC_FlushContext, 0x80000000));
        assert_int_equal(rc_of(0, cmd_hmac(a, "gone")), 0x910);
        assert_int_equal(rc_of(0, cmd_hmac(a, "gone")), 0xB0910);
}

static void test_alias_after_reset_never_reaches_another_key(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE b;
        Message mine, theirs;

        check_claims = false;
        inprocess_reset();
        direct(cmd_startup(TPM2_SU_CLEAR));
        b = handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        check_claims = true;
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ReadPublic, a)), 0xB0910);
        mine = succeed(1, cmd_with_handle(TPM2_CC_ReadPublic, b));
        a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        theirs = succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, a));
        assert_memory_not_equal(mine.bytes, theirs.bytes, mine.n);
        succeed(1, cmd_with_handle(TPM2_CC_ReadPublic, b));
}

static void test_h10_f15_clear(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE b = handle_of(1, cmd_create_primary(TPM2_RH_NULL, 2));
        TPM2_HANDLE c = handle_of(2, cmd_create_primary(TPM2_RH_OWNER, 3));
        Message list, saved;
        uint8_t more;

        saved = succeed(2, cmd_with_handle(TPM2_CC_ContextSave, c));
        succeed(3, cmd_clear());
        list = succeed(2, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 254));
        assert_int_equal(count_handles(&list, &more), 0);
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 254));
        assert_int_equal(count_handles(&list, &more), 0);
        succeed(1, cmd_hmac(b, "still there"));
        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 4));
        n_sent = 0;
        assert_int_equal(rc_of(0, cmd_hmac(a, "gone")), 0xB0910);
        assert_int_equal(rc_of(2, cmd_hmac(c, "gone")), 0xB0910);
        assert_int_equal(n_sent, 0);
        assert_int_equal(rc_of(2, load_context(&saved)), 0x1DF);
}

static void test_p6_hierarchy_off_and_on(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, a));

        succeed(1, cmd_hierarchy_control(TPM2_RH_OWNER, TPM2_NO));
        assert_int_equal(rc_of(0, cmd_hmac(a, "off")), 0xB0910);
        assert_int_equal(rc_of(0, load_context(&saved)), 0x1C5);
        inprocess_reset();
        direct(cmd_startup(TPM2_SU_CLEAR));
        rm_forget_residents(rm);
        chores(RM_CHORE_DUE);
}

static void test_reset_that_was_noticed(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));

        for (unsigned i = 0; i < 4; i++)
                handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        inprocess_reset();
        rm_forget_residents(rm);
        assert_int_equal(rc_of(0, cmd_hmac(key, "gone")), 0xB0910);
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_FlushContext, session)), RM_RC(RC_HANDLE_P1));
        assert_int_equal(rm->n_sessions_used, 0);
        handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
}

/* Lost answers */

static void lose_answer(unsigned client, Message command, bool executed) {
        RmOutput output;
        RmJob *job;

        chores(RM_CHORE_DUE);
        job = rm_job_begin(rm, spaces[client], command.bytes, command.n);
        while (rm_job_step(rm, job, NULL, 0, &output) == RM_STEP_TRANSMIT && !output.own_command) {
                Message inner, response;

                memcpy(inner.bytes, output.bytes, output.n_bytes);
                inner.n = output.n_bytes;
                response = direct(inner);
                rm_job_step(rm, job, response.bytes, response.n, &output);
                if (output.own_command)
                        break;
        }
        assert_true(output.own_command);
        if (executed) {
                Message own;

                memcpy(own.bytes, output.bytes, output.n_bytes);
                own.n = output.n_bytes;
                direct(own);
        }
        assert_no_false_claim();
        rm_job_lost(rm, job, &output);
        assert_int_equal(output.rc, RM_RC(TPM2_RC_FAILURE));
        assert_int_equal(output.n_bytes, TPM_HEADER_SIZE);
}

static void test_lost_answers_are_reconciled(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        TestAuth auth = { session, TPMA_SESSION_AUDIT };

        for (unsigned executed = 0; executed < 2; executed++) {
                lose_answer(0, cmd_create_primary(TPM2_RH_OWNER, 2), executed);
                lose_answer(1, cmd_start_session(TPM2_SE_HMAC), executed);
                succeed(0, cmd_hmac(key, "still there"));
                assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 1);
                lose_answer(0, cmd_with_handle(TPM2_CC_ContextSave, key), executed);
                succeed(0, cmd_hmac(key, "still there"));
        }
        lose_answer(0, cmd_get_random_auth(4, &auth, 1), true);
        assert_int_equal(rc_of(0, cmd_get_random_auth(4, &auth, 1)), 0xB0918);
        lose_answer(0, cmd_with_handle(TPM2_CC_FlushContext, key), false);
        succeed(1, cmd_get_random(1));
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
}

static bool answer_nonsense(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);

        if (tpm_read_header(&reader).code != retry_code || n_retries == 0)
                return false;
        n_retries--;
        *ret_response = direct(*command);
        ret_response->n -= 1;
        tpm_put_u32(ret_response->bytes + 2, ret_response->n);
        return true;
}

static void test_malformed_answers(void **state) {
        intercept = answer_nonsense;
        n_retries = 1;
        retry_code = TPM2_CC_CreatePrimary;
        assert_int_equal(rc_of(0, cmd_create_primary(TPM2_RH_OWNER, 2)), RM_RC(TPM2_RC_FAILURE));
        succeed(0, cmd_get_random(1));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        for (unsigned i = 0; i < 5; i++)
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        n_retries = 1;
        retry_code = TPM2_CC_ContextLoad;
        for (unsigned i = 0; i < 5; i++)
                call(0, cmd_hmac(0x80000000 + i, "x"));
        for (unsigned i = 0; i < 5; i++)
                call(0, cmd_hmac(0x80000000 + i, "x"));
}

/* Chores */

static void test_idle_chores(void **state) {
        for (unsigned i = 0; i < 3; i++) {
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
                handle_of(i, cmd_start_session(TPM2_SE_HMAC));
        }
        chores(RM_CHORE_SAVE);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 3);
        n_sent = 0;
        chores(RM_CHORE_SAVE);
        assert_int_equal(n_sent, 0);
        rm_set_reserve(rm, 2);
        chores(RM_CHORE_RESERVE);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 1);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 1);
        chores(RM_CHORE_EVICT);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        for (unsigned i = 0; i < 3; i++)
                succeed(i, cmd_hmac(0x80000000, "back"));
}

static void test_s17_context_gap(void **state) {
        TPM2_HANDLE idle[4], busy[4];

        check_claims = false; /* half a million commands */
        for (unsigned i = 0; i < 4; i++) {
                idle[i] = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
                busy[i] = handle_of(1, cmd_start_session(TPM2_SE_POLICY));
        }
        for (unsigned i = 0; i < 4; i++)
                succeed(0, cmd_policy_pcr(idle[i]));
        /* Twice around the gap of 65,535. */
        for (unsigned i = 0; n_saves < 140000; i++)
                if (rc_of(1, cmd_with_handle(TPM2_CC_PolicyGetDigest, busy[i % 4])) != TPM2_RC_SUCCESS)
                        fail_msg("after %u", i);
        for (unsigned i = 0; i < 4; i++)
                succeed(0, cmd_policy_pcr(idle[i]));
        check_claims = true;
}

static void test_paused_job_lets_others_pass(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message command = cmd_hmac(key, "paused");
        Message response;
        RmOutput output;
        RmJob *job = rm_job_begin(rm, spaces[0], command.bytes, command.n);
        TpmWriter writer = TPM_WRITER(response.bytes, sizeof(response.bytes));

        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_RETRY);
        response.n = tpm_write_end(&writer);
        assert_int_equal(rm_job_step(rm, job, response.bytes, response.n, &output), RM_STEP_PAUSE);
        assert_true(output.yielding);
        for (unsigned i = 1; i < 6; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        response = run(job);
        assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
}

static void test_cancelled_before_it_was_sent(void **state) {
        TPM2_HANDLE sequence = handle_of(0, cmd_hash_start());
        Message command = cmd_sequence_complete(sequence, TPM2_RH_NULL);
        RmOutput output;
        RmJob *job;

        for (unsigned i = 1; i < 5; i++) /* so that it must be loaded again */
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned n_steps = 0; n_steps < 3; n_steps++) {
                job = rm_job_begin(rm, spaces[0], command.bytes, command.n);
                assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
                for (unsigned i = 0; i < n_steps && !output.own_command; i++) {
                        Message inner, response;

                        memcpy(inner.bytes, output.bytes, output.n_bytes);
                        inner.n = output.n_bytes;
                        response = direct(inner);
                        rm_job_step(rm, job, response.bytes, response.n, &output);
                }
                rm_job_cancel(rm, job, TPM2_RC_CANCELED, &output);
                assert_int_equal(output.rc, TPM2_RC_CANCELED);
                assert_false(rm->due_reconcile);
                assert_no_false_claim();
                for (uint32_t k = 0; k < rm->n_residents; k++)
                        assert_int_equal(rm_object(rm, rm->residents[k])->residency, RM_RESIDENT);
        }
        succeed(0, command);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                TEST(test_reads_what_the_tpm_can),
                TEST(test_h1_same_handle_other_object),
                TEST(test_h2_foreign_handle_never_reaches_the_tpm),
                TEST(test_lowest_handle_is_reused),
                TEST(test_more_objects_than_slots),
                TEST(test_five_keys_in_turn_cost_two_commands_each),
                TEST(test_same_key_costs_one_command),
                TEST(test_h6_h7_saved_context_loads_anywhere_and_often),
                TEST(test_f7_failed_complete_keeps_the_sequence),
                TEST(test_h15_sequences_keep_their_state),
                TEST(test_hash_sequence_costs_no_more_than_its_commands),
                TEST(test_h11_quota_is_exact_and_asked_first),
                TEST(test_uid_share_of_objects),
                TEST(test_h12_close_flushes),
                TEST(test_create_and_load_under_a_parent),
                TEST(test_create_learns_its_need),
                TEST(test_sessions_are_their_owners),
                TEST(test_more_sessions_than_slots),
                TEST(test_policy_run_costs_four),
                TEST(test_s5_s6_f8_continue_session),
                TEST(test_continue_session_clear_ends_it),
                TEST(test_s7_s8_s9_tokens),
                TEST(test_s11_abandoned_sessions_load_once_each),
                TEST(test_s15_abandoned_make_room),
                TEST(test_s13_session_quotas),
                TEST(test_leftover_sessions),
                TEST(test_leftover_sessions_go_first),
                TEST(test_start_clears_what_was_left_loaded),
                TEST(test_c1_c2_lists_are_the_clients_own),
                TEST(test_f1_refused_capability),
                TEST(test_malformed_commands_are_the_tpms_to_refuse),
                TEST(test_s18_context_commands_with_sessions),
                TEST(test_x4_retry_sends_the_original_bytes_again),
                TEST(test_retry_on_our_own_commands),
                TEST(test_h14_memory_warnings_evict),
                TEST(test_h14_neighbour_fills_the_slots),
                TEST(test_x6_neighbour_flushes_what_is_saved),
                TEST(test_x6_neighbour_flushes_what_was_never_saved),
                TEST(test_alias_after_reset_never_reaches_another_key),
                TEST(test_h10_f15_clear),
                TEST(test_p6_hierarchy_off_and_on),
                TEST(test_reset_that_was_noticed),
                TEST(test_lost_answers_are_reconciled),
                TEST(test_malformed_answers),
                TEST(test_idle_chores),
                TEST(test_s17_context_gap),
                TEST(test_paused_job_lets_others_pass),
                TEST(test_cancelled_before_it_was_sent),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
