/* SPDX-License-Identifier: BSD-2-Clause */

/* Objects; see test-rm.h. */
#include "resmgr/test-rm.h"

static void test_reads_what_the_tpm_can(void **state) {
        assert_true(rm_implements(rm, TPM2_CC_GetRandom));
        assert_false(rm_implements(rm, 0x20001000));
        assert_int_equal(rm_max_command(rm), 4096);
        assert_int_equal(report().sessions_max, 64);
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

/* Fails the test when the TPM is sent the handle of client 0's key. */
static bool see_handle(const Message *command, Message *ret_response) {
        assert_int_not_equal(message_handle(command), 0x80000000);
        return false;
}

static void test_h2_foreign_handle_never_reaches_the_tpm(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        n_sent = 0;
        intercept = see_handle;
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_ReadPublic, a)), 0xB0910);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_ContextSave, a)), 0xB0910);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_FlushContext, a)), RM_RC(RC_HANDLE_P1));
        assert_int_equal(n_sent, 2);
        intercept = NULL;
}

static void test_h5_flushed_handle_is_unknown_and_reused(void **state) {
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

/* Each is used four times in a row, which is one visit: a key that stays is worth as much as without that. */
static void test_five_keys_in_batches_cost_half_a_move_each(void **state) {
        for (unsigned i = 0; i < 5; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned i = 0; i < 100; i++)
                succeed(i / 4 % 5, cmd_hmac(0x80000000, "warm"));
        n_sent = 0;
        for (unsigned i = 0; i < 400; i++)
                succeed(i / 4 % 5, cmd_hmac(0x80000000, "turn"));
        assert_in_range(n_sent, 400, 400 + 110); /* least recently used: 600 */
}

/* Keys that were in use for long, and are not any more, make room for those that are. */
static void test_a_set_that_left_makes_room(void **state) {
        for (unsigned i = 0; i < 6; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned set = 0; set < 8; set++) {
                for (unsigned i = 0; i < 60; i++)
                        succeed(set % 2 * 3 + i % 3, cmd_hmac(0x80000000, "use"));
                if (set == 1)
                        n_sent = 0;
        }
        assert_in_range(n_sent, 360, 360 + 6 * (3 * 2 + 1)); /* three loads and flushes for a set */
}

static uint64_t saves_take_long(TPM2_CC code) {
        return code == TPM2_CC_ContextSave ? 50000 : code == TPM2_CC_ContextLoad ? 10000 : 1000;
}

/* In turns, the last one used leaves; but a sequence has to be saved for that, and a key that has a copy has not. */
static void test_what_is_dear_to_move_stays(void **state) {
        took = saves_take_long;
        for (unsigned i = 0; i < 5; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned i = 0; i < 15; i++)
                succeed(i % 5, cmd_hmac(0x80000000, "learn"));
        for (unsigned i = 2; i < 5; i++)
                succeed(i, cmd_with_handle(TPM2_CC_FlushContext, 0x80000000));
        handle_of(2, cmd_hash_start());
        for (unsigned i = 0; i < 10; i++) {
                succeed(0, cmd_hmac(0x80000000, "turn"));
                succeed(1, cmd_hmac(0x80000000, "turn"));
                succeed(2, cmd_sequence_update(0x80000000, "turn"));
        }
        n_saves = 0;
        handle_of(3, cmd_create_primary(TPM2_RH_OWNER, 3));
        assert_int_equal(n_saves, 0);
        n_sent = 0;
        succeed(2, cmd_sequence_update(0x80000000, "still there"));
        assert_int_equal(n_sent, 1);
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

static void test_f7_h8_failed_complete_keeps_the_sequence(void **state) {
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

static void test_h11_f14_quota_is_exact_and_asked_first(void **state) {
        TPM2_HANDLE parent = handle_of(0, cmd_create_primary_parent(TPM2_RH_OWNER));
        Message created = succeed(0, cmd_create(parent));
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, key));

        for (unsigned i = 2; i < LIMITS.objects_per_space; i++)
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, parent));
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, key));
        n_sent = 0;
        assert_int_equal(rc_of(0, cmd_create_primary(TPM2_RH_OWNER, 0)), 0xB0902);
        assert_int_equal(rc_of(0, cmd_hash_start()), 0xB0902);
        assert_int_equal(rc_of(0, load_context(&saved)), 0xB0902);
        assert_int_equal(rc_of(0, cmd_load_external()), 0xB0902);
        assert_int_equal(rc_of(0, cmd_load(parent, &created)), 0xB0902);
        assert_int_equal(rc_of(0, cmd_create_loaded(parent)), 0xB0902);
        assert_int_equal(rc_of(0, cmd_hmac_start(key)), 0xB0902);
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

