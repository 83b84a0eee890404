/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * bench latency|connect|use ROUNDS TURNS SUBJECT...
 *
 * latency: GetRandom over a connection that stays; a tenth of the turns of each round comes first, uncounted, since
 * caches are full of the subject before. connect: connect, disconnect. use: connect, GetRandom, disconnect.
 * The subjects (test/bench/wire.h) take turns, TURNS each in every one of ROUNDS rounds, so that what else the machine
 * does hits all of them alike. For each subject a line: median and 99th percentile in ns.
 */
#define SUBJECTS_MAX 16

static const uint8_t get_random[] = { 0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 8 };

typedef struct Subject {
        const char *name;
        Wire wire;
        uint64_t *times;
        size_t n_times;
} Subject;

static void subject_turn(Subject *subject, bool reconnect, bool ask) {
        uint64_t start = now_ns();

        if (reconnect)
                wire_connect(&subject->wire, subject->name);
        if (ask && wire_ask(&subject->wire, get_random, sizeof(get_random)) != 0) {
                fprintf(stderr, "%s: refused\n", subject->name);
                exit(EXIT_FAILURE);
        }
        if (reconnect)
                wire_disconnect(&subject->wire);
        subject->times[subject->n_times++] = now_ns() - start;
}

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

static void report(Subject *subjects, int n, bool reconnect) {
        for (int i = 0; i < n; i++) {
                Subject *subject = &subjects[i];

                qsort(subject->times, subject->n_times, sizeof(uint64_t), compare);
                printf("%llu %llu\n", (unsigned long long)subject->times[subject->n_times / 2],
                       (unsigned long long)subject->times[subject->n_times * 99 / 100]);
                if (!reconnect)
                        wire_disconnect(&subject->wire);
                free(subject->times);
        }
}

int main(int argc, char **argv) {
        static Subject subjects[SUBJECTS_MAX];
        int n_subjects = argc - 4, rounds, turns;
        bool reconnect, ask;

        if (n_subjects < 1 || n_subjects > SUBJECTS_MAX) {
                fprintf(stderr, "usage: bench latency|connect|use ROUNDS TURNS SUBJECT...\n");
                return EXIT_FAILURE;
        }
        reconnect = strcmp(argv[1], "latency") != 0;
        ask = strcmp(argv[1], "connect") != 0;
        rounds = atoi(argv[2]);
        turns = atoi(argv[3]);

        for (int i = 0; i < n_subjects; i++) {
                subjects[i].name = argv[4 + i];
                subjects[i].times = calloc((size_t)rounds * (size_t)turns, sizeof(uint64_t));
                if (!subjects[i].times)
                        return EXIT_FAILURE;
                if (!reconnect)
                        wire_connect(&subjects[i].wire, subjects[i].name);
        }

        for (int round = 0; round < rounds; round++)
                for (int i = 0; i < n_subjects; i++) {
                        Subject *subject = &subjects[(i + round) % n_subjects];
                        size_t n_before = subject->n_times;

                        for (int turn = 0; !reconnect && turn < turns / 10; turn++) {
                                subject_turn(subject, reconnect, ask);
                                subject->n_times = n_before;
                        }
                        for (int turn = 0; turn < turns; turn++)
                                subject_turn(subject, reconnect, ask);
                }
        report(subjects, n_subjects, reconnect);
        return EXIT_SUCCESS;
}
