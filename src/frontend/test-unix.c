/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/test-fake.h"
#include "frontend/frontend-unix.h"
#include "tpm/header.h"
#include "util/fd.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define MAX_CONNECTIONS 4

static Bench bench;
static char *folder;
static char *path;

static int setup(void **state) {
        folder = g_dir_make_tmp("tabrmd-unix-XXXXXX", NULL);
        path = g_build_filename(folder, "run", "tpm.sock", NULL);
        bench_begin(&bench, MAX_CONNECTIONS);
        bench_start(&bench);
        return folder ? 0 : -1;
}

static int teardown(void **state) {
        g_autofree char *lock = g_strconcat(path, ".lock", NULL);
        g_autofree char *run = g_path_get_dirname(path);

        bench_end(&bench);
        g_unlink(lock);
        g_unlink(path);
        g_rmdir(run);
        g_rmdir(folder);
        g_clear_pointer(&path, g_free);
        g_clear_pointer(&folder, g_free);
        return 0;
}

static int client_open(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(fd >= 0);
        g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

static bool client_answered(int fd) {
        uint8_t bytes[64];

        return recv(fd, bytes, sizeof(bytes), 0) >= TPM_HEADER_SIZE;
}

static bool client_ended(int fd) {
        uint8_t byte;

        return recv(fd, &byte, 1, 0) == 0;
}

static void assert_served(int fd) {
        uint8_t bytes[64];
        size_t n = fake_command(bytes, FAKE_SLOW, 1);

        assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(client_answered(fd));
}

static FrontendUnixConfig config_plain(void) {
        return (FrontendUnixConfig){ .path = path, .fd = -1, .mode = FRONTEND_UNIX_MODE, .localities = 1 };
}

static FrontendUnix *frontend_new(void) {
        const FrontendUnixConfig config = config_plain();
        g_autoptr(GError) error = NULL;
        FrontendUnix *frontend = frontend_unix_new(bench.loop, bench.broker, &config, &error);

        if (!frontend)
                fail_msg("%s", error->message);
        return frontend;
}

static void assert_config_refused(const FrontendUnixConfig *config) {
        g_autoptr(GError) error = NULL;

        assert_null(frontend_unix_new(bench.loop, bench.broker, config, &error));
        assert_non_null(error);
}

static void assert_refused(void) {
        const FrontendUnixConfig config = config_plain();

        assert_config_refused(&config);
}

static void test_serve(void **state) {
        mode_t mask = umask(077);
        FrontendUnix *frontend = frontend_new();
        int a = client_open(), b = client_open();
        struct stat st;

        umask(mask);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0660);
        assert_served(a);
        assert_served(b);
        fd_close(a);
        assert_served(b);
        frontend = frontend_unix_free(frontend);
        assert_int_equal(stat(path, &st), -1);
        assert_true(client_ended(b));
        fd_close(b);
}

/* One more than there may be is let in and out again; when one goes, there is room. */
static void test_limit(void **state) {
        FrontendUnix *frontend = frontend_new();
        const unsigned limit = geteuid() == 0 ? MAX_CONNECTIONS : MAX_CONNECTIONS * 3 / 4; /* the share of a user */
        int fds[MAX_CONNECTIONS], extra;

        for (unsigned i = 0; i < limit; i++) {
                fds[i] = client_open();
                assert_served(fds[i]);
        }
        extra = client_open();
        bench_until(client_ended(extra));
        fd_close(extra);
        fd_close(fds[0]);
        bench_settle();
        fds[0] = client_open();
        assert_served(fds[0]);
        for (unsigned i = 0; i < limit; i++)
                fd_close(fds[i]);
        frontend_unix_free(frontend);
}

static void test_many_at_once(void **state) {
        FrontendUnix *frontend = frontend_new();
        int fds[100];

        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
                fds[i] = client_open();
        assert_served(fds[0]);
        for (unsigned i = MAX_CONNECTIONS; i < G_N_ELEMENTS(fds); i++)
                bench_until(client_ended(fds[i]));
        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
                fd_close(fds[i]);
        frontend_unix_free(frontend);
}

static void test_stale(void **state) {
        FrontendUnix *frontend = frontend_new();
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        frontend = frontend_unix_free(frontend);
        g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 1), 0);
        assert_refused(); /* somebody who knows nothing of our lock listens there */
        fd_close(fd);

        frontend = frontend_new(); /* nobody does any more */
        fd = client_open();
        assert_served(fd);
        fd_close(fd);
        frontend_unix_free(frontend);
}

static void test_live(void **state) {
        FrontendUnix *frontend = frontend_new();
        int fd;

        assert_refused();
        fd = client_open();
        assert_served(fd);
        fd_close(fd);
        frontend_unix_free(frontend);
}

