/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { USERS = 3, REQUESTS = 700 };

static Scheduler scheduler;
static const Stats stats;
static RequestOwner owners[USERS];
static Request requests[USERS][REQUESTS];
static uint64_t used_us[USERS];
static gint64 now;
static void *block; /* of a resource manager that knows no command, and so no lack of room */

static int setup(void **state) {
        const RmLimits limits = { .spaces = USERS, .objects = 1, .objects_per_space = 1, .sessions_per_space = 1 };

        block = aligned_alloc(4096, rm_size(&limits));
        memset(block, 0, rm_size(&limits));
        scheduler_init(&scheduler, rm_init(block, &limits), &stats);
        memset(requests, 0, sizeof(requests));
        memset(used_us, 0, sizeof(used_us));
        for (unsigned u = 0; u < USERS; u++) {
                owners[u].peer.uid = 1000 + u;
                for (unsigned i = 0; i < REQUESTS; i++) {
                        requests[u][i].owner = &owners[u];
                        list_init(&requests[u][i].link);
                }
        }
        return 0;
}

static int teardown(void **state) {
        scheduler_clear(&scheduler);
        free(block);
        return 0;
}

static void add(Request *request) {
        request->submitted = now;
        scheduler_add(&scheduler, request);
}

static void ask(unsigned user, unsigned i) {
        add(&requests[user][i]);
}

/* One turn: whoever is next has the TPM for so long. Return: its user. */
static unsigned serve(const uint64_t us[USERS], Request **ret_request) {
        Request *request = scheduler_next(&scheduler, now);
        unsigned user;

        assert_non_null(request);
        user = request->owner->peer.uid - 1000;
        scheduler_remove(&scheduler, request);
        request_set_state(request, REQUEST_RUNNING);
        now += (gint64)us[user];
        scheduler_charge(&scheduler, request, us[user], now);
        request_set_state(request, REQUEST_IDLE);
        used_us[user] += us[user];
        if (ret_request)
                *ret_request = request;
        return user;
}

/* However many connections another user has, one waits for one turn of that user's. */
static void test_turns_go_by_user(void **state) {
        const uint64_t us[USERS] = { 5000, 5000, 5000 };
        Request *request;

        for (unsigned i = 0; i < REQUESTS; i++)
                ask(0, i);
        for (unsigned round = 0; round < 100; round++) {
                unsigned n = 0;

                ask(1, 0);
                while (serve(us, &request) != 1) {
                        add(request);
                        n++;
                }
                assert_in_range(n, 0, 2);
        }
        /* and of one user, first come, first served */
        assert_ptr_equal(scheduler_next(&scheduler, now)->owner, &owners[0]);
        assert_int_equal(scheduler.n_waiting, REQUESTS);
}

/* Who asks for long commands has as much of the TPM's time as who asks for short ones. */
static void test_turns_go_by_time(void **state) {
        const uint64_t us[USERS] = { 30000, 1000, 300 };
        Request *request;

        for (unsigned u = 0; u < USERS; u++)
                ask(u, 0);
        for (unsigned turn = 0; turn < 100000; turn++) {
                serve(us, &request);
                add(request);
        }
        for (unsigned u = 1; u < USERS; u++)
                assert_in_range(used_us[u], used_us[0] / 100 * 95, used_us[0] / 100 * 105);
}

/* The time when it had nothing to ask for gives a user no claim. */
static void test_idle_time_is_no_claim(void **state) {
        const uint64_t us[USERS] = { 1000, 1000, 1000 };
        unsigned n = 0;
        Request *request;

        ask(0, 0);
        for (unsigned turn = 0; turn < 1000; turn++) {
                serve(us, &request);
                add(request);
        }
        for (unsigned i = 0; i < 100; i++)
                ask(1, i);
        for (unsigned turn = 0; turn < 20; turn++)
                if (serve(us, &request) == 0) {
                        add(request);
                        n++;
                }
        assert_in_range(n, 9, 11);
}

