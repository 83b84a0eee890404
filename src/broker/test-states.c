/* SPDX-License-Identifier: BSD-2-Clause */

/* State machines: what a setter does with a pair that is listed, and with one that is not; and the rarest of pairs. */
#include "broker/report.h"
#include "broker/test-clients.h"
#include "tpm/header.h"
#include "util/log.h"
#include "util/transition.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int log_fd;

/* In a process of its own, since a strict build ends there. Return: what waitpid() says. */
static int in_a_child(void (*run)(void)) {
        int status = 0;
        pid_t pid;

        log_fd = memfd_create("log", MFD_CLOEXEC);
        assert_true(log_fd >= 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                const struct rlimit none = { 0 };

                setrlimit(RLIMIT_CORE, &none);
                signal(SIGABRT, SIG_DFL);
                dup2(log_fd, STDOUT_FILENO);
                log_open(LOG_TARGET_STDOUT, "states", LOG_INFO);
                run();
                _exit(EXIT_SUCCESS);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

static void expect_log(const char *text, unsigned n_lines) {
        char log[1024];
        ssize_t n = pread(log_fd, log, sizeof(log) - 1, 0);
        unsigned n_found = 0;

        assert_true(n >= 0);
        log[n] = 0;
        for (const char *at = log; (at = strstr(at, text)); at++)
                n_found++;
        assert_int_equal(n_found, n_lines);
        close(log_fd);
}

static void run_allowed(void) {
        Request request = { 0 };
        BrokerPhase phase = BROKER_SERVING;

        request_set_state(&request, REQUEST_WAITING);
        request_set_state(&request, REQUEST_RUNNING);
        request_set_state(&request, REQUEST_PAUSED);
        request_set_state(&request, REQUEST_DROPPED);
        phase_set(&phase, BROKER_STOPPING);
        phase_set(&phase, BROKER_STOPPED);
        if (transition_n_forbidden() != 0 || request.state != REQUEST_DROPPED || phase != BROKER_STOPPED)
                _exit(EXIT_FAILURE);
}

static void test_allowed(void **state) {
        assert_int_equal(in_a_child(run_allowed), 0);
        expect_log("fault", 0);
}

/* The change is made all the same: what follows it stands on it. */
static void run_forbidden(void) {
        Request request = { .state = REQUEST_PAUSED };
        BrokerPhase phase = BROKER_STOPPED;

        request_set_state(&request, REQUEST_RUNNING);
        request_set_state(&request, REQUEST_RUNNING);
        phase_set(&phase, BROKER_SERVING);
        if (transition_n_forbidden() != 3 || request.state != REQUEST_RUNNING || phase != BROKER_SERVING)
                _exit(EXIT_FAILURE);
}

static void test_forbidden(void **state) {
        int status = in_a_child(run_forbidden);

#ifdef TABRMD_STRICT
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
#else
        assert_int_equal(status, 0);
#endif
        expect_log("fault in the daemon: a request goes from state 3 to state 2", 1);
}

static void test_predicates(void **state) {
        assert_false(phase_is_over(BROKER_SERVING));
        assert_true(phase_is_over(BROKER_STOPPING));
        assert_true(phase_is_over(BROKER_STOPPED));
        assert_false(request_is_under_way(&(Request){ .state = REQUEST_IDLE }));
        assert_true(request_is_under_way(&(Request){ .state = REQUEST_DROPPED }));
        assert_true(request_is_at_the_tpm(&(Request){ .state = REQUEST_RUNNING }));
        assert_false(request_is_at_the_tpm(&(Request){ .state = REQUEST_RUNNING, .timer = 1 }));
        assert_false(request_is_at_the_tpm(&(Request){ .state = REQUEST_PAUSED }));
}

static void on_stopped(void *userdata) {
        bench.n_stopped++;
}

/* Nobody asks any more by then, but who does is answered. */
static void test_cancel_dropped(void **state) {
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        broker_stop(bench.broker, on_stopped, NULL);
        client_submit(2, FAKE_SLOW);
        for (unsigned i = 1; i < 3; i++) {
                assert_int_equal(clients[i].connection->request.state, REQUEST_DROPPED);
                assert_int_equal(connection_cancel(clients[i].connection), TSS2_RC_SUCCESS);
                assert_int_equal(clients[i].n_replies, 1);
                assert_int_equal(clients[i].rc, TPM2_RC_CANCELED);
                assert_int_equal(clients[i].connection->request.state, REQUEST_IDLE);
        }
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(bench.n_stopped == 1);
}

/* The command that is out is carried to its end; how the start went matters to nobody. */
static void test_stop_while_starting(void **state) {
        clients_teardown(state);
        bench_begin(&bench, CLIENTS * 2);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
        bench.fake.mute = true;
        broker_start(bench.broker, bench_started, &bench);
        assert_int_equal(bench.broker->supervisor.state, SUPERVISOR_STARTING);
        broker_stop(bench.broker, on_stopped, NULL);
        assert_int_equal(bench.broker->supervisor.state, SUPERVISOR_LEAVING);
        assert_int_equal(bench.n_stopped, 0);
        fake_answer(&bench.fake, TPM2_RC_FAILURE);
        assert_int_equal(bench.n_stopped, 1);
        assert_int_equal(bench.n_started, 0);
}

static void test_lost_while_stopping(void **state) {
        bench.broker->supervisor.times.reopen_min = bench.broker->supervisor.reopen_ms = 1;
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        broker_stop(bench.broker, on_stopped, NULL);
        assert_int_equal(bench.n_stopped, 0);
        fake_lose(&bench.fake);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_FAILURE));
        assert_int_equal(bench.n_stopped, 1);
        assert_int_equal(bench.broker->supervisor.state, SUPERVISOR_CLOSED);
        assert_int_equal(broker_stats(bench.broker)->n_lost, 0);
        bench_run_ms(20);
        assert_int_equal(bench.fake.n_opens, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_allowed),
                cmocka_unit_test(test_forbidden),
                cmocka_unit_test(test_predicates),
                cmocka_unit_test_setup_teardown(test_cancel_dropped, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_stop_while_starting, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_lost_while_stopping, clients_setup, clients_teardown),
        };

        log_open(LOG_TARGET_STDOUT, "states", LOG_CRIT);
        return cmocka_run_group_tests_name("states", tests, NULL, NULL);
}
