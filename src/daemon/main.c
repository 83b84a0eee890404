/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/daemon.h"
#include "util/fd.h"
#include "util/platform.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

/* GLib's own complaints go where ours go; G_DEBUG may not turn one into the end of the daemon. */
static void on_glib_log(const char *domain, GLogLevelFlags level, const char *message, gpointer userdata) {
        if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING))
                log_limited(LOG_WARNING, "%s: %s", domain ? domain : "GLib", message);
}

/* As many files as may be: connections are limited by an option, and not by chance. Return: the hard limit. */
static uint64_t raise_file_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return 0;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? 0 : limit.rlim_cur;
}

int main(int argc, char **argv) {
        g_auto(GStrv) arguments = NULL;
        g_auto(Options) options = { 0 };
        g_autoptr(GError) error = NULL;

        if (!fd_fill_standard())
                return EX_OSERR;
        g_log_set_always_fatal(G_LOG_LEVEL_ERROR);
        g_log_set_default_handler(on_glib_log, NULL);
        setlocale(LC_ALL, "");
        arguments = g_strdupv(argv);
        if (!options_parse(&arguments, raise_file_limit(), &options, &error)) {
                fprintf(stderr, "tpm2-abrmd: %s; see --help\n", error->message);
                return EX_USAGE;
        }
        if (options.version) {
                printf("tpm2-abrmd version %s\n", TABRMD_VERSION);
                return EX_OK;
        }
        if (geteuid() == 0 && !options.allow_root) {
                fprintf(stderr, "tpm2-abrmd: refusing to run as root; start it as user tss, or with --allow-root\n");
                return EXIT_FAILURE;
        }

        /* What passes through is secret: no core files, no debugger of the same user. */
        platform_hide_process();
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        log_open(options.logger, "tpm2-abrmd", LOG_INFO);
        return daemon_run(&options);
}