static void test_x2_malformed_commands_are_the_tpms_to_refuse(void **state) {
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
        rm_set_reserve(rm, 2, 2);
        chores(RM_CHORE_RESERVE);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 1);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 1);
        chores(RM_CHORE_EVICT);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        for (unsigned i = 0; i < 3; i++)
                succeed(i, cmd_hmac(0x80000000, "back"));
}

/* What others use is free at any time, not only once nobody waits any more. */
static void test_reserve_is_kept_while_clients_take_turns(void **state) {
        rm_set_reserve(rm, 2, 2);
        for (unsigned turn = 0; turn < 3; turn++)
                for (unsigned i = 0; i < 3; i++) {
                        if (turn == 0) {
                                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
                                handle_of(i, cmd_start_session(TPM2_SE_HMAC));
                        }
                        succeed(i, cmd_hmac(0x80000000, "turn"));
                        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 1);
                        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 1);
                }
        /* A command that needs more than that gets it. */
        handle_of(0, cmd_hmac_start(0x80000000));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 2);
}

/* It rises and falls while clients are at work, for each kind by itself. */
static void test_reserve_by_kind(void **state) {
        for (unsigned i = 0; i < 3; i++) {
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));
                handle_of(i, cmd_start_session(TPM2_SE_HMAC));
        }
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 3);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 3);
        rm_set_reserve(rm, 2, 0);
        chores(RM_CHORE_RESERVE);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 1);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 3);
        rm_set_reserve(rm, 0, 1);
        chores(RM_CHORE_RESERVE);
        for (unsigned i = 0; i < 3; i++)
                succeed(i, cmd_hmac(0x80000000, "all"));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 3);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 2);
}

/* Of two things that are wrong, the TPM names the first: a key is no PCR. */
static void test_h3_unknown_handle_n_is_reference_n(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        assert_int_equal(rc_of(0, cmd_hmac(0x80000077, "x")), 0xB0910);
        assert_int_equal(rc_of(0, cmd_event_complete(1, 0x80000077)), 0xB0911);
        assert_int_equal(rc_of(0, cmd_event_complete(key, 0x80000077)), 0x184);
}

/* All eight commands that return a handle, while the slots are full of other things. */
static void test_h4_all_that_return_a_handle(void **state) {
        TPM2_HANDLE parent = handle_of(0, cmd_create_primary_parent(TPM2_RH_OWNER));
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message created = succeed(0, cmd_create(parent));
        Message saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, key));
        TPM2_HANDLE session;

        for (unsigned i = 0; i < 4; i++)
                handle_of(1, cmd_create_primary(TPM2_RH_OWNER, i));
        assert_int_equal(handle_of(0, cmd_load(parent, &created)), 0x80000002);
        assert_int_equal(handle_of(0, cmd_load_external()), 0x80000003);
        assert_int_equal(handle_of(0, cmd_create_loaded(parent)), 0x80000004);
        assert_int_equal(handle_of(0, cmd_hmac_start(key)), 0x80000005);
        assert_int_equal(handle_of(0, cmd_hash_start()), 0x80000006);
        assert_int_equal(handle_of(0, load_context(&saved)), 0x80000007);
        session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        assert_int_equal(session >> TPM2_HR_SHIFT, TPM2_HT_POLICY_SESSION);
        for (unsigned i = 0; i < 8; i++)
                if (i != 5 && i != 6)
                        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, 0x80000000 + i));
}

/* F16: PCR 0 is handle value 0, and the sequence is the second handle. */
static void test_h9_f16_event_sequence(void **state) {
        Message start = cmd_hash_start();
        TPM2_HANDLE sequence;

        start.bytes[start.n - 1] = TPM2_ALG_NULL; /* an event sequence */
        sequence = handle_of(0, start);
        for (unsigned i = 0; i < 3; i++)
                handle_of(1, cmd_create_primary(TPM2_RH_OWNER, i));
        succeed(0, cmd_sequence_update(sequence, "event"));
        succeed(0, cmd_event_complete(0, sequence));
        assert_int_equal(rc_of(0, cmd_sequence_update(sequence, "event")), 0xB0910);
}

