/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include <glib.h>
#include <stdbool.h>

/* Print a value as JSON, and a line feed: dictionaries as objects, numbers as numbers. @pretty: over several lines. A
 * floating value is freed. */
void json_print(GVariant *value, bool pretty);

#endif
