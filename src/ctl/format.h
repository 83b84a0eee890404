/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_FORMAT_H
#define CTL_FORMAT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * What people read: durations, shares, colours. Strings that are returned are to be freed.
 */
typedef enum Colour {
        COLOUR_NONE,
        COLOUR_BOLD,
        COLOUR_GREEN,
        COLOUR_YELLOW,
        COLOUR_RED,
} Colour;

/* The text in that colour, where standard output is a terminal that has colours, and NO_COLOR is not set. */
char *format_colour(Colour colour, const char *text);

char *format_us(uint64_t us);                    /* "12 us", "1.5 ms", "3.2 s", "5 min 12 s", "2 h 5 min", "3 d 4 h" */
char *format_text(const char *text);             /* nothing in it that a terminal would do more with than show it */
char *format_user(uint32_t uid);                 /* its name, else the number */
char *format_command(uint32_t code);             /* its name, else the number */
char *format_share(uint64_t part, uint64_t all); /* "98.2 %"; "-" of nothing */

/* Between the bounds, where the quantile @q (0 to 1) of so many in each bucket lies; 0: there are none. */
uint64_t format_quantile(const uint64_t *counts, size_t n_counts, const uint64_t *bounds, double q);

/* Of all properties: what the TPM is at. */
typedef struct Running {
        uint32_t code; /* 0: nothing */
        uint64_t client, elapsed_us, limit_us;
        bool late;
} Running;

Running dict_running(GVariant *all);

#define BUCKETS_MAX 64

/* ... and how long something took. */
typedef struct Latency {
        uint64_t sum_us;
        size_t n_buckets;
        uint64_t counts[BUCKETS_MAX], bounds[BUCKETS_MAX]; /* the last bucket has no bound */
} Latency;

bool dict_latency(GVariant *all, const char *name,
                  Latency *ret_latency); /* false: it is not there, or makes no sense */

/* Of an a{sv}: what is not there, or has another type, is 0 and "". */
uint64_t dict_number(GVariant *dict, const char *key);
const char *dict_text(GVariant *dict, const char *key); /* borrowed from it */

#endif
