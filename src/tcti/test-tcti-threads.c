/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Threads with a context each, whose processes fork, and whose daemon closes connections all the time: nothing that one
 * of them does is seen by another. ./check builds this with -fsanitize=thread, too.
 */
#include "tcti/tss2/tss2-tcti-tabrmd.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 8
#define ROUNDS 40
#define COMMANDS 5 /* of a round, until the daemon closes the connection */
#define CLIENTS_MAX 64

static char folder[] = "/tmp/test-threads-XXXXXX";
static char conf[160];
static struct sockaddr_un address = { .sun_family = AF_UNIX };

/* The daemon: answers a command that ends in N by N bytes of N, and after COMMANDS of them ends the connection. */
typedef struct Client {
        unsigned n_answered;
        size_t n_read;
        uint8_t command[14];
} Client;

static bool answer(int fd, Client *client) {
        uint8_t response[12 + 255] = { 0x80, 1, 0, 0, 0, 14 };
        uint8_t n = client->command[11];

        client->n_read = 0;
        if (client->command[6] == 0x20) { /* hello */
                response[13] = 1;
                return write(fd, response, 14) == 14;
        }
        response[4] = (12 + n) >> 8;
        response[5] = 12 + n;
        response[11] = n;
        memset(response + 12, n, n);
        return ++client->n_answered <= COMMANDS && write(fd, response, 12 + n) == 12 + n;
}

static bool serve(int fd, Client *client) {
        ssize_t n;

        do {
                size_t size = client->n_read < 6 ? 6 : client->command[5];

                n = recv(fd, client->command + client->n_read, size - client->n_read, MSG_DONTWAIT);
                if (n > 0)
                        client->n_read += (size_t)n;
                if (n > 0 && client->n_read >= 12 && client->n_read == client->command[5] && !answer(fd, client))
                        return false;
        } while (n > 0);
        return n < 0;
}

static void run_daemon(int listener) {
        struct pollfd fds[1 + CLIENTS_MAX] = { { .fd = listener, .events = POLLIN } };
        Client clients[1 + CLIENTS_MAX];

        signal(SIGPIPE, SIG_IGN);
        for (unsigned i = 1; i <= CLIENTS_MAX; i++)
                fds[i].fd = -1;
        while (poll(fds, 1 + CLIENTS_MAX, -1) >= 0) {
                unsigned free_place = 0;

                for (unsigned i = 1; i <= CLIENTS_MAX; i++) {
                        if (fds[i].fd >= 0 && fds[i].revents && !serve(fds[i].fd, &clients[i])) {
                                close(fds[i].fd);
                                fds[i].fd = -1;
                        }
                        free_place = fds[i].fd < 0 ? i : free_place;
                }
                if (!fds[0].revents || free_place == 0)
                        continue;
                fds[free_place] = (struct pollfd){ .fd = accept(listener, NULL, NULL), .events = POLLIN };
                clients[free_place] = (Client){ 0 };
        }
}

/* Return: what is wrong, or 0. A lost connection is not. */
static int ask(TSS2_TCTI_CONTEXT *tcti, uint8_t n, unsigned *n_lost) {
        const uint8_t command[12] = { 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, n };
        const uint8_t lost[8] = { 0x80, 1, 0, 0, 0, 10, 0, 0x0B };
        uint8_t response[300];
        size_t size = sizeof(response);

        if (Tss2_Tcti_Transmit(tcti, sizeof(command), command) != TSS2_RC_SUCCESS)
                return 1;
        if (Tss2_Tcti_Receive(tcti, &size, response, TSS2_TCTI_TIMEOUT_BLOCK) != TSS2_RC_SUCCESS)
                return 2;
        if (size == 10 && memcmp(response, lost, sizeof(lost)) == 0) {
                ++*n_lost;
                return 0;
        }
        if (size != 12u + n)
                return 3;
        for (unsigned i = 12; i < size; i++)
                if (response[i] != n)
                        return 4;
        return 0;
}

static int use(TSS2_TCTI_CONTEXT *tcti, uint8_t n, unsigned n_commands, unsigned *n_lost) {
        int r = 0;

        for (unsigned i = 0; r == 0 && i < n_commands; i++)
                r = ask(tcti, n, n_lost);
        return r;
}

typedef struct Worker {
        pthread_t thread;
        uint8_t number;
        int result;
        unsigned n_lost;
} Worker;

static int work(Worker *worker, TSS2_TCTI_CONTEXT *tcti) {
        int r = use(tcti, worker->number, COMMANDS + 2, &worker->n_lost), status = 0;
        pid_t pid = r == 0 ? fork() : -1;

        if (pid == 0) {
                r = use(tcti, 100 + worker->number, COMMANDS + 2, &worker->n_lost);
                Tss2_Tcti_Finalize(tcti);
                _exit(r);
        }
        if (r == 0)
                r = use(tcti, worker->number, COMMANDS, &worker->n_lost);
        if (pid > 0 && (waitpid(pid, &status, 0) != pid || status != 0))
                return 100 + WEXITSTATUS(status);
        return r;
}

static void *run_worker(void *userdata) {
        Worker *worker = userdata;
        size_t size = 0;

        (void)Tss2_Tcti_Tabrmd_Init(NULL, &size, NULL);
        for (unsigned i = 0; worker->result == 0 && i < ROUNDS; i++) {
                TSS2_TCTI_CONTEXT *tcti = calloc(1, size);

                worker->result = 99;
                if (tcti && Tss2_Tcti_Tabrmd_Init(tcti, &size, conf) == TSS2_RC_SUCCESS) {
                        worker->result = work(worker, tcti);
                        Tss2_Tcti_Finalize(tcti);
                }
                free(tcti);
        }
        return NULL;
}

static void test_threads_that_fork(void **state) {
        Worker workers[THREADS] = { 0 };
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        unsigned n_lost = 0;
        pid_t daemon;

        assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(listener, 2 * THREADS), 0);
        daemon = fork();
        if (daemon == 0) {
                run_daemon(listener);
                _exit(1);
        }
        for (unsigned i = 0; i < THREADS; i++) {
                workers[i].number = 1 + i;
                assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
                assert_int_equal(workers[i].result, 0);
                n_lost += workers[i].n_lost;
        }
        kill(daemon, SIGKILL);
        assert_int_equal(waitpid(daemon, NULL, 0), daemon);
        assert_in_range(n_lost, THREADS * ROUNDS, THREADS * ROUNDS * 3); /* once or twice in each round */
        close(listener);
}

static int setup(void **state) {
        if (!mkdtemp(folder))
                return -1;
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", folder);
        snprintf(conf, sizeof(conf), "socket=%s", address.sun_path);
        return setenv("TSS2_LOG", "all+none", 1);
}

static int teardown(void **state) {
        return unlink(address.sun_path) || rmdir(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_threads_that_fork),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
