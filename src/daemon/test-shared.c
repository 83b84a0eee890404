/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/shared.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Neighbours may need two of each kind; the kernel what its own commands take. */
static void test_table(void **state) {
        static const struct {
                NeighboursSign sign;
                NeighboursKernel kernel;
                uint32_t n_objects, n_sessions;
                const char *reason;
        } rows[] = {
                { NEIGHBOURS_NONE, { false, false }, 0, 0, "nobody" },
                { NEIGHBOURS_NONE, { true, false }, 2, 0, "kernel" },
                { NEIGHBOURS_NONE, { false, true }, 1, 1, "kernel" },
                { NEIGHBOURS_NONE, { true, true }, 2, 1, "kernel" },
                { NEIGHBOURS_RECENT, { false, false }, 2, 2, "recent" },
                { NEIGHBOURS_START, { false, false }, 2, 2, "start" },
                { NEIGHBOURS_OPEN, { true, true }, 2, 2, "open" },
                { NEIGHBOURS_UNSEEN, { false, true }, 2, 2, "unseen" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                Reserve reserve = shared_reserve(rows[i].sign, rows[i].kernel);

                assert_int_equal(reserve.n_objects, rows[i].n_objects);
                assert_int_equal(reserve.n_sessions, rows[i].n_sessions);
                assert_string_equal(reserve.reason, rows[i].reason);
        }
}

/* Where the configuration does not tell by which node others reach the TPM, they may be there at any time. */
static void test_unknown_node(void **state) {
        Loop *loop = loop_new(NULL);
        char *blindness;
        Shared shared;

        shared_init(&shared, loop, "libtss2-tcti-device.so", NULL, NULL);
        assert_null(shared.node);
        assert_string_equal(shared_ask(&shared, g_get_monotonic_time()).reason, "unseen");
        blindness = shared_blindness(&shared);
        assert_non_null(blindness);
        g_free(blindness);
        shared_clear(&shared);
        loop_free(loop);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_unknown_node),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
