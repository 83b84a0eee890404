/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/frontend-unix.h"
#include "util/fd.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Many who start at the same moment: whole daemons are too slow to get in each other's way. */
#define ROUNDS 50
#define STARTERS 8

static char *folder;
static char *path;

/* A socket file that nobody listens on. */
static void leave_stale(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        fd_auto fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static bool can_connect(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        fd_auto fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
        return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* Begins when @start ends, says on @told whether it has the path, and keeps it until @end ends. */
static void run_starter(int start, int told, int end) {
        const FrontendUnixConfig config = { .path = path, .fd = -1, .mode = FRONTEND_UNIX_MODE, .localities = 1 };
        FrontendUnix *frontend;
        Loop *loop = loop_new(NULL);
        char c;

        (void)!read(start, &c, 1);
        frontend = frontend_unix_new(loop, NULL, &config, NULL);
        (void)!write(told, frontend ? "1" : "0", 1);
        (void)!read(end, &c, 1);
        frontend_unix_free(frontend);
        loop_free(loop);
}

/* Return: how many of them had the path. */
static unsigned race(void) {
        int start[2], told[2], end[2];
        pid_t pids[STARTERS];
        unsigned n = 0;
        char c;

        assert_int_equal(pipe(start) | pipe(told) | pipe(end), 0);
        for (unsigned i = 0; i < STARTERS; i++) {
                pids[i] = fork();
                if (pids[i] != 0)
                        continue;
                close(start[1]);
                close(end[1]);
                run_starter(start[0], told[1], end[0]);
                _exit(0);
        }
        close(start[1]);
        for (unsigned i = 0; i < STARTERS; i++) {
                assert_int_equal(read(told[0], &c, 1), 1);
                n += c == '1';
        }
        assert_true(can_connect());
        close(end[1]);
        for (unsigned i = 0; i < STARTERS; i++)
                assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
        close(start[0]);
        close(told[0]);
        close(told[1]);
        close(end[0]);
        assert_int_equal(g_access(path, F_OK), -1);
        return n;
}

static void test_one_of_many(void **state) {
        for (unsigned i = 0; i < ROUNDS; i++) {
                if (i % 2)
                        leave_stale();
                assert_int_equal(race(), 1);
        }
}

static int setup(void **state) {
        folder = g_dir_make_tmp("tabrmd-race-XXXXXX", NULL);
        path = g_build_filename(folder, "tpm.sock", NULL);
        return folder ? 0 : -1;
}

static int teardown(void **state) {
        g_autofree char *lock = g_strconcat(path, ".lock", NULL);

        g_unlink(lock);
        g_rmdir(folder);
        g_free(path);
        g_free(folder);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_one_of_many, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