static void test_h13_h17_persistent_objects_when_all_slots_are_full(void **state) {
        const TPM2_HANDLE persistent = 0x81000001;
        TPM2_HANDLE parent = handle_of(0, cmd_create_primary_parent(TPM2_RH_OWNER));
        Message created = succeed(0, cmd_create(parent));

        succeed(0, cmd_evict_control(parent, persistent));
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, parent)); /* it stays what it was */
        for (unsigned round = 0; round < 2; round++) {
                for (unsigned i = 0; i < 3; i++)
                        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, i));
                succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, persistent));
                for (unsigned i = 0; i < 3; i++)
                        succeed(1, cmd_hmac(0x80000000 + i, "fill the slots"));
                succeed(0, cmd_hmac(handle_of(0, cmd_load(persistent, &created)), "under a persistent parent"));
        }
        succeed(0, cmd_evict_control(persistent, persistent));
        assert_int_not_equal(rc_of(0, cmd_with_handle(TPM2_CC_ReadPublic, persistent)), 0);
}

/* H16: what cannot be saved is not flushed. */
static bool refuse_to_save(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);
        TpmWriter writer = TPM_WRITER(ret_response->bytes, sizeof(ret_response->bytes));

        if (tpm_read_header(&reader).code != TPM2_CC_ContextSave)
                return false;
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_TOO_MANY_CONTEXTS);
        ret_response->n = tpm_write_end(&writer);
        return true;
}

static void test_h16_what_cannot_be_saved_stays(void **state) {
        for (unsigned i = 0; i < 3; i++)
                succeed(i, cmd_sequence_update(handle_of(i, cmd_hash_start()), "abc"));
        intercept = refuse_to_save;
        assert_int_equal(rc_of(3, cmd_create_primary(TPM2_RH_OWNER, 1)), TPM2_RC_OBJECT_MEMORY);
        intercept = NULL;
        for (unsigned i = 0; i < 3; i++)
                succeed(i, cmd_sequence_complete(0x80000000, TPM2_RH_NULL));
        handle_of(3, cmd_create_primary(TPM2_RH_OWNER, 1));
}

static void test_same_handle_twice_in_one_command(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        succeed(0, cmd_certify(key, key));
        chores(RM_CHORE_EVICT);
        n_sent = 0;
        succeed(0, cmd_certify(key, key));
        assert_int_equal(n_sent, 2); /* it is loaded once */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_reads_what_the_tpm_can),
                RM_TEST(test_h1_same_handle_other_object),
                RM_TEST(test_h2_foreign_handle_never_reaches_the_tpm),
                RM_TEST(test_h5_flushed_handle_is_unknown_and_reused),
                RM_TEST(test_more_objects_than_slots),
                RM_TEST(test_five_keys_in_turn_cost_two_commands_each),
                RM_TEST(test_five_keys_in_batches_cost_half_a_move_each),
                RM_TEST(test_a_set_that_left_makes_room),
                RM_TEST(test_what_is_dear_to_move_stays),
                RM_TEST(test_same_key_costs_one_command),
                RM_TEST(test_h6_h7_saved_context_loads_anywhere_and_often),
                RM_TEST(test_f7_h8_failed_complete_keeps_the_sequence),
                RM_TEST(test_h15_sequences_keep_their_state),
                RM_TEST(test_hash_sequence_costs_no_more_than_its_commands),
                RM_TEST(test_h11_f14_quota_is_exact_and_asked_first),
                RM_TEST(test_uid_share_of_objects),
                RM_TEST(test_h12_close_flushes),
                RM_TEST(test_create_and_load_under_a_parent),
                RM_TEST(test_create_learns_its_need),
                RM_TEST(test_x2_malformed_commands_are_the_tpms_to_refuse),
                RM_TEST(test_idle_chores),
                RM_TEST(test_reserve_is_kept_while_clients_take_turns),
                RM_TEST(test_reserve_by_kind),
                RM_TEST(test_h3_unknown_handle_n_is_reference_n),
                RM_TEST(test_h4_all_that_return_a_handle),
                RM_TEST(test_h9_f16_event_sequence),
                RM_TEST(test_h13_h17_persistent_objects_when_all_slots_are_full),
                RM_TEST(test_h16_what_cannot_be_saved_stays),
                RM_TEST(test_same_handle_twice_in_one_command),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
