/* SPDX-License-Identifier: BSD-2-Clause */

/* Room that a command does not find: what is remembered of it, and what is kept free; see test-rm.h. */
#include "resmgr/test-edges.h"

/* Client 0's CreatePrimary finds no room, since a neighbour has filled all slots; then the neighbour leaves. */
static void refuse_create_primary(void) {
        TPM2_HANDLE foreign[3];

        for (unsigned i = 0; i < 3; i++) {
                Message response = direct(cmd_create_primary(TPM2_RH_NULL, 100 + i));

                foreign[i] = message_handle(&response);
        }
        assert_int_equal(rc_of(0, cmd_create_primary(TPM2_RH_OWNER, 1)), TPM2_RC_OBJECT_MEMORY);
        for (unsigned i = 0; i < 3; i++)
                neighbour_flushes(foreign[i]);
}

static void fill_slots(unsigned client, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                new_key(client, i);
}

static void test_hopeless_is_for_once(void **state) {
        refuse_create_primary();
        fill_slots(1, 3);
        call(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        new_key(0, 1);
}

/* Another command may need less. */
static void test_hopeless_is_one_command(void **state) {
        refuse_create_primary();
        fill_slots(1, 3);
        handle_of(0, cmd_hash_start());
}

static void test_hopeless_ends_with_a_success(void **state) {
        refuse_create_primary();
        new_key(0, 1);
        fill_slots(1, 2);
        new_key(0, 2); /* which the TPM refuses once */
}

/* However many commands pause, the TPM can be cleaned up, evicted and reconciled. */
static void test_paused_commands_leave_room_for_chores(void **state) {
        const Message command = cmd_get_random(4), retry = cmd_simple(TPM2_RC_RETRY);
        RmJob *paused[64], *job;
        RmOutput output;
        unsigned n = 0;

        new_key(0, 1);
        while (n < 64 && (job = rm_job_begin(rm, spaces[n % 8], command.bytes, command.n))) {
                assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
                assert_int_equal(rm_job_step(rm, job, retry.bytes, retry.n, &output), RM_STEP_PAUSE);
                paused[n++] = job;
        }
        assert_in_range(n, 1, 63);
        job = rm_job_begin_chore(rm, RM_CHORE_EVICT);
        assert_non_null(job);
        run(job);
        chores(RM_CHORE_EVICT);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_null(rm_job_begin(rm, spaces[0], command.bytes, command.n));
        while (n > 0) {
                Message response = run(paused[--n]);

                assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
        }
        succeed(0, command);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_hopeless_is_for_once),
                RM_TEST(test_hopeless_is_one_command),
                RM_TEST(test_hopeless_ends_with_a_success),
                RM_TEST(test_paused_commands_leave_room_for_chores),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
