"""A page for every code of a branch or consumer file: what it means, a wrong example, and the right one.

The examples are checked: each wrong one gives its code, each right one does not.
"""

from __future__ import annotations

from star_platform.errors import ErrorPage
from star_platform.signals import file_pages, meaning_pages, rule_pages

ERROR_PAGES: dict[str, ErrorPage] = {**file_pages.PAGES, **meaning_pages.PAGES, **rule_pages.PAGES}
