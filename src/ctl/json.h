/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include <glib.h>
#include <stdbool.h>

/* A value as JSON: dictionaries as objects, numbers as numbers. @pretty: over several lines. A floating value is freed.
 */
char *json_text(GVariant *value, bool pretty); /* g_free() it */
void json_print(GVariant *value, bool pretty); /* and a line feed */

#endif
