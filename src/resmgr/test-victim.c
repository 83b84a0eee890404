/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/victim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Entries are letters, and a word of them is a command each. */
#define ENTRIES 26

static RmVisits visits;
static RmCandidate entries[ENTRIES];
static uint64_t command;

static int begin(void **state) {
        memset(&visits, 0, sizeof(visits));
        memset(entries, 0, sizeof(entries));
        command = 0;
        for (uint32_t i = 0; i < ENTRIES; i++)
                entries[i] = (RmCandidate){ .entry = i, .price = 1 };
        return 0;
}

static RmCandidate *entry(char letter) {
        return &entries[letter - 'A'];
}

/* Words are separated by spaces; the letters of one are used by one command. */
static void use(const char *words, unsigned times) {
        while (times-- > 0)
                for (const char *at = words; *at; at++) {
                        command += at == words || at[-1] == ' ';
                        if (*at != ' ')
                                rm_visit(&visits, entry(*at), command);
                }
}

/* Which of these letters leaves. */
static char victim(const char *residents) {
        char is = residents[0];

        for (; *residents; residents++)
                if (rm_leaves_before(&visits, entry(*residents), entry(is)))
                        is = *residents;
        return is;
}

static void test_victims(void **state) {
        static const struct Row {
                const char *title;
                const char *before;
                unsigned times;
                const char *then;
                const char *residents;
                char victim;
        } ROWS[] = {
                { "used once: the least recently used", "A B C", 1, "", "ABC", 'A' },
                { "in turn: the one that was used last, since it is needed last", "A B C D E", 6, "", "CDE", 'E' },
                { "... and what is next stays", "A B C D E", 6, "", "ADE", 'E' },
                { "in batches: as in turn", "A A A A B B B B C C C C D D D D", 6, "", "BCD", 'D' },
                { "... within a batch, too", "A A A A B B B B C C C C D D D D", 6, "A A", "ACD", 'A' },
                { "used often before used seldom", "A B A C A B A D", 6, "", "AD", 'D' },
                { "a scan leaves before those in use", "A B", 20, "C A B", "ABC", 'C' },
                { "a pair in one command is in use together", "AB AC AB AD", 6, "", "AD", 'D' },
                { "a parent stays, whichever of its keys is used", "P A P B P C P D", 4, "", "PD", 'D' },
                { "overdue is dead: what left the set leaves", "A B C", 20, "D E D E D E D E D E D E", "ADE", 'A' },
                { "... with a long interval, too", "A B C D E F G H", 10, "X Y X Y X Y X Y X Y X Y X Y X Y X Y X Y",
                  "AXY", 'A' },
                { "a little late is not dead", "A B C D", 10, "D A C", "BCA", 'C' },
                { "one long pause is not an interval", "A B C", 20,
                  "X Y Z X Y Z X Y Z X Y Z X Y Z X Y Z X Y Z X Y Z X Y Z A B C A B C", "ABX", 'X' },
        };

        for (size_t i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); i++) {
                begin(state);
                use(ROWS[i].before, ROWS[i].times);
                use(ROWS[i].then, 1);
                if (victim(ROWS[i].residents) != ROWS[i].victim)
                        fail_msg("%s: %c leaves, and not %c", ROWS[i].title, victim(ROWS[i].residents), ROWS[i].victim);
        }
}

static void test_price(void **state) {
        use("A B C D", 10);
        assert_int_equal(victim("CD"), 'D');
        entry('D')->price = 1000;
        assert_int_equal(victim("CD"), 'C');
        /* Used so seldom that the price does not pay. */
        use("A B C", 3000);
        assert_int_equal(victim("CD"), 'D');
}

/* Sets of three keys, each used thirty times at random, where there are three slots: none but the oldest is missed. */
static void test_rules(void **state) {
        uint32_t random = 1;

        rm_visits_full(&visits, 3);
        use("A B C D E", 20);
        assert_int_equal(visits.rule, RM_RULE_INTERVAL);
        for (unsigned i = 0; i < 3000; i++) {
                random = random * 1664525 + 1013904223;
                use((char[]){ (char)('A' + i / 30 % 8 * 3 + (random >> 16) % 3), '\0' }, 1);
        }
        assert_int_equal(visits.rule, RM_RULE_RECENCY);
        entry('A')->price = 1000;
        assert_int_equal(victim("AJK"), 'A'); /* least recently used, whatever it costs */
        entry('A')->price = 1;
        use("A B C D E", 40);
        assert_int_not_equal(visits.rule, RM_RULE_RECENCY);
}

