/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard output is a pipe, whose other end is ours. */
static int pipe_fds[2];
static int before;

static int setup(void **state) {
        fflush(stdout);
        before = dup(STDOUT_FILENO);
        if (pipe2(pipe_fds, O_CLOEXEC) < 0 || dup2(pipe_fds[1], STDOUT_FILENO) < 0)
                return -1;
        log_open(LOG_TARGET_STDOUT, "test", LOG_INFO);
        return fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
}

static int teardown(void **state) {
        dup2(before, STDOUT_FILENO);
        close(before);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        return 0;
}

/* Return: all that can be read now. */
static const char *written(void) {
        static char text[2 << 20];
        ssize_t n, at = 0;

        while ((n = read(pipe_fds[0], text + at, sizeof(text) - 1 - (size_t)at)) > 0)
                at += n;
        text[at] = '\0';
        return text;
}

static void test_lines(void **state) {
        char longer[3000];

        log_debug("not this one");
        log_info("a %s\nline", "b\x1b[c");
        assert_string_equal(written(), "a b?[c?line\n");
        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        errno = EBUSY;
        log_error("%s: %m", longer);
        assert_int_equal(errno, EBUSY);
        assert_int_equal(strlen(written()), 1024);
}

/* Nobody reads: that must not stop the daemon, and is said once somebody does. */
static void test_nobody_reads(void **state) {
        const char *text;

        for (unsigned i = 0; i < 100000; i++)
                log_info("line %u", i);
        text = written();
        assert_non_null(strstr(text, "line 0\n"));
        assert_null(strstr(text, "line 99999\n"));
        log_info("at last");
        text = written();
        assert_ptr_equal(strstr(text, "at last\n"), text);
        assert_non_null(strstr(text, " lines of the log were lost\n"));
        log_info("and on");
        assert_string_equal(written(), "and on\n");
}

/* A reader that has gone is no end of us, either. */
static void test_reader_gone(void **state) {
        close(pipe_fds[0]);
        log_info("to nobody");
        pipe_fds[0] = -1;
}

static void test_limit(void **state) {
        LogLimit limit = { 0 };
        unsigned held = 0, n = 0;

        for (unsigned i = 0; i < 25; i++)
                n += log_limit_pass(&limit, &held);
        assert_int_equal(n, 10);
        assert_int_equal(limit.n_held, 15);
        limit.window -= 11;
        assert_true(log_limit_pass(&limit, &held));
        assert_int_equal(held, 15);
}

/* A /dev of our own. The last test of the process has to use it. */
static bool own_dev(void) {
        return unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) == 0 &&
               mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("tmpfs", "/dev", "tmpfs", 0, NULL) == 0;
}

static int syslog_daemon(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = _PATH_LOG };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        (void)unlink(_PATH_LOG);
        assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof(address)), errno);
        return fd;
}

/* Return: the text of the next line; "" when there is none. */
static const char *syslog_text(int fd) {
        static char line[2000];
        char month[4], text[1500] = "";
        int priority, day, hour, minute, second, pid;
        ssize_t n = recv(fd, line, sizeof(line) - 1, 0);

        if (n < 0)
                return "";
        line[n] = '\0';
        assert_int_equal(sscanf(line, "<%d>%3s %d %d:%d:%d test[%d]: %1499[^\n]", &priority, month, &day, &hour,
                                &minute, &second, &pid, text),
                         8);
        assert_int_equal(priority & ~7, LOG_DAEMON);
        assert_int_equal(pid, getpid());
        return strstr(line, "]: ") + 3;
}

/* One that is stuck stops nobody, and one that is started anew is told what was lost. */
static void test_syslog(void **state) {
        const char *text;
        unsigned n = 0;
        int fd;

        if (!own_dev())
                skip();
        log_open(LOG_TARGET_SYSLOG, "test", LOG_INFO);
        log_info("to nobody");
        fd = syslog_daemon();
        log_info("a %s\nline", "b\x1b[c");
        assert_string_equal(syslog_text(fd), "a b?[c?line");
        assert_non_null(strstr(syslog_text(fd), " lines of the log were lost"));
        assert_string_equal(syslog_text(fd), "");

        for (unsigned i = 0; i < 100000; i++)
                log_info("line %u", i);
        while ((text = syslog_text(fd))[0])
                n++;
        assert_in_range(n, 1, 99999);
        close(fd);
        log_info("while there is none");
        fd = syslog_daemon();
        log_info("at last");
        assert_string_equal(syslog_text(fd), "at last");
        assert_int_equal(strtoul(syslog_text(fd), NULL, 10), 100000 - n + 1);
        close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nobody_reads, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reader_gone, setup, teardown),
                cmocka_unit_test(test_limit),
                cmocka_unit_test(test_syslog),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
