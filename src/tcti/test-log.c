/* SPDX-License-Identifier: BSD-2-Clause */

/* A line of the log that nobody takes, or that means no good, does nothing to the program. */
#include "tcti/log.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test-log-XXXXXX";
static char path[64];

/* What is said with that at its standard error; ends it when it hangs. Return: its status. */
static int status_of_teller(int standard_error, bool raises) {
        pid_t pid = fork();
        int status = -1;

        if (pid == 0) {
                sigset_t signals;

                alarm(20);
                sigemptyset(&signals);
                sigaddset(&signals, SIGPIPE);
                if (raises) {
                        sigprocmask(SIG_BLOCK, &signals, NULL);
                        raise(SIGPIPE);
                }
                (void)dup2(standard_error, STDERR_FILENO);
                LOG(LOG_ERROR, "told");
                if (raises)
                        sigprocmask(SIG_UNBLOCK, &signals, NULL);
                _exit(0);
        }
        (void)waitpid(pid, &status, 0);
        return status;
}

static void test_nobody_reads(void **state) {
        int fds[2], status;

        assert_int_equal(pipe(fds), 0);
        close(fds[0]);
        unsetenv("TSS2_LOGFILE");
        assert_int_equal(status_of_teller(fds[1], false), 0);
        /* a signal of the program's own is left to it */
        status = status_of_teller(fds[1], true);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
        close(fds[1]);
}

/* A program without standard error: what it opens may get that number. Return: how many bytes it has, then. */
static off_t size_of_own(int flags) {
        int own = open(path, flags | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        struct stat st;

        assert_int_equal(status_of_teller(own, false), 0);
        assert_int_equal(fstat(own, &st), 0);
        close(own);
        unlink(path);
        return st.st_size;
}

static void test_number_of_another(void **state) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
        socklen_t n = sizeof(address);
        char c;

        unsetenv("TSS2_LOGFILE");
        assert_true(size_of_own(O_WRONLY) > 0);
        assert_int_equal(size_of_own(O_RDWR), 0);

        assert_int_equal(bind(receiver, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(getsockname(receiver, (struct sockaddr *)&address, &n), 0);
        assert_int_equal(connect(sender, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(status_of_teller(sender, false), 0);
        assert_int_equal(recv(receiver, &c, 1, MSG_DONTWAIT), -1);
        close(sender);
        close(receiver);
}

static void test_fifo_that_nobody_opens(void **state) {
        int null = open("/dev/null", O_WRONLY);

        assert_int_equal(mkfifo(path, 0600), 0);
        setenv("TSS2_LOGFILE", path, 1);
        assert_int_equal(status_of_teller(null, false), 0);
        close(null);
        unlink(path);
}

/* What a terminal obeys, as one byte and as UTF-8; the letters of any language stay. */
static void test_commands_to_a_terminal(void **state) {
        static const char *const pairs[][2] = {
                { "a\033[31mb\n\x7F"
                  "c",
                  "a?[31mb??c" },
                { "a\xC2\x9B"
                  "31mb",
                  "a??31mb" },
                { "a\x9B"
                  "31m\x85",
                  "a?31m?" },
                { "gr\xC3\xBC\xC3\x9F"
                  "e \xE5\x83\x8F \xF0\x9F\x98\x80",
                  "gr\xC3\xBC\xC3\x9F"
                  "e \xE5\x83\x8F \xF0\x9F\x98\x80" },
        };
        char line[512];

        setenv("TSS2_LOGFILE", path, 1);
        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
                FILE *file;

                LOG(LOG_ERROR, "%s", pairs[i][0]);
                file = fopen(path, "re");
                assert_non_null(file);
                assert_non_null(fgets(line, sizeof(line), file));
                assert_non_null(strstr(line, "tabrmd: "));
                line[strlen(line) - 1] = '\0';
                assert_string_equal(strstr(line, "tabrmd: ") + 8, pairs[i][1]);
                fclose(file);
                unlink(path);
        }
}

static int setup(void **state) {
        unsetenv("TSS2_LOG");
        if (!mkdtemp(folder))
                return -1;
        snprintf(path, sizeof(path), "%s/log", folder);
        return 0;
}

static int teardown(void **state) {
        return rmdir(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nobody_reads),
                cmocka_unit_test(test_number_of_another),
                cmocka_unit_test(test_fifo_that_nobody_opens),
                cmocka_unit_test(test_commands_to_a_terminal),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
