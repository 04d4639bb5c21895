"""axe-core over a page: what it finds serious or critical, in words."""

from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_BAD: Final = ("serious", "critical")
_RULES: Final[dict[str, Any]] = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def findings(page: Page) -> list[str]:
    """Each serious or critical finding with the elements it is about."""
    violations = Axe().run(page, options=_RULES).response["violations"]
    return [
        f"{each['impact']}: {each['id']}: {each['help']}: {node['html'][:200]} ({node['failureSummary']})"
        for each in violations
        if each["impact"] in _BAD
        for node in each["nodes"]
    ]
