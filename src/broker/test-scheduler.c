/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { USERS = 3, REQUESTS = 700 };

static Scheduler scheduler;
static Stats stats;
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
        memset(owners, 0, sizeof(owners));
        stats = (Stats){ 0 };
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
        request->busy_us = us[user];
        request->n_transmits = 1;
        scheduler_ended(&scheduler, request, now);
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

/* Connections of one user, each with a request of its own. */
enum { SAME = 12 };

static RequestOwner same[SAME];
static Request theirs[SAME];

static void meet(void) {
        now = 0;
        memset(same, 0, sizeof(same));
        for (unsigned i = 0; i < SAME; i++) {
                same[i] = (RequestOwner){ .peer.uid = 3000, .space = i };
                theirs[i] = (Request){ .owner = &same[i], .code = TPM2_CC_HMAC };
                list_init(&theirs[i].link);
        }
}

/* Return: which of them was served, for so long. */
static unsigned serve_same(const uint64_t us[SAME]) {
        Request *request = scheduler_next(&scheduler, now);
        unsigned i;

        assert_non_null(request);
        i = (unsigned)(request - theirs);
        assert_in_range(i, 0, SAME - 1);
        scheduler_remove(&scheduler, request);
        request_set_state(request, REQUEST_RUNNING);
        now += (gint64)us[i];
        scheduler_charge(&scheduler, request, us[i], now);
        request->busy_us = us[i];
        request->n_transmits = 1;
        request_set_state(request, REQUEST_IDLE);
        scheduler_ended(&scheduler, request, now);
        stats_note_cost(&stats, request->code, us[i]);
        return i;
}

/* Of one user, connections have the same time, whatever they ask for. */
static void test_connections_by_time(void **state) {
        const uint64_t us[SAME] = { 30000, 1000, 5000 };
        uint64_t used[SAME] = { 0 };

        meet();
        for (unsigned i = 0; i < 3; i++)
                add(&theirs[i]);
        for (unsigned turn = 0; turn < 20000; turn++) {
                unsigned i = serve_same(us);

                used[i] += us[i];
                now += 100;
                add(&theirs[i]);
        }
        assert_in_range(used[1], used[0] / 100 * 95, used[0] / 100 * 105);
        assert_in_range(used[2], used[0] / 100 * 95, used[0] / 100 * 105);
}

/* Beside ten that always ask, one that asks once in 50 ms waits for the command that runs, and for no other. */
static void test_seldom_waits_for_one(void **state) {
        uint64_t us[SAME];
        gint64 next = 200000;
        unsigned n_passed = 0, n_asked = 0;
        bool asks = false;

        meet();
        for (unsigned i = 0; i < SAME; i++)
                us[i] = 15000;
        for (unsigned i = 1; i <= 10; i++)
                add(&theirs[i]);
        while (n_asked < 300) {
                unsigned i;

                if (!asks && now >= next) {
                        theirs[0].submitted = next;
                        scheduler_add(&scheduler, &theirs[0]);
                        asks = true;
                        n_passed = 0;
                }
                i = serve_same(us);
                if (i != 0) {
                        add(&theirs[i]);
                        n_passed += asks;
                        continue;
                }
                assert_int_equal(n_passed, 0);
                n_asked++;
                asks = false;
                next = MAX(next + 50000, now);
        }
}

/* A connection for each request has no more than two thirds of the time beside one that stays. */
static void test_new_connections_are_no_claim(void **state) {
        uint64_t us[SAME], used_old = 0, used_new = 0;
        unsigned fresh = 1;

        meet();
        for (unsigned i = 0; i < SAME; i++)
                us[i] = 5000;
        add(&theirs[0]);
        add(&theirs[fresh]);
        for (unsigned turn = 0; turn < 20000; turn++) {
                unsigned i = serve_same(us);

                now += 100;
                if (i == 0) {
                        used_old += us[i];
                } else {
                        used_new += us[i];
                        same[i].standing = (Standing){ 0 };
                }
                add(&theirs[i]);
        }
        assert_in_range(used_old, (used_old + used_new) / 3, used_old + used_new);
}

