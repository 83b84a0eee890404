/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_LOG_H
#define TCTI_LOG_H

#include <stdbool.h>

/*
 * Why something failed, told to whoever runs the program
 *
 * A response code has no room for a reason. So the library writes a line in the form of tpm2-tss's own, on standard
 * error; TSS2_LOG and TSS2_LOGFILE have the same effect on it as on tpm2-tss's, module "tcti".
 */
typedef enum LogLevel {
        LOG_NONE,
        LOG_ERROR,
        LOG_WARNING,
} LogLevel;

#define LOG(level, ...) log_write(level, __FILE__, __LINE__, __func__, __VA_ARGS__)

/* Bytes that a terminal would take for commands are replaced. Leaves errno alone. */
void log_write(LogLevel level, const char *file, int line, const char *function, const char *format, ...)
        __attribute__((format(printf, 5, 6)));

/* "thing: reason (next step)", and behind a semicolon the same of what was tried next. */
#define WHY_MAX 512
typedef struct Why {
        char text[WHY_MAX];
        bool absent; /* not asked for by name, and nobody is there */
} Why;

void why_add(Why *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