/* Nor does it gain by having been forgotten, among many that come once. */
static void test_many_users(void **state) {
        const uint64_t us[USERS] = { 1000, 1000, 1000 };
        Request *request;

        ask(0, 0);
        for (uid_t uid = 5000; uid < 7000; uid++) {
                RequestOwner owner = { .peer.uid = uid };
                Request once = { .owner = &owner };

                list_init(&once.link);
                add(&once);
                while (scheduler_next(&scheduler, now) != &once) {
                        serve(us, &request);
                        add(request);
                }
                scheduler_remove(&scheduler, &once);
                scheduler_charge(&scheduler, &once, 1000, now += 1000);
        }
        assert_in_range(g_hash_table_size(scheduler.known), 1, 600);
        assert_in_range(used_us[0], 1000 * 1000, 4000 * 1000);
}

/* A request whose job paused goes on before all others. */
static void test_resumed_is_first(void **state) {
        ask(0, 0);
        ask(1, 0);
        request_set_state(&requests[2][0], REQUEST_WAITING);
        request_set_state(&requests[2][0], REQUEST_RUNNING);
        request_set_state(&requests[2][0], REQUEST_PAUSED);
        scheduler_add_resumed(&scheduler, &requests[2][0]);
        assert_ptr_equal(scheduler_next(&scheduler, now), &requests[2][0]);
        scheduler_remove(&scheduler, &requests[2][0]);
        assert_ptr_equal(scheduler_next(&scheduler, now), &requests[0][0]);
        assert_int_equal(scheduler.n_waiting, 2);
}

/* How long a user with two connections keeps one with one connection waiting, at 5 ms a command. */
static unsigned wait_of(unsigned victim, unsigned other) {
        const uint64_t us[USERS] = { 5000, 5000, 5000 };
        Request *request;
        unsigned n = 0;

        ask(other, 1);
        ask(other, 2);
        while (n < 100000) {
                unsigned user = serve(us, &request);

                add(request);
                if (user == victim)
                        break;
                n++;
        }
        return n;
}

/* Who asks for very little, and never stops, has no claim on the time that others had meanwhile. */
static void test_little_is_no_claim(void **state) {
        const uint64_t us[USERS] = { 5000, 100, 0 };
        Request *request;

        ask(0, 0);
        for (gint64 next = 0; now < 600 * G_USEC_PER_SEC;) {
                if (now >= next) {
                        next = now + SCHEDULER_GRACE_US * 9 / 10;
                        ask(1, 0);
                        while (serve(us, &request) != 1)
                                add(request);
                } else {
                        serve(us, &request);
                        add(request);
                }
        }
        assert_in_range(wait_of(0, 1), 0, 2 * SCHEDULER_GRACE_US / 5000);
}

/* Nor has who is forgotten while its command is at the TPM. */
static void test_forgotten_is_no_claim(void **state) {
        static RequestOwner many[300];
        static Request theirs[300];
        const uint64_t us[USERS] = { 5000, 5000, 5000 };
        Request *request, *other;

        ask(0, 0);
        for (unsigned i = 0; i < 20000; i++) {
                serve(us, &request);
                add(request);
        }
        ask(1, 0);
        while ((request = scheduler_next(&scheduler, now))->owner != &owners[1]) {
                serve(us, &other);
                add(other);
        }
        scheduler_remove(&scheduler, request);
        request_set_state(request, REQUEST_RUNNING);
        for (unsigned i = 0; i < 300; i++) {
                many[i].peer.uid = 5000 + i;
                theirs[i] = (Request){ .owner = &many[i] };
                list_init(&theirs[i].link);
                add(&theirs[i]);
        }
        for (unsigned i = 0; i < 300; i++)
                scheduler_remove(&scheduler, &theirs[i]);
        now += 5000;
        scheduler_charge(&scheduler, request, 5000, now);
        request_set_state(request, REQUEST_IDLE);
        add(request);
        assert_in_range(wait_of(0, 1), 0, 2 * SCHEDULER_GRACE_US / 5000);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_turns_go_by_user, setup, teardown),
                cmocka_unit_test_setup_teardown(test_turns_go_by_time, setup, teardown),
                cmocka_unit_test_setup_teardown(test_idle_time_is_no_claim, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_users, setup, teardown),
                cmocka_unit_test_setup_teardown(test_resumed_is_first, setup, teardown),
                cmocka_unit_test_setup_teardown(test_little_is_no_claim, setup, teardown),
                cmocka_unit_test_setup_teardown(test_forgotten_is_no_claim, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
