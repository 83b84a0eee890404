/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <stdbool.h>
#include <syslog.h>

/*
 * Log
 *
 * One line a message, to standard output or syslog. Bodies of commands and responses are secrets and never go here;
 * what a client can provoke at will goes through log_limited().
 */
typedef enum LogTarget {
        LOG_TARGET_STDOUT,
        LOG_TARGET_SYSLOG,
} LogTarget;

void log_open(LogTarget target, const char *ident, int max_priority);

/* Which lines pass: those of that priority, or a more urgent one. Its names are "error", "warning", "notice", "info"
 * and "debug". */
int log_level(void);
void log_set_level(int max_priority);
const char *log_level_name(int max_priority);
int log_level_parse(const char *name); /* Return: -1: there is no such level */

void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* At most ten lines in ten seconds from one place; what was held back is counted in the next line that passes. */
typedef struct LogLimit {
        long window; /* seconds of the monotonic clock */
        unsigned n_passed;
        unsigned n_held;
} LogLimit;

bool log_limit_pass(LogLimit *limit, unsigned *ret_held);

#define log_limited(priority, format, ...)                                                                             \
        do {                                                                                                           \
                static LogLimit limit_;                                                                                \
                unsigned held_;                                                                                        \
                if (!log_limit_pass(&limit_, &held_))                                                                  \
                        break;                                                                                         \
                if (held_ > 0)                                                                                         \
                        log_line(priority, format " (%u like it held back)", __VA_ARGS__, held_);                      \
                else                                                                                                   \
                        log_line(priority, format, __VA_ARGS__);                                                       \
        } while (0)

#endif