/* Clients that load a key, use it twice and flush it, in turn: what is new is used next. Three slots. */
static void test_newcomers(void **state) {
        rm_visits_full(&visits, 3);
        for (unsigned i = 0; i < 100; i++) {
                use("A B C D", 3);
                for (char key = 'A'; key <= 'D'; key++) {
                        rm_visits_forget(&visits, (uint32_t)(key - 'A'));
                        entry(key)->use = (RmUse){ 0 };
                }
        }
        assert_int_equal(visits.rule, RM_RULE_NEWCOMERS);
        use("A B C", 1);
        assert_int_equal(victim("ABC"), 'C');
}

/* Shadows are as large as the TPM, hold nothing twice, and forget. */
static void test_shadows(void **state) {
        use("A B C", 2);
        assert_int_equal(visits.shadows[RM_RULE_RECENCY].n, 0); /* nothing was short yet */
        rm_visits_full(&visits, 3);
        use("A B C D A B B A E", 3);
        for (RmRule rule = 0; rule < RM_RULES; rule++) {
                const RmShadow *shadow = &visits.shadows[rule];

                assert_int_equal(shadow->n, 3);
                for (uint32_t k = 0; k < shadow->n; k++)
                        for (uint32_t other = 0; other < k; other++)
                                assert_int_not_equal(shadow->slots[k].entry, shadow->slots[other].entry);
        }
        rm_visits_forget(&visits, 'E' - 'A');
        assert_int_equal(visits.shadows[RM_RULE_RECENCY].n, 2);
        rm_visits_full(&visits, 100);
        use("A B C D E F G H I J K L", 3);
        assert_int_equal(visits.shadows[RM_RULE_INTERVAL].n, RM_SHADOW_SLOTS);
        rm_visits_full(&visits, 1);
        assert_int_equal(visits.shadows[RM_RULE_INTERVAL].n, 1);
        use("A B C D E F G H I J K L", 3);
        assert_int_equal(visits.shadows[RM_RULE_INTERVAL].n, 1);
}

/* No number that it is given brings it out of range. */
static void test_extremes(void **state) {
        rm_visits_full(&visits, 3);
        for (unsigned i = 0; i < 100; i++) {
                visits.n += UINT64_MAX / 128;
                command += UINT64_MAX / 128;
                entry('A' + (char)(i % 5))->price = i % 2 ? UINT32_MAX : 1;
                use(i % 2 ? "A B C" : "C D E", 1);
                assert_true(victim("AB") == 'A' || victim("AB") == 'B');
        }
}

static void test_prices(void **state) {
        RmPrices prices = { 0 };

        assert_int_equal(rm_price(&prices, RM_MOVE_LOAD, 1800), 1);
        rm_prices_learn(&prices, RM_MOVE_LOAD, 500000, 1800);
        assert_int_equal(rm_price(&prices, RM_MOVE_LOAD, 1800), 1); /* not without a flush */
        rm_prices_learn(&prices, RM_MOVE_FLUSH, 60000, 1800);
        assert_int_equal(rm_price(&prices, RM_MOVE_FLUSH, 1800), 60000);
        assert_int_equal(rm_price(&prices, RM_MOVE_LOAD, 1800), 500000);
        assert_int_equal(rm_price(&prices, RM_MOVE_LOAD, 900), 280000);
        assert_int_equal(rm_price(&prices, RM_MOVE_LOAD, 0), 500000);
        assert_int_equal(rm_price(&prices, RM_MOVE_SAVE, 900), 280000); /* as a load, for now */
        rm_prices_learn(&prices, RM_MOVE_SAVE, 300000, 1800);
        assert_int_equal(rm_price(&prices, RM_MOVE_SAVE, 1800), 300000);

        /* A neighbour has the TPM for a minute: that is not what a load costs. */
        rm_prices_learn(&prices, RM_MOVE_LOAD, 60000000, 1800);
        assert_in_range(rm_price(&prices, RM_MOVE_LOAD, 1800), 500000, 700000);
        for (unsigned i = 0; i < 100; i++)
                rm_prices_learn(&prices, RM_MOVE_LOAD, 100000, 1800);
        assert_in_range(rm_price(&prices, RM_MOVE_LOAD, 1800), 100000, 100100);

        rm_prices_learn(&prices, RM_MOVE_LOAD, 0, 1800); /* it was not told */
        assert_in_range(rm_price(&prices, RM_MOVE_LOAD, 1800), 100000, 100100);
        for (unsigned i = 0; i < 100; i++)
                rm_prices_learn(&prices, RM_MOVE_LOAD, UINT32_MAX, i);
        assert_true(rm_price(&prices, RM_MOVE_LOAD, UINT32_MAX) > 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_victims, begin), cmocka_unit_test_setup(test_price, begin),
                cmocka_unit_test_setup(test_rules, begin),   cmocka_unit_test_setup(test_newcomers, begin),
                cmocka_unit_test_setup(test_shadows, begin), cmocka_unit_test_setup(test_extremes, begin),
                cmocka_unit_test_setup(test_prices, begin),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
