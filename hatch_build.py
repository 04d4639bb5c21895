"""The wheel holds the bundled page: a build without it fails, an editable install goes on and says what is missing."""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface[Any]):
    """Calls web/frontend/bundle.py before files are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        page = _bundler(Path(self.root))
        try:
            page.bundle()
        except page.NotBundled as error:
            if version != "editable":
                raise
            # Audits need no page, and `tamperwatch web` says the same again.
            self.app.display_warning(f"installed without the review page: {error}")


def _bundler(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("tamperwatch_page_bundle", root / "web" / "frontend" / "bundle.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
