"""Where PyInstaller finds the hooks."""

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """The folders of the hooks, as PyInstaller asks for them by the entry point `pyinstaller40`."""
    return [str(Path(__file__).parent)]
