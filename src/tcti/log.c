/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/log.h"

#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define LINE_MAX_BYTES 1024
#define MODULE "tcti"

/* The names that tpm2-tss has, in any case; a longer word that begins with one means it, too. */
static bool parse_level(const char *text, LogLevel *ret_level) {
        static const struct {
                const char *name;
                LogLevel level;
        } levels[] = {
                { "none", LOG_NONE },    { "(unused)", LOG_NONE }, { "error", LOG_ERROR },   { "warning", LOG_WARNING },
                { "info", LOG_WARNING }, { "debug", LOG_WARNING }, { "trace", LOG_WARNING },
        };

        for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
                if (strncasecmp(text, levels[i].name, strlen(levels[i].name)) == 0) {
                        *ret_level = levels[i].level;
                        return true;
                }
        return false;
}

static bool ends_with(const char *text, const char *end, const char *word) {
        size_t n = strlen(word);

        return (size_t)(end - text) >= n && strncasecmp(end - n, word, n) == 0;
}

/* TSS2_LOG=all+error,tcti+warning: the last that names this module counts. */
static LogLevel wanted_level(void) {
        const char *text = secure_getenv("TSS2_LOG");
        LogLevel level = LOG_WARNING;

        for (const char *plus = text ? strchr(text, '+') : NULL; plus; plus = strchr(plus + 1, '+'))
                if (ends_with(text, plus, "all") || ends_with(text, plus, MODULE))
                        (void)parse_level(plus + 1, &level);
        return level;
}

/*
 * A program that has closed standard error may have got its number for a file or a connection of its own. Nobody
 * redirects messages to a file that is read, too, or to the network.
 */
static bool is_own_of_program(int fd) {
        struct sockaddr_storage address = { 0 };
        socklen_t n = sizeof(address);
        struct stat st;

        if (fstat(fd, &st) < 0)
                return true;
        if (S_ISSOCK(st.st_mode))
                return getsockname(fd, (struct sockaddr *)&address, &n) < 0 || address.ss_family != AF_UNIX;
        return (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

/* What cannot be written is lost. */
static void write_line(const char *line) {
        const char *path = secure_getenv("TSS2_LOGFILE");
        bool by_stdout = path && (strcmp(path, "-") == 0 || strcmp(path, "stdout") == 0);
        fd_auto fd = -1;

        if (path && *path && !by_stdout && strcmp(path, "stderr") != 0)
                fd = fd_above_stdio(
                        open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666));
        if (fd >= 0)
                (void)!write(fd, line, strlen(line));
        else if (!is_own_of_program(by_stdout ? STDOUT_FILENO : STDERR_FILENO))
                (void)fputs(line, by_stdout ? stdout : stderr);
}

/* A program may live on without somebody who reads what it says, and not know that the library says something. */
static void write_without_signal(const char *line) {
        const struct timespec now = { 0 };
        sigset_t signals, before, pending;

        sigemptyset(&signals);
        sigaddset(&signals, SIGPIPE);
        sigpending(&pending);
        if (sigismember(&pending, SIGPIPE) || pthread_sigmask(SIG_BLOCK, &signals, &before) != 0) {
                write_line(line);
                return;
        }
        write_line(line);
        while (sigtimedwait(&signals, NULL, &now) < 0 && errno == EINTR)
                ;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* What a terminal obeys: control characters of one byte, and U+0080 to U+009F, which have two in UTF-8. */
static void replace_commands(char *text, size_t n) {
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)text[i], last = i > 0 ? (unsigned char)text[i - 1] : 0;

                if (c >= 0x80 && c < 0xA0 && last == 0xC2)
                        text[i - 1] = text[i] = '?';
                else if (c < ' ' || c == 0x7F || (c >= 0x80 && c < 0xA0 && last < 0x80))
                        text[i] = '?';
        }
}

static const char *file_name(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

void log_write(LogLevel level, const char *file, int line, const char *function, const char *format, ...) {
        char text[LINE_MAX_BYTES];
        int saved = errno, n, n_text;
        va_list arguments;

        if (level > wanted_level())
                return;
        n = snprintf(text, sizeof(text),
                     "%s:" MODULE ":src/tcti/%s:%d:%s() tabrmd: ", level == LOG_ERROR ? "ERROR" : "WARNING",
                     file_name(file), line, function);
        va_start(arguments, format);
        n_text = vsnprintf(text + n, sizeof(text) - 1 - n, format, arguments);
        va_end(arguments);
        n = n_text < 0 ? n : n + n_text;
        n = n < (int)sizeof(text) - 2 ? n : (int)sizeof(text) - 2;
        replace_commands(text, (size_t)n);
        memcpy(text + n, "\n", 2);
        write_without_signal(text);
        errno = saved;
}

void why_add(Why *why, const char *format, ...) {
        size_t n = strlen(why->text);
        va_list arguments;

        if (n > 0 && sizeof(why->text) - n > 2) {
                memcpy(why->text + n, "; ", 3);
                n += 2;
        }
        va_start(arguments, format);
        (void)vsnprintf(why->text + n, sizeof(why->text) - n, format, arguments);
        va_end(arguments);
}
