/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/address.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

/*
 * bench latency|connect|use ROUNDS TURNS SUBJECT...
 *
 * latency: GetRandom over a connection that stays. connect: connect, disconnect. use: connect, GetRandom, disconnect.
 * The subjects take turns, TURNS each in every one of ROUNDS rounds, so that what else the machine does hits all of
 * them alike. For each subject a line: median and 99th percentile in ns.
 *
 * A SUBJECT is tcp:HOST:PORT or unix:PATH, spoken to directly, or else the name of a TCTI for the loader of tpm2-tss.
 */
#define SUBJECTS_MAX 16

static const uint8_t get_random[] = { 0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 8 };

typedef struct Subject {
        const char *name;
        int fd;
        TSS2_TCTI_CONTEXT *tcti;
        uint64_t *times;
        size_t n_times;
} Subject;

static void die(const Subject *subject, const char *what, unsigned code) {
        fprintf(stderr, "%s: %s: 0x%x\n", subject->name, what, code);
        exit(EXIT_FAILURE);
}

static uint64_t now(void) {
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void connect_socket(Subject *subject, int domain, const struct sockaddr *address, socklen_t n) {
        subject->fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (subject->fd < 0 || connect(subject->fd, address, n) < 0)
                die(subject, "connect", 0);
        if (domain == AF_INET)
                (void)setsockopt(subject->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

static void subject_connect(Subject *subject) {
        if (strncmp(subject->name, "tcp:", 4) == 0) {
                struct sockaddr_in address;

                if (!parse_address(subject->name + 4, &address))
                        die(subject, "address", 0);
                connect_socket(subject, AF_INET, (struct sockaddr *)&address, sizeof(address));
        } else if (strncmp(subject->name, "unix:", 5) == 0) {
                struct sockaddr_un address = { .sun_family = AF_UNIX };

                (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", subject->name + 5);
                connect_socket(subject, AF_UNIX, (struct sockaddr *)&address, sizeof(address));
        } else {
                TSS2_RC rc = Tss2_TctiLdr_Initialize(subject->name, &subject->tcti);

                if (rc != TSS2_RC_SUCCESS)
                        die(subject, "TCTI", rc);
        }
}

static void subject_disconnect(Subject *subject) {
        if (subject->tcti)
                Tss2_TctiLdr_Finalize(&subject->tcti);
        else
                close(subject->fd);
}

static void ask_socket(const Subject *subject) {
        uint8_t answer[64];
        size_t n = 0;

        if (send(subject->fd, get_random, sizeof(get_random), MSG_NOSIGNAL) != (ssize_t)sizeof(get_random))
                die(subject, "send", 0);
        /* header, size of the random bytes, 8 of them */
        while (n < 20) {
                ssize_t r = recv(subject->fd, answer + n, sizeof(answer) - n, 0);

                if (r <= 0)
                        die(subject, "recv", 0);
                n += (size_t)r;
                if (n >= 10 && memcmp(answer + 6, (uint8_t[4]){ 0 }, 4) != 0)
                        die(subject, "response", answer[9]);
        }
}

static void ask_tcti(const Subject *subject) {
        uint8_t answer[4096];
        size_t n = sizeof(answer);
        TSS2_RC rc = Tss2_Tcti_Transmit(subject->tcti, sizeof(get_random), get_random);

        if (rc == TSS2_RC_SUCCESS)
                rc = Tss2_Tcti_Receive(subject->tcti, &n, answer, TSS2_TCTI_TIMEOUT_BLOCK);
        if (rc != TSS2_RC_SUCCESS || n != 20)
                die(subject, "TCTI", rc);
}

static void subject_ask(const Subject *subject) {
        if (subject->tcti)
                ask_tcti(subject);
        else
                ask_socket(subject);
}

static void subject_turn(Subject *subject, bool reconnect, bool ask) {
        uint64_t start = now();

        if (reconnect)
                subject_connect(subject);
        if (ask)
                subject_ask(subject);
        if (reconnect)
                subject_disconnect(subject);
        subject->times[subject->n_times++] = now() - start;
}

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

int main(int argc, char **argv) {
        Subject subjects[SUBJECTS_MAX] = { 0 };
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
                        die(&subjects[i], "memory", 0);
                if (!reconnect)
                        subject_connect(&subjects[i]);
        }

        for (int round = 0; round < rounds; round++)
                for (int i = 0; i < n_subjects; i++)
                        for (int turn = 0; turn < turns; turn++)
                                subject_turn(&subjects[(i + round) % n_subjects], reconnect, ask);

        for (int i = 0; i < n_subjects; i++) {
                Subject *subject = &subjects[i];

                qsort(subject->times, subject->n_times, sizeof(uint64_t), compare);
                printf("%llu %llu\n", (unsigned long long)subject->times[subject->n_times / 2],
                       (unsigned long long)subject->times[subject->n_times * 99 / 100]);
                if (!reconnect)
                        subject_disconnect(subject);
                free(subject->times);
        }
        return EXIT_SUCCESS;
}
