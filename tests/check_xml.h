/* Well-formed XML, for tests of what we draw. */
#ifndef CHECK_XML_H
#define CHECK_XML_H

#include <stdbool.h>

bool xml_element(const char *s);  /* one element, and space around it */
bool xml_document(const char *s); /* an XML declaration, and one */

#endif
