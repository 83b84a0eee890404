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
        COLOUR_DIM,
} Colour;

/* The text in that colour, where standard output is a terminal that has colours, and NO_COLOR is not set. */
char *format_colour(Colour colour, const char *text);

char *format_us(uint64_t us);        /* "12 us", "1.5 ms", "3.2 s", "5 min 12 s", "2 h 5 min", "3 d 4 h" */
char *format_text(const char *text); /* nothing in it that a terminal would do more with than show it, in one column */
char *format_user(uint32_t uid);     /* its name, else the number */
char *format_command(uint32_t code); /* its name, else the number */
char *format_share(uint64_t part, uint64_t all); /* "98.2 %"; "-" of nothing */

/* The same of all texts in @value; not floating. */
GVariant *format_texts(GVariant *value);

/* Of all properties: what the TPM is at. */
typedef struct Running {
        uint32_t code; /* 0: nothing */
        uint64_t client, elapsed_us, limit_us;
        bool late;
} Running;

Running dict_running(GVariant *all);

/* Of all properties: whether they are those of root, and not the few that others may read. */
bool dict_is_whole(GVariant *all);

#define BUCKETS_MAX 64

/* ... and how long something took. */
typedef struct Latency {
        uint64_t sum_us;
        size_t n_buckets;
        uint64_t counts[BUCKETS_MAX], bounds[BUCKETS_MAX]; /* the last bucket has no bound */
} Latency;

/* Return: false: it is not there, or makes no sense. */
bool dict_latency(GVariant *all, const char *name, Latency *ret_latency);

/* In which bucket the quantile @q (0 to 1) is; n_buckets: there are none. */
size_t latency_bucket(const Latency *latency, double q);

/*
 * "about 180 us", estimated within the bucket; "under 50 us", "over 5 min 0 s" in the first and the last one, about
 * which no more is known; "-": there are none.
 */
char *format_quantile(const Latency *latency, double q);

/* Of an a{sv}: what is not there, or has another type, is 0 and "". */
uint64_t dict_number(GVariant *dict, const char *key);
const char *dict_text(GVariant *dict, const char *key); /* borrowed from it */

#endif
