"""How every event of the page is declared."""

from typing import Any

import gradio as gr

from arra_med_apps.service.gate import COOKIE

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""No endpoint of its own, no veil over what it changes."""

AT_ONCE: dict[str, Any] = {**HIDDEN, "queue": False}
"""The same, for what takes no time: it never waits behind a picture that is being made."""

IN_LINE: dict[str, Any] = {**HIDDEN, "concurrency_limit": None, "concurrency_id": "line"}
"""The same as the first, for a run of the model: it waits in the shelf's own line, where each sees its place."""


def user_of(request: gr.Request) -> str:
    """Tells users apart: the name somebody logged in with, else the browser's session."""
    return str(getattr(request, "username", None) or request.cookies.get(COOKIE, "") or request.session_hash or "")