/* Return: the share in hundredths of a connection that stays, beside so many that come anew for each request. */
static uint64_t share_beside_new(unsigned n_new, uint64_t first_us) {
        uint64_t us[SAME], used_old = 0, used_new = 0;

        meet();
        for (unsigned i = 0; i < SAME; i++)
                us[i] = 5000;
        us[0] = first_us;
        for (unsigned i = 0; i <= n_new; i++)
                add(&theirs[i]);
        for (unsigned turn = 0; turn < 20000; turn++) {
                unsigned i = serve_same(us);

                now += 100;
                if (i == 0) {
                        used_old += us[i];
                        us[0] = 5000;
                } else {
                        used_new += us[i];
                        same[i].standing = (Standing){ 0 };
                }
                add(&theirs[i]);
        }
        return used_old * 100 / (used_old + used_new);
}

/* Also when one of those that come anew always waits, and after a command that took long. */
static void test_new_connections_starve_nobody(void **state) {
        static const uint64_t first_us[] = { 5000, 1000 * 1000 };

        for (unsigned i = 0; i < G_N_ELEMENTS(first_us); i++) {
                assert_in_range(share_beside_new(3, first_us[i]), 10, 100);
                teardown(state);
                setup(state);
        }
}

/* All users but the first pause for five commands after each of theirs; then the first comes, and asks once. */
static void test_newcomer_waits_for_a_round(void **state) {
        uint64_t us[SAME];
        gint64 asks_at[SAME];
        unsigned n_passed = 0;
        bool asks = false;

        meet();
        for (unsigned i = 0; i < SAME; i++) {
                same[i].peer.uid = 3000 + i;
                us[i] = 15000;
                asks_at[i] = i;
        }
        for (unsigned i = SAME; i != 0; now += i == SAME ? 1000 : 0) {
                for (unsigned k = 1; k < SAME; k++)
                        if (asks_at[k] <= now) {
                                add(&theirs[k]);
                                asks_at[k] = G_MAXINT64;
                        }
                if (!asks && now > 60 * G_USEC_PER_SEC) {
                        add(&theirs[0]);
                        asks = true;
                }
                i = SAME;
                if (!scheduler_next(&scheduler, now))
                        continue;
                i = serve_same(us);
                asks_at[i] = now + (gint64)(5 * us[i]);
                n_passed += asks;
        }
        assert_in_range(n_passed, 0, 2 * SAME);
}

/* The one that waits longest is not the first in the order. */
static void test_first_submitted(void **state) {
        uint64_t us[SAME] = { 1000, 30000, 1000 };

        meet();
        for (unsigned i = 0; i < 3; i++)
                add(&theirs[i]);
        assert_int_equal(scheduler_first_submitted(&scheduler, 5000), 0);
        while (serve_same(us) != 1)
                ;
        add(&theirs[1]);
        now += 100;
        scheduler_remove(&scheduler, &theirs[2]);
        request_set_state(&theirs[2], REQUEST_IDLE);
        add(&theirs[2]);
        assert_ptr_equal(scheduler_next(&scheduler, now), &theirs[2]);
        assert_int_equal(scheduler_first_submitted(&scheduler, now), now - 100);
}

/* A key is made after what is short, but not for ever after. */
static void test_short_before_long(void **state) {
        uint64_t us[SAME];
        unsigned n = 0;

        meet();
        for (unsigned i = 0; i < SAME; i++)
                us[i] = 1000;
        us[0] = 100000;
        theirs[0].code = TPM2_CC_CreatePrimary;
        stats_note_cost(&stats, TPM2_CC_CreatePrimary, us[0]);
        for (unsigned i = 1; i < 4; i++)
                add(&theirs[i]);
        for (unsigned turn = 0; turn < 100; turn++)
                add(&theirs[serve_same(us)]);
        add(&theirs[0]);
        for (unsigned i; (i = serve_same(us)) != 0; n++)
                add(&theirs[i]);
        assert_in_range(n, 50, 102);
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
                cmocka_unit_test_setup_teardown(test_connections_by_time, setup, teardown),
                cmocka_unit_test_setup_teardown(test_seldom_waits_for_one, setup, teardown),
                cmocka_unit_test_setup_teardown(test_new_connections_are_no_claim, setup, teardown),
                cmocka_unit_test_setup_teardown(test_new_connections_starve_nobody, setup, teardown),
                cmocka_unit_test_setup_teardown(test_newcomer_waits_for_a_round, setup, teardown),
                cmocka_unit_test_setup_teardown(test_first_submitted, setup, teardown),
                cmocka_unit_test_setup_teardown(test_short_before_long, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