static void test_replaced(void **state) {
        FrontendUnix *frontend = frontend_new();
        g_autofree char *text = NULL;

        assert_int_equal(g_unlink(path), 0);
        assert_true(g_file_set_contents(path, "mine", -1, NULL));
        frontend_unix_free(frontend);
        assert_true(g_file_get_contents(path, &text, NULL, NULL));
        assert_string_equal(text, "mine");
}

static void test_no_socket(void **state) {
        FrontendUnix *frontend = frontend_new();
        g_autofree char *text = NULL;

        frontend = frontend_unix_free(frontend);
        assert_true(g_file_set_contents(path, "mine", -1, NULL));
        assert_refused();
        assert_true(g_file_get_contents(path, &text, NULL, NULL));
        assert_string_equal(text, "mine");
}

static void test_bad_path(void **state) {
        g_autofree char *good = path;

        path = g_strnfill(200, 'x');
        assert_refused();
        g_free(path);
        path = g_build_filename(folder, "a", "b", "tpm.sock", NULL); /* one folder is made, not two */
        assert_refused();
        g_free(path);
        path = g_steal_pointer(&good);
}

static void test_rights(void **state) {
        g_autofree char *group = g_strdup_printf("%u", geteuid() == 0 ? 4711 : (unsigned)getegid());
        FrontendUnixConfig config = config_plain();
        FrontendUnix *frontend;
        struct stat st;

        config.mode = 0606;
        config.group = "no such group, surely";
        assert_config_refused(&config);
        assert_int_equal(stat(path, &st), -1);
        config.group = group;
        frontend = frontend_unix_new(bench.loop, bench.broker, &config, NULL);
        assert_non_null(frontend);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0606);
        assert_int_equal(st.st_gid, geteuid() == 0 ? 4711 : getegid());
        frontend_unix_free(frontend);
}

/* What somebody else has bound is theirs, and stays there. */
static void test_inherited(void **state) {
        FrontendUnixConfig config = config_plain();
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        g_autofree char *run = g_path_get_dirname(path), *name = NULL, *lock = g_strconcat(path, ".lock", NULL);
        g_autoptr(GError) error = NULL;
        FrontendUnix *frontend;
        struct stat before, after;
        int fd;

        assert_int_equal(g_mkdir(run, 0700), 0);
        g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
        config.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(config.fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_null(listener_inherited(config.fd, &error)); /* it does not listen yet */
        assert_non_null(error);
        assert_int_equal(listen(config.fd, 4), 0);
        name = listener_inherited(config.fd, NULL);
        assert_string_equal(name, path);
        assert_int_equal(stat(path, &before), 0);

        frontend = frontend_unix_new(bench.loop, bench.broker, &config, NULL);
        assert_non_null(frontend);
        fd = client_open();
        assert_served(fd);
        fd_close(fd);
        frontend_unix_free(frontend);
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(before.st_mode, after.st_mode);
        assert_int_equal(before.st_ino, after.st_ino);
        assert_int_equal(stat(lock, &after), -1);

        assert_null(listener_inherited(STDIN_FILENO, NULL));
        assert_null(listener_inherited(-1, NULL));
}

/* In a process of its own: the limit is the process's. Return: 0, or the line that failed. */
static int starve(void) {
        struct rlimit limit = { 0 };
        struct timespec before, after;
        FrontendUnix *frontend = frontend_new();
        int fds[8], inside = client_open(), lowest;

        assert_served(inside);
        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
                fds[i] = client_open();

        /* not one descriptor above those that are open */
        getrlimit(RLIMIT_NOFILE, &limit);
        lowest = dup(inside);
        fd_close(lowest);
        limit.rlim_cur = (rlim_t)lowest;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                return __LINE__;

        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
                bench_until(client_ended(fds[i])); /* turned away, not left waiting */
        assert_served(inside);

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
        bench_run_ms(500);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
        if ((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 > 150)
                return __LINE__;

        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
                fd_close(fds[i]);
        fds[0] = client_open();
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                return __LINE__;
        assert_served(fds[0]);
        frontend_unix_free(frontend);
        fd_close(fds[0]);
        fd_close(inside);
        return 0;
}

/* F4: the limit of descriptors refuses the new client, and nobody else notices. */
static void test_descriptors(void **state) {
        pid_t pid = fork();
        int status = -1;

        if (pid == 0)
                _exit(starve() == 0 ? 0 : 1);
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_serve, setup, teardown),
                cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
                cmocka_unit_test_setup_teardown(test_stale, setup, teardown),
                cmocka_unit_test_setup_teardown(test_live, setup, teardown),
                cmocka_unit_test_setup_teardown(test_replaced, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_socket, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_path, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
                cmocka_unit_test_setup_teardown(test_inherited, setup, teardown),
                cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
        };

        return cmocka_run_group_tests_name("unix", tests, NULL, NULL);
}
